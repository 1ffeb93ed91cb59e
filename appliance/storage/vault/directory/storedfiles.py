"""The half of the store that has to do with files in buckets, and what both halves stand on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from appliance.storage.keystore.files import sync_directory
from appliance.storage.names import BucketId, BucketNameError, SnapshotId
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.directory import shelf
from appliance.storage.vault.directory.cipherfile import open_plain, plain_size
from appliance.storage.vault.directory.doors import Doors
from appliance.storage.vault.directory.medium import Fault, sweep, told
from appliance.storage.vault.directory.place import SIDECAR, SUFFIX, Place, listing
from appliance.storage.vault.directory.quota import Quotas
from appliance.storage.vault.directory.snapshots import Snapshots, said
from appliance.storage.vault.errors import (
    SnapshotMissingError,
    StoredFileExistsError,
    StoredFileMissingError,
)
from appliance.storage.vault.stored import Stored


class StoredFiles(BucketStore):
    """See the module."""

    def __init__(self, root: Path, *, fault: Fault = lambda step: None) -> None:
        self._root = root
        self._fault = fault
        self._doors = Doors()
        self._quotas = Quotas(root)
        self._snapshots = Snapshots(root, fault)
        self._grave = root / "removed"
        self._recovering = threading.Lock()
        self._recovered = False

    @contextmanager
    def _hand_on(self, *buckets: BucketId) -> Iterator[None]:
        """The locks of these buckets; errors of the medium become errors of the contract."""
        with told(), self._doors.hand_on(*buckets):
            self._recover()
            yield

    def _recover(self) -> None:
        """Completes, once, what a crash left."""
        with self._recovering:
            if self._recovered or not self._root.is_dir():
                return
            buckets = list(self._listed())
            self._snapshots.recover(buckets)
            for bucket in buckets:
                files = Place(self._root, bucket).files
                for path in files.glob(".*.tmp") if files.is_dir() else ():
                    path.unlink(missing_ok=True)
            sweep(self._grave)
            self._recovered = True

    def _place(self, bucket: BucketId) -> Place:
        place = Place(self._root, bucket)
        place.require()
        return place

    def _key(self, bucket: BucketId) -> bytes:
        self._place(bucket)
        return self._doors.key(bucket)

    def _changing(self, bucket: BucketId) -> tuple[Place, bytes]:
        """Where files of an open bucket are about to change, and its key."""
        key, place = self._key(bucket), self._place(bucket)
        place.drop_mark()
        return place, key

    def _listed(self) -> Iterator[BucketId]:
        for path in (self._root / "buckets").glob("*/*/*"):
            try:
                bucket = BucketId(*path.parts[-3:])
            except BucketNameError:
                continue  # `strangers` tells
            if Place(self._root, bucket).exists():
                yield bucket

    # Files.

    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """See BucketStore."""
        with self._hand_on(bucket):
            place, key = self._changing(bucket)
            target = place.file(recording_id)
            if target.exists():
                if source.exists() and not shelf.has(target, key, recording_id, source):
                    raise StoredFileExistsError(
                        "the bucket has another file of this recording", recording_id=recording_id
                    )
                sync_directory(target.parent)
            else:
                self._quotas.refuse_over(bucket.tenant_id, source.stat().st_size)
                shelf.bring(source, target, key, recording_id, self._fault)
            self._fault("file in its bucket")
            source.unlink(missing_ok=True)
            sync_directory(source.parent)
            return plain_size(target.stat().st_size)

    def read(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """See BucketStore."""
        with self._hand_on(bucket):
            key = self._key(bucket)
            path = shelf.find(self._place(bucket), recording_id, snapshot)
            return self._opened(bucket, path, key, recording_id)

    def _opened(self, bucket: BucketId, path: Path, key: bytes, recording_id: str) -> BinaryIO:
        self._doors.enter(bucket)
        try:
            return open_plain(path, key, recording_id, lambda: self._doors.leave(bucket))
        except BaseException:
            self._doors.leave(bucket)
            raise

    def write_sidecar(self, bucket: BucketId, recording_id: str, source: Path) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            place, key = self._changing(bucket)
            target = place.sidecar(recording_id)
            self._quotas.refuse_over(bucket.tenant_id, source.stat().st_size)
            shelf.replace(source, target, key, recording_id, self._fault)
            self._fault("sidecar in its bucket")
            source.unlink(missing_ok=True)
            sync_directory(source.parent)

    def read_sidecar(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """See BucketStore."""
        with self._hand_on(bucket):
            key = self._key(bucket)
            path = shelf.find(self._place(bucket), recording_id, snapshot, sidecar=True)
            return self._opened(bucket, path, key, recording_id)

    def sidecars(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """See BucketStore."""
        yield from self._files(bucket, snapshot, SIDECAR)

    def remove(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            place, _ = self._changing(bucket)
            for recording_id in recording_ids:
                place.file(recording_id).unlink(missing_ok=True)
                self._fault("file removed")
                place.sidecar(recording_id).unlink(missing_ok=True)
            sync_directory(place.files)

    def restore(self, bucket: BucketId, snapshot: str, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            place, key = self._changing(bucket)
            shelf.restore(place, key, snapshot, recording_ids, self._fault)

    def files(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """See BucketStore."""
        yield from self._files(bucket, snapshot, SUFFIX)

    def _files(self, bucket: BucketId, snapshot: str, suffix: str) -> list[Stored]:
        with self._hand_on(bucket):
            self._key(bucket)
            place = self._place(bucket)
            folder = place.snapshot(snapshot) if snapshot else place.files
            if not folder.is_dir():
                raise SnapshotMissingError(
                    "there is no such snapshot", snapshots=[said(SnapshotId(bucket, snapshot))]
                )
            return [
                Stored(bucket, name, plain_size(path.stat().st_size))
                for name, path in listing(folder, suffix)
            ]

    def find(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> Stored | None:
        """See BucketStore."""
        with self._hand_on(bucket):
            self._key(bucket)
            try:
                path = shelf.find(self._place(bucket), recording_id, snapshot)
            except StoredFileMissingError:
                return None
            return Stored(bucket, recording_id, plain_size(path.stat().st_size))
