"""Policies: who inherits what, and that shortening waits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retention_kit import DAY, LINE, NOW, TENANT, at, new_id

from appliance.storage.names import SliceUnit
from appliance.storage.retention.errors import PolicyError, PolicyPendingError, PolicyVersionError
from appliance.storage.retention.period import Period
from appliance.storage.retention.policy import (
    MAX_HISTORY,
    POLICY_BOOK,
    POLICY_CHANGE,
    PendingChange,
    Policy,
    PolicyBook,
    PolicyChange,
    PolicyField,
    PolicyScope,
    preview,
)

BOX, OF_TENANT, OF_LINE = PolicyScope(), PolicyScope(TENANT), PolicyScope(TENANT, LINE)
RETENTION, GRACE, UNIT, COOLING = (PolicyField(word) for word in ("retention", "grace", "unit", "cooling"))
WEEK = 7 * DAY


def keep(scope: PolicyScope, retention: str | None) -> PolicyChange:
    return PolicyChange(scope, Policy(Period.parse(retention) if retention else None), (RETENTION,))


def grace(scope: PolicyScope, days: int | None) -> PolicyChange:
    return PolicyChange(scope, Policy(grace_days=days), (GRACE,))


def cooling(days: int) -> PolicyChange:
    return PolicyChange(BOX, fields=(COOLING,), cooling_days=days)


def kept(book: PolicyBook, when: int = NOW, line: str = LINE, tenant: str = TENANT) -> str:
    return str(book.effective(tenant, line, when).retention)


def test_the_box_keeps_three_years_and_a_month_of_grace():
    found = PolicyBook().effective(TENANT, LINE, NOW)
    assert (str(found.retention), found.grace_days, found.unit) == ("3 years", 30, SliceUnit.MONTH)
    assert (found.retention_scope, found.grace_scope, found.unit_scope) == (BOX, BOX, None)


def test_the_nearest_scope_that_says_something_counts():
    book = PolicyBook().set(keep(BOX, "5y"), NOW, "ann")
    book = book.set(PolicyChange(OF_TENANT, Policy(Period.parse("7y"), 60)), NOW, "ann")
    book = book.set(PolicyChange(OF_LINE, Policy(unit=SliceUnit.DAY), (UNIT,)), NOW, "ann")
    found = book.effective(TENANT, LINE, NOW)
    assert (str(found.retention), found.retention_scope) == ("7 years", OF_TENANT)
    assert (found.grace_days, found.grace_scope) == (60, OF_TENANT)
    assert (found.unit, found.unit_scope) == (SliceUnit.DAY, OF_LINE)
    assert book.effective(TENANT, new_id(), NOW).unit is SliceUnit.MONTH
    assert kept(book, tenant=new_id()) == "5 years"
    assert str(book.effective(TENANT, "", NOW).retention) == "7 years"


def test_lengthening_is_in_force_at_once():
    book = PolicyBook().set(keep(OF_LINE, "7y"), NOW, "ann")
    assert kept(book) == "7 years" and not book.pending


def test_shortening_waits_for_a_week():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    assert kept(book) == "3 years"
    assert kept(book, NOW + WEEK - 1) == "3 years"
    assert kept(book, NOW + WEEK) == "90 days"
    (pending,) = book.pending
    assert (pending.scope, pending.field, pending.who) == (OF_LINE, RETENTION, "ann")
    assert (pending.made_ns, pending.effective_ns) == (NOW, NOW + WEEK)


def test_grace_is_shortened_and_lengthened_the_same_way():
    book = PolicyBook().set(grace(OF_TENANT, 0), NOW, "ann")
    assert book.effective(TENANT, LINE, NOW).grace_days == 30
    assert book.effective(TENANT, LINE, NOW + WEEK).grace_days == 0
    book = book.set(grace(OF_TENANT, 90), NOW + DAY, "ann")
    assert book.effective(TENANT, LINE, NOW + DAY).grace_days == 90 and not book.pending


def test_only_what_shortens_of_a_change_waits():
    book = PolicyBook().set(PolicyChange(OF_LINE, Policy(Period.parse("7y"), 5)), NOW, "ann")
    found = book.effective(TENANT, LINE, NOW)
    assert (str(found.retention), found.grace_days) == ("7 years", 30)
    assert [each.field for each in book.pending] == [GRACE]


def test_fields_that_are_not_named_stay():
    book = PolicyBook().set(PolicyChange(OF_LINE, Policy(Period.parse("7y"), 60)), NOW, "ann")
    book = book.set(grace(OF_LINE, 90), NOW, "ann")
    assert kept(book) == "7 years"


def test_a_second_shortening_takes_the_place_of_the_first():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    book = book.set(keep(OF_LINE, "1y"), NOW + DAY, "bob")
    assert [str(each.policy.retention) for each in book.pending] == ["1 year"]
    assert kept(book, NOW + WEEK) == "3 years"
    assert kept(book, NOW + DAY + WEEK) == "1 year"
    assert [each.what for each in book.history] == ["pending", "replaced", "pending"]


@pytest.mark.parametrize("again", ["3y", "5y"])
def test_lengthening_cancels_a_shortening_that_waits(again):
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    book = book.set(keep(OF_LINE, again), NOW + DAY, "bob")
    assert not book.pending
    assert kept(book, NOW + 10 * WEEK) == str(Period.parse(again))


def test_a_change_elsewhere_leaves_it_waiting():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    book = book.set(keep(OF_TENANT, "7y"), NOW, "ann")
    assert kept(book) == "7 years" and kept(book, NOW + WEEK) == "90 days"


def test_cancelling():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    book = book.cancel(OF_LINE, RETENTION, NOW + DAY, "bob")
    assert kept(book, NOW + 2 * WEEK) == "3 years" and not book.pending
    assert (book.history[-1].what, book.history[-1].who) == ("cancelled", "bob")
    with pytest.raises(PolicyPendingError):
        book.cancel(OF_LINE, RETENTION, NOW + DAY, "bob")


def test_what_has_taken_effect_cannot_be_cancelled():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann")
    with pytest.raises(PolicyPendingError):
        book.cancel(OF_LINE, RETENTION, NOW + WEEK, "bob")
    settled = book.settled(NOW + WEEK)
    assert settled.version == book.version + 1 and not settled.pending
    assert kept(settled) == "90 days"
    assert (settled.history[-1].what, settled.history[-1].old, settled.history[-1].new) == (
        "took-effect", "", "90 days",
    )  # fmt: skip
    assert settled.settled(NOW + 2 * WEEK) is settled


def test_removing_a_scope_is_a_shortening_where_it_said_more():
    book = PolicyBook().set(keep(OF_LINE, "7y"), NOW, "ann")
    gone = book.remove(OF_LINE, NOW, "ann")
    assert kept(gone) == "7 years" and kept(gone, NOW + WEEK) == "3 years"
    assert gone.settled(NOW + WEEK).policies == ()
    short = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann").settled(NOW + WEEK)
    assert kept(short.remove(OF_LINE, NOW + WEEK, "ann"), NOW + WEEK) == "3 years"


def test_shortening_the_box_reaches_all_that_inherit():
    book = PolicyBook().set(keep(OF_TENANT, "7y"), NOW, "ann").set(keep(BOX, "1y"), NOW, "ann")
    assert kept(book, NOW + WEEK) == "7 years"
    assert kept(book, NOW + WEEK, tenant=new_id()) == "1 year"


def test_who_begins_to_inherit_a_shorter_retention_waits_in_full():
    book = PolicyBook().set(keep(OF_TENANT, "3y"), NOW, "ann")
    book = book.set(keep(BOX, "30d"), NOW, "ann")
    # A day before the box's change is in force: now both say three years, tomorrow the box says 30 days.
    late = NOW + WEEK - DAY
    book = book.remove(OF_TENANT, late, "eve")
    assert kept(book, late + WEEK - 1) == "3 years"
    assert kept(book, late + WEEK) == "30 days"


def test_what_waits_is_not_dropped_where_the_scope_would_then_inherit_less():
    book = PolicyBook().set(grace(BOX, 0), NOW, "ann").set(grace(OF_TENANT, 7), NOW, "ann")
    for changed in (
        book.set(grace(OF_TENANT, None), NOW + DAY, "eve"),
        book.cancel(OF_TENANT, GRACE, NOW + DAY, "eve"),
    ):
        days = [changed.effective(TENANT, LINE, NOW + day * DAY).grace_days for day in (1, 7, 8)]
        assert days == [30, 7, 0], "0 was never said of the tenant before the day it asked for that"
        settled = changed.settled(NOW + WEEK).settled(NOW + WEEK + DAY)
        assert settled.effective(TENANT, LINE, NOW + WEEK + DAY).grace_days == 0 and not settled.pending


def test_of_what_waits_only_that_stays_which_comes_before():
    def waits(scope: PolicyScope, days: int, when: int) -> PendingChange:
        return PendingChange(scope, GRACE, Policy(grace_days=days), 7, NOW, when, "ann")

    soon = NOW + DAY // 2
    three = (waits(BOX, 0, soon), waits(OF_TENANT, 7, soon), waits(OF_TENANT, 3, NOW + 9 * DAY))
    book = PolicyBook(cooling_days=1, pending=three).set(grace(OF_TENANT, None), NOW, "eve")
    days = [book.effective(TENANT, LINE, when).grace_days for when in (NOW, soon, NOW + DAY, NOW + 9 * DAY)]
    assert days == [30, 7, 0, 0]


def test_a_month_is_sometimes_shorter_than_thirty_days():
    book = PolicyBook().as_if(keep(BOX, "30d")).set(keep(BOX, "1m"), at("2026-03-02"), "ann")
    assert kept(book, at("2026-03-02")) == "30 days" and book.pending
    same = PolicyBook().as_if(keep(BOX, "1y")).set(keep(BOX, "12m"), NOW, "ann")
    assert kept(same) == "12 months" and not same.pending


def test_the_cooling_off_is_itself_shortened_after_the_old_one():
    book = PolicyBook().set(cooling(0), NOW, "ann")
    assert book.cooling(NOW) == 7 and book.cooling(NOW + WEEK) == 0
    book = book.set(keep(OF_LINE, "90d"), NOW + DAY, "ann")
    assert kept(book, NOW + WEEK) == "3 years"
    assert kept(book, NOW + DAY + WEEK) == "90 days"
    quick = book.set(keep(OF_LINE, "30d"), NOW + 2 * WEEK, "ann")
    assert kept(quick, NOW + 2 * WEEK) == "30 days"


def test_the_cooling_off_is_lengthened_at_once():
    book = PolicyBook().set(cooling(30), NOW, "ann").set(keep(OF_LINE, "90d"), NOW, "ann")
    assert kept(book, NOW + 30 * DAY - 1) == "3 years" and kept(book, NOW + 30 * DAY) == "90 days"


def test_preview_says_what_set_then_does():
    book = PolicyBook().set(keep(OF_LINE, "1y"), NOW, "ann")
    change = PolicyChange(OF_LINE, Policy(Period.parse("90d"), 60), (RETENTION, GRACE))
    found = preview(book, change, NOW + DAY)
    keeping, undeleting = found.parts
    assert (keeping.old, keeping.new, keeping.shortens) == ("", "90 days", True)
    assert keeping.effective_ns == NOW + DAY + WEEK
    assert keeping.replaces == book.pending
    assert (undeleting.old, undeleting.new, undeleting.shortens) == ("", "60 days", False)
    assert undeleting.effective_ns == NOW + DAY and undeleting.replaces == ()
    assert (str(found.before.retention), str(found.after.retention)) == ("3 years", "90 days")
    assert found.shortens
    assert book.pending[0].policy.retention == Period.parse("1y"), "nothing is changed"
    done = book.set(change, NOW + DAY, "ann")
    assert done.effective(TENANT, LINE, NOW + DAY + WEEK) == found.after


def test_versions():
    book = PolicyBook()
    book = book.set(keep(OF_LINE, "7y"), NOW, "ann", version=0)
    assert book.version == 1
    with pytest.raises(PolicyVersionError) as caught:
        book.set(keep(OF_LINE, "8y"), NOW, "ann", version=0)
    assert caught.value.data == {"version": 1}


def test_history_is_bounded_and_keeps_the_newest():
    book = PolicyBook()
    for days in range(MAX_HISTORY + 10):
        book = book.set(grace(OF_LINE, 31 + days), NOW + days, "ann")
    assert len(book.history) == MAX_HISTORY
    assert book.history[-1].new == f"{31 + MAX_HISTORY + 9} days"
    assert book.history[-1].old == f"{31 + MAX_HISTORY + 8} days"


def test_what_changes_nothing_is_not_history():
    book = PolicyBook().set(keep(OF_LINE, "7y"), NOW, "ann")
    assert book.set(keep(OF_LINE, "7y"), NOW, "ann").history == book.history


@pytest.mark.parametrize(
    "make",
    [
        lambda: PolicyScope("", LINE),
        lambda: PolicyScope("nobody"),
        lambda: PolicyScope(TENANT, "nothing"),
        lambda: Policy(grace_days=-1),
        lambda: Policy(grace_days=3651),
        lambda: PolicyChange(BOX, fields=()),
        lambda: PolicyChange(BOX, fields=(GRACE, GRACE)),
        lambda: PolicyChange(OF_LINE, fields=(COOLING,)),
        lambda: PolicyChange(BOX, fields=(COOLING,), cooling_days=366),
        lambda: PolicyBook().set(grace(BOX, 60), NOW, ""),
        lambda: PolicyBook().set(grace(BOX, 60), NOW, "x" * 201),
    ],
)
def test_out_of_bounds(make):
    with pytest.raises(PolicyError) as caught:
        make()
    assert caught.value.data["field"]


def test_json():
    book = PolicyBook().set(keep(OF_LINE, "90d"), NOW, "ann").set(grace(OF_TENANT, 60), NOW, "ann")
    book.effective(TENANT, LINE, NOW)
    assert POLICY_BOOK.validate_json(POLICY_BOOK.dump_json(book)) == book
    assert POLICY_CHANGE.validate_json(POLICY_CHANGE.dump_json(keep(OF_LINE, "90d"))) == keep(OF_LINE, "90d")


def test_until_looks_ahead_at_what_waits():
    book = PolicyBook().set(keep(BOX, "30d"), NOW, "ann")
    ends = at("2026-10-01")
    expires = lambda policy: policy.retention.ends(ends)  # noqa: E731
    assert book.until(TENANT, LINE, NOW, expires) == NOW + WEEK, "due as soon as it is in force"
    assert book.until(TENANT, LINE, NOW + WEEK, expires) == NOW + WEEK
    assert PolicyBook().until(TENANT, LINE, NOW, expires) == at("2029-10-01")


# Whatever is changed, by whom, when.

OTHER = new_id()
SCOPES = [BOX, OF_TENANT, OF_LINE, PolicyScope(TENANT, OTHER)]
values = st.sampled_from([None, "1d", "30d", "1m", "365d", "1y", "12m", "3y", "7y"])
CANCEL = "cancel"
changes = st.one_of(
    st.tuples(st.just(CANCEL), st.sampled_from(SCOPES), st.sampled_from([RETENTION, GRACE, COOLING])),
    st.builds(keep, st.sampled_from(SCOPES), values),
    st.builds(grace, st.sampled_from(SCOPES), st.sampled_from([None, 0, 7, 30, 365])),
    st.builds(cooling, st.sampled_from([0, 1, 7, 30])),
    st.builds(PolicyChange, st.sampled_from(SCOPES)),
)


def carried_out(book: PolicyBook, change, now: int) -> PolicyBook:
    if isinstance(change, PolicyChange):
        return book.set(change, now, "ann")
    try:
        return book.cancel(change[1], change[2], now, "ann")
    except PolicyPendingError:
        return book


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(changes, st.integers(0, 12)), max_size=8))
def test_no_change_shortens_anything_before_its_cooling_off(script):
    book, now = PolicyBook(), NOW
    for change, days in script:
        now += days * DAY
        new = carried_out(book, change, now)
        waits = book.cooling(now) * DAY
        moments = {now, now + waits - 1, *(each.effective_ns for each in (*book.pending, *new.pending))}
        for when in sorted(moments):
            if not now <= when < now + waits:
                continue
            for line in (LINE, OTHER, ""):
                before, after = book.effective(TENANT, line, when), new.effective(TENANT, line, when)
                assert not after.retention.ever_shorter_than(before.retention, when)
                assert after.grace_days >= before.grace_days
            assert new.cooling(when) >= book.cooling(when)
        assert new is book or new.version == book.version + 1
        book = new


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(changes, st.integers(0, 12)), max_size=8), st.integers(0, 60))
def test_settling_alters_nothing_that_holds(script, days):
    book, now = PolicyBook(), NOW
    for change, later in script:
        now += later * DAY
        book = carried_out(book, change, now)
    settled = book.settled(now + days * DAY)
    assert all(each.effective_ns > now + days * DAY for each in settled.pending)
    for when in (now + days * DAY, now + 100 * DAY):
        for line in (LINE, OTHER, ""):
            assert settled.effective(TENANT, line, when) == book.effective(TENANT, line, when)
        assert settled.cooling(when) == book.cooling(when)
