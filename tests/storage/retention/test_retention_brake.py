"""The volume brake: what it lets pass, what it stops, and what a confirmation is good for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from retention_kit import CASE, DAY, HOUR, LINE, NOW, TENANT, at, book, bucket, clock, facts, hold, new_id

from appliance.storage.names import BucketId, slice_of
from appliance.storage.retention.brake import (
    BRAKE,
    FORECAST,
    FORECAST_DAYS,
    Forecast,
    Limits,
    check,
    counted,
    forecast,
    renew,
)
from appliance.storage.retention.facts import DeletedFacts, Facts, HeldRecording
from appliance.storage.retention.period import Period
from appliance.storage.retention.plan import make_plan
from appliance.storage.retention.policy import Policy, PolicyBook, PolicyChange, PolicyField, PolicyScope
from appliance.storage.retention.run import Outcome

GIB = 1024**3


def a_year_of_days(recordings: int, **more) -> Facts:
    """A bucket for each of the last 366 days."""
    return facts(*(bucket(slice_of(NOW - day * DAY), recordings) for day in range(366)), **more)


def at_time(world: Facts, now: int) -> Facts:
    return replace(world, clock=clock(now))


def after(world: Facts) -> Facts:
    """What is left when the plan is carried out."""
    gone = {item.bucket for item in make_plan(world).items if item.whole}
    return replace(world, buckets=tuple(each for each in world.buckets if each.bucket not in gone))


def test_the_first_run_may_destroy_up_to_the_floor():
    plan = make_plan(facts(bucket(recordings=500)))
    assert check(plan, None, clock(NOW)) is None
    found = check(make_plan(facts(bucket(recordings=501))), None, clock(NOW))
    assert (found.recordings, found.expected_recordings, found.allowed_recordings) == (501, 0, 500)
    assert "501 recordings" in found.message


def test_bytes_are_counted_too():
    assert check(make_plan(facts(bucket(recordings=1, bytes=2 * GIB))), None, clock(NOW)) is None
    plan = make_plan(facts(bucket(recordings=1, bytes=2 * GIB + 1)))
    found = check(plan, None, clock(NOW))
    assert found.digest == plan.digest and found.allowed_bytes == 2 * GIB


def test_three_times_the_forecast():
    expected = Forecast(NOW - HOUR, (1_000,), (GIB,))
    assert check(make_plan(facts(bucket(recordings=3_000))), expected, clock(NOW)) is None
    assert check(make_plan(facts(bucket(recordings=3_001))), expected, clock(NOW))
    assert check(make_plan(facts(bucket(recordings=3_000))), expected, clock(NOW), Limits(10, 10 * GIB, 2))
    assert check(
        make_plan(facts(bucket(recordings=9, bytes=11 * GIB))), expected, clock(NOW), Limits(10, 10 * GIB, 2)
    )


def test_day_after_day_passes():
    world = a_year_of_days(2_000, book=book("1y"))
    expected = forecast(world)
    for _ in range(5):
        world = at_time(world, world.clock.clock_ns + DAY)
        plan = make_plan(world)
        assert counted(plan)[0] == 2_000
        assert check(plan, expected, world.clock) is None
        world = after(world)
        expected = renew(expected, Outcome.DONE, world, plan)


def test_a_month_off_passes_as_a_month():
    world = a_year_of_days(2_000, book=book("1y"))
    expected = forecast(world)
    later = at_time(world, NOW + 30 * DAY)
    assert counted(make_plan(later))[0] == 60_000
    assert check(make_plan(later), expected, later.clock) is None


def test_a_month_off_that_nobody_signed_waits():
    world = a_year_of_days(2_000, book=book("1y"))
    expected = forecast(replace(world, clock=replace(clock(NOW), unseen_ns=DAY)))
    later = at_time(world, NOW + 30 * DAY)
    found = check(make_plan(later), expected, replace(later.clock, unseen_ns=30 * DAY))
    assert (found.recordings, found.expected_recordings) == (60_000, 4_000), (
        "the first day, and one that was seen"
    )
    assert check(make_plan(later), expected, replace(later.clock, unseen_ns=DAY)) is None
    assert check(make_plan(later), expected, replace(later.clock, unseen_ns=DAY - 1)), (
        "an older clock's forecast"
    )


def test_ten_years_at_once_do_not():
    # Retention of 7 years: nothing is due within the 400 days that are forecast.
    world = a_year_of_days(2_000, book=book("7y"))
    expected = forecast(world)
    jumped = at_time(world, NOW + 3650 * DAY)
    found = check(make_plan(jumped), expected, jumped.clock)
    assert found and found.recordings == 732_000 and found.expected_recordings == 0


def test_a_policy_that_was_lost_is_stopped():
    world = a_year_of_days(2_000, book=book("7y"))
    expected = forecast(world)
    lost = replace(at_time(world, NOW + DAY), book=book("30d"))
    assert check(make_plan(lost), expected, clock(NOW + DAY))


def test_a_shortening_in_the_open_passes_after_its_cooling_off():
    change = PolicyChange(PolicyScope(), Policy(Period.parse("30d")), (PolicyField.RETENTION,))
    world = a_year_of_days(2_000, book=PolicyBook().set(change, NOW, "ann"))
    expected = forecast(world)
    due = at_time(world, NOW + 7 * DAY)
    plan = make_plan(due)
    assert counted(plan)[0] > 600_000
    assert check(plan, expected, due.clock) is None


def test_what_is_due_already_is_not_forecast_so_that_a_brake_does_not_let_go_by_itself():
    world = a_year_of_days(2_000, book=book("30d"))
    plan = make_plan(world)
    assert check(plan, None, clock(NOW))
    assert renew(None, Outcome.BRAKED, world, plan) is None
    expected = forecast(world)
    due = counted(plan)[0]
    assert expected.recordings[-1] == 366 * 2_000 - due
    assert check(make_plan(at_time(world, NOW + HOUR)), expected, clock(NOW + HOUR))


@pytest.mark.parametrize("outcome", [Outcome.BRAKED, Outcome.FROZEN])
def test_a_run_that_did_nothing_leaves_the_forecast(outcome):
    world = a_year_of_days(2_000, book=book("1y"))
    before = forecast(world)
    assert renew(before, outcome, at_time(world, NOW + 9 * DAY), make_plan(world)) == before


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.PARTIAL, Outcome.NOTHING])
def test_other_runs_make_a_new_one(outcome):
    world = at_time(a_year_of_days(2_000, book=book("1y")), NOW + 9 * DAY)
    assert renew(None, outcome, world, make_plan(world)).made_ns == NOW + 9 * DAY


def test_what_a_run_could_not_finish_is_expected_of_the_next():
    world = a_year_of_days(2_000, book=book("30d"))
    left = counted(make_plan(world))
    expected = renew(None, Outcome.PARTIAL, world, make_plan(world), left)
    assert check(make_plan(at_time(world, NOW + HOUR)), expected, clock(NOW + HOUR)) is None


def test_a_bucket_that_only_had_to_be_quiet_is_expected():
    world = facts(bucket(recordings=5_000, newest_write_ns=NOW - 1))
    plan = make_plan(world)
    assert not plan.destroying
    expected = renew(None, Outcome.NOTHING, world, plan)
    later = at_time(world, NOW + 2 * HOUR)
    assert counted(make_plan(later))[0] == 5_000
    assert check(make_plan(later), expected, clock(NOW + 2 * HOUR)) is None


def test_what_users_deleted_is_counted_apart():
    gone = tuple(
        DeletedFacts(new_id(), BucketId(TENANT, LINE, "2026-08-01"), NOW - 40 * DAY, bytes=GIB)
        for _ in range(600)
    )
    world = facts(deleted=gone, book=book("7y"))
    plan = make_plan(world)
    assert plan.destroying and counted(plan) == (0, 0)
    assert check(plan, None, clock(NOW)) is None
    both = make_plan(replace(world, buckets=(bucket("2019-02", 501),)))
    assert check(both, None, clock(NOW)).foreseen == 600


def test_a_released_case_is_counted():
    held = tuple(HeldRecording(new_id(), (), 1, LINE, "2026-09-01") for _ in range(501))
    world = facts(bucket(CASE, 501, held=held), holds=(hold(released=True),))
    assert check(make_plan(world), None, clock(NOW))
    # While it was held it was not expected; one that is released and due later is.
    open_case = replace(world, holds=(hold(),))
    assert forecast(open_case).recordings[-1] == 0
    later = replace(world, book=book("3m"))
    assert forecast(later).recordings[-1] == 501


def test_forecast_sums_up_by_day():
    world = facts(
        bucket("2026-10-26", 3),  # due at midnight, 21 hours from now
        bucket("2026-10-27", 4),
        bucket("2026-11-20", 5, held=(HeldRecording(new_id(), (CASE,), 1000),)),
        holds=(hold(),),
    )
    found = forecast(world, (7, 70))
    assert len(found.recordings) == len(found.bytes) == FORECAST_DAYS
    assert at("2026-11-26") - NOW == 21 * HOUR
    assert found.by(NOW, 0) == (7 + 3, 70 + 3_000)
    assert found.by(NOW + DAY, 0) == (14, 7_070)
    assert found.by(NOW + 25 * DAY, 0) == (18, 11_070), "what is held is not expected"
    assert found.by(NOW + 4_000 * DAY, 0) == (18, 11_070)
    assert found.by(NOW - 1, 0) == (0, 0)


def test_json():
    expected = forecast(a_year_of_days(3))
    assert FORECAST.validate_json(FORECAST.dump_json(expected)) == expected
    found = check(make_plan(facts(bucket(recordings=501))), None, clock(NOW))
    assert BRAKE.validate_json(BRAKE.dump_json(found)) == found
