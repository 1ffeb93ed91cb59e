"""The contract on ZFS datasets. This says what is done in which order; the modules beside it say how.

Nothing here touches the pool: the agent does, and each call has a deadline. A bucket's lock is held while it is changed,
and while a file of it is being opened; files that are open are read without it.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from appliance.model import EarwitnessError
from appliance.storage.names import (
    GUARD,
    GUARD_TAG,
    BucketId,
    SnapshotId,
    check_mark,
    check_properties,
    check_snapshot_name,
    check_tag,
)
from appliance.storage.vault.errors import (
    SnapshotsRemainError,
    StoreRefusedError,
    StoreSuspendedError,
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
from appliance.storage.vault.zfs import gate
from appliance.storage.vault.zfs.commands import Commands
from appliance.storage.vault.zfs.datasets import Datasets, Fault, state_of
from appliance.storage.vault.zfs.doors import Doors
from appliance.storage.vault.zfs.health import Health
from appliance.storage.vault.zfs.medium import Medium
from appliance.storage.vault.zfs.mounts import Mounts
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.programs import Facts
from appliance.storage.vault.zfs.send import Copies
from appliance.storage.vault.zfs.shelf import Shelf
from appliance.storage.vault.zfs.snapshots import Snapshots, described
from appliance.storage.vault.zfs.storedfiles import StoredFiles
from appliance.storage.vault.zfs.strangers import ours, strangers
from appliance.storage.vault.zfs.tree import Tree
from appliance.storage.vault.zfs.trouble import Trouble, told
from appliance.storage.vault.zfs.worker import Worker

START_S: Final = 60.0  # for an agent that starts

log = structlog.get_logger()
T = TypeVar("T")


class ZfsStore(StoredFiles):
    """See the module. `root`: a dataset; `mounts`: a private directory that is not on the pool; see `open_store`."""

    backend = "zfs"

    def __init__(self, root: str, mounts: Path, *, deadline_s: float, fault: Fault) -> None:
        self._deadline_s = deadline_s
        self._fault = fault
        self._folder = mounts
        tree = Tree(root)
        self._tree = tree
        self._pool = Pool(tree.pool)
        self._worker = Worker(self._pool, deadline_s)
        self._commands = Commands(self._pool, deadline_s)
        self._doors = Doors(deadline_s, self._pool.refuse_hopeless)
        self._datasets = Datasets(tree, self._worker, self._commands, fault)
        self._mounts = Mounts(mounts, self._worker, self._doors)
        self._shelf = Shelf(self._datasets, self._mounts, self._worker, deadline_s, fault)
        self._snapshots = Snapshots(self._datasets, self._worker, fault)
        self._copies = Copies(self._datasets, self._snapshots, self._commands, self._pool, deadline_s)
        self._medium = Medium(self._datasets, self._commands, deadline_s)
        self._health = Health(self._pool, self._look, self._stuck, lambda: self._medium.relieved)
        self._gate = threading.Lock()
        self._passed = False
        self._refused: StoreRefusedError | None = None

    # Before anything else.

    def begin(self) -> None:
        """Passes the gate, and makes the root where the pool is there. StoreRefusedError."""
        self.pass_gate()
        try:
            with self._at():
                pass
        except StoreUnavailableError as error:
            log.warning("the pool is not there yet", reason=error.reason)

    def pass_gate(self) -> None:
        """StoreRefusedError where the software beneath is not what the store may stand on. Once is enough."""
        with self._gate:
            if self._passed:
                return
            try:
                said_version = self._commands.run("zfs", "version")
            except (Trouble, StoreUnavailableError):
                said_version = ""  # told below as what it is: no commands
            found = gate.gather(
                self._worker.call("library", on_pool=False, deadline_s=START_S).value, said_version
            )
            try:
                gate.check(found)
            except StoreRefusedError as error:
                self._refused = error
                raise
            self._refused = None
            self._passed = True
            log.info("stands on OpenZFS", found=found.words())

    @contextmanager
    def _at(self, *buckets: BucketId, tenant_id: str = "") -> Iterator[None]:
        """The locks of these buckets; what the system says becomes errors of the contract."""
        bucket = buckets[0] if len(buckets) == 1 else None
        with told(bucket, tenant_id):
            self.pass_gate()
            try:
                self._pool.refuse_hopeless()
            except StoreSuspendedError:
                raise
            except StoreUnavailableError:
                self._medium.forget()
                raise
            self._medium.prepare()
            with self._doors.hand_on(*buckets):
                yield

    def _relieving(self, do: Callable[[], None]) -> None:
        """What gives space back needs a little first: where there is none, the reserve goes."""
        try:
            do()
        except Trouble as trouble:
            if trouble.number != errno.ENOSPC or not self._medium.relieve():
                raise
            do()

    # Buckets and their keys.

    def state(self, bucket: BucketId) -> BucketState:
        """See BucketStore."""
        with self._at():
            mount = self._mounts.get(self._tree.dataset(bucket))
            if mount and self._mounts.is_there(mount):
                return BucketState.OPEN
            return state_of(self._datasets.bucket(bucket, brief=True))

    def create(self, bucket: BucketId, key: bytes) -> None:
        """See BucketStore."""
        with self._at(bucket):
            facts = self._datasets.make(bucket, key)
            self._snapshots.guard(bucket, facts)
            self._shelf.mount(bucket, facts, write=not facts.is_copy)

    def unlock(self, bucket: BucketId, key: bytes) -> None:
        """See BucketStore. Where the bucket was not closed in good order it is mounted once, which completes its files."""
        with self._at(bucket):
            facts = self._datasets.require(bucket, at=GUARD)
            self._datasets.open_with(bucket, facts, key)
            self._snapshots.guard(bucket, facts)
            self._replay(bucket, facts)

    def lock(self, bucket: BucketId) -> None:
        """See BucketStore."""
        with self._at(bucket):
            self._lock(bucket)

    def _lock(self, bucket: BucketId) -> None:
        facts = self._datasets.require(bucket, brief=True)
        if not facts.key_loaded:
            return
        self._mounts.refuse_busy(bucket)
        self._replay(bucket, facts)
        self._mounts.unmount_bucket(bucket, facts.name)
        self._fault("bucket unmounted")
        self._datasets.unload(bucket)
        self._fault("key unloaded")
        if facts.written:
            self._relieving(lambda: self._datasets.mark(bucket, is_open=False))
            self._fault("bucket marked as closed")

    def _replay(self, bucket: BucketId, facts: Facts) -> None:
        """After a power cut the last seconds of a bucket are in its intent log, and mounting it writes them out."""
        if facts.written and not self._mounts.is_clean(facts.name):
            self._mounts.mount(bucket, facts.name, readonly=True)

    def buckets(self) -> Iterator[BucketId]:
        """See BucketStore."""
        with self._at():
            found = [bucket for bucket, _ in self._datasets.buckets()]
        yield from found

    def survey(self, *, snapshots: bool = True) -> Survey:
        """See BucketStore."""
        with self._at():
            found = list(self._datasets.walk(tags=snapshots, brief=True))
            beside = list(self._shelf.strange_names(self._mounts.mounted())) if snapshots else []
        buckets = {
            bucket: Surveyed(state_of(facts), facts.mark, ours(facts.tags))
            for facts in found
            if (bucket := self._tree.bucket(facts.name)) and state_of(facts) is not BucketState.ABSENT
        }
        strange = sorted([*strangers(self._tree, found), *beside]) if snapshots else ()
        return Survey(dict(sorted(buckets.items())), tuple(strange))

    def mark(self, marks: Mapping[BucketId, str]) -> None:
        """See BucketStore."""
        for word in marks.values():
            check_mark(word)
        with self._at(*marks):
            self._relieving(lambda: self._datasets.mark_compared(marks))

    def destroy(self, bucket: BucketId) -> None:
        """See BucketStore. A dataset of this name that is not marked as ours is absent here: it stays."""
        with self._at(bucket):
            self._relieving(lambda: self._destroy(bucket))
            self._medium.freeing = True

    def _destroy(self, bucket: BucketId) -> None:
        facts = self._datasets.bucket(bucket, snapshots=True)
        if facts is None or facts.kind != "bucket":
            return
        if facts.unfinished:
            self._copies.abort(bucket)
            return
        self._mounts.refuse_busy(bucket)
        left = self._snapshots.refuse_left(bucket, facts, frozenset({GUARD_TAG}))
        left += [self._tree.below(child) for child in facts.children]
        if left:
            raise SnapshotsRemainError("the bucket has snapshots", snapshots=left)
        self._mounts.unmount_bucket(bucket, facts.name)
        self._fault("bucket unmounted")
        if facts.key_loaded:
            self._datasets.unload(bucket)
            self._fault("key unloaded")
        self._snapshots.drop_guard(bucket, facts)
        self._datasets.destroy(facts.name)
        self._fault("bucket destroyed")
        self._shelf.forget(bucket)

    # Snapshots.

    def snapshot(
        self, buckets: Sequence[BucketId], name: str, properties: Mapping[str, str] | None = None
    ) -> None:
        """See BucketStore. BucketLockedError where a locked one was not closed in good order: unlock it first."""
        check_snapshot_name(name)
        check_properties(properties or {})
        wanted = list(dict.fromkeys(buckets))

        def replay(bucket: BucketId, facts: Facts) -> bool:
            if facts.written and not facts.key_loaded:
                return False
            self._replay(bucket, facts)
            return True

        with self._at(*wanted):
            self._relieving(lambda: self._snapshots.take(wanted, name, properties or {}, replay))

    def snapshots(self, bucket: BucketId | None = None) -> Iterator[Snapshot]:
        """See BucketStore."""
        with self._at():
            if bucket is None:
                found = list(self._datasets.buckets(snapshots=True))
            else:
                found = [(bucket, self._datasets.require(bucket, snapshots=True))]
        for one, facts in found:
            yield from described(one, facts)

    def hold(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """See BucketStore."""
        check_tag(tag)
        wanted = list(snapshots)
        with self._at(*(one.bucket for one in wanted)):
            self._relieving(lambda: self._snapshots.hold(wanted, tag))

    def release(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """See BucketStore."""
        check_tag(tag)
        wanted = list(snapshots)
        with self._at(*(one.bucket for one in wanted)):
            self._relieving(lambda: self._snapshots.release(wanted, tag))

    def destroy_snapshots(self, snapshots: Sequence[SnapshotId]) -> None:
        """See BucketStore."""
        with self._at(*(one.bucket for one in snapshots)):
            self._relieving(lambda: self._snapshots.destroy(snapshots, self._unmount_snapshot))
            self._medium.freeing = True

    def _unmount_snapshot(self, snapshot: SnapshotId) -> None:
        self._mounts.unmount_snapshot(snapshot.bucket, self._tree.snapshot(snapshot), snapshot.name)

    # Copies elsewhere.

    def send(self, bucket: BucketId, snapshot: str, *, base: str = "", resume: str = "") -> Stream:
        """See BucketStore. `base` may be a snapshot that is destroyed, where it was one of a replica."""
        with self._at(bucket):
            return self._copies.send(bucket, snapshot, base, resume)

    def receive(self, bucket: BucketId, stream: Stream) -> None:
        """See BucketStore."""
        with self._at(bucket):
            self._copies.receive(bucket, stream, lambda: self._lock(bucket))

    def resume_token(self, bucket: BucketId) -> str:
        """See BucketStore."""
        with self._at(bucket):
            return self._copies.resume_token(bucket)

    def adopt(self, bucket: BucketId) -> None:
        """See BucketStore."""
        with self._at(bucket):
            facts = self._datasets.require(bucket, at=GUARD)
            if facts.is_copy:
                self._lock(bucket)
                self._relieving(lambda: self._datasets.adopt(facts))
                self._fault("bucket adopted")
                facts = self._datasets.require(bucket, at=GUARD)
            self._snapshots.guard(bucket, facts)

    # The medium.

    def space(self) -> Space:
        """See BucketStore."""
        with self._at():
            return self._medium.space()

    def usage(self, tenant_id: str) -> Usage:
        """See BucketStore."""
        with self._at(tenant_id=tenant_id):
            return self._medium.usage(tenant_id)

    def set_quota(self, tenant_id: str, quota: int) -> None:
        """See BucketStore."""
        with self._at(tenant_id=tenant_id):
            self._medium.set_quota(tenant_id, quota)

    def health(self) -> list[Ailment]:
        """See BucketStore."""
        if self._refused:
            return [Ailment("StoreRefused", f"{self._refused.message}.", alarm=True)]
        return self._health.ailments()

    def _look(self) -> tuple[dict[str, Any], Space]:
        name = self._pool.name
        status = self._commands.json("zpool", "status", "-j", name)["pools"].get(name, {})
        return status, self._medium.free()

    def _stuck(self) -> int:
        return len(self._worker.stuck()) + len(self._commands.stuck())

    def close(self) -> None:
        """See BucketStore. Where the pool does not answer, what is open stays open until it is let go."""
        self._copies.close()
        try:
            if not self._passed:
                return
            with self._at():
                open_ = [bucket for bucket, facts in self._datasets.buckets() if facts.key_loaded]
            for bucket in open_:
                try:
                    self.lock(bucket)
                except EarwitnessError as error:
                    log.warning("a bucket stays open", bucket=bucket.path, reason=error.reason)
        except EarwitnessError as error:
            log.warning("buckets stay as they are", reason=error.reason)
        finally:
            self._worker.close()
