"""What is compared: calls as the switchboard and as the box know them, and what comes of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from appliance.completeness.contract import Why
from appliance.model import Direction

S: Final = 10**9


class Outcome(enum.StrEnum):
    """What became of a call. Of a fault more is told than its number."""

    MATCHED = "matched"
    # As it should be.
    UNANSWERED = "unanswered"
    NO_LINE = "no-line"
    NOT_CONTRACTED = "not-contracted"  # this direction
    DO_NOT_RECORD = "do-not-record"
    STOPPED = "stopped"  # by somebody who had the right, before anything was recorded
    # It was recorded, and cannot be looked at now.
    DELETED = "deleted"
    ERASED = "erased"
    QUARANTINED = "quarantined"
    UNDESCRIBED = "undescribed"  # the tenant's keys are locked
    WAITING = "waiting"  # it ended a moment ago: its recording may be on its way
    # Faults.
    MISSING = "missing"
    LATE = "late"  # its beginning is not there
    SHORT = "short"
    GAP = "gap"  # media was lost on the way
    ONE_SIDED = "one-sided"  # a side, or both, without sound
    UNWANTED = "unwanted"  # recorded, though it was not to be
    EXTRA = "extra"  # a recording of which the switchboard knows nothing
    DUPLICATE = "duplicate"  # a second recording of a call


FAULTS: Final = (
    *(Outcome.MISSING, Outcome.LATE, Outcome.SHORT, Outcome.GAP, Outcome.ONE_SIDED),
    *(Outcome.UNWANTED, Outcome.EXTRA, Outcome.DUPLICATE),
)
AWAY: Final = (Outcome.DELETED, Outcome.ERASED, Outcome.QUARANTINED, Outcome.UNDESCRIBED)
EXPECTED: Final = frozenset(
    {Outcome.MATCHED, Outcome.MISSING, Outcome.LATE, Outcome.SHORT, Outcome.GAP, Outcome.ONE_SIDED, *AWAY}
)
"""What counts as a contracted call."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two clocks and two ways to count may differ. Nanoseconds."""

    start_ns: int = 30 * S
    talk_ns: int = 5 * S
    late_ns: int = 5 * S
    settle_ns: int = 600 * S
    """How long after its end a recording may still be on its way into the vault."""

    def talk(self, talk_ns: int) -> int:
        """Of a long call a fiftieth."""
        return max(self.talk_ns, talk_ns // 50)


@dataclass(frozen=True, slots=True)
class Known:
    """A call as the switchboard knows it. `numbers`: in the form of E.164; `pinned`: the recording it had before."""

    id: str
    line_id: str
    direction: Direction
    why: Why
    start_ns: int
    answer_ns: int | None
    talk_ns: int
    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    outside: frozenset[str] = field(default=frozenset(), repr=False)  # those of them that no line has
    call_id: str = field(default="", repr=False)
    pinned: str = ""

    @property
    def begin_ns(self) -> int:
        """When talk began, as far as is known."""
        return self.start_ns if self.answer_ns is None else self.answer_ns

    @property
    def end_ns(self) -> int:
        return self.begin_ns + self.talk_ns


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording. `state` and what is known of it as in the catalogue; `withheld`: why it has no sound, by contract."""

    id: str
    line_id: str
    state: Outcome  # MATCHED: there, and described
    start_ns: int
    duration_ns: int
    direction: Direction = Direction.UNKNOWN
    call: str = ""  # the box's own id of the call: parts of one call have the same
    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    outside: frozenset[str] = field(default=frozenset(), repr=False)
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    withheld: str = ""
    silent: str = ""  # one-way, silent
    stopped: bool = False
    lost_ns: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """All recordings of one call together."""

    parts: tuple[Heard, ...]

    @property
    def id(self) -> str:
        """Of the first of them."""
        return self.parts[0].id

    @property
    def start_ns(self) -> int:
        return self.parts[0].start_ns

    @property
    def end_ns(self) -> int:
        return max(one.start_ns + one.duration_ns for one in self.parts)

    @property
    def state(self) -> Outcome:
        """The best of theirs."""
        states = {one.state for one in self.parts}
        return next(one for one in (Outcome.MATCHED, *AWAY) if one in states)

    @property
    def withheld(self) -> str:
        """Why none of them has sound."""
        return "" if any(not one.withheld for one in self.parts) else self.parts[0].withheld

    @property
    def blind(self) -> bool:
        """Whether nothing but its time and line is known."""
        return not any(one.numbers or one.ids for one in self.parts)

    @property
    def numbers(self) -> frozenset[str]:
        return frozenset().union(*(one.numbers for one in self.parts))

    @property
    def outside(self) -> frozenset[str]:
        return frozenset().union(*(one.outside for one in self.parts))

    @property
    def lost_ns(self) -> int:
        return sum(one.lost_ns for one in self.parts)

    def kept_ns(self, begin_ns: int, end_ns: int) -> int:
        """How much of that span is on their timelines; pauses are, gaps are not."""
        kept, until = 0, begin_ns
        for one in self.parts:
            first = max(one.start_ns, until)
            last = min(one.start_ns + one.duration_ns, end_ns)
            if last > first:
                kept += last - first
                until = last
        return kept


def calls_of(recordings: Iterable[Heard]) -> list[Call]:
    """Recordings put together by the call they are of, in the order of their beginnings."""
    groups: dict[str, list[Heard]] = {}
    for one in sorted(recordings, key=lambda heard: (heard.start_ns, heard.id)):
        groups.setdefault(one.call or one.id, []).append(one)
    return [Call(tuple(some)) for some in groups.values()]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a record, or of a recording without one (`record` empty). `detail`: a stable word, or empty."""

    outcome: Outcome
    record: str
    recording: str
    line_id: str
    direction: Direction
    start_ns: int
    talk_ns: int
    detail: str = ""
    off_ns: int = 0  # late by, short by, lost

    @property
    def is_fault(self) -> bool:
        return self.outcome in FAULTS
