"""Service levels of a span, gathered: availability, completeness, alarms, calls; and reads for the access report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from appliance.access import naming
from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import kind_of
from appliance.api import names
from appliance.api.parts import Parts
from appliance.api.serving import Serving
from appliance.catalog import alarms, availability, completeness, reads, servicefigures, tenants
from appliance.catalog.reads import Counts
from appliance.completeness.report import day_of, ratio, span_of
from appliance.documents import availability as measuring
from appliance.documents import facts, servicelevel
from appliance.documents.facts import Span

MAX_DAYS: Final = 400
_NO_RECORDS: Final = "no-records"


class Levels:
    """See the module."""

    def __init__(self, parts: Parts, serving: Serving) -> None:
        self._parts = parts
        self._serving = serving

    async def measured(self, tenant_id: str, span: Span, zone: ZoneInfo) -> servicelevel.Level:
        """What was measured of a span, of a tenant or (empty) the box. TenantNotFoundError."""
        stretches, now_ns = await self._serving.stretches(span.from_ns, span.until_ns)
        until_ns = max(span.from_ns, min(span.until_ns, now_ns))
        some = measuring.pieces(stretches, span.from_ns, until_ns)
        days = days_of(span.from_ns, until_ns, zone)
        ratios = measuring.by_day(some, days)

        def work(connection: sa.Connection) -> servicelevel.Level:
            own = tenants.get_tenant(connection, tenant_id).time_zone if tenant_id else ""
            planned = availability.works_in(connection, span.from_ns, until_ns)
            complete, by_day = _complete(
                connection, tenant_id, span.from_ns, until_ns, ZoneInfo(own or "UTC")
            )
            stood = alarms.stood(connection, tenant_id, span.from_ns, until_ns)
            if tenant_id:  # those of the box, where they touch its recording
                of_box = alarms.stood(connection, "", span.from_ns, until_ns)
                stood += [one for one in of_box if kind_of(one.kind).touches_recording]
            found = servicefigures.calls(connection, tenant_id or None, span.from_ns, until_ns)
            return servicelevel.Level(
                span=span,
                measure_ns=now_ns,
                availability=measuring.measure(some, planned, now_ns=now_ns),
                complete=complete,
                days=tuple(
                    servicelevel.Day(day, known, by_day.get(day))
                    for (day, _, _), known in zip(days, ratios, strict=True)
                ),
                alarms=by_kind(stood, span.from_ns, until_ns),
                calls=facts.Calls(
                    found.recordings,
                    found.duration_ns,
                    found.gap_recordings,
                    found.gaps,
                    found.lost_ns,
                    found.recovered,
                    found.median_delay_ns,
                    found.high_delay_ns,
                    found.longest_delay_ns,
                ),
                planned=tuple(planned),
            )

        return await self._parts.store.read(work)

    async def access(self, tenant_id: str, span: Span) -> facts.Access:
        """Reads of a tenant's recordings in a span."""

        def work(connection: sa.Connection) -> facts.Access:
            found = reads.report(connection, tenant_id, span.from_ns, span.until_ns)
            used = servicefigures.grants_used(connection, tenant_id, span.from_ns, span.until_ns)
            return facts.Access(
                total=_counts(found.total),
                by_purpose=_table(found.by_purpose),
                by_role=_table(found.by_role),
                by_person=_table({naming.parts(key)[1]: one for key, one in found.by_person.items()})
                if _apart(found.by_person)
                else _table(found.by_person),
                overrides=tuple(
                    facts.Override(
                        one.at_ns,
                        naming.parts(one.identity)[1],
                        one.purpose,
                        names.recording(tenant_id, one.recording_id),
                        one.override_reason != "",
                    )
                    for one in found.overrides
                ),
                refusals=tuple(servicefigures.refusals(connection, tenant_id, span.from_ns, span.until_ns)),
                grants=tuple(
                    facts.GrantUse(grant_id, purpose, tuple(people), count)
                    for grant_id, purpose, people, count in used
                ),
            )

        return await self._parts.store.read(work)


def days_of(from_ns: int, until_ns: int, zone: ZoneInfo) -> list[tuple[str, int, int]]:
    """Days that a span touches: how they are called, begin and end, cut to the span."""
    if until_ns <= from_ns:
        return []
    found: list[tuple[str, int, int]] = []
    day: date = day_of(from_ns, zone)
    while len(found) <= MAX_DAYS + 1:
        begin, end = span_of(day, zone)
        if begin >= until_ns:
            break
        found.append((day.isoformat(), max(begin, from_ns), min(end, until_ns)))
        day += timedelta(days=1)
    return found


def by_kind(stood: Iterable[Alarm], from_ns: int, until_ns: int) -> tuple[facts.AlarmKind, ...]:
    """Alarms of a span by kind; those of one kind that stood at once are counted once in how long."""
    kinds: dict[str, list[Alarm]] = defaultdict(list)
    for one in stood:
        kinds[one.kind].append(one)
    found = []
    for name, some in kinds.items():
        worst = max(some, key=lambda one: one.severity.rank).severity
        found.append(
            facts.AlarmKind(
                kind=name,
                title=kind_of(name).title,
                severity=worst.value,
                count=len(some),
                stood_ns=_union(
                    (
                        max(one.raise_ns, from_ns),
                        min(until_ns if one.clear_ns is None else one.clear_ns, until_ns),
                    )
                    for one in some
                ),
                unacknowledged=sum(one.ack_ns is None for one in some),
                open=sum(one.clear_ns is None for one in some),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.stood_ns, one.kind)))


def _union(spans: Iterable[tuple[int, int]]) -> int:
    total, at = 0, 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, at))
        at = max(at, end)
    return total


def _complete(
    connection: sa.Connection, tenant_id: str, from_ns: int, until_ns: int, zone: ZoneInfo
) -> tuple[facts.Complete | None, dict[str, float]]:
    """Of days of the tenant's own zone; None: no day of the span has a report."""
    days = days_of(from_ns, until_ns, zone)
    if not tenant_id or not days:
        return None, {}
    first, last = days[0][0], days[-1][0]
    found = completeness.days_of(connection, tenant_id, first, last, len(days))
    known = [one for one in found if one.state != _NO_RECORDS]
    if not found:
        return None, {}
    sums = completeness.in_span(connection, tenant_id, first, last)
    complete = facts.Complete(sums.days, sums.silent, sums.expected, sums.missing, sums.faults)
    return complete, {one.day: ratio(one.expected, one.missing) for one in known if one.expected}


def _apart(some: Sequence[str] | dict[str, Counts]) -> bool:
    """Whether names within tenants tell who is who."""
    return len({naming.parts(key)[1] for key in some}) == len(some)


def _table(some: dict[str, Counts]) -> tuple[tuple[str, facts.ReadCounts], ...]:
    order = sorted(some.items(), key=lambda item: (-item[1].reads, -item[1].refusals, item[0]))
    return tuple((key, _counts(one)) for key, one in order)


def _counts(one: Counts) -> facts.ReadCounts:
    return facts.ReadCounts(
        one.reads, one.overrides, one.not_announced, one.granted, one.refusals, one.recordings
    )
