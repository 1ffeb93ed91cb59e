"""Acts by keypad and by the clock, as signaling tells them; and pauses of SIPREC calls that end by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from provider import Provider
from signaling_kit import LINE, MULTIPART, House, Taken, a_house, usual

from appliance.media.signaling.acts import MAX_REFUSED_A_CALL, Acts
from appliance.media.sip.events import Answered
from appliance.model import new_id
from appliance.model.routing import InlineRules, Rights, Target
from appliance.process import rpc
from earwitness.internal.v1 import capture_pb2, signaling_pb2_grpc
from earwitness.internal.v1 import signaling_pb2 as pb

CALL = pb.LiveCall(call_id=new_id(), tenant_id=new_id(), line_id=new_id(), recording_ids=["one", "two"])


async def take(stream: Any, count: int) -> list[pb.WatchActsResponse]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def read(stream: Any, met: Any) -> Any:
    async with asyncio.timeout(20):
        while True:
            message = await stream.read()
            if met(message):
                return message


def test_each_act_is_told_to_who_has_not_seen_it() -> None:
    async def run() -> None:
        acts = Acts()
        acts.tell(CALL, pb.CALL_ACTION_PAUSE, pb.ACT_BY_AGENT, 5)
        stream = acts.watch("", 0)
        first, act = await take(stream, 2)
        assert first.epoch == acts.epoch and not first.HasField("act")
        assert (act.act.serial, act.act.at_ns, act.act.recording_id) == (1, 5, "two")
        waiting = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0)
        acts.tell(CALL, pb.CALL_ACTION_STOP, pb.ACT_BY_AGENT, 6, "no-right")
        assert [(one.act.serial, one.act.refused) for one in await waiting] == [(2, "no-right")]
        again = await take(acts.watch(acts.epoch, 1), 2)
        assert [one.act.serial for one in again[1:]] == [2], "what was seen is not told again"
        elsewhere = await take(acts.watch("another life", 2), 3)
        assert [one.act.serial for one in elsewhere[1:]] == [1, 2]

    asyncio.run(run())


def test_memory_is_bounded_and_what_is_missing_can_be_seen() -> None:
    async def run() -> None:
        acts = Acts(kept=3)
        for at_ns in range(10):
            acts.tell(CALL, pb.CALL_ACTION_PAUSE, pb.ACT_BY_AGENT, at_ns, "x" * 1000)
        found = await take(acts.watch(acts.epoch, 2), 4)
        assert [one.act.serial for one in found[1:]] == [8, 9, 10]
        assert len(found[1].act.refused) == 64

    asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(house: House) -> Any:
    async with rpc.aio_channel(house.settings.layout, "signaling") as channel:
        yield signaling_pb2_grpc.SignalingServiceStub(channel)


async def pause(stub: Any, call_id: str) -> pb.LiveCall:
    request = pb.ControlCallRequest(call_id=call_id, action=pb.CALL_ACTION_PAUSE, actor="reception")
    return (await stub.ControlCall(request, timeout=20)).call


def state(wanted: int) -> Any:
    return lambda message: message.HasField("call") and message.call.state == wanted


def test_a_pause_of_a_siprec_call_ends_by_itself(tmp_path: Path) -> None:
    async def run() -> None:
        line = LINE.model_copy(update={"auto_resume_s": 1})
        async with a_house(tmp_path, line) as house, connected(house) as stub:
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
            watching = stub.WatchCalls(pb.WatchCallsRequest())
            acts = stub.WatchActs(pb.WatchActsRequest())
            paused = await pause(stub, call.call_id)
            assert paused.state == pb.CALL_STATE_PAUSED and taken.paused
            await read(watching, state(pb.CALL_STATE_PAUSED))
            await read(watching, state(pb.CALL_STATE_RECORDING))
            assert not taken.paused and taken.kinds == ["paused", "resumed"]
            resumed = taken.marks[-1]
            assert (resumed.actor, resumed.reason) == ("automatic", "after 1 s")
            assert resumed.at_ns - taken.marks[0].at_ns >= 1_000_000_000
            told = (await read(acts, lambda message: message.HasField("act"))).act
            assert (told.action, told.by, told.at_ns) == (
                pb.CALL_ACTION_RESUME,
                pb.ACT_BY_AUTOMATIC,
                resumed.at_ns,
            )
            assert (told.call_id, told.recording_id) == (call.call_id, taken.info.recording_id)
            await src.close()

    asyncio.run(run())


def test_a_pause_ends_by_itself_after_a_restart_of_signaling(tmp_path: Path) -> None:
    async def run() -> None:
        line = LINE.model_copy(update={"auto_resume_s": 2})
        async with a_house(tmp_path, line) as house:
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            async with connected(house) as stub:
                [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
                await pause(stub, call.call_id)
            due = next(iter(house.signaling.desk.legs)).call.resume_at
            await house.vanish()
            await house.again()
            [leg] = house.signaling.desk.legs
            assert leg.call.paused and leg.call.resume_at == due, "the time is that of the earlier life"
            await house.capture.until(lambda: "resumed" in taken.kinds)
            assert taken.marks[-1].actor == "automatic" and not taken.paused
            await src.close()

    asyncio.run(run())


def test_what_was_paused_when_signaling_died_is_paused_in_capture(tmp_path: Path) -> None:
    async def run() -> None:
        async with a_house(tmp_path) as house:
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            async with connected(house) as stub:
                [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
                await pause(stub, call.call_id)
            await house.vanish()
            taken.paused = False  # capture had resumed it, and we died before we could say so
            await house.again()
            await house.capture.until(lambda: taken.paused)
            assert (taken.marks[-1].kind.value, taken.marks[-1].actor) == ("paused", "reception")
            [shown] = house.signaling.board.listing()
            assert shown.state == pb.CALL_STATE_PAUSED
            await src.close()

    asyncio.run(run())


def test_a_line_that_says_nothing_leaves_a_pause_and_a_resume_by_hand_comes_first(tmp_path: Path) -> None:
    async def run() -> None:
        line = LINE.model_copy(update={"auto_resume_s": 3600})
        async with a_house(tmp_path, line) as house, connected(house) as stub:
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
            await pause(stub, call.call_id)
            [leg] = house.signaling.desk.legs
            assert leg.call.resume_at > 0
            await stub.ControlCall(
                pb.ControlCallRequest(call_id=call.call_id, action=pb.CALL_ACTION_RESUME, actor="me"),
                timeout=20,
            )
            assert leg.call.resume_at == 0
            leg.call.line = LINE
            await pause(stub, call.call_id)
            assert leg.call.paused and leg.call.resume_at == 0
            await src.close()

    asyncio.run(run())


def test_where_capture_is_away_the_pause_is_ended_once_it_is_back(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("appliance.media.signaling.control.PATIENCE_S", 0.5)
    monkeypatch.setattr("appliance.media.signaling.control.AGAIN_S", 0.5)

    async def run() -> None:
        line = LINE.model_copy(update={"auto_resume_s": 1})
        async with a_house(tmp_path, line) as house, connected(house) as stub:
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
            await pause(stub, call.call_id)
            await house.capture.crash()
            [leg] = house.signaling.desk.legs
            due = leg.call.resume_at
            async with asyncio.timeout(20):
                while leg.call.resume_at in (due, 0):
                    await asyncio.sleep(0.05)
            assert leg.call.paused and leg.call.paused_by == "reception", "nothing is kept meanwhile"
            await house.capture.start()
            await house.capture.until(lambda: not leg.call.paused)
            await src.close()

    asyncio.run(run())


# -- by keypad -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def talking(tmp_path: Path, **more: Any) -> Any:
    """An inline call that talks: the house, capture's session, a stub and the stream of acts."""
    async with Provider(realm=None) as desk, Provider(realm=None) as outside:
        rules = InlineRules(inbound=(Target(uri=desk.uri),))
        line = LINE.model_copy(update={"inline": rules, "reminder_s": 0, **more})
        async with a_house(tmp_path, line) as house, connected(house) as stub:
            host, port = house.address(next(iter(house.signaling.listeners)))
            outside.call(f"sip:01632960100@{host}:{port}")
            await outside.until(lambda: any(isinstance(one, Answered) for one in outside.events))
            taken = house.capture.history[0]
            yield house, taken, stub, stub.WatchActs(pb.WatchActsRequest())


