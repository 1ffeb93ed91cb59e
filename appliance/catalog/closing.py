"""Closing a tenant or a line (terms 2 and 6): what was given notice of, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.catalog.among import among
from appliance.catalog.closingtables import closings as table
from appliance.catalog.errors import ClosingNotFoundError, ClosingStateError, TenantClosedError
from appliance.catalog.records import State
from appliance.model.routing import Closing, ServiceState

DAY_NS: Final = 86400 * 10**9
REMIND_DAYS: Final = (30, 14, 7, 3, 1)
_OVER: Final = (ServiceState.CLOSED, ServiceState.EMPTY)
_ORDER: Final = tuple(ServiceState)
_r = tables.recordings

Closings = Mapping[tuple[str, str], Closing]
"""By tenant and line; no line: the whole tenant."""


@dataclass(frozen=True)
class Kept:
    """What there still is of a tenant or a line; deleted recordings within their grace are among it."""

    recordings: int
    size: int  # bytes of sealed files
    newest_ns: int  # when the newest began; 0: there is none


def find(connection: sa.Connection, tenant_id: str, line_id: str = "") -> Closing | None:
    """The closing of just this; None where there is none."""
    row = connection.execute(
        sa.select(table).where(table.c.tenant_id == tenant_id, table.c.line_id == line_id)
    ).first()
    return None if row is None else of(row)


def of_tenants(connection: sa.Connection, tenant_ids: Iterable[str]) -> Closings:
    """All closings of these tenants and their lines."""
    query = sa.select(table).where(among(connection, table.c.tenant_id, list(tenant_ids)))
    return {(row.tenant_id, row.line_id): of(row) for row in connection.execute(query)}


def furthest(closings: Closings, tenant_id: str, line_id: str = "") -> Closing | None:
    """What says of a line or tenant where it is: its own closing or its tenant's, whichever is further on."""
    found = [closings[tenant_id, each] for each in {line_id, ""} if (tenant_id, each) in closings]
    return max(found, key=lambda one: (_ORDER.index(one.state), -one.notice_ns, one.line_id), default=None)


def governing(connection: sa.Connection, tenant_id: str, line_id: str = "") -> Closing | None:
    """`furthest`, of one tenant or line."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id, table.c.line_id.in_([line_id, ""]))
    found = {(tenant_id, row.line_id): of(row) for row in connection.execute(query)}
    return furthest(found, tenant_id, line_id)


def state_of(connection: sa.Connection, tenant_id: str, line_id: str = "") -> ServiceState:
    """Where a tenant or line is."""
    found = governing(connection, tenant_id, line_id)
    return ServiceState.ACTIVE if found is None else found.state


def every(connection: sa.Connection, tenant_id: str | None = None) -> list[Closing]:
    """All of a tenant and its lines, or of the box, by the date."""
    query = sa.select(table).order_by(table.c.notice_ns, table.c.tenant_id, table.c.line_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    return [of(row) for row in connection.execute(query)]


def some(
    connection: sa.Connection, tenant_id: str | None, limit: int, after: tuple[int, str, str] | None
) -> list[Closing]:
    """The same, a page: after the (notice_ns, tenant_id, line_id) of the last one before."""
    columns = (table.c.notice_ns, table.c.tenant_id, table.c.line_id)
    query = sa.select(table).order_by(*columns).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    if after is not None:
        there = sa.tuple_(
            sa.literal(after[0], sa.BigInteger),
            sa.literal(after[1], sa.String),
            sa.literal(after[2], sa.String),
        )
        query = query.where(sa.tuple_(*columns) > there)
    return [of(row) for row in connection.execute(query)]


def closed_lines(connection: sa.Connection) -> set[tuple[str, str]]:
    """(tenant, line) of what is closed; (tenant, "") stands for all lines of the tenant."""
    query = sa.select(table.c.tenant_id, table.c.line_id).where(
        table.c.state.in_([state.value for state in _OVER])
    )
    return {(row.tenant_id, row.line_id) for row in connection.execute(query)}


def refuse_closed(connection: sa.Connection, tenant_id: str) -> None:
    """TenantClosedError where a tenant gets no new line any more."""
    found = find(connection, tenant_id)
    if found is not None and found.state in _OVER:
        raise TenantClosedError("the tenant is closed", tenant=tenant_id)


def begin(connection: sa.Connection, closing: Closing) -> None:
    """Give notice; ClosingStateError where that, or more, was done already."""
    check_new(connection, closing.tenant_id, closing.line_id)
    put(connection, [closing])


def check_new(connection: sa.Connection, tenant_id: str, line_id: str) -> None:
    """What `begin` would refuse."""
    found = governing(connection, tenant_id, line_id)
    if found is not None and (found.line_id == line_id or found.state in _OVER):
        raise ClosingStateError("it is being closed already", state=found.state.value)


def put(connection: sa.Connection, some: Iterable[Closing]) -> None:
    """Write closings down as they are."""
    rows = [{**one.model_dump(), "state": one.state.value} for one in some]
    if rows:
        connection.execute(sa.insert(table), rows)


def update(connection: sa.Connection, closing: Closing) -> None:
    """It is further on."""
    connection.execute(
        sa.update(table)
        .where(table.c.tenant_id == closing.tenant_id, table.c.line_id == closing.line_id)
        .values(**{**closing.model_dump(), "state": closing.state.value})
    )


def take_back(
    connection: sa.Connection, tenant_id: str, line_id: str, allowed: Iterable[ServiceState]
) -> None:
    """As if notice had never been given. ClosingNotFoundError, ClosingStateError where it is in another state."""
    found = find(connection, tenant_id, line_id)
    if found is None:
        raise ClosingNotFoundError("it is not being closed")
    if found.state not in set(allowed):
        raise ClosingStateError("not in this state", state=found.state.value)
    connection.execute(sa.delete(table).where(table.c.tenant_id == tenant_id, table.c.line_id == line_id))


def kept(connection: sa.Connection, tenant_id: str, line_id: str = "") -> Kept:
    """What the catalogue knows of what is still there."""
    query = sa.select(sa.func.count(), sa.func.sum(_r.c.size), sa.func.max(_r.c.start_ns)).where(
        *_there(tenant_id, line_id)
    )
    count, size, newest = connection.execute(query).one()
    return Kept(int(count), int(size or 0), int(newest or 0))


def is_empty(connection: sa.Connection, tenant_id: str, line_id: str = "") -> bool:
    """Whether the catalogue knows of nothing any more. The vault is asked before that is believed."""
    return connection.execute(sa.select(_r.c.id).where(*_there(tenant_id, line_id)).limit(1)).first() is None


def _there(tenant_id: str, line_id: str) -> list[sa.ColumnElement[bool]]:
    tests = [_r.c.tenant_id == tenant_id, _r.c.state != State.ERASED.value]
    return [*tests, _r.c.line_id == line_id] if line_id else tests


def reminder_due(closing: Closing, now_ns: int) -> int:
    """How many days before the date a reminder is due now that was not given yet; 0: none.

    After a long stop one is given, not all that were missed.
    """
    if closing.state is not ServiceState.CLOSING:
        return 0
    left_ns = closing.notice_ns - now_ns
    due = [days for days in REMIND_DAYS if left_ns <= days * DAY_NS]
    soonest = min(due, default=0)
    return soonest if soonest and (not closing.reminded_days or soonest < closing.reminded_days) else 0


def of(row: sa.Row[Any]) -> Closing:
    """A row of the table."""
    return Closing.model_validate(dict(row._mapping))
