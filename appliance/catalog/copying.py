"""Rows of the tables that are in the general copy (`whence`), out of a catalogue and into a new one.

Columns go by their names, so that a copy of an older release is read by a newer one: a column that is gone is left out, one
that is new is empty. SQLite alone.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import grants, operations, state, tables
from appliance.catalog.granttables import grant_recordings
from appliance.catalog.granttables import grants as grant_rows
from appliance.catalog.whence import VALUES

SERIAL: Final = "copy-serial"
"""Of the copy that was made last, in the catalogue that it was made of."""
LOST: Final = "CATALOGUE_LOST"
"""Why work under way, and grants, ended."""
_BATCH: Final = 200
_EMPTY: Final[tuple[tuple[type[sa.types.TypeEngine[Any]], Any], ...]] = (
    (sa.Boolean, False),
    (sa.Integer, 0),  # big ones, too
    (sa.String, ""),
    (sa.LargeBinary, b""),
    (sa.JSON, []),
)
Row = Sequence[Any]
"""Values that JSON knows, in the order of the columns; bytes as base64."""


@dataclass(frozen=True)
class Loaded:
    """What became of a table: rows put in, rows left out as they do not fit, columns that nobody knows any more."""

    rows: int
    left_out: int
    unknown: tuple[str, ...] = ()


def columns(table: sa.Table) -> list[str]:
    """Names of its columns, in the order of `rows`."""
    return [column.name for column in table.columns]


def rows(connection: sa.Connection, table: sa.Table) -> Iterator[Row]:
    """Row by row: a table is never in memory as a whole."""
    # Most tables of a young catalogue are empty; the query for all columns takes longer to build than to run.
    if connection.exec_driver_sql(f'SELECT 1 FROM "{table.name}" LIMIT 1').first() is None:
        return
    binary = [n for n, column in enumerate(table.columns) if isinstance(column.type, sa.LargeBinary)]
    query = sa.select(table).order_by(*table.primary_key)
    if table is tables.values:
        query = query.where(table.c.name.in_(VALUES))
    # A document is as large as thousands of other rows.
    found = connection.execution_options(yield_per=1 if binary else _BATCH).execute(query)
    for row in found:
        made = list(row)
        for n in binary:
            made[n] = None if made[n] is None else base64.b64encode(made[n]).decode()
        yield made


def load(connection: sa.Connection, table: sa.Table, names: Sequence[str], some: Iterable[Row]) -> Loaded:
    """Put rows with these columns into a table of a new catalogue; what has the same key there gives way.

    A row that refers to one that is not there is left out. ValueError where rows are malformed.
    """
    unknown = tuple(name for name in names if name not in table.c)
    fresh = {
        column.name: _empty(column)
        for column in table.columns
        if column.name not in names and column.server_default is None
    }
    binary = {name for name in names if name in table.c and isinstance(table.c[name].type, sa.LargeBinary)}
    left_out = count = 0

    def made(row: Row) -> dict[str, Any]:
        values = dict(zip(names, row, strict=True))
        for name in binary:
            values[name] = None if values[name] is None else base64.b64decode(values[name], validate=True)
        for name in unknown:
            del values[name]
        return values | fresh

    insert = sa.insert(table).prefix_with("OR REPLACE")
    left = map(made, some)
    while batch := list(islice(left, 1 if binary else _BATCH)):
        try:
            with connection.begin_nested():
                connection.execute(insert, batch)
            count += len(batch)
        except sa.exc.IntegrityError:
            for one in batch:
                try:
                    with connection.begin_nested():
                        connection.execute(insert, one)
                    count += 1
                except sa.exc.IntegrityError:
                    left_out += 1
    return Loaded(count, left_out, unknown)


def settle(connection: sa.Connection, serial: int, now_ns: int) -> None:
    """After all is loaded: what must not go on as if nothing had been lost does not.

    Long work would run over recordings that are not there yet. A copy may be older than the revocation of a grant: each
    ends, what was read under it stays told.
    """
    connection.execute(
        sa.update(operations.table)
        .where(operations.table.c.state == operations.State.RUNNING.value)
        .values(
            state=operations.State.FAILED.value,
            failure=LOST,
            end_ns=now_ns,
            update_ns=now_ns,
            request={},
            cursor="",
        )
    )
    asked = sa.select(grant_rows.c.id).where(grant_rows.c.state == grants.Latched.REQUESTED.value)
    connection.execute(sa.delete(grant_recordings).where(grant_recordings.c.grant_id.in_(asked)))
    connection.execute(sa.delete(grant_rows).where(grant_rows.c.id.in_(asked)))
    connection.execute(
        sa.update(grant_rows)
        .where(grant_rows.c.state.in_([one.value for one in grants.OPEN]))
        .values(state=grants.Latched.REVOKED.value, end_reason=LOST, ended_ns=now_ns)
    )
    state.put_int(connection, SERIAL, serial)


def _empty(column: sa.Column[Any]) -> Any:
    """What a column has that the copy does not know."""
    if column.nullable:
        return None
    return next(value for kind, value in _EMPTY if isinstance(column.type, kind))
