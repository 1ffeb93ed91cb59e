"""Request ids: a change asked for twice happens once."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from appliance.catalog.errors import RequestIdReusedError
from appliance.catalog.tables import requests as table
from appliance.model import InvalidError

KEEP_NS: Final = 86400 * 10**9
_FORM = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def check_form(request_id: str) -> None:
    """InvalidError where it does not have the form of a request id."""
    if not _FORM.fullmatch(request_id):
        raise InvalidError("should be 1 to 64 letters, digits, dots, colons, dashes", field="request_id")


def find(connection: sa.Connection, identity: str, request_id: str, digest: str, now_ns: int) -> str | None:
    """Id of what the request was about where it was done before; None: it was not. RequestIdReusedError."""
    row = connection.execute(
        sa.select(table.c.digest, table.c.subject).where(
            table.c.identity == identity,
            table.c.request_id == request_id,
            table.c.at_ns > now_ns - KEEP_NS,
        )
    ).first()
    if row is None:
        return None
    if row.digest != digest:
        raise RequestIdReusedError("the request_id was used with another request", field="request_id")
    return str(row.subject)


def note(
    connection: sa.Connection, identity: str, request_id: str, digest: str, subject: str, now_ns: int
) -> None:
    """The request was done."""
    mine = (table.c.identity == identity, table.c.request_id == request_id)
    connection.execute(sa.delete(table).where(*mine))  # one that is too old to count
    connection.execute(
        sa.insert(table).values(
            identity=identity, request_id=request_id, digest=digest, subject=subject, at_ns=now_ns
        )
    )


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget what is too old to count; gives how many."""
    return connection.execute(sa.delete(table).where(table.c.at_ns <= now_ns - KEEP_NS)).rowcount