async def key(house: House, taken: Taken, code: str) -> None:
    """The agent enters a code."""
    await house.capture.happens(
        capture_pb2.WatchMediaResponse(session_id=taken.request.session_id, track=1, at_ns=1, code=code)
    )


async def acts_of(stream: Any, count: int) -> list[pb.Act]:
    return [(await read(stream, lambda message: message.HasField("act"))).act for _ in range(count)]


def test_what_an_agent_keys_in_is_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path, rights=Rights.PAUSE) as (house, taken, stub, stream):
            told = []
            for code in ("*2", "*4", "*3"):
                await key(house, taken, code)
                told += await acts_of(stream, 1)
            assert [(one.action, one.refused) for one in told] == [
                (pb.CALL_ACTION_PAUSE, ""),
                (pb.CALL_ACTION_STOP, "no-right"),
                (pb.CALL_ACTION_RESUME, ""),
            ]
            [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
            assert {(one.call_id, one.tenant_id, one.line_id) for one in told} == {
                (call.call_id, LINE.tenant_id, LINE.line_id)
            }
            assert {one.recording_id for one in told} == {taken.info.recording_id}
            assert {one.by for one in told} == {pb.ACT_BY_AGENT}
            assert "01632960100" not in str(told), "who it was stands on the timeline"
            kinds = [(mark.kind.value, mark.actor) for mark in taken.marks]
            assert kinds == [(kind, "agent:01632960100") for kind in ("paused", "note", "resumed")]
            counters = house.signaling.child.status.counters()
            assert counters["keypad_pause"] == counters["keypad_end_refused"] == 1

    asyncio.run(run())


def test_a_pause_that_ends_by_itself_is_told_of_an_inline_call_too(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path, auto_resume_s=1) as (_, taken, stub, stream):
            [call] = (await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls
            await pause(stub, call.call_id)
            [told] = await acts_of(stream, 1)
            assert (told.action, told.by, told.refused) == (pb.CALL_ACTION_RESUME, pb.ACT_BY_AUTOMATIC, "")
            assert (taken.marks[-1].kind.value, taken.marks[-1].at_ns) == ("resumed", told.at_ns)

    asyncio.run(run())


def test_keys_pressed_for_ever_fill_no_log(tmp_path: Path) -> None:
    async def run() -> None:
        async with talking(tmp_path, rights=Rights.PAUSE) as (house, taken, _, stream):
            for _ in range(MAX_REFUSED_A_CALL + 5):
                await key(house, taken, "*4")
            await key(house, taken, "*2")
            told = await acts_of(stream, MAX_REFUSED_A_CALL + 1)
            assert {one.refused for one in told[:-1]} == {"no-right"}
            assert (told[-1].action, told[-1].refused) == (pb.CALL_ACTION_PAUSE, ""), (
                "what is done is told always"
            )
            assert house.signaling.child.status.counters()["refusals_not_told"] == 5

    asyncio.run(run())
