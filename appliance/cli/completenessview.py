"""Completeness for people: imports, days, a day's report with a bar for each hour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.table import Table
from rich.text import Text

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import completeness_pb2 as pb
from earwitness.v1 import party_pb2

BAR: Final = 40  # characters
_SHOWN: Final = 20  # problems of a file
_STATES: Final = {
    pb.COMPLETENESS_STATE_PRELIMINARY: "preliminary",
    pb.COMPLETENESS_STATE_FINAL: "final",
    pb.COMPLETENESS_STATE_NO_RECORDS: "no records",
}
_PREFIX: Final = "CALL_OUTCOME_"


def outcome(value: int) -> str:
    """missing, one-sided."""
    return pb.CallOutcome.Name(value).removeprefix(_PREFIX).lower().replace("_", "-")  # type: ignore[arg-type]


def outcome_of(word: str) -> pb.CallOutcome.ValueType:
    """Failure OUTCOME_UNKNOWN."""
    name = _PREFIX + word.upper().replace("-", "_")
    if name not in list(pb.CallOutcome.keys()) or name == f"{_PREFIX}UNSPECIFIED":
        known = ", ".join(outcome(one) for one in pb.CallOutcome.values() if one)
        raise Failure(Exit.USAGE, "no such outcome", "OUTCOME_UNKNOWN", f"one of {known}")
    return pb.CallOutcome.Value(name)


def percent(day: pb.CompletenessDay) -> str:
    """99.98 %; never rounded up to a whole."""
    if day.state == pb.COMPLETENESS_STATE_NO_RECORDS:
        return "?"
    if not day.missing_count:
        return "100 %"
    return f"{min(99.99, int(day.completeness * 10000) / 100):.2f} %"


def shift(one: pb.ClockShift) -> str:
    """Such as "1:00:00 ahead: time zone"."""
    seconds = abs(one.added.seconds)
    way = "ahead" if one.added.seconds < 0 else "behind"
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{clock} {way}: {'time zone' if one.time_zone else 'clock'}"


def line(day: pb.CompletenessDay) -> str:
    """A day in one line."""
    faults = ", ".join(
        f"{one.count} {outcome(one.outcome)}"
        for one in day.outcomes
        if one.outcome >= pb.CALL_OUTCOME_MISSING
    )
    return (
        f"{bare(day.name)}  {percent(day)} of {output.count(day.contracted_count, 'contracted call')}"
        f" ({_STATES.get(day.state, '?')}); {faults or 'no fault'}"
    )


def import_(file: str, answer: pb.ImportCallRecordsResponse, *, dry: bool) -> None:
    """What came of a file."""
    made = answer.call_record_import
    verb = "would be new" if dry else "new"
    parts = [f"{made.new_count} {verb}", f"{made.repeated_count} came before"]
    parts += [f"{made.old_count} too old"] if made.old_count else []
    parts += [f"{made.broken_count} broken"] if made.broken_count else []
    output.console.print(
        Text(f"{output.plain(file)}: {output.count(made.row_count, 'row')}; {', '.join(parts)}"),
        soft_wrap=True,
    )
    if made.repeats:
        output.console.print(f"  the same file was taken before, as {bare(made.repeats)}")
    if made.HasField("shift"):
        output.console.print(
            f"  all its times are off, {shift(made.shift)}; {made.shift.explains} calls fit once that is put right,"
            f" {made.shift.explained_before} without: set the source's time zone, or the switchboard's clock",
            soft_wrap=True,
        )
    problems(made.problems, made.broken_count)
    for one in answer.days:
        output.console.print(f"  {line(one)}", soft_wrap=True)


def problems(some: Sequence[pb.RecordProblem], count: int) -> None:
    """Broken rows, the first ones."""
    for one in some[:_SHOWN]:
        column = f", column {output.plain(one.column)}" if one.column else ""
        output.console.print(Text(f"  row {one.row}{column}: {one.reason}"), soft_wrap=True)
    if count > min(len(some), _SHOWN):
        output.console.print(f"  and {count - min(len(some), _SHOWN)} more")


def days(some: Sequence[pb.CompletenessDay]) -> None:
    output.table(
        ("Day", "State", ">Contracted", ">Missing", ">Faults", ">There", "Clock"),
        (
            (
                bare(one.name),
                _STATES.get(one.state, "?"),
                str(one.contracted_count),
                str(one.missing_count or ""),
                str(one.fault_count or ""),
                percent(one),
                shift(one.shift) if one.HasField("shift") else "",
            )
            for one in some
        ),
        empty="No call records came yet: `earwitness completeness import`.",
    )


def report(found: pb.GetCompletenessReportResponse) -> None:
    """Counts, a bar for each hour in which anything was, each fault."""
    day = found.day
    written = json.loads(found.report)
    output.console.print(f"{line(day)}; revision {day.revision}", soft_wrap=True)
    if day.HasField("shift"):
        output.console.print(f"All times of the records are off, {shift(day.shift)}.")
    output.console.print(
        ", ".join(f"{one.count} {outcome(one.outcome)}" for one in day.outcomes), soft_wrap=True
    )
    output.console.print(hours(written["hours"]))
    rows = [
        (
            one["start"].replace("T", " "),
            one["fault"],
            one["detail"] or (f"{one['off_seconds']:.0f} s" if one["off_seconds"] else ""),
            one["direction"],
            f"{one['seconds']:.0f}",
            bare(one["line"]),
            bare(one["recording"] or one["record"]),
        )
        for one in written["faults"]
    ]
    output.table(
        ("Start (UTC)", "Fault", "More", "Direction", ">Seconds", "Line", "Recording or record"),
        rows,
        empty="No fault.",
    )


def hours(some: Sequence[dict[str, object]]) -> Table:
    """A bar an hour: what was contracted, and of it what is missing."""
    most = max((int(str(one["contracted_calls"])) for one in some), default=0)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Hour")
    for head in ("Contracted", "Missing", "Faults"):
        table.add_column(head, justify="right")
    table.add_column("", width=BAR)
    for one in some:
        contracted, missing, faults = (
            int(str(one[name])) for name in ("contracted_calls", "missing_calls", "faults")
        )
        if not (contracted or faults):
            continue
        length = round(BAR * contracted / max(1, most))
        # What is missing is seen, however little it is.
        gone = min(BAR, max(1, round(BAR * missing / max(1, most)))) if missing else 0
        bar = Text("█" * max(0, length - gone), style="green")
        bar.append("░" * gone, style="red")
        hour = datetime.fromisoformat(str(one["start"])).strftime("%H:%M")
        table.add_row(hour, str(contracted), str(missing or ""), str(faults or ""), bar)
    return table


def records(some: Sequence[pb.CallRecord]) -> None:
    output.table(
        ("Start", "From", "To", ">Talk", "Direction", "Outcome", "More", "Recording"),
        (
            (
                output.when(one.start_time),
                one.from_number,
                one.extension or one.to_number,
                output.clock(one.talk),
                output.enum_word(party_pb2.Direction, one.direction),
                outcome(one.outcome),
                one.detail or (output.clock(one.off) if one.off.seconds else ""),
                bare(one.recording),
            )
            for one in some
        ),
        empty="No such call record.",
    )
