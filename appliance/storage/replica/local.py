"""A replica that is a second store of this machine: another pool, or another directory."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from appliance.storage.names import GUARD, GUARD_TAG, BucketId, SnapshotId
from appliance.storage.replica.errors import (
    ReplicaExpiredError,
    ReplicaLogFirstError,
    ReplicaSignatureError,
)
from appliance.storage.replica.identity import Identity
from appliance.storage.replica.ledger import Ledger, bucket_at
from appliance.storage.replica.papers import Mark, Notice, Receipt, check_name, mark_of, number_in
from appliance.storage.replica.target import Copy, ReplicaTarget
from appliance.storage.vault.contract import Ailment, BucketStore, Snapshot, Stream
from appliance.storage.vault.deletionlog import Deletion, DeletionKind
from appliance.storage.vault.errors import BucketMissingError

AT_ONCE: Final = 500  # snapshots in one call
_CASE: Final = "ew.case."

log = structlog.get_logger()


class LocalTarget(ReplicaTarget):
    """See the module. `state`: its own directory, best on the replica's medium. Closes the store when it is closed.

    ReplicaBusyError where another process has it, ReplicaForeignError, ReplicaStateError.
    """

    def __init__(
        self,
        store: BucketStore,
        state: Path,
        name: str,
        *,
        fault: Callable[[str], None] = lambda step: None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        check_name(name)
        self.name = name
        self._store = store
        self._fault = fault
        self._clock = clock
        self._lock = threading.RLock()
        self._identity = Identity(state, name)
        try:
            self._ledger = Ledger(state / "log")
        except BaseException:
            self._identity.close()
            raise

    def close(self) -> None:
        """See ReplicaTarget."""
        self._ledger.close()
        self._identity.close()
        self._store.close()

    def greet(self, device_public_key: str) -> Receipt:
        """See ReplicaTarget."""
        with self._lock:
            self._identity.pin(device_public_key)
            return self._receipt()

    def _receipt(self) -> Receipt:
        ledger = self._ledger
        receipt = Receipt(self.name, self._identity.primary, ledger.number, ledger.digest, self._clock())
        return receipt.sign(self._identity.key)

    # The log.

    def apply(self, entries: Sequence[Deletion]) -> Receipt:
        """See ReplicaTarget."""
        with self._lock:
            for entry in entries:
                if self._ledger.accept(entry, self._identity.primary):
                    self._follow(entry)
                    self._fault("entry's effects are there")
                    self._ledger.append(entry)
                    self._fault("entry followed")
            return self._receipt()

    def _follow(self, entry: Deletion) -> None:
        match entry.kind:
            case DeletionKind.HELD:
                self._hold(entry)
            case DeletionKind.RELEASED:
                self._release(entry.case)
            case DeletionKind.EXPIRED:
                for path in entry.buckets:
                    if not self._ledger.cases_at(path):
                        self._destroy(bucket_at(path))
            case DeletionKind.ERASED:
                pass  # their keys are destroyed: what is here is noise, and goes with the next stream

    def _hold(self, entry: Deletion) -> None:
        """What of these places is here; what comes later is held when it is arranged."""
        named: dict[str, set[str]] = defaultdict(set)
        for place in entry.snapshots:
            path, _, name = place.partition("@")
            named[path].add(name)
        for path in sorted({*entry.buckets, *named}):
            here = self._snapshots(bucket_at(path))
            wanted = [one for one in here if one.id.name in named[path]]
            if path in entry.buckets:
                wanted += self._own(here)[-1:]
            self._tag(wanted, _CASE + entry.case)

    def _release(self, case: str) -> None:
        tag = _CASE + case
        for path in sorted(self._ledger.places_of(case)):
            held = [one.id for one in self._snapshots(bucket_at(path)) if tag in one.holds]
            self._store.release(held, tag)
            self._fault("released there")
        for path in sorted(self._ledger.waiting):
            if self._ledger.cases_at(path) == [case]:
                self._destroy(bucket_at(path))

    def _destroy(self, bucket: BucketId) -> None:
        """With its snapshots; one that something holds which the log does not explain stops it. SnapshotHeldError."""
        here = self._snapshots(bucket)
        for one in here:
            for tag in one.holds:
                if tag.removeprefix(_CASE) in self._ledger.released:
                    self._store.release([one.id], tag)  # of an older copy that was put back
        self._drop([one.id for one in here if one.id.name != GUARD])
        self._store.destroy(bucket)
        self._fault("copy destroyed")
        log.info("copy destroyed", replica=self.name, bucket=bucket.path)

    # Snapshots.

    def _snapshots(self, bucket: BucketId) -> list[Snapshot]:
        try:
            return list(self._store.snapshots(bucket))
        except BucketMissingError:
            return []

    def _own(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        return [one for one in snapshots if number_in(self.name, one.id.name)]

    def _tag(self, snapshots: Sequence[Snapshot], tag: str) -> None:
        late = [one.id for one in snapshots if tag not in one.holds]
        if late:
            self._store.hold(late, tag)
            self._fault("held there")

    def _drop(self, names: Sequence[SnapshotId]) -> None:
        for first in range(0, len(names), AT_ONCE):
            self._store.destroy_snapshots(names[first : first + AT_ONCE])
            self._fault("snapshots dropped")

    # Copies.

    def copies(self) -> Mapping[BucketId, Copy]:
        """See ReplicaTarget."""
        found: dict[BucketId, list[Mark]] = {bucket: [] for bucket in self._store.buckets()}
        for one in self._store.snapshots():
            found.setdefault(one.id.bucket, []).append(mark_of(one))
        return {
            bucket: Copy(tuple(marks), kept=bucket.path in self._ledger.waiting)
            for bucket, marks in found.items()
        }

    def copy(self, bucket: BucketId) -> Copy:
        """See ReplicaTarget."""
        marks = tuple(mark_of(one) for one in self._snapshots(bucket))
        return Copy(marks, self._store.resume_token(bucket), bucket.path in self._ledger.waiting)

    def receive(self, stream: Stream, notice: Notice) -> None:
        """See ReplicaTarget."""
        self._check(notice, stream.bucket)
        self._store.receive(stream.bucket, stream)

    def _check(self, notice: Notice, bucket: BucketId) -> None:
        with self._lock:
            right = (notice.replica, notice.bucket) == (self.name, bucket.path)
            if not right or not notice.holds(self._identity.primary):
                raise ReplicaSignatureError("a notice is not the box's", what="notice")
            if notice.number > self._ledger.number:
                raise ReplicaLogFirstError(
                    "the deletion log comes before the buckets",
                    number=self._ledger.number,
                    wanted=notice.number,
                )
            if notice.number < self._ledger.expired.get(bucket.path, 0):
                raise ReplicaExpiredError("the bucket has expired", bucket=bucket.path)

    def arrange(self, notice: Notice) -> None:
        """See ReplicaTarget."""
        bucket = bucket_at(notice.bucket)
        self._check(notice, bucket)
        with self._lock:
            here = self._snapshots(bucket)
            if not here:
                return
            guards = [one for one in here if one.id.name == GUARD]
            self._tag(guards, GUARD_TAG)
            self._hold_newest(bucket, here)
            self._let_go(bucket, notice)

    def _hold_newest(self, bucket: BucketId, here: Sequence[Snapshot]) -> None:
        """What a case holds lies in the newest as in those before, since it cannot be deleted: the newest is enough."""
        own = self._own(here)
        for case in self._ledger.cases_in(bucket.path):
            self._tag(own[-1:], _CASE + case)
            self._store.release([one.id for one in own[:-1] if _CASE + case in one.holds], _CASE + case)
        for one in here:
            for case in self._ledger.cases_of(bucket.path, one.id.name):
                self._tag([one], _CASE + case)

    def _let_go(self, bucket: BucketId, notice: Notice) -> None:
        """Of its own all but the newest, and what the box has no more; not what is held, nor what streams go on from.

        Of a copy that is not as new as the notice: only what is in the way of another of its name.
        """
        here = self._snapshots(bucket)
        wanted = {mark.name: mark for mark in notice.snapshots}
        newest = [mark for mark in notice.snapshots if number_in(self.name, mark.name)][-1:]
        complete = newest == [mark_of(here[-1])]
        gone = []
        for one in here[:-1]:
            mark = mark_of(one)
            own = number_in(self.name, mark.name) > 0
            if one.holds or not (own or mark.name.startswith("g-")):
                continue
            if (own and complete) or mark != wanted.get(mark.name, None if complete else mark):
                gone.append(one.id)
        self._drop(gone)

    def discard(self, notice: Notice) -> None:
        """See ReplicaTarget."""
        bucket = bucket_at(notice.bucket)
        self._check(notice, bucket)
        if not notice.anew:
            raise ReplicaSignatureError("a notice does not say that the copy comes anew", what="notice")
        with self._lock:
            for one in self._snapshots(bucket):
                for tag in one.holds:
                    if tag.startswith(_CASE):
                        self._store.release([one.id], tag)
            self._destroy(bucket)

    # Back.

    def send(self, bucket: BucketId, snapshot: str, *, base: str = "", resume: str = "") -> Stream:
        """See ReplicaTarget."""
        return self._store.send(bucket, snapshot, base=base, resume=resume)

    def health(self) -> list[Ailment]:
        """See ReplicaTarget."""
        return self._store.health()

    def erased(self, recording_ids: Collection[str]) -> set[str]:
        """See ReplicaTarget."""
        with self._lock:
            return self._ledger.erased(recording_ids)
