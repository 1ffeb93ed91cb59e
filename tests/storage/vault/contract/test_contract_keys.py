"""Locked means unreadable, for whoever has the medium; destroyed means gone, with or without a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract_kit import KEY, OTHER_KEY, bucket, clear, content, filled, names, put
from ground import Ground

from appliance.model import new_id
from appliance.storage.vault.contract import BucketState, BucketStore, SnapshotId
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketKeyError,
    BucketLockedError,
    SnapshotHeldError,
    SnapshotsRemainError,
)


def test_a_locked_bucket_cannot_be_read_written_or_listed(store: BucketStore, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    raw = content(store, made, name)
    store.snapshot([made], "g-1")
    source = tmp_path / "source"
    source.write_bytes(b"sealed")
    for _ in range(2):
        store.lock(made)
        assert store.state(made) is BucketState.LOCKED and list(store.buckets()) == [made]
    for refused in (
        lambda: store.read(made, name),
        lambda: store.read(made, name, snapshot="g-1"),
        lambda: store.write(made, new_id(), source),
        lambda: list(store.files(made)),
        lambda: store.find(made, name),
        lambda: store.remove(made, [name]),
        lambda: store.restore(made, "g-1", [name]),
    ):
        with pytest.raises(BucketLockedError):
            refused()
    assert source.exists()
    for _ in range(2):
        store.unlock(made, KEY)
        assert store.state(made) is BucketState.OPEN
        assert content(store, made, name) == raw == content(store, made, name, "g-1")


def test_another_key_opens_nothing(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    store.lock(made)
    for wrong in (OTHER_KEY, bytes(32)):
        with pytest.raises(BucketKeyError):
            store.unlock(made, wrong)
        with pytest.raises(BucketKeyError):
            store.create(made, wrong)
        assert store.state(made) is BucketState.LOCKED
    store.unlock(made, KEY)
    assert content(store, made, name)


def test_whoever_has_the_medium_alone_finds_no_content(
    store: BucketStore, ground: Ground, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--backend") == "zfs":
        pytest.skip("the raw disks are searched from outside the machine")
    made = bucket()
    store.create(made, KEY)
    put(store, made, tmp_path, b"planted words of a patient " * 100)
    store.lock(made)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"planted words" in path.read_bytes()]
    assert found == []


def test_a_bucket_whose_file_is_read_is_not_locked(store: BucketStore, tmp_path: Path) -> None:
    made, (name, _) = filled(store, tmp_path)
    with store.read(made, name) as file:
        for refused in (store.lock, store.destroy):
            with pytest.raises(BucketBusyError):
                refused(made)
        assert file.read()
    store.lock(made)
    store.destroy(made)


@pytest.mark.parametrize("locked", [True, False])
def test_destroyed_is_gone_with_or_without_its_key(
    store: BucketStore, ground: Ground, tmp_path: Path, locked: bool
) -> None:
    made, _ = filled(store, tmp_path)
    sibling, (name, _) = filled(store, tmp_path, tenant=made.tenant_id)
    if locked:
        store.lock(made)
        store = ground.open()  # nothing in memory either
    for _ in range(2):
        store.destroy(made)
        assert store.state(made) is BucketState.ABSENT and list(store.buckets()) == [sibling]
    store.unlock(sibling, KEY)
    assert content(store, sibling, name)
    store.create(made, OTHER_KEY)  # the name is free again, under a new key
    assert names(store, made) == []


def test_a_bucket_with_snapshots_is_not_destroyed(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, found = filled(store, tmp_path)
    store.snapshot([made], "g-1")
    with pytest.raises(SnapshotsRemainError):
        store.destroy(made)
    store.hold([SnapshotId(made, "g-1")], "ew.grace")
    with pytest.raises(SnapshotHeldError):
        store.destroy(made)
    assert names(store, made) == sorted(found)
    clear(store, made)
    ground.foreign_hold(SnapshotId(made, "guard"), "somebody")
    with pytest.raises(SnapshotHeldError) as refused:
        store.destroy(made)
    assert refused.value.data["tags"] == ["somebody"]
    assert names(store, made) == sorted(found)


def test_a_process_that_starts_finds_buckets_as_they_are(ground: Ground, tmp_path: Path) -> None:
    store = ground.open()
    made, (name, _) = filled(store, tmp_path)
    raw = content(store, made, name)
    store = ground.open()
    assert list(store.buckets()) == [made]
    store.unlock(made, KEY)
    assert content(store, made, name) == raw
    store.close()
    assert ground.open().state(made) is BucketState.LOCKED, "a store that is closed leaves nothing open"
