"""The rules of support grants, with a clock of the test's own."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.access import grants as rules
from appliance.access.errors import (
    GrantEmptyError,
    GrantStateError,
    GrantTermsError,
    GrantTooLargeError,
    GrantWidenedError,
    OwnGrantError,
)
from appliance.access.grants import DAY_NS, Clocks, Narrowing, Standing
from appliance.access.identities import Identity, Role
from appliance.catalog.grants import Grant, Latched, Scope, Use
from appliance.model import EarwitnessError, new_id

NOW = 1_790_000_000 * 10**9
HOUR = 3600 * 10**9
OFFICER = Identity("officer", frozenset({Role.RECORDS_OFFICER}), "t")
ADA = Identity("support.ada", frozenset({Role.SUPPORT}))
BOB = Identity("support.bob", frozenset({Role.SUPPORT}))
WHY = "The cause of the silence cannot be found otherwise."


def request(**fields) -> Grant:
    base = Grant(
        grant_id=new_id(),
        tenant_id="t",
        state=Latched.REQUESTED,
        identities=("support.ada",),
        requester="support.ada",
        request_ns=NOW,
        purpose="system-operation",
        necessity=WHY,
        scope=Scope(recordings=("r",)),
        begin_ns=None,
        end_ns=NOW + HOUR,
        max_reads=3,
        include_parties=True,
        seen_ns=NOW,
    )
    return dataclasses.replace(base, **fields)


def approved(**fields) -> Grant:
    return rules.approve(request(**fields), Narrowing(), OFFICER, NOW)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"identities": ()}, "identities"),
        ({"identities": ("a", "a")}, "identities"),
        ({"identities": tuple("abcdefghijk")}, "identities"),
        ({"scope": Scope()}, "scope"),
        ({"scope": Scope(recordings=("r",), line_id="l")}, "scope.recordings"),
        ({"scope": Scope(recordings=("r", "r"))}, "scope.recordings"),
        ({"scope": Scope(recordings=tuple(map(str, range(201))))}, "scope.recordings"),
        ({"scope": Scope(from_ns=5, to_ns=5)}, "scope.to_time"),
        ({"necessity": "x" * 19}, "necessity"),
        ({"necessity": "x" * 1001}, "necessity"),
        ({"necessity": ""}, "necessity"),
        ({"purpose": ""}, "purpose"),
        ({"max_reads": 0}, "max_reads"),
        ({"max_reads": 1001}, "max_reads"),
        ({"public_key": b"x"}, "public_key"),
        ({"begin_ns": NOW - HOUR}, "begin_time"),
        ({"begin_ns": NOW + 366 * DAY_NS, "end_ns": NOW + 367 * DAY_NS}, "begin_time"),
        ({"end_ns": NOW}, "end_time"),
        ({"end_ns": NOW + 14 * DAY_NS + 1}, "end_time"),
        ({"begin_ns": NOW + 2 * HOUR}, "end_time"),
        ({"end_ns": 2**63 - 1}, "end_time"),
    ],
)
def test_terms_that_are_refused(fields, field):
    with pytest.raises(GrantTermsError) as caught:
        rules.check_terms(request(**fields), NOW)
    assert caught.value.data["field"] == field


def test_terms_at_their_bounds_are_taken():
    widest = request(
        identities=tuple("abcdefghij"),
        scope=Scope(recordings=tuple(map(str, range(200)))),
        necessity="x" * 1000,
        max_reads=1000,
        public_key=b"k" * 1216,
        end_ns=NOW + 14 * DAY_NS,
    )
    assert rules.check_terms(widest, NOW) == widest
    assert rules.check_terms(request(begin_ns=NOW - 30 * 10**9), NOW).begin_ns == NOW, "a little late is now"
    assert rules.check_terms(request(necessity=""), NOW, necessity=False)
    assert rules.check_terms(request(end_ns=NOW + 20 * DAY_NS), NOW, max_days=20)


@pytest.mark.parametrize(
    "approver",
    [
        ADA,
        BOB,
        Identity("support.ada", frozenset({Role.RECORDS_OFFICER})),
        Identity("both", frozenset({Role.RECORDS_OFFICER, Role.SUPPORT})),
    ],
)
def test_who_does_not_approve(approver):
    with pytest.raises(OwnGrantError):
        rules.approve(request(), Narrowing(), approver, NOW)


def test_who_reads_does_not_approve_what_another_asked_for():
    asked = request(requester="support.bob", identities=("officer",))
    with pytest.raises(OwnGrantError):
        rules.approve(asked, Narrowing(), OFFICER, NOW)
    with pytest.raises(OwnGrantError):
        rules.approve(
            request(requester="officer", identities=("officer",)), Narrowing(), OFFICER, NOW, unasked=True
        )
    assert (
        rules.approve(request(requester="officer"), Narrowing(), OFFICER, NOW, unasked=True).approver
        == "officer"
    )


times = st.integers(min_value=NOW - 3 * DAY_NS, max_value=NOW + 30 * DAY_NS)


@given(
    begin=st.none() | times,
    end=times,
    reads=st.integers(1, 1000),
    parties=st.booleans(),
    narrowing=st.builds(
        Narrowing,
        begin_ns=st.none() | times,
        end_ns=st.none() | times,
        max_reads=st.none() | st.integers(-5, 1100),
        exclude_parties=st.booleans(),
    ),
    later=st.integers(0, 15 * DAY_NS),
)
def test_an_approval_is_never_wider_than_its_request(begin, end, reads, parties, narrowing, later):
    asked = request(begin_ns=begin, end_ns=end, max_reads=reads, include_parties=parties)
    try:
        asked = rules.check_terms(asked, NOW)
        grant = rules.approve(asked, narrowing, OFFICER, NOW + later)
    except EarwitnessError as error:
        assert isinstance(error, GrantTermsError | GrantWidenedError | GrantStateError)
        return
    assert grant.begin_ns is not None and NOW + later <= grant.begin_ns < grant.end_ns <= asked.end_ns
    assert asked.begin_ns is None or asked.begin_ns <= grant.begin_ns
    assert 1 <= grant.max_reads <= asked.max_reads
    assert grant.include_parties <= asked.include_parties
    assert grant.end_ns - grant.begin_ns <= 14 * DAY_NS
    same = ("grant_id", "tenant_id", "identities", "purpose", "requester", "public_key")
    assert all(getattr(grant, name) == getattr(asked, name) for name in same)
    for bound in ("begin_ns", "end_ns", "max_reads"):
        wanted = getattr(narrowing, bound)
        assert (
            wanted is None
            or getattr(grant, bound) == wanted
            or (bound == "begin_ns" and wanted < NOW + later)
        )


@given(asked=st.sets(st.integers(0, 300)), named=st.none() | st.sets(st.integers(0, 300)))
def test_what_is_covered_was_asked_for(asked, named):
    try:
        left = rules.covered(map(str, asked), None if named is None else list(map(str, named)))
    except (GrantEmptyError, GrantTooLargeError, GrantWidenedError) as error:
        if isinstance(error, GrantWidenedError):
            assert named is not None and named - asked
        return
    assert left <= set(map(str, asked)) and 1 <= len(left) <= 200
    assert named is None or left == set(map(str, named))


@given(st.integers(1, 40), st.lists(st.integers(0, 30), max_size=80))
def test_no_more_reads_than_were_granted(most, pauses):
    grant, now, done = approved(max_reads=most, end_ns=NOW + 14 * DAY_NS), NOW, 0
    for pause in pauses:
        now += pause
        if rules.reads_for(grant, ADA, now):
            grant = rules.count(grant, now)
            done += 1
            assert grant.reads == done and grant.last_use_ns == now
        else:
            with pytest.raises(GrantStateError):
                rules.count(grant, now)
    assert done == min(most, len(pauses))
    assert (grant.state is Latched.USED_UP) == (done == most)
    assert rules.standing(grant, now) is (Standing.USED_UP if done == most else Standing.ACTIVE)


def test_reads_are_of_the_named_person_in_time_alone():
    grant = rules.approve(request(begin_ns=NOW + 10, end_ns=NOW + HOUR), Narrowing(), OFFICER, NOW)
    assert rules.standing(grant, NOW) is Standing.APPROVED
    for identity, now, reads in (
        (ADA, NOW + 9, False),
        (ADA, NOW + 10, True),
        (ADA, NOW + HOUR - 1, True),
        (ADA, NOW + HOUR, False),
        (BOB, NOW + 10, False),
        (Identity("support.ada", frozenset({Role.INTEGRATION})), NOW + 10, False),
    ):
        assert rules.reads_for(grant, identity, now) is reads
        assert rules.goes_on(grant, identity, now) is reads
    for how in (Latched.REVOKED,):
        ended = rules.end(grant, how, "officer", "", NOW + 20)
        assert not rules.reads_for(ended, ADA, NOW + 21) and not rules.goes_on(ended, ADA, NOW + 21)
    assert not rules.reads_for(request(), ADA, NOW)


def test_the_last_read_goes_on_until_the_time_is_over_and_not_after_a_revocation():
    grant = rules.count(approved(max_reads=1), NOW)
    assert not rules.reads_for(grant, ADA, NOW + 1) and rules.goes_on(grant, ADA, NOW + 1)
    assert not rules.goes_on(grant, ADA, NOW + HOUR)
    assert not rules.goes_on(rules.end(grant, Latched.REVOKED, "officer", "", NOW + 2), ADA, NOW + 3)


def test_what_is_the_same_read():
    use = Use(new_id(), new_id(), "support.ada", "r", "download", "wav", NOW, "wav-1")
    asked = ("r", "download", "wav", "wav-1")
    assert rules.is_same(use, *asked, NOW + HOUR - 1)
    assert not rules.is_same(use, *asked, NOW + HOUR), "an hour after it began it is another"
    for other in (("x", *asked[1:]), ("r", "verify", "wav", "wav-1"), ("r", "download", "flac", "wav-1")):
        assert not rules.is_same(use, *other, NOW)
    assert not rules.is_same(use, *asked[:3], "", NOW), "from the beginning again is another"
    assert not rules.is_same(use, *asked[:3], "wav-2", NOW)
    unserved = dataclasses.replace(use, etag="")
    assert rules.is_same(unserved, *asked[:3], "", NOW) and rules.is_same(unserved, *asked, NOW)


def test_ends_and_when_they_are_refused():
    denied = rules.end(request(), Latched.DENIED, "officer", "no", NOW)
    assert (denied.state, denied.ender, denied.end_reason, denied.ended_ns) == (
        Latched.DENIED,
        "officer",
        "no",
        NOW,
    )
    with pytest.raises(GrantStateError):
        rules.end(approved(), Latched.DENIED, "officer", "", NOW)
    for grant in (denied, rules.expire(approved(), NOW + HOUR)):
        with pytest.raises(GrantStateError):
            rules.end(grant, Latched.REVOKED, "officer", "", NOW)
        with pytest.raises(GrantStateError):
            rules.approve(grant, Narrowing(), OFFICER, NOW)
    assert rules.expire(approved(), NOW + HOUR - 1).state is Latched.APPROVED


def test_a_filter_is_forgotten_once_it_is_answered():
    asked = request(scope=Scope(line_id="l", filter="whole=true"))
    assert rules.approve(asked, Narrowing(), OFFICER, NOW).scope == Scope(line_id="l")
    assert rules.end(asked, Latched.DENIED, "officer", "no", NOW).scope == Scope(line_id="l")


def test_a_request_that_nobody_answers_is_stale():
    late = request(begin_ns=NOW + 20 * DAY_NS, end_ns=NOW + 21 * DAY_NS)
    assert not rules.is_stale(late, NOW + 14 * DAY_NS - 1)
    assert rules.is_stale(late, NOW + 14 * DAY_NS)
    assert rules.is_stale(request(), NOW + HOUR), "its time is over before it began"
    assert rules.standing(late, NOW + 14 * DAY_NS) is Standing.EXPIRED


class Time:
    """A wall and an uptime, in the test's hand."""

    def __init__(self) -> None:
        self.wall, self.boot = NOW, 5 * HOUR

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.boot)


