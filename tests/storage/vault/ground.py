"""What the vault's tests stand on: a store of buckets on a medium, by backend, that can crash, fill up and be looked into.

`pytest --backend zfs` wants root, OpenZFS, and in EARWITNESS_TEST_POOL the name of a pool that may be written to: each
test gets a dataset of its own in it; EARWITNESS_TEST_COPIES names a second pool for copies, else they lie in the same one.
In the test guest both are made on its empty disks. The directory backend wants nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.model import new_id
from appliance.storage.vault.contract import BucketId, BucketStore, SnapshotId
from appliance.storage.vault.directory import DirectoryStore

POOL = os.environ.get("EARWITNESS_TEST_POOL", "")
COPIES = os.environ.get("EARWITNESS_TEST_COPIES", "")
_GUESTS = {"tests": ("mirror", "virtio-d1", "virtio-d2"), "copies": ("virtio-d3",)}
Fault = Callable[[str], None]


def calm(step: str) -> None:
    """No fault."""


class Ground(ABC):
    """One medium."""

    @abstractmethod
    def open(self, fault: Fault = calm) -> BucketStore:
        """A store on the medium as a process finds it that has just started: nothing is in its memory."""

    @abstractmethod
    def foreign_hold(self, snapshot: SnapshotId, tag: str) -> None:
        """Somebody else holds a snapshot, by other means than the store."""

    @abstractmethod
    def foreign_bucket(self, tenant_id: str) -> str:
        """Somebody else puts something among a tenant's buckets; how `strangers` names it."""

    @abstractmethod
    def has(self, stranger: str) -> bool:
        """Whether it is still there."""

    @abstractmethod
    def damage(self, bucket: BucketId, recording_id: str) -> None:
        """A file changes on the medium behind the store's back, as far as the medium lets that happen."""

    @abstractmethod
    def roll_back(self, bucket: BucketId) -> None:
        """Somebody puts a locked bucket, of which there is only the guard, back to what it was at its birth."""

    @abstractmethod
    def second(self, fault: Fault = calm, name: str = "second") -> BucketStore:
        """A store elsewhere, for copies, empty at first."""

    @abstractmethod
    def close(self) -> None:
        """Nothing of it is left."""


