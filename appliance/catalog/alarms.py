"""Alarms as they are kept: raised, acknowledged, cleared, and how long they stood.

All that changes one is a call here, within the transaction of whatever it is about. Rules are in `alarms.life`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from appliance.alarms import life
from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import kind_of
from appliance.alarms.severity import Severity
from appliance.catalog.alarmtables import alarm_messages
from appliance.catalog.alarmtables import alarms as table
from appliance.model import new_id

KEEP_NS: Final = 400 * 86400 * 10**9
MAX_DATA: Final = 16
MAX_VALUE: Final = 100
_PLAIN: Final = (str, int)


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
        return alarm.id
    connection.execute(
        sa.update(table)
        .where(table.c.id == before.id)
        .values(
            seen_ns=max(now_ns, before.seen_ns),
            count=before.count + 1,
            severity=life.worse(before.severity, weight).value,
            data=told or dict(before.data),
            clear_ns=None,
            stands=True,
        )
    )
    return before.id


def clear_alarm(connection: sa.Connection, kind: str, subject: str, now_ns: int) -> bool:
    """The cause is gone; gives whether an alarm was cleared by that. A kind that people clear stays open."""
    before = newest(connection, kind, subject)
    if before is None or not (before.open or before.stands):
        return False
    clears = before.open and not kind_of(kind).by_hand
    connection.execute(
        sa.update(table)
        .where(table.c.id == before.id)
        .values(stands=False, **({"clear_ns": max(now_ns, before.raise_ns)} if clears else {}))
    )
    return clears


def newest(connection: sa.Connection, kind: str, subject: str) -> Alarm | None:
    """The last alarm of this kind about this subject, open or not."""
    row = connection.execute(
        sa.select(table)
        .where(table.c.kind == kind, table.c.subject == subject)
        .order_by(table.c.raise_ns.desc(), table.c.id.desc())
        .limit(1)
    ).first()
    return None if row is None else alarm_of(row)


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


def _small(value: object) -> bool:
    return isinstance(value, _PLAIN) and (not isinstance(value, str) or len(value) <= MAX_VALUE)
