"""A day of calls with faults sown into it: what the switchboard wrote, what the box has, and what should be found."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from appliance.catalog.numbering import Numbering
from appliance.completeness.contract import Contract, Why
from appliance.completeness.facts import Heard, Known, Outcome
from appliance.completeness.reading import CallRecord
from appliance.model import Direction, new_id
from appliance.model.routing import Line

S = 10**9
DAY = 1_795_910_400 * S  # 2026-11-29 00:00 UTC
FORM = Numbering()


def line(line_id: str, *numbers: str, **fields) -> Line:
    return Line(line_id=line_id, tenant_id="t" * 26, display_name=line_id, numbers=numbers, **fields)


LINES = (
    line("a" * 26, "01632960100", "2*", directions=(Direction.INBOUND, Direction.OUTBOUND)),
    line(
        "b" * 26,
        "01632960200",
        "3*",
        directions=(Direction.INBOUND,),
        do_not_record=("07700900999",),
    ),
)
CONTRACT = Contract({one.line_id: [(0, one)] for one in LINES})


@dataclass
class Day:
    """`sown`: outcome by id of the record, or of the recording where it has none."""

    records: list[Known] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    rows: list[CallRecord] = field(default_factory=list)
    sown: dict[str, Outcome] = field(default_factory=dict)

    @property
    def counts(self) -> Counter[Outcome]:
        return Counter(self.sown.values())


def known(row: CallRecord, record_id: str = "") -> Known:
    judged = CONTRACT.judge(row)
    return Known(
        record_id or new_id(),
        judged.line_id,
        judged.direction,
        judged.why,
        row.start_ns,
        row.answer_ns,
        row.talk_ns,
        frozenset(FORM.normal(one) for one in row.numbers),
        frozenset(FORM.normal(one) for one in row.numbers if not CONTRACT.owns(one, row.start_ns)),
        row.call_id,
    )


def heard(row: CallRecord, judged: Known, **fields) -> Heard:
    begin = row.start_ns if row.answer_ns is None else row.answer_ns
    return Heard(
        **{
            "id": new_id(),
            "line_id": judged.line_id,
            "state": Outcome.MATCHED,
            "start_ns": begin,
            "duration_ns": row.talk_ns,
            "direction": judged.direction,
            "call": new_id(),
            "numbers": judged.numbers,
            "outside": judged.outside,
            **fields,
        }
    )


def day(seed: int, calls: int = 5000, faults: int = 40, shift_s: int = 0) -> Day:
    """Calls of a busy house; `faults` of them of six kinds and more. `shift_s`: the switchboard's clock is ahead."""
    rng = random.Random(seed)
    made = Day()
    callers = [f"07700{rng.randrange(10**6):06}" for _ in range(calls // 2)]
    kinds = [
        *(Outcome.MISSING, Outcome.LATE, Outcome.SHORT, Outcome.GAP),
        *(Outcome.ONE_SIDED, Outcome.EXTRA, Outcome.DUPLICATE, Outcome.UNWANTED),
    ]
    bad = {
        place: kinds[at % len(kinds)] for at, place in enumerate(rng.sample(range(10, calls - 10), faults))
    }
    starts = sorted(rng.randrange(8 * 3600, 19 * 3600) for _ in range(calls))
    for place in range(calls):
        fault = bad.get(place)
        who = rng.choice(LINES)
        short = "2" if who is LINES[0] else "3"
        agent = f"{short}{rng.randrange(100):02}"
        caller = rng.choice(callers)
        withheld = rng.random() < 0.03 and fault is None
        direction = Direction.INBOUND if rng.random() < 0.7 else Direction.OUTBOUND
        ddi = who.numbers[0]
        if fault is Outcome.UNWANTED:
            who, ddi, agent, direction = LINES[1], LINES[1].numbers[0], "300", Direction.INBOUND
            caller = "07700900999"
        elif fault is not None and who is LINES[1]:
            direction = Direction.INBOUND
        answered = rng.random() < 0.9 or fault is not None
        talk_ns = int(rng.expovariate(1 / 180) * S) + 20 * S if answered else 0
        if fault is not None:
            talk_ns += 60 * S
        start_ns = DAY + starts[place] * S + rng.randrange(S)
        answer_ns = start_ns + rng.randrange(2, 25) * S if answered else None
        from_, to = (caller, ddi) if direction is Direction.INBOUND else (agent, caller)
        row = CallRecord(
            row=place + 1,
            identity=f"{place}",
            start_ns=start_ns,
            answer_ns=answer_ns,
            talk_ns=talk_ns,
            answered=answered,
            direction=direction,
            from_number="" if withheld and direction is Direction.INBOUND else from_,
            to_number=to,
            extension=agent if direction is Direction.INBOUND else "",
            call_id=f"c{place}",
        )
        judged = known(row)
        told = CallRecord(**{name: getattr(row, name) for name in row.__slots__})
        if shift_s:
            told = moved(row, shift_s * S)
        told_known = known(told, judged.id)
        if fault is not Outcome.EXTRA:
            made.rows.append(told)
            made.records.append(told_known)
        if fault is None and judged.why is not Why.CONTRACTED:
            continue
        good = heard(
            row,
            judged,
            start_ns=(answer_ns or start_ns) + rng.randrange(-S, S),
            duration_ns=max(0, talk_ns + rng.randrange(-2 * S, 3 * S)),
            ids=frozenset({f"c{place}"}) if rng.random() < 0.3 else frozenset(),
        )
        if fault is None:
            made.heard.append(good)
            continue
        subject = judged.id
        match fault:
            case Outcome.MISSING:
                pass
            case Outcome.LATE:
                late_ns = rng.randrange(8, 40) * S
                made.heard.append(
                    heard(
                        row, judged, start_ns=(answer_ns or start_ns) + late_ns, duration_ns=talk_ns - late_ns
                    )
                )
            case Outcome.SHORT:
                made.heard.append(heard(row, judged, duration_ns=talk_ns - max(12 * S, talk_ns // 10)))
            case Outcome.GAP:
                made.heard.append(heard(row, judged, lost_ns=max(9 * S, talk_ns // 20)))
            case Outcome.ONE_SIDED:
                made.heard.append(heard(row, judged, silent="one-way"))
            case Outcome.EXTRA:
                made.heard.append(good)
                subject = good.id
            case Outcome.DUPLICATE:
                twin = heard(row, judged, start_ns=(answer_ns or start_ns) + 3 * S)
                made.heard += [good, twin]
                subject = twin.id
            case Outcome.UNWANTED:
                made.heard.append(good)
        made.sown[subject] = fault
    order = sorted(range(len(made.records)), key=lambda at: made.records[at].start_ns)
    made.records = [made.records[at] for at in order]
    made.rows = [made.rows[at] for at in order]
    return made


def moved(row: CallRecord, by_ns: int) -> CallRecord:
    fields = {name: getattr(row, name) for name in row.__slots__}
    fields["start_ns"] += by_ns
    if row.answer_ns is not None:
        fields["answer_ns"] = row.answer_ns + by_ns
    return CallRecord(**fields)
