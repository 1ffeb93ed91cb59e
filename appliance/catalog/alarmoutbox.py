"""What waits to be sent of alarms: put there in the transaction that changes the alarm, taken out when it was delivered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.alarms import life, schedule
from appliance.alarms.alarm import Alarm
from appliance.alarms.message import What
from appliance.alarms.severity import Severity
from appliance.catalog.alarmtables import alarm_channels as channels
from appliance.catalog.alarmtables import alarm_messages as table
from appliance.catalog.alarmtables import alarms
from appliance.model import new_id

CHANNEL_FAILING: Final = "AlarmChannelFailing"
_RANK: Final = sa.case({one.value: one.rank for one in Severity}, value=table.c.severity)


@dataclass(frozen=True)
class Waiting:
    """A message that waits. `recipients`: who is still to get it; empty: all."""

    id: str
    channel_id: str
    alarm_id: str
    what: What
    severity: Severity
    create_ns: int
    due_ns: int
    tries: int
    digest: bool
    recipients: tuple[str, ...]


def put(
    connection: sa.Connection, alarm: Alarm, what: What, now_ns: int, *, due_ns: int | None = None
) -> None:
    """For every channel that it is for, at most `schedule.MAX_WAITING` each: what matters least goes first.

    A channel is not told of its own failing.
    """
    rows = connection.execute(
        sa.select(channels).where(channels.c.enabled, channels.c.tenant_id.in_({"", alarm.tenant_id}))
    ).all()
    for row in rows:
        if alarm.kind == CHANNEL_FAILING and alarm.subject == row.id:
            continue
        if not schedule.is_for(what, alarm.severity, Severity(row.severity), mail=row.kind == "smtp"):
            continue
        if what is What.ESCALATED and _hurry(connection, row.id, alarm, now_ns):
            continue
        digest = row.digest_hour is not None and alarm.severity is Severity.NOTICE
        if digest:
            due = schedule.next_digest(now_ns, row.digest_hour)
        elif what is What.RAISED and alarm.severity is Severity.WARNING:
            due = now_ns + life.SETTLE_NS
        else:
            due = now_ns if due_ns is None else due_ns
        connection.execute(
            sa.insert(table).values(
                id=new_id(),
                channel_id=row.id,
                alarm_id=alarm.id,
                what=what.value,
                severity=alarm.severity.value,
                create_ns=now_ns,
                due_ns=due,
                tries=0,
                digest=digest,
                recipients=[],
            )
        )
        _bound(connection, row.id)


def _hurry(connection: sa.Connection, channel_id: str, alarm: Alarm, now_ns: int) -> bool:
    """What waits to say that it was raised says it now; False where that was said."""
    changed = connection.execute(
        sa.update(table)
        .where(
            table.c.channel_id == channel_id,
            table.c.alarm_id == alarm.id,
            table.c.what == What.RAISED.value,
            table.c.tries == 0,
            table.c.due_ns > now_ns,
        )
        .values(due_ns=now_ns, severity=alarm.severity.value, digest=False)
    )
    return changed.rowcount > 0


def came_back(connection: sa.Connection, alarm: Alarm) -> None:
    """That it is over was not so."""
    connection.execute(
        sa.delete(table).where(table.c.alarm_id == alarm.id, table.c.what == What.CLEARED.value)
    )


def due_channels(connection: sa.Connection, now_ns: int) -> tuple[set[str], int | None]:
    """Channels with something to send, and when there is something for the next of the others."""
    rows = connection.execute(
        sa.select(table.c.channel_id, sa.func.min(table.c.due_ns).label("due_ns")).group_by(
            table.c.channel_id
        )
    ).all()
    due = {row.channel_id for row in rows if row.due_ns <= now_ns}
    return due, min((row.due_ns for row in rows if row.due_ns > now_ns), default=None)


def due(connection: sa.Connection, channel_id: str, now_ns: int, limit: int) -> list[Waiting]:
    """What a channel is to send now, oldest first."""
    query = sa.select(table).where(table.c.channel_id == channel_id, table.c.due_ns <= now_ns)
    rows = connection.execute(query.order_by(table.c.due_ns, table.c.create_ns, table.c.id).limit(limit))
    return [_waiting(row) for row in rows]


def waiting(connection: sa.Connection, channel_ids: Collection[str]) -> dict[str, int]:
    """How many messages wait, by channel."""
    query = sa.select(table.c.channel_id, sa.func.count().label("number")).group_by(table.c.channel_id)
    rows = connection.execute(query.where(table.c.channel_id.in_(channel_ids)))
    return {row.channel_id: row.number for row in rows}


def remove(connection: sa.Connection, ids: Collection[str]) -> int:
    """They were delivered, or are given up; gives how many were still there."""
    return connection.execute(sa.delete(table).where(table.c.id.in_(ids))).rowcount


def postpone(
    connection: sa.Connection, one: Waiting, due_ns: int, recipients: Collection[str] | None = None
) -> None:
    """Try it again then; for these recipients alone, where some are named."""
    said: dict[str, Any] = {"due_ns": due_ns, "tries": one.tries + 1}
    if recipients is not None:
        said["recipients"] = list(recipients)
    connection.execute(sa.update(table).where(table.c.id == one.id).values(**said))


def hold_back(connection: sa.Connection, channel_id: str, now_ns: int, until_ns: int) -> None:
    """The channel is down: nothing of it goes out before then."""
    connection.execute(
        sa.update(table)
        .where(table.c.channel_id == channel_id, table.c.due_ns <= now_ns)
        .values(due_ns=until_ns)
    )


def release(connection: sa.Connection, channel_id: str, now_ns: int) -> None:
    """The channel was changed: what failed before is tried at once."""
    connection.execute(
        sa.update(table)
        .where(table.c.channel_id == channel_id, table.c.tries > 0, table.c.due_ns > now_ns)
        .values(due_ns=now_ns)
    )


def forget(connection: sa.Connection, channel_id: str) -> None:
    """All that waits for a channel goes."""
    connection.execute(sa.delete(table).where(table.c.channel_id == channel_id))


def _bound(connection: sa.Connection, channel_id: str) -> None:
    count = connection.execute(
        sa.select(sa.func.count()).select_from(table).where(table.c.channel_id == channel_id)
    ).scalar_one()
    excess = count - schedule.MAX_WAITING
    if excess <= 0:
        return
    least = (
        sa.select(table.c.id)
        .where(table.c.channel_id == channel_id)
        .order_by(_RANK, table.c.create_ns, table.c.id)
        .limit(excess)
    )
    ids = list(connection.execute(least).scalars())
    remove(connection, ids)
    connection.execute(
        sa.update(channels).where(channels.c.id == channel_id).values(dropped=channels.c.dropped + len(ids))
    )


def alarms_of(connection: sa.Connection, some: Collection[Waiting]) -> dict[str, sa.Row[Any]]:
    """The rows of the alarms that these messages are about, by id."""
    query = sa.select(alarms).where(alarms.c.id.in_({one.alarm_id for one in some}))
    return {row.id: row for row in connection.execute(query)}


def _waiting(row: sa.Row[Any]) -> Waiting:
    return Waiting(
        **{
            **row._mapping,
            "what": What(row.what),
            "severity": Severity(row.severity),
            "recipients": tuple(row.recipients),
        }
    )
