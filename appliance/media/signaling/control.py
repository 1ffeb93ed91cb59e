"""Pause, resume and stop of live calls, and their service (signaling.proto)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import structlog

from appliance.media.signaling.acts import Acts
from appliance.media.signaling.board import Board
from appliance.media.signaling.calls import Call, Leg
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.errors import ActionError, CallNotRecordedError, CaptureUnavailableError
from appliance.media.signaling.inline.live import LiveInline
from appliance.model import EarwitnessError, Mark, MarkKind
from earwitness.internal.v1 import signaling_pb2 as pb
from earwitness.internal.v1 import signaling_pb2_grpc

MAX_ACTOR = 256
MAX_REASON = 1024
PATIENCE_S = 8.0
RETRY_S = 0.5
AUTOMATIC = "automatic"
LOOK_S = 1.0  # for pauses that have lasted long enough
AGAIN_S = 5.0  # where capture did not confirm that one has ended

log = structlog.get_logger()


class Control:
    """Actions on a call hold for all its sessions, those to come included. Each may be asked for twice."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._resuming: set[str] = set()

    async def act(
        self, call_id: str, action: pb.CallAction.ValueType, actor: str, reason: str
    ) -> pb.LiveCall:
        """Does it, and gives the call as it is then.

        Raises CallNotFoundError, CallNotRecordedError, ActionError; CaptureUnavailableError where capture does not
        confirm it in time. Then a pause or an end holds as soon as capture is back, a paused call is paused still, and
        each may be asked for again.
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
        async with call.lock:
            try:
                await self._act(call, action, actor, reason)
            finally:
                message = self._desk.board.publish(call)
        return message

    # -- a pause that ends by itself ---------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Ends pauses of recorded sessions that have lasted as long as their line lets them. Until cancelled.

        Inline calls see to theirs by themselves.
        """
        while True:
            now = time.monotonic()
            for call in [one for one in self._desk.board.calls.values() if isinstance(one, Call)]:
                due = call.paused and 0 < call.resume_at <= now
                if due and call.call_id not in self._resuming:
                    self._resuming.add(call.call_id)
                    self._desk.spawn(self._resume(call, call.resume_at), "automatic resume")
            await asyncio.sleep(LOOK_S)

    async def _resume(self, call: Call, due: float) -> None:
        try:
            async with call.lock:
                if not call.paused or call.resume_at != due or not call.legs:
                    return  # somebody was quicker
                await self._act(call, pb.CALL_ACTION_RESUME, AUTOMATIC, f"after {call.line.auto_resume_s} s")
        except EarwitnessError as error:
            log.warning("pause not ended", call=call.call_id, reason=error.reason)
            call.resume_at = time.monotonic() + AGAIN_S
            return
        finally:
            self._resuming.discard(call.call_id)
        message = self._desk.board.publish(call)
        self._desk.acts.tell(message, pb.CALL_ACTION_RESUME, pb.ACT_BY_AUTOMATIC, call.keep_from_ns)

    # -- what is done ------------------------------------------------------------------------------------------------

    async def _act(self, call: Call, action: pb.CallAction.ValueType, actor: str, reason: str) -> None:
        recorded = [leg for leg in call.legs if not leg.withheld]
        if action == pb.CALL_ACTION_STOP and call.stopped and not recorded:
            return
        if not recorded or (call.stopped and action != pb.CALL_ACTION_STOP):
            raise CallNotRecordedError("the call is not being recorded", why=call.now_state()[1])
        now_ns = time.time_ns()
        if action == pb.CALL_ACTION_PAUSE:
            if not call.paused:
                # From here on: what opens while we ask opens paused. What cannot be confirmed is asked again.
                call.paused, call.paused_by = True, actor
                call.set_resume()
            await self._each(recorded, Mark(kind=MarkKind.PAUSED, at_ns=now_ns, actor=actor, reason=reason))
        elif action == pb.CALL_ACTION_RESUME:
            before = call.paused, call.paused_by, call.resume_at
            if call.paused:
                call.keep_from_ns = now_ns
            call.paused, call.paused_by, call.resume_at = False, "", 0.0
            try:
                await self._each(
                    recorded, Mark(kind=MarkKind.RESUMED, at_ns=now_ns, actor=actor, reason=reason)
                )
            except BaseException:  # also where who asked waits no longer
                call.paused, call.paused_by, call.resume_at = before
                raise
        elif action == pb.CALL_ACTION_STOP:
            if not call.stopped:
                call.stopped, call.stopped_by, call.resume_at = True, actor, 0.0
            mark = Mark(kind=MarkKind.STOPPED, at_ns=now_ns, actor=actor, reason=reason)
            for leg in recorded:
                await self._desk.stop(leg, mark)
        else:
            raise ActionError("no such action", field="action")

    async def _each(self, legs: list[Leg], mark: Mark) -> None:
        """Asks for each session that has not confirmed it."""
        paused = mark.kind is MarkKind.PAUSED
        asked = [leg for leg in legs if leg.paused_there is not paused]
        outcomes = await asyncio.gather(*(self._mark(leg, mark) for leg in asked), return_exceptions=True)
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

    def __init__(self, board: Board, control: Control, acts: Acts) -> None:
        self._board = board
        self._control = control
        self._acts = acts

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

    async def WatchActs(
        self, request: pb.WatchActsRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[pb.WatchActsResponse]:
        """See signaling.proto."""
        async for message in self._acts.watch(request.epoch, request.after):
            yield message
