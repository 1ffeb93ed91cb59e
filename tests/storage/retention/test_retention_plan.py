"""Plans, by example: what goes, what stays, and why it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from retention_kit import (
    CASE,
    DAY,
    HOUR,
    LINE,
    MINUTE,
    NOW,
    TENANT,
    at,
    book,
    bucket,
    clock,
    facts,
    hold,
    new_id,
)

from appliance.storage.names import GUARD, GUARD_TAG, BucketId
from appliance.storage.retention.facts import (
    FACTS,
    BucketWord,
    DeletedFacts,
    HeldRecording,
    SnapshotFacts,
    UnknownFacts,
    UnknownKind,
)
from appliance.storage.retention.items import PLAN, Evacuation, ItemKind, PlanItem, Rule
from appliance.storage.retention.period import Period
from appliance.storage.retention.plan import RecordingFacts, make_plan, upcoming, why_kept
from appliance.storage.retention.policy import Policy, PolicyBook, PolicyChange, PolicyField, PolicyScope

GUARDED = SnapshotFacts(GUARD, (GUARD_TAG,))
OTHER_CASE = new_id()
OF_TENANT = PolicyScope(TENANT)


def only(plan) -> PlanItem:
    (item,) = plan.items
    return item


def deleted(days_ago: float, slice_: str = "2026-11-10", **more) -> DeletedFacts:
    where = more.pop("bucket", BucketId(TENANT, LINE, slice_))
    return DeletedFacts(new_id(), where, NOW - int(days_ago * DAY), bytes=100, **more)


# Buckets.


def test_an_expired_bucket_goes_whole():
    held_by = SnapshotFacts(f"h-{CASE}-1", (f"ew.case.{CASE}",))
    item = only(
        make_plan(
            facts(
                bucket(snapshots=(GUARDED, SnapshotFacts("g-1"), held_by), deleted=2),
                holds=(hold(released=True),),
            )
        )
    )
    assert (item.kind, item.whole, item.recordings, item.bytes) == (ItemKind.EXPIRE_BUCKET, True, 12, 10_000)
    assert item.snapshots == ("g-1", "guard", f"h-{CASE}-1")
    assert item.why.rule is Rule.RETENTION
    assert item.why.sentence == "30 days from the end of 2026-10-01, as the box says, were over on 2026-11-01"
    assert (item.why.from_ns, item.why.until_ns) == (at("2026-10-02"), at("2026-11-01"))
    assert (str(item.why.retention), item.why.scope) == ("30 days", PolicyScope())


@pytest.mark.parametrize(
    ("now", "kind"),
    [("2026-11-30T23:59", ItemKind.KEEP_BUCKET), ("2026-12-01", ItemKind.EXPIRE_BUCKET)],
)
def test_to_the_instant(now, kind):
    assert only(make_plan(facts(bucket("2026-10-31"), clock=clock(at(now))))).kind is kind


@pytest.mark.parametrize(
    ("slice_", "retention", "due"),
    [
        ("2024-02", "1y", "2025-03-01"),  # ends on 1 March of a leap year
        ("2024-02-28", "1y", "2025-02-28"),  # ends on 29 February
        ("2026-W48", "7y", "2033-11-30"),
        ("2026-12-30", "2m", "2027-02-28"),
    ],
)
def test_the_calendar(slice_, retention, due):
    item = only(make_plan(facts(bucket(slice_), book=book(retention), clock=clock(at(due) - 1))))
    assert (item.kind, item.why.until_ns) == (ItemKind.KEEP_BUCKET, at(due))
    assert only(make_plan(facts(bucket(slice_), book=book(retention), clock=clock(at(due))))).kind.destroys


def test_a_kept_bucket_says_until_when_and_by_whose_word():
    item = only(make_plan(facts(bucket(), book=book("7y", scope=OF_TENANT))))
    assert item.kind is ItemKind.KEEP_BUCKET and item.recordings == 10
    assert (
        item.why.sentence
        == f"7 years from the end of 2026-10-01, as the tenant {TENANT} says: until 2033-10-02"
    )
    assert item.why.scope == OF_TENANT


def test_a_shortening_that_waits_is_seen_ahead():
    change = PolicyChange(PolicyScope(), Policy(Period.parse("30d")), (PolicyField.RETENTION,))
    item = only(make_plan(facts(bucket(), book=PolicyBook().set(change, NOW, "ann"))))
    assert (item.kind, item.why.until_ns) == (ItemKind.KEEP_BUCKET, NOW + 7 * DAY)
    assert str(item.why.retention) == "30 days"


def test_written_lately_waits():
    item = only(make_plan(facts(bucket(newest_write_ns=NOW - 59 * MINUTE))))
    assert (item.kind, item.why.rule, item.why.until_ns) == (
        ItemKind.KEEP_BUCKET, Rule.WRITTEN_LATELY, NOW + MINUTE,
    )  # fmt: skip
    assert only(make_plan(facts(bucket(newest_write_ns=NOW - HOUR)))).kind is ItemKind.EXPIRE_BUCKET
    # Written when the clock was wrong: it must not keep the bucket for ten years.
    assert only(make_plan(facts(bucket(newest_write_ns=NOW + 3650 * DAY)))).kind is ItemKind.EXPIRE_BUCKET


def test_slices_that_are_over_are_locked_after_an_hour():
    yesterday, today = "2026-11-24", "2026-11-25"
    plan = make_plan(
        facts(
            bucket(today, state=BucketWord.OPEN),
            bucket(yesterday, state=BucketWord.OPEN),
            bucket("2026-11-23", state=BucketWord.OPEN, newest_write_ns=NOW - MINUTE),
            bucket("2026-11-22", state=BucketWord.LOCKED),
        )
    )
    assert {(item.bucket.slice, item.kind.value) for item in plan.items} == {
        (today, "keep-bucket"),
        (yesterday, "lock-bucket"),
        ("2026-11-23", "keep-bucket"),
        ("2026-11-22", "keep-bucket"),
    }
    assert not plan.destroying


def test_held_recordings_are_evacuated_and_the_rest_goes():
    one, two, three = sorted(new_id() for _ in range(3))
    first, second = sorted((CASE, OTHER_CASE))
    held = (
        HeldRecording(one, (second, first), 100),
        HeldRecording(two, (second,), 100),
        HeldRecording(three, ("z" * 25 + "a",), 100),
    )
    released = replace(hold("z" * 25 + "a"), released_ns=5)
    plan = make_plan(facts(bucket(held=held), holds=(hold(first), hold(second), released)))
    item = only(plan)
    assert item.kind is ItemKind.EXPIRE_BUCKET
    assert item.evacuate == (Evacuation(first, (one,)), Evacuation(second, (two,)))
    assert (item.recordings, item.bytes, item.evacuated) == (8, 9_800, 2)
    assert item.why.cases == (first, second)


def test_a_deleted_recording_that_is_held_is_evacuated_with_its_bucket():
    gone = deleted(100, "2026-10-01", cases=(CASE,), parked="g-1")
    for held in ((HeldRecording(gone.recording_id, (CASE,), 100),), ()):  # told once, or twice
        found = bucket(deleted=2, held=held)
        item = only(make_plan(facts(found, deleted=(gone, deleted(1, "2026-10-01")), holds=(hold(),))))
        assert item.evacuate == (Evacuation(CASE, (gone.recording_id,)),)
        assert item.recordings == 11


# What is unknown.


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"snapshots": (SnapshotFacts("autosnap_2026-11-01"),)}, Rule.FOREIGN_SNAPSHOT),
        ({"snapshots": (SnapshotFacts("g-1", ("ew.grace", "backup")),)}, Rule.FOREIGN_HOLD),
        ({"snapshots": (SnapshotFacts(GUARD, (GUARD_TAG, ".send-1")),)}, Rule.FOREIGN_HOLD),
        ({"snapshots": (SnapshotFacts("g-1", ("ew.case.nonsense",)),)}, Rule.FOREIGN_HOLD),
        ({"snapshots": (SnapshotFacts("g-1", (f"ew.case.{CASE}",)),)}, Rule.HOLD_UNEXPLAINED),
        ({"snapshots": (SnapshotFacts(f"h-{OTHER_CASE}-1"),)}, Rule.HOLD_UNEXPLAINED),
        ({"held": (HeldRecording(new_id(), (OTHER_CASE,)),)}, Rule.HOLD_UNEXPLAINED),
        ({"unknown_files": 1}, Rule.UNKNOWN_FILES),
        ({"state": BucketWord.ABSENT}, Rule.BUCKET_MISSING),
    ],
)
def test_an_expired_bucket_with_something_unknown_is_kept(more, rule):
    plan = make_plan(facts(bucket(**more), holds=(hold(),)))
    assert not [item for item in plan.destroying if item.kind is ItemKind.EXPIRE_BUCKET]
    item = next(item for item in plan.items if item.recordings)
    assert (item.kind, item.why.rule, item.recordings) == (ItemKind.KEEP_UNKNOWN, rule, 10)
    assert item.why.sentence


def test_unknown_snapshots_are_told_of_before_the_bucket_is_due():
    plan = make_plan(
        facts(bucket("2026-11-20", snapshots=(GUARDED, SnapshotFacts("autosnap")), unknown_files=2))
    )
    told = [(item.kind.value, item.why.rule.value, item.name) for item in plan.items]
    assert told == [
        ("keep-bucket", "retention", ""),
        ("keep-unknown", "unknown-files", ""),
        ("keep-unknown", "foreign-snapshot", f"{TENANT}/{LINE}/2026-11-20@autosnap"),
    ]


def test_strangers_and_the_quarantine_are_kept():
    strange = UnknownFacts("lost+found", UnknownKind.STRANGER)
    odd = UnknownFacts(new_id(), UnknownKind.QUARANTINED, 1, 500)
    plan = make_plan(facts(unknown=(strange, odd)))
    assert {(item.name, item.kind.value, item.why.rule.value, item.recordings) for item in plan.items} == {
        ("lost+found", "keep-unknown", "stranger", 0),
        (odd.name, "keep-unknown", "quarantined", 1),
    }


# Deleted recordings.


def test_grace():
    over, not_over = deleted(30), deleted(29.99)
    plan = make_plan(
        facts(
            bucket("2026-11-10", book=None) if False else bucket("2026-11-10", deleted=2),
            deleted=(over, not_over),
        )
    )
    by_kind = {item.kind: item for item in plan.items}
    # It was recorded 15 days ago: that it was deleted 30 days ago is a wrong clock's word.
    assert ItemKind.ERASE_DELETED not in by_kind
    old = bucket("2026-08-01", deleted=2)
    over, not_over = deleted(30, "2026-08-01"), deleted(29.99, "2026-08-01")
    plan = make_plan(facts(old, deleted=(over, not_over), book=book("7y")))
    by_kind = {item.kind: item for item in plan.items}
    erase, keep = by_kind[ItemKind.ERASE_DELETED], by_kind[ItemKind.KEEP_DELETED]
    assert erase.recording_ids == (over.recording_id,) and erase.bytes == 100
    assert erase.why.sentence == "deleted; the grace of 30 days, as the box says, was over by 2026-11-25"
    assert keep.recording_ids == (not_over.recording_id,)
    assert keep.why.until_ns == not_over.since_ns + 30 * DAY
    assert by_kind[ItemKind.KEEP_BUCKET].bytes == 9_800


def test_no_grace_at_all():
    gone = deleted(0)
    plan = make_plan(facts(deleted=(gone,), book=book("7y", 0)))
    assert only(plan).kind is ItemKind.ERASE_DELETED


def test_a_held_deletion_is_not_erased():
    gone = deleted(100, "2026-08-01", cases=(CASE, OTHER_CASE))
    released = replace(hold(OTHER_CASE), released_ns=5)
    item = only(make_plan(facts(deleted=(gone,), holds=(hold(), released))))
    assert (item.kind, item.why.rule, item.why.cases) == (ItemKind.KEEP_HELD, Rule.LEGAL_HOLD, (CASE,))
    item = only(make_plan(facts(deleted=(gone,), holds=(hold(released=True), released))))
    assert item.kind is ItemKind.ERASE_DELETED


def test_a_case_nobody_knows_holds():
    item = only(make_plan(facts(deleted=(deleted(100, "2026-08-01", cases=(CASE,)),))))
    assert item.kind is ItemKind.KEEP_HELD


def test_deletions_of_one_bucket_and_day_are_one_item():
    some = tuple(deleted(days, "2026-08-01") for days in (50, 50.1, 10, 10.1, 9))
    plan = make_plan(facts(deleted=some, book=book("7y")))
    assert sorted(item.recordings for item in plan.items) == [1, 2, 2]


# Snapshots.


def test_snapshots_nothing_needs_go():
    parked = deleted(1, "2026-11-20", parked="g-2")
    names = (
        GUARDED,
        SnapshotFacts("g-1", ("ew.grace",)),
        SnapshotFacts("g-2", ("ew.grace",)),
        SnapshotFacts("g-3", ("ew.grace",), needed=1),
        SnapshotFacts("g-4", ("ew.grace", f"ew.case.{CASE}")),
        SnapshotFacts("g-5", ("ew.grace", f"ew.case.{OTHER_CASE}")),
        SnapshotFacts(f"h-{CASE}-1", (f"ew.case.{CASE}",)),
        SnapshotFacts(f"h-{OTHER_CASE}-1", (f"ew.case.{OTHER_CASE}",)),
        SnapshotFacts("r-peer-1"),
        SnapshotFacts("g-6", ("ew.grace", "ew.replica.peer")),
    )
    given = facts(
        bucket("2026-11-20", snapshots=names),
        deleted=(parked,),
        holds=(hold(), replace(hold(OTHER_CASE), released_ns=5)),
    )
    found = {
        name: (item.kind.value, item.why.rule.value)
        for item in make_plan(given).items
        for name in item.snapshots
    }
    assert found == {
        "g-1": ("drop-snapshot", "not-needed"),
        "g-2": ("keep-snapshot", "grace"),
        "g-3": ("keep-snapshot", "grace"),
        "g-4": ("keep-snapshot", "legal-hold"),
        "g-5": ("drop-snapshot", "not-needed"),
        f"h-{CASE}-1": ("keep-snapshot", "legal-hold"),
        f"h-{OTHER_CASE}-1": ("drop-snapshot", "not-needed"),
        "r-peer-1": ("keep-snapshot", "replica"),
        "g-6": ("keep-snapshot", "replica"),
    }


def test_a_snapshot_goes_only_after_what_it_has_is_erased():
    gone = deleted(40, "2026-08-01", parked="g-1")
    given = facts(bucket("2026-08-01", snapshots=(SnapshotFacts("g-1"),)), deleted=(gone,), book=book("7y"))
    kinds = {item.kind for item in make_plan(given).items}
    assert ItemKind.ERASE_DELETED in kinds and ItemKind.DROP_SNAPSHOT not in kinds


# Buckets of legal holds.


def evacuated(*cases: str, slice_: str = "2026-10-01", line: str = LINE) -> HeldRecording:
    return HeldRecording(new_id(), cases, 100, line, slice_)


def of_hold(*held: HeldRecording, case: str = CASE, **more):
    return bucket(case, len(held), held=held, **more)


def test_a_hold_bucket_is_kept_while_its_case_is_open():
    one = evacuated(CASE)
    forgotten = evacuated()  # its case is open all the same
    item = only(make_plan(facts(of_hold(one, forgotten), holds=(hold(),))))
    assert (item.kind, item.recordings, item.why.cases) == (ItemKind.KEEP_HELD, 2, (CASE,))


def test_a_released_case_goes_whole_when_no_retention_keeps_anything():
    some = (evacuated(), evacuated(slice_="2026-09-01"))
    snapshots = (GUARDED, SnapshotFacts(f"h-{CASE}-1", (f"ew.case.{CASE}",)))
    item = only(make_plan(facts(of_hold(*some, snapshots=snapshots), holds=(hold(released=True),))))
    assert (item.kind, item.whole, item.recordings) == (ItemKind.DROP_HOLD_RECORDINGS, True, 2)
    assert set(item.recording_ids) == {each.recording_id for each in some}
    assert item.snapshots == ("guard", f"h-{CASE}-1")
    assert item.why.rule is Rule.HOLD_RELEASED


def test_of_a_released_case_what_others_hold_or_retention_keeps_stays():
    other, young, old = evacuated(OTHER_CASE), evacuated(slice_="2026-11-20"), evacuated()
    plan = make_plan(facts(of_hold(other, young, old), holds=(hold(released=True), hold(OTHER_CASE))))
    found = {
        name: (item.kind.value, item.why.rule.value, item.whole)
        for item in plan.items
        for name in item.recording_ids
    }
    assert found == {
        other.recording_id: ("keep-held", "legal-hold", False),
        young.recording_id: ("keep-held", "retention", False),
        old.recording_id: ("drop-hold-recordings", "hold-released", False),
    }


def test_the_retention_of_what_was_held_goes_by_its_own_line():
    line = new_id()
    one = evacuated(line=line)
    item = only(
        make_plan(
            facts(
                of_hold(one), holds=(hold(released=True),), book=book("7y", scope=PolicyScope(TENANT, line))
            )
        )
    )
    assert (item.kind, item.why.until_ns) == (ItemKind.KEEP_HELD, at("2033-10-02"))


def test_the_bucket_of_a_hold_that_nobody_knows_is_kept():
    # An empty book of holds must not let what earlier holds saved be destroyed.
    plan = make_plan(facts(of_hold(evacuated(), evacuated())))
    item = only(plan)
    assert (item.kind, item.why.rule, item.recordings) == (ItemKind.KEEP_UNKNOWN, Rule.HOLD_UNEXPLAINED, 2)
    assert only(make_plan(facts(of_hold()))).kind is ItemKind.KEEP_UNKNOWN


def test_what_nothing_tells_of_in_a_hold_bucket_is_kept():
    plan = make_plan(facts(bucket(CASE, 3, held=(evacuated(slice_=""),)), holds=(hold(released=True),)))
    assert {(item.kind, item.recordings) for item in plan.items} == {
        (ItemKind.KEEP_UNKNOWN, 1),
        (ItemKind.KEEP_UNKNOWN, 2),
    }


def test_empty_hold_buckets():
    assert only(make_plan(facts(of_hold(), holds=(hold(),)))).kind is ItemKind.KEEP_BUCKET
    item = only(make_plan(facts(of_hold(), holds=(hold(released=True),))))
    assert (item.kind, item.whole, item.recordings) == (ItemKind.DROP_HOLD_RECORDINGS, True, 0)
    frozen = only(make_plan(facts(of_hold(), holds=(hold(released=True),), clock=clock(frozen=True))))
    assert frozen.why.rule is Rule.CLOCK_FROZEN


def test_a_deleted_recording_in_a_hold_bucket():
    name = BucketId(TENANT, "hold", CASE)
    gone = deleted(1, bucket=name, line_id=LINE)
    found = bucket(CASE, 0, deleted=1, held=(HeldRecording(gone.recording_id, (), 100, LINE, "2026-10-01"),))
    plan = make_plan(facts(found, deleted=(gone,), holds=(hold(released=True),)))
    assert {(item.kind.value, item.recordings) for item in plan.items} == {
        ("keep-bucket", 0),
        ("keep-deleted", 1),
    }
    held = make_plan(facts(found, deleted=(replace(gone, since_ns=0),), holds=(hold(),)))
    assert (ItemKind.KEEP_HELD, 1) in {(item.kind, item.recordings) for item in held.items}
    assert not held.destroying


# A frozen clock.


def test_a_frozen_clock_destroys_nothing_and_says_so():
    given = facts(
        bucket(),
        bucket("2026-11-20", snapshots=(SnapshotFacts("g-1"),)),
        bucket("2026-11-21", state=BucketWord.OPEN),
        of_hold(evacuated()),
        deleted=(deleted(40, "2026-08-01"),),
        holds=(hold(released=True),),
        clock=clock(frozen=True),
    )
    assert len(make_plan(replace(given, clock=clock())).destroying) == 4
    plan = make_plan(given)
    assert plan.destroying == () and plan.frozen == given.clock.frozen
    frozen = [item for item in plan.items if item.why.rule is Rule.CLOCK_FROZEN]
    assert {item.kind.value for item in frozen} == {
        "keep-bucket",
        "keep-snapshot",
        "keep-held",
        "keep-deleted",
    }
    assert frozen[0].why.sentence == "the retention clock is frozen: the wall clock is 10 years ahead"
    assert ItemKind.LOCK_BUCKET in {item.kind for item in plan.items}, "locking destroys nothing"


# The plan as a whole.


def test_order_totals_and_digest():
    given = facts(
        bucket("2026-09-02"),
        bucket("2026-09-01"),
        bucket("2026-11-20", snapshots=(SnapshotFacts("g-1"),)),
        deleted=(deleted(40, "2026-08-01"),),
    )
    plan = make_plan(given)
    assert [item.kind.value for item in plan.items] == [
        "erase-deleted", "expire-bucket", "expire-bucket", "drop-snapshot", "keep-bucket",
    ]  # fmt: skip
    assert [item.bucket.slice for item in plan.items][1:3] == ["2026-09-01", "2026-09-02"]
    assert [(each.kind.value, each.items, each.recordings, each.bytes) for each in plan.totals] == [
        ("erase-deleted", 1, 1, 100), ("expire-bucket", 2, 20, 20_000),
        ("drop-snapshot", 1, 0, 0), ("keep-bucket", 1, 10, 10_000),
    ]  # fmt: skip
    assert len(plan.digest) == 64


def test_the_digest_names_what_is_destroyed_and_nothing_else():
    given = facts(bucket("2026-09-01"), bucket("2026-11-20"))
    digest = make_plan(given).digest
    later = replace(given, clock=clock(NOW + MINUTE), buckets=given.buckets[::-1])
    assert make_plan(later).digest == digest, "a minute later, in another order"
    kept_more = replace(given, buckets=(*given.buckets, bucket("2026-11-21")))
    assert make_plan(kept_more).digest == digest
    for other in (
        facts(bucket("2026-09-01", 11), bucket("2026-11-20")),
        facts(bucket("2026-09-01"), bucket("2026-09-02")),
        facts(bucket("2026-09-01", held=(HeldRecording(new_id(), (CASE,)),)), holds=(hold(),)),
        facts(bucket("2026-09-01"), deleted=(deleted(40, "2026-08-01"),)),
        facts(bucket("2026-11-20")),
    ):
        assert make_plan(other).digest != digest


def test_json():
    given = facts(
        bucket(held=(HeldRecording(new_id(), (CASE,), 1),)),
        deleted=(deleted(3),),
        holds=(hold(),),
        book=book("2m"),
    )
    assert FACTS.validate_json(FACTS.dump_json(given)) == given
    plan = make_plan(given)
    again = PLAN.validate_json(PLAN.dump_json(plan))
    assert again == plan and again.digest == plan.digest


def test_keys_tell_items_apart():
    plan = make_plan(facts(bucket(), bucket("2026-09-01"), deleted=(deleted(1), deleted(9), deleted(1.1))))
    assert len({item.key for item in plan.items}) == len(plan.items)


# Looking ahead, and explaining.


def test_upcoming():
    case_bucket = of_hold(evacuated(slice_="2026-11-01"), evacuated(OTHER_CASE))
    given = facts(
        bucket("2026-10-01"),
        bucket("2026-11-01", held=(HeldRecording(new_id(), (CASE,), 100),), deleted=1),
        bucket("2026-11-20"),
        case_bucket,
        holds=(replace(hold(), released_ns=0), hold(OTHER_CASE)),
    )
    assert [(each.when_ns, each.bucket.slice, each.recordings, each.held) for each in upcoming(given, 7)] == [
        (at("2026-11-01"), "2026-10-01", 10, 0),
        (at("2026-12-02"), "2026-11-01", 10, 1),
    ]
    assert len(upcoming(given, 30)) == 3
    released = replace(given, holds=(hold(released=True), hold(OTHER_CASE)))
    found = upcoming(released, 7)
    assert (at("2026-12-02"), case_bucket.bucket, 1, 100) in {
        (each.when_ns, each.bucket, each.recordings, each.bytes) for each in found
    }


def rules_of(recording: RecordingFacts, **more) -> list[str]:
    given = facts(bucket("2026-10-01"), bucket("2026-11-20"), **more)
    return [why.rule.value for why in why_kept(recording, given)]


def test_why_kept():
    old, young = (BucketId(TENANT, LINE, slice_) for slice_ in ("2026-10-01", "2026-11-20"))
    one = RecordingFacts(new_id(), old)
    assert rules_of(one) == []
    assert rules_of(one, clock=clock(frozen=True)) == ["clock-frozen"]
    assert rules_of(replace(one, bucket=young)) == ["retention"]
    held = replace(one, bucket=young, cases=(CASE,))
    assert rules_of(held, holds=(hold(),)) == ["legal-hold", "retention"]
    assert rules_of(held, holds=(hold(released=True),)) == ["retention"]
    assert rules_of(RecordingFacts(new_id(), None)) == ["quarantined"]
    gone = replace(one, bucket=young, deleted=DeletedFacts(one.recording_id, young, NOW - DAY))
    assert rules_of(gone) == ["grace"]
    with_bucket = replace(one, deleted=DeletedFacts(one.recording_id, old, NOW - DAY))
    assert rules_of(with_bucket) == [], "it goes with its bucket"
    in_hold = RecordingFacts(new_id(), BucketId(TENANT, "hold", CASE), line_id=LINE, slice="2026-11-20")
    assert rules_of(in_hold, holds=(hold(),)) == ["legal-hold", "retention"]
    assert rules_of(replace(in_hold, slice="")) == ["legal-hold", "hold-unexplained"]


def test_why_kept_names_what_stands_against_it():
    one = RecordingFacts(new_id(), BucketId(TENANT, LINE, "2026-10-01"))
    given = facts(bucket(snapshots=(SnapshotFacts("autosnap"),), newest_write_ns=NOW - MINUTE))
    assert [why.rule.value for why in why_kept(one, given)] == ["foreign-snapshot", "written-lately"]
