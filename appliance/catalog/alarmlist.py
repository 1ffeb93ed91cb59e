"""Lists and counts of alarms: filters as SQL."""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import KINDS
from appliance.alarms.severity import Severity
from appliance.catalog import filters, paging, values
from appliance.catalog.alarms import alarm_of
from appliance.catalog.alarmtables import alarms as table
from appliance.catalog.filters import Comparison, Field

Clause = sa.ColumnElement[bool]


class State(enum.StrEnum):
    """Where an alarm is in its life."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"


class Scope(enum.StrEnum):
    """Whose alarm it is."""

    BOX = "box"
    TENANT = "tenant"


FIELDS: Final[Mapping[str, Field]] = {
    "state": Field(values.EQUAL, values.choice(State)),
    "severity": Field(values.ORDERED, values.choice(Severity)),
    "kind": Field(values.EQUAL, values.word),
    "subject": Field(values.EQUAL, values.word),
    "scope": Field(values.EQUAL, values.choice(Scope)),
    "raise_time": Field(values.ORDERED, values.time_ns),
    "clear_time": Field(values.ORDERED, values.time_ns),
}
_c = table.c
_RANK: Final = sa.case({one.value: one.rank for one in Severity}, value=_c.severity)
_STATES: Final[Mapping[State, Clause]] = {
    State.OPEN: sa.and_(_c.clear_ns.is_(None), _c.ack_ns.is_(None)),
    State.ACKNOWLEDGED: sa.and_(_c.clear_ns.is_(None), _c.ack_ns.is_not(None)),
    State.CLEARED: _c.clear_ns.is_not(None),
}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOUCHES: Final = frozenset(kind.name for kind in KINDS.values() if kind.touches_recording)


@dataclass(frozen=True)
class Counts:
    """How many alarms stand."""

    by_severity: Mapping[Severity, int]
    unacknowledged: int


def state_of(alarm: Alarm) -> State:
    """Where it is in its life."""
    if not alarm.open:
        return State.CLEARED
    return State.OPEN if alarm.ack_ns is None else State.ACKNOWLEDGED


def clause(text: str) -> Clause | None:
    """The WHERE clause of a filter; None for an empty one. FilterError."""
    node = filters.parse(text, FIELDS)
    if node is None:
        return None
    return filters.fold(node, _comparison, _not, lambda terms: sa.and_(*terms), lambda terms: sa.or_(*terms))


def some(
    connection: sa.Connection,
    tenant_id: str | None,
    where: Clause | None,
    limit: int,
    after: tuple[int, str] | None = None,
) -> list[Alarm]:
    """Of a tenant (None: of everybody and of the box), newest first, after that one."""
    query = sa.select(table).order_by(_c.raise_ns.desc(), _c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(_c.tenant_id == tenant_id)
    if where is not None:
        query = query.where(where)
    query = paging.beyond(query, _c.raise_ns, _c.id, after, newest_first=True)
    return [alarm_of(row) for row in connection.execute(query)]


def of_everybody(connection: sa.Connection) -> Counts:
    """All that stand, of the box and of tenants."""
    return _counts(connection, sa.true())


def of_tenants(connection: sa.Connection, tenant_id: str | None) -> Counts:
    """Those of a tenant that stand; None: of all tenants."""
    return _counts(connection, _c.tenant_id != "" if tenant_id is None else _c.tenant_id == tenant_id)


def of_box(connection: sa.Connection, *, all_of_them: bool) -> Counts:
    """Those of the box that stand: all, or those that touch what is recorded."""
    mine = _c.tenant_id == ""
    return _counts(connection, mine if all_of_them else sa.and_(mine, _c.kind.in_(_TOUCHES)))


def _counts(connection: sa.Connection, where: Clause) -> Counts:
    rows = connection.execute(
        sa.select(_c.severity, sa.func.count(), sa.func.count(_c.ack_ns))
        .where(_c.clear_ns.is_(None), where)
        .group_by(_c.severity)
    ).all()
    return Counts({Severity(row[0]): row[1] for row in rows}, sum(row[1] - row[2] for row in rows))


def _not(term: Clause) -> Clause:
    # What is unknown does not match, and NOT of it does.
    return sa.not_(sa.func.coalesce(term, sa.false()))


def _comparison(part: Comparison) -> Clause:
    value: Any = part.value
    found: Clause
    match part.field:
        case "state":
            found = _STATES[value]
            return found if part.operator == "=" else sa.not_(found)
        case "scope":
            found = (_c.tenant_id == "") if value == Scope.BOX else (_c.tenant_id != "")
            return found if part.operator == "=" else sa.not_(found)
        case "severity":
            found = _COMPARE[part.operator](_RANK, Severity(value).rank)
        case "raise_time" | "clear_time":
            column = _c.raise_ns if part.field == "raise_time" else _c.clear_ns
            found = _COMPARE[part.operator](column, value)
        case _:
            found = _COMPARE[part.operator](_c[part.field], value)
    return sa.func.coalesce(found, sa.false())
