"""Inline calls through a whole box: what each side hears, what is kept, and what happens when processes die."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import whole_kit as kit
from embedded_kit import started
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.cli.connection import Connection
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.demo.station import Station, StationError, Talk
from earwitness.v1 import calls_pb2, notices_pb2

pytestmark = pytest.mark.timeout(240)
_NUMBERS = itertools.count(1632960200)
OUTSIDE = "sip:07700900123@trunk.example"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("inline") / "box") as made:
        kit.cli(made, "tenants", "create", "Elm Street")
        yield made


@pytest.fixture
def tenant(box: EmbeddedBox) -> str:
    return str(kit.cli(box, "tenants", "list")["tenants"][0]["name"])


def line(box: EmbeddedBox, tenant: str, *options: str) -> str:
    """A line with a number of its own; the number."""
    number = f"0{next(_NUMBERS)}"
    kit.cli(box, "lines", "create", tenant, f"Line {number}", "--number", number, "--bucket", "day", *options)
    return number


def at(box: EmbeddedBox, number: str) -> str:
    host, port = box.sip("udp")
    return f"sip:{number}@{host}:{port}"


def heard(talk: Talk, payload: bytes) -> float:
    """Which part of what was said was heard, frame by frame."""
    frames = {payload[i : i + kit.FRAME] for i in range(0, len(payload), kit.FRAME)}
    return len(frames & set(talk.heard)) / len(frames)


def of_number(box: EmbeddedBox, number: str, count: int = 1) -> list[dict[str, Any]]:
    """The recordings of a line's calls, once they are filed, with all that is known of them."""

    def filed() -> list[dict[str, Any]] | None:
        listed = kit.recordings(box, "--filter", f'party.number:"{number}"')
        live = kit.cli(box, "calls", "list")["calls"]
        return listed if len(listed) >= count and not live else None

    found = kit.until(filed, f"{count} recordings of {number}")
    assert len(found) == count
    return [kit.cli(box, "recordings", "show", one["name"]) for one in found]


def kinds(recording: dict[str, Any]) -> list[str]:
    return [mark["kind"].removeprefix("MARK_KIND_") for mark in recording.get("marks", ())]


async def conversation(
    box: EmbeddedBox,
    number: str,
    desk: Station,
    outside: Station,
    seconds: float,
    meanwhile: Callable[[Talk, Talk], Awaitable[None]] | None = None,
) -> tuple[Talk, Talk, bytes, bytes]:
    """A call in which both speak; what each said."""
    said, answered = kit.noise(seconds, next(_NUMBERS)), kit.noise(seconds, next(_NUMBERS))
    desk.says = answered
    call = await outside.dial(at(box, number), OUTSIDE, said)
    other = desk.talks[-1]

    async def nothing_else() -> None:
        if meanwhile is not None:
            await meanwhile(call, other)

    await asyncio.gather(call.play(), other.play(), nothing_else())
    return call, other, said, answered


