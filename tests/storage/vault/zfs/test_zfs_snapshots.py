"""Snapshots and holds over a library that answers as OpenZFS does, its oddities included."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.model import new_id
from appliance.storage.names import GUARD, GUARD_TAG, BucketId, SnapshotId, SnapshotNameError
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketLockedError,
    BucketMissingError,
    SnapshotHeldError,
    SnapshotMissingError,
)
from appliance.storage.vault.zfs.datasets import Datasets
from appliance.storage.vault.zfs.programs import NAMES, Facts, SnapshotFacts
from appliance.storage.vault.zfs.snapshots import Snapshots, described
from appliance.storage.vault.zfs.tree import Tree
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Answer

TAG = "ew.grace"


@dataclass
class Taken:
    txg: int
    properties: dict[str, str] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)


class Library:
    """Datasets, snapshots and bookmarks in memory; `before`: what happens just before the next call."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, Taken]] = {}
        self.marks: set[str] = set()
        self.busy: set[str] = set()
        self.before: Callable[[], None] = lambda: None
        self.calls: list[str] = []
        self.txg = 10

    def call(self, op: str, *, changes: object = (), **args: Any) -> Answer:
        before, self.before = self.before, lambda: None
        before()
        self.calls.append(op)
        return Answer(getattr(self, op)(**args), b"")

    def find(self, name: str) -> Taken | None:
        dataset, _, short = name.partition("@")
        return self.datasets.get(dataset, {}).get(short)

    def take(self, *names: str, **properties: str) -> None:
        self.txg += 1
        for name in names:
            dataset, _, short = name.partition("@")
            self.datasets[dataset][short] = Taken(self.txg, dict(properties))

    def snapshot(self, names: list[str], properties: dict[str, str]) -> None:
        there = {name: errno.EEXIST for name in names if self.find(name)}
        if there:
            raise Trouble(errno.EEXIST, "SnapshotFailure", there)
        self.take(*names)
        for name in names:
            dataset, _, short = name.partition("@")
            self.datasets[dataset][short].properties = dict(properties)

    def hold(self, names: list[str], tag: str) -> list[str]:
        again = {name: errno.EEXIST for name in names if (found := self.find(name)) and tag in found.holds}
        if again:
            raise Trouble(errno.EEXIST, "HoldFailure", again)
        for name in names:
            if found := self.find(name):
                found.holds.add(tag)
        return [name for name in names if not self.find(name)]

    def release(self, names: list[str], tag: str) -> list[str]:
        for name in names:
            found = self.find(name)
            assert found and tag in found.holds, "asked only where it is held"
            found.holds.remove(tag)
        return []

    def destroy_snapshots(self, names: list[str]) -> None:
        busy = {
            name: errno.EBUSY
            for name in names
            if name in self.busy or ((one := self.find(name)) and one.holds)
        }
        if busy:
            raise Trouble(errno.EBUSY, "SnapshotDestructionFailure", busy)
        for name in names:
            dataset, _, short = name.partition("@")
            self.datasets[dataset].pop(short, None)

    def bookmarks(self, name: str) -> list[str]:
        return [mark.partition("#")[2] for mark in self.marks if mark.startswith(f"{name}#")]

    def bookmark(self, marks: dict[str, str]) -> None:
        assert all(self.find(source) for source in marks.values())
        self.marks |= set(marks)

    def destroy_bookmarks(self, names: list[str]) -> None:
        self.marks -= set(names)


class Known(Datasets):
    """Facts out of the library."""

    def __init__(self, library: Library) -> None:
        self.tree = Tree("tank/rec")
        self.library = library

    def facts(self, names: Any, *, snapshots: bool = False, at: str = "", **_: bool) -> list[Facts]:
        found = []
        for name in names:
            if name in self.library.datasets:
                taken = tuple(
                    SnapshotFacts(short, one.txg, 0, one.txg, one.properties, frozenset(one.holds))
                    for short, one in self.library.datasets[name].items()
                    if snapshots or short == at
                )
                found.append(Facts(name, "bucket", "", "", True, True, 7, False, "filesystem", (), taken))
        return found

    def held(self, snapshots: Any) -> dict[SnapshotId, frozenset[str]]:
        found = {one: self.library.find(self.tree.snapshot(one)) for one in snapshots}
        return {one: frozenset(there.holds) for one, there in found.items() if there}


class House:
    def __init__(self) -> None:
        self.library = Library()
        self.datasets = Known(self.library)
        self.steps: list[str] = []
        self.snapshots = Snapshots(self.datasets, self.library, self.steps.append)  # type: ignore[arg-type]
        self.one, self.two = self.bucket(), self.bucket()

    def bucket(self) -> BucketId:
        made = BucketId(new_id(), new_id(), "2026-11-25")
        self.library.datasets[f"tank/rec/{made.path}"] = {}
        return made

    def name(self, bucket: BucketId, short: str) -> str:
        return f"tank/rec/{bucket.path}@{short}"

    def take(self, *buckets: BucketId, name: str = "g-1", **properties: str) -> None:
        told = {f"ew:{key}": value for key, value in properties.items()}
        self.snapshots.take(buckets, name, told, lambda bucket, facts: True)

    def names(self, bucket: BucketId) -> set[str]:
        return set(self.library.datasets[f"tank/rec/{bucket.path}"])

    def destroy(self, *snapshots: SnapshotId) -> None:
        self.snapshots.destroy(snapshots, lambda snapshot: None)


@pytest.fixture
def house() -> House:
    return House()


