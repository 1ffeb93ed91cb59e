"""Call records in the catalogue, what became of each call, and days.

How much of what was contracted is there, in any span: `in_span`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging, state, tables
from appliance.catalog.among import among
from appliance.catalog.completenesstables import (
    call_records,
    completeness_days,
    record_imports,
)
from appliance.catalog.database import erasing, numbering_of
from appliance.catalog.errors import (
    CompletenessDayNotFoundError,
)

KEEP_NS: Final = 93 * 86400 * 10**9
"""How long records are kept. Days stay."""
KEEP_NUMBERS_NS: Final = 31 * 86400 * 10**9
"""How long a call that is missing may still be found, and so is known by its numbers."""
_KEY: Final = "call-records-key"
_CHUNK: Final = 1000
_NUMBERS: Final = {"from_number": "", "to_number": "", "extension": "", "call_id": ""}
SAID: Final = sa.or_(*(call_records.c[name] != "" for name in _NUMBERS))
"""For queries on call records: this one still has a number or an id."""
_TOLD: Final = [one for one in completeness_days.c if one.name not in ("report", "signature")]


@dataclass(frozen=True)
class Record:
    """A call as a switchboard told it. Times are nanoseconds since the Unix epoch."""

    id: str
    tenant_id: str
    source_id: str
    import_id: str
    digest: str
    start_ns: int
    answer_ns: int | None
    talk_ns: int
    direction: str
    line_id: str
    why: str
    from_number: str = field(default="", repr=False)
    to_number: str = field(default="", repr=False)
    extension: str = field(default="", repr=False)
    own: int = 0
    call_id: str = field(default="", repr=False)
    outcome: str = ""
    recording_id: str = ""
    pinned: bool = False
    off_ns: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Day:
    """A day of a tenant, as its report says."""

    id: str
    tenant_id: str
    day: str
    state: str
    revision: int
    make_ns: int
    expected: int
    missing: int
    faults: int
    outcomes: dict[str, int]
    uncovered: int
    shift: dict[str, Any]
    report: str
    signature: str
    seen: str
    due_ns: int | None


@dataclass(frozen=True)
class Completeness:
    """Of a span of days: `days` with records, `silent` ones without any; calls contracted, missing, with other faults."""

    days: int
    silent: int
    expected: int
    missing: int
    faults: int

    @property
    def ratio(self) -> float:
        """How much of what was contracted is there; 1 where nothing was."""
        return 1.0 if not self.expected else (self.expected - self.missing) / self.expected


def in_span(connection: sa.Connection, tenant_id: str, first_day: str, last_day: str) -> Completeness:
    """Of all days from the first to the last (2026-11-29), both included."""
    c = completeness_days.c
    there = sa.case((c.state == "no-records", 0), else_=1)
    row = connection.execute(
        sa.select(
            sa.func.coalesce(sa.func.sum(there), 0),
            sa.func.count(),
            *(sa.func.coalesce(sa.func.sum(one), 0) for one in (c.expected, c.missing, c.faults)),
        ).where(c.tenant_id == tenant_id, c.day >= first_day, c.day <= last_day)
    ).one()
    days, every, expected, missing, faults = map(int, row)
    return Completeness(days, every - days, expected, missing, faults)


# -- records ---------------------------------------------------------------------------------------------


def key(connection: sa.Connection) -> bytes:
    """What digests of rows are made with: without it nobody can try out numbers on them."""
    return state.key(connection, _KEY)


def digest(key_: bytes, source_id: str, identity: str) -> str:
    """Of what a row said: 32 hexadecimal letters."""
    return hmac.new(key_, f"{source_id}\x1f{identity}".encode(), hashlib.sha256).hexdigest()[:32]


def known_digests(connection: sa.Connection, tenant_id: str, some: Sequence[str]) -> set[str]:
    """Which of these rows came before."""
    c = call_records.c
    found: set[str] = set()
    for at in range(0, len(some), _CHUNK):
        query = sa.select(c.digest).where(
            c.tenant_id == tenant_id, among(connection, c.digest, some[at : at + _CHUNK])
        )
        found.update(connection.execute(query).scalars())
    return found


def add_records(connection: sa.Connection, some: Sequence[Record]) -> None:
    for at in range(0, len(some), _CHUNK):
        connection.execute(sa.insert(call_records), [vars(one) for one in some[at : at + _CHUNK]])


def records_in(connection: sa.Connection, tenant_id: str, first_ns: int, after_ns: int) -> list[Record]:
    """Those that began in that span, in the order of their beginnings."""
    c = call_records.c
    query = sa.select(call_records).where(
        c.tenant_id == tenant_id, c.start_ns >= first_ns, c.start_ns < after_ns
    )
    return [Record(**row._mapping) for row in connection.execute(query.order_by(c.start_ns, c.id))]


def starts_of(connection: sa.Connection, tenant_id: str, import_id: str) -> list[int]:
    """When the calls of an import began."""
    c = call_records.c
    query = sa.select(c.start_ns).where(c.tenant_id == tenant_id, c.import_id == import_id)
    return list(connection.execute(query).scalars())


def uncompared(connection: sa.Connection) -> list[tuple[str, int]]:
    """Tenant and beginning of calls that were taken and not compared: what a crash between the two leaves behind."""
    c = call_records.c
    found = connection.execute(sa.select(c.tenant_id, c.start_ns).where(c.outcome == "")).all()
    return [(row.tenant_id, row.start_ns) for row in found]


def listed(
    connection: sa.Connection,
    tenant_id: str,
    span_ns: tuple[int, int],
    outcomes: Sequence[str],
    limit: int,
    after: tuple[int, str] | None,
) -> list[Record]:
    """Those of a span with one of these outcomes (none: all), in the order of their beginnings, after that one."""
    c = call_records.c
    query = sa.select(call_records).where(
        c.tenant_id == tenant_id, c.start_ns >= span_ns[0], c.start_ns < span_ns[1]
    )
    if outcomes:
        query = query.where(c.outcome.in_(outcomes))
    query = paging.beyond(query, c.start_ns, c.id, after)
    rows = connection.execute(query.order_by(c.start_ns, c.id).limit(limit))
    return [Record(**row._mapping) for row in rows]


def rows_by_source(
    connection: sa.Connection, tenant_id: str, first_ns: int, after_ns: int
) -> list[tuple[str, int, list[str]]]:
    """Of each source with records of that span: its id, how many, and the SHA-256 of the files they came in."""
    c, i = call_records.c, record_imports.c
    query = (
        sa.select(c.source_id, i.sha256, sa.func.count())
        .outerjoin_from(
            call_records, record_imports, sa.and_(i.id == c.import_id, i.tenant_id == c.tenant_id)
        )
        .where(c.tenant_id == tenant_id, c.start_ns >= first_ns, c.start_ns < after_ns)
        .group_by(c.source_id, i.sha256)
    )
    counts: dict[str, int] = {}
    files: dict[str, set[str]] = {}
    for source_id, sha256, count in connection.execute(query):
        counts[source_id] = counts.get(source_id, 0) + int(count)
        files.setdefault(source_id, set()).update({sha256} if sha256 is not None else ())
    return [(one, counts[one], sorted(files[one])[:100]) for one in sorted(counts)]


def note_outcomes(
    connection: sa.Connection, changes: Mapping[str, Mapping[str, Any]], done: Iterable[str]
) -> None:
    """What became of calls, by id of the record; of those that are `done` the numbers are forgotten."""
    if changes:
        names = ("outcome", "recording_id", "pinned", "off_ns", "detail")
        connection.execute(
            sa.update(call_records)
            .where(call_records.c.id == sa.bindparam("of"))
            .values({name: sa.bindparam(f"new_{name}") for name in names}),
            [{"of": one, **{f"new_{name}": said[name] for name in names}} for one, said in changes.items()],
        )
    _forget(connection, list(done))


def _forget(connection: sa.Connection, some: Sequence[str]) -> None:
    for at in range(0, len(some), _CHUNK):
        chunk = among(connection, call_records.c.id, some[at : at + _CHUNK])
        connection.execute(sa.update(call_records).where(chunk).values(**_NUMBERS))
    if some:
        erasing(connection)


def forget_recording(connection: sa.Connection, recording_id: str) -> None:
    """A recording is about to be erased: its numbers leave the call records of its time, too.

    Those that are known to be of it also where the recording itself is not there.
    """
    c, r = call_records.c, tables.recordings.c
    own = sa.select(c.id).where(c.recording_id == recording_id, SAID)
    _forget(connection, list(connection.execute(own).scalars()))
    row = connection.execute(
        sa.select(r.tenant_id, r.start_ns, r.duration_ns).where(r.id == recording_id)
    ).first()
    if row is None:
        return
    form = numbering_of(connection)
    numbers = connection.execute(
        sa.select(tables.parties.c.number).where(tables.parties.c.recording_id == recording_id)
    ).scalars()
    theirs = {form.normal(one) for one in numbers if one}
    near_ns = 15 * 3600 * 10**9  # a switchboard's clock may be as far off
    gone = []
    query = sa.select(c.id, c.from_number, c.to_number, c.extension, c.own).where(
        c.tenant_id == row.tenant_id,
        c.start_ns >= row.start_ns - near_ns,
        c.start_ns <= row.start_ns + row.duration_ns + near_ns,
        SAID,
    )
    for one in connection.execute(query):
        three = (one.from_number, one.to_number, one.extension)
        # Numbers of the house are in every call, and nobody's.
        said = {form.normal(number) for bit, number in enumerate(three) if number and not one.own >> bit & 1}
        if said & theirs:
            gone.append(one.id)
    _forget(connection, gone)


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget records and imports that are older than is kept, and numbers; gives how many records."""
    c = call_records.c
    gone = connection.execute(sa.delete(call_records).where(c.start_ns < now_ns - KEEP_NS)).rowcount
    connection.execute(sa.delete(record_imports).where(record_imports.c.create_ns < now_ns - KEEP_NS))
    old = sa.update(call_records).where(c.start_ns < now_ns - KEEP_NUMBERS_NS, SAID).values(**_NUMBERS)
    if connection.execute(old).rowcount or gone:
        erasing(connection)
    return gone