def test_both_hear_each_other_and_all_is_kept(box: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    async def run() -> tuple[str, bytes, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            call, other, said, answered = await conversation(box, number, desk, outside, 4.0)
            assert heard(other, said) == 1.0
            assert heard(call, answered) == 1.0
            await call.hang_up()
            await asyncio.wait_for(other.ended.wait(), 10)
            return number, said, answered

    number, said, answered = asyncio.run(run())
    (recording,) = of_number(box, number)
    sound = kit.wav(box, recording["name"], tmp_path)
    assert kit.heard_whole(sound[0], said)
    assert kit.heard_whole(sound[1], answered)
    assert recording["source"] == "inline"


def test_a_pause_by_keys_keeps_nothing_and_the_call_goes_on(
    box: EmbeddedBox, tenant: str, tmp_path: Path
) -> None:
    marks: dict[str, int] = {}

    async def keys(call: Talk, other: Talk) -> None:
        await asyncio.sleep(1.5)
        await other.press("*2")
        await asyncio.sleep(0.5)
        marks["from"] = call.source.position
        await asyncio.sleep(1.5)
        marks["to"] = call.source.position
        await other.press("*3")
        await asyncio.sleep(0.5)
        marks["again"] = call.source.position

    async def run() -> tuple[str, bytes, bytes, Talk, Talk]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri, "--rights", "pause")
            call, other, said, answered = await conversation(box, number, desk, outside, 7.0, keys)
            await call.hang_up()
            return number, said, answered, call, other

    number, said, _, call, other = asyncio.run(run())
    assert heard(other, said) > 0.9  # tones are mixed into what the agent hears
    assert call.keys == ""
    (recording,) = of_number(box, number)
    sound = kit.wav(box, recording["name"], tmp_path)
    found = kit.frames_in(sound[0], said)
    assert not found[marks["from"] : marks["to"]].any()
    assert found[: marks["from"] - 60].all()
    assert found[marks["again"] : -1].all()
    assert [kind for kind in kinds(recording) if kind in ("PAUSED", "RESUMED")] == ["PAUSED", "RESUMED"]


def test_who_has_not_acknowledged_what_is_required_pauses_by_keys_once_it_is_done(
    box: EmbeddedBox, tenant: str, tmp_path: Path
) -> None:
    """Clause 5: the bar on the keypad, and its end at once, within one call."""
    text = tmp_path / "rules.txt"
    text.write_text("Calls are recorded. Key in *2 to pause.", "utf-8")
    here = ("--tenant", tenant)
    kit.cli(box, "tenants", "update", tenant, "--unacknowledged-may-not-pause")
    notice = kit.cli(box, "notices", "create", "Rules", "--text", str(text), "--required", *here)["name"]

    client = earwitness.Client(Connection(box.data).channel())

    def state() -> int:
        (live,) = client.calls.ListCalls(calls_pb2.ListCallsRequest(parent=tenant)).calls
        return live.state

    def sign(notice: str, member: str) -> None:
        request = notices_pb2.RecordPaperAcknowledgementRequest(
            name=notice,
            staff_member=member,
            version=1,
            sign_time=Timestamp(seconds=int(time.time()) + 1),
            kept_at="HR",
        )
        client.notices.RecordPaperAcknowledgement(request)

    async def run() -> str:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri, "--rights", "pause")
            member = kit.cli(box, "staff", "add", "Ada", "--number", number, *here)["name"]

            async def keys(call: Talk, other: Talk) -> None:
                await asyncio.sleep(1.0)
                await other.press("*2")
                await asyncio.sleep(0.5)
                assert state() == calls_pb2.CALL_STATE_RECORDING
                await asyncio.to_thread(sign, notice, member)
                for _ in range(8):  # signaling reads its table a moment after it was written
                    await other.press("*2")
                    await asyncio.sleep(0.5)
                    if state() == calls_pb2.CALL_STATE_PAUSED:
                        break

            call, _, _, _ = await conversation(box, number, desk, outside, 9.0, keys)
            await call.hang_up()
            return number

    try:
        number = asyncio.run(run())
    finally:
        client.close()
        kit.cli(box, "tenants", "update", tenant, "--unacknowledged-may-pause")
    (recording,) = of_number(box, number)
    marks = [mark for mark in recording["marks"] if mark["kind"] in ("MARK_KIND_NOTE", "MARK_KIND_PAUSED")]
    seen = [(mark["kind"], mark["reason"], mark["data"].get("why", "")) for mark in marks]
    assert seen[0] == ("MARK_KIND_NOTE", "pause-refused", "notice-not-acknowledged")
    assert seen[-1] == ("MARK_KIND_PAUSED", "keypad", "")


def test_a_key_that_is_no_code_is_passed_on(box: EmbeddedBox, tenant: str) -> None:
    async def keys(call: Talk, other: Talk) -> None:
        await asyncio.sleep(0.5)
        await call.press("1")
        await other.press("5")
        await other.press("*")

    async def run() -> tuple[str, str]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri, "--rights", "pause")
            call, other, *_ = await conversation(box, number, desk, outside, 6.0, keys)
            await call.hang_up()
            return call.keys, other.keys

    assert asyncio.run(run()) == ("5*", "1")


