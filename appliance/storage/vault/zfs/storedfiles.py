"""The half of the store that has to do with files in buckets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from appliance.storage.names import BucketId, check_snapshot_name
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.stored import Stored
from appliance.storage.vault.zfs.shelf import SIDECAR, Shelf


class StoredFiles(BucketStore):
    """See the module."""

    _shelf: Shelf

    @abstractmethod
    def _at(self, *buckets: BucketId) -> AbstractContextManager[None]:
        """The locks of these buckets; errors of the medium become errors of the contract."""

    # Files.

    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """See BucketStore."""
        with self._at(bucket):
            return self._shelf.write(bucket, recording_id, source)

    def read(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """See BucketStore."""
        with self._at(bucket):
            return self._shelf.read(bucket, recording_id, snapshot)

    def write_sidecar(self, bucket: BucketId, recording_id: str, source: Path) -> None:
        """See BucketStore."""
        with self._at(bucket):
            self._shelf.write_sidecar(bucket, recording_id, source)

    def read_sidecar(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """See BucketStore."""
        with self._at(bucket):
            return self._shelf.read(bucket, recording_id, snapshot, sidecar=True)

    def sidecars(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """See BucketStore."""
        with self._at(bucket):
            found = self._shelf.files(bucket, snapshot, SIDECAR)
        yield from found

    def remove(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        with self._at(bucket):
            self._shelf.remove(bucket, recording_ids)

    def restore(self, bucket: BucketId, snapshot: str, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        check_snapshot_name(snapshot)
        with self._at(bucket):
            self._shelf.restore(bucket, snapshot, recording_ids)

    def files(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """See BucketStore."""
        with self._at(bucket):
            found = self._shelf.files(bucket, snapshot)
        yield from found

    def find(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> Stored | None:
        """See BucketStore."""
        with self._at(bucket):
            return self._shelf.find(bucket, recording_id, snapshot)
