"""Steps of a run: their order, the point of no return, going on after a crash."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retention_kit import CASE, DAY, LINE, NOW, TENANT, book, bucket, facts, hold, new_id

from appliance.storage.names import BucketId
from appliance.storage.retention.facts import BucketWord, DeletedFacts, HeldRecording, SnapshotFacts
from appliance.storage.retention.items import ItemKind, PlanItem
from appliance.storage.retention.plan import make_plan
from appliance.storage.retention.run import (
    DESTROY_AT_ONCE,
    RUN_RECORD,
    STEP,
    Failure,
    Outcome,
    RunRecord,
    StepKind,
    committed,
    remaining,
    steps_of,
)

HELD = HeldRecording(new_id(), (CASE,), 1)
DROPPED = HeldRecording(new_id(), (), 1, LINE, "2026-09-01")


def of_kind(kind: ItemKind, *buckets, **more) -> PlanItem:
    return next(item for item in make_plan(facts(*buckets, **more)).items if item.kind is kind)


def words(item: PlanItem) -> list[str]:
    return [step.kind.value for step in steps_of(item)]


EXPIRING = of_kind(
    ItemKind.EXPIRE_BUCKET, bucket(held=(HELD,), snapshots=(SnapshotFacts("g-1"),)), holds=(hold(),)
)


def test_a_bucket_expires():
    assert words(EXPIRING) == [
        "close", "evacuate", "lock", "recheck", "shred", "certify",
        "release", "destroy-snapshots", "destroy-bucket", "space",
    ]  # fmt: skip
    evacuate = steps_of(EXPIRING)[1]
    assert (evacuate.case_id, evacuate.recording_ids) == (CASE, (HELD.recording_id,))
    assert steps_of(EXPIRING)[7].snapshots == ("g-1",)


def test_grace_over():
    gone = DeletedFacts(new_id(), BucketId(TENANT, LINE, "2026-08-01"), NOW - 40 * DAY)
    item = of_kind(ItemKind.ERASE_DELETED, deleted=(gone,), book=book("7y"))
    assert words(item) == ["recheck", "shred", "certify"]
    assert all(step.recording_ids == (gone.recording_id,) for step in steps_of(item))


def test_what_a_released_case_held():
    whole = bucket(CASE, 1, held=(DROPPED,), snapshots=(SnapshotFacts("g-1"),))
    item = of_kind(ItemKind.DROP_HOLD_RECORDINGS, whole, holds=(hold(released=True),))
    assert words(item) == [
        "close", "lock", "recheck", "shred", "certify",
        "release", "destroy-snapshots", "destroy-bucket", "space",
    ]  # fmt: skip
    assert words(replace(item, whole=False, snapshots=())) == ["recheck", "shred", "certify", "remove"]


def test_snapshots_and_locks():
    item = of_kind(ItemKind.DROP_SNAPSHOT, bucket("2026-11-20", snapshots=(SnapshotFacts("g-1"),)))
    assert words(item) == ["recheck", "release", "destroy-snapshots"]
    assert words(of_kind(ItemKind.LOCK_BUCKET, bucket("2026-11-20", state=BucketWord.OPEN))) == ["lock"]


def test_what_is_kept_has_no_steps():
    assert steps_of(of_kind(ItemKind.KEEP_BUCKET, bucket("2026-11-20"))) == ()


def test_snapshots_go_in_batches():
    names = tuple(SnapshotFacts(f"g-{number}") for number in range(1, 2 * DESTROY_AT_ONCE + 2))
    item = of_kind(ItemKind.DROP_SNAPSHOT, bucket("2026-11-20", snapshots=names))
    batches = [step.snapshots for step in steps_of(item) if step.kind is StepKind.DESTROY_SNAPSHOTS]
    assert [len(some) for some in batches] == [500, 500, 1]
    assert sorted(name for some in batches for name in some) == sorted(each.name for each in names)


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_destroyed_before_it_is_checked_and_saved(whole):
    item = replace(EXPIRING, whole=whole)
    kinds = [step.kind for step in steps_of(item)]
    first = next(place for place, step in enumerate(steps_of(item)) if step.irreversible)
    assert kinds[first] is StepKind.SHRED and kinds[first - 1] is StepKind.RECHECK
    assert StepKind.EVACUATE in kinds[:first] and StepKind.EVACUATE not in kinds[first:]
    assert kinds.index(StepKind.CERTIFY) < kinds.index(StepKind.DESTROY_SNAPSHOTS)


def test_irreversible_steps():
    assert {kind.value for kind in StepKind if kind.irreversible} == {
        "shred",
        "destroy-snapshots",
        "destroy-bucket",
    }


@given(st.integers(0, 10))
def test_it_goes_on_at_the_first_step_not_done(count):
    steps = steps_of(EXPIRING)
    done = {step.key for step in steps[:count]}
    assert remaining(steps, done) == steps[count:]
    if count < len(steps) - 1:
        assert remaining(steps, done | {steps[-1].key}) == steps[count:], "also what came after it"
    assert committed(steps, done) is (count >= 5)


def test_keys_are_the_same_each_time_and_for_each_step_another():
    again = steps_of(replace(EXPIRING, why=replace(EXPIRING.why, sentence="in other words")))
    assert [step.key for step in again] == [step.key for step in steps_of(EXPIRING)]
    assert len({step.key for step in again}) == len(again)
    other = replace(EXPIRING, bucket=BucketId(TENANT, LINE, "2026-09-01"))
    assert not {step.key for step in steps_of(other)} & {step.key for step in again}


def test_json():
    for step in steps_of(EXPIRING):
        assert STEP.validate_json(STEP.dump_json(step)) == step
    record = RunRecord(
        new_id(),
        "00" * 32,
        NOW,
        NOW + 1,
        Outcome.PARTIAL,
        failed=(Failure("item", "step", "BUCKET_BUSY", "busy"),),
    )
    assert RUN_RECORD.validate_json(RUN_RECORD.dump_json(record)) == record
