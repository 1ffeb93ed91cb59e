"""The retention clock: what moves it, what freezes it, what thaws it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retention_kit import DAY, HOUR, MINUTE, NOW, SECOND

from appliance.storage.retention.clock import (
    CLOCK_STATE,
    PLAUSIBLE_GAP_NS,
    SHORT_GAP_NS,
    TOLERANCE_NS,
    ClockState,
    FreezeRule,
    Reading,
    Severity,
    Witness,
    accept,
    plausible,
    tick,
)
from appliance.storage.retention.errors import ClockFloorError, PolicyError

YEAR = 365 * DAY


class Box:
    """A machine with clocks of its own, and the retention clock on it."""

    def __init__(self, true_ns: int = NOW) -> None:
        self.true = true_ns
        self.off_by = 0  # wall minus true
        self.boot = 1
        self.up = 10 * SECOND
        self.witnesses: tuple[Witness, ...] = ()
        self.state: ClockState | None = None
        self.names: list[str] = []
        self.tick()

    def reading(self) -> Reading:
        return Reading(self.true + self.off_by, f"boot-{self.boot}", self.up, self.witnesses)

    def tick(self, floor: int = 0) -> ClockState:
        self.state, found = tick(self.state, self.reading(), floor_ns=floor)
        self.names = [each.name for each in found]
        return self.state

    def run(self, ns: int, floor: int = 0) -> ClockState:
        self.true += ns
        self.up += ns
        return self.tick(floor)

    def power_off(self, ns: int) -> ClockState:
        """Off for that long; the first reading is 10 s after it is up again."""
        self.true += ns + 10 * SECOND
        self.boot += 1
        self.up = 10 * SECOND
        return self.tick()

    def witnessed(self, *off_by: int, authenticated: bool = False) -> None:
        """Witnesses that are wrong by so much."""
        self.witnesses = tuple(
            Witness(f"w{place}", self.true + each, authenticated) for place, each in enumerate(off_by)
        )

    @property
    def behind(self) -> int:
        """How far the retention clock is behind the truth."""
        return self.true - self.state.clock_ns

    @property
    def rule(self) -> FreezeRule | None:
        return self.state.frozen.rule if self.state.frozen else None


def test_the_first_start_takes_the_wall():
    box = Box()
    assert box.state == ClockState(NOW, NOW, "boot-1", 10 * SECOND)
    assert box.state.destroys
    assert box.names == ["RetentionClockStarted"]


def test_it_goes_with_the_time():
    box = Box()
    for _ in range(100):
        box.run(MINUTE)
        assert box.behind == 0 and box.state.destroys and box.names == []


def test_ten_years_forward_while_up_freezes_and_does_not_move_it():
    box = Box()
    box.off_by = 10 * YEAR
    box.run(MINUTE)
    assert box.behind == 0
    assert box.rule is FreezeRule.WALL_AHEAD and not box.state.destroys
    assert box.names == ["RetentionClockFrozen"]
    box.run(DAY)
    assert box.behind == 0 and box.rule is FreezeRule.WALL_AHEAD
    assert box.state.frozen.since_ns == NOW + MINUTE, "since when it is frozen stays"
    # While the box is up nobody can vouch for time that the monotonic clock did not see.
    box.witnesses = tuple(Witness(name, box.true + MINUTE + box.off_by, True) for name in "abc")
    box.run(MINUTE)
    assert box.behind == 0 and not box.state.destroys
    box.off_by, box.witnesses = 0, ()
    box.run(MINUTE)
    assert box.state.destroys and box.behind == 0
    assert box.names == ["RetentionClockThawed"]


def test_ten_years_back_while_up_neither_moves_it_back_nor_destroys():
    box = Box()
    box.run(HOUR)
    before = box.state.clock_ns
    box.off_by = -10 * YEAR
    box.run(MINUTE)
    assert box.state.clock_ns == before, "it holds"
    assert box.rule is FreezeRule.WALL_BEHIND
    box.run(30 * DAY)
    assert box.state.clock_ns == before and not box.state.destroys
    assert box.state.latest_ns == box.true, "for dating what is new the monotonic clock is believed"
    box.off_by = 0
    box.run(MINUTE)
    assert box.behind == 0 and box.state.destroys, "it catches up with what the monotonic clock saw"


def test_a_wall_set_back_and_then_too_far_forward_gains_nothing():
    box = Box()
    box.off_by = -10 * YEAR
    box.run(DAY)
    box.off_by = 5 * YEAR
    box.run(DAY)
    assert box.behind == 0 and box.rule is FreezeRule.WALL_AHEAD


def test_small_skew_is_no_matter():
    box = Box()
    box.off_by = 50 * MINUTE
    box.run(MINUTE)
    assert box.state.destroys and box.behind == 0
    box.off_by = -50 * MINUTE
    box.run(MINUTE)
    assert box.state.destroys and box.behind == MINUTE
    box.run(2 * HOUR)
    assert box.state.destroys and box.behind == 50 * MINUTE, "it goes with the wall"


def test_a_short_power_off_is_taken():
    box = Box()
    box.power_off(14 * MINUTE)
    assert box.behind == 0 and box.state.destroys
    assert box.names == ["RetentionClockGapTaken"]


def test_half_an_hour_off_without_a_witness_freezes():
    box = Box()
    box.power_off(30 * MINUTE)
    assert box.rule is FreezeRule.POWER_OFF and box.behind == 30 * MINUTE
    box.run(DAY)
    assert box.rule is FreezeRule.POWER_OFF and box.behind == 30 * MINUTE, "it goes on by monotonic"


@pytest.mark.parametrize("authenticated", [True, False])
def test_a_month_off_with_witnesses_that_agree_is_taken(authenticated):
    box = Box()
    box.true += 30 * DAY + 10 * SECOND
    box.boot, box.up = 2, 10 * SECOND
    box.witnessed(*((0,) if authenticated else (MINUTE, -MINUTE)), authenticated=authenticated)
    box.tick()
    assert box.behind == 0 and box.state.destroys


@pytest.mark.parametrize(
    ("off_by", "authenticated"),
    [
        ((), False),  # nobody
        ((0,), False),  # one that is not authenticated
        ((0, 6 * MINUTE), False),  # two that do not agree with the wall
        ((-DAY, -DAY), False),  # two that agree with each other, and not with the wall
        ((6 * MINUTE,), True),
        ((0, DAY), True),  # one authenticated denies it
    ],
)
def test_a_month_off_that_nothing_confirms_freezes(off_by, authenticated):
    box = Box()
    box.true += 30 * DAY + 10 * SECOND
    box.boot, box.up = 2, 10 * SECOND
    box.witnessed(*off_by, authenticated=authenticated)
    box.tick()
    assert box.rule is FreezeRule.POWER_OFF
    assert box.state.clock_ns == NOW + 10 * SECOND
    assert box.names == ["RetentionClockFrozen"]


@pytest.mark.parametrize(("days", "authenticated", "believed"), [(32, False, False), (32, True, True)])
def test_more_than_31_days_want_somebody_who_signs(days, authenticated, believed):
    box = Box()
    box.true += days * DAY
    box.boot, box.up = 2, 10 * SECOND
    box.witnessed(0, 0, authenticated=authenticated)
    box.tick()
    assert box.state.destroys is believed


@pytest.mark.parametrize(("authenticated", "unseen"), [(False, 30 * DAY), (True, 0)])
def test_time_that_nobody_signed_is_counted_as_unseen(authenticated, unseen):
    box = Box()
    box.true += 30 * DAY + 10 * SECOND
    box.boot, box.up = 2, 10 * SECOND
    box.witnessed(0, 0, authenticated=authenticated)
    assert box.tick().unseen_ns == unseen
    assert box.run(DAY).unseen_ns == unseen, "what the monotonic clock sees is not"
    box.off_by = YEAR
    box.state, _ = accept(box.state, box.reading(), "ann")
    assert box.state.unseen_ns == unseen, "an administrator vouches"
    floor = box.state.clock_ns + DAY
    assert box.tick(floor).unseen_ns == unseen + DAY


def test_the_same_witness_twice_is_one():
    box = Box()
    box.true += 30 * DAY
    box.boot, box.up = 2, 10 * SECOND
    box.witnesses = (Witness("ntp", box.true), Witness("ntp", box.true))
    box.tick()
    assert not box.state.destroys


def test_witnesses_may_come_later_than_the_boot():
    box = Box()
    box.power_off(30 * DAY)
    box.run(5 * MINUTE)
    assert not box.state.destroys
    box.true += MINUTE
    box.up += MINUTE
    box.witnessed(0, 0)
    box.tick()
    assert box.behind == 0 and box.state.destroys
    assert box.names == ["RetentionClockGapTaken", "RetentionClockThawed"]


def test_a_dead_hardware_clock_is_put_right_by_witnesses():
    box = Box()
    box.off_by = -50 * YEAR
    box.power_off(3 * DAY)
    assert box.rule is FreezeRule.WALL_BEHIND and box.state.clock_ns == NOW
    box.run(5 * MINUTE)
    box.off_by = 0
    box.run(MINUTE)
    assert box.rule is FreezeRule.POWER_OFF, "ahead now, by three days nobody vouches for"
    box.true += MINUTE
    box.up += MINUTE
    box.witnessed(0, 0)
    box.tick()
    assert box.behind == 0 and box.state.destroys


def test_a_dead_hardware_clock_and_a_short_power_off():
    box = Box()
    box.off_by = -50 * YEAR
    box.power_off(5 * MINUTE)
    box.run(5 * MINUTE)
    box.off_by = 0
    box.run(MINUTE)
    assert box.behind == 0 and box.state.destroys


def test_more_than_400_days_off_wants_an_administrator():
    box = Box()
    box.true += 401 * DAY
    box.boot, box.up = 2, 10 * SECOND
    box.witnessed(0, 0, authenticated=True)
    box.tick()
    assert box.rule is FreezeRule.POWER_OFF
    box.state, found = accept(box.state, box.reading(), "ann")
    assert box.behind == 0 and box.state.destroys
    assert [(each.name, each.severity) for each in found] == [("RetentionClockAccepted", Severity.WARNING)]
    assert "ann" in found[0].message
    box.run(MINUTE)
    assert box.behind == 0 and box.state.destroys


def test_many_short_power_offs_while_frozen_settle_nothing():
    box = Box()
    box.power_off(30 * DAY)
    for _ in range(10):
        box.power_off(MINUTE)
        assert box.rule is FreezeRule.POWER_OFF


def test_the_wall_back_within_a_short_gap_thaws_after_a_power_off():
    box = Box()
    box.off_by = 10 * YEAR
    box.power_off(MINUTE)
    assert box.rule is FreezeRule.POWER_OFF
    box.off_by = 0
    box.run(MINUTE)
    assert box.behind == 0 and box.state.destroys


def test_a_box_that_was_up_before_its_vault_counts_that_time():
    box = Box()
    box.true += 2 * DAY
    box.boot, box.up = 2, 2 * DAY - MINUTE
    box.tick()
    assert box.behind == 0 and box.state.destroys


def test_a_monotonic_clock_that_went_back_counts_nothing():
    box = Box()
    box.true += DAY
    box.up = SECOND  # a machine put back to an earlier snapshot keeps its boot id
    box.tick()
    assert box.state.clock_ns == NOW and not box.state.destroys


def test_the_floor_is_never_undercut():
    box = Box()
    floor = NOW + 10 * MINUTE
    box.run(MINUTE, floor)
    assert box.state.clock_ns == floor and box.state.destroys
    assert box.names == ["RetentionClockRaised"]
    box.run(20 * MINUTE, floor)
    assert box.behind == 0


def test_a_state_that_was_put_back_freezes_until_confirmed():
    old = Box().state
    box = Box(NOW + 40 * DAY)
    box.state, box.boot = old, 2
    floor = NOW + 39 * DAY
    box.tick(floor)
    assert box.state.clock_ns == floor and box.rule is FreezeRule.STATE_OLD
    box.run(DAY, floor)
    assert box.rule is FreezeRule.STATE_OLD, "that the wall is near proves nothing"
    box.power_off(MINUTE)
    assert box.rule is FreezeRule.STATE_OLD
    box.true += MINUTE
    box.up += MINUTE
    box.witnessed(0, 0)
    box.tick(floor)
    assert box.behind == 0 and box.state.destroys


def test_an_old_state_stays_frozen_however_near_the_wall_is():
    box = Box()
    floor = box.true + 40 * DAY
    box.off_by = 40 * DAY
    box.run(MINUTE, floor)
    assert box.rule is FreezeRule.STATE_OLD and box.state.clock_ns == floor
    box.run(MINUTE, floor)
    assert box.rule is FreezeRule.STATE_OLD
    box.power_off(MINUTE)
    assert box.rule is FreezeRule.STATE_OLD, "a short time without power settles nothing here"
    box.state, _ = accept(box.state, box.reading(), "ann", floor_ns=floor)
    assert box.run(MINUTE, floor).destroys


def test_a_poisoned_floor_does_not_destroy():
    # A wrong wall ten years ahead got into the floor: it lifts the clock, and the clock freezes.
    box = Box()
    box.off_by = 10 * YEAR
    box.run(MINUTE, floor=NOW + 10 * YEAR)
    assert not box.state.destroys
    box.off_by = 0
    box.run(MINUTE, floor=NOW + 10 * YEAR)
    assert not box.state.destroys


def test_a_first_start_behind_its_floor_is_frozen():
    state, _ = tick(None, Reading(NOW - YEAR, "b", 1), floor_ns=NOW)
    assert state.clock_ns == NOW and state.frozen.rule is FreezeRule.WALL_BEHIND


def test_accept_may_set_it_back_but_not_below_the_floor():
    box = Box(NOW + 10 * YEAR)  # first started with a wrong hardware clock
    box.true = NOW
    box.run(MINUTE)
    assert box.rule is FreezeRule.WALL_BEHIND
    with pytest.raises(ClockFloorError) as caught:
        accept(box.state, box.reading(), "ann", floor_ns=NOW + YEAR)
    assert caught.value.data == {"wall_ns": box.true, "floor_ns": NOW + YEAR}
    box.state, _ = accept(box.state, box.reading(), "ann", floor_ns=box.true + MINUTE)
    assert box.state.clock_ns == box.true + MINUTE and box.state.destroys


@pytest.mark.parametrize("who", ["", "x" * 201])
def test_accept_wants_to_know_who(who):
    box = Box()
    with pytest.raises(PolicyError):
        accept(box.state, box.reading(), who)


# What a recording that is filed now is kept from.


def test_plausible_times_are_believed():
    state = ClockState(NOW, NOW, "b", 1)
    for created in (NOW, NOW - 31 * DAY, NOW + HOUR, NOW - MINUTE):
        assert plausible(created, state) == created
    for created in (0, NOW - 31 * DAY - 1, NOW + HOUR + 1, NOW + 10 * YEAR):
        assert plausible(created, state) == NOW


def test_a_wall_that_is_behind_makes_no_recording_look_old():
    box = Box()
    box.off_by = -20 * DAY
    box.run(3 * DAY)
    assert plausible(box.true + box.off_by, box.state) == box.true


def test_while_a_power_off_is_open_the_wall_ahead_is_believed():
    # Otherwise what is recorded now would be destroyed a month early once it is confirmed.
    box = Box()
    box.power_off(30 * DAY)
    assert plausible(box.true, box.state) == box.true
    box.off_by = 10 * YEAR
    box.run(MINUTE)
    assert plausible(box.true + box.off_by, box.state) == box.state.clock_ns


def test_state_survives_json():
    box = Box()
    box.power_off(30 * DAY)
    assert CLOCK_STATE.validate_json(CLOCK_STATE.dump_json(box.state)) == box.state


# Whatever happens.

steps = st.lists(
    st.tuples(
        st.sampled_from(["run", "off", "off", "vault-down"]),
        st.sampled_from([SECOND, MINUTE, 16 * MINUTE, 3 * HOUR, 30 * DAY, 500 * DAY, 10 * YEAR]),
        st.sampled_from([None, 0, MINUTE, -MINUTE, 2 * HOUR, -2 * HOUR, 40 * DAY, 10 * YEAR, -10 * YEAR]),
        st.sampled_from([(), (0,), (0, 0), (0, DAY)]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=300)
@given(steps)
def test_never_back_never_faster_than_time_that_passed_or_was_vouched_for(script):
    box = Box()
    monotonic = vouched = 0
    for what, ns, skew, witnesses, authenticated in script:
        if skew is not None:
            box.off_by = skew
        before = box.state
        if what == "off":
            box.true += ns + 10 * SECOND
            box.boot += 1
            box.up = 10 * SECOND
            passed = 10 * SECOND
        else:
            box.true += ns
            box.up += ns
            passed = ns
        box.witnessed(*(each + box.off_by for each in witnesses), authenticated=authenticated)
        state = box.tick()
        monotonic += passed
        assert state.clock_ns >= before.clock_ns
        gained = state.clock_ns - before.latest_ns - passed
        if gained > 0:
            assert "RetentionClockGapTaken" in box.names
            assert state.clock_ns == state.wall_ns
            assert gained <= SHORT_GAP_NS or (box.reading().confirmed and gained <= PLAUSIBLE_GAP_NS)
            vouched += gained
        assert state.clock_ns - NOW <= monotonic + vouched
        # Destroying is only ever allowed where wall and clock are near each other.
        if state.destroys:
            assert abs(state.wall_ns - state.clock_ns) <= TOLERANCE_NS
        else:
            assert "RetentionClockFrozen" in box.names


@given(steps)
def test_without_witnesses_power_offs_gain_at_most_a_short_gap_each(script):
    box = Box()
    monotonic = offs = 0
    for what, ns, skew, _, _ in script:
        box.off_by = skew or 0
        if what == "off":
            box.power_off(ns)
            offs += 1
            monotonic += 10 * SECOND
        else:
            box.run(ns)
            monotonic += ns
        assert box.state.clock_ns - NOW <= monotonic + offs * SHORT_GAP_NS


@given(steps, st.integers(NOW - YEAR, NOW + YEAR))
def test_never_below_the_floor(script, floor):
    box = Box()
    for _what, ns, skew, *_ in script:
        box.off_by = skew or 0
        box.run(ns, floor)
        assert box.state.clock_ns >= floor


@given(steps)
def test_a_tick_of_the_same_reading_changes_nothing(script):
    box = Box()
    for what, ns, skew, *_ in script:
        box.off_by = skew or 0
        box.power_off(ns) if what == "off" else box.run(ns)
        again, _ = tick(box.state, box.reading())
        assert again == replace(box.state, frozen=again.frozen)
        assert again.destroys == box.state.destroys
