"""Long work as it is kept: what it is, how far it is, what it found.

Opaque ids and stable words, and a filter that may hold a number or a name: it is forgotten when the work ends.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.database import erasing
from appliance.catalog.errors import OperationLimitError, OperationNotFoundError
from appliance.catalog.tables import Id, Who, metadata

KEEP_NS: Final = 90 * 86400 * 10**9
MAX_RUNNING: Final = 20  # of one tenant, that have not ended

table = sa.Table(
    "operations",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),  # what was asked; empty once it ended
    sa.Column("cursor", sa.String(64), nullable=False),  # where it goes on; empty: at the beginning
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("creator", Who, nullable=False),
    sa.Column("cancelling", sa.Boolean, nullable=False),
    sa.Column("failure", sa.String(64), nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("update_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger),
    sa.Index("ix_operations_create_ns", "create_ns", "id"),
    sa.Index("ix_operations_state", "state", "create_ns"),
)


class State(enum.StrEnum):
    """Where an operation is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True)
class Operation:
    """A row. Times are nanoseconds since the Unix epoch."""

    id: str
    tenant_id: str
    kind: str
    state: State
    request: dict[str, Any]
    creator: str
    create_ns: int
    update_ns: int
    total: int
    done: int = 0
    cursor: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    cancelling: bool = False
    failure: str = ""
    end_ns: int | None = None


def add(connection: sa.Connection, operation: Operation) -> None:
    """Begin one; OperationLimitError."""
    mine = (table.c.tenant_id == operation.tenant_id, table.c.state == State.RUNNING.value)
    if int(connection.execute(sa.select(sa.func.count()).where(*mine)).scalar_one()) >= MAX_RUNNING:
        raise OperationLimitError("too much long work of this tenant waits", limit=MAX_RUNNING)
    connection.execute(sa.insert(table).values(**{**operation.__dict__, "state": operation.state.value}))


def get(connection: sa.Connection, operation_id: str, tenant_id: str | None = None) -> Operation:
    """One of this tenant, where one is given; OperationNotFoundError."""
    query = sa.select(table).where(table.c.id == operation_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise OperationNotFoundError("no such operation", operation=operation_id)
    return _operation(row)


def some(
    connection: sa.Connection, tenant_id: str | None, limit: int, after: tuple[int, str] | None
) -> list[Operation]:
    """Newest first, after that one."""
    query = sa.select(table).order_by(table.c.create_ns.desc(), table.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = paging.beyond(query, table.c.create_ns, table.c.id, after, newest_first=True)
    return [_operation(row) for row in connection.execute(query)]


def next_running(connection: sa.Connection, kind: str, waiting: Sequence[str] = ()) -> Operation | None:
    """The oldest of a kind that has not ended, of the tenant that had its turn the longest ago; none of `waiting`."""
    ended = table.alias()
    turn = (
        sa.select(sa.func.coalesce(sa.func.max(ended.c.end_ns), 0))
        .where(ended.c.tenant_id == table.c.tenant_id, ended.c.kind == kind)
        .scalar_subquery()
    )
    row = connection.execute(
        sa.select(table)
        .where(table.c.state == State.RUNNING.value, table.c.kind == kind, table.c.id.not_in(waiting))
        .order_by(turn, table.c.create_ns, table.c.id)
        .limit(1)
    ).first()
    return None if row is None else _operation(row)


def came_on(
    connection: sa.Connection, operation_id: str, cursor: str, done: int, result: dict[str, Any], now_ns: int
) -> bool:
    """Keep how far it is; gives whether it was asked to end."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == operation_id)
        .values(cursor=cursor, done=done, result=result, update_ns=now_ns)
    )
    return bool(connection.execute(sa.select(table.c.cancelling).where(table.c.id == operation_id)).scalar())


def end(connection: sa.Connection, operation_id: str, state: State, now_ns: int, failure: str = "") -> None:
    """It has ended, and what was asked is forgotten."""
    ended = connection.execute(
        sa.update(table)
        .where(table.c.id == operation_id, table.c.state == State.RUNNING.value)
        .values(state=state.value, failure=failure, end_ns=now_ns, update_ns=now_ns, request={}, cursor="")
    )
    if ended.rowcount:
        erasing(connection)  # of a filter, or why something was overridden


def cancel(connection: sa.Connection, operation_id: str) -> None:
    """It is to end with its next step."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == operation_id, table.c.state == State.RUNNING.value)
        .values(cancelling=True)
    )


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget what ended long ago; gives how many."""
    return connection.execute(sa.delete(table).where(table.c.end_ns < now_ns - KEEP_NS)).rowcount


def _operation(row: sa.Row[Any]) -> Operation:
    return Operation(**{**row._mapping, "state": State(row.state)})
