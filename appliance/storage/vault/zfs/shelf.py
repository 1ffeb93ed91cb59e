"""Files in buckets: mounted where they are needed, each step done by the agent at a place that it looks at first."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import structlog

from appliance.model import is_id
from appliance.storage.names import BucketId, BucketNameError, SnapshotId
from appliance.storage.vault.errors import (
    BucketLockedError,
    SnapshotMissingError,
    StoredFileCorruptError,
    StoredFileExistsError,
    StoredFileMissingError,
    StoreUnavailableError,
)
from appliance.storage.vault.stored import Stored
from appliance.storage.vault.zfs.datasets import Datasets, Fault
from appliance.storage.vault.zfs.files import ASIDE
from appliance.storage.vault.zfs.mounts import Mount, Mounts
from appliance.storage.vault.zfs.programs import ADOPTED, ORIGIN, Facts
from appliance.storage.vault.zfs.reading import open_remote
from appliance.storage.vault.zfs.snapshots import said
from appliance.storage.vault.zfs.trouble import ASTRAY, Trouble
from appliance.storage.vault.zfs.worker import Worker

SUFFIX: Final = ".ewr"
SIDECAR: Final = ".ewn"
SLOWEST: Final = 4 << 20  # bytes a second: what a copy may take beyond the deadline

log = structlog.get_logger()
T = TypeVar("T")


class Shelf:
    """See the module. The caller holds the bucket's lock; files that are open are read without it."""

    def __init__(
        self, datasets: Datasets, mounts: Mounts, worker: Worker, deadline_s: float, fault: Fault
    ) -> None:
        self._datasets = datasets
        self._tree = datasets.tree
        self._mounts = mounts
        self._worker = worker
        self._deadline_s = deadline_s
        self._fault = fault
        self._swept: set[BucketId] = set()

    def forget(self, bucket: BucketId) -> None:
        """It is not mounted any more."""
        self._mounts.forget(bucket)
        self._swept.discard(bucket)

    def mount(self, bucket: BucketId, facts: Facts, *, write: bool) -> Mount:
        """Mounts a bucket; one that shall be written is marked as open first and says which it is. BucketLockedError."""
        if not facts.key_loaded:
            raise BucketLockedError("the bucket is locked", bucket=bucket.path)
        if not write:
            return self._mounts.mount(bucket, facts.name, readonly=True)
        if facts.is_copy:
            raise StoreUnavailableError("the bucket is a copy: it is read-only", errno=errno.EROFS)
        if not facts.written:
            self._datasets.mark(bucket, is_open=True)
            self._fault("bucket marked as open")
        mount = self._mounts.mount(bucket, facts.name, readonly=False)
        text = f"{bucket.path} {facts.guid}\n"
        adopted = facts.origin == ADOPTED
        said_there = self._worker.call(
            "stamp", changes=[facts.name], place=mount.place(), text=text, adopted=adopted
        ).value
        if said_there != text:
            raise StoreUnavailableError("what is mounted says that it is another bucket", errno=errno.ESTALE)
        if adopted:
            self._datasets.note(bucket, ORIGIN, "")
        mount.stamp = text
        if bucket not in self._swept:
            self._worker.call("sweep", changes=[facts.name], place=mount.place())
            self._swept.add(bucket)
        return mount

    def _place(self, bucket: BucketId, snapshot: str = "", *, write: bool = False) -> Mount:
        """Mounted, and marked where it shall be written. BucketMissingError, BucketLockedError, SnapshotMissingError."""
        source = self._tree.snapshot(SnapshotId(bucket, snapshot)) if snapshot else self._tree.dataset(bucket)
        mount = self._mounts.get(source)
        if mount and not (write and not mount.stamp):
            return mount
        facts = self._datasets.require(bucket, at=snapshot, brief=not write)
        if not snapshot:
            return self.mount(bucket, facts, write=write)
        if not facts.key_loaded:
            raise BucketLockedError("the bucket is locked", bucket=bucket.path)
        if facts.snapshot(snapshot) is None:
            raise SnapshotMissingError("there is no such snapshot", snapshots=[said(bucket, snapshot)])
        return self._mounts.mount(bucket, source, snapshot, readonly=True)

    def _steady(self, bucket: BucketId, work: Callable[[], T]) -> T:
        """Once more where what was mounted is not any more: somebody else unmounted it, or the pool was away."""
        try:
            return work()
        except Trouble as trouble:
            if trouble.kind != ASTRAY:
                raise
            log.warning("a bucket was not mounted any more", bucket=bucket.path)
            self._mounts.forget(bucket)
            return work()

    def _do(self, op: str, bucket: BucketId, snapshot: str = "", *, write: bool = False, **args: Any) -> Any:
        changes = [self._tree.dataset(bucket)] if write else []

        def work() -> Any:
            place = self._place(bucket, snapshot, write=write).place()
            return self._worker.call(op, changes=changes, place=place, **args).value

        return self._steady(bucket, work)

    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """Copies it under a name of its own, gives it its name, then lets `source` go."""
        name, aside = _file(recording_id), _aside(recording_id)
        path = os.path.abspath(source)
        long = self._deadline_s + (source.stat().st_size if source.exists() else 0) / SLOWEST
        try:
            found = self._do(
                "copy_in", bucket, write=True, source=path, name=name, aside=aside, deadline_s=long
            )
        except Trouble as trouble:
            raise _copy_error(trouble, recording_id) from trouble
        if not found["same"]:
            raise StoredFileExistsError(
                "the bucket has another file of this recording", recording_id=recording_id
            )
        if not found["there"]:
            self._fault("file copied")
            self._do("give_name", bucket, write=True, aside=aside, name=name)
        self._fault("file in its bucket")
        self._worker.call("drop", on_pool=False, path=path)
        return int(found["size"])

    def write_sidecar(self, bucket: BucketId, recording_id: str, source: Path) -> None:
        """Copies it under a name of its own, puts it in the place of what was there, then lets `source` go."""
        name, aside = _file(recording_id, SIDECAR), _aside(recording_id, SIDECAR)
        path = os.path.abspath(source)
        try:
            self._do("copy_aside", bucket, write=True, source=path, aside=aside)
        except Trouble as trouble:
            raise _copy_error(trouble, recording_id) from trouble
        self._fault("sidecar copied")
        self._do("replace", bucket, write=True, aside=aside, name=name)
        self._fault("sidecar in its bucket")
        self._worker.call("drop", on_pool=False, path=path)

    def read(self, bucket: BucketId, recording_id: str, snapshot: str, *, sidecar: bool = False) -> BinaryIO:
        """Open at its beginning; counted until it is closed."""
        name = _file(recording_id, SIDECAR if sidecar else SUFFIX)

        def work() -> tuple[Mount, dict[str, int]]:
            mount = self._place(bucket, snapshot)
            return mount, self._worker.call("open", place=mount.place(), name=name).value

        try:
            mount, opened = self._steady(bucket, work)
        except Trouble as trouble:
            raise _missing(trouble, recording_id) from trouble
        handle = opened["handle"]
        self._mounts.opened(mount)
        return open_remote(
            self._worker, handle, opened["size"], recording_id, lambda: self._close_file(mount, handle)
        )

    def _close_file(self, mount: Mount, handle: int) -> None:
        try:
            self._worker.call("close", on_pool=False, handle=handle)
        except StoreUnavailableError:
            pass  # its agent is gone or does not answer: the file goes with it
        finally:
            self._mounts.closed(mount)

    def remove(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """Unlinks them, each sidecar after its recording: what is found without one is looked for in snapshots."""
        names = [_file(one, suffix) for one in recording_ids for suffix in (SUFFIX, SIDECAR)]
        self._do("remove", bucket, write=True, names=names)
        self._fault("files removed")

    def restore(self, bucket: BucketId, snapshot: str, recording_ids: Sequence[str]) -> None:
        """Looks at all of them first; then each is copied back, compared, named."""
        names = {_file(recording_id): recording_id for recording_id in recording_ids}
        long = self._deadline_s * (1 + len(names))
        found = self._both("compare", bucket, snapshot, names=list(names), deadline_s=long)
        for name in found["missing"]:
            raise StoredFileMissingError(
                "the snapshot has no file of this recording", recording_id=names[name]
            )
        for name in found["other"]:
            raise StoredFileExistsError(
                "the bucket has another file of this recording", recording_id=names[name]
            )
        beside = {_file(one, SIDECAR): one for one in recording_ids}
        known = self._both("compare", bucket, snapshot, names=list(beside), deadline_s=long)
        here = {*known["missing"], *known["same"], *known["other"]}
        for name, recording_id in {**beside, **names}.items():
            if name not in (here if name in beside else found["same"]):
                self._bring_back(bucket, snapshot, name, recording_id, long)

    def _bring_back(
        self, bucket: BucketId, snapshot: str, name: str, recording_id: str, deadline_s: float
    ) -> None:
        aside = _aside(recording_id, name[-len(SUFFIX) :])
        try:
            self._both("bring_back", bucket, snapshot, name=name, aside=aside, deadline_s=deadline_s)
        except Trouble as trouble:
            raise _copy_error(trouble, recording_id) from trouble
        self._fault("file copied back")
        self._do("give_name", bucket, write=True, aside=aside, name=name)
        self._fault("file restored")

    def _both(self, op: str, bucket: BucketId, snapshot: str, **args: Any) -> Any:
        def work() -> Any:
            before = self._place(bucket, snapshot).place()
            place = self._place(bucket, write=True).place()
            changes = [self._tree.dataset(bucket)]
            return self._worker.call(op, changes=changes, place=place, snapshot=before, **args).value

        return self._steady(bucket, work)

    def files(self, bucket: BucketId, snapshot: str, suffix: str = SUFFIX) -> list[Stored]:
        """In no order."""
        found = self._do("listing", bucket, snapshot)
        return [Stored(bucket, id_, size) for name, size in found if (id_ := _recording(name, size, suffix))]

    def strange_names(self, mounted: Iterable[Mount]) -> Iterator[str]:
        """Names in mounted buckets that are not ours; none of one that was unmounted meanwhile."""
        for mount in mounted:
            if mount.snapshot:
                continue
            try:
                found = self._worker.call("listing", place=mount.place()).value
            except Trouble as trouble:
                if trouble.kind != ASTRAY:
                    raise
                continue
            for name, size in found:
                if not (_recording(name, size) or _recording(name, size, SIDECAR)):
                    yield f"{mount.bucket.path}/{name}"

    def find(self, bucket: BucketId, recording_id: str, snapshot: str) -> Stored | None:
        """None where there is none."""
        size = self._do("find", bucket, snapshot, name=_file(recording_id))
        return Stored(bucket, recording_id, size) if size >= 0 else None


def _file(recording_id: str, suffix: str = SUFFIX) -> str:
    if not is_id(recording_id):
        raise BucketNameError("a file in a bucket is named by a recording id", field="recording_id")
    return f"{recording_id}{suffix}"


def _recording(name: str, size: int, suffix: str = SUFFIX) -> str:
    """The id of the recording that a file, or a sidecar, is of; empty where it is none."""
    id_ = name.removesuffix(suffix)
    return id_ if size >= 0 and id_ != name and is_id(id_) else ""


def _aside(recording_id: str, suffix: str = SUFFIX) -> str:
    return f".{recording_id}{suffix}.{secrets.token_hex(4)}{ASIDE}"


def _missing(trouble: Trouble, recording_id: str) -> Exception:
    if trouble.number == errno.ENOENT:
        return StoredFileMissingError("the bucket has no file of this recording", recording_id=recording_id)
    return trouble


def _copy_error(trouble: Trouble, recording_id: str) -> Exception:
    if trouble.number == errno.EILSEQ:
        return StoredFileCorruptError(
            "a copy into the bucket came out otherwise", recording_id=recording_id, offset=0
        )
    return trouble
