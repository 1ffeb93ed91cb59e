"""The time there is to answer a request for access. Pure: dates in, a date out.

UK GDPR Art. 12(3): without undue delay, and within one month of receipt; two further months where requests are complex
or many, if the person is told within the first month why. Art. 12A (Data (Use and Access) Act 2025 s. 76) and the Data
Protection Act 2018 s. 54, for s. 45: the month begins when who the person is could be made sure of, and days in which
clarification is awaited do not count. How a month is counted is the ICO's guidance on the right of access ("How long do
we have to comply?"): from the day of receipt, whether a working day or not, to the corresponding date; where the month
is too short to have one, its last day; and where that is a weekend or a public holiday, the next working day.
"""

from __future__ import annotations

import calendar
import enum
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import holidays

NATIONS: Final = {"ENG": "England", "WLS": "Wales", "SCT": "Scotland", "NIR": "Northern Ireland"}
MONTHS: Final = 1
EXTENSION: Final = 2
FIRST: Final = date(1970, 1, 1)
LAST: Final = date(2200, 12, 31)


class Pause(enum.StrEnum):
    """What is awaited while the clock stands."""

    IDENTITY = "identity"
    CLARIFICATION = "clarification"


@dataclass(frozen=True)
class Stop:
    """The clock stood from a day on, to the day on which what was awaited came; None: it still stands."""

    pause: Pause
    since: date
    until: date | None


def add_months(day: date, months: int) -> date:
    """The corresponding date, or the last day of a month that is too short to have one."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def next_working_day(day: date, is_holiday: Callable[[date], bool]) -> date:
    """The day itself, or the first after it that is neither a Saturday, a Sunday nor a holiday."""
    while day.weekday() >= 5 or is_holiday(day):
        day += timedelta(days=1)
    return day


def starts(received: date, stops: Iterable[Stop]) -> date:
    """From when the month counts: receipt, or when it was last made sure who the person is."""
    return max(
        [received, *(one.until for one in stops if one.pause is Pause.IDENTITY and one.until is not None)]
    )


def days_stopped(begin: date, stops: Iterable[Stop]) -> int:
    """Days from `begin` on in which clarification was awaited; those that overlap count once."""
    days = 0
    reached = begin
    for one in sorted(stops, key=lambda stop: stop.since):
        if one.pause is Pause.CLARIFICATION and one.until is not None:
            since = max(one.since, reached)
            if one.until > since:
                days += (one.until - since).days
                reached = one.until
    return days


def due(
    received: date, stops: Iterable[Stop], *, extended: bool, is_holiday: Callable[[date], bool]
) -> date | None:
    """The last day for the answer; None while the clock stands."""
    known = list(stops)
    if any(one.until is None for one in known):
        return None
    begin = starts(received, known)
    day = add_months(begin, MONTHS + (EXTENSION if extended else 0))
    return next_working_day(day + timedelta(days=days_stopped(begin, known)), is_holiday)


@functools.lru_cache(maxsize=256)
def _days(nation: str, year: int) -> frozenset[date]:
    return frozenset(holidays.country_holidays("GB", subdiv=nation, years=year))


def bank_holidays(nation: str) -> Callable[[date], bool]:
    """Whether a day is a bank holiday there: one of NATIONS (Banking and Financial Dealings Act 1971)."""
    if nation not in NATIONS:
        raise ValueError("no such nation")
    return lambda day: day in _days(nation, day.year)
