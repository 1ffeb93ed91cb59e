"""Small lasting values: cursors, keys of tokens, versions."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from appliance.catalog.tables import values


def get(connection: sa.Connection, name: str) -> str | None:
    return connection.execute(sa.select(values.c.value).where(values.c.name == name)).scalar()


def put(connection: sa.Connection, name: str, value: str) -> None:
    if connection.execute(sa.update(values).where(values.c.name == name).values(value=value)).rowcount == 0:
        connection.execute(sa.insert(values).values(name=name, value=value))


def key(connection: sa.Connection, name: str, *, older: str = "") -> bytes:
    """A lasting key of 32 bytes, made at the first call (by a writing connection): that of `older`, if there is one."""
    text = get(connection, name)
    if text is None:
        text = (get(connection, older) if older else None) or secrets.token_hex(32)
        put(connection, name, text)
    return bytes.fromhex(text)


def get_int(connection: sa.Connection, name: str, default: int = 0) -> int:
    text = get(connection, name)
    return default if text is None else int(text)


def put_int(connection: sa.Connection, name: str, value: int) -> None:
    put(connection, name, str(value))
