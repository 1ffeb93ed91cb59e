"""A crash at every step, then a start and the same again: the same end as with no crash. Twice equals once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from contract_kit import KEY, Crash, Faults, clear, content, filled, names, put, snapshot_names, tags
from ground import Ground

from appliance.model import new_id
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore, SnapshotId

TAG = "ew.grace"


class Case:
    """Two buckets, the first with three recordings of which one is in a snapshot alone; and one more to be written."""

    def __init__(self, store: BucketStore, folder: Path) -> None:
        self.folder = folder
        self.made, self.found = filled(store, folder, 3)
        self.second, _ = filled(store, folder, 1)
        self.raw = {name: content(store, self.made, name) for name in self.found}
        self.fresh = BucketId(self.made.tenant_id, new_id(), "2026-W48")
        self.extra = new_id()
        self.note(store, b"first")
        store.snapshot([self.made, self.second], "g-1")
        store.hold([SnapshotId(self.made, "g-1")], TAG)
        store.remove(self.made, self.found[:1])

    def unlock(self, store: BucketStore) -> None:
        for item in (self.made, self.second):
            store.unlock(item, KEY)

    def note(self, store: BucketStore, raw: bytes) -> None:
        source = self.folder / "note"
        source.write_bytes(raw)
        store.write_sidecar(self.made, self.found[0], source)

    def source(self) -> Path:
        path = self.folder / "extra"
        if not path.exists():
            path.write_bytes(b"one more" * 20_000)
        return path


def create(store: BucketStore, case: Case) -> None:
    store.create(case.fresh, KEY)
    assert store.state(case.fresh) is BucketState.OPEN and names(store, case.fresh) == []
    assert tags(store, SnapshotId(case.fresh, "guard")) == {"ew.guard"}


def write(store: BucketStore, case: Case) -> None:
    store.write(case.made, case.extra, case.source())
    assert content(store, case.made, case.extra) == b"one more" * 20_000


def write_sidecar(store: BucketStore, case: Case) -> None:
    case.note(store, b"second")
    with store.read_sidecar(case.made, case.found[0]) as file:
        assert file.read() == b"second"


def remove(store: BucketStore, case: Case) -> None:
    store.remove(case.made, case.found[1:])
    assert names(store, case.made) == [] and not list(store.sidecars(case.made))


def restore(store: BucketStore, case: Case) -> None:
    store.restore(case.made, "g-1", case.found[:1])
    assert {name: content(store, case.made, name) for name in names(store, case.made)} == case.raw
    with store.read_sidecar(case.made, case.found[0]) as file:
        assert file.read() == b"first"


def snapshot(store: BucketStore, case: Case) -> None:
    store.snapshot([case.made, case.second], "g-2", {"ew:n": "2"})
    assert names(store, case.made, "g-2") == sorted(case.found[1:])
    assert snapshot_names(store, case.second) == ["guard", "g-1", "g-2"]


def hold(store: BucketStore, case: Case) -> None:
    taken = [SnapshotId(item, "g-1") for item in (case.made, case.second)]
    store.hold(taken, "ew.replica.x")
    assert all("ew.replica.x" in tags(store, item) for item in taken)


def release(store: BucketStore, case: Case) -> None:
    store.release([SnapshotId(case.made, "g-1")], TAG)
    assert tags(store, SnapshotId(case.made, "g-1")) == frozenset()


def destroy_snapshots(store: BucketStore, case: Case) -> None:
    taken = [SnapshotId(item, "g-1") for item in (case.made, case.second)]
    store.release(taken, TAG)
    store.destroy_snapshots(taken)
    assert snapshot_names(store, case.made) == ["guard"] == snapshot_names(store, case.second)
    assert names(store, case.made) == sorted(case.found[1:])


def mark(store: BucketStore, case: Case) -> None:
    for item in (case.made, case.second):
        store.lock(item)
    store.mark({case.made: "1:a", case.second: "1:b"})
    marks = {item: found.mark for item, found in store.survey().buckets.items()}
    assert marks == {case.made: "1:a", case.second: "1:b"}


def destroy(store: BucketStore, case: Case) -> None:
    if store.state(case.made) is not BucketState.ABSENT:
        clear(store, case.made)
    store.destroy(case.made)
    assert list(store.buckets()) == [case.second]


ACTIONS: list[Callable[[BucketStore, Case], None]] = [
    create,
    write,
    write_sidecar,
    remove,
    restore,
    snapshot,
    hold,
    release,
    destroy_snapshots,
    mark,
    destroy,
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda item: item.__name__)
def test_twice_equals_once(
    ground: Ground, tmp_path: Path, action: Callable[[BucketStore, Case], None]
) -> None:
    store = ground.open()
    case = Case(store, tmp_path)
    action(store, case)
    if action is not write:
        action(store, case)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda item: item.__name__)
def test_a_crash_at_every_step(
    ground: Ground, tmp_path: Path, action: Callable[[BucketStore, Case], None]
) -> None:
    steps, at = 1, 0
    while at < steps:
        calm = ground.open()
        case = Case(calm, tmp_path)
        calm.close()
        faults = Faults()
        store = ground.open(faults)
        case.unlock(store)
        faults.steps.clear()
        faults.at = at
        try:
            action(store, case)
        except Crash:
            pass
        else:
            assert at >= len(faults.steps), "a crash was swallowed"
            steps = len(faults.steps)
        steps = max(steps, len(faults.steps) + 1) if faults.at < len(faults.steps) else len(faults.steps)
        again = ground.open()
        for item in (case.made, case.second):
            if again.state(item) is BucketState.LOCKED:
                again.unlock(item, KEY)
        action(again, case)
        for item in list(again.buckets()):
            clear(again, item)
            again.destroy(item)
        assert not list(again.buckets()) and not list(again.survey().strangers)
        again.close()
        at += 1
    assert at > 0


def test_a_snapshot_that_broke_off_is_of_all_or_of_none(ground: Ground, tmp_path: Path) -> None:
    for at in range(20):
        calm = ground.open()
        case = Case(calm, tmp_path)
        calm.close()
        faults = Faults()
        store = ground.open(faults)
        case.unlock(store)
        faults.steps.clear()
        faults.at = at
        ended = False
        try:
            store.snapshot([case.made, case.second], "g-2")
            ended = True
        except Crash:
            pass
        again = ground.open()
        case.unlock(again)
        put(again, case.made, tmp_path)
        had = [("g-2" in snapshot_names(again, item)) for item in (case.made, case.second)]
        assert had in ([True, True], [False, False])
        for item in list(again.buckets()):
            clear(again, item)
            again.destroy(item)
        again.close()
        if ended:
            return
