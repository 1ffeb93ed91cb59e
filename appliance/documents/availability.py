"""Availability of access, from stretches in which the box served: sums, outages, days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.model.served import Cause, Follows, Served, Work

MAX_OUTAGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Outage:
    """A time at which recordings could not be had. `planned_ns` of it was planned work; `open`: it goes on."""

    begin_ns: int
    end_ns: int
    cause: Cause
    planned_ns: int = 0
    open: bool = False

    @property
    def length_ns(self) -> int:
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class Availability:
    """Of a span, as far as it is over. The first four add up to it."""

    available_ns: int = 0
    partial_ns: int = 0
    down_ns: int = 0
    unmeasured_ns: int = 0
    planned_ns: int = 0
    outages: tuple[Outage, ...] = field(default=())
    outage_count: int = 0

    @property
    def measured_ns(self) -> int:
        return self.available_ns + self.partial_ns + self.down_ns

    @property
    def ratio(self) -> float | None:
        """Of what was measured; None where nothing was."""
        return self.available_ns / self.measured_ns if self.measured_ns else None

    @property
    def agreed_ratio(self) -> float | None:
        """The same, planned work left out."""
        agreed = self.measured_ns - self.planned_ns
        return self.available_ns / agreed if agreed else None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of time: available (`cause` is None and it is measured), not available, or not measured."""

    begin_ns: int
    end_ns: int
    cause: Cause | None = None
    measured: bool = True


def pieces(stretches: Iterable[Served], from_ns: int, until_ns: int) -> list[Piece]:
    """The span in pieces without gaps. `stretches` in the order they were noted, from the one before the span on.

    What overlaps, as the clock went back, is counted once. Time before the first stretch is not measured.
    """
    found: list[Piece] = []
    at: int | None = None  # until where is known how it was
    first = until_ns
    for one in stretches:
        if at is None:
            first = one.begin_ns
        begin = one.begin_ns if at is None else max(one.begin_ns, at)
        if at is not None and begin > at:
            measured = one.follows is not Follows.CLOCK
            found.append(Piece(at, begin, Cause.STOPPED if measured else None, measured))
        if one.end_ns > begin:
            found.append(Piece(begin, one.end_ns, one.cause))
        at = max(one.end_ns, begin)
    if from_ns < first:
        found.insert(0, Piece(from_ns, min(first, until_ns), measured=False))
    if at is not None and at < until_ns:
        found.append(Piece(at, until_ns, Cause.STOPPED))
    cut = (Piece(max(p.begin_ns, from_ns), min(p.end_ns, until_ns), p.cause, p.measured) for p in found)
    return [one for one in cut if one.end_ns > one.begin_ns]


def measure(
    some: Sequence[Piece], planned: Iterable[Work] = (), *, now_ns: int | None = None
) -> Availability:
    """Sums of pieces, and outages: neighbours of one cause are one. `now_ns`: what reaches until then goes on."""
    works = _joined((one.begin_ns, one.end_ns) for one in planned)
    sums = {"available": 0, "partial": 0, "down": 0, "unmeasured": 0}
    outages: list[Outage] = []
    for one in some:
        length = one.end_ns - one.begin_ns
        if not one.measured:
            sums["unmeasured"] += length
        elif one.cause is None:
            sums["available"] += length
        else:
            sums["down" if one.cause is Cause.STOPPED else "partial"] += length
            last = outages[-1] if outages else None
            if last is not None and (last.end_ns, last.cause) == (one.begin_ns, one.cause):
                outages[-1] = Outage(last.begin_ns, one.end_ns, one.cause)
            else:
                outages.append(Outage(one.begin_ns, one.end_ns, one.cause))
    told = [
        Outage(
            one.begin_ns,
            one.end_ns,
            one.cause,
            sum(max(0, min(one.end_ns, end) - max(one.begin_ns, begin)) for begin, end in works),
            one.end_ns == now_ns,
        )
        for one in outages
    ]
    return Availability(
        sums["available"],
        sums["partial"],
        sums["down"],
        sums["unmeasured"],
        sum(one.planned_ns for one in told),
        tuple(told[:MAX_OUTAGES]),
        len(told),
    )


def by_day(some: Sequence[Piece], days: Sequence[tuple[str, int, int]]) -> list[float | None]:
    """The ratio of each day (label, begin, end, in order, without overlap); None where nothing was measured."""
    found: list[float | None] = []
    place = 0
    for _, begin, end in days:
        good = measured = 0
        while place < len(some) and some[place].end_ns <= begin:
            place += 1
        for one in some[place:]:
            if one.begin_ns >= end:
                break
            length = min(one.end_ns, end) - max(one.begin_ns, begin)
            measured += length if one.measured else 0
            good += length if one.measured and one.cause is None else 0
        found.append(good / measured if measured else None)
    return found


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
