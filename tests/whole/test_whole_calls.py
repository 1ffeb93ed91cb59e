"""A real inline call as an operator sees it, from the announcement to its end; and what stands in audit and events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import whole_kit as kit
from embedded_kit import started

from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.station import Station, Talk

pytestmark = pytest.mark.timeout(240)
NUMBER, UNWANTED = "01632960201", "07700900999"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("calls") / "box") as made:
        kit.cli(made, "tenants", "create", "Elm Street")
        yield made


class Watch:
    """`calls watch`, as it writes for people."""

    def __init__(self, box: EmbeddedBox, path: Path) -> None:
        self._path = path
        with path.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "appliance.cli.main", "--data", str(box.data), "calls", "watch"],
                stdout=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def until(self, *words: str) -> None:
        """Until a line has all of these."""
        async with asyncio.timeout(40):
            while not any(all(word in line for word in words) for line in self.lines()):
                await asyncio.sleep(0.05)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines()

    def states(self, call_id: str) -> list[str]:
        """What the call was, one after the other."""
        found = [line.split("  ")[2].strip() for line in self.lines() if call_id in line]
        return [one for place, one in enumerate(found) if place == 0 or found[place - 1] != one]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def prompt(box: EmbeddedBox, name: str) -> str:
    found = [one for one in kit.cli(box, "prompts", "list")["prompts"] if one["displayName"] == name]
    return str(found[0]["name"])


def test_an_inline_call_on_the_console(box: EmbeddedBox, tmp_path: Path) -> None:
    tenant = str(kit.cli(box, "tenants", "list")["tenants"][0]["name"])
    announcement, whisper = prompt(box, "Announcement (English)"), prompt(box, "Whisper (English)")
    watch = Watch(box, tmp_path / "watch")

    async def listed(*words: str) -> None:
        shown = await asyncio.to_thread(kit.text, box, "calls", "list")
        assert all(word in shown for word in words), shown

    async def keys(other: Talk) -> None:
        await watch.until("recording", NUMBER)
        await other.press("*2")
        await watch.until("paused", f"by agent {NUMBER}")
        await listed("paused", f"by agent {NUMBER}", "07700900123")
        await other.press("*4")  # it has no right to
        await asyncio.sleep(0.5)
        await other.press("*3")

    async def run() -> None:
        async with Station(after=1.0) as desk, Station() as outside:
            options = ("--announcement", announcement, "--whisper", whisper, "--rights", "pause")
            numbers = ("--number", NUMBER, "--do-not-record", UNWANTED)
            kit.cli(
                box, "lines", "create", tenant, "Line", "--bucket", "day", "--target-in", desk.uri, *numbers, *options
            )  # fmt: skip
            host, port = box.sip("udp")
            desk.says = kit.noise(60, 2)
            call = outside.call(
                f"sip:{NUMBER}@{host}:{port}", "sip:07700900123@trunk.example", kit.noise(60, 1)
            )
            await asyncio.wait_for(call.up.wait(), 60)
            other = desk.talks[-1]
            talking = asyncio.gather(call.play(), other.play())
            await keys(other)
            await watch.until("recording", NUMBER)
            live = (await asyncio.to_thread(kit.cli, box, "calls", "list"))["calls"][0]["name"]
            await asyncio.to_thread(kit.cli, box, "calls", "stop", live)
            await watch.until("not recorded", "stopped by admin")
            await call.hang_up()
            await talking
            await watch.until("ended", NUMBER, "after 0:")
            states = watch.states(live[-26:])
            # How long it rings before the announcement is hardly to be seen.
            assert [one for one in states if one != "ringing"] == [
                "announcing", "whispering", "recording", "paused", "recording", "not recorded", "ended",
            ]  # fmt: skip
            assert "ringing" in states[states.index("announcing") : states.index("whispering")]

            second = await outside.dial(
                f"sip:{NUMBER}@{host}:{port}", f"sip:{UNWANTED}@trunk.example", kit.noise(1, 3)
            )
            await watch.until("not recorded", "a number is on the do-not-record list")
            await second.hang_up()

    try:
        asyncio.run(run())
    finally:
        watch.close()

    def acts() -> list[dict[str, str]] | None:
        lines = (box.layout.control / "audit" / "entries-000001.jsonl").read_text().splitlines()
        found = [one for one in map(json.loads, lines) if one["what"] == "act"]
        return found if len(found) >= 3 else None

    audited = kit.until(acts, "three acts in the audit file")
    assert [(one["who"], one["action"], one["outcome"]) for one in audited] == [
        ("agent", "PAUSE", "OK"),
        ("agent", "STOP", "NO_RIGHT"),
        ("agent", "RESUME", "OK"),
    ]
    assert NUMBER not in json.dumps(audited), "which agent it was stands on the timeline alone"
    recording = kit.cli(box, "recordings", "show", audited[0]["recording"])
    marks = [mark for mark in recording["marks"] if mark["actor"].startswith("agent:")]
    assert [mark["kind"] for mark in marks] == ["MARK_KIND_PAUSED", "MARK_KIND_NOTE", "MARK_KIND_RESUMED"]
    assert {mark["actor"] for mark in marks} == {f"agent:{NUMBER}"}


def flags_of(box: EmbeddedBox, number: str) -> list[str]:
    def filed() -> list[dict[str, object]]:
        return kit.recordings(box, "--filter", f'party.number:"{number}"')

    (found,) = kit.until(filed, f"the recording of {number}")
    return list(kit.cli(box, "recordings", "show", str(found["name"]))["flags"])


def test_how_calls_sounded_is_flagged(box: EmbeddedBox) -> None:
    """A switchboard that sends nothing is one-way; a caller who gave up while it rang is not."""
    tenant = str(kit.cli(box, "tenants", "list")["tenants"][0]["name"])
    good = kit.tone(4.0)

    async def a_call(number: str, desk: Station, says: bytes, seconds: float) -> None:
        desk.says = says
        kit.cli(
            box,
            "lines",
            "create",
            tenant,
            number,
            "--bucket",
            "day",
            "--target-in",
            desk.uri,
            "--number",
            number,
        )
        host, port = box.sip("udp")
        async with Station() as outside:
            call = outside.call(f"sip:{number}@{host}:{port}", "sip:07700900124@trunk.example", good)
            if desk.after:
                await asyncio.sleep(seconds)
            else:
                await asyncio.wait_for(call.up.wait(), 40)
                await asyncio.gather(call.play(), desk.talks[-1].play())
            await call.hang_up()

    async def run() -> None:
        async with Station() as desk:
            await a_call("01632960301", desk, good, 0)
            await a_call("01632960302", desk, b"", 0)
            await a_call("01632960303", desk, b"\xff" * len(good), 0)
        async with Station(after=30.0) as desk:
            await a_call("01632960304", desk, good, 3.0)

    asyncio.run(run())
    assert flags_of(box, "01632960301") == []
    assert flags_of(box, "01632960302") == ["one-way"]
    assert flags_of(box, "01632960303") == ["silent-agent"]
    assert "one-way" not in flags_of(box, "01632960304")
