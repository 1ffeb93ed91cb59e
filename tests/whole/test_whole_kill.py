"""Each process is killed in turn while calls are up: what is lost, what is not, and what the box says of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import whole_kit as kit
from embedded_kit import started

from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.sbc import Sbc, SbcCall

pytestmark = pytest.mark.timeout(300)
SECONDS = 8.0
KILL_AT_S = 3.5


async def calls_with(box: EmbeddedBox, count: int, strike: Callable[[], None]) -> dict[int, list[bytes]]:
    """Places calls, strikes in the middle, ends the calls; gives what each party of each call said."""
    said = {
        number: [kit.noise(SECONDS, 1000 + 2 * number), kit.noise(SECONDS, 1001 + 2 * number)]
        for number in range(count)
    }
    async with Sbc("udp", box.sip("udp")) as sbc:
        placed: list[SbcCall] = [await sbc.place(kit.parties(number), said[number]) for number in said]

        async def strike_later() -> None:
            await asyncio.sleep(KILL_AT_S)
            strike()

        await asyncio.gather(strike_later(), *(call.play() for call in placed))
        await asyncio.gather(*(call.hang_up() for call in placed))
    return said


def killer(box: EmbeddedBox, prefix: str) -> Callable[[], None]:
    names = kit.captures() if prefix == "capture" else [prefix]

    def strike() -> None:
        for name in names:
            os.kill(kit.pid_of(box, name), signal.SIGKILL)

    return strike


def lost_frames(
    box: EmbeddedBox, said: dict[int, list[bytes]], folder: Path, *, parts: int = 1
) -> dict[int, list[int]]:
    """How many frames of each party of each call are in no recording of it, once it has its `parts`."""

    def filed() -> dict[int, list[str]] | None:
        vault = kit.status(box)["vault"]
        listed = kit.recordings(box)
        live = kit.cli(box, "calls", "list")["calls"]
        if live or int(vault["spooledCount"]) or int(vault["filedCount"]) != len(listed):
            return None
        by_call: dict[int, list[str]] = {number: [] for number in said}
        for one in listed:
            for party in one["parties"]:
                if "07700900" in party["address"]:
                    by_call[int(party["address"].split("@")[0][-3:])].append(one["name"])
        return by_call if all(len(names) >= parts for names in by_call.values()) else None

    kit.until(lambda: kit.answers(box), "the box answers again", 60)
    by_call = kit.until(filed, "every call is filed", 60)
    lost = {}
    heard = kit.wavs(box, [name for some in by_call.values() for name in some], folder)
    for number, payloads in said.items():
        sounds = [heard[name] for name in by_call[number]]
        channels = [channel for sound in sounds for channel in sound]
        lost[number] = [kit.missing(channels, payload) for payload in payloads]
    return lost


def incidents(box: EmbeddedBox) -> list[tuple[str, str]]:
    return [(one["process"], one["kind"]) for one in kit.status(box)["incidents"]]


def test_capture_killed_during_fifty_calls_loses_at_most_a_second_of_each(tmp_path: Path) -> None:
    with started(tmp_path / "data") as box:
        said = asyncio.run(calls_with(box, 50, killer(box, "capture")))
        lost = lost_frames(box, said, tmp_path, parts=2)
        worst = max(max(frames) for frames in lost.values())
        assert worst <= 50, f"{worst * 0.02:.2f} s lost"
        assert ("capture-0", "killed") in incidents(box)


def test_calls_that_end_before_capture_is_back_keep_what_waited_in_its_sockets(tmp_path: Path) -> None:
    with started(tmp_path / "data") as box:
        kill = killer(box, "capture")

        def strike() -> None:
            os.kill(box.process.pid, signal.SIGSTOP)  # nothing starts it again until the calls are over
            kill()

        try:
            said = asyncio.run(calls_with(box, 5, strike))
        finally:
            os.kill(box.process.pid, signal.SIGCONT)
        lost = lost_frames(box, said, tmp_path, parts=2)
        worst = max(max(frames) for frames in lost.values())
        assert worst <= 50, f"{worst * 0.02:.2f} s lost"  # what had come and was not on the disk yet


@pytest.mark.parametrize("process", ["control", "vault", "signaling"])
def test_no_audio_is_lost_when_another_process_is_killed(process: str, tmp_path: Path) -> None:
    with started(tmp_path / "data") as box:
        said = asyncio.run(calls_with(box, 5, killer(box, process)))
        lost = lost_frames(box, said, tmp_path)
        assert not any(frames for both in lost.values() for frames in both), lost
        assert (process, "killed") in incidents(box)
        assert len(kit.recordings(box)) == 5, "one recording a call"


def test_when_the_supervisor_is_killed_what_was_recorded_is_there_after_the_next_start(
    tmp_path: Path,
) -> None:
    async def broken(box: EmbeddedBox) -> list[bytes]:
        payloads = [kit.noise(SECONDS, 1), kit.noise(SECONDS, 2)]
        async with Sbc("udp", box.sip("udp")) as sbc:
            call = await sbc.place(kit.parties(0), payloads)
            await call.play(int(KILL_AT_S * 50))
            box.process.kill()
        return payloads

    with started(tmp_path / "data") as box:
        payloads = asyncio.run(broken(box))
    with started(tmp_path / "data") as box:
        (found,) = kit.until(lambda: kit.recordings(box), "the recording is filed")
        sound = kit.wav(box, found["name"], tmp_path)
        played = int(KILL_AT_S * 50)
        for payload, channel in zip(payloads, sound, strict=True):
            assert kit.frames_in(channel, payload)[:played].sum() >= played - 50
        assert ("box", "unclean-stop") in incidents(box)
