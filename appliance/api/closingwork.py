"""What happens by itself where something closes: the step at the date, reminders before it, empty at the end."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.api import names
from appliance.api.exitpack import ExitPacks
from appliance.api.parts import Parts
from appliance.audit.trail import Trail
from appliance.catalog import alarms, closing, events, exitpacks, tenants
from appliance.catalog.events import Event, EventType
from appliance.model import EarwitnessError, Kind
from appliance.model.routing import Closing, ServiceState
from earwitness.internal.v1 import vault_pb2

log = structlog.get_logger()

LOOK_S: Final = 5.0
EMPTY_S: Final = 60.0  # how often it is looked whether something that is closed is empty
DUE: Final = "ClosingDue"


class ClosingWork:
    """See the module. `run` until cancelled."""

    def __init__(self, parts: Parts, trail: Trail, packs: ExitPacks) -> None:
        self._parts = parts
        self._trail = trail
        self._packs = packs
        self._emptied_s = float("-inf")
        self._unpublished = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
                await self._packs.tidy()
            except EarwitnessError as error:
                if error.kind is not Kind.UNAVAILABLE:
                    raise
                log.info("closings not looked after", reason=error.reason)  # its condition is raised
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One round of it."""
        now_ns = self._parts.clock_ns()
        found = await self._parts.store.read(closing.every)
        for one in found:
            if one.state is ServiceState.CLOSING and one.notice_ns <= now_ns:
                await self._step(one, ServiceState.CLOSED, EventType.SERVICE_CLOSED, close_ns=now_ns)
                self._unpublished = True
            elif days := closing.reminder_due(one, now_ns):
                await self._remind(one, days, now_ns)
        if self._unpublished:
            await self._parts.routing.publish()
            self._unpublished = False
        if time.monotonic() - self._emptied_s >= EMPTY_S:
            self._emptied_s = time.monotonic()
            await self._look_for_ends(found, now_ns)

    async def _look_for_ends(self, found: list[Closing], now_ns: int) -> None:
        over = [one for one in found if one.state in (ServiceState.CLOSED, ServiceState.EMPTY)]
        for one in over:
            empty = await self._is_empty(one)
            if empty and one.state is ServiceState.CLOSED and not await self._holds(one):
                await self._step(one, ServiceState.EMPTY, EventType.SERVICE_EMPTY, empty_ns=now_ns)
            elif not empty and one.state is ServiceState.EMPTY:
                # What had waited in the spool has been filed.
                await self._step(one, ServiceState.CLOSED, EventType.SERVICE_CLOSED, empty_ns=None)

    async def _is_empty(self, one: Closing) -> bool:
        return await self._parts.store.read(
            lambda connection: closing.is_empty(connection, one.tenant_id, one.line_id)
        )

    async def _holds(self, one: Closing) -> bool:
        """Whether the vault holds anything of it: the catalogue may be behind."""
        async for item in self._parts.vault.holdings():
            held = item.holding
            mine = held.tenant_id == one.tenant_id and one.line_id in ("", held.line_id)
            if mine and held.state != vault_pb2.HOLDING_STATE_ERASED:
                return True
        return False

    async def _step(self, one: Closing, state: ServiceState, kind: EventType, **more: int | None) -> None:
        moved = one.model_copy(update={"state": state, **more})
        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": "closing",
                "who": "",
                "tenant": one.tenant_id,
                "subject": name_of(one),
                "outcome": state.value,
            },
            durable=True,
        )

        def work(connection: sa.Connection) -> None:
            if closing.find(connection, one.tenant_id, one.line_id) != one:
                return  # taken back meanwhile
            closing.update(connection, moved)
            end_reminders(connection, one, self._parts.clock_ns())
            events.append(connection, event(kind, moved, self._parts.clock_ns()))
            tenants.changed(connection)

        await self._parts.store.write(work)
        log.info("closing", subject=name_of(one), state=state.value)

    async def _remind(self, one: Closing, days: int, now_ns: int) -> None:
        def work(connection: sa.Connection) -> None:
            if closing.find(connection, one.tenant_id, one.line_id) != one:
                return
            made = exitpacks.whole(connection, one.tenant_id, one.line_id, one.begin_ns)
            end_reminders(connection, one, now_ns)
            data: dict[str, str | int] = {"days": days, "exit_pack": made.id if made is not None else "none"}
            alarms.raise_alarm(connection, DUE, subject(one, days), one.tenant_id, now_ns, data)
            closing.update(connection, one.model_copy(update={"reminded_days": days}))

        await self._parts.store.write(work)


def subject(one: Closing, days: int) -> str:
    """Of the reminder so many days before; each is an alarm of its own, so that each goes out."""
    return f"{one.line_id or one.tenant_id}:{days}"


def end_reminders(connection: sa.Connection, one: Closing, now_ns: int) -> None:
    """The last reminder is over."""
    if one.reminded_days:
        alarms.clear_alarm(connection, DUE, subject(one, one.reminded_days), now_ns)


def name_of(one: Closing) -> str:
    """The resource name of what closes."""
    return names.line(one.tenant_id, one.line_id) or names.tenant(one.tenant_id)


def event(kind: EventType, one: Closing, at_ns: int) -> Event:
    """Something that happened to it, for the feed."""
    return Event(kind, at_ns, one.line_id or one.tenant_id, one.tenant_id, one.line_id, one.state.name)
