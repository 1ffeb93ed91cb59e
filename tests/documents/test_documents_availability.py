"""Availability from stretches: sums, outages, days, planned work, clocks that were set."""

from __future__ import annotations

from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from appliance.api.servicelevels import days_of
from appliance.documents.availability import by_day, measure, pieces
from appliance.model.served import Cause, Follows, Served, Work

S = 10**9
H = 3600 * S


def found(stretches, from_ns, until_ns, planned=(), **how):
    return measure(pieces(stretches, from_ns, until_ns), planned, **how)


def work(begin, end):
    return Work("w", begin, end, "x", "op", begin)


def test_gaps_between_runs_are_outages_and_what_is_before_all_is_not_measured():
    some = [
        Served(2 * H, 5 * H),
        Served(6 * H, 8 * H, Cause.VAULT),
        Served(8 * H, 10 * H, None, Follows.CHANGE),
    ]
    level = found(some, 0, 10 * H)
    assert (level.unmeasured_ns, level.down_ns, level.partial_ns, level.available_ns) == (
        2 * H,
        H,
        2 * H,
        5 * H,
    )
    assert [(one.begin_ns, one.end_ns, one.cause) for one in level.outages] == [
        (5 * H, 6 * H, Cause.STOPPED),
        (6 * H, 8 * H, Cause.VAULT),
    ]
    assert level.ratio == 5 / 8


def test_nothing_noted_up_to_the_end_is_an_outage_that_goes_on():
    level = found([Served(0, 3 * H)], H, 5 * H, now_ns=5 * H)
    (outage,) = level.outages
    assert (outage.begin_ns, outage.cause, outage.open) == (3 * H, Cause.STOPPED, True)
    assert not found([Served(0, 3 * H), Served(5 * H, 6 * H)], H, 5 * H, now_ns=6 * H).outages[0].open


def test_a_clock_that_was_set_is_not_measured_and_one_that_went_back_counts_once():
    ahead = found([Served(0, H), Served(9 * H, 10 * H, None, Follows.CLOCK)], 0, 10 * H)
    assert (ahead.available_ns, ahead.unmeasured_ns, ahead.outages) == (2 * H, 8 * H, ())
    back = found([Served(0, 4 * H), Served(2 * H, 5 * H, None, Follows.CLOCK)], 0, 5 * H)
    assert (back.available_ns, back.measured_ns) == (5 * H, 5 * H)


def test_planned_work_is_told_apart_once_where_it_overlaps():
    some = [Served(0, 2 * H), Served(6 * H, 10 * H)]
    level = found(some, 0, 10 * H, [work(H, 4 * H), work(3 * H, 5 * H)])
    assert level.planned_ns == 3 * H == level.outages[0].planned_ns
    assert level.ratio == 0.6 and level.agreed_ratio == 6 / 7
    assert found(some, 0, 10 * H, [work(0, H)]).planned_ns == 0, (
        "work during which nothing was away counts nothing"
    )


def test_nothing_measured_has_no_ratio():
    level = found([], 0, 5 * H)
    assert level.ratio is None and level.agreed_ratio is None and level.unmeasured_ns == 5 * H


def test_days_of_a_zone_have_23_and_25_hours_and_each_its_own_ratio():
    zone = ZoneInfo("Europe/London")
    start = 1_774_655_999 * S  # one second before 2026-03-28 in London
    days = days_of(start, start + 70 * H, zone)
    assert [day for day, _, _ in days] == ["2026-03-27", "2026-03-28", "2026-03-29", "2026-03-30"]
    assert days[2][2] - days[2][1] == 23 * H and days[0][2] - days[0][1] == S
    begin = days[1][1]
    some = pieces([Served(begin, begin + 12 * H), Served(days[2][1], days[3][2])], start, days[3][2])
    assert by_day(some, days) == [None, 0.5, 1.0, 1.0]


times = st.lists(
    st.tuples(
        st.integers(0, 1000), st.integers(0, 200), st.sampled_from([None, *Cause]), st.sampled_from(Follows)
    ),
    max_size=12,
)


@given(times, st.integers(0, 500), st.integers(1, 700))
def test_pieces_fill_every_span_without_gap_or_overlap(some, from_ns, length):
    stretches = [Served(begin, begin + long, cause, follows) for begin, long, cause, follows in some]
    cut = pieces(stretches, from_ns, from_ns + length)
    assert cut[0].begin_ns == from_ns and cut[-1].end_ns == from_ns + length
    assert all(one.end_ns == after.begin_ns for one, after in pairwise(cut))
    level = measure(cut)
    assert level.measured_ns + level.unmeasured_ns == length
    days = [("a", from_ns, from_ns + length // 2), ("b", from_ns + length // 2, from_ns + length)]
    assert all(one is None or 0 <= one <= 1 for one in by_day(cut, days))