@given(st.lists(st.tuples(st.integers(0, 2 * HOUR), st.integers(-3 * DAY_NS, 3 * DAY_NS)), max_size=30))
def test_a_grants_time_never_goes_back_and_never_waits(steps):
    time, grant = Time(), approved()
    clocks, start = time.clocks(), time.boot
    before = clocks.now(grant)  # as it is approved
    for passed, jump in steps:
        time.boot += passed
        time.wall += passed + jump
        now = clocks.now(grant)
        assert now >= before + passed and now >= time.wall
        assert now >= NOW + (time.boot - start), "it lasts no longer than it may, whatever the wall says"
        before = now


def test_what_ended_by_the_wall_does_not_begin_again_after_a_restart():
    time, grant = Time(), approved()
    time.wall += 2 * HOUR
    over = rules.expire(grant, time.clocks().now(grant))
    time.wall -= 3 * DAY_NS
    assert rules.standing(over, time.clocks().now(over)) is Standing.EXPIRED
    # Also where there was no moment to write the end down, but one to write how late it was.
    seen = dataclasses.replace(grant, seen_ns=NOW + HOUR - 10)
    clocks = time.clocks()
    assert rules.standing(seen, clocks.now(seen)) is Standing.ACTIVE
    time.boot += 10
    assert rules.standing(seen, clocks.now(seen)) is Standing.EXPIRED


def test_an_old_jump_of_the_wall_does_not_touch_a_new_grant():
    time, first = Time(), approved()
    clocks = time.clocks()
    time.wall += 300 * DAY_NS
    assert clocks.now(first) == time.wall
    time.wall -= 300 * DAY_NS
    assert clocks.now(approved()) == NOW
    clocks.keep({first.grant_id})
    assert clocks.now(first) > NOW + 299 * DAY_NS
