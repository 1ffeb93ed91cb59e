"""Rows in every table of the general copy, whatever its columns are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from appliance.catalog import state, tables, whence
from appliance.catalog.database import Database
from appliance.model import new_id

TENANT = new_id()
NAME = "Forgotten Persephone"


def add_tenant(connection: sa.Connection) -> None:
    connection.execute(
        sa.insert(tables.tenants).values(
            id=TENANT,
            display_name="Ward",
            public_key=b"k",
            create_ns=1,
            contact="",
            language="en",
            time_zone="Europe/London",
            unacknowledged_may_pause=False,
            unacknowledged_may_read=False,
            acknowledgement_years=6,
        )
    )


def _value(table: sa.Table, column: sa.Column[Any], n: int, made: dict[str, list[dict[str, Any]]]) -> Any:
    for key in column.foreign_keys:
        if key.column.table is tables.tenants:
            return TENANT
        return made[key.column.table.name][n][key.column.name]
    if column.nullable and n == 1:
        return None
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return n % 2 == 0
    if isinstance(kind, sa.Integer):
        return n + 1 if column.primary_key else 2**40 + n
    if isinstance(kind, sa.LargeBinary):
        return bytes([0, 255, n]) + column.name.encode()
    if isinstance(kind, sa.JSON):
        return {"ö": [n, None, True]} if n else []
    return f"{table.name} {column.name} {n} \u2603"[-(kind.length or 100) :]


def fill(database: Database, count: int = 3) -> None:
    """Some rows in each; those of a table differ, with what is empty among them."""
    made: dict[str, list[dict[str, Any]]] = {}
    with database.write() as connection:
        add_tenant(connection)
        for table in whence.copied():
            if table is tables.values:
                for name in whence.VALUES:
                    state.put(connection, name, f"value of {name}")
                continue
            rows = made[table.name] = []
            for n in range(count):
                rows.append({one.name: _value(table, one, n, made) for one in table.columns})
            connection.execute(sa.insert(table), rows)


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the copy; of lasting values those that it has."""
    found = {}
    with database.read() as connection:
        for table in whence.copied():
            query = sa.select(table).order_by(*table.primary_key)
            if table is tables.values:
                query = query.where(table.c.name.in_(whence.VALUES))
            found[table.name] = [tuple(row) for row in connection.execute(query)]
    return found
