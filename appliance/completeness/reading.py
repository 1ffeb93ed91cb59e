"""A file of call records, row by row. A row that is broken is told with its number, its column and why; the rest goes on.

A row is one line. Hostile as anything that comes from outside: bytes, rows, columns and lengths are bounded.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

from appliance.completeness import cells
from appliance.completeness.cells import BadCell
from appliance.completeness.errors import (
    RecordMapMisfitError,
    RecordsTooLargeError,
    RecordsUnreadableError,
)
from appliance.completeness.maps import RecordMap
from appliance.model import Direction

MAX_BYTES: Final = 32 << 20
MAX_ROWS: Final = 200_000
MAX_LINE: Final = 16_384  # characters
MAX_CELLS: Final = 512
MAX_ID: Final = 200
MAX_PROBLEMS: Final = 200  # told one by one; all are counted
KEEP_NS: Final = 93 * 86400 * 10**9
"""How old a call may be: as long as its record would be kept."""
AHEAD_NS: Final = 26 * 3600 * 10**9  # no zone is further off than this
_MISFIT: Final = 5  # one row in so many may be broken
_TURNED_BACK_NS: Final = 1800 * 10**9


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a switchboard says of one call. Times are nanoseconds since the Unix epoch.

    `answer_ns`: None where it is not said. `identity`: the cells it was read from. Numbers as `cells.number` gives them.
    """

    row: int
    identity: str = field(repr=False)
    start_ns: int
    answer_ns: int | None
    talk_ns: int
    answered: bool
    direction: Direction | None
    from_number: str = field(default="", repr=False)
    to_number: str = field(default="", repr=False)
    extension: str = field(default="", repr=False)
    call_id: str = field(default="", repr=False)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Those that are known, each once, the caller's first."""
        return tuple(dict.fromkeys(filter(None, (self.from_number, self.to_number, self.extension))))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a row. `row`: of the file, from 1; `column`: as the map names it, empty: the row as such."""

    row: int
    column: str
    reason: str


@dataclass
class Reading:
    """What was found in a file. `rows` has no header and no empty lines; `old`: calls before what is kept."""

    rows: int = 0
    old: int = 0
    broken: int = 0
    records: list[CallRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, problem: Problem) -> None:
        self.broken += 1
        self.causes[problem.column, problem.reason] += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    @property
    def misfit(self) -> bool:
        """Whether so much is broken that it is the map that is wrong."""
        return self.broken * _MISFIT > self.rows

    def check_fit(self) -> None:
        """RecordMapMisfitError, which says what most of the broken rows have in common."""
        if not self.misfit:
            return
        (column, reason), _ = self.causes.most_common(1)[0]
        told = f"column {column}: {reason}" if column else reason
        raise RecordMapMisfitError(
            f"the column map does not fit: {self.broken} of {self.rows} rows cannot be read, most for {told}",
            rows=self.rows,
            broken=self.broken,
            column=column,
            problem=reason,
        )


def read(data: bytes, how: RecordMap, zone: ZoneInfo, now_ns: int, most: int = MAX_ROWS) -> Reading:
    """All records of a file, in its order. `zone`: of the tenant, where the map names none.

    RecordsUnreadableError, RecordsTooLargeError; RecordMapMisfitError where a column is not there at all. Whether too
    much is broken the caller asks (`check_fit`).
    """
    if len(data) > MAX_BYTES:
        raise RecordsTooLargeError(f"at most {MAX_BYTES >> 20} MiB at once", limit=MAX_BYTES)
    lines = _lines(_text(data, how.encoding))
    reader = _Reader(how, ZoneInfo(how.time_zone) if how.time_zone else zone, now_ns)
    found = Reading()
    header = how.header_rows
    for at, line in lines:
        if header:
            if header == how.header_rows:
                reader.name(line)
            header -= 1
            continue
        found.rows += 1
        if found.rows > most:
            if most == MAX_ROWS:
                raise RecordsTooLargeError(f"at most {most} rows at once", limit=most)
            found.rows -= 1
            break
        try:
            record = reader.record(at, line)
        except _BadRow as bad:
            found.note(Problem(at, bad.column, bad.reason))
            continue
        if record.start_ns < now_ns - KEEP_NS:
            found.old += 1
        else:
            found.records.append(record)
    if header and how.header_rows and not found.rows and len(data):
        reader.name("")
    return found


def _text(data: bytes, encoding: str) -> str:
    if encoding != "utf-16" and b"\0" in data[:4096]:
        raise RecordsUnreadableError("has zero bytes: it may be UTF-16", offset=data.index(b"\0"))
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise RecordsUnreadableError(f"is not {encoding} text", offset=error.start) from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """With their numbers from 1, but for empty ones."""
    for at, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if line.strip():
            yield at, line


class _BadRow(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


class _Reader:
    def __init__(self, how: RecordMap, zone: ZoneInfo, now_ns: int) -> None:
        self._how = how
        self._zone = zone
        self._latest_ns = now_ns + AHEAD_NS
        self._named = how.columns()
        self._places = {what: int(column) - 1 for what, column in self._named.items() if column.isdecimal()}
        self._directions = {said.strip().lower(): one for said, one in how.directions.items()}
        self._answered = frozenset(said.strip().lower() for said in how.answered)
        self._before_ns = 0

    def name(self, line: str) -> None:
        """Take the names of columns from the header; RecordMapMisfitError where one is not there."""
        try:
            cells_ = self._split(line)
        except _BadRow as bad:
            raise RecordMapMisfitError("the header is no row of the file", problem=bad.reason) from None
        places = {text.strip().lower(): place for place, text in reversed(list(enumerate(cells_)))}
        for what, column in self._named.items():
            if column.isdecimal():
                continue
            if column.strip().lower() not in places:
                raise RecordMapMisfitError(
                    "the file has no such column in its header",
                    field=f"map.{what.partition('.')[0]}",
                    column=column,
                    problem="COLUMN_MISSING",
                )
            self._places[what] = places[column.strip().lower()]

    def record(self, at: int, line: str) -> CallRecord:
        how, row = self._how, self._split(line)
        start = self._start(row)
        # Which of two hours of autumn it was the row before says.
        turned = start.later_ns != start.ns and self._before_ns - start.ns > _TURNED_BACK_NS
        start_ns = start.later_ns if turned else start.ns
        self._before_ns = start_ns
        answer_ns = self._time(row, "answer", start_ns)
        end_ns = self._time(row, "end", start_ns)
        ring = self._length(row, "ring", "seconds")
        if start_ns > self._latest_ns:
            raise _BadRow(how.start, "TIME_IN_FUTURE")
        if end_ns is not None and end_ns < start_ns - 10**9:
            raise _BadRow(how.end, "END_BEFORE_START")
        unanswered = bool(how.answer) and answer_ns is None
        if answer_ns is None and ring is not None:
            answer_ns = start_ns + ring
        talk_ns = self._length(row, "duration", how.duration_format)
        if talk_ns is None:
            if unanswered:
                talk_ns = 0
            elif end_ns is None:
                raise _BadRow(how.duration or how.end, "COLUMN_MISSING")
            else:
                talk_ns = max(0, end_ns - (start_ns if answer_ns is None else answer_ns))
        elif answer_ns is None and end_ns is not None and not unanswered:
            answer_ns = max(start_ns, end_ns - talk_ns)
        answered = talk_ns > 0 and not unanswered
        if self._answered:
            answered = answered and self._cell(row, "disposition").lower() in self._answered
        direction = self._directions.get(self._cell(row, "direction").lower()) if how.direction else None
        if how.internal and cells.yes(self._cell(row, "internal")):
            direction = Direction.INTERNAL
        call_id = "-".join(filter(None, (self._cell(row, f"call_id.{n}") for n in range(len(how.call_id)))))
        if len(call_id) > MAX_ID:
            raise _BadRow(how.call_id[0], "FIELD_TOO_LONG")
        return CallRecord(
            row=at,
            identity="\x1f".join(self._cell(row, what) for what in self._named),
            start_ns=start_ns,
            answer_ns=answer_ns,
            talk_ns=talk_ns,
            answered=answered,
            direction=direction,
            from_number=self._number(row, "from_number"),
            to_number=self._number(row, "to_number"),
            extension=self._number(row, "extension"),
            call_id=call_id,
        )

    def _split(self, line: str) -> list[str]:
        if len(line) > MAX_LINE:
            raise _BadRow("", "ROW_TOO_LONG")
        if "\0" in line:  # PostgreSQL keeps none
            raise _BadRow("", "ROW_MALFORMED")
        try:
            row = next(csv.reader([line], delimiter=self._how.delimiter, strict=True))
        except csv.Error:
            raise _BadRow("", "ROW_MALFORMED") from None
        if len(row) > MAX_CELLS:
            raise _BadRow("", "ROW_TOO_LONG")
        return row

    def _cell(self, row: list[str], what: str) -> str:
        place = self._places.get(what, -1)
        return row[place].strip() if 0 <= place < len(row) else ""

    def _start(self, row: list[str]) -> cells.Moment:
        text = self._cell(row, "start")
        if self._how.start_time:
            text = f"{text} {self._cell(row, 'start_time')}"
        if not text.strip():
            raise _BadRow(self._how.start, "COLUMN_MISSING")
        try:
            return cells.moment(text, self._how.time_format, self._zone)
        except BadCell as bad:
            raise _BadRow(self._how.start, bad.reason) from None

    def _time(self, row: list[str], what: str, start_ns: int) -> int | None:
        text = self._cell(row, what)
        if not text or not text.strip("0"):  # Cisco's way to say that it never was
            return None
        try:
            found = cells.moment(text, self._how.time_format, self._zone)
        except BadCell as bad:
            raise _BadRow(self._named[what], bad.reason) from None
        return found.later_ns if found.ns < start_ns - 10**9 <= found.later_ns else found.ns

    def _length(self, row: list[str], what: str, form: str) -> int | None:
        text = self._cell(row, what)
        if not text:
            return None
        try:
            return cells.length(text, form, self._how.decimal_comma)
        except BadCell as bad:
            raise _BadRow(self._named[what], bad.reason) from None

    def _number(self, row: list[str], what: str) -> str:
        try:
            return cells.number(self._cell(row, what), self._how.strip)
        except BadCell as bad:
            raise _BadRow(self._named[what], bad.reason) from None
