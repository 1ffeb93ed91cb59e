"""How long something is kept, in days, months or years of the calendar (UTC, so that there is no summer time in it)."""

from __future__ import annotations

import calendar
import enum
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from appliance.storage.names import SliceUnit
from appliance.storage.retention.errors import PeriodError

DAY_NS: Final = 86_400 * 1_000_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_TEXT = re.compile(r"([0-9]{1,6}) ?([a-z]{1,6})", re.IGNORECASE | re.ASCII)
_LEAP_CYCLE_DAYS: Final = 1461


class PeriodUnit(enum.StrEnum):
    """What a period is counted in."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


_MOST: Final = {PeriodUnit.DAY: 36_525, PeriodUnit.MONTH: 1_200, PeriodUnit.YEAR: 100}
_WORDS: Final = {
    **dict.fromkeys(("d", "day", "days"), (1, PeriodUnit.DAY)),
    **dict.fromkeys(("w", "week", "weeks"), (7, PeriodUnit.DAY)),
    **dict.fromkeys(("m", "mo", "month", "months"), (1, PeriodUnit.MONTH)),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), (1, PeriodUnit.YEAR)),
}


@dataclass(frozen=True, slots=True)
class Period:
    """So many days, months or years; PeriodError where that is less than one or more than a hundred years."""

    count: int
    unit: PeriodUnit

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST[self.unit]:
            raise PeriodError("a period is at least a day and at most 100 years", field="retention")

    @classmethod
    def parse(cls, text: str) -> Period:
        """Reads 90d, 6m, 7y, "18 months", "2 weeks" (which are 14 days); PeriodError."""
        found = _TEXT.fullmatch(text.strip())
        word = _WORDS.get(found[2].lower()) if found else None
        if not found or not word:
            raise PeriodError("should be a number of days, months or years, such as 7y", field="retention")
        return cls(int(found[1]) * word[0], word[1])

    def __str__(self) -> str:
        return f"{self.count} {self.unit.value}{'' if self.count == 1 else 's'}"

    def ends(self, at_ns: int) -> int:
        """When a period that begins at `at_ns` is over (both nanoseconds since the Unix epoch).

        By the calendar, at the same time of day; where the month has no such day, on its last: a month from
        31 January ends on 28 or 29 February. PeriodError beyond the year 9999.
        """
        day, rest = divmod(at_ns, DAY_NS)
        try:
            first = date.fromordinal(_EPOCH + day)
            last = (
                first + timedelta(days=self.count)
                if self.unit is PeriodUnit.DAY
                else _months_on(first, self._months)
            )
        except (ValueError, OverflowError, calendar.IllegalMonthError) as error:
            raise PeriodError("ends after the last day of the calendar", field="retention") from error
        return (last.toordinal() - _EPOCH) * DAY_NS + rest

    @property
    def _months(self) -> int:
        return self.count * (12 if self.unit is PeriodUnit.YEAR else 1)

    def shorter_than(self, other: Period, at_ns: int) -> bool:
        """Whether it is over before `other`, both beginning at `at_ns`."""
        return self.ends(at_ns) < other.ends(at_ns)

    def ever_shorter_than(self, other: Period, at_ns: int) -> bool:
        """Whether it is over before `other` for any day to begin at in the four years up to `at_ns`.

        A month is sometimes longer than 30 days and sometimes shorter: who wants to be safe asks for all of them.
        """
        if (self.unit is PeriodUnit.DAY) == (other.unit is PeriodUnit.DAY):
            mine = self.count if self.unit is PeriodUnit.DAY else self._months
            return mine < (other.count if other.unit is PeriodUnit.DAY else other._months)
        midnight = at_ns - at_ns % DAY_NS
        return any(self.shorter_than(other, midnight - back * DAY_NS) for back in range(_LEAP_CYCLE_DAYS))


def _months_on(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def unit_for(period: Period) -> SliceUnit:
    """How long a slice of time should be: about a thirtieth of the retention."""
    days, months = (
        (period.count, 0)
        if period.unit is PeriodUnit.DAY
        else (0, period.count * (12 if period.unit is PeriodUnit.YEAR else 1))
    )
    if days <= 60 and months <= 2:
        return SliceUnit.DAY
    return SliceUnit.WEEK if days <= 549 and months <= 18 else SliceUnit.MONTH


def day_text(at_ns: int) -> str:
    """A time as its day, for people: 2029-03-01 (UTC); beyond the calendar "never"."""
    try:
        return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return "never"
