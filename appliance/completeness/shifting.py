"""A wrong time zone, or a clock that is off: one shift of all times, instead of thousands of calls that are missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from appliance.completeness.facts import Call, Known, Tolerances

FURTHEST_NS: Final = (14 * 3600 + 900) * 10**9  # from UTC-12 to UTC+14 is more, from home to UTC is not
_QUARTER_NS: Final = 900 * 10**9
_BIN_NS: Final = 30 * 10**9
_LEAST: Final = 5  # calls that say so
_MOST: Final = 64  # calls of one number that are looked at: who calls more often says nothing


@dataclass(frozen=True, slots=True)
class Shift:
    """What is to be added to the switchboard's times. `explains` of `comparable` calls fit then, `before` without it.

    `zone`: it is whole quarters of an hour, as a wrong time zone makes; else a clock is off.
    """

    ns: int
    explains: int
    before: int
    comparable: int
    zone: bool


def find_shift(records: Sequence[Known], calls: Sequence[Call], tolerances: Tolerances) -> Shift | None:
    """The shift that explains far more than none does; None where there is none."""
    starts: dict[str, list[int]] = defaultdict(list)
    for call in calls:
        for number in call.outside:
            starts[number].append(call.start_ns)
    votes: dict[int, dict[int, int]] = defaultdict(dict)  # bin: record, difference
    comparable = before = 0
    for place, record in enumerate(records):
        near = {
            other - record.begin_ns
            for number in record.outside
            for other in _within(starts.get(number, []), record.begin_ns)
        }
        comparable += bool(near)
        before += any(-tolerances.start_ns <= one <= tolerances.start_ns + 60 * 10**9 for one in near)
        for one in near:
            votes[one // _BIN_NS].setdefault(place, one)
    best: list[int] = []
    for bin_ in votes:
        found = {**votes.get(bin_ + 1, {}), **votes[bin_]}
        if len(found) > len(best):
            best = list(found.values())
    if len(best) < max(_LEAST, 3 * before, (comparable + 1) // 2):
        return None
    off_ns = round(median(best) / 10**9) * 10**9
    quarters = round(off_ns / _QUARTER_NS) * _QUARTER_NS
    zone = quarters != 0 and abs(off_ns - quarters) <= 2 * _BIN_NS
    shift_ns = quarters if zone else off_ns
    if abs(shift_ns) <= tolerances.start_ns:
        return None
    return Shift(shift_ns, len(best), before, comparable, zone)


def _within(starts: list[int], at_ns: int) -> list[int]:
    low = bisect_left(starts, at_ns - FURTHEST_NS)
    high = bisect_right(starts, at_ns + FURTHEST_NS)
    return starts[low:high] if high - low <= _MOST else []
