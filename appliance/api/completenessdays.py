"""A day's calls held against its recordings: read, compared in a thread, written down; report, signature, alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import names
from appliance.api.completenessfacts import Facts, facts_of, heard_of, known_of
from appliance.api.parts import Locks
from appliance.api.store import Store
from appliance.audit.trail import Trail
from appliance.catalog import alarms, completeness
from appliance.catalog.completeness import Day, Record
from appliance.completeness import report
from appliance.completeness.compare import Comparison, compare
from appliance.completeness.facts import EXPECTED, FAULTS, Finding, Outcome, Tolerances
from appliance.completeness.shifting import Shift
from appliance.model import new_id

MANY: Final = 10  # missing calls of one day: more are one alarm
HOUR_NS: Final = 3600 * 10**9
MISSING: Final = "CallNotRecorded"
MANY_MISSING: Final = "ManyCallsNotRecorded"
UNWANTED: Final = "CallsRecordedUnwanted"
CLOCK_OFF: Final = "CallRecordsClockOff"
NO_RECORDS: Final = "CallRecordsAbsent"


class Days:
    """Makes days. One of a tenant at a time."""

    def __init__(self, store: Store, trail: Trail, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._trail = trail
        self._clock_ns = clock_ns
        self._locks = Locks()
        self.tolerances = Tolerances()

    async def make(self, tenant_id: str, day: date) -> Day:
        """Compare a day and write down what came of it; where that is as before, the day as it was."""
        async with self._locks.held(tenant_id):
            facts = await self._store.read(lambda connection: facts_of(connection, tenant_id, day))
            now_ns = self._clock_ns()
            if (
                facts.before is not None
                and report.span_of(day, facts.zone)[0] < now_ns - completeness.KEEP_NS
            ):
                return facts.before  # records of it are gone, or going: what its report says stands
            made = await asyncio.to_thread(self._compared, tenant_id, day, facts, now_ns)
            return await self._store.write(lambda connection: made.write(connection, now_ns))

    def _compared(self, tenant_id: str, day: date, facts: Facts, now_ns: int) -> _Made:
        known = [known_of(one, facts.numbering) for one in facts.records]
        heard = [heard_of(one, facts.contract, facts.numbering) for one in facts.recordings]
        whole = compare(known, heard, now_ns, self.tolerances)
        first_ns, after_ns = report.span_of(day, facts.zone)
        mine = {one.id for one in facts.records if first_ns <= one.start_ns < after_ns}
        of_day = [
            one
            for one in whole.findings
            if (one.record in mine if one.record else first_ns <= one.start_ns < after_ns)
        ]
        comparison = Comparison(of_day, whole.shift, whole.uncovered)
        waiting = any(one.outcome is Outcome.WAITING for one in of_day)
        final = now_ns >= after_ns + self.tolerances.settle_ns and not waiting
        return _Made(
            tenant_id, day, facts, comparison, mine, final, after_ns, now_ns, self.tolerances, self._trail
        )


class _Made:
    """What came of a comparison, to be written down."""

    def __init__(
        self,
        tenant_id: str,
        day: date,
        facts: Facts,
        comparison: Comparison,
        mine: set[str],
        final: bool,
        after_ns: int,
        now_ns: int,
        tolerances: Tolerances,
        trail: Trail,
    ) -> None:
        self._tenant_id = tenant_id
        self._facts = facts
        self._comparison = comparison
        self._records = {one.id: one for one in facts.records if one.id in mine}
        self._found = {one.record: one for one in comparison.findings if one.record}
        self._tolerances = tolerances
        self._now_ns = now_ns
        counts = comparison.counts
        before = facts.before
        state = "no-records" if not mine else "final" if final else "preliminary"
        fields: dict[str, Any] = {
            "state": state,
            "expected": sum(counts[one] for one in EXPECTED),
            "missing": counts[Outcome.MISSING],
            "faults": sum(counts[one] for one in FAULTS),
            "outcomes": {one.value: counts[one] for one in Outcome if counts[one]},
            "uncovered": comparison.uncovered,
            "shift": shift_fields(comparison.shift),
        }
        due_ns = None
        if mine and not final:
            due_ns = min(
                now_ns + self._tolerances.settle_ns, max(now_ns + 1, after_ns + tolerances.settle_ns)
            )
        elif counts[Outcome.UNDESCRIBED] and after_ns > now_ns - completeness.KEEP_NUMBERS_NS:
            due_ns = now_ns + HOUR_NS
        written = report.build(
            tenant=names.tenant(tenant_id),
            day=day,
            zone=facts.zone,
            revision=1 if before is None else before.revision + 1,
            made_ns=now_ns,
            final=final,
            sources=facts.sources,
            comparison=comparison,
            names=facts.lines,
            tolerances=tolerances,
        )
        if before is not None and not self._differs(before, fields, written):
            self.day = Day(**{**vars(before), "seen": facts.seen, "due_ns": due_ns})
            return
        self.day = Day(
            id=new_id() if before is None else before.id,
            tenant_id=tenant_id,
            day=day.isoformat(),
            revision=1 if before is None else before.revision + 1,
            make_ns=now_ns,
            report=written.decode(),
            signature=trail.sign(report.KIND, written),
            seen=facts.seen,
            due_ns=due_ns,
            **fields,
        )

    @staticmethod
    def _differs(before: Day, fields: dict[str, Any], written: bytes) -> bool:
        """Whether the report says anything else than the one before, but for its number and when it was made."""
        if any(getattr(before, name) != value for name, value in fields.items()):
            return True
        return _bare(before.report) != _bare(written.decode())

    def write(self, connection: sa.Connection, now_ns: int) -> Day:
        """Outcomes, forgotten numbers, alarms and the day; gives the day."""
        changes: dict[str, dict[str, Any]] = {}
        done = []
        for record_id, one in self._found.items():
            record = self._records[record_id]
            said = {
                "outcome": one.outcome.value,
                "recording_id": one.recording,
                # Where keys are locked only time and line told: it may prove to be another.
                "pinned": bool(one.recording) and one.outcome is not Outcome.UNDESCRIBED,
                "off_ns": one.off_ns,
                "detail": one.detail,
            }
            if any(getattr(record, name) != value for name, value in said.items()):
                changes[record_id] = said
            if self._is_done(one, record) and any(
                (record.from_number, record.to_number, record.extension, record.call_id)
            ):
                done.append(record_id)
        completeness.note_outcomes(connection, changes, done)
        completeness.put_day(connection, self.day)
        self._alarm(connection, now_ns)
        return self.day

    def _is_done(self, one: Finding, record: Record) -> bool:
        """Whether its numbers are needed no more: it has its recording, or is to have none and none came."""
        if one.outcome in (Outcome.WAITING, Outcome.MISSING, Outcome.UNDESCRIBED):
            return False
        ended_ns = (record.start_ns if record.answer_ns is None else record.answer_ns) + record.talk_ns
        return bool(one.recording) or ended_ns + self._tolerances.settle_ns < self._now_ns

    def _alarm(self, connection: sa.Connection, now_ns: int) -> None:
        before = {one for one, record in self._records.items() if record.outcome == Outcome.MISSING.value}
        missing = {record for record, one in self._found.items() if one.outcome is Outcome.MISSING}
        many = len(missing) > MANY
        day = self.day
        data = {"day": day.day}
        self._one(connection, MANY_MISSING, many, now_ns, count=len(missing))
        told = set() if many else missing
        for record_id in told - before if self._was_few(before) else told:
            line = self._found[record_id].line_id
            alarms.raise_alarm(
                connection,
                MISSING,
                record_id,
                self._tenant_id,
                now_ns,
                {**data, "line": line, "record": record_id},
            )
        for record_id in (before | missing) - told if self._was_few(before) else ():
            alarms.clear_alarm(connection, MISSING, record_id, now_ns)
        unwanted = self._comparison.counts[Outcome.UNWANTED]
        self._one(connection, UNWANTED, unwanted > 0, now_ns, count=unwanted)
        shift = self._comparison.shift
        seconds = 0 if shift is None else shift.ns // 10**9
        self._one(connection, CLOCK_OFF, shift is not None, now_ns, seconds=seconds)
        absent = day.state == "no-records" and bool(self._facts.recordings)
        self._one(connection, NO_RECORDS, absent, now_ns, recordings=len(self._facts.recordings))

    @staticmethod
    def _was_few(before: set[str]) -> bool:
        return len(before) <= MANY

    def _one(self, connection: sa.Connection, kind: str, stands: bool, now_ns: int, **numbers: int) -> None:
        """An alarm about the day as such; raised again only where its numbers are others."""
        subject = self.day.id
        if not stands:
            alarms.clear_alarm(connection, kind, subject, now_ns)
            return
        data: dict[str, str | int] = {"day": self.day.day, **numbers}
        newest = alarms.newest(connection, kind, subject)
        if newest is None or not newest.stands or dict(newest.data) != data:
            alarms.raise_alarm(connection, kind, subject, self._tenant_id, now_ns, data)


def shift_fields(shift: Shift | None) -> dict[str, Any]:
    """As it is kept."""
    if shift is None:
        return {}
    return {"ns": shift.ns, "zone": shift.zone, "explains": shift.explains, "before": shift.before}


def _bare(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(('  "revision":', '  "made":'))]
