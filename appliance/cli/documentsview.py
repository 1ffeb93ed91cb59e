"""Documents and service levels for people: a strip of days, sums, outages, alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from appliance.cli import output
from appliance.cli.connection import bare
from appliance.documents import words
from appliance.documents.plots import FAIR_FROM
from earwitness.v1 import documents_pb2 as pb

WIDTH: Final = 62  # characters of a strip; more days are drawn together, by their worst
_SHOWN: Final = 12
_CAUSES: Final = {
    pb.OUTAGE_CAUSE_STOPPED: "the box did not serve",
    pb.OUTAGE_CAUSE_CATALOGUE: "the catalogue was away",
    pb.OUTAGE_CAUSE_VAULT: "the vault was away",
}


def kind(value: int) -> str:
    """service-level."""
    return output.enum_word(pb.DocumentKind, value).replace(" ", "-")


def documents(some: Sequence[pb.Document]) -> None:
    output.table(
        ("Document", "Kind", "Form", "Made", "By", "From", "Until", ">Size"),
        (
            (
                bare(one.name),
                kind(one.kind),
                output.enum_word(pb.DocumentFormat, one.format),
                output.when(one.create_time),
                one.creator,
                output.when(one.start_time)[:10],
                output.when(one.end_time)[:10],
                output.size(one.size_bytes),
            )
            for one in some
        ),
        empty="No document was made.",
    )


def works(some: Sequence[pb.PlannedWork]) -> None:
    output.table(
        ("Work", "From", "Until", "Noted", "By", "What"),
        (
            (
                bare(one.name),
                output.when(one.start_time),
                output.when(one.end_time),
                output.when(one.create_time),
                one.creator,
                one.description,
            )
            for one in some
        ),
        empty="No work is planned.",
    )


def service_level(found: pb.ServiceLevel) -> None:
    """Everything of it."""
    there, calls = found.availability, found.calls
    ratio = there.ratio if there.HasField("ratio") else None
    agreed = there.agreed_ratio if there.HasField("agreed_ratio") else None
    output.facts(
        (
            ("From", output.when(found.start_time)),
            (
                "Until",
                output.when(min(found.end_time, found.measure_time, key=lambda one: one.ToNanoseconds())),
            ),
            ("Availability", _measured(words.percent(ratio), there)),
            ("  planned work left out", words.percent(agreed) if there.planned.ToNanoseconds() else ""),
            ("Completeness", _complete(found)),
            ("Recordings", f"{calls.recording_count}, {output.clock(calls.duration)} long together"),
            ("Sound lost", _lost(calls)),
            ("Filed after the call", _delays(calls)),
        )
    )
    if found.days:
        _strip(
            "Available", [(one.availability if one.HasField("availability") else None) for one in found.days]
        )
        if any(one.HasField("completeness") for one in found.days):
            _strip(
                "Complete",
                [(one.completeness if one.HasField("completeness") else None) for one in found.days],
            )
        output.console.print(
            f"           {found.days[0].day} to {found.days[-1].day}, a mark a day", style="dim"
        )
    _outages(there.outages)
    output.table(
        ("Alarm", ">Times", ">Stood", ">Not acknowledged", ">Stand"),
        (
            (
                one.kind,
                str(one.count),
                _length(one.stood),
                str(one.unacknowledged_count or ""),
                str(one.open_count or ""),
            )
            for one in found.alarms
        ),
        empty="No alarm stood.",
    )


def _outages(some: Sequence[pb.Outage]) -> None:
    if not some:
        output.console.print("No outage.")
        return
    output.table(
        ("Outage", "Until", ">Length", ">Of it planned", "Why"),
        (
            (
                output.when(one.start_time),
                output.when(one.end_time) or "goes on",
                words.length(one.end_time.ToNanoseconds() - one.start_time.ToNanoseconds())
                if one.HasField("end_time")
                else "",
                _length(one.planned) if one.planned.ToNanoseconds() else "",
                _CAUSES.get(one.cause, "?"),
            )
            for one in some[-_SHOWN:]
        ),
        empty="",
    )
    if len(some) > _SHOWN:
        output.console.print(f"and {len(some) - _SHOWN} before", style="dim")


def _strip(name: str, ratios: list[float | None]) -> None:
    each = -(-len(ratios) // WIDTH)
    drawn = Text(f"{name:<11}")
    for at in range(0, len(ratios), each):
        known = [one for one in ratios[at : at + each] if one is not None]
        drawn.append(*_mark(min(known) if known else None))
    output.console.print(drawn)


def _mark(ratio: float | None) -> tuple[str, str]:
    """Told apart without colour, too."""
    if ratio is None:
        return "·", "dim"
    if ratio >= 1:
        return "█", "green"
    return ("▓", "yellow") if ratio >= FAIR_FROM else ("░", "red")


def _measured(said: str, there: pb.Availability) -> str:
    parts = [
        f"{_length(span)} {name}"
        for span, name in (
            (there.partial, "without catalogue or vault"),
            (there.down, "down"),
            (there.unmeasured, "not measured"),
        )
        if span.ToNanoseconds()
    ]
    return f"{said}{': ' if parts else ''}{', '.join(parts)}"


def _complete(found: pb.ServiceLevel) -> str:
    if not found.HasField("completeness"):
        return f"{words.percent(None)}: no call records of the switchboard"
    one = found.completeness
    ratio = one.ratio if one.HasField("ratio") else None
    return (
        f"{words.percent(ratio)}: {one.missing_count} of {one.contracted_count} contracted calls are missing"
    )


def _lost(calls: pb.CallFigures) -> str:
    if not calls.gap_count:
        return "none"
    return f"{_length(calls.lost)} in {output.count(calls.gap_recording_count, 'recording')}"


def _delays(calls: pb.CallFigures) -> str:
    if not calls.HasField("median_delay"):
        return ""
    return f"half within {_length(calls.median_delay)}, the longest {_length(calls.longest_delay)}"


def _length(span: Duration) -> str:
    return words.length(span.ToNanoseconds())
