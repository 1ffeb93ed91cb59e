"""The live calls, as signaling tells them; each change becomes an event."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import grpc
import grpc.aio
import structlog

from appliance.api import convert
from appliance.api.errors import CallNotFoundError, SignalingUnavailableError
from appliance.api.store import Signal, Store
from appliance.catalog import told
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.told import Told
from appliance.config.layout import Layout
from appliance.model import EarwitnessError, Kind
from appliance.process import rpc
from appliance.process.status import ALARM, Status
from earwitness.internal.v1 import signaling_pb2, signaling_pb2_grpc

log = structlog.get_logger()

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MOST_S: Final = 2.0
DOWN: Final = "SignalingUnreachable"
AWAY_S: Final = 3.0
"""How long before that is said: where the box stops in order, signaling goes a moment before control."""
_CONTROL_S: Final = 15.0


class Board:
    """What is live now. `changed` is notified with each change, also when signaling goes or comes."""

    def __init__(self, layout: Layout, store: Store, status: Status) -> None:
        self._channel = rpc.aio_channel(layout, "signaling")
        self._stub: signaling_pb2_grpc.SignalingServiceAsyncStub = signaling_pb2_grpc.SignalingServiceStub(
            self._channel
        )
        self._store = store
        self._status = status
        self._calls: dict[str, signaling_pb2.LiveCall] = {}
        self.in_sync = False
        self.changed = Signal()

    def calls(self) -> list[signaling_pb2.LiveCall]:
        """All live calls, oldest first; SignalingUnavailableError while that is not known."""
        if not self.in_sync:
            raise SignalingUnavailableError("signaling does not answer; which calls are live is not known")
        return sorted(self._calls.values(), key=lambda call: (call.started_ns, call.call_id))

    def call(self, tenant_id: str | None, call_id: str) -> signaling_pb2.LiveCall:
        """CallNotFoundError, SignalingUnavailableError."""
        for call in self.calls():
            if call.call_id == call_id and tenant_id in (None, call.tenant_id):
                return call
        raise CallNotFoundError("no such live call", call=call_id)

    def latest(self, call: signaling_pb2.LiveCall) -> signaling_pb2.LiveCall:
        """A call as it is now, or as it was when it was last seen."""
        return self._calls.get(call.call_id, call)

    async def control(
        self, call_id: str, action: signaling_pb2.CallAction.ValueType, actor: str, reason: str
    ) -> signaling_pb2.LiveCall:
        """Pause, resume or stop."""
        request = signaling_pb2.ControlCallRequest(call_id=call_id, action=action, actor=actor, reason=reason)
        try:
            call = (await self._stub.ControlCall(request, timeout=_CONTROL_S)).call
        except grpc.RpcError as error:
            raise _signaling_error(error) from error
        if call_id in self._calls:  # else it ended meanwhile, and must not come back to life here
            await self._take(call)
        return call

    async def run(self) -> None:
        """Until cancelled."""
        delay, away_since = BACKOFF_FIRST_S, time.monotonic()
        while True:
            try:
                await self._follow()
            except grpc.RpcError as error:
                log.info("signaling not followed", reason=_signaling_error(error).reason)
            except CatalogueUnavailableError as error:
                # What was not told is told when the list comes anew.
                log.info("calls not told", reason=error.reason)
                self.in_sync, away_since = False, time.monotonic()  # signaling is there
                await asyncio.sleep(BACKOFF_MOST_S)
                continue
            if self.in_sync:
                away_since = time.monotonic()
            delay = BACKOFF_FIRST_S if self.in_sync else min(2 * delay, BACKOFF_MOST_S)
            self.in_sync = False
            self.changed.notify()
            if time.monotonic() - away_since >= AWAY_S:
                self._status.raise_condition(
                    DOWN,
                    ALARM,
                    "Signaling does not answer: calls cannot begin, and live calls are not shown.",
                )
            await asyncio.sleep(delay)

    async def _follow(self) -> None:
        fresh: dict[str, signaling_pb2.LiveCall] | None = {}
        stream = self._stub.WatchCalls(signaling_pb2.WatchCallsRequest())
        try:
            async for message in stream:
                if fresh is None:
                    if message.HasField("call"):
                        await self._take(message.call)
                    continue
                if message.HasField("call"):
                    fresh[message.call.call_id] = message.call
                if message.in_sync:
                    await self._replace(fresh)
                    fresh = None
        finally:
            stream.cancel()

    async def _replace(self, fresh: dict[str, signaling_pb2.LiveCall]) -> None:
        before = self._calls
        alive = {
            call_id: call for call_id, call in fresh.items() if call.state != signaling_pb2.CALL_STATE_ENDED
        }
        now_ns = time.time_ns()
        await self._store.write(
            lambda connection: (
                told.calls_gone(connection, alive, now_ns),
                [
                    told.call(connection, _told(call), call_id in before and before[call_id] != call, now_ns)
                    for call_id, call in alive.items()
                ],
            )
        )
        self._calls = alive
        self.in_sync = True
        self._status.clear_condition(DOWN)
        self._status.gauge("live_calls", len(alive))
        self.changed.notify()

    async def _take(self, call: signaling_pb2.LiveCall) -> None:
        before = self._calls.get(call.call_id)
        if before == call:
            return
        now_ns = time.time_ns()
        await self._store.write(
            lambda connection: told.call(connection, _told(call), before is not None, now_ns)
        )
        if call.state == signaling_pb2.CALL_STATE_ENDED:
            self._calls.pop(call.call_id, None)
        else:
            self._calls[call.call_id] = call
        self._status.gauge("live_calls", len(self._calls))
        self.changed.notify()

    async def close(self) -> None:
        await self._channel.close(None)


def _told(call: signaling_pb2.LiveCall) -> Told:
    return Told(call.call_id, call.tenant_id, call.line_id, convert.call_state(call))


def _signaling_error(error: grpc.RpcError) -> EarwitnessError:
    found = rpc.from_rpc_error(error)
    if found.kind is Kind.UNAVAILABLE and found.reason in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        return SignalingUnavailableError("signaling does not answer; which calls are live is not known")
    return found
