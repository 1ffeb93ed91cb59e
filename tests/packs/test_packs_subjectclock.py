"""The statutory month: the ICO's own examples, and what must hold of any dates."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.packs.subjectclock import (
    NATIONS,
    Pause,
    Stop,
    add_months,
    bank_holidays,
    days_stopped,
    due,
    next_working_day,
    starts,
)

ENGLAND = bank_holidays("ENG")
days = st.dates(date(2000, 1, 1), date(2100, 1, 1))


def answer(received: date, *stops: Stop, extended: bool = False, nation: str = "ENG") -> date | None:
    return due(received, stops, extended=extended, is_holiday=bank_holidays(nation))


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (date(2019, 9, 3), date(2019, 10, 3)),  # the ICO's example: 3 September, 3 October
        (date(2020, 3, 31), date(2020, 4, 30)),  # the ICO's example: no 31 April
        (date(2019, 11, 25), date(2019, 12, 27)),  # the ICO's example: Christmas and Boxing Day
        (date(2026, 1, 31), date(2026, 3, 2)),  # 28 February is a Saturday
        (date(2024, 1, 31), date(2024, 2, 29)),
        (date(2026, 3, 3), date(2026, 4, 7)),  # Good Friday, then Easter Monday
    ],
)
def test_a_month_as_the_ico_counts_it(received, expected):
    assert answer(received) == expected


def test_nations_have_holidays_of_their_own():
    received = date(
        2025, 11, 1
    )  # 1 December is a holiday nowhere; St Andrew's Day is given on Monday, in Scotland
    assert answer(received, nation="ENG") == date(2025, 12, 1) and answer(received, nation="SCT") == date(
        2025, 12, 2
    )
    with pytest.raises(ValueError, match="nation"):
        bank_holidays("ATL")
    assert set(NATIONS) == {"ENG", "WLS", "SCT", "NIR"}


def test_two_months_more():
    assert answer(date(2026, 11, 30), extended=True) == date(2027, 3, 1)  # 28 February is a Sunday


def test_while_something_is_awaited_there_is_no_date():
    open_ = Stop(Pause.CLARIFICATION, date(2026, 11, 3), None)
    assert answer(date(2026, 11, 2), open_) is None


def test_the_month_begins_when_it_is_known_who_asks():
    assert answer(date(2026, 11, 2), Stop(Pause.IDENTITY, date(2026, 11, 2), date(2026, 11, 16))) == date(
        2026, 12, 16
    )


def test_days_of_clarification_do_not_count_and_count_once():
    stops = (
        Stop(Pause.CLARIFICATION, date(2026, 11, 4), date(2026, 11, 9)),
        Stop(Pause.CLARIFICATION, date(2026, 11, 6), date(2026, 11, 11)),
    )
    assert days_stopped(date(2026, 11, 2), stops) == 7
    assert answer(date(2026, 11, 2), *stops) == date(2026, 12, 9)


@given(days, st.integers(0, 40))
def test_a_month_later_is_the_same_day_or_the_last(day, months):
    later = add_months(day, months)
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
    assert later.day == day.day or (later.day < day.day and (later + timedelta(days=1)).day == 1)


@given(days)
def test_the_last_day_is_a_working_day_and_none_before_it_would_do(day):
    found = next_working_day(day, ENGLAND)
    assert found.weekday() < 5 and not ENGLAND(found)
    between = [day + timedelta(days=n) for n in range((found - day).days)]
    assert all(one.weekday() >= 5 or ENGLAND(one) for one in between) and len(between) <= 5


@given(days, st.lists(st.tuples(st.sampled_from(Pause), st.integers(0, 60), st.integers(0, 60)), max_size=6))
def test_stops_never_take_time_away(day, some):
    stops = [Stop(kind, day + timedelta(a), day + timedelta(a + b)) for kind, a, b in some]
    plain, found = answer(day), answer(day, *stops)
    assert plain is not None and found is not None
    assert found >= plain and answer(day, *reversed(stops)) == found
    begin = starts(day, stops)
    assert days_stopped(begin, stops) <= sum(b for kind, _, b in some if kind is Pause.CLARIFICATION)
    longer = answer(day, *stops, extended=True)
    assert longer is not None and longer > found


@given(days, st.integers(1, 400))
def test_who_asks_later_is_answered_no_earlier(day, later):
    first, second = answer(day), answer(day + timedelta(days=later))
    assert first is not None and second is not None and first <= second
