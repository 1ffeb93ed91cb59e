"""What is done about notices as time goes: versions come into force, reminders go out, who left long ago is forgotten."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.api.parts import Parts
from appliance.audit.trail import Trail
from appliance.catalog import (
    acknowledgements,
    alarmchannels,
    alarms,
    noticelinks,
    noticemails,
    notices,
    staff,
)
from appliance.model.staff import InForce, StaffMember, reminder_due

OUTSTANDING: Final = "NoticesOutstanding"


@dataclass(frozen=True)
class Reminder:
    """What is to be said of one tenant now: to whom, of which notices, and after how many days."""

    tenant_id: str
    people: tuple[tuple[StaffMember, tuple[InForce, ...]], ...]
    due: tuple[tuple[InForce, int], ...]


def due(connection: sa.Connection, now_ns: int) -> list[Reminder]:
    """Reminders that are to go out, each tenant's once."""
    found = []
    for tenant_id in notices.tenants_with(connection):
        some = notices.in_force(connection, tenant_id, now_ns)
        if not some:
            continue
        late = [
            (one, days)
            for one in some
            if (
                days := reminder_due(
                    one.since_ns, now_ns, notices.reminded(connection, one.notice.notice_id, one.needed)
                )
            )
        ]
        if not late:
            continue
        ids = {one.notice.notice_id for one, _ in late}
        people = []
        for member, wanted in acknowledgements.missing(connection, tenant_id, now_ns):
            theirs = tuple(one for one in wanted if one.notice.notice_id in ids)
            if theirs:
                people.append((member, theirs))
        found.append(Reminder(tenant_id, tuple(people), tuple(late)))
    return found


class NoticeRound:
    """See the module."""

    def __init__(self, parts: Parts, trail: Trail) -> None:
        self._parts = parts
        self._trail = trail
        self._prune_ns = 0

    async def look(self) -> float:
        """One round; gives after how many seconds the next version comes into force, at most 30."""
        parts, now_ns = self._parts, self._parts.clock_ns()
        await self._forget(now_ns)
        some = await parts.store.read(lambda connection: due(connection, now_ns))
        for one in some:
            await self._remind(one, now_ns)
        await self._clear(now_ns)
        await parts.routing.publish()  # who is barred may be others by now
        ahead = await parts.store.read(lambda connection: notices.next_change(connection, now_ns))
        return 30.0 if ahead is None else max(0.05, min(30.0, (ahead - now_ns) / 1e9))

    async def _forget(self, now_ns: int) -> None:
        gone = await self._parts.store.read(lambda connection: staff.to_forget(connection, now_ns))
        for tenant_id, ids in gone.items():
            await self._trail.append(
                {
                    "time_ns": time.time_ns(),
                    "what": "staff-forgotten",
                    "tenant": tenant_id,
                    "count": len(ids),
                },
                durable=True,
            )

        def work(connection: sa.Connection) -> None:
            for ids in gone.values():
                staff.forget(connection, ids)
            noticelinks.prune(connection, now_ns)

        if gone or now_ns >= self._prune_ns:
            self._prune_ns = now_ns + 3600 * 10**9
            await self._parts.store.write(work)

    async def _remind(self, reminder: Reminder, now_ns: int) -> None:
        """The alarm, and mails that wait, in the transaction that notes that it was said: all of it once, or not yet."""

        def work(connection: sa.Connection) -> None:
            if reminder.people:
                alarms.raise_alarm(
                    connection,
                    OUTSTANDING,
                    reminder.tenant_id,
                    reminder.tenant_id,
                    now_ns,
                    {
                        "people": len(reminder.people),
                        "notices": len(reminder.due),
                        "days": max(days for _, days in reminder.due),
                    },
                )
                if alarmchannels.mail_of(connection, reminder.tenant_id) is not None:
                    noticemails.put(connection, [member for member, _ in reminder.people], now_ns)
            for one, days in reminder.due:
                notices.remind(connection, one.notice.notice_id, one.needed, days)

        await self._parts.store.write(work)

    async def _clear(self, now_ns: int) -> None:
        """The alarm goes where nobody is left who has something outstanding."""

        def look(connection: sa.Connection) -> list[str]:
            return [
                one for one in alarms_of(connection) if not acknowledgements.missing(connection, one, now_ns)
            ]

        over = await self._parts.store.read(look)
        if over:
            await self._parts.store.write(
                lambda connection: [alarms.clear_alarm(connection, OUTSTANDING, one, now_ns) for one in over]
            )


def alarms_of(connection: sa.Connection) -> list[str]:
    """Tenants whose alarm of this kind is open."""
    table = alarms.table
    query = sa.select(table.c.subject).where(table.c.kind == OUTSTANDING, table.c.clear_ns.is_(None))
    return [row.subject for row in connection.execute(query)]
