"""Documents that were made: kept as they were signed, for a while."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.documenttables import documents as table
from appliance.catalog.errors import DocumentLimitError, DocumentNotFoundError

KEEP_NS: Final = 400 * 86400 * 10**9
MAX_KEPT: Final = 1000
"""Of one tenant, or of the box."""
_TOLD: Final = [column for column in table.c if column.name != "content"]


class DocumentKind(enum.StrEnum):
    """What a document is."""

    PROCESSING_RECORD = "processing-record"
    PROTECTION_ANNEX = "protection-annex"
    SERVICE_LEVEL = "service-level"
    ACCESS_REPORT = "access-report"


@dataclass(frozen=True)
class Made:
    """A document without its bytes. Times are nanoseconds since the Unix epoch; `people`: whether it names some."""

    id: str
    tenant_id: str
    kind: DocumentKind
    format: str
    make_ns: int
    who: str
    from_ns: int | None
    until_ns: int | None
    time_zone: str
    people: bool
    sha256: str
    size: int
    signature: str


def check_room(connection: sa.Connection, tenant_id: str) -> None:
    """DocumentLimitError."""
    query = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
    if connection.execute(query).scalar_one() >= MAX_KEPT:
        raise DocumentLimitError("as many documents are kept as may be", limit=MAX_KEPT)


def add(connection: sa.Connection, made: Made, content: bytes) -> None:
    """Keep it; DocumentLimitError."""
    check_room(connection, made.tenant_id)
    connection.execute(
        sa.insert(table).values(**{**made.__dict__, "kind": made.kind.value, "content": content})
    )


def get(connection: sa.Connection, document_id: str, tenant_id: str | None = None) -> tuple[Made, bytes]:
    """One of a tenant (empty: of the box; None: of anybody); DocumentNotFoundError."""
    query = sa.select(table).where(table.c.id == document_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise DocumentNotFoundError("no such document", document=document_id)
    return _made(row), bytes(row.content)


def listed(
    connection: sa.Connection,
    tenant_id: str | None,
    kinds: Collection[DocumentKind],
    limit: int,
    after: tuple[int, str] | None = None,
) -> list[Made]:
    """Newest first, after the (make_ns, id) of the last one of the page before."""
    query = sa.select(*_TOLD).where(table.c.kind.in_([one.value for one in kinds]))
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = paging.beyond(query, table.c.make_ns, table.c.id, after, newest_first=True)
    query = query.order_by(table.c.make_ns.desc(), table.c.id.desc()).limit(limit)
    return [_made(row) for row in connection.execute(query)]


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget those that are old; gives how many."""
    return connection.execute(sa.delete(table).where(table.c.make_ns <= now_ns - KEEP_NS)).rowcount


def _made(row: sa.Row[Any]) -> Made:
    fields = {name: getattr(row, name) for name in Made.__dataclass_fields__}
    return Made(**{**fields, "kind": DocumentKind(row.kind)})
