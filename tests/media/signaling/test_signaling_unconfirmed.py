"""Pause, resume and stop whose confirmation does not come: asked again, by who asked and by ourselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from signaling_kit import MULTIPART, House, Taken, a_house, usual

from appliance.process import rpc
from earwitness.internal.v1 import signaling_pb2 as pb
from earwitness.internal.v1 import signaling_pb2_grpc

NEVER_S = 60.0  # between lists, where nothing is to be repaired by them
Ask = Callable[..., Awaitable[pb.LiveCall]]


def in_house(root: Path, scenario: Any, interval_s: float) -> None:
    async def run() -> None:
        async with (
            a_house(root, interval_s=interval_s) as house,
            rpc.aio_channel(house.settings.layout, "signaling") as channel,
        ):
            stub: Any = signaling_pb2_grpc.SignalingServiceStub(channel)
            src = await house.src()
            await src.invite(usual(), MULTIPART)
            [call] = house.signaling.board.listing()

            async def ask(action: int, timeout: float = 20.0) -> pb.LiveCall:
                request = pb.ControlCallRequest(call_id=call.call_id, action=action, actor="me")  # type: ignore[arg-type]
                told: pb.LiveCall = (await stub.ControlCall(request, timeout=timeout)).call
                return told

            await scenario(house, ask, house.capture.history[0])
            await src.close()

    asyncio.run(run())


async def given_up(house: House, ask: Ask, action: int, command: str) -> None:
    """Asks while capture does not do it, and waits no longer. What was given up stays where it is for good."""
    house.capture.stuck[command] = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(action, 0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert f"{command} stuck" in house.capture.calls
    [leg] = house.signaling.desk.legs
    async with leg.call.lock:  # the handler has ended too
        pass


def test_pause_that_was_not_confirmed_is_asked_again(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        await given_up(house, ask, pb.CALL_ACTION_PAUSE, "pause")
        assert [one.state for one in house.signaling.board.listing()] == [pb.CALL_STATE_PAUSED]
        del house.capture.stuck["pause"]
        assert (await ask(pb.CALL_ACTION_PAUSE)).state == pb.CALL_STATE_PAUSED
        assert taken.paused

    in_house(tmp_path, scenario, NEVER_S)


def test_pause_that_nobody_asks_again_holds_all_the_same(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        await given_up(house, ask, pb.CALL_ACTION_PAUSE, "pause")
        del house.capture.stuck["pause"]
        await house.capture.until(lambda: taken.paused)

    in_house(tmp_path, scenario, 0.05)


def test_resume_that_was_not_confirmed_leaves_the_call_paused_and_is_asked_again(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        await ask(pb.CALL_ACTION_PAUSE)
        await given_up(house, ask, pb.CALL_ACTION_RESUME, "resume")
        [shown] = house.signaling.board.listing()
        assert (shown.state, shown.detail) == (pb.CALL_STATE_PAUSED, "me") and taken.paused
        del house.capture.stuck["resume"]
        assert (await ask(pb.CALL_ACTION_RESUME)).state == pb.CALL_STATE_RECORDING
        assert not taken.paused

    in_house(tmp_path, scenario, NEVER_S)


def test_what_resumed_although_nobody_was_told_is_paused_again(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        await ask(pb.CALL_ACTION_PAUSE)
        taken.paused = False  # a resume that was given up was done late
        await house.capture.until(lambda: taken.paused)
        assert taken.kinds == ["paused", "paused"]

    in_house(tmp_path, scenario, 0.05)


def test_call_that_capture_has_paused_is_shown_so(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        taken.paused = True
        board = house.signaling.board
        await house.capture.until(lambda: board.listing()[0].state == pb.CALL_STATE_PAUSED)
        assert (await ask(pb.CALL_ACTION_RESUME)).state == pb.CALL_STATE_RECORDING
        assert not taken.paused

    in_house(tmp_path, scenario, 0.05)


def test_stop_that_waited_in_vain_for_a_session_is_asked_again(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        [leg] = house.signaling.desk.legs
        async with leg.lock:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(pb.CALL_ACTION_STOP, 0.3)
        assert not taken.closed
        assert (await ask(pb.CALL_ACTION_STOP)).state == pb.CALL_STATE_NOT_RECORDED
        assert taken.closed == "stopped"

    in_house(tmp_path, scenario, NEVER_S)


def test_stop_that_nobody_asks_again_is_done_all_the_same(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        [leg] = house.signaling.desk.legs
        async with leg.lock:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(pb.CALL_ACTION_STOP, 0.3)
        await house.capture.until(lambda: taken.closed)
        assert taken.closed == "stopped" and taken.marks[-1].actor == "me"

    in_house(tmp_path, scenario, 0.05)


def test_end_of_a_recording_that_was_lost_on_the_way_is_told_again(tmp_path: Path) -> None:
    async def scenario(house: House, ask: Ask, taken: Taken) -> None:
        await given_up(house, ask, pb.CALL_ACTION_STOP, "close")
        del house.capture.stuck["close"]
        await house.capture.until(lambda: taken.closed)
        assert taken.closed == "stopped" and taken.marks[-1].actor == "me"
        assert [one.state for one in house.signaling.board.listing()] == [pb.CALL_STATE_NOT_RECORDED]

    in_house(tmp_path, scenario, 0.05)
