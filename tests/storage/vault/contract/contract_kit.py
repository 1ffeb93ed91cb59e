"""A few recordings in a few buckets."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.model import new_id
from appliance.storage.vault.contract import BucketId, BucketStore, SnapshotId

KEY = bytes(range(32))
OTHER_KEY = bytes(reversed(range(32)))


class Crash(BaseException):
    """Stands for a power cut: no handler of the code under test may catch it."""


class Faults:
    """Notes steps; crashes at the one of that number."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) - 1 == self.at:
            raise Crash(step)


def bucket(tenant: str = "", slice_: str = "2026-11-25") -> BucketId:
    return BucketId(tenant or new_id(), new_id(), slice_)


def put(store: BucketStore, to: BucketId, folder: Path, content: bytes = b"sealed", name: str = "") -> str:
    name = name or new_id()
    source = folder / f"{name}.sealed"
    source.write_bytes(content)
    assert store.write(to, name, source) == len(content)
    assert not source.exists()
    return name


def filled(store: BucketStore, folder: Path, count: int = 2, tenant: str = "") -> tuple[BucketId, list[str]]:
    """A bucket with some recordings, each with content of its own."""
    made = bucket(tenant)
    store.create(made, KEY)
    return made, [put(store, made, folder, os.urandom(1000 + number)) for number in range(count)]


def content(store: BucketStore, of: BucketId, name: str, snapshot: str = "") -> bytes:
    with store.read(of, name, snapshot=snapshot) as file:
        return file.read()


def names(store: BucketStore, of: BucketId, snapshot: str = "") -> list[str]:
    return sorted(item.recording_id for item in store.files(of, snapshot=snapshot))


def tags(store: BucketStore, snapshot: SnapshotId) -> frozenset[str]:
    (found,) = [item for item in store.snapshots(snapshot.bucket) if item.id == snapshot]
    return found.holds


def snapshot_names(store: BucketStore, of: BucketId) -> list[str]:
    return [item.id.name for item in store.snapshots(of)]


def clear(store: BucketStore, of: BucketId) -> None:
    """Takes away all that keeps a bucket from being destroyed, but the guard."""
    for item in list(store.snapshots(of)):
        if item.id.name != "guard":
            for tag in item.holds:
                store.release([item.id], tag)
            store.destroy_snapshots([item.id])