def test_only_what_is_missing_is_taken_and_says_its_properties(house: House) -> None:
    house.take(house.one, n="7", kind="grace")
    house.take(house.one, house.two, n="8")
    found = {
        short: one.properties for short, one in house.library.datasets[f"tank/rec/{house.one.path}"].items()
    }
    assert found == {"g-1": {"ew:n": "7", "ew:kind": "grace", NAMES: "n kind"}}
    assert house.names(house.two) == {"g-1"}
    house.take(house.one, house.two)
    assert house.library.calls.count("snapshot") == 2
    with pytest.raises(BucketMissingError):
        house.take(house.one, BucketId(new_id(), new_id(), "2026-11"), name="g-2")
    assert house.names(house.one) == {"g-1"}


def test_one_that_came_meanwhile_is_success(house: House) -> None:
    house.library.before = lambda: house.library.take(house.name(house.one, "g-1"))
    house.take(house.one, house.two)
    assert house.names(house.one) == house.names(house.two) == {"g-1"}


def test_a_bucket_that_cannot_be_replayed_is_not_taken(house: House) -> None:
    with pytest.raises(BucketLockedError):
        house.snapshots.take([house.one, house.two], "g-1", {}, lambda bucket, facts: bucket != house.two)
    assert house.names(house.one) == set()


def test_a_guard_is_completed_at_any_step(house: House) -> None:
    def facts() -> Facts:
        return house.datasets.require(house.one, snapshots=True)

    house.snapshots.guard(house.one, facts())
    (guard,) = described(house.one, facts())
    assert guard.id.name == GUARD and guard.holds == {GUARD_TAG}
    house.library.find(house.name(house.one, GUARD)).holds.clear()  # type: ignore[union-attr]
    house.snapshots.guard(house.one, facts())
    house.snapshots.guard(house.one, facts())
    assert next(described(house.one, facts())).holds == {GUARD_TAG} and house.library.calls.count("hold") == 2


def test_holds_of_some_that_are_held_and_some_that_are_missing(house: House) -> None:
    house.take(house.one, house.two)
    one, two, none = (
        SnapshotId(house.one, "g-1"),
        SnapshotId(house.two, "g-1"),
        SnapshotId(house.one, "g-2"),
    )
    house.snapshots.hold([one], TAG)
    with pytest.raises(SnapshotMissingError) as missing:
        house.snapshots.hold([one, two, none, two], TAG)
    assert missing.value.data["snapshots"] == [f"{house.one.path}@g-2"]
    assert house.library.find(house.name(house.two, "g-1")).holds == {TAG}  # type: ignore[union-attr]
    for _ in range(2):
        house.snapshots.release([one, none, SnapshotId(BucketId(new_id(), new_id(), "2026-11"), "g-1")], TAG)
    assert house.library.find(house.name(house.one, "g-1")).holds == set()  # type: ignore[union-attr]


def test_a_hold_that_came_meanwhile_is_success(house: House) -> None:
    house.take(house.one, house.two)
    first = house.library.find(house.name(house.one, "g-1"))
    assert first
    house.library.before = lambda: first.holds.add(TAG)
    house.snapshots.hold([SnapshotId(house.one, "g-1"), SnapshotId(house.two, "g-1")], TAG)
    assert house.library.find(house.name(house.two, "g-1")).holds == {TAG}  # type: ignore[union-attr]


def test_busy_is_told_from_held(house: House) -> None:
    house.take(house.one, house.two)
    wanted = [SnapshotId(house.one, "g-1"), SnapshotId(house.two, "g-1")]
    house.library.busy.add(house.name(house.two, "g-1"))
    with pytest.raises(BucketBusyError) as busy:
        house.destroy(*wanted)
    assert busy.value.data == {"bucket": house.two.path}
    taken = house.library.find(house.name(house.two, "g-1"))
    assert taken
    house.library.before = lambda: taken.holds.add("somebody")  # after we looked
    with pytest.raises(SnapshotHeldError) as held:
        house.destroy(*wanted)
    assert held.value.data == {"snapshots": [f"{house.two.path}@g-1"], "tags": ["somebody"]}
    assert house.names(house.one) == {"g-1"}, "all or none"
    with pytest.raises(SnapshotNameError):
        house.destroy(*wanted * 251)
    house.library.busy.clear()
    taken.holds.clear()
    for _ in range(2):
        house.destroy(*wanted, SnapshotId(house.one, "g-9"))
    assert house.names(house.one) == house.names(house.two) == set()


def test_what_was_sent_leaves_a_bookmark_and_the_older_one_goes(house: House) -> None:
    for number in (1, 2, 3):
        house.take(house.one, name=f"r-north-{number}")
    house.take(house.one, name="r-south-1")
    house.destroy(SnapshotId(house.one, "r-north-1"), SnapshotId(house.one, "r-south-1"))
    house.destroy(SnapshotId(house.one, "r-north-3"))
    house.destroy(SnapshotId(house.one, "r-north-2"))
    assert sorted(house.snapshots.bookmarks(house.one)) == ["r-north-3", "r-south-1"]
    house.library.marks.add(f"tank/rec/{house.one.path}#somebody's")
    assert sorted(house.snapshots.bookmarks(house.one)) == ["r-north-3", "r-south-1"]


def test_foreign_snapshots_keep_a_bucket(house: House) -> None:
    house.take(house.one)
    house.library.take(house.name(house.one, "daily-2026"))

    def left() -> list[str]:
        facts = house.datasets.require(house.one, snapshots=True)
        return house.snapshots.refuse_left(house.one, facts, frozenset({GUARD_TAG}))

    assert left() == [f"{house.one.path}@g-1", f"{house.one.path}@daily-2026"]
    facts = house.datasets.require(house.one, snapshots=True)
    assert [one.id.name for one in described(house.one, facts)] == ["g-1"]
    taken = house.library.find(house.name(house.one, "daily-2026"))
    assert taken
    taken.holds.add("somebody")
    with pytest.raises(SnapshotHeldError):
        left()
