"""Periods: reading them, and calendar arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_kit import DAY, HOUR, at

from appliance.storage.names import SliceUnit, slice_end_ns, slice_of
from appliance.storage.retention.errors import PeriodError
from appliance.storage.retention.period import Period, PeriodUnit, day_text, unit_for

periods = st.one_of(
    st.builds(Period, st.integers(1, 36_525), st.just(PeriodUnit.DAY)),
    st.builds(Period, st.integers(1, 1_200), st.just(PeriodUnit.MONTH)),
    st.builds(Period, st.integers(1, 100), st.just(PeriodUnit.YEAR)),
)
times = st.integers(at("1970-01-01"), at("2200-01-01"))


@pytest.mark.parametrize(
    ("text", "count", "unit", "said"),
    [
        ("90d", 90, PeriodUnit.DAY, "90 days"),
        ("1 day", 1, PeriodUnit.DAY, "1 day"),
        ("6m", 6, PeriodUnit.MONTH, "6 months"),
        ("7y", 7, PeriodUnit.YEAR, "7 years"),
        (" 18 Months ", 18, PeriodUnit.MONTH, "18 months"),
        ("2 weeks", 14, PeriodUnit.DAY, "14 days"),
        ("100Y", 100, PeriodUnit.YEAR, "100 years"),
        ("36525 days", 36_525, PeriodUnit.DAY, "36525 days"),
    ],
)
def test_parse(text, count, unit, said):
    period = Period.parse(text)
    assert period == Period(count, unit)
    assert str(period) == said


@pytest.mark.parametrize(
    "text",
    ["", "0d", "0 years", "-3y", "101y", "1201m", "36526d", "7", "y", "7 q", "1.5y", "7y 6m", "٣y", "7 y ear",
     "999999w", "1e3d", "7  years", "１y", "9999999d"],
)  # fmt: skip
def test_nonsense_is_refused(text):
    with pytest.raises(PeriodError) as caught:
        Period.parse(text)
    assert caught.value.reason == "RETENTION_INVALID"
    assert caught.value.data["field"] == "retention"


@given(periods)
def test_what_is_said_can_be_read(period):
    assert Period.parse(str(period)) == period


@pytest.mark.parametrize(
    ("begins", "period", "ends"),
    [
        ("2026-01-31", "1m", "2026-02-28"),
        ("2028-01-31", "1m", "2028-02-29"),
        ("2028-02-29", "1y", "2029-02-28"),
        ("2028-02-29", "4y", "2032-02-29"),
        ("2027-12-31", "2 months", "2028-02-29"),
        ("2026-02-28", "1m", "2026-03-28"),
        ("2026-11-25", "3y", "2029-11-25"),
        ("2026-11-25", "12m", "2027-11-25"),
        ("2028-02-28", "1d", "2028-02-29"),
        ("2026-12-31", "1d", "2027-01-01"),
        ("2000-02-29", "100y", "2100-02-28"),  # 2100 is no leap year
        ("2026-03-29T01:30", "1d", "2026-03-30T01:30"),  # clocks go forward in Europe: not here
        ("2026-10-24T01:30", "2d", "2026-10-26T01:30"),
    ],
)
def test_ends_by_the_calendar(begins, period, ends):
    assert Period.parse(period).ends(at(begins)) == at(ends)


def test_ends_keeps_the_time_of_day_to_the_nanosecond():
    begins = at("2026-01-31T23:59") + 59_999_999_999
    assert Period.parse("1m").ends(begins) == at("2026-02-28T23:59") + 59_999_999_999


def test_beyond_the_calendar():
    with pytest.raises(PeriodError):
        Period.parse("100y").ends(at("9950-01-01"))
    with pytest.raises(PeriodError):
        Period.parse("36525d").ends(at("9950-01-01"))


@given(periods, times)
def test_ends_agrees_with_the_standard_library(period, begins):
    first = datetime.fromtimestamp(begins // 10**9, UTC)
    ends = period.ends(begins)
    last = datetime.fromtimestamp(ends // 10**9, UTC)
    assert ends % DAY == begins % DAY
    if period.unit is PeriodUnit.DAY:
        assert ends - begins == period.count * DAY
        return
    months = period.count * (12 if period.unit is PeriodUnit.YEAR else 1)
    assert (last.year * 12 + last.month) - (first.year * 12 + first.month) == months
    # The same day, or the last of a month that has no such day.
    following = datetime.fromtimestamp(ends // 10**9 + 86_400, UTC)
    assert last.day == first.day or (last.day < first.day and following.month != last.month)


@given(periods, times, times)
def test_a_later_midnight_never_ends_earlier(period, one, other):
    early, late = sorted((one - one % DAY, other - other % DAY))
    assert period.ends(early) <= period.ends(late)


def test_shorter_depends_on_the_day():
    month, days = Period.parse("1m"), Period.parse("30d")
    assert month.shorter_than(days, at("2026-02-01"))
    assert not month.shorter_than(days, at("2026-03-01"))
    assert days.shorter_than(month, at("2026-03-01"))
    assert month.ever_shorter_than(days, at("2026-03-01"))
    assert days.ever_shorter_than(month, at("2026-02-01"))


@pytest.mark.parametrize(
    ("one", "other", "shorter"),
    [
        ("12m", "1y", False), ("1y", "12m", False), ("11m", "1y", True), ("365d", "1y", True),
        ("1y", "365d", False), ("1y", "366d", True), ("366d", "1y", False), ("89d", "90d", True),
        ("3y", "36m", False), ("1461d", "4y", False), ("4y", "1461d", False),
    ],
)  # fmt: skip
def test_ever_shorter(one, other, shorter):
    assert Period.parse(one).ever_shorter_than(Period.parse(other), at("2026-07-01") + HOUR) is shorter


@pytest.mark.parametrize(
    ("period", "unit"),
    [
        ("1d", "day"), ("60d", "day"), ("61d", "week"), ("1m", "day"), ("2m", "day"), ("3m", "week"),
        ("18m", "week"), ("549d", "week"), ("550d", "month"), ("19m", "month"), ("1y", "week"), ("2y", "month"),
        ("100y", "month"),
    ],
)  # fmt: skip
def test_unit_is_about_a_thirtieth(period, unit):
    assert unit_for(Period.parse(period)) is SliceUnit(unit)


@given(periods)
def test_a_slice_adds_little_to_a_long_retention(period):
    begins = at("2028-02-01")
    slice_ = slice_of(begins, unit_for(period))
    longest = slice_end_ns(slice_) - begins
    assert longest <= max(DAY, (period.ends(begins) - begins) // 7)


def test_day_text():
    assert day_text(at("2029-03-01T23:59")) == "2029-03-01"
    assert day_text(2**63 * 1000) == "never"
