"""Reads of recordings: noted before a byte goes, and counted for the month's report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.catalog.contracttables import reads as table
from appliance.catalog.database import erasing
from appliance.catalog.records import State

RESUMED_NS: Final = 86400 * 10**9  # so long after its beginning a download may be resumed as one read
KEEP_NS: Final = 1100 * 86400 * 10**9  # three years and a month
MAX_PERSONS: Final = 1000
MAX_OVERRIDES: Final = 1000
LISTEN: Final = "listen"
"""The kind of a read of a call that goes on: the catalogue has its recording later."""


@dataclass(frozen=True)
class Read:
    """One read, or a refusal of one. `purpose` is empty where none of the tenant's was named."""

    at_ns: int
    tenant_id: str
    recording_id: str
    purpose: str
    source: str
    kind: str
    identity: str
    roles: tuple[str, ...]
    resumed: bool = False
    refused: str = ""
    overridden: bool = False
    override_reason: str = ""
    grant_id: str = ""


@dataclass
class Counts:
    """How many; `recordings` are different ones."""

    reads: int = 0
    overrides: int = 0
    not_announced: int = 0
    granted: int = 0
    refusals: int = 0
    recordings: int = 0


@dataclass
class Report:
    """Of one tenant and a stretch of time. Keys: purposes, roles, names of identities."""

    total: Counts = field(default_factory=Counts)
    by_purpose: dict[str, Counts] = field(default_factory=dict)
    by_role: dict[str, Counts] = field(default_factory=dict)
    by_person: dict[str, Counts] = field(default_factory=dict)
    overrides: list[Read] = field(default_factory=list)


def note(connection: sa.Connection, read: Read) -> None:
    """Writes it down; the reason of an override only while its recording is there, as `forget` comes once."""
    if read.override_reason and _gone(connection, read):
        read = replace(read, override_reason="")
    values = {**read.__dict__, "roles": list(read.roles)}
    connection.execute(sa.insert(table).values(**values))


def _gone(connection: sa.Connection, read: Read) -> bool:
    """Whether its recording was erased, or is not there any more, since the read was let in."""
    query = sa.select(tables.recordings.c.state).where(tables.recordings.c.id == read.recording_id)
    state = connection.execute(query).scalar()
    return read.kind != LISTEN if state is None else state == State.ERASED.value


def goes_on(connection: sa.Connection, read: Read, since_ns: int | None = None) -> bool:
    """Whether the same identity began to read the same since then, within the last day where that is not said."""
    query = sa.select(table.c.no).where(
        table.c.recording_id == read.recording_id,
        table.c.at_ns >= (read.at_ns - RESUMED_NS + 1 if since_ns is None else since_ns),
        table.c.identity == read.identity,
        table.c.purpose == read.purpose,
        table.c.kind == read.kind,
        table.c.refused == "",
    )
    return connection.execute(query.limit(1)).first() is not None


def forget(connection: sa.Connection, recording_id: str) -> None:
    """Of an erased recording opaque ids stay: why somebody read it is taken away."""
    gone = connection.execute(
        sa.update(table)
        .where(table.c.recording_id == recording_id, table.c.override_reason != "")
        .values(override_reason="")
    ).rowcount
    if gone:
        erasing(connection)


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget what is older than is kept; gives how many."""
    gone = connection.execute(sa.delete(table).where(table.c.at_ns <= now_ns - KEEP_NS)).rowcount
    if gone:
        erasing(connection)  # of reasons of overrides
    return gone


def report(connection: sa.Connection, tenant_id: str, from_ns: int, until_ns: int) -> Report:
    """Counts of what was read from a time until before another. Row by row, with memory for its different keys only."""
    found = Report()
    seen: dict[int, set[str]] = defaultdict(set)
    where = (table.c.tenant_id == tenant_id, table.c.at_ns >= from_ns, table.c.at_ns < until_ns)
    query = sa.select(table).where(*where, table.c.resumed.is_(False))
    for row in connection.execute(query, execution_options={"yield_per": 1000}):
        for counts in _counts(found, row):
            _count(counts, row, seen[id(counts)])
    persons = Counter({name: one.reads + one.refusals for name, one in found.by_person.items()})
    found.by_person = {name: found.by_person[name] for name, _ in persons.most_common(MAX_PERSONS)}
    newest = sa.select(table).where(*where, table.c.overridden.is_(True), table.c.resumed.is_(False))
    rows = connection.execute(newest.order_by(table.c.no.desc()).limit(MAX_OVERRIDES))
    found.overrides = [read_of(row) for row in rows]
    return found


def _counts(found: Report, row: sa.Row[Any]) -> Iterable[Counts]:
    yield found.total
    yield found.by_purpose.setdefault(row.purpose, Counts())
    yield found.by_person.setdefault(row.identity, Counts())
    for role in row.roles:
        yield found.by_role.setdefault(role, Counts())


def _count(counts: Counts, row: sa.Row[Any], recordings: set[str]) -> None:
    if row.refused:
        counts.refusals += 1
        return
    counts.reads += 1
    counts.overrides += row.overridden
    counts.not_announced += row.source == "not_announced"
    counts.granted += row.grant_id != ""
    recordings.add(row.recording_id)
    counts.recordings = len(recordings)


def read_of(row: sa.Row[Any]) -> Read:
    """A row of the table."""
    return Read(
        **{name: getattr(row, name) for name in Read.__dataclass_fields__ if name != "roles"},
        roles=tuple(row.roles),
    )
