"""Service-level report of a span (terms 8, 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from appliance.documents import plots, words
from appliance.documents.availability import Availability
from appliance.documents.blocks import UNKNOWN, Block, Document, Picture, Section, Text, pairs, table
from appliance.documents.facts import AlarmKind, Calls, Complete, Span
from appliance.model.served import Cause, Work

CAUSES = {
    Cause.STOPPED: "the box did not serve",
    Cause.CATALOGUE: "the catalogue was away",
    Cause.VAULT: "the vault was away",
}


@dataclass(frozen=True)
class Day:
    """A day of the span. None: not known."""

    day: str
    availability: float | None
    completeness: float | None


@dataclass(frozen=True)
class Level:
    """What was measured. `complete`: None where nothing is known of it."""

    span: Span
    measure_ns: int
    availability: Availability
    complete: Complete | None
    days: tuple[Day, ...]
    alarms: tuple[AlarmKind, ...]
    calls: Calls
    planned: tuple[Work, ...] = ()


def of(level: Level, whose: str, zone: ZoneInfo) -> Document:
    """The report. `whose`: the tenant's name, or that it is of the box."""
    return Document(
        f"Service-level report, {level.span.label}",
        whose,
        level.measure_ns,
        zone.key,
        (
            _summary(level, zone),
            _availability(level, zone),
            _completeness(level),
            _calls(level.calls),
            _alarms(level.alarms),
        ),
    )


def _summary(level: Level, zone: ZoneInfo) -> Section:
    span, found = level.span, level.availability
    missing = UNKNOWN if level.complete is None else words.number(level.complete.missing)
    return Section(
        "In short",
        (
            pairs(
                ("From", words.when(span.from_ns, zone)),
                ("Until", words.when(min(span.until_ns, level.measure_ns), zone)),
                ("Availability of access", words.percent(found.ratio)),
                ("The same, planned work left out", words.percent(found.agreed_ratio)),
                (
                    "Completeness of recording",
                    words.percent(level.complete.ratio if level.complete else None),
                ),
                ("Contracted calls that are missing", missing),
                ("Recordings made", words.number(level.calls.recordings)),
                ("Sound lost", words.length(level.calls.lost_ns)),
                ("Alarms", words.number(sum(one.count for one in level.alarms))),
            ),
        ),
    )


def _availability(level: Level, zone: ZoneInfo) -> Section:
    found = level.availability
    blocks: list[Block] = [
        Text(
            "Noted by the box itself, once a minute and at each change: whether it serves, and reaches its catalogue and "
            "its vault. What it did not note counts as time in which it did not serve. Outages are known to the minute."
        ),
        pairs(
            ("Available", words.length(found.available_ns)),
            ("Served without catalogue or vault", words.length(found.partial_ns)),
            ("Did not serve", words.length(found.down_ns)),
            ("Of these two, planned work", words.length(found.planned_ns)),
            ("Not measured", words.length(found.unmeasured_ns)),
        ),
    ]
    blocks += _strip(level.days, [one.availability for one in level.days], "Availability by day")
    blocks.append(
        table(
            f"Outages: {found.outage_count}",
            "Began | Ended | >Length | >Of it planned | Why",
            [
                (
                    words.when(one.begin_ns, zone),
                    "goes on" if one.open else words.when(one.end_ns, zone),
                    words.length(one.length_ns),
                    words.length(one.planned_ns) if one.planned_ns else "none",
                    CAUSES[one.cause],
                )
                for one in found.outages
            ],
        )
    )
    blocks.append(
        table(
            "Planned work, noted before it began",
            "From | Until | Noted | What",
            [
                (
                    words.when(one.begin_ns, zone),
                    words.when(one.end_ns, zone),
                    words.when(one.create_ns, zone),
                    one.description,
                )
                for one in level.planned
            ],
        )
    )
    return Section("Availability of access", tuple(blocks))


def _completeness(level: Level) -> Section:
    found = level.complete
    if found is None:
        return Section(
            "Completeness of recording",
            (
                Text(
                    f"It is {UNKNOWN}: no call records of the switchboard were held against the recordings in this span."
                ),
            ),
        )
    return Section(
        "Completeness of recording",
        (
            Text("By the switchboard's own call records, held against the recordings day by day."),
            pairs(
                ("Contracted calls", words.number(found.expected)),
                ("Of these missing", words.number(found.missing)),
                ("Other faults", words.number(found.faults)),
                ("Days with call records", words.number(found.days)),
                ("Days without", words.number(found.silent)),
                ("Completeness", words.percent(found.ratio)),
            ),
            *_strip(level.days, [one.completeness for one in level.days], "Completeness by day"),
        ),
    )


def _calls(found: Calls) -> Section:
    return Section(
        "Calls recorded",
        (
            pairs(
                ("Recordings", words.number(found.recordings)),
                ("Their length together", words.length(found.duration_ns)),
                ("With lost sound", words.number(found.gap_recordings)),
                ("Gaps", words.number(found.gaps)),
                ("Lost together", words.length(found.lost_ns)),
                ("Cut short by a failure, recovered", words.number(found.recovered)),
                ("From the end of a call until it is filed: half", words.length(found.median_delay_ns)),
                ("The same: 95 in 100", words.length(found.high_delay_ns)),
                ("The same: the longest", words.length(found.longest_delay_ns)),
            ),
        ),
    )


def _alarms(some: Sequence[AlarmKind]) -> Section:
    rows = [
        (
            one.title,
            one.severity,
            words.number(one.count),
            words.length(one.stood_ns),
            words.number(one.unacknowledged),
            words.number(one.open),
        )
        for one in some
    ]
    head = "Alarm | Severity | >Times | >Stood | >Not acknowledged | >Stand"
    return Section("Alarms", (table("Alarms that stood in the span", head, rows),))


def _strip(days: Sequence[Day], ratios: list[float | None], caption: str) -> list[Block]:
    if not days:
        return []
    known = [(one.day, ratio) for one, ratio in zip(days, ratios, strict=True) if ratio is not None]
    if not known:
        alt = f"{caption}: not known of any of {len(days)} days."
    else:
        worst = min(known, key=lambda one: one[1])
        alt = (
            f"{words.some(len(days), 'day')}, {len(known)} of them known; the worst is {worst[0]} "
            f"with {words.percent(worst[1])}."
        )
    return [Picture(plots.strip([one.day for one in days], ratios), caption, alt)]
