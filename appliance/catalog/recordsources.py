"""Sources of call records in the catalogue, and the files that were imported from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.completenesstables import record_imports, record_sources
from appliance.catalog.errors import (
    CallRecordSourceLimitError,
    CallRecordSourceNotFoundError,
    EtagMismatchError,
)
from appliance.catalog.records import etag_of

MAX_SOURCES: Final = 50  # of a tenant


@dataclass(frozen=True)
class Source:
    """A switchboard of a tenant. `map`: of `completeness.maps`, as JSON."""

    id: str
    tenant_id: str
    display_name: str
    map: dict[str, Any]
    line_id: str
    least_talk_ns: int
    create_ns: int

    @property
    def etag(self) -> str:
        return etag_of(self.id, self.display_name, sorted(self.map.items()), self.line_id, self.least_talk_ns)


@dataclass(frozen=True)
class Import:
    """A file that was taken. `problems`: row, column, word."""

    id: str
    tenant_id: str
    source_id: str
    create_ns: int
    creator: str
    sha256: str
    rows: int
    fresh: int
    repeated: int
    old: int
    broken: int
    problems: list[list[Any]] = field(default_factory=list)
    repeats: str = ""
    shift: dict[str, Any] = field(default_factory=dict)


def add_source(connection: sa.Connection, source: Source) -> None:
    """CallRecordSourceLimitError."""
    check_room(connection, source.tenant_id)
    connection.execute(sa.insert(record_sources).values(**asdict(source)))


def check_room(connection: sa.Connection, tenant_id: str) -> None:
    """CallRecordSourceLimitError."""
    if len(sources_of(connection, tenant_id)) >= MAX_SOURCES:
        raise CallRecordSourceLimitError("the tenant has as many sources as it may have", limit=MAX_SOURCES)


def get_source(connection: sa.Connection, tenant_id: str, source_id: str, etag: str = "") -> Source:
    """CallRecordSourceNotFoundError, EtagMismatchError."""
    c = record_sources.c
    row = connection.execute(
        sa.select(record_sources).where(c.id == source_id, c.tenant_id == tenant_id)
    ).first()
    if row is None:
        raise CallRecordSourceNotFoundError("no such source of call records", source=source_id)
    found = Source(**row._mapping)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the source changed since", field="etag")
    return found


def sources_of(connection: sa.Connection, tenant_id: str | None) -> list[Source]:
    """Oldest first; None: of all tenants."""
    query = sa.select(record_sources).order_by(record_sources.c.create_ns, record_sources.c.id)
    if tenant_id is not None:
        query = query.where(record_sources.c.tenant_id == tenant_id)
    return [Source(**row._mapping) for row in connection.execute(query)]


def update_source(connection: sa.Connection, source: Source) -> None:
    connection.execute(
        sa.update(record_sources).where(record_sources.c.id == source.id).values(**asdict(source))
    )


def remove_source(connection: sa.Connection, source_id: str) -> None:
    connection.execute(sa.delete(record_sources).where(record_sources.c.id == source_id))


def add_import(connection: sa.Connection, made: Import) -> None:
    connection.execute(sa.insert(record_imports).values(**asdict(made)))


def get_import(connection: sa.Connection, tenant_id: str, import_id: str) -> Import | None:
    c = record_imports.c
    row = connection.execute(
        sa.select(record_imports).where(c.id == import_id, c.tenant_id == tenant_id)
    ).first()
    return None if row is None else Import(**row._mapping)


def import_of_file(connection: sa.Connection, source_id: str, sha256: str) -> str:
    """The first import of the same file into the same source; empty: none."""
    c = record_imports.c
    query = sa.select(c.id).where(c.source_id == source_id, c.sha256 == sha256)
    return str(connection.execute(query.order_by(c.create_ns, c.id).limit(1)).scalar() or "")


def imports_of(
    connection: sa.Connection, tenant_id: str, limit: int, after: tuple[int, str] | None
) -> list[Import]:
    """Newest first, after that one."""
    c = record_imports.c
    query = sa.select(record_imports).where(c.tenant_id == tenant_id)
    query = paging.beyond(query, c.create_ns, c.id, after, newest_first=True)
    rows = connection.execute(query.order_by(c.create_ns.desc(), c.id.desc()).limit(limit))
    return [Import(**row._mapping) for row in rows]
