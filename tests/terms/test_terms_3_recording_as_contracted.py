"""Clause 3: the service records all inbound and outbound calls, as contracted.

The promise: a line says which calls and in which directions; who is not to be recorded is noted with the reason; every
change of the contract is kept with who and when, and can be undone. 3.1: callers hear an announcement, and each recording
carries which. 3.2: agents hear a whisper that callers do not. 3.3: agents may be given the right to pause; nothing is kept
meanwhile. 3.4: the client may delete at any time, and what the period ends is listed before.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.cli.demonstration.embedded import EmbeddedBox, embedded_box
from appliance.demo.station import Station, Talk
from appliance.media.audio.encode import wav_header

sys.path.append(str(Path(__file__).parents[1] / "whole"))
import whole_kit as kit

pytestmark = pytest.mark.timeout(240)
CALLER = "07700900123"
ANNOUNCED, WHISPERED = 700, 1100  # Hz: what tells the two apart
_NUMBERS = itertools.count(1632960500)


@dataclass
class Carried:
    """A call through the box: what was said, what each side heard, and its recording."""

    recording: dict[str, Any]
    said: bytes
    caller_heard: np.ndarray = field(default_factory=lambda: np.zeros(0))
    agent_heard: np.ndarray = field(default_factory=lambda: np.zeros(0))
    paused: tuple[int, int] = (0, 0)

    @property
    def marks(self) -> dict[str, dict[str, Any]]:
        return {mark["kind"].removeprefix("MARK_KIND_"): mark for mark in self.recording["marks"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with embedded_box(tmp_path_factory.mktemp("terms") / "box") as running:
        kit.cli(running, "tenants", "create", "Elm Street Surgery")
        yield running


@pytest.fixture(scope="module")
def tenant(house: EmbeddedBox) -> str:
    return str(kit.cli(house, "tenants", "list")["tenants"][0]["name"])


def prompt(house: EmbeddedBox, tenant: str, folder: Path, hertz: int, *options: str) -> str:
    """A second of one tone."""
    samples = (8000 * np.sin(2 * np.pi * hertz * np.arange(8000) / 8000)).astype("<i2")
    file = folder / f"{hertz}.wav"
    file.write_bytes(wav_header(8000, 1, len(samples)) + samples.tobytes())
    words = ("prompts", "add", str(file), "--tenant", tenant, "--language", "en-GB", "--text", f"{hertz}")
    return str(kit.cli(house, *words, *options)["prompt"]["name"])


def heard(talk: Talk) -> np.ndarray:
    return kit.mulaw(np.frombuffer(b"".join(talk.heard), np.uint8)).astype(float)


def has(sound: np.ndarray, hertz: int) -> bool:
    """Whether half a second of a tone is in a sound."""
    pieces = sound[: len(sound) // 800 * 800].reshape(-1, 800) * np.hanning(800)
    power = np.abs(np.fft.rfft(pieces)) ** 2
    at = round(hertz * 800 / 8000)
    share = power[:, at - 1 : at + 2].sum(axis=1) / (power.sum(axis=1) + 1)
    return int((share > 0.8).sum()) >= 5


def carry(
    house: EmbeddedBox, tenant: str, seconds: float, *options: str, pause: bool = False, kept: bool = True
) -> Carried:
    """One call to a line of its own."""
    number = f"0{next(_NUMBERS)}"

    async def run() -> tuple[Talk, Talk, bytes, tuple[int, int]]:
        async with Station() as desk, Station() as outside:
            words = ("lines", "create", tenant, number, "--number", number, "--target-in", desk.uri)
            kit.cli(house, *words, "--bucket", "day", *options)
            host, port = house.sip("udp")
            said, marks = kit.noise(seconds, next(_NUMBERS)), [0, 0]
            desk.says = kit.noise(seconds, next(_NUMBERS))
            call = await outside.dial(f"sip:{number}@{host}:{port}", f"sip:{CALLER}@trunk.example", said)
            other = desk.talks[-1]

            async def keys() -> None:
                if pause:
                    for place, code in enumerate(("*2", "*3")):
                        await asyncio.sleep(1.0)
                        await other.press(code)
                        await asyncio.sleep(0.7)
                        marks[place] = call.source.position

            await asyncio.gather(call.play(), other.play(), keys())
            await call.hang_up()
            await asyncio.wait_for(other.ended.wait(), 15)
            return call, other, said, (marks[0], marks[1] - 60)

    call, other, said, paused = asyncio.run(run())
    if not kept:
        return Carried({}, said, heard(call), heard(other))
    listed = kit.until(
        lambda: kit.recordings(house, "--filter", f'party.number:"{number}"'), "the recording is filed"
    )
    shown = kit.cli(house, "recordings", "show", listed[0]["name"])
    return Carried(shown, said, heard(call), heard(other), paused)


@pytest.fixture(scope="module")
def carried(house: EmbeddedBox, tenant: str, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """A call of a line with an announcement, a whisper, and agents who may pause."""
    folder = tmp_path_factory.mktemp("prompts")
    said = prompt(house, tenant, folder, ANNOUNCED, "--purpose", "training")
    whispered = prompt(house, tenant, folder, WHISPERED)
    options = ("--announcement", said, "--whisper", whispered, "--rights", "pause")
    return carry(house, tenant, 6.0, *options, pause=True)


def test_3_a_contracted_call_is_recorded_whole(house: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    call = carry(house, tenant, 2.0)
    assert call.recording["whole"] and call.recording["direction"] == "DIRECTION_INBOUND"
    assert kit.heard_whole(kit.wav(house, call.recording["name"], tmp_path)[0], call.said)


def test_3_who_is_not_to_be_recorded_is_noted_and_why(house: EmbeddedBox, tenant: str) -> None:
    call = carry(house, tenant, 1.0, "--do-not-record", CALLER)
    assert not call.recording["tracks"] and "do-not-record" in call.recording["flags"]


def test_3_a_direction_that_is_not_contracted_is_not_recorded(house: EmbeddedBox, tenant: str) -> None:
    before = {one["name"] for one in kit.recordings(house)}
    call = carry(house, tenant, 1.0, "--direction", "outbound", kept=False)
    assert len(call.agent_heard), "the call itself goes through"
    counted = "calls_not_recorded_direction_not_contracted"
    kit.until(lambda: counted in json.dumps(kit.status(house)), "it is counted")
    assert {one["name"] for one in kit.recordings(house)} == before


def test_3_a_change_of_the_contract_is_kept_and_can_be_undone(house: EmbeddedBox, tenant: str) -> None:
    line = kit.cli(house, "lines", "create", tenant, "Desk", "--number", f"0{next(_NUMBERS)}")["name"]
    dry = kit.cli(house, "lines", "update", line, "--direction", "inbound", "--dry-run")
    assert {one["before"] for one in dry["changes"]} == {"OUTBOUND", "INTERNAL", "UNKNOWN"}
    assert len(kit.cli(house, "lines", "history", line)["versions"]) == 1, "it was only shown"
    kit.cli(house, "lines", "update", line, "--direction", "inbound")
    newest = kit.cli(house, "lines", "history", line)["versions"][0]
    assert (newest["actor"], newest["changes"]) == ("admin", dry["changes"]) and newest["createTime"]
    assert len(kit.cli(house, "lines", "undo", line)["directions"]) == 4


def test_3_1_the_announcement_is_heard_and_the_recording_carries_which(carried: Carried) -> None:
    assert has(carried.caller_heard, ANNOUNCED) and not has(carried.agent_heard, ANNOUNCED)
    data = carried.marks["ANNOUNCED"]["data"]
    assert data["heard"] == "whole" and len(data["text_sha256"]) == len(data["audio_sha256"]) == 64
    assert (data["language"], carried.recording["purposes"]) == ("en-GB", ["training"])


def test_3_1_where_none_was_heard_that_is_said(house: EmbeddedBox, tenant: str) -> None:
    assert carry(house, tenant, 1.0).recording["purposeSource"] == "PURPOSE_SOURCE_NOT_ANNOUNCED"


def test_3_2_the_whisper_is_the_agents_alone(carried: Carried) -> None:
    assert has(carried.agent_heard, WHISPERED) and not has(carried.caller_heard, WHISPERED)
    assert carried.marks["WHISPERED"]["data"]["heard"] == "whole"


def test_3_3_while_the_agent_pauses_nothing_is_kept(
    house: EmbeddedBox, carried: Carried, tmp_path: Path
) -> None:
    kit.cli(
        house,
        "recordings",
        "download",
        carried.recording["name"],
        "-o",
        str(tmp_path / "x.wav"),
        "--purpose",
        "training",
    )
    kept = kit.frames_in(kit.channels(tmp_path / "x.wav")[0], carried.said)
    first, last = carried.paused
    assert last - first > 20 and not kept[first:last].any()
    assert kept[:25].any() and kept[-50:-1].any()
    assert {"PAUSED", "RESUMED"} <= carried.marks.keys(), "the gap stays on the timeline"


def test_3_3_without_the_right_a_pause_is_refused(house: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    call = carry(house, tenant, 5.0, "--rights", "none", pause=True)
    assert "PAUSED" not in call.marks
    assert kit.heard_whole(kit.wav(house, call.recording["name"], tmp_path)[0], call.said)


def test_3_4_the_client_deletes_and_what_expires_is_listed_before(house: EmbeddedBox, tenant: str) -> None:
    name = carry(house, tenant, 1.0).recording["name"]
    line = kit.cli(house, "recordings", "show", name)["line"]
    upcoming = kit.cli(house, "retention", "upcoming", "--days", "36525", "--line", line)
    assert [one["bucket"].rpartition("/buckets/")[0] for one in upcoming["upcomingExpirations"]] == [line]
    assert kit.cli(house, "recordings", "delete", name)["state"] == "RECORDING_STATE_DELETED"
    assert name not in [one["name"] for one in kit.recordings(house)]
    assert kit.cli(house, "recordings", "undelete", name)["state"] == "RECORDING_STATE_FILED"
    kit.cli(house, "recordings", "erase", name, "--reason", "asked for", "--yes")
    assert "[ERASED]" in kit.cli(house, "recordings", "download", name, code=7)
