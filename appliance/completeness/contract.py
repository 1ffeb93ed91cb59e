"""What a tenant contracted: which line a call was of, in which direction, and whether it was to be recorded.

The same rules as signaling's (`media.signaling.routing`), told from the switchboard's numbers instead of from SIP; as the
lines were when the call came.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.completeness.reading import CallRecord
from appliance.media.siprec.numbers import pattern_rank
from appliance.model import Direction
from appliance.model.routing import Line

_BIN: Final = 6  # digits that two spellings of one number have in common at their ends


class Why(enum.StrEnum):
    """Whether a call was to be recorded, and why not."""

    CONTRACTED = "contracted"
    UNANSWERED = "unanswered"
    NO_LINE = "no-line"  # no line of the tenant takes it, or took it then
    DIRECTION = "direction-not-contracted"
    DO_NOT_RECORD = "do-not-record"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`line_id` is empty where no line takes the call."""

    why: Why
    line_id: str
    direction: Direction


class _Lines:
    """The lines of one time, found by number."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = {line.line_id: line for line in lines}
        self.catch_all = next((line for line in lines if line.catch_all), None)
        self._plain: dict[str, list[tuple[str, Line]]] = defaultdict(list)
        self._open: list[tuple[str, Line]] = []
        for line in lines:
            for pattern in line.numbers:
                if pattern.endswith("*"):
                    self._open.append((pattern, line))
                else:
                    self._plain[pattern.lower()[-_BIN:]].append((pattern, line))
        self._known: dict[str, tuple[int, Line] | None] = {}

    def best(self, number: str) -> tuple[int, Line] | None:
        """The line whose pattern fits this number best, and how well."""
        if number not in self._known:
            found: tuple[int, Line] | None = None
            for pattern, line in (*self._plain.get(number[-_BIN:], ()), *self._open):
                rank = pattern_rank(pattern, number)
                if rank and (found is None or rank > found[0]):
                    found = rank, line
            self._known[number] = found
        return self._known[number]


class Contract:
    """`versions`: of each line, what it said from when on (nanoseconds since the Unix epoch), oldest first."""

    def __init__(self, versions: Mapping[str, Sequence[tuple[int, Line]]]) -> None:
        self._versions = versions
        self._changes = sorted({at for some in versions.values() for at, _ in some})
        self._at: dict[int, _Lines] = {}

    def judge(self, record: CallRecord, line_id: str = "", least_talk_ns: int = 0) -> Judgement:
        """`line_id`: whose the source's calls are where no number says so. Shorter talk counts as unanswered."""
        then = self._lines(record.start_ns)
        line = self._line(then, record.numbers, line_id)
        if line is None:
            return Judgement(Why.NO_LINE, "", record.direction or Direction.UNKNOWN)
        direction = record.direction or _direction(line, record)
        if not record.answered or record.talk_ns < least_talk_ns:
            why = Why.UNANSWERED
        elif any(pattern_rank(pattern, one) for pattern in line.do_not_record for one in record.numbers):
            why = Why.DO_NOT_RECORD
        elif direction not in line.directions:
            why = Why.DIRECTION
        else:
            why = Why.CONTRACTED
        return Judgement(why, line.line_id, direction)

    def owns(self, number: str, at_ns: int) -> bool:
        """Whether it is a number of one of the tenant's lines, and so says little of which call it was."""
        return self._lines(at_ns).best(number) is not None

    def _lines(self, at_ns: int) -> _Lines:
        place = bisect_right(self._changes, at_ns)
        if place not in self._at:
            there = []
            for some in self._versions.values():
                newest = bisect_right([at for at, _ in some], at_ns)
                if newest:
                    there.append(some[newest - 1][1])
            self._at[place] = _Lines(there)
        return self._at[place]

    def _line(self, then: _Lines, numbers: Iterable[str], line_id: str) -> Line | None:
        best: tuple[int, Line] | None = None
        for number in numbers:
            found = then.best(number)
            if found is not None and (best is None or found[0] > best[0]):
                best = found
        if best is not None:
            return best[1]
        return then.lines.get(line_id) or then.catch_all


def _direction(line: Line, record: CallRecord) -> Direction:
    """As the tenant sees it, where the switchboard does not say."""
    from_us = any(pattern_rank(one, record.from_number) for one in line.numbers)
    to_us = any(
        pattern_rank(one, number) for one in line.numbers for number in (record.to_number, record.extension)
    )
    if from_us and to_us:
        return Direction.INTERNAL
    if from_us != to_us:
        return Direction.OUTBOUND if from_us else Direction.INBOUND
    return Direction.UNKNOWN