class DirectoryGround(Ground):
    """A directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "store"
        self.other = folder / "second"
        for path in (self.root, self.other):
            path.mkdir(parents=True, exist_ok=True)

    def open(self, fault: Fault = calm) -> BucketStore:
        return DirectoryStore(self.root, fault=fault)

    def _folder(self, bucket: BucketId) -> Path:
        return self.root / "buckets" / bucket.path

    def foreign_hold(self, snapshot: SnapshotId, tag: str) -> None:
        (self._folder(snapshot.bucket) / "holds" / f"{snapshot.name}@{tag}").touch()

    def foreign_bucket(self, tenant_id: str) -> str:
        path = self.root / "buckets" / tenant_id / "backup of last week"
        path.mkdir(parents=True)
        (path / "files").write_text("somebody's")
        return os.path.relpath(path, self.root)

    def has(self, stranger: str) -> bool:
        return (self.root / stranger / "files").read_text() == "somebody's"

    def damage(self, bucket: BucketId, recording_id: str) -> None:
        path = self._folder(bucket) / "files" / f"{recording_id}.ewr"
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)

    def roll_back(self, bucket: BucketId) -> None:
        for path in (self._folder(bucket) / "files").iterdir():
            path.unlink()

    def second(self, fault: Fault = calm, name: str = "second") -> BucketStore:
        return DirectoryStore(self.folder / name, fault=fault)

    def close(self) -> None:
        for path in (self.root, self.other):
            shutil.rmtree(path)


class ZfsGround(Ground):
    """Datasets in a pool."""

    def __init__(self, folder: Path) -> None:
        pool, self.copies = pools()
        self.folder = folder
        self.root = f"{pool}/{new_id()}"
        self.stores: list[BucketStore] = []
        self._zfs("create", "-o", "canmount=off", "-o", "mountpoint=none", self.root)

    @staticmethod
    def _zfs(*arguments: str) -> str:
        return subprocess.run(
            ["zfs", *arguments], check=True, capture_output=True, text=True, timeout=120
        ).stdout

    def open(self, fault: Fault = calm) -> BucketStore:
        from appliance.storage.vault.zfs import open_store

        store = open_store(f"{self.root}/rec", self.folder / "mounts", fault=fault)
        self.stores.append(store)
        return store

    def foreign_hold(self, snapshot: SnapshotId, tag: str) -> None:
        self._zfs("hold", tag, f"{self.root}/rec/{snapshot.bucket.path}@{snapshot.name}")

    def foreign_bucket(self, tenant_id: str) -> str:
        self._zfs(
            "create",
            "-p",
            "-o",
            "canmount=off",
            "-o",
            "mountpoint=none",
            f"{self.root}/rec/{tenant_id}/backup",
        )
        return f"{tenant_id}/backup"

    def has(self, stranger: str) -> bool:
        return self._zfs("list", "-H", "-o", "name", f"{self.root}/rec/{stranger}").strip() != ""

    def damage(self, bucket: BucketId, recording_id: str) -> None:
        (path,) = self.folder.rglob(f"{recording_id}.ewr")
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)

    def roll_back(self, bucket: BucketId) -> None:
        self._zfs("rollback", f"{self.root}/rec/{bucket.path}@guard")

    def second(self, fault: Fault = calm, name: str = "second") -> BucketStore:
        from appliance.storage.vault.zfs import open_store

        place = self.root.replace(self.root.partition("/")[0], self.copies, 1)
        self._zfs("create", "-p", "-o", "canmount=off", "-o", "mountpoint=none", f"{place}/{name}")
        store = open_store(f"{place}/{name}/rec", self.folder / name, fault=fault)
        self.stores.append(store)
        return store

    def _snapshots(self, root: str) -> list[str]:
        found = json.loads(self._zfs("list", "-j", "-r", "-t", "snapshot", "-o", "name", root))
        return list(found["datasets"])

    def close(self) -> None:
        for store in self.stores:
            store.close()
        for line in subprocess.run(
            ["findmnt", "-rn", "-t", "zfs", "-o", "TARGET"], capture_output=True, text=True
        ).stdout.split():
            if line.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", line], check=True)
        name = self.root.partition("/")[2]
        for root in dict.fromkeys((self.root, f"{self.copies}/{name}")):
            if subprocess.run(["zfs", "list", "-H", root], capture_output=True).returncode == 0:
                self._take_away(root)

    def _take_away(self, root: str) -> None:
        names = self._snapshots(root)
        for first in range(0, len(names), 50):
            held = self._zfs("holds", "-H", *names[first : first + 50])
            for row in held.splitlines():
                name, tag, *_ = row.split("\t")
                self._zfs("release", tag, name)
        self._zfs("destroy", "-r", "-f", root)


def pools() -> tuple[str, str]:
    """The pool for buckets, and the one for copies; in the test guest they are made where they are not there."""
    if POOL:
        return POOL, COPIES or POOL
    assert "EARWITNESS_GUEST" in os.environ, "EARWITNESS_TEST_POOL names no pool"
    for name, disks in _GUESTS.items():
        if subprocess.run(["zpool", "list", "-H", name], capture_output=True).returncode:
            options = ["-f", "-o", "ashift=12", "-O", "canmount=off", "-O", "mountpoint=none"]
            subprocess.run(["zpool", "create", *options, name, *disks], check=True, timeout=120)
    return "tests", "copies"


def grounds(backend: str, folder: Path) -> Iterator[Ground]:
    """The one asked for, taken away at the end."""
    ground: Ground = ZfsGround(folder) if backend == "zfs" else DirectoryGround(folder)
    yield ground
    ground.close()
