"""Exit packs as they are kept, for good: that one was made is part of how a service ends."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging, reads, tables
from appliance.catalog.among import among
from appliance.catalog.closingtables import exit_packs as table
from appliance.catalog.contracttables import reads as read_rows
from appliance.catalog.errors import ExitPackNotFoundError
from appliance.catalog.filters import Node
from appliance.catalog.reads import Read
from appliance.catalog.recording_filter import conditions
from appliance.catalog.records import State as RecordingState

_r = tables.recordings
EXIT_PACK: Final = "exit-pack"
"""The kind of its operations."""


class PackState(enum.StrEnum):
    """Where an exit pack is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True)
class ExitPack:
    """A row. Times are nanoseconds since the Unix epoch."""

    id: str
    tenant_id: str
    line_id: str
    state: PackState
    everything: bool
    who: str
    create_ns: int
    purpose: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    recordings: int = 0
    files: int = 0
    bytes: int = 0
    problems: int = 0
    tombstones: int = 0
    manifest_sha256: str = ""
    end_ns: int | None = None


def add(connection: sa.Connection, pack: ExitPack) -> None:
    """Write a new one down."""
    connection.execute(sa.insert(table).values(**{**pack.__dict__, "state": pack.state.value}))


def update(connection: sa.Connection, pack: ExitPack) -> None:
    """It is further on."""
    connection.execute(
        sa.update(table).where(table.c.id == pack.id).values(**{**pack.__dict__, "state": pack.state.value})
    )


def admit(connection: sa.Connection, pack_id: str, until: str) -> str:
    """Recordings up to that id were let into it, and written down as read; gives up to which before, "" for none."""
    spec = get(connection, pack_id).spec
    values = {**spec, "admitted": until}
    connection.execute(sa.update(table).where(table.c.id == pack_id).values(spec=values))
    return str(spec.get("admitted", ""))


def get(connection: sa.Connection, pack_id: str, tenant_id: str | None = None) -> ExitPack:
    """One, of this tenant where one is given; ExitPackNotFoundError."""
    query = sa.select(table).where(table.c.id == pack_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise ExitPackNotFoundError("no such exit pack", exit_pack=pack_id)
    return _of(row)


def some(
    connection: sa.Connection, tenant_id: str | None, limit: int, after: tuple[int, str] | None = None
) -> list[ExitPack]:
    """Newest first, after the (create_ns, id) of the last one of the page before."""
    query = sa.select(table).order_by(table.c.create_ns.desc(), table.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = paging.beyond(query, table.c.create_ns, table.c.id, after, newest_first=True)
    return [_of(row) for row in connection.execute(query)]


def running(connection: sa.Connection) -> list[ExitPack]:
    """Those that are not tidied up yet."""
    query = sa.select(table).where(table.c.state == PackState.RUNNING.value).order_by(table.c.create_ns)
    return [_of(row) for row in connection.execute(query)]


def whole(connection: sa.Connection, tenant_id: str, line_id: str, since_ns: int) -> ExitPack | None:
    """The newest that holds everything of a tenant or line and was begun since then; None: there is none."""
    query = (
        sa.select(table)
        .where(
            table.c.tenant_id == tenant_id,
            table.c.line_id.in_({"", line_id}),
            table.c.state == PackState.SUCCEEDED.value,
            table.c.everything.is_(True),
            table.c.create_ns >= since_ns,
        )
        .order_by(table.c.create_ns.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _of(row)


def gone(
    connection: sa.Connection, tenant_id: str, line_id: str, after: str, limit: int, bound: int
) -> list[str]:
    """Ids of erased recordings, in their order, after that one: of them an exit pack holds that they were."""
    query = sa.select(_r.c.id).where(
        _r.c.tenant_id == tenant_id,
        _r.c.state == RecordingState.ERASED.value,
        _r.c.id > after,
        _r.c.seq + 0 <= bound,
    )
    if line_id:
        query = query.where(_r.c.line_id == line_id)
    return list(connection.execute(query.order_by(_r.c.id).limit(limit)).scalars())


def within(connection: sa.Connection, tenant_id: str, after: str, until: str) -> set[str]:
    """Ids of a tenant's recordings in whatever state, after one id and up to another."""
    query = sa.select(_r.c.id).where(_r.c.tenant_id == tenant_id, _r.c.id > after, _r.c.id <= until)
    return set(connection.execute(query).scalars())


def there(connection: sa.Connection, ids: Collection[str]) -> set[str]:
    """Which of these are not erased, and known."""
    query = sa.select(_r.c.id).where(
        among(connection, _r.c.id, sorted(ids)), _r.c.state != RecordingState.ERASED.value
    )
    return set(connection.execute(query).scalars()) if ids else set()


def measure(
    connection: sa.Connection, tenant_id: str, where: Node | None, bound: int
) -> tuple[int, int, int]:
    """How many recordings match, the bytes of their sealed files, and how long they are (nanoseconds)."""
    query = sa.select(sa.func.count(), sa.func.sum(_r.c.size), sa.func.sum(_r.c.duration_ns)).where(
        _r.c.state != RecordingState.ERASED.value,
        _r.c.seq + 0 <= bound,
        *conditions(connection, tenant_id, where),
    )
    count, size, length_ns = connection.execute(query).one()
    return int(count), int(size or 0), int(length_ns or 0)


def reads_of(connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Read]]:
    """Reads of some recordings that are still kept, oldest first."""
    found: dict[str, list[Read]] = defaultdict(list)
    if ids:
        query = sa.select(read_rows).where(among(connection, read_rows.c.recording_id, ids))
        for row in connection.execute(query.order_by(read_rows.c.no)):
            found[row.recording_id].append(reads.read_of(row))
    return found


def line_names(connection: sa.Connection, ids: Collection[str]) -> dict[str, str]:
    """Names to show of lines."""
    lines = tables.lines
    query = sa.select(lines.c.id, lines.c.display_name).where(among(connection, lines.c.id, sorted(ids)))
    return {row.id: row.display_name for row in connection.execute(query)} if ids else {}


def _of(row: sa.Row[Any]) -> ExitPack:
    return ExitPack(**{**row._mapping, "state": PackState(row.state)})
