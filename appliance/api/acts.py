"""Writes what was done to recordings by keypad, or by the clock, into the audit file and the events feed.

Audit first, as always; then event and position in one transaction. A crash between the two leaves an act in the audit
file that has no event yet: it is recognised there, and is not written again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import grpc
import grpc.aio
import sqlalchemy as sa
import structlog

from appliance.api import names
from appliance.api.store import Store
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog import events, state
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.events import Event, EventType
from appliance.config.layout import Layout
from appliance.process import rpc
from appliance.process.status import Status
from earwitness.internal.v1 import signaling_pb2 as pb
from earwitness.internal.v1 import signaling_pb2_grpc

log = structlog.get_logger()

POSITION: Final = "acts-position"
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MOST_S: Final = 2.0
TAIL: Final = 1 << 20  # bytes of the audit file that are looked through at the start
ACT, LOST = "act", "acts-lost"
_WHO: Final = {pb.ACT_BY_AGENT: "agent", pb.ACT_BY_AUTOMATIC: "automatic"}
_WHY: Final = {
    "no-right": "the agent has no right to",
    "not-recorded": "the call is not being recorded",
    "notice-not-acknowledged": "the agent has not acknowledged a notice that is required",
}


class Acts:
    """Follows signaling's acts. Board says where signaling does not answer."""

    def __init__(self, layout: Layout, store: Store, trail: Trail, status: Status) -> None:
        self._channel = rpc.aio_channel(layout, "signaling")
        self._stub: signaling_pb2_grpc.SignalingServiceAsyncStub = signaling_pb2_grpc.SignalingServiceStub(
            self._channel
        )
        self._store = store
        self._trail = trail
        self._status = status
        # Written down, while their events may not be; None until the audit file was looked through.
        self._audited: set[str] | None = None
        self._heard = False

    async def run(self) -> None:
        """Until cancelled."""
        delay = BACKOFF_FIRST_S
        while True:
            self._heard = False
            try:
                await self._follow()
            except grpc.RpcError as error:
                log.info("acts not followed", reason=rpc.from_rpc_error(error).reason)
            except (AuditUnavailableError, CatalogueUnavailableError) as error:
                # Signaling keeps it meanwhile; it is asked for again.
                log.warning("act not written down", reason=error.reason, again_in_s=delay)
            delay = BACKOFF_FIRST_S if self._heard else min(2 * delay, BACKOFF_MOST_S)
            await asyncio.sleep(delay)

    async def _follow(self) -> None:
        if self._audited is None:
            self._audited = await asyncio.to_thread(self._in_audit)
        known = await self._store.read(lambda connection: state.get(connection, POSITION))
        epoch, serial = _position(known)
        stream = self._stub.WatchActs(pb.WatchActsRequest(epoch=epoch, after=serial))
        try:
            async for message in stream:
                if message.epoch != epoch:
                    epoch, serial = message.epoch, 0
                if not message.HasField("act"):
                    continue
                if message.act.serial > serial + 1:
                    await self._lost(epoch, serial + 1, message.act.serial - 1)
                await self._take(epoch, message.act)
                serial = message.act.serial
                self._heard = True
        finally:
            stream.cancel()

    def _in_audit(self) -> set[str]:
        """Which acts the newest part of the audit file has."""
        found = self._trail.tail(TAIL)
        return {str(record.get("request")) for record in found if record.get("what") in (ACT, LOST)}

    async def _lost(self, epoch: str, first: int, last: int) -> None:
        """Signaling has forgotten some before they were asked for: that is said, as nothing else can be."""
        log.error("acts forgotten before they were written down", count=last - first + 1)
        self._status.count("acts_lost", last - first + 1)
        await self._audit(f"{epoch}/{first}-{last}", {"what": LOST, "count": last - first + 1})

    async def _take(self, epoch: str, act: pb.Act) -> None:
        key = f"{epoch}/{act.serial}"
        action = pb.CallAction.Name(act.action).removeprefix("CALL_ACTION_")
        await self._audit(
            key,
            {
                "what": ACT,
                "who": _WHO.get(act.by, ""),
                "tenant": act.tenant_id,
                "action": action,
                "subject": names.call(act.tenant_id, act.call_id),
                "line": names.line(act.tenant_id, act.line_id),
                "recording": names.recording(act.tenant_id, act.recording_id) if act.recording_id else "",
                "asked_ns": act.at_ns,
                "outcome": act.refused.upper().replace("-", "_") or "OK",
            },
        )

        def work(connection: sa.Connection) -> None:
            events.append(
                connection,
                Event(
                    EventType.CALL_ACTION,
                    act.at_ns,
                    act.call_id,
                    tenant_id=act.tenant_id,
                    line_id=act.line_id,
                    state=action,
                    message=_sentence(act),
                ),
            )
            state.put(connection, POSITION, f"{epoch} {act.serial}")

        await self._store.write(work)
        self._status.count("acts_written_down")
        assert self._audited is not None
        self._audited.discard(key)

    async def _audit(self, key: str, record: dict[str, object]) -> None:
        """On disk before this returns. Once: also where it is asked for again, as its event could not be written."""
        assert self._audited is not None
        if key not in self._audited:
            full = {"time_ns": time.time_ns(), "request": key, **record}
            await self._trail.append(full, durable=True)
            self._audited.add(key)

    async def close(self) -> None:
        await self._channel.close(None)


def _position(text: str | None) -> tuple[str, int]:
    epoch, _, serial = (text or "").partition(" ")
    return epoch, int(serial or 0)


def _sentence(act: pb.Act) -> str:
    if act.by == pb.ACT_BY_AUTOMATIC:
        return "The pause ended by itself."
    if not act.refused:
        return "Asked by keypad."
    return f"Asked by keypad, and refused: {_WHY.get(act.refused, act.refused)}."
