"""Copies elsewhere: whole or in parts, resumed, unreadable without the key, refused where they do not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract_kit import KEY, bucket, clear, content, filled, names, put, snapshot_names, tags
from ground import Ground

from appliance.model import EarwitnessError
from appliance.storage.vault.contract import GUARD, GUARD_TAG, BucketState, BucketStore, SnapshotId
from appliance.storage.vault.errors import BucketLockedError, ReplicaDivergedError, SnapshotMissingError


def copy(
    source: BucketStore, target: BucketStore, of: object, snapshot: str, base: str = "", resume: str = ""
) -> None:
    target.receive(of, source.send(of, snapshot, base=base, resume=resume))  # type: ignore[arg-type]


def test_a_copy_opens_with_the_same_key_and_no_other_way(
    store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    made, (first, second) = filled(store, tmp_path)
    store.snapshot([made], "r-north-1")
    store.lock(made)  # who sends needs no key
    target = ground.second()
    copy(store, target, made, "r-north-1")
    assert target.state(made) is BucketState.LOCKED
    with pytest.raises(BucketLockedError):
        target.read(made, first)
    store.unlock(made, KEY)
    target.unlock(made, KEY)
    for name in (first, second):
        assert content(target, made, name, "r-north-1") == content(store, made, name)


def test_later_changes_follow(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, (first, second) = filled(store, tmp_path)
    target = ground.second()
    store.snapshot([made], "r-north-1")
    copy(store, target, made, "r-north-1")
    third = put(store, made, tmp_path, os.urandom(200_000))
    store.remove(made, [first])
    store.snapshot([made], "r-north-2")
    for _ in range(2):
        copy(store, target, made, "r-north-2", "r-north-1")
    target.unlock(made, KEY)
    assert names(target, made, "r-north-2") == sorted([second, third])
    assert content(target, made, third, "r-north-2") == content(store, made, third)
    assert names(target, made, "r-north-1") == sorted([first, second])
    assert [name for name in snapshot_names(target, made) if name != "guard"] == ["r-north-1", "r-north-2"]


def test_a_copy_that_broke_off_goes_on(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made = bucket()
    store.create(made, KEY)
    found = [put(store, made, tmp_path, os.urandom(2 << 20)) for _ in range(4)]
    store.snapshot([made], "r-north-1")
    target = ground.second()
    assert target.resume_token(made) == ""
    stream = store.send(made, "r-north-1")
    came = 0

    def cut() -> Iterator[bytes]:
        nonlocal came
        for piece in stream.pieces:
            came += len(piece)
            if came > 5 << 20:
                raise ConnectionResetError
            yield piece

    with pytest.raises((ConnectionResetError, EarwitnessError)):
        target.receive(made, replace(stream, pieces=cut()))
    token = target.resume_token(made)
    assert token
    rest = store.send(made, "r-north-1", resume=token)
    left = 0

    def counted() -> Iterator[bytes]:
        nonlocal left
        for piece in rest.pieces:
            left += len(piece)
            yield piece

    target.receive(made, replace(rest, pieces=counted()))
    assert left < 7 << 20, "it went on where it broke off"
    assert target.resume_token(made) == ""
    target.unlock(made, KEY)
    assert names(target, made, "r-north-1") == sorted(found)
    for name in found:
        assert content(target, made, name, "r-north-1") == content(store, made, name)


def test_what_does_not_fit_is_refused(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, found = filled(store, tmp_path)
    target = ground.second()
    with pytest.raises(SnapshotMissingError):
        store.send(made, "r-north-1")
    store.snapshot([made], "r-north-1")
    store.snapshot([made], "r-north-2")
    with pytest.raises(ReplicaDivergedError):
        copy(store, target, made, "r-north-2", "r-north-1")  # the other side has not the base
    target.create(made, bytes(32))
    with pytest.raises(ReplicaDivergedError):
        copy(store, target, made, "r-north-1")  # another bucket of this name
    assert names(target, made) == []
    assert names(store, made) == sorted(found)


def test_a_copy_that_is_adopted_can_be_written(store: BucketStore, ground: Ground, tmp_path: Path) -> None:
    made, (first, second) = filled(store, tmp_path)
    store.snapshot([made], "r-north-1")
    target = ground.second()
    copy(store, target, made, GUARD)
    copy(store, target, made, "r-north-1", GUARD)
    for _ in range(2):
        target.adopt(made)
    assert target.state(made) is BucketState.LOCKED
    assert GUARD_TAG in tags(target, SnapshotId(made, GUARD))
    target.unlock(made, KEY)
    target.remove(made, [first])
    third = put(target, made, tmp_path, os.urandom(2000))
    assert names(target, made) == sorted([second, third])
    assert content(target, made, second) == content(store, made, second)
    assert names(target, made, "r-north-1") == sorted([first, second])
    store.adopt(made)  # it was made here
    store.unlock(made, KEY)
    assert names(store, made) == sorted([first, second])


def test_a_copy_starts_with_an_empty_snapshot_and_files_come_after_it(
    store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    made, found = filled(store, tmp_path)
    target = ground.second()
    copy(store, target, made, GUARD)
    store.snapshot([made], "g-1", {"ew:kind": "grace"})
    store.remove(made, found[:1])
    store.snapshot([made], "r-north-1")
    copy(store, target, made, "g-1", GUARD)
    copy(store, target, made, "r-north-1", "g-1")
    here = {item.id.name: item.created_ns // 10**9 for item in store.snapshots(made)}
    there = {item.id.name: item.created_ns // 10**9 for item in target.snapshots(made)}
    assert there == here, "a snapshot keeps the time it was taken at"
    target.unlock(made, KEY)
    assert names(target, made, "g-1") == sorted(found)
    assert names(target, made, "r-north-1") == found[1:]


@pytest.mark.parametrize("where", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_a_stream_that_changes_on_its_way_is_refused_and_comes_again_whole(
    where: float, store: BucketStore, ground: Ground, tmp_path: Path
) -> None:
    made, found = filled(store, tmp_path, 3)
    store.snapshot([made], "r-north-1")
    target = ground.second()
    sent = b"".join(store.send(made, "r-north-1").pieces)
    raw = bytearray(sent)
    raw[int(where * len(raw))] ^= 1
    with pytest.raises(EarwitnessError):
        target.receive(made, replace(store.send(made, "r-north-1"), pieces=iter([bytes(raw)])))
    assert target.state(made) is BucketState.ABSENT
    try:
        copy(store, target, made, "r-north-1", resume=target.resume_token(made))
    except EarwitnessError:
        copy(store, target, made, "r-north-1")
    target.unlock(made, KEY)
    for name in found:
        assert content(target, made, name, "r-north-1") == content(store, made, name)


def test_a_bucket_that_is_being_sent_stays(store: BucketStore, tmp_path: Path) -> None:
    made, _ = filled(store, tmp_path)
    store.snapshot([made], "r-north-1")
    stream = store.send(made, "r-north-1")
    pieces = iter(stream.pieces)
    next(pieces)
    with pytest.raises(EarwitnessError):
        store.destroy(made)
    assert len(list(pieces)) > 0
    clear(store, made)
    store.destroy(made)
    assert store.state(made) is BucketState.ABSENT
