"""Which recording is of which call record. Pure, and near linear: candidates come from an index by number and time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from appliance.completeness.contract import Why
from appliance.completeness.facts import Call, Known, Tolerances

_MOST: Final = 32  # candidates of a record by one number: a hostile file may have thousands at one instant
_PIECES: Final = 256  # records that lie within one call: a hostile file may have thousands
_STRONG: Final = 2  # numbers in common that tell a call by themselves


class Matches:
    """Calls by records. `own`: those that have their own; `covered`: those that lie within another's."""

    def __init__(self, records: Sequence[Known], calls: Sequence[Call], tolerances: Tolerances) -> None:
        self.records = records
        self.calls = calls
        self._t = tolerances
        self.own: dict[int, int] = {}  # place of the record: of the call
        self.covered: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self._numbers = _Index((number, place) for place, call in enumerate(calls) for number in call.numbers)
        self._by_pin()
        self._by_id()
        self._by_number()
        self._within()
        self._blind()

    def _pair(self, record: int, call: int) -> None:
        self.own[record] = call
        self.taken[call] = record

    def _open(self) -> Iterable[tuple[int, Known]]:
        return (
            (at, one) for at, one in enumerate(self.records) if at not in self.own and at not in self.covered
        )

    def _by_pin(self) -> None:
        """What was matched before stays so: its numbers may be forgotten since."""
        places = {part.id: place for place, call in enumerate(self.calls) for part in call.parts}
        for at, record in enumerate(self.records):
            place = places.get(record.pinned, -1) if record.pinned else -1
            if place < 0:
                continue
            if place in self.taken:
                self.covered[at] = place
            else:
                self._pair(at, place)

    def _by_id(self) -> None:
        places: dict[str, list[int]] = defaultdict(list)
        for place, call in enumerate(self.calls):
            for one in frozenset().union(*(part.ids for part in call.parts)):
                places[one].append(place)
        for at, record in list(self._open()):
            some = places.get(record.call_id, ()) if record.call_id else ()
            # Ids come again after a restart of some switchboards: the nearest in time.
            for place in sorted(some, key=lambda one: abs(self.calls[one].start_ns - record.begin_ns)):
                if abs(self.calls[place].start_ns - record.begin_ns) > 86400 * 10**9:
                    break
                if place not in self.taken:
                    self._pair(at, place)
                    break

    def _by_number(self) -> None:
        """The best pairs first: near in time, then by what they have in common. Calls that were contracted before all
        others, so that one that nobody answered takes no recording from the one that came after it."""
        for contracted in (True, False):
            pairs: list[tuple[bool, int, int, int, int]] = []
            for at, record in self._open():
                if (record.why is Why.CONTRACTED) is not contracted:
                    continue
                for place in self._candidates(record):
                    weight = 0 if place in self.taken else self._weight(record, self.calls[place])
                    if weight:
                        away = abs(self.calls[place].start_ns - record.begin_ns)
                        pairs.append((away > self._t.start_ns, -weight, away, at, place))
            for *_, at, place in sorted(pairs):
                if at not in self.own and place not in self.taken:
                    self._pair(at, place)

    def _candidates(self, record: Known) -> set[int]:
        first, last = record.start_ns - self._t.start_ns, record.end_ns + self._t.start_ns
        found: set[int] = set()
        for number in record.numbers:
            found.update(self._numbers.between(number, first, last, record.begin_ns, self.calls))
        return found

    def _weight(self, record: Known, call: Call) -> int:
        """How well they fit: 0 not at all; more for more numbers in common."""
        common = record.numbers & call.numbers
        outside = record.outside & call.outside
        if outside or len(common) >= _STRONG:
            return 1 + len(common) + len(outside)
        if record.outside and call.outside:
            return 0  # other people
        # A number of the house alone, as where the caller's is withheld: the times must tell.
        near = abs(call.start_ns - record.begin_ns) <= self._t.start_ns
        length = call.end_ns - call.start_ns
        alike = abs(length - record.talk_ns) <= max(2 * self._t.talk_ns, record.talk_ns // 10)
        return 1 if common and near and alike else 0

    def _within(self) -> None:
        """One call, several records: transferred, or written in pieces. They lie beside each other in its recording."""
        spans: dict[int, list[tuple[int, int]]] = {
            place: [(self.records[at].begin_ns, self.records[at].end_ns)] for place, at in self.taken.items()
        }
        ids = {
            self.records[at].call_id: place for place, at in self.taken.items() if self.records[at].call_id
        }
        slack = self._t.talk_ns
        for at, record in list(self._open()):
            same = ids.get(record.call_id, -1) if record.call_id else -1
            if same >= 0:
                self.covered[at] = same
                continue
            for number in record.outside:
                for place in self._numbers.before(number, record.begin_ns + slack, self.calls):
                    if place not in self.taken or self.calls[place].end_ns + slack < record.end_ns:
                        continue
                    if len(spans[place]) >= _PIECES:
                        continue
                    beside = all(
                        record.begin_ns + slack >= last or record.end_ns <= first + slack
                        for first, last in spans[place]
                    )
                    if beside:
                        self.covered[at] = place
                        spans[place].append((record.begin_ns, record.end_ns))
                        break
                if at in self.covered:
                    break

    def _blind(self) -> None:
        """Of erased recordings, and where keys are locked, time and line are all that is known."""
        lines: dict[str, list[int]] = defaultdict(list)
        for place, call in enumerate(self.calls):
            if place not in self.taken and call.blind:
                lines[call.parts[0].line_id].append(place)
        pairs: list[tuple[int, int, int]] = []
        starts = {line: [self.calls[place].start_ns for place in some] for line, some in lines.items()}
        for at, record in self._open():
            if record.why is not Why.CONTRACTED:
                continue
            for line in {record.line_id, ""}:
                if line not in lines:
                    continue
                low = bisect_left(starts[line], record.start_ns - self._t.start_ns)
                high = bisect_right(starts[line], record.begin_ns + self._t.start_ns)
                for place in lines[line][low : min(high, low + _MOST)]:
                    pairs.append((abs(self.calls[place].start_ns - record.begin_ns), at, place))
        for _, at, place in sorted(pairs):
            if at not in self.own and place not in self.taken:
                self._pair(at, place)

    def second_of(self, call: Call) -> int:
        """The place of a call that has its record and of which this is another recording; -1: of none."""
        for number in call.outside:
            for place in self._numbers.between(
                number, call.start_ns - 3600 * 10**9, call.end_ns, call.start_ns, self.calls
            ):
                other = self.calls[place]
                if place not in self.taken or other is call or len(other.numbers & call.numbers) < _STRONG:
                    continue
                both = min(other.end_ns, call.end_ns) - max(other.start_ns, call.start_ns)
                if 2 * both > call.end_ns - call.start_ns:
                    return place
        return -1


class _Index:
    """Calls by number, in the order of their beginnings."""

    def __init__(self, pairs: Iterable[tuple[str, int]]) -> None:
        self._places: dict[str, list[int]] = defaultdict(list)
        for number, place in pairs:
            self._places[number].append(place)  # calls are in that order already

    def between(
        self, number: str, first_ns: int, last_ns: int, near_ns: int, calls: Sequence[Call]
    ) -> list[int]:
        """Those that begin in that span; where they are many, those nearest to that time."""
        some = self._places.get(number, [])
        low = bisect_left(some, first_ns, key=lambda place: calls[place].start_ns)
        high = bisect_right(some, last_ns, key=lambda place: calls[place].start_ns)
        if high - low > _MOST:
            middle = bisect_left(some, near_ns, key=lambda place: calls[place].start_ns)
            low = max(low, min(middle - _MOST // 2, high - _MOST))
            high = min(high, low + _MOST)
        return some[low:high]

    def before(self, number: str, last_ns: int, calls: Sequence[Call]) -> list[int]:
        """Those that began by then, the last ones."""
        some = self._places.get(number, [])
        high = bisect_right(some, last_ns, key=lambda place: calls[place].start_ns)
        return some[max(0, high - _MOST) : high]
