"""Laws that every plan keeps, whatever the facts: nothing held goes, nothing is forgotten, nothing counts twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from retention_kit import DAY, HOUR, LINE, NOW, TENANT, bucket, clock, facts, hold, new_id

from appliance.storage.names import GUARD, GUARD_TAG
from appliance.storage.retention.facts import (
    BucketWord,
    DeletedFacts,
    Facts,
    HeldRecording,
    SnapshotFacts,
    UnknownFacts,
    UnknownKind,
)
from appliance.storage.retention.items import ItemKind, Plan, Rule
from appliance.storage.retention.period import Period
from appliance.storage.retention.plan import RecordingFacts, make_plan, upcoming, why_kept
from appliance.storage.retention.policy import Policy, PolicyBook, PolicyChange, PolicyScope

CASES = [new_id() for _ in range(4)]
KNOWN = CASES[:3]  # the fourth is in no book
SLICES = ["2019-02", "2025-11", "2026-W40", "2026-10-20", "2026-11-24", "2026-11-25"]
cases = st.lists(st.sampled_from(CASES), max_size=2, unique=True).map(tuple)
snapshots = st.lists(
    st.sampled_from(
        [
            SnapshotFacts(GUARD, (GUARD_TAG,)),
            SnapshotFacts("g-1", ("ew.grace",)),
            SnapshotFacts("g-2", ("ew.grace", f"ew.case.{CASES[0]}")),
            SnapshotFacts(f"h-{CASES[1]}-1", (f"ew.case.{CASES[1]}",)),
            SnapshotFacts("autosnap"),
            SnapshotFacts("r-peer-1"),
        ]
    ),
    max_size=3,
    unique_by=lambda each: each.name,
).map(tuple)


@st.composite
def worlds(draw) -> Facts:
    buckets, deleted = [], []
    for slice_ in draw(st.lists(st.sampled_from([*SLICES, *CASES[:2]]), unique=True)):
        of_hold = slice_ in CASES
        filed = draw(st.integers(0, 4))
        origin = draw(st.sampled_from(SLICES))
        held = [HeldRecording(new_id(), draw(cases), 10, LINE, origin) for _ in range(filed)]
        if not of_hold:
            held = held[: draw(st.integers(0, filed))]
        made = bucket(slice_, filed)
        gone = [
            DeletedFacts(
                new_id(),
                made.bucket,
                NOW - draw(st.integers(-10, 4000)) * DAY,
                draw(st.sampled_from(["", "g-1"])),
                draw(cases),
                10,
                LINE if of_hold else "",
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        deleted += gone
        buckets.append(
            replace(
                made,
                deleted=len(gone),
                bytes=10 * (filed + len(gone)),
                held=tuple(held),
                state=draw(
                    st.sampled_from(
                        [BucketWord.OPEN, BucketWord.LOCKED, BucketWord.LOCKED, BucketWord.ABSENT]
                    )
                ),
                newest_write_ns=NOW - draw(st.sampled_from([0, 2 * HOUR, 90 * DAY, 90 * DAY])),
                snapshots=draw(snapshots),
                unknown_files=draw(st.sampled_from([0, 0, 0, 1])),
            )
        )
    book, when = PolicyBook(), NOW - 20 * DAY
    for _ in range(draw(st.integers(0, 3))):
        scope = draw(st.sampled_from([PolicyScope(), PolicyScope(TENANT), PolicyScope(TENANT, LINE)]))
        retention = draw(st.sampled_from(["1d", "30d", "1y", "7y"]))
        book = book.set(
            PolicyChange(scope, Policy(Period.parse(retention), draw(st.sampled_from([0, 30])))), when, "ann"
        )
        when += 6 * DAY
    return facts(
        *buckets,
        deleted=tuple(deleted),
        book=book,
        holds=tuple(hold(case, draw(st.booleans())) for case in KNOWN),
        unknown=tuple(
            UnknownFacts(f"odd-{each}", UnknownKind.STRANGER) for each in range(draw(st.integers(0, 2)))
        ),
        clock=clock(
            NOW + draw(st.sampled_from([0, DAY, 400 * DAY, 3650 * DAY])),
            draw(st.sampled_from([False, False, True])),
        ),
    )


def holding(world: Facts, named: tuple[str, ...]) -> set[str]:
    """Cases that hold, unknown ones too."""
    return set(named) - {each.case_id for each in world.holds if not each.open}


def destroyed_ids(plan: Plan) -> set[str]:
    return {each for item in plan.destroying for each in item.recording_ids}


laws = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@laws
@given(worlds())
def test_nothing_held_is_destroyed(world):
    plan = make_plan(world)
    gone = destroyed_ids(plan)
    expiring = {item.bucket: item for item in plan.destroying if item.whole and not item.bucket.of_hold}
    held = {
        each.recording_id: found.bucket
        for found in world.buckets
        for each in found.held
        if holding(world, each.cases)
    }
    held |= {each.recording_id: each.bucket for each in world.deleted if holding(world, each.cases)}
    for recording, where in held.items():
        assert recording not in gone
        if where in expiring:
            saved = [name for some in expiring[where].evacuate for name in some.recording_ids]
            assert saved.count(recording) == 1
    for item in plan.destroying:
        if item.bucket.of_hold and (item.whole or item.kind is ItemKind.DROP_HOLD_RECORDINGS):
            assert not holding(world, (item.bucket.slice,)), "the bucket of an open case"
        if item.whole:
            found = next(each for each in world.buckets if each.bucket == item.bucket)
            assert item.recordings + item.evacuated == found.recordings + found.deleted


@laws
@given(worlds())
def test_evacuations_go_to_open_cases_that_are_known(world):
    open_cases = {each.case_id for each in world.holds if each.open}
    for item in make_plan(world).items:
        assert {some.case_id for some in item.evacuate} <= open_cases


@laws
@given(worlds())
def test_everything_is_in_the_plan_once(world):
    plan = make_plan(world)
    counted: Counter = Counter()
    size: Counter = Counter()
    for item in plan.items:
        if item.bucket is not None:
            counted[item.bucket] += item.recordings + item.evacuated
            size[item.bucket] += item.bytes
        assert item.why.sentence
        assert item.recordings >= 0 and item.bytes >= 0
    for found in world.buckets:
        assert counted[found.bucket] == found.recordings + found.deleted
        assert any(item.bucket == found.bucket for item in plan.items), (
            "an empty bucket says why it is there, too"
        )
    named = Counter(name for item in plan.items for name in item.recording_ids)
    assert not named or max(named.values()) == 1
    whole = {item.bucket for item in plan.items if item.whole}
    assert {each.recording_id for each in world.deleted if each.bucket not in whole} <= set(named)
    shots = Counter((item.bucket, name) for item in plan.items for name in item.snapshots)
    shots += Counter(
        (item.bucket, item.name.split("@")[1]) for item in plan.items if item.bucket and "@" in item.name
    )
    for found in world.buckets:
        for snapshot in found.snapshots:
            if snapshot.name != GUARD:
                assert shots[found.bucket, snapshot.name] == 1
    assert sum(item.name.startswith("odd-") for item in plan.items) == len(world.unknown)
    keys = Counter(item.key for item in plan.items)
    assert [key for key, times in keys.items() if times > 1] == []


@laws
@given(worlds())
def test_a_frozen_clock_destroys_nothing(world):
    plan = make_plan(replace(world, clock=clock(world.clock.clock_ns, frozen=True)))
    assert not plan.destroying


@laws
@given(worlds())
def test_nothing_goes_before_its_time(world):
    now = world.clock.clock_ns
    for item in make_plan(world).destroying:
        if item.kind in (ItemKind.EXPIRE_BUCKET, ItemKind.ERASE_DELETED):
            assert item.why.until_ns <= now
        if item.kind is ItemKind.EXPIRE_BUCKET:
            policy = world.book.effective(item.bucket.tenant_id, item.bucket.line_id, now)
            assert policy.retention.ends(item.why.from_ns) == item.why.until_ns <= now


@laws
@given(worlds())
def test_buckets_with_anything_unknown_stay(world):
    plan = make_plan(world)
    whole = {item.bucket for item in plan.items if item.whole}
    for found in world.buckets:
        if (
            found.unknown_files
            or found.state is BucketWord.ABSENT
            or any(s.name == "autosnap" for s in found.snapshots)
        ):
            assert found.bucket not in whole


@laws
@given(worlds())
def test_no_snapshot_goes_that_has_a_deleted_recording(world):
    needed = {(each.bucket, each.parked) for each in world.deleted if each.parked}
    for item in make_plan(world).items:
        if item.kind is ItemKind.DROP_SNAPSHOT:
            assert not needed & {(item.bucket, name) for name in item.snapshots}


@laws
@given(worlds())
def test_the_plan_is_the_same_for_the_same_facts_in_another_order(world):
    other = replace(
        world,
        buckets=world.buckets[::-1],
        deleted=world.deleted[::-1],
        unknown=world.unknown[::-1],
        holds=world.holds[::-1],
    )
    assert make_plan(other) == make_plan(world)


@laws
@given(worlds())
def test_what_the_plan_keeps_can_say_why(world):
    plan = make_plan(world)
    gone = destroyed_ids(plan)
    whole = {item.bucket: item for item in plan.items if item.whole}
    some = [
        (RecordingFacts(each.recording_id, found.bucket, each.cases, each.line_id, each.slice), found.bucket)
        for found in world.buckets
        for each in found.held
    ]
    some += [
        (RecordingFacts(each.recording_id, each.bucket, each.cases, LINE, "2026-10-20", each), each.bucket)
        for each in world.deleted
        if not each.bucket.of_hold
    ]
    for recording, where in some:
        reasons = why_kept(recording, world)
        goes = recording.recording_id in gone or (where in whole and not holding(world, recording.cases))
        if goes:
            assert reasons == ()
        elif where.of_hold or recording.deleted is None:
            assert reasons, recording


@laws
@given(worlds(), st.integers(1, 400))
def test_what_is_upcoming_is_then_due(world, days):
    for each in upcoming(world, days):
        assert each.when_ns <= world.clock.clock_ns + days * DAY
        if each.bucket.of_hold or each.when_ns <= world.clock.clock_ns:
            continue
        then = replace(
            world,
            clock=clock(each.when_ns),
            buckets=tuple(b for b in world.buckets if b.bucket == each.bucket),
        )
        kinds = {
            (item.kind, item.why.rule) for item in make_plan(then).items if item.recordings or item.whole
        }
        assert (ItemKind.KEEP_BUCKET, Rule.RETENTION) not in kinds
        before = replace(then, clock=clock(each.when_ns - 1))
        assert not [item for item in make_plan(before).destroying if item.kind is ItemKind.EXPIRE_BUCKET]


def test_a_million_recordings_in_two_thousand_buckets():
    days = [
        f"20{year:02d}-{month:02d}-{day:02d}"
        for year in range(20, 27)
        for month in range(1, 13)
        for day in range(1, 25)
    ]
    world = facts(*(bucket(slice_, 500, deleted=1) for slice_ in days[:2000]))
    gone = tuple(DeletedFacts(new_id(), each.bucket, NOW - 5 * DAY) for each in world.buckets)
    plan = make_plan(replace(world, deleted=gone))
    assert sum(item.recordings for item in plan.items) == 1_002_000
    assert len(plan.digest) == 64
