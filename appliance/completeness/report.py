"""The report of a day: what was contracted, what became of it, hour by hour. It holds no number and no name.

What is written here is docs/schemas/completeness-report.schema.json; it is signed as it is, byte by byte.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from appliance.completeness.compare import Comparison
from appliance.completeness.facts import EXPECTED, Finding, Outcome, S, Tolerances

FORMAT: Final = "earwitness completeness report v1"
KIND: Final = "completeness-report"
"""What its signature says it is."""
MAX_FAULTS: Final = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """Where records of the day came from. `rows` of that day; `sha256`: of the files they came in."""

    name: str
    rows: int
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a day; the first and last minute of days that begin with none are in full hours, too."""

    start: datetime
    expected: int
    missing: int
    faults: int


def day_of(ns: int, zone: ZoneInfo) -> date:
    """The day of a time, in that zone."""
    return _local(ns, zone).date()


def span_of(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Where a day begins and ends (exclusive), in nanoseconds since the Unix epoch: 23 to 25 hours."""
    first = datetime.combine(day, time(), zone)
    after = datetime.combine(day + timedelta(days=1), time(), zone)
    return int(first.timestamp()) * S, int(after.timestamp()) * S


def hours_of(day: date, zone: ZoneInfo, findings: Sequence[Finding]) -> list[Hour]:
    """All hours of a day, those in which nothing was, too."""
    first_ns, after_ns = span_of(day, zone)
    expected: Counter[int] = Counter()
    missing: Counter[int] = Counter()
    faults: Counter[int] = Counter()
    for one in findings:
        place = (one.start_ns - first_ns) // (3600 * S)
        expected[place] += one.outcome in EXPECTED
        missing[place] += one.outcome is Outcome.MISSING
        faults[place] += one.is_fault
    count = -(-(after_ns - first_ns) // (3600 * S))
    return [
        Hour(_local(first_ns + place * 3600 * S, zone), expected[place], missing[place], faults[place])
        for place in range(count)
    ]


def ratio(expected: int, missing: int) -> float:
    """How much of what was contracted is there; 1 where nothing was."""
    return 1.0 if not expected else round((expected - missing) / expected, 6)


def build(
    *,
    tenant: str,
    day: date,
    zone: ZoneInfo,
    revision: int,
    made_ns: int,
    final: bool,
    sources: Sequence[Source],
    comparison: Comparison,
    names: dict[str, str],
    tolerances: Tolerances,
) -> bytes:
    """The report as JSON in UTF-8. `names`: of tenants' lines by id, as the API has them."""
    findings = comparison.findings
    counts = comparison.counts
    expected = sum(counts[one] for one in EXPECTED)
    faults = sorted(
        (one for one in findings if one.is_fault), key=lambda one: (one.start_ns, one.record, one.recording)
    )
    shift = comparison.shift
    written: dict[str, Any] = {
        "format": FORMAT,
        "tenant": tenant,
        "day": day.isoformat(),
        "time_zone": zone.key,
        "revision": revision,
        "made": _utc(made_ns),
        "state": "no-records"
        if not any(one.rows for one in sources)
        else "final"
        if final
        else "preliminary",
        "contracted_calls": expected,
        "missing_calls": counts[Outcome.MISSING],
        "completeness": ratio(expected, counts[Outcome.MISSING]),
        "outcomes": {one.value: counts[one] for one in Outcome},
        "recordings_not_covered": comparison.uncovered,
        "clock": None
        if shift is None
        else {
            "kind": "time-zone" if shift.zone else "clock",
            "added_seconds": shift.ns // S,
            "explains": shift.explains,
            "explained_before": shift.before,
            "comparable": shift.comparable,
        },
        "sources": [
            {"source": one.name, "rows": one.rows, "files_sha256": list(one.sha256)} for one in sources
        ],
        "hours": [
            {
                "start": one.start.isoformat(),
                "contracted_calls": one.expected,
                "missing_calls": one.missing,
                "faults": one.faults,
            }
            for one in hours_of(day, zone, findings)
        ],
        "faults": [_fault(one, tenant, names) for one in faults[:MAX_FAULTS]],
        "faults_left_out": max(0, len(faults) - MAX_FAULTS),
        "tolerances_seconds": {
            "start": tolerances.start_ns / S,
            "talk": tolerances.talk_ns / S,
            "late": tolerances.late_ns / S,
        },
    }
    return (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode()


def _fault(one: Finding, tenant: str, names: dict[str, str]) -> dict[str, Any]:
    return {
        "fault": one.outcome.value,
        "record": f"{tenant}/callRecords/{one.record}" if one.record else "",
        "recording": f"{tenant}/recordings/{one.recording}" if one.recording else "",
        "line": names.get(one.line_id, ""),
        "direction": one.direction.value,
        "start": _utc(one.start_ns),
        "seconds": round(one.talk_ns / S, 3),
        "off_seconds": round(one.off_ns / S, 3),
        "detail": one.detail,
    }


def _utc(ns: int) -> str:
    return datetime.fromtimestamp(ns // S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _local(ns: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(ns // S, UTC).astimezone(zone)
