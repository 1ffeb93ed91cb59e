"""The contract on a directory tree. A name is always a whole file; every change of a directory is synced before it is told.

Files are encrypted under the bucket's key, which is in memory while the bucket is open: a lock forgets it, and then nobody
can read the files from the medium alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from appliance.storage.keystore.files import make_directory
from appliance.storage.names import (
    GUARD,
    GUARD_TAG,
    BucketId,
    SnapshotId,
    SnapshotNameError,
    check_mark,
    check_properties,
    check_snapshot_name,
    check_tag,
)
from appliance.storage.vault.directory import streams
from appliance.storage.vault.directory.medium import dispose, told
from appliance.storage.vault.directory.place import Place
from appliance.storage.vault.directory.snapshots import said
from appliance.storage.vault.directory.storedfiles import StoredFiles
from appliance.storage.vault.directory.strangers import strangers
from appliance.storage.vault.errors import (
    SnapshotHeldError,
    SnapshotMissingError,
    SnapshotsRemainError,
    StoreFullError,
    StoreUnavailableError,
)
from appliance.storage.vault.stored import (
    Ailment,
    BucketState,
    Snapshot,
    Space,
    Stream,
    Survey,
    Surveyed,
    Usage,
)

MAX_DESTROYED = 500


class DirectoryStore(StoredFiles):
    """See the module. `root` is Layout.vault, or another directory that is wholly the store's."""

    backend = "directory"

    def state(self, bucket: BucketId) -> BucketState:
        """See BucketStore."""
        with told():
            if not Place(self._root, bucket).exists():
                return BucketState.ABSENT
        return BucketState.OPEN if self._doors.is_open(bucket) else BucketState.LOCKED

    def create(self, bucket: BucketId, key: bytes) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            place = Place(self._root, bucket)
            if not place.exists():
                place.make()
                self._fault("folders made")
                place.write_check(key)
                self._fault("bucket made")
            self._open_with(place, key)

    def unlock(self, bucket: BucketId, key: bytes) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            self._open_with(self._place(bucket), key)

    def _open_with(self, place: Place, key: bytes) -> None:
        place.check_key(key)
        self._guard(place)
        self._doors.open(place.bucket, key)

    def _guard(self, place: Place) -> None:
        place.make()
        if not place.snapshot(GUARD).is_dir():
            self._snapshots.take([place.bucket], GUARD, {})
        if GUARD_TAG not in place.tags(GUARD):
            self._snapshots.hold([SnapshotId(place.bucket, GUARD)], GUARD_TAG)

    def lock(self, bucket: BucketId) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            self._place(bucket)
            self._doors.refuse_busy(bucket)
            self._doors.close(bucket)

    def buckets(self) -> Iterator[BucketId]:
        """See BucketStore."""
        with told():
            found = sorted(self._listed())
        yield from found

    def survey(self, *, snapshots: bool = True) -> Survey:
        """See BucketStore."""
        found = {}
        for bucket in self.buckets():
            with self._hand_on(bucket):
                place = Place(self._root, bucket)
                if not place.exists():
                    continue  # destroyed since it was listed
                state = BucketState.OPEN if self._doors.is_open(bucket) else BucketState.LOCKED
                tags = dict(self._tags(place)) if snapshots else {}
                found[bucket] = Surveyed(state, place.mark(), tags)
        with told():
            strange = tuple(strangers(self._root)) if snapshots else ()
        return Survey(found, strange)

    @staticmethod
    def _tags(place: Place) -> Iterator[tuple[str, frozenset[str]]]:
        held = place.all_tags()
        for name in place.snapshot_names():
            try:
                check_snapshot_name(name)
            except SnapshotNameError:
                continue  # `strangers` tells
            yield name, held.get(name, frozenset())

    def mark(self, marks: Mapping[BucketId, str]) -> None:
        """See BucketStore."""
        for word in marks.values():
            check_mark(word)
        for bucket, word in marks.items():
            with self._hand_on(bucket):
                place = Place(self._root, bucket)
                if place.exists() and not self._doors.is_open(bucket):
                    place.set_mark(word)

    def destroy(self, bucket: BucketId) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            place = Place(self._root, bucket)
            if not place.folder.exists():
                return
            self._doors.refuse_busy(bucket)
            left = [SnapshotId(bucket, name) for name in place.snapshot_names() if name != GUARD]
            self._snapshots.refuse_held(left)
            if left:
                raise SnapshotsRemainError(
                    "the bucket has snapshots", snapshots=[said(item) for item in left]
                )
            others = place.tags(GUARD) - {GUARD_TAG}
            if others:
                raise SnapshotHeldError(
                    "held snapshots are not destroyed",
                    snapshots=[said(SnapshotId(bucket, GUARD))],
                    tags=sorted(others),
                )
            dispose(place.folder, self._grave)
            self._fault("bucket destroyed")
            self._doors.close(bucket)

    # Snapshots.

    def snapshot(
        self, buckets: Sequence[BucketId], name: str, properties: Mapping[str, str] | None = None
    ) -> None:
        """See BucketStore."""
        check_snapshot_name(name)
        check_properties(properties or {})
        with self._hand_on(*buckets):
            for bucket in buckets:
                self._place(bucket)
            self._snapshots.take(list(dict.fromkeys(buckets)), name, properties or {})

    def snapshots(self, bucket: BucketId | None = None) -> Iterator[Snapshot]:
        """See BucketStore."""
        for one in [bucket] if bucket is not None else list(self.buckets()):
            with self._hand_on(one):
                if bucket is None and not Place(self._root, one).exists():
                    continue  # destroyed since it was listed
                found = list(self._described(self._place(one)))
            yield from sorted(found, key=lambda item: item.order)

    @staticmethod
    def _described(place: Place) -> Iterator[Snapshot]:
        for name in place.snapshot_names():
            try:
                id_ = SnapshotId(place.bucket, name)
            except SnapshotNameError:
                continue  # `strangers` tells
            about = place.about(name)
            yield Snapshot(id_, about.properties, place.tags(name), about.created_ns, about.order)

    def hold(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """See BucketStore."""
        check_tag(tag)
        wanted = list(snapshots)
        with self._hand_on(*(item.bucket for item in wanted)):
            self._snapshots.hold(wanted, tag)

    def release(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """See BucketStore."""
        check_tag(tag)
        wanted = list(snapshots)
        with self._hand_on(*(item.bucket for item in wanted)):
            self._snapshots.release(wanted, tag)

    def destroy_snapshots(self, snapshots: Sequence[SnapshotId]) -> None:
        """See BucketStore."""
        if len(snapshots) > MAX_DESTROYED:
            raise SnapshotNameError(f"at most {MAX_DESTROYED} at once", field="snapshots")
        with self._hand_on(*(item.bucket for item in snapshots)):
            self._snapshots.destroy(snapshots)

    # Copies elsewhere.

    def send(self, bucket: BucketId, snapshot: str, *, base: str = "", resume: str = "") -> Stream:
        """See BucketStore."""
        with self._hand_on(bucket):
            place = self._place(bucket)
            for name in filter(None, (snapshot, base)):
                if not place.snapshot(name).is_dir():
                    raise SnapshotMissingError(
                        "there is no such snapshot", snapshots=[said(SnapshotId(bucket, name))]
                    )
            pieces = streams.send(place, snapshot, base, resume)
        return Stream(bucket, snapshot, base, self._sent(bucket, pieces))

    def _sent(self, bucket: BucketId, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Whoever sends is a reader: the bucket is neither locked nor destroyed meanwhile."""
        with told():
            self._doors.enter(bucket)
            try:
                yield from pieces
            finally:
                self._doors.leave(bucket)

    def receive(self, bucket: BucketId, stream: Stream) -> None:
        """See BucketStore."""
        with self._hand_on(bucket):
            make_directory(self._root)
            streams.receive(Place(self._root, bucket), stream.pieces, self._fault)

    def resume_token(self, bucket: BucketId) -> str:
        """See BucketStore."""
        with self._hand_on(bucket):
            return streams.resume_token(Place(self._root, bucket))

    def adopt(self, bucket: BucketId) -> None:
        """See BucketStore. Here nothing but the guard tells it from a bucket that was made."""
        with self._hand_on(bucket):
            self._guard(self._place(bucket))

    # The medium.

    def space(self) -> Space:
        """See BucketStore."""
        with told():
            found = os.statvfs(self._root)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    def usage(self, tenant_id: str) -> Usage:
        """See BucketStore."""
        with told():
            return self._quotas.usage(tenant_id)

    def set_quota(self, tenant_id: str, quota: int) -> None:
        """See BucketStore."""
        with told():
            self._quotas.set(tenant_id, quota)

    def health(self) -> list[Ailment]:
        """See BucketStore."""
        try:
            with told():
                make_directory(self._root / "buckets")
                if not os.access(self._root / "buckets", os.R_OK | os.W_OK | os.X_OK):
                    raise StoreUnavailableError("the buckets cannot be written", errno=13)
                os.scandir(self._root / "buckets").close()
        except (StoreUnavailableError, StoreFullError) as error:
            return [
                Ailment("StoreUnavailable", f"{error.message}: recordings wait in the spool.", alarm=True)
            ]
        return []

    def close(self) -> None:
        """See BucketStore."""
        self._doors.close_all()
