"""Call records held against recordings: what became of each call, and which recordings nobody knows of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from appliance.completeness.contract import Why
from appliance.completeness.facts import AWAY, Call, Finding, Heard, Known, Outcome, Tolerances, calls_of
from appliance.completeness.matching import Matches
from appliance.completeness.shifting import Shift, find_shift
from appliance.model import Direction

_NOT_EXPECTED = {
    Why.UNANSWERED: Outcome.UNANSWERED,
    Why.NO_LINE: Outcome.NO_LINE,
    Why.DIRECTION: Outcome.NOT_CONTRACTED,
    Why.DO_NOT_RECORD: Outcome.DO_NOT_RECORD,
}


@dataclass
class Comparison:
    """`findings`: one a record, in their order, then recordings without one. `uncovered`: recordings of lines or times
    of which no record tells."""

    findings: list[Finding] = field(default_factory=list)
    shift: Shift | None = None
    uncovered: int = 0

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(one.outcome for one in self.findings)


def compare(
    records: Sequence[Known],
    recordings: Iterable[Heard],
    now_ns: int,
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Records in the order of their beginnings. Where all times are off they are compared as they should have been."""
    told = tolerances or Tolerances()
    calls = calls_of(recordings)
    found = Comparison(shift=find_shift([one for one in records if not one.pinned], calls, told))
    if found.shift is not None:
        records = [one if one.pinned else _moved(one, found.shift.ns) for one in records]
    matches = Matches(records, calls, told)
    for at, record in enumerate(records):
        place = matches.own.get(at, -1)
        if place >= 0:
            found.findings.append(_judged(record, calls[place], told))
        elif at in matches.covered:
            found.findings.append(
                _of(record, _covered(record, calls[matches.covered[at]]), calls[matches.covered[at]])
            )
        else:
            found.findings.append(_unmatched(record, now_ns, told))
    _leftovers(found, matches, told)
    return found


def _moved(record: Known, by_ns: int) -> Known:
    answer_ns = None if record.answer_ns is None else record.answer_ns + by_ns
    return replace(record, start_ns=record.start_ns + by_ns, answer_ns=answer_ns)


def _of(
    record: Known, outcome: Outcome, call: Call | None = None, detail: str = "", off_ns: int = 0
) -> Finding:
    return Finding(
        outcome,
        record.id,
        call.id if call is not None else "",
        record.line_id,
        record.direction,
        record.start_ns,
        record.talk_ns,
        detail,
        off_ns,
    )


def _unmatched(record: Known, now_ns: int, told: Tolerances) -> Finding:
    if record.why is not Why.CONTRACTED:
        return _of(record, _NOT_EXPECTED[record.why])
    if record.end_ns + told.settle_ns > now_ns:
        return _of(record, Outcome.WAITING)
    return _of(record, Outcome.MISSING)


def _covered(record: Known, call: Call) -> Outcome:
    """Another piece of a call that was matched: its faults are told once."""
    if record.why is not Why.CONTRACTED:
        return _NOT_EXPECTED[record.why]
    return call.state


def _judged(record: Known, call: Call, told: Tolerances) -> Finding:
    if call.withheld:
        return _withheld(record, call)
    if record.why is not Why.CONTRACTED:
        here = call.state is Outcome.MATCHED
        wrong = record.why is Why.DO_NOT_RECORD or (
            # Who says which way a call went differently does not contradict what was contracted.
            record.why is Why.DIRECTION and all(one.direction is record.direction for one in call.parts)
        )
        if here and wrong:
            return _of(record, Outcome.UNWANTED, call, record.why.value)
        return _of(record, _NOT_EXPECTED[record.why], call)
    if call.state in AWAY:
        return _of(record, call.state, call)
    return _quality(record, call, told)


def _withheld(record: Known, call: Call) -> Finding:
    """The box noted the call, and why there is no sound."""
    if call.withheld == "stopped":
        return _of(record, Outcome.STOPPED, call)
    if record.why is Why.CONTRACTED and call.withheld != Why.DO_NOT_RECORD.value:
        return _of(record, Outcome.MISSING, call, call.withheld)
    if record.why is Why.CONTRACTED:
        return _of(record, Outcome.DO_NOT_RECORD, call)
    return _of(record, _NOT_EXPECTED[record.why], call)


def _quality(record: Known, call: Call, told: Tolerances) -> Finding:
    silent = next((one.silent for one in call.parts if one.silent), "")
    if silent:
        return _of(record, Outcome.ONE_SIDED, call, silent)
    allowed = told.talk(record.talk_ns)
    if record.answer_ns is not None:
        late_ns = call.start_ns - record.answer_ns
        if late_ns > told.late_ns:
            return _of(record, Outcome.LATE, call, off_ns=late_ns)
        off_ns = record.talk_ns - call.kept_ns(record.answer_ns, record.end_ns)
    else:
        off_ns = record.talk_ns - call.kept_ns(call.start_ns, call.end_ns)
    if off_ns > allowed and not any(one.stopped for one in call.parts):
        return _of(record, Outcome.SHORT, call, off_ns=off_ns)
    if call.lost_ns > allowed:
        return _of(record, Outcome.GAP, call, off_ns=call.lost_ns)
    return _of(record, Outcome.MATCHED, call)


def _leftovers(found: Comparison, matches: Matches, told: Tolerances) -> None:
    """Recordings without a record: a second one of a call, or one nobody knows of; of what records do not cover nothing."""
    spans: dict[str, tuple[int, int]] = {}
    for record in matches.records:
        first, last = spans.get(record.line_id, (record.start_ns, record.start_ns))
        spans[record.line_id] = min(first, record.start_ns), max(last, record.start_ns)
    spans.pop("", None)
    for place, call in enumerate(matches.calls):
        if place in matches.taken or call.withheld or call.state in (Outcome.ERASED, Outcome.DELETED):
            continue
        first, last = spans.get(call.parts[0].line_id, (1, 0))
        if not first - told.start_ns <= call.start_ns <= last + told.start_ns:
            found.uncovered += 1
            continue
        if call.state is not Outcome.MATCHED:
            continue
        second = matches.second_of(call) >= 0
        found.findings.append(
            Finding(
                Outcome.DUPLICATE if second else Outcome.EXTRA,
                "",
                call.id,
                call.parts[0].line_id,
                call.parts[0].direction if call.parts else Direction.UNKNOWN,
                call.start_ns,
                call.end_ns - call.start_ns,
            )
        )
