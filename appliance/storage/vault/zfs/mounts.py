"""Which buckets and snapshots are mounted by this process: on demand, a bounded number, those unused longest go first.

The caller holds the bucket's lock. Files that are open for reading are counted: what has one is not unmounted, and to
lock its bucket is refused at once, not when the kernel says so.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.storage.names import BucketId
from appliance.storage.vault.errors import BucketBusyError
from appliance.storage.vault.zfs.doors import Doors
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Worker

MAX_MOUNTED: Final = 200
IDLE_S: Final = 60.0  # after which a snapshot is unmounted by the next call that mounts something
RETRY_S: Final = 1.0


@dataclass(slots=True)
class Mount:
    """One mounted dataset or snapshot. `snapshot`: its name, empty for the bucket as it is now."""

    bucket: BucketId
    snapshot: str
    source: str
    target: str
    device: int
    readonly: bool
    stamp: str = ""
    files: int = 0
    used: float = 0.0

    def place(self) -> dict[str, Any]:
        """For the agent."""
        return {"path": self.target, "device": self.device, "stamp": self.stamp}


class Mounts:
    """See the module."""

    def __init__(
        self,
        folder: Path,
        worker: Worker,
        doors: Doors,
        *,
        most: int = MAX_MOUNTED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._worker = worker
        self._doors = doors
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._mounts: dict[str, Mount] = {}
        self._clean: set[str] = set()

    def get(self, source: str) -> Mount | None:
        """The mount of a dataset or snapshot, which counts as used now."""
        with self._lock:
            found = self._mounts.get(source)
            if found:
                found.used = self._clock()
            return found

    def mount(self, bucket: BucketId, source: str, snapshot: str = "", *, readonly: bool) -> Mount:
        """Mounts it, or finds it mounted by a process before this one. Trouble."""
        found = self.get(source)
        if found is None:
            self._make_room(bucket)
            target = self._target(bucket, snapshot)
            told = self._worker.call(
                "mount", changes=[source], source=source, target=target, readonly=readonly or bool(snapshot)
            ).value
            found = Mount(
                bucket, snapshot, source, target, told["device"], told["readonly"], used=self._clock()
            )
            with self._lock:
                self._mounts[source] = found
        if found.readonly and not readonly and not snapshot:
            self._worker.call("remount", changes=[source], source=source, target=found.target, readonly=False)
            found.readonly = False
        with self._lock:
            if found.readonly:
                self._clean.add(source)  # mounting has replayed what a power cut left
            else:
                self._clean.discard(source)
        return found

    def is_clean(self, source: str) -> bool:
        """Whether this process knows that a bucket has nothing left to replay: it has it mounted, or has unmounted it."""
        with self._lock:
            return source in self._mounts or source in self._clean

    def is_there(self, mount: Mount) -> bool:
        """Whether the kernel has it mounted still."""
        found = self._worker.call("mounts", under=mount.target).value
        return any(one["source"] == mount.source for one in found)

    def forget(self, bucket: BucketId) -> None:
        """The bucket and its snapshots are not mounted any more, by no doing of ours."""
        with self._lock:
            gone = [source for source, one in self._mounts.items() if one.bucket == bucket]
            for source in gone:
                del self._mounts[source]
            self._clean.difference_update(gone)

    def refuse_busy(self, bucket: BucketId) -> None:
        """BucketBusyError where a file of the bucket or of a snapshot of it is open."""
        with self._lock:
            if any(one.files for one in self._mounts.values() if one.bucket == bucket):
                raise BucketBusyError("a file of the bucket is open", bucket=bucket.path)

    def opened(self, mount: Mount) -> None:
        """A file of it is open now."""
        with self._lock:
            mount.files += 1

    def closed(self, mount: Mount) -> None:
        """A file of it is closed."""
        with self._lock:
            mount.files -= 1
            mount.used = self._clock()

    def unmount_bucket(self, bucket: BucketId, source: str) -> None:
        """The bucket and its snapshots, mounted by this process or by one before. BucketBusyError."""
        self.refuse_busy(bucket)
        found = self._worker.call("mounts", under=str(self._folder)).value
        mounted = [one for one in found if one["source"] == source or one["source"].startswith(f"{source}@")]
        for one in sorted(mounted, key=lambda item: "@" not in item["source"]):
            self._unmount(bucket, one["source"], one["target"])
        with self._lock:
            for key in [key for key, one in self._mounts.items() if one.bucket == bucket]:
                del self._mounts[key]

    def unmount_snapshot(self, bucket: BucketId, source: str, name: str) -> None:
        """One snapshot, whoever mounted it there. BucketBusyError where a file of it is open."""
        found = self.get(source)
        if found and found.files:
            raise BucketBusyError("a file of the snapshot is open", bucket=bucket.path)
        self._unmount(bucket, source, self._target(bucket, name))

    def _target(self, bucket: BucketId, snapshot: str) -> str:
        name = f"{bucket.path}@{snapshot}" if snapshot else bucket.path
        return str(self._folder / name.replace("/", "."))

    def _unmount(self, bucket: BucketId, source: str, target: str) -> None:
        end = time.monotonic() + RETRY_S
        while True:
            try:
                self._worker.call("unmount", changes=[source], target=target)
            except Trouble as trouble:
                if trouble.number != errno.EBUSY:
                    raise
                if time.monotonic() > end:  # another process looks into it
                    raise BucketBusyError("something uses the bucket", bucket=bucket.path) from trouble
                time.sleep(0.05)
            else:
                break
        with self._lock:
            self._mounts.pop(source, None)
            self._clean.add(source)

    def _make_room(self, sparing: BucketId) -> None:
        """Unmounts snapshots that nobody uses, and what was unused for longest where there are too many."""
        now = self._clock()
        with self._lock:
            idle = [one for one in self._mounts.values() if not one.files and one.bucket != sparing]
            idle.sort(key=lambda one: one.used)
            too_many = len(self._mounts) + 1 - self._most
        for one in idle:
            if too_many > 0 or (one.snapshot and now - one.used > IDLE_S):
                too_many -= self._leave(one)

    def _leave(self, mount: Mount) -> bool:
        """Unmounts one that nobody uses now; what is wrong where it stays is told to the next who uses it."""
        with self._doors.hand_on_if_free(mount.bucket) as held:
            if not held or mount.files or self._mounts.get(mount.source) is not mount:
                return False
            try:
                self._unmount(mount.bucket, mount.source, mount.target)
            except (BucketBusyError, Trouble):
                return False
            return True

    def mounted(self) -> list[Mount]:
        """All of them."""
        with self._lock:
            return list(self._mounts.values())
