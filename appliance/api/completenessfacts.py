"""What a comparison of a day stands on: records, recordings and what was contracted, read in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.api import names
from appliance.catalog import completeness, counting, tables, tenants
from appliance.catalog.building import build
from appliance.catalog.completeness import Day, Record
from appliance.catalog.contracttables import versions
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Numbering
from appliance.catalog.records import Recording, State
from appliance.completeness import report
from appliance.completeness.contract import Contract, Why
from appliance.completeness.facts import Heard, Known, Outcome
from appliance.media.siprec.numbers import normalise
from appliance.model import Direction, MarkKind, Role
from appliance.model.routing import Line

PAD_NS: Final = 3600 * 10**9  # what belongs to calls around midnight
_STATES: Final = {
    State.DELETED: Outcome.DELETED,
    State.ERASED: Outcome.ERASED,
    State.QUARANTINED: Outcome.QUARANTINED,
}
_SILENT: Final = "silent-"
_NOT_RECORDED: Final = "not-recorded"
_REASONS: Final = ("do-not-record", "direction-not-contracted", "stopped")


@dataclass(frozen=True)
class Facts:
    """What a comparison stands on, read in one transaction."""

    zone: ZoneInfo
    records: list[Record]
    recordings: list[Recording]
    contract: Contract
    numbering: Numbering
    sources: list[report.Source]
    lines: dict[str, str]
    seen: str
    before: Day | None


def facts_of(connection: sa.Connection, tenant_id: str, day: date) -> Facts:
    zone = counting.zone(tenants.get_tenant(connection, tenant_id).time_zone)
    first_ns, after_ns = report.span_of(day, zone)
    wide = first_ns - PAD_NS, after_ns + PAD_NS
    rows = completeness.rows_by_source(connection, tenant_id, first_ns, after_ns)
    sources = [
        report.Source(names.record_source(tenant_id, one), count, tuple(files)) for one, count, files in rows
    ]
    return Facts(
        zone=zone,
        records=completeness.records_in(connection, tenant_id, *wide),
        recordings=recordings_in(connection, tenant_id, *wide),
        contract=contract_of(connection, tenant_id),
        numbering=numbering_of(connection),
        sources=sources,
        lines={
            one.line_id: names.line(tenant_id, one.line_id)
            for one in tenants.list_lines(connection, tenant_id=tenant_id)
        },
        seen=completeness.seen(connection, tenant_id, first_ns, after_ns),
        before=completeness.find_day(connection, tenant_id, day.isoformat()),
    )


def recordings_in(connection: sa.Connection, tenant_id: str, first_ns: int, after_ns: int) -> list[Recording]:
    """A tenant's recordings that began in that span, in whatever state."""
    r = tables.recordings.c
    query = sa.select(tables.recordings).where(
        r.tenant_id == tenant_id, r.start_ns >= first_ns, r.start_ns < after_ns
    )
    return build(connection, connection.execute(query.order_by(r.start_ns)).all(), full=True)


def contract_of(connection: sa.Connection, tenant_id: str) -> Contract:
    """What the tenant's lines said, and from when on."""
    c = versions.c
    made: dict[str, list[tuple[int, Line]]] = defaultdict(list)
    query = sa.select(c.subject, c.at_ns, c.content).where(c.tenant_id == tenant_id, c.kind == "line")
    for row in connection.execute(query.order_by(c.subject, c.version)):
        line = Line.model_validate(row.content)
        # A catalogue that was lost knows its lines from their last state on; when they were made it knows, too.
        made[row.subject].append((row.at_ns if made[row.subject] else min(row.at_ns, line.create_ns), line))
    return Contract(made)


def known_numbers(record: Record, numbering: Numbering) -> tuple[frozenset[str], frozenset[str]]:
    """All numbers of a record in the form of E.164, and those of them that no line has."""
    three = (record.from_number, record.to_number, record.extension)
    said = [(numbering.normal(one), bool(record.own >> bit & 1)) for bit, one in enumerate(three) if one]
    return frozenset(one for one, _ in said), frozenset(one for one, own in said if not own)


def known_of(record: Record, numbering: Numbering) -> Known:
    numbers, outside = known_numbers(record, numbering)
    return Known(
        id=record.id,
        line_id=record.line_id,
        direction=Direction(record.direction),
        why=Why(record.why),
        start_ns=record.start_ns,
        answer_ns=record.answer_ns,
        talk_ns=record.talk_ns,
        numbers=numbers,
        outside=outside,
        call_id=record.call_id,
        pinned=record.recording_id if record.pinned else "",
    )


def heard_of(one: Recording, contract: Contract, numbering: Numbering) -> Heard:
    there = one.state is State.FILED and one.described
    state = Outcome.MATCHED if there else _STATES.get(one.state, Outcome.UNDESCRIBED)
    said = [(party.number, numbering.normal(party.number)) for party in one.parties if party.number]
    withheld = ""
    if _NOT_RECORDED in one.flags:
        withheld = next((flag for flag in _REASONS if flag in one.flags), _NOT_RECORDED)
    return Heard(
        id=one.recording_id,
        line_id=one.line_id,
        state=state,
        start_ns=one.start_ns,
        duration_ns=one.duration_ns,
        direction=one.direction,
        call=one.call_id,
        numbers=frozenset(form for _, form in said),
        outside=frozenset(form for raw, form in said if not contract.owns(normalise(raw), one.start_ns)),
        ids=frozenset(one.identifiers),
        withheld=withheld,
        silent=_silent(one),
        stopped=any(mark.kind is MarkKind.STOPPED for mark in one.marks),
        lost_ns=_lost_ns(one),
    )


def _silent(one: Recording) -> str:
    """One side, or all of it, without sound: as was judged when its file was read."""
    if any(flag.startswith(_SILENT) for flag in one.flags):
        sides = {flag for flag in one.flags if flag.startswith(_SILENT)}
        people = {party.role for party in one.parties} - {Role.BOX}
        return "silent" if len(sides) >= max(2, len(people)) else "one-way"
    return "one-way" if "one-way" in one.flags else ""


def _lost_ns(one: Recording) -> int:
    """How long media of the call was lost: gaps put together, whichever track they are of."""
    spans = sorted(
        (mark.at_ns, mark.until_ns)
        for mark in one.marks
        if mark.kind is MarkKind.GAP and mark.until_ns is not None and mark.until_ns > mark.at_ns
    )
    lost, until = 0, one.start_ns
    for first, last in spans:
        lost += max(0, last - max(first, until))
        until = max(until, last)
    return lost


def days_of(some: Iterable[int], zone: ZoneInfo) -> list[date]:
    """The days of these times, in order."""
    return sorted({report.day_of(one, zone) for one in some})
