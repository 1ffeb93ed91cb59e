"""SignalingService: live calls, watching them, pausing, resuming, stopping; and sessions that make one call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from signaling_kit import MULTIPART, PATIENT, SURGERY, House, a_house, both, metadata, sdp, usual

from appliance.media.signaling import board
from appliance.media.signaling.errors import WatcherTooSlowError
from appliance.model import EarwitnessError, Role
from appliance.process import rpc
from earwitness.internal.v1 import signaling_pb2 as pb
from earwitness.internal.v1 import signaling_pb2_grpc


async def control(stub: Any, call_id: str, action: int, reason: str = "card") -> pb.LiveCall:
    request = pb.ControlCallRequest(call_id=call_id, action=action, actor="reception", reason=reason)  # type: ignore[arg-type]
    try:
        return (await stub.ControlCall(request, timeout=20)).call
    except grpc.RpcError as error:
        raise rpc.from_rpc_error(error) from error


async def live(stub: Any) -> list[pb.LiveCall]:
    return list((await stub.ListCalls(pb.ListCallsRequest(), timeout=20)).calls)


async def until(stream: Any, state: int) -> pb.LiveCall:
    async with asyncio.timeout(20):
        while True:
            message: pb.WatchCallsResponse = await stream.read()
            if message.HasField("call") and message.call.state == state:
                return message.call


def test_pause_resume_and_stop(tmp_path: Path) -> None:
    async def run() -> None:
        async with a_house(tmp_path) as house, rpc.aio_channel(house.settings.layout, "signaling") as channel:
            stub = signaling_pb2_grpc.SignalingServiceStub(channel)
            watching = stub.WatchCalls(pb.WatchCallsRequest())
            assert (await watching.read()).in_sync
            src = await house.src()
            session, _ = await src.invite(usual(), MULTIPART)
            taken = house.capture.history[0]
            call = await until(watching, pb.CALL_STATE_RECORDING)
            assert [(party.aor, party.role, party.track) for party in call.parties] == [
                (PATIENT, "caller", 0),
                (SURGERY, "agent", 1),
            ]
            assert list(call.recording_ids) == [taken.info.recording_id] and call.source == "siprec"

            paused = await control(stub, call.call_id, pb.CALL_ACTION_PAUSE)
            assert paused.state == pb.CALL_STATE_PAUSED and paused.detail == "reception" and taken.paused
            assert await control(stub, call.call_id, pb.CALL_ACTION_PAUSE) == paused
            resumed = await control(stub, call.call_id, pb.CALL_ACTION_RESUME)
            assert resumed.state == pb.CALL_STATE_RECORDING and not taken.paused
            assert await control(stub, call.call_id, pb.CALL_ACTION_RESUME) == resumed
            assert taken.kinds == ["paused", "resumed"]
            assert taken.marks[0].actor == "reception" and taken.marks[0].reason == "card"

            stopped = await control(stub, call.call_id, pb.CALL_ACTION_STOP, "asked to")
            assert stopped.state == pb.CALL_STATE_NOT_RECORDED and stopped.detail == "stopped by reception"
            assert await control(stub, call.call_id, pb.CALL_ACTION_STOP) == stopped
            assert taken.closed == "stopped" and taken.kinds[-1] == "stopped"
            with pytest.raises(EarwitnessError) as caught:
                await control(stub, call.call_id, pb.CALL_ACTION_PAUSE)
            assert caught.value.reason == "CALL_NOT_RECORDED"
            assert (await src.change(session, "INVITE", sdp("1", "2"), "application/sdp")).status == 200
            assert len(house.capture.history) == 1

            await src.bye(session)
            ended = await until(watching, pb.CALL_STATE_ENDED)
            assert ended.call_id == call.call_id and list(ended.recording_ids) == [taken.info.recording_id]
            assert not await live(stub)
            with pytest.raises(EarwitnessError) as caught:
                await control(stub, call.call_id, pb.CALL_ACTION_PAUSE)
            assert caught.value.reason == "CALL_NOT_FOUND"
            await src.close()

    asyncio.run(run())


def test_malformed_actions(tmp_path: Path) -> None:
    async def run() -> None:
        async with a_house(tmp_path) as house, rpc.aio_channel(house.settings.layout, "signaling") as channel:
            stub = signaling_pb2_grpc.SignalingServiceStub(channel)
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            call_id = (await live(stub))[0].call_id
            for action, reason in ((pb.CALL_ACTION_UNSPECIFIED, ""), (pb.CALL_ACTION_PAUSE, "x" * 2000)):
                with pytest.raises(EarwitnessError) as caught:
                    await control(stub, call_id, action, reason)
                assert caught.value.reason == "CALL_ACTION_INVALID"
            assert not house.capture.history[0].paused
            await src.close()

    asyncio.run(run())


def test_watcher_gets_what_is_there_then_changes(tmp_path: Path) -> None:
    async def run() -> None:
        async with a_house(tmp_path) as house, rpc.aio_channel(house.settings.layout, "signaling") as channel:
            stub = signaling_pb2_grpc.SignalingServiceStub(channel)
            src = await house.src()
            first, _ = await src.invite(usual("one-session"), MULTIPART)
            await src.invite(usual("two-session"), MULTIPART)
            stream = stub.WatchCalls(pb.WatchCallsRequest())
            there = [await stream.read() for _ in range(3)]
            assert [message.HasField("call") for message in there] == [True, True, False]
            assert [message.in_sync for message in there] == [False, False, True]
            assert there[0].call.started_ns <= there[1].call.started_ns
            await src.bye(first)
            ended = await until(stream, pb.CALL_STATE_ENDED)
            assert ended.call_id == there[0].call.call_id
            await src.close()

    asyncio.run(run())


def test_watcher_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(board, "MAX_UNTOLD", 2)

    async def run() -> None:
        async with a_house(tmp_path) as house:
            watching = house.signaling.board.watch()
            assert (await anext(watching)).in_sync
            src = await house.src()
            for number in range(3):
                await src.invite(usual(f"session-{number}"), MULTIPART)
            with pytest.raises(WatcherTooSlowError):
                await anext(watching)
            await src.close()

    asyncio.run(run())


# -- sessions of one call --------------------------------------------------------------------------------------------


def in_house(root: Path, scenario: Any) -> None:
    async def run() -> None:
        async with a_house(root) as house:
            await scenario(house)

    asyncio.run(run())


def test_redundant_recording_is_one_call_with_two_recordings(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        one, two = await house.src(), await house.src()
        await one.invite(usual(), MULTIPART)
        session, _ = await two.invite(usual(), MULTIPART)
        first, second = house.capture.history
        assert second.info.call_id == first.info.call_id
        assert f"duplicate-of:{first.info.recording_id}" in second.info.flags
        [call] = house.signaling.board.listing()
        assert list(call.recording_ids) == [first.info.recording_id, second.info.recording_id]
        assert len(call.parties) == 2
        # What is paused is paused in both.
        async with rpc.aio_channel(house.settings.layout, "signaling") as channel:
            await control(
                signaling_pb2_grpc.SignalingServiceStub(channel), call.call_id, pb.CALL_ACTION_PAUSE
            )
        assert first.paused and second.paused
        await two.bye(session)
        await house.capture.until(lambda: second.closed)
        assert not first.closed
        await house.signaling.desk.idle()
        assert [one.state for one in house.signaling.board.listing()] == [pb.CALL_STATE_PAUSED]
        await one.close()
        await two.close()

    in_house(tmp_path, scenario)


def test_near_and_far_end_make_one_call(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        ends = []
        for end in ("x-nearend", "x-farend"):
            from_ = (
                f"<sip:01632960100@127.0.0.1;{end};x-refci=24966420;x-nearenddevice=SEP1;"
                "x-nearendaddr=01632960100;x-farendrefci=24966421;x-farendaddr=07700900101>"
            )
            _, response = await src.invite(sdp("-"), "application/sdp", from_=from_)
            assert response.status == 200
            ends.append(house.capture.history[-1].info)
        near, far = ends
        assert near.call_id == far.call_id
        assert f"companion-of:{near.recording_id}" in far.flags
        assert near.parties[near.tracks[0].party].role is Role.AGENT
        assert far.parties[far.tracks[0].party].role is Role.CALLER
        assert near.parties[near.tracks[0].party].aor == "01632960100"
        assert far.parties[far.tracks[0].party].aor == "07700900101"
        [call] = house.signaling.board.listing()
        assert {party.aor for party in call.parties} == {"01632960100", "07700900101"}
        await src.close()

    in_house(tmp_path, scenario)


def test_new_invite_after_a_transfer_continues_the_call_and_its_stop(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        group = '<group group_id="Z3JvdXAtMQ=="/>'

        def body(session_id: str, other: str) -> bytes:
            return both(
                sdp("1", "2"),
                metadata({"a": (PATIENT, "1"), "b": (other, "2")}, session_id=session_id, more=group),
            )

        session, _ = await src.invite(body("session-a", SURGERY), MULTIPART)
        await src.bye(session)
        await house.signaling.desk.idle()
        session, _ = await src.invite(body("session-b", "sip:01632960100@other"), MULTIPART)
        first, second = house.capture.history
        assert second.info.call_id == first.info.call_id
        assert f"continues:{first.info.recording_id}" in second.info.flags
        async with rpc.aio_channel(house.settings.layout, "signaling") as channel:
            stub = signaling_pb2_grpc.SignalingServiceStub(channel)
            await control(stub, second.info.call_id, pb.CALL_ACTION_STOP)
        await src.bye(session)
        await house.signaling.desk.idle()
        _, response = await src.invite(body("session-c", SURGERY), MULTIPART)
        assert response.status == 200
        assert len(house.capture.history) == 2  # ending is final for that call
        await src.close()

    in_house(tmp_path, scenario)


def test_another_call_under_a_session_id_everybody_uses(tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        src = await house.src()
        await src.invite(usual(), MULTIPART)
        body = both(sdp("1", "2"), metadata({"a": ("sip:0999@x", "1"), "b": ("sip:0888@x", "2")}))
        _, response = await src.invite(body, MULTIPART, to="<sip:01632960100@x>")
        assert response.status == 200
        assert len({taken.info.call_id for taken in house.capture.history}) == 2
        await src.close()

    in_house(tmp_path, scenario)
