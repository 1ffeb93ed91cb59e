"""Snapshots are atomic, say what they are, and while one hold is on them nothing destroys them."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_kit import bucket, content, filled, names, put, snapshot_names, tags
from ground import Ground

from appliance.model import new_id
from appliance.storage.names import SnapshotNameError
from appliance.storage.vault.contract import (
    GUARD_TAG,
    MAX_PROPERTIES,
    MAX_VALUE_BYTES,
    BucketStore,
    SnapshotId,
)
from appliance.storage.vault.errors import BucketMissingError, SnapshotHeldError, SnapshotMissingError

CASE = "ew.case." + "c" * 25 + "a"
OTHER_CASE = "ew.case." + "d" * 25 + "a"


def test_a_bucket_is_born_with_a_guard_that_is_held(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path)
    assert tags(store, SnapshotId(made, "guard")) == {GUARD_TAG}
    with pytest.raises(SnapshotHeldError):
        store.destroy_snapshots([SnapshotId(made, "guard")])


def test_a_snapshot_is_of_all_buckets_or_of_none(store: BucketStore, tmp_path: Path) -> None:
    first, found = filled(store, tmp_path)
    second, others = filled(store, tmp_path)
    for _ in range(2):
        store.snapshot([first, second], "g-1", {"ew:kind": "grace", "ew:n": "7"})
    assert names(store, first, "g-1") == sorted(found) and names(store, second, "g-1") == sorted(others)
    for item in (first, second):
        (taken,) = [one for one in store.snapshots(item) if one.id.name == "g-1"]
        assert dict(taken.properties) == {"ew:kind": "grace", "ew:n": "7"} and taken.holds == frozenset()
    with pytest.raises(BucketMissingError):
        store.snapshot([first, bucket()], "g-2")
    assert snapshot_names(store, first) == ["guard", "g-1"]
    assert {item.id for item in store.snapshots()} == {
        SnapshotId(item, name) for item in (first, second) for name in ("guard", "g-1")
    }


def test_a_snapshot_does_not_change(store: BucketStore, tmp_path: Path) -> None:
    made, (first, second) = filled(store, tmp_path)
    raw = content(store, made, first)
    store.snapshot([made], "g-1")
    store.remove(made, [first])
    third = put(store, made, tmp_path, b"later")
    store.snapshot([made], "g-1")  # there already: the old one stays
    assert names(store, made, "g-1") == sorted([first, second]) and content(store, made, first, "g-1") == raw
    store.snapshot([made], "g-2")
    assert names(store, made, "g-2") == sorted([second, third])
    orders = {item.id.name: item.order for item in store.snapshots(made)}
    assert orders["guard"] < orders["g-1"] < orders["g-2"]


def test_a_hold_means_that_nothing_is_destroyed(store: BucketStore, tmp_path: Path) -> None:
    made, found = filled(store, tmp_path)
    snapshots = [SnapshotId(made, f"g-{number}") for number in range(1, 5)]
    for item in snapshots:
        store.snapshot([made], item.name)
    store.remove(made, found)
    for _ in range(2):
        store.hold(snapshots[1:2], CASE)
    with pytest.raises(SnapshotHeldError) as refused:
        store.destroy_snapshots(snapshots)
    assert refused.value.data["tags"] == [CASE] and refused.value.data["snapshots"] == [f"{made.path}@g-2"]
    assert snapshot_names(store, made) == ["guard", "g-1", "g-2", "g-3", "g-4"], "all or none"
    assert names(store, made, "g-2") == sorted(found)
    for _ in range(2):
        store.destroy_snapshots([snapshots[0], *snapshots[2:]])
    assert snapshot_names(store, made) == ["guard", "g-2"]
    for _ in range(2):
        store.release(snapshots[1:2], CASE)
        store.destroy_snapshots(snapshots)
    assert snapshot_names(store, made) == ["guard"]


def test_several_tags_each_of_its_owner(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path)
    taken = SnapshotId(made, "g-1")
    store.snapshot([made], "g-1")
    for tag in (CASE, OTHER_CASE, "ew.grace", "ew.replica.north"):
        store.hold([taken], tag)
    ground.foreign_hold(taken, "somebody")
    assert tags(store, taken) == {CASE, OTHER_CASE, "ew.grace", "ew.replica.north", "somebody"}
    for tag in (CASE, "ew.grace", "ew.replica.north"):
        store.release([taken], tag)
        with pytest.raises(SnapshotHeldError):
            store.destroy_snapshots([taken])
    store.release([taken], OTHER_CASE)
    with pytest.raises(SnapshotHeldError) as refused:
        store.destroy_snapshots([taken])
    assert refused.value.data["tags"] == ["somebody"], "a hold that is not ours counts as well"


def test_what_is_not_there_cannot_be_held_and_the_rest_is(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path)
    store.snapshot([made], "g-1")
    with pytest.raises(SnapshotMissingError) as missing:
        store.hold([SnapshotId(made, "g-2"), SnapshotId(made, "g-1")], CASE)
    assert missing.value.data["snapshots"] == [f"{made.path}@g-2"]
    assert tags(store, SnapshotId(made, "g-1")) == {CASE}
    store.release([SnapshotId(made, "g-2"), SnapshotId(bucket(), "g-1")], CASE)  # success: it is not held
    store.destroy_snapshots([SnapshotId(made, "g-2"), SnapshotId(bucket(), "g-1")])
    with pytest.raises(SnapshotMissingError):
        store.read(made, new_id(), snapshot="g-2")
    with pytest.raises(SnapshotMissingError):
        list(store.files(made, snapshot="g-2"))


@pytest.mark.parametrize(
    "name",
    ["", "g-0", "g-01", "G-1", "x", "g-1/..", "../g-1", "h-case-1", "r--1", "g-" + "1" * 13, "g-1@x", "%"],
)
def test_names_of_snapshots_are_ours(store: BucketStore, tmp_path: Path, name: str) -> None:
    made, _ = filled(store, tmp_path, 1)
    with pytest.raises(SnapshotNameError):
        store.snapshot([made], name)
    with pytest.raises(SnapshotNameError):
        SnapshotId(made, name)


@pytest.mark.parametrize(
    "tag", ["", "x", "ew.", "ew.case.", "ew.case.Smith", "ew.grace ", "a" * 300, "ew.case." + "c" * 27]
)
def test_tags_are_ours(store: BucketStore, tmp_path: Path, tag: str) -> None:
    made, _ = filled(store, tmp_path, 1)
    for refused in (store.hold, store.release):
        with pytest.raises(SnapshotNameError):
            refused([SnapshotId(made, "guard")], tag)


def test_properties_have_limits(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path, 1)
    longest = {f"ew:p{number}": "x" * MAX_VALUE_BYTES for number in range(MAX_PROPERTIES)}
    store.snapshot([made], "g-1", longest)
    (taken,) = [item for item in store.snapshots(made) if item.id.name == "g-1"]
    assert dict(taken.properties) == longest
    for wrong in (
        {"ew:a": "x" * (MAX_VALUE_BYTES + 1)},
        {"ew:a": "line\nfeed"},
        {"ew:a": "\0"},
        {"kind": "x"},
        {"ew:": "x"},
        {"ew:A": "x"},
        {"ew:" + "a" * 40: "x"},
        longest | {"ew:one": "more"},
    ):
        with pytest.raises(SnapshotNameError):
            store.snapshot([made], "g-2", wrong)
    assert snapshot_names(store, made) == ["guard", "g-1"]


def test_many_snapshots_go_in_batches(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path, 1)
    snapshots = [SnapshotId(made, f"g-{number}") for number in range(1, 502)]
    with pytest.raises(SnapshotNameError):
        store.destroy_snapshots(snapshots)
    for item in snapshots[:20]:
        store.snapshot([made], item.name)
    store.hold(snapshots[:20], "ew.grace")
    store.release(snapshots[:20], "ew.grace")
    store.destroy_snapshots(snapshots[:500])
    assert snapshot_names(store, made) == ["guard"]
