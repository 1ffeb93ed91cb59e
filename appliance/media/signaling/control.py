"""Pause, resume and stop of live calls, and their service (signaling.proto)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc

from appliance.media.signaling.board import Board
from appliance.media.signaling.calls import Call, Leg
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.errors import ActionError, CallNotRecordedError, CaptureUnavailableError
from appliance.media.signaling.inline.live import LiveInline
from appliance.model import Mark, MarkKind
from earwitness.internal.v1 import signaling_pb2 as pb
from earwitness.internal.v1 import signaling_pb2_grpc

MAX_ACTOR = 256
MAX_REASON = 1024
PATIENCE_S = 8.0
RETRY_S = 0.5


class Control:
    """Actions on a call hold for all its sessions, those to come included. Each may be asked for twice."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._locks: dict[str, asyncio.Lock] = {}

    async def act(
        self, call_id: str, action: pb.CallAction.ValueType, actor: str, reason: str
    ) -> pb.LiveCall:
        """Does it, and gives the call as it is then.

        Raises CallNotFoundError, CallNotRecordedError, ActionError; CaptureUnavailableError where capture does not
        confirm it in time: then it holds as soon as capture is back, and may be asked for again.
        """
        if len(actor) > MAX_ACTOR or len(reason) > MAX_REASON:
            raise ActionError(
                "actor or reason is too long", field="reason" if len(actor) <= MAX_ACTOR else "actor"
            )
        call = self._desk.board.call(call_id)
        if isinstance(call, LiveInline):
            await call.act(action, actor, reason)
            return self._desk.board.publish(call)
        assert isinstance(call, Call)
        lock = self._locks.setdefault(call_id, asyncio.Lock())
        try:
            async with lock:
                await self._act(call, action, actor, reason)
        finally:
            if not lock.locked():
                self._locks.pop(call_id, None)
        return self._desk.board.publish(call)

    async def _act(self, call: Call, action: pb.CallAction.ValueType, actor: str, reason: str) -> None:
        if action == pb.CALL_ACTION_STOP and call.stopped:
            return
        recorded = [leg for leg in call.legs if not leg.withheld]
        if not recorded or call.stopped:
            raise CallNotRecordedError("the call is not being recorded", why=call.now_state()[1])
        now_ns = time.time_ns()
        if action == pb.CALL_ACTION_PAUSE:
            if call.paused:
                return
            # From here on: what opens while we ask opens paused.
            call.paused, call.paused_by = True, actor
            await self._each(recorded, Mark(kind=MarkKind.PAUSED, at_ns=now_ns, actor=actor, reason=reason))
        elif action == pb.CALL_ACTION_RESUME:
            if not call.paused:
                return
            call.paused, call.paused_by = False, ""
            call.keep_from_ns = now_ns
            try:
                await self._each(
                    recorded, Mark(kind=MarkKind.RESUMED, at_ns=now_ns, actor=actor, reason=reason)
                )
            except CaptureUnavailableError:
                call.paused, call.paused_by = True, actor
                raise
        elif action == pb.CALL_ACTION_STOP:
            call.stopped, call.stopped_by = True, actor
            mark = Mark(kind=MarkKind.STOPPED, at_ns=now_ns, actor=actor, reason=reason)
            for leg in recorded:
                async with leg.lock:
                    leg.withheld = "stopped"
                    await self._desk.recordings.close(leg, "stopped", [mark], [], now_ns)
                    self._desk.watch.forget(leg)
        else:
            raise ActionError("no such action", field="action")

    async def _each(self, legs: list[Leg], mark: Mark) -> None:
        outcomes = await asyncio.gather(*(self._mark(leg, mark) for leg in legs), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _mark(self, leg: Leg, mark: Mark) -> None:
        """Until capture has confirmed it, the session has been opened again as the call is now, or it is over."""
        recordings = self._desk.recordings
        deadline = time.monotonic() + PATIENCE_S
        while True:
            async with leg.lock:
                if leg.over or not leg.open or leg.withheld:
                    return
                leg.resumed.clear()
                try:
                    if mark.kind is MarkKind.PAUSED:
                        await recordings.pause(leg, mark)
                    else:
                        await recordings.resume(leg, mark)
                    await recordings.remember(leg)
                    return
                except CaptureUnavailableError:
                    if time.monotonic() > deadline:
                        raise
            try:
                async with asyncio.timeout(RETRY_S):
                    await leg.resumed.wait()
            except TimeoutError:
                continue  # not back, or never gone: ask again
            return  # opened again by the keeper, as the call is by now


class SignalingServicer(signaling_pb2_grpc.SignalingServiceServicer):
    """See signaling.proto."""

    def __init__(self, board: Board, control: Control) -> None:
        self._board = board
        self._control = control

    async def ListCalls(
        self, request: pb.ListCallsRequest, context: grpc.ServicerContext
    ) -> pb.ListCallsResponse:
        """See signaling.proto."""
        return pb.ListCallsResponse(calls=self._board.listing())

    async def WatchCalls(
        self, request: pb.WatchCallsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.WatchCallsResponse]:
        """See signaling.proto."""
        async for message in self._board.watch():
            yield message

    async def ControlCall(
        self, request: pb.ControlCallRequest, context: grpc.ServicerContext
    ) -> pb.ControlCallResponse:
        """See signaling.proto."""
        call = await self._control.act(request.call_id, request.action, request.actor, request.reason)
        return pb.ControlCallResponse(call=call)
