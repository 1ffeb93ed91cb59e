"""Small lasting values: cursors, keys of tokens, versions."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import values


def get(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(sa.select(values.c.value).where(values.c.name == name)).scalar()


def put(connection: sa.Connection, name: str, value: str) -> None:
    if connection.execute(sa.update(values).where(values.c.name == name).values(value=value)).rowcount == 0:
        connection.execute(sa.insert(values).values(name=name, value=value))


def get_int(connection: sa.Connection, name: str, default: int = 0) -> int:
    text = get(connection, name)
    return default if text is None else int(text)


def put_int(connection: sa.Connection, name: str, value: int) -> None:
    put(connection, name, str(value))