def test_kill_capture_in_mid_call(box: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    """The call goes on by itself, and the recording in a second part."""

    async def strike(call: Talk, other: Talk) -> None:
        await asyncio.sleep(3.0)
        for name in kit.captures():
            os.kill(kit.pid_of(box, name), signal.SIGKILL)

    async def run() -> tuple[str, bytes, float]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            call, other, said, _ = await conversation(box, number, desk, outside, 14.0, strike)
            assert not call.ended.is_set()
            late = {said[i : i + kit.FRAME] for i in range(len(said) - 100 * kit.FRAME, len(said), kit.FRAME)}
            share = len(late & set(other.heard)) / len(late)
            await call.hang_up()
            return number, said, share

    number, said, share = asyncio.run(run())
    assert share > 0.98  # the last two seconds are heard again
    caller = [kit.wav(box, recording["name"], tmp_path)[0] for recording in of_number(box, number, 2)]
    assert kit.missing(caller, said) <= 60  # at most the last second before the blow


def test_a_call_that_ends_before_capture_is_back_keeps_what_waited_in_its_sockets(
    box: EmbeddedBox, tenant: str, tmp_path: Path
) -> None:
    async def strike(call: Talk, other: Talk) -> None:
        await asyncio.sleep(3.0)
        os.kill(box.process.pid, signal.SIGSTOP)  # nothing starts it again until the call is over
        for name in kit.captures():
            os.kill(kit.pid_of(box, name), signal.SIGKILL)

    async def run() -> tuple[str, bytes, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            try:
                call, other, said, answered = await conversation(box, number, desk, outside, 6.0, strike)
                before = len(other.heard)
                await call.hang_up()
                await asyncio.wait_for(other.ended.wait(), 15)
            finally:
                os.kill(box.process.pid, signal.SIGCONT)
            await asyncio.to_thread(of_number, box, number, 2)
            assert len(other.heard) == before, "nothing is played to a call that is over"
            return number, said, answered

    number, *all_said = asyncio.run(run())
    sounds = [kit.wav(box, recording["name"], tmp_path) for recording in of_number(box, number, 2)]
    for channel, said in enumerate(all_said):
        assert (
            kit.missing([sound[channel] for sound in sounds], said) <= 60
        )  # at most the last second before the blow


def test_kill_signaling_in_mid_call(box: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    """Media goes on meanwhile, nothing is lost, and the call can be ended afterwards."""

    async def strike(call: Talk, other: Talk) -> None:
        await asyncio.sleep(3.0)
        os.kill(kit.pid_of(box, "signaling"), signal.SIGKILL)

    async def run() -> tuple[str, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            call, other, said, answered = await conversation(box, number, desk, outside, 10.0, strike)
            assert heard(other, said) == 1.0
            assert heard(call, answered) == 1.0
            await call.hang_up()
            await asyncio.wait_for(other.ended.wait(), 15)
            return number, said

    number, said = asyncio.run(run())
    (recording,) = of_number(box, number)
    assert kit.heard_whole(kit.wav(box, recording["name"], tmp_path)[0], said)


@pytest.mark.parametrize("gone", ["vault", "control"])
def test_without_vault_or_control_calls_connect_and_are_kept(
    gone: str, box: EmbeddedBox, tenant: str, tmp_path: Path
) -> None:
    async def run() -> tuple[str, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            pid = kit.pid_of(box, gone)
            os.kill(pid, signal.SIGSTOP)
            try:
                call, other, said, _ = await conversation(box, number, desk, outside, 3.0)
                assert heard(other, said) == 1.0
                await call.hang_up()
            finally:
                os.kill(pid, signal.SIGKILL)
            return number, said

    number, said = asyncio.run(run())
    kit.until(lambda: kit.cli_ok(box, "calls", "list"), "control answers again")
    (recording,) = of_number(box, number)
    assert kit.heard_whole(kit.wav(box, recording["name"], tmp_path)[0], said)


def test_where_nothing_can_be_written_calls_connect_and_wait_in_memory(
    box: EmbeddedBox, tenant: str, tmp_path: Path
) -> None:
    async def run() -> tuple[str, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            spool = box.layout.spool_recordings
            aside = spool.with_name("aside")
            spool.rename(aside)
            try:
                said = kit.noise(4.0, 5)
                call = await outside.dial(at(box, number), OUTSIDE, said)
                await call.play()
                assert heard(desk.talks[-1], said) == 1.0
                assert "DiskError" in [one["type"] for one in kit.status(box)["conditions"]]
            finally:
                aside.rename(spool)
            await call.hang_up()
            return number, said

    number, said = asyncio.run(run())
    (recording,) = of_number(box, number)
    assert kit.heard_whole(kit.wav(box, recording["name"], tmp_path)[0], said)


def test_without_capture_media_goes_past_the_box(tmp_path: Path) -> None:
    async def run(box: EmbeddedBox, tenant: str) -> None:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            pids = [kit.pid_of(box, name) for name in kit.captures()]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(6)  # until signaling has seen it
                said = kit.noise(2.0, 6)
                call = await outside.dial(at(box, number), OUTSIDE, said)
                await call.play()
                assert heard(desk.talks[-1], said) == 1.0
                await call.hang_up()
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)

    with started(tmp_path / "box") as box:
        kit.cli(box, "tenants", "create", "Elm Street")
        asyncio.run(run(box, str(kit.cli(box, "tenants", "list")["tenants"][0]["name"])))


def test_who_is_not_to_be_recorded_is_noted(box: EmbeddedBox, tenant: str) -> None:
    async def run() -> tuple[str, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri, "--do-not-record", "07700900123")
            call, other, said, _ = await conversation(box, number, desk, outside, 2.0)
            assert heard(other, said) == 1.0
            await call.hang_up()
            return number, said

    number, _ = asyncio.run(run())
    (recording,) = of_number(box, number)
    assert not recording.get("tracks")
    assert "do-not-record" in recording["flags"]


def test_an_outbound_call_from_elsewhere_is_refused(box: EmbeddedBox, tenant: str) -> None:
    async def run() -> None:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-out", desk.uri, "--target-in", "sip:192.0.2.77")
            with pytest.raises(StationError) as refused:
                await outside.dial(at(box, "0090012345678"), f"sip:{number}@pbx.example", b"")
            assert refused.value.data["status"] == 403

    asyncio.run(run())


def test_pause_resume_and_stop_over_the_api(box: EmbeddedBox, tenant: str, tmp_path: Path) -> None:
    marks: dict[str, int] = {}

    def act(verb: str) -> None:
        (live,) = kit.cli(box, "calls", "list")["calls"]
        kit.cli(box, "calls", verb, live["name"])

    async def acts(call: Talk, other: Talk) -> None:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(act, "pause")
        marks["paused"] = call.source.position
        await asyncio.sleep(1.5)
        marks["resuming"] = call.source.position
        await asyncio.to_thread(act, "resume")
        marks["resumed"] = call.source.position
        await asyncio.sleep(1.5)
        marks["stopping"] = call.source.position
        await asyncio.to_thread(act, "stop")
        marks["stopped"] = call.source.position

    async def run() -> tuple[str, bytes]:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            call, other, said, _ = await conversation(box, number, desk, outside, 18.0, acts)
            assert heard(other, said) == 1.0, "the parties hear each other all the time"
            await call.hang_up()
            return number, said

    number, said = asyncio.run(run())
    (recording,) = of_number(box, number)
    found = kit.frames_in(kit.wav(box, recording["name"], tmp_path)[0], said)
    assert not found[marks["paused"] : marks["resuming"]].any()
    assert found[marks["resumed"] + 5 : marks["stopping"] - 5].all()
    assert not found[marks["stopped"] :].any()
    assert kinds(recording)[-1] == "STOPPED"


def test_a_call_that_nobody_answered_says_so(box: EmbeddedBox, tenant: str) -> None:
    async def run() -> str:
        async with Station(answers=486) as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            with pytest.raises(StationError) as refused:
                await outside.dial(at(box, number), OUTSIDE, b"")
            assert refused.value.data["status"] == 486
            return number

    number = asyncio.run(run())
    (recording,) = of_number(box, number)
    assert recording["flags"] == ["not-answered"]


def test_a_call_that_was_answered_does_not_say_otherwise(box: EmbeddedBox, tenant: str) -> None:
    async def run() -> str:
        async with Station() as desk, Station() as outside:
            number = line(box, tenant, "--target-in", desk.uri)
            call, *_ = await conversation(box, number, desk, outside, 1.0)
            await call.hang_up()
            return number

    (recording,) = of_number(box, asyncio.run(run()))
    assert not recording.get("flags")
