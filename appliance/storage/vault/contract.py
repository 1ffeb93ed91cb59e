"""The contract between the vault and what keeps its buckets: a directory tree, or ZFS datasets.

A **bucket** is the recordings of one line in one time slice, or what one legal hold keeps of a tenant beyond its time.
The vault says what shall be so, in ids and states; a backend makes it so on its medium. Rules that every backend keeps:

- Each method is durable when it returns, and doing it twice is success. A crash in its midst leaves the state before or
  after, or one that doing it again completes.
- Names are opaque ids and slices, nothing else: names, properties and tags lie in clear on the medium.
- What a backend does not know it leaves alone and reports (`Survey.strangers`).
- A bucket is born with the snapshot `guard`, held by `GUARD_TAG`, so that no stray command destroys it whole.
- A hold on a snapshot means that nothing destroys it: not `destroy_snapshots`, not `destroy`. Each tag has an owner.
- A locked bucket's files cannot be read by anybody who has only the medium; it can be destroyed without its key.
- A recording may have a **sidecar**, a second file that grows: it goes where its recording goes, and away with it.
- Methods that change take many recordings of one bucket, because a backend may pay for each step by the bucket (a
  snapshot, a mount), not by the recording.
- A call may block for as long as the backend's deadline says; then it raises StoreUnavailableError, or
  StoreSuspendedError where the medium itself waits for somebody. What was asked may still happen: ask again.
- Errors: those of `appliance.storage.vault.errors`, and no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from appliance.storage.names import (
    GUARD,
    GUARD_TAG,
    HOLD_LINE,
    MAX_MARK_BYTES,
    MAX_PROPERTIES,
    MAX_VALUE_BYTES,
    BucketId,
    SliceUnit,
    SnapshotId,
    check_mark,
    check_properties,
    check_snapshot_name,
    check_tag,
    slice_end_ns,
    slice_of,
    slice_start_ns,
)
from appliance.storage.vault.stored import (
    Ailment,
    BucketState,
    Snapshot,
    Space,
    Stored,
    Stream,
    Survey,
    Surveyed,
    Usage,
)

__all__ = [
    "GUARD",
    "GUARD_TAG",
    "HOLD_LINE",
    "MAX_MARK_BYTES",
    "MAX_PROPERTIES",
    "MAX_VALUE_BYTES",
    "Ailment",
    "BucketId",
    "BucketState",
    "BucketStore",
    "SliceUnit",
    "Snapshot",
    "SnapshotId",
    "Space",
    "Stored",
    "Stream",
    "Survey",
    "Surveyed",
    "Usage",
    "check_mark",
    "check_properties",
    "check_snapshot_name",
    "check_tag",
    "slice_end_ns",
    "slice_of",
    "slice_start_ns",
]


class BucketStore(ABC):
    """See the module. Safe to use from several threads; a change of one bucket waits for the one before."""

    backend: str
    """directory or zfs."""

    # Buckets and their keys.

    @abstractmethod
    def state(self, bucket: BucketId) -> BucketState:
        """Whether the bucket is there, and open."""

    @abstractmethod
    def create(self, bucket: BucketId, key: bytes) -> None:
        """Makes the bucket under its key (32 bytes), with its guard, and opens it. One that is there is opened.

        BucketKeyError where it is there under another key. StoreFullError, QuotaExceededError.
        """

    @abstractmethod
    def unlock(self, bucket: BucketId, key: bytes) -> None:
        """Opens a bucket that is there: its files can be read and written. BucketKeyError, BucketMissingError."""

    @abstractmethod
    def lock(self, bucket: BucketId) -> None:
        """Forgets the key: nothing in the bucket can be read until it is unlocked.

        BucketBusyError where somebody has a file of it open. Success where it is locked; BucketMissingError.
        """

    @abstractmethod
    def buckets(self) -> Iterator[BucketId]:
        """Every bucket, open or not, in order."""

    @abstractmethod
    def survey(self, *, snapshots: bool = True) -> Survey:
        """Every bucket, in order, and whatever else lies there: one way through all of it, as cheap as the medium allows.

        Without `snapshots` neither they nor strangers are told, and it costs what there are buckets.
        """

    @abstractmethod
    def mark(self, marks: Mapping[BucketId, str]) -> None:
        """Notes a word on buckets that are locked, for `survey`: what came of looking through their files.

        A mark is gone as soon as a file of the bucket may have changed, by whatever hand. A bucket that is not locked, or
        absent, gets none. See `check_mark` for what a word may be.
        """

    @abstractmethod
    def destroy(self, bucket: BucketId) -> None:
        """Destroys a bucket with its files, locked or not. Success where it is absent.

        SnapshotsRemainError where a snapshot is left, or SnapshotHeldError where one is held: destroy those first.
        BucketBusyError where a file of it is open.
        """

    # Files. The bucket is open, else BucketLockedError (or BucketMissingError).

    @abstractmethod
    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """Moves a finished sealed file into an open bucket; its size. `source` is gone afterwards.

        Where the file is in the bucket already, with the same bytes, only `source` goes; with other bytes
        StoredFileExistsError, and nothing changes.
        """

    @abstractmethod
    def read(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """The file as it is now, or as it was in a snapshot, open for reading at its beginning.

        The caller closes it. An open file stays readable while it is removed. StoredFileMissingError,
        SnapshotMissingError, StoredFileCorruptError (also while reading).
        """

    @abstractmethod
    def write_sidecar(self, bucket: BucketId, recording_id: str, source: Path) -> None:
        """Puts a file in the place of a recording's sidecar, whole or not at all. `source` is gone afterwards.

        What was there before stays in the snapshots that have it. Whether the recording is there is not asked.
        """

    @abstractmethod
    def read_sidecar(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> BinaryIO:
        """The sidecar as `read` gives the recording. StoredFileMissingError where it has none."""

    @abstractmethod
    def sidecars(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """Every sidecar of an open bucket as it is now, or as it was in a snapshot."""

    @abstractmethod
    def remove(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """Unlinks files with their sidecars. Snapshots that have them keep them; elsewhere the space comes back."""

    @abstractmethod
    def restore(self, bucket: BucketId, snapshot: str, recording_ids: Sequence[str]) -> None:
        """Copies files and their sidecars back from a snapshot, byte for byte, each compared before it gets its name.

        A sidecar that is there stays, as it may have grown since; it comes back before its recording does.

        A file that is there with the same bytes stays; with others StoredFileExistsError. StoredFileMissingError where the
        snapshot has no such file; nothing is changed then.
        """

    @abstractmethod
    def files(self, bucket: BucketId, *, snapshot: str = "") -> Iterator[Stored]:
        """Every file of an open bucket but sidecars, as it is now, or as it was in a snapshot."""

    @abstractmethod
    def find(self, bucket: BucketId, recording_id: str, *, snapshot: str = "") -> Stored | None:
        """One file, now or in a snapshot; None where there is none."""

    # Snapshots. They need no key.

    @abstractmethod
    def snapshot(
        self, buckets: Sequence[BucketId], name: str, properties: Mapping[str, str] | None = None
    ) -> None:
        """Takes a snapshot of that name of all these buckets at one instant, or of none.

        `properties`: see `check_properties`. Of buckets that have one of that name the old one stays and only the others
        are taken. BucketMissingError, SnapshotNameError; BucketLockedError where a locked bucket was not closed in good
        order: unlock it once first.
        """

    @abstractmethod
    def snapshots(self, bucket: BucketId | None = None) -> Iterator[Snapshot]:
        """Snapshots of one bucket, or of all, with properties and holds; by bucket, oldest first."""

    @abstractmethod
    def hold(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """Puts a hold with this tag on each; success where it is there. SnapshotMissingError: the others are held."""

    @abstractmethod
    def release(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """Takes a hold away; success where there is none, or no such snapshot."""

    @abstractmethod
    def destroy_snapshots(self, snapshots: Sequence[SnapshotId]) -> None:
        """Destroys all of these, or none: SnapshotHeldError names those that are held. Absent ones are success.

        Never deferred: what is not destroyed now stays. At most 500 at once.
        """

    # Copies elsewhere. Streams are ciphertext under the bucket's key: who receives them cannot read them.

    @abstractmethod
    def send(self, bucket: BucketId, snapshot: str, *, base: str = "", resume: str = "") -> Stream:
        """The bucket as of a snapshot as a stream of bytes; `base`: only what came since that snapshot of it.

        `resume`: a token that `resume_token` of the receiving store gave for this bucket.
        """

    @abstractmethod
    def receive(self, bucket: BucketId, stream: Stream) -> None:
        """Takes a stream in; the bucket is then there, locked, with that snapshot, read-only.

        Broken off it keeps what came, and `resume_token` says how to go on. ReplicaDivergedError where it does not fit
        what is there.
        """

    @abstractmethod
    def resume_token(self, bucket: BucketId) -> str:
        """Where a receive that was broken off goes on; empty where there is none."""

    @abstractmethod
    def adopt(self, bucket: BucketId) -> None:
        """Makes a bucket that was received one of this store's own: it can be written from now on, and has its guard.

        The bucket is locked. Success where it was made here. BucketMissingError, BucketBusyError.
        """

    # The medium.

    @abstractmethod
    def space(self) -> Space:
        """How much there is. Waits for space that is being given back, within the backend's deadline."""

    @abstractmethod
    def usage(self, tenant_id: str) -> Usage:
        """What a tenant's buckets take up, snapshots too, and its quota."""

    @abstractmethod
    def set_quota(self, tenant_id: str, quota: int) -> None:
        """Bytes that a tenant's buckets may take up; 0: no limit. Beyond it `write` raises QuotaExceededError, and so does
        this where more than the new quota is used already: the old one stays."""

    @abstractmethod
    def health(self) -> list[Ailment]:
        """What is wrong; empty where nothing is. Answers within a second, also where the medium does not."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of everything: keys are forgotten, buckets locked as far as that can be done."""
