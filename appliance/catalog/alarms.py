"""Alarms as they are kept: raised, acknowledged, cleared, and how long they stood.

All that changes one is a call here, within the transaction of whatever it is about; event and messages go with it. Rules
are in `alarms.life`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.alarms import life
from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import kind_of
from appliance.alarms.message import What
from appliance.alarms.severity import Severity
from appliance.catalog import alarmoutbox, events
from appliance.catalog.alarmtables import alarm_messages
from appliance.catalog.alarmtables import alarms as table
from appliance.catalog.errors import (
    AlarmClearedError,
    AlarmClearsItselfError,
    AlarmNotFoundError,
    EtagMismatchError,
)
from appliance.catalog.events import Event, EventType
from appliance.catalog.records import etag_of
from appliance.model import new_id

KEEP_NS: Final = 400 * 86400 * 10**9
MAX_DATA: Final = 16
MAX_VALUE: Final = 100


def raise_alarm(
    connection: sa.Connection,
    kind: str,
    subject: str,
    tenant_id: str,
    now_ns: int,
    data: Mapping[str, str | int] | None = None,
    *,
    severity: Severity | None = None,
) -> str:
    """Something is the matter; gives the alarm's id.

    An open alarm of the same kind and subject is counted again, and so is one that was cleared a few minutes ago by
    itself: it stands on then (`life.FLAP_NS`). `tenant_id`: empty for the box. `subject`, `data`: opaque ids, stable
    words and numbers alone. `severity`: where it is another than the kind's.
    """
    told = dict(data or {})
    if len(told) > MAX_DATA or len(subject) > MAX_VALUE or not all(map(_small, told.values())):
        raise ValueError(f"subject and data of an alarm are short ids and numbers: {kind}")
    weight = severity or kind_of(kind).severity
    before = newest(connection, kind, subject)
    if before is None or not life.goes_on(before.clear_ns, before.clear_by, now_ns):
        alarm = Alarm(new_id(), kind, weight, subject, tenant_id, now_ns, now_ns, data=told)
        connection.execute(sa.insert(table).values(**{**alarm.__dict__, "severity": weight.value}))
        _tell(connection, EventType.ALARM_RAISED, alarm, now_ns)
        alarmoutbox.put(connection, alarm, What.RAISED, now_ns)
        return alarm.id
    alarm = replace(
        before,
        seen_ns=max(now_ns, before.seen_ns),
        count=before.count + 1,
        severity=life.worse(before.severity, weight),
        data=told or before.data,
        clear_ns=None,
        stands=True,
    )
    _save(connection, alarm)
    worse = alarm.severity is not before.severity
    if not before.open:
        alarmoutbox.came_back(connection, alarm)
    if worse:
        alarmoutbox.put(connection, alarm, What.ESCALATED, now_ns)
    if worse or not before.open:
        _tell(connection, EventType.ALARM_RAISED, alarm, now_ns)
    return alarm.id


def clear_alarm(connection: sa.Connection, kind: str, subject: str, now_ns: int) -> bool:
    """The cause is gone; gives whether an alarm was cleared by that. A kind that people clear stays open."""
    before = newest(connection, kind, subject)
    if before is None or not (before.open or before.stands):
        return False
    if not before.open or kind_of(kind).by_hand:
        _save(connection, replace(before, stands=False))
        return False
    alarm = replace(before, stands=False, clear_ns=max(now_ns, before.raise_ns))
    _save(connection, alarm)
    _tell(connection, EventType.ALARM_CLEARED, alarm, now_ns)
    # Nobody is told before it is sure that it does not come back at once.
    alarmoutbox.put(connection, alarm, What.CLEARED, now_ns, due_ns=now_ns + life.FLAP_NS)
    return True


def check_open(alarm: Alarm) -> None:
    """AlarmClearedError where it is over."""
    if not alarm.open:
        raise AlarmClearedError("the alarm is over: there is nothing to look after", alarm=alarm.id)


def acknowledge(connection: sa.Connection, alarm: Alarm, who: str, note: str, now_ns: int) -> Alarm:
    """Somebody looks after it; AlarmClearedError where it is over."""
    check_open(alarm)
    made = replace(alarm, ack_ns=now_ns, ack_by=who, ack_note=note)
    _save(connection, made)
    _tell(connection, EventType.ALARM_ACKNOWLEDGED, made, now_ns)
    alarmoutbox.put(connection, made, What.ACKNOWLEDGED, now_ns)
    return made


def unacknowledge(connection: sa.Connection, alarm: Alarm, now_ns: int) -> Alarm:
    """Nobody looks after it any more."""
    if alarm.ack_ns is None:
        return alarm
    made = replace(alarm, ack_ns=None, ack_by="", ack_note="")
    _save(connection, made)
    _tell(connection, EventType.ALARM_ACKNOWLEDGED, made, now_ns)
    return made


def check_clearable(alarm: Alarm) -> None:
    """AlarmClearsItselfError where that is not for people."""
    if alarm.open and not kind_of(alarm.kind).by_hand:
        raise AlarmClearsItselfError("the alarm clears by itself when its cause is gone", kind=alarm.kind)


def clear_by_hand(connection: sa.Connection, alarm: Alarm, who: str, now_ns: int) -> Alarm:
    """Somebody says that it is over; AlarmClearsItselfError. A cause that goes on standing raises no other one."""
    check_clearable(alarm)
    if not alarm.open:
        return alarm
    made = replace(alarm, clear_ns=max(now_ns, alarm.raise_ns), clear_by=who)
    _save(connection, made)
    _tell(connection, EventType.ALARM_CLEARED, made, now_ns)
    alarmoutbox.put(connection, made, What.CLEARED, now_ns)
    return made


def newest(connection: sa.Connection, kind: str, subject: str) -> Alarm | None:
    """The last alarm of this kind about this subject, open or not."""
    row = connection.execute(
        sa.select(table)
        .where(table.c.kind == kind, table.c.subject == subject)
        .order_by(table.c.raise_ns.desc(), table.c.id.desc())
        .limit(1)
    ).first()
    return None if row is None else alarm_of(row)


def get(connection: sa.Connection, tenant_id: str | None, alarm_id: str, etag: str = "") -> Alarm:
    """One of a tenant (empty: of the box; None: of anybody); AlarmNotFoundError, EtagMismatchError."""
    query = sa.select(table).where(table.c.id == alarm_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise AlarmNotFoundError("no such alarm", alarm=alarm_id)
    found = alarm_of(row)
    if etag not in ("", etag_of_alarm(found)):
        raise EtagMismatchError("the alarm changed since", field="etag")
    return found


def etag_of_alarm(alarm: Alarm) -> str:
    """Changes with severity, acknowledgement and clearing, not with each count."""
    parts = (alarm.id, alarm.severity.value, alarm.ack_ns, alarm.ack_by, alarm.ack_note, alarm.clear_ns)
    return etag_of(repr(parts))


def stood(connection: sa.Connection, tenant_id: str, from_ns: int, until_ns: int) -> list[Alarm]:
    """All of a tenant (empty: of the box) that stood in that span, the end not counted, in the order they were raised.

    An alarm stands from `raise_ns` to `clear_ns`, which is None while it does.
    """
    ended = sa.or_(table.c.clear_ns.is_(None), table.c.clear_ns > from_ns)
    query = sa.select(table).where(table.c.tenant_id == tenant_id, table.c.raise_ns < until_ns, ended)
    return [alarm_of(row) for row in connection.execute(query.order_by(table.c.raise_ns, table.c.id))]


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget what was cleared long ago; gives how many."""
    old = sa.select(table.c.id).where(table.c.clear_ns < now_ns - KEEP_NS)
    connection.execute(sa.delete(alarm_messages).where(alarm_messages.c.alarm_id.in_(old)))
    return connection.execute(sa.delete(table).where(table.c.clear_ns < now_ns - KEEP_NS)).rowcount


def alarm_of(row: sa.Row[Any]) -> Alarm:
    """A row of the table of alarms."""
    return Alarm(**{**row._mapping, "severity": Severity(row.severity)})


def _save(connection: sa.Connection, alarm: Alarm) -> None:
    said = {**alarm.__dict__, "severity": alarm.severity.value, "data": dict(alarm.data)}
    connection.execute(sa.update(table).where(table.c.id == alarm.id).values(**said))


def _tell(connection: sa.Connection, kind: EventType, alarm: Alarm, at_ns: int) -> None:
    event = Event(
        kind,
        at_ns,
        alarm.id,
        tenant_id=alarm.tenant_id,
        state=alarm.kind,
        message=f"{kind_of(alarm.kind).title}.",
    )
    events.append(connection, event)


def _small(value: object) -> bool:
    return isinstance(value, str | int) and (not isinstance(value, str) or len(value) <= MAX_VALUE)
