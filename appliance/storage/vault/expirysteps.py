"""The steps of a retention run, each of which may be done twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import structlog

from appliance.storage.keystore.errors import BucketKeyAbsentError
from appliance.storage.retention.errors import RecordingHeldError
from appliance.storage.retention.items import ItemKind, PlanItem
from appliance.storage.retention.run import Step, StepKind
from appliance.storage.vault.aside import carry
from appliance.storage.vault.contract import (
    GUARD,
    GUARD_TAG,
    HOLD_LINE,
    BucketId,
    BucketState,
    Snapshot,
    SnapshotId,
)
from appliance.storage.vault.core import GRACE_TAG, Vault
from appliance.storage.vault.covering import tag_of
from appliance.storage.vault.duecheck import DueCheck
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketMissingError,
    SnapshotHeldError,
    StoredFileMissingError,
    UnknownFilesError,
)
from appliance.storage.vault.holding import KEPT, Holding, HoldingState
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.sidecars import put, read_raw

REASONS = {
    ItemKind.ERASE_DELETED: "the grace after its deletion is over",
    ItemKind.EXPIRE_BUCKET: "its retention is over",
    ItemKind.DROP_HOLD_RECORDINGS: "its legal hold is released and its retention is over",
}

log = structlog.get_logger()


class Steps:
    """See the module. For one thread."""

    def __init__(self, vault: Vault, eraser: Eraser, legal: LegalHolds, due: DueCheck) -> None:
        self._vault = vault
        self._due = due
        self._eraser = eraser
        self._legal = legal
        self._do: dict[StepKind, Callable[[PlanItem, Step, BucketId], None]] = {
            StepKind.CLOSE: self._close,
            StepKind.EVACUATE: self._evacuate,
            StepKind.RECHECK: self._recheck,
            StepKind.SHRED: self._shred,
            StepKind.CERTIFY: self._certify,
            StepKind.REMOVE: self._remove,
            StepKind.RELEASE: self._release,
            StepKind.DESTROY_SNAPSHOTS: self._destroy_snapshots,
            StepKind.DESTROY_BUCKET: self._destroy_bucket,
            StepKind.SPACE: self._space,
            StepKind.LOCK: self._lock_it,
        }

    def do(self, item: PlanItem, step: Step) -> None:
        """One step of an item. Errors of vault, keystore and store; doing it twice is success."""
        assert item.bucket is not None
        self._do[step.kind](item, step, item.bucket)

    def leave(self, item: PlanItem) -> None:
        """The item is over, done or failed: its bucket takes files again."""
        if item.bucket is not None:
            self._vault.reopen(item.bucket)

    def lock(self, bucket: BucketId) -> None:
        """Locks a bucket, unless somebody uses it."""
        with suppress(BucketBusyError, BucketMissingError):
            self._vault.store.lock(bucket)

    def _close(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        self._vault.shut(bucket)

    # What a legal hold keeps beyond its bucket's time.

    def _evacuate(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        vault, to = self._vault, BucketId(bucket.tenant_id, HOLD_LINE, step.case_id)
        vault.buckets.make(to)
        moved = []
        with vault.moving:
            for name in step.recording_ids:
                held = vault.holdings.get(name)
                if held is None or held.state not in KEPT or held.bucket != bucket:
                    continue  # moved before a crash, or erased since the plan was made
                self._copy(held, to)
                with vault.lock:
                    if vault.unchanged([held]):
                        gone = replace(held, case=step.case_id, parked="")
                        vault.holdings.append([gone])
                        vault.moved(gone)
                        moved.append(gone)
                vault.fault("recording evacuated")
        if moved:
            self._legal.hold_these(step.case_id, iter(moved))

    def _copy(self, held: Holding, to: BucketId) -> None:
        """The file into the hold's bucket, by way of a file of its own, and compared there by the store."""
        vault = self._vault
        vault.buckets.open(held.bucket)
        sidecar = read_raw(vault.store, held.bucket, held.recording_id, held.parked)
        if sidecar:  # before its recording, and each time: it may have grown since a copying that broke off
            put(vault, vault.store, to, held.recording_id, sidecar)
        if vault.store.find(to, held.recording_id) is not None:
            return
        carry(vault.layout, held.recording_id, vault.store, held.bucket, held.parked, vault.store, to)

    # What must hold before anything is destroyed.

    def _recheck(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        vault = self._vault
        if item.kind is ItemKind.DROP_SNAPSHOT:
            self._due.refuse_early(item, bucket, ())
            self._refuse_needed(bucket, set(step.snapshots))
            return
        doomed = self._doomed(item, bucket)
        self._due.refuse_early(item, bucket, doomed)
        cases = {case for held in doomed for case in vault.rules.cases_of(held)}
        if cases:
            raise RecordingHeldError("a legal hold came since the plan was made", cases=cases)
        if not item.whole:
            return
        assert vault.unknown_files is not None, "no run before the first comparison"
        if vault.unknown_files.get(bucket):
            raise UnknownFilesError("files in the bucket are known to nobody", bucket=bucket.path)
        self._refuse_foreign(self._snapshots_of(bucket))

    def _refuse_needed(self, bucket: BucketId, snapshots: set[str]) -> None:
        """SnapshotHeldError where one has, or may have, the file of a recording.

        Nothing is parked meanwhile. Where that broke off, a file is gone from the bucket and the journal does not say yet
        in which snapshot it is: until it does it may be any of them.
        """
        vault = self._vault
        with vault.moving:
            here = [held for held in vault.holdings.in_bucket(bucket) if held.state in KEPT]
            needed = {held.parked for held in here} & snapshots
            waiting = [held for held in here if held.state is HoldingState.DELETED and not held.parked]
            if waiting and not needed:
                vault.buckets.open(bucket)
                if any(vault.store.find(bucket, held.recording_id) is None for held in waiting):
                    needed = snapshots
        if needed:
            raise SnapshotHeldError("a snapshot is needed again", snapshots=sorted(needed), tags=[])

    def _doomed(self, item: PlanItem, bucket: BucketId) -> list[Holding]:
        """Recordings whose keys go: those named, or all that are left in the bucket."""
        if item.kind is ItemKind.EXPIRE_BUCKET:
            return [held for held in self._vault.holdings.in_bucket(bucket) if held.state in KEPT]
        found = [self._vault.holdings.get(name) for name in item.recording_ids]
        still = _still(item)
        return [held for held in found if held is not None and held.state in still and held.bucket == bucket]

    def _snapshots_of(self, bucket: BucketId) -> list[Snapshot]:
        try:
            return list(self._vault.store.snapshots(bucket))
        except BucketMissingError:
            return []

    def _refuse_foreign(self, snapshots: Iterable[Snapshot]) -> None:
        """SnapshotHeldError where a hold is none of ours, or of a case that is open."""
        open_cases = {tag_of(hold.case_id) for hold in self._legal.book.all() if hold.open}
        for item in snapshots:
            ours = {GUARD_TAG, GRACE_TAG}
            foreign = {
                tag
                for tag in item.holds - ours
                if not tag.startswith(("ew.case.", "ew.replica.")) or tag in open_cases
            }
            # Of an open case that has been evacuated the files are elsewhere by now, and so is its hold.
            foreign -= {tag for tag in foreign if tag in open_cases and not self._wanted(item.id.bucket, tag)}
            if foreign:
                raise SnapshotHeldError(
                    "a hold on a snapshot is not explained",
                    snapshots=[f"{item.id.bucket.path}@{item.id.name}"],
                    tags=sorted(foreign),
                )

    def _wanted(self, bucket: BucketId, tag: str) -> bool:
        """Whether a case still names something that lies in this bucket."""
        return any(
            tag in map(tag_of, self._vault.rules.cases_of(held))
            for held in self._vault.holdings.in_bucket(bucket)
            if held.state in KEPT
        )

    # What cannot be taken back.

    def _shred(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        names = [held.recording_id for held in self._doomed(item, bucket)]
        if names or item.whole:
            # Its turn may come late: what was brought back meanwhile stays.
            self._eraser.erase_all(
                names, REASONS[item.kind], bucket=bucket if item.whole else None, states=_still(item)
            )

    def _certify(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        """Shredding writes the certificates; where that broke off, its intent does."""
        self._eraser.resume()

    def _remove(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        with self._vault.moving:
            try:
                self._vault.buckets.open(bucket)
                self._vault.store.remove(bucket, step.recording_ids)
            except (BucketMissingError, BucketKeyAbsentError, StoredFileMissingError):
                return

    def _release(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        wanted = set(step.snapshots) - {GUARD}
        found = [one for one in self._snapshots_of(bucket) if one.id.name in wanted]
        self._refuse_foreign(found)
        if not item.whole:
            self._refuse_sent(found)
        for one in found:
            for tag in one.holds:
                self._vault.store.release([one.id], tag)

    @staticmethod
    def _refuse_sent(snapshots: Iterable[Snapshot]) -> None:
        """SnapshotHeldError where a copy elsewhere has come to need one since the plan was made."""
        sent = {f"{one.id.bucket.path}@{one.id.name}": tags for one in snapshots if (tags := _copies(one))}
        if sent:
            raise SnapshotHeldError(
                "a copy elsewhere needs a snapshot now",
                snapshots=sorted(sent),
                tags=sorted(set().union(*sent.values())),
            )

    def _destroy_snapshots(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        names = [SnapshotId(bucket, name) for name in step.snapshots if name != GUARD]
        if names:
            self._vault.store.destroy_snapshots(names)

    def _destroy_bucket(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        # Snapshots that were taken since the plan was made: of an evacuated hold, of a replica.
        late = [one for one in self._snapshots_of(bucket) if one.id.name != GUARD]
        self._refuse_foreign(late)
        for one in late:
            for tag in one.holds:
                self._vault.store.release([one.id], tag)
        for first in range(0, len(late), 500):
            self._vault.store.destroy_snapshots([one.id for one in late[first : first + 500]])
        self._vault.store.destroy(bucket)

    def _space(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        self._vault.store.space()

    def _lock_it(self, item: PlanItem, step: Step, bucket: BucketId) -> None:
        if self._vault.store.state(bucket) is BucketState.ABSENT:
            return None
        deadline = time.monotonic() + 30.0
        while True:
            try:
                return self._vault.store.lock(bucket)
            except BucketBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _still(item: PlanItem) -> tuple[HoldingState, ...]:
    """The states in which a recording is still what the plan named."""
    return (HoldingState.DELETED,) if item.kind is ItemKind.ERASE_DELETED else KEPT


def _copies(snapshot: Snapshot) -> set[str]:
    return {tag for tag in snapshot.holds if tag.startswith("ew.replica.")}