# -- days ------------------------------------------------------------------------------------------------------------


def put_day(connection: sa.Connection, made: Day) -> None:
    """As it is now, in place of what it was."""
    connection.execute(sa.delete(completeness_days).where(completeness_days.c.id == made.id))
    connection.execute(sa.insert(completeness_days).values(**asdict(made)))


def find_day(connection: sa.Connection, tenant_id: str, day: str) -> Day | None:
    c = completeness_days.c
    row = connection.execute(
        sa.select(completeness_days).where(c.tenant_id == tenant_id, c.day == day)
    ).first()
    return None if row is None else Day(**row._mapping)


def get_day(connection: sa.Connection, tenant_id: str, day: str) -> Day:
    """CompletenessDayNotFoundError."""
    found = find_day(connection, tenant_id, day)
    if found is None:
        raise CompletenessDayNotFoundError("of that day there is no report", day=day)
    return found


def days_of(
    connection: sa.Connection, tenant_id: str, first: str, last: str, limit: int, before: str = ""
) -> list[Day]:
    """Newest first, before that day, without their texts; `first` and `last`: empty, or both included."""
    c = completeness_days.c
    query = sa.select(*_TOLD).where(c.tenant_id == tenant_id)
    if first:
        query = query.where(c.day >= first)
    if last:
        query = query.where(c.day <= last)
    if before:
        query = query.where(c.day < before)
    return [_told(row) for row in connection.execute(query.order_by(c.day.desc()).limit(limit))]


def days_to_watch(connection: sa.Connection, now_ns: int, *, back: bool) -> list[Day]:
    """Days that are due to be made anew; `back`: also those of which a recording that is missing may still come.

    Without their texts.
    """
    c = completeness_days.c
    wanted = sa.and_(c.due_ns.is_not(None), c.due_ns <= now_ns)
    if back:
        wanted = sa.or_(wanted, sa.and_(c.make_ns > now_ns - KEEP_NUMBERS_NS, c.missing > 0))
    return [_told(row) for row in connection.execute(sa.select(*_TOLD).where(wanted))]


def _told(row: sa.Row[Any]) -> Day:
    return Day(**row._mapping, report="", signature="")


def seen(connection: sa.Connection, tenant_id: str, first_ns: int, after_ns: int) -> str:
    """Changes with every recording of that span that comes, goes, or becomes known."""
    r = tables.recordings.c
    row = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.max(r.position), 0),
            sa.func.coalesce(sa.func.sum(sa.case((r.described.is_(True), 1), else_=0)), 0),
        ).where(r.tenant_id == tenant_id, r.start_ns >= first_ns, r.start_ns < after_ns)
    ).one()
    return " ".join(map(str, row))
