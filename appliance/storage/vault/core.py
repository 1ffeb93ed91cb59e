"""What the vault knows and does for others: holdings, keys for a reading, delete and undelete. No network here.

`Vault` holds the parts together; `filing`, `parking`, `erasure`, `legal`, `expiry` and `reconcile` work on it. Reading
takes no lock, so that it goes on while files are moved and keys are shredded.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import structlog

from appliance.config.layout import Layout
from appliance.model import InvalidError, is_id
from appliance.process.status import Status
from appliance.storage.keystore import Keystore, RootSlot, publish_deposit_key
from appliance.storage.keystore.errors import KeyAbsentError
from appliance.storage.keystore.files import make_directory
from appliance.storage.keystore.reach import Reach
from appliance.storage.keystore.rootslot import Fault, no_fault
from appliance.storage.retention.errors import RecordingHeldError
from appliance.storage.sealed import Header
from appliance.storage.vault.aside import sweep
from appliance.storage.vault.buckets import Buckets
from appliance.storage.vault.contract import BucketId, BucketStore, SliceUnit
from appliance.storage.vault.deletionlog import DeletionLog
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.errors import (
    RecordingDeletedError,
    RecordingErasedError,
    RecordingKeyAbsentError,
    RecordingLiveError,
    RecordingNotFoundError,
    RecordingQuarantinedError,
    RecordingSpooledError,
)
from appliance.storage.vault.holding import Certificate, Holding, HoldingState
from appliance.storage.vault.index import Holdings

MAX_REASON = 1000  # characters
GRACE_TAG = "ew.grace"

log = structlog.get_logger()


class Rules(Protocol):
    """What the vault asks of policies, legal holds and the retention clock."""

    def cases_of(self, held: Holding) -> Sequence[str]:
        """Open legal holds that name a recording."""

    def kept_from(self, created_ns: int) -> int:
        """What a recording's retention counts from: its creation, unless the clock was wrong then."""

    def latest_ns(self) -> int:
        """The latest that it is now, by the retention clock: for dating what is new."""

    def slice_unit(self, tenant_id: str, line_id: str) -> SliceUnit:
        """How long the slices of a line's buckets are at present."""

    def filed(self, held: Holding) -> None:
        """A recording was filed, or went to quarantine: a legal hold may name it."""


class Unruled:
    """No policy and no hold: before `retention` is there."""

    def cases_of(self, held: Holding) -> Sequence[str]:
        """See Rules."""
        return ()

    def kept_from(self, created_ns: int) -> int:
        """See Rules."""
        return created_ns

    def latest_ns(self) -> int:
        """See Rules."""
        return time.time_ns()

    def slice_unit(self, tenant_id: str, line_id: str) -> SliceUnit:
        """See Rules."""
        return SliceUnit.DAY

    def filed(self, held: Holding) -> None:
        """See Rules."""


class Vault:
    """See the module. `clock`: nanoseconds since the Unix epoch."""

    def __init__(
        self,
        layout: Layout,
        keystore: Keystore,
        store: BucketStore,
        holdings: Holdings,
        status: Status,
        *,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.layout = layout
        self.keystore = keystore
        self.store = store
        self.holdings = holdings
        holdings.reach = lambda: keystore.reached
        self.status = status
        self.fault = fault
        self.clock = clock
        self.buckets = Buckets(keystore, store)
        self.lock = threading.RLock()
        """Covers a change of holdings: milliseconds."""
        self.moving = threading.RLock()
        """Covers the moving of files of recordings that are filed; taken before `lock`, never after it."""
        self.rules: Rules = Unruled()
        """What policies and legal holds say; `retention` sets it."""
        self.comparing = threading.Lock()
        """Covers a comparison of buckets and journal; taken before `moving`, never after it."""
        self.unknown_files: dict[BucketId, int] | None = None
        """Files that no holding tells of and recordings without a key, by bucket, as the last comparison found them.

        None before the first.
        """
        self.keys_absent = 0
        """Recordings without a key that nobody erased, as the last comparison found them."""
        self.rearranged: Counter[BucketId] = Counter()
        """How often `reconcile` changed files of a bucket of which nothing is to be journalled."""
        self._filing = threading.Condition()
        self._shut: set[BucketId] = set()
        self._busy: Counter[BucketId] = Counter()
        self.arriving: dict[str, Header] = {}
        """Headers of files that may have left the spool, and that the journal does not tell of yet."""
        self.erasing: set[str] = set()
        """Recordings whose erasure is asked for and not done: nothing else may happen to them."""
        self.deletions = DeletionLog(layout.vault / "deletions", lambda: keystore.device_key, clock)
        """What copies elsewhere must follow."""
        self.replicas: tuple[str, ...] = ()
        """Names of the copies elsewhere."""
        self.confirmed: dict[str, int] = {}
        """By the name of a copy elsewhere: the entry of the deletion log up to which it has followed."""
        self.last_erasure_ns = holdings.last_erasure_ns()
        self._unparked = {held.recording_id for held in holdings.where("state = 'deleted' AND parked = ''")}

    @classmethod
    def open(
        cls,
        layout: Layout,
        status: Status,
        *,
        store: BucketStore | None = None,
        slots: RootSlot | None = None,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Opens keystore, journal and buckets, and publishes the deposit key. Errors as Keystore.open.

        `store`: the buckets; absent: directories in `layout.vault`. It may be ill, and the vault opens all the same: what
        is recorded waits in the spool. `slots`: where root keys lie; absent: in files. A keystore is made only where there
        is no journal: nobody could read those that are there. KeystoreRolledBackError where the journal has certificates
        of a later epoch, or the keystore is known to have gone further.
        """
        for folder in (layout.vault, layout.spool_keys, layout.spool_recordings):
            make_directory(folder)
        holdings = Holdings(layout.vault)
        floor = max(holdings.reached, Reach(holdings.last_epoch()))
        try:
            keystore = Keystore.open(
                layout.keystores,
                create=holdings.position == 0,
                slots=slots,
                floor_epoch=floor.epoch,
                floor_records=floor.records,
                fault=fault,
                clock=clock,
            )
        except BaseException:
            holdings.close()
            raise
        store = store or DirectoryStore(layout.vault, fault=fault)
        vault = cls(layout, keystore, store, holdings, status, fault=fault, clock=clock)
        left = sweep(layout)
        if left:
            log.info("files that were on their way removed", count=left)
        vault.publish()
        return vault

    def close(self) -> None:
        """Lets another process open it."""
        self.store.close()
        self.deletions.close()
        self.keystore.close()
        self.holdings.close()

    def publish(self) -> None:
        """Tells capture the present deposit key."""
        publish_deposit_key(self.layout.deposit_key, self.keystore.deposit_public_key)

    @property
    def quarantine(self) -> Path:
        """Where what cannot be filed is kept."""
        return self.layout.vault / "quarantine"

    def quarantined(self) -> int:
        """How many files are there for somebody to look at: without those of erased recordings, which are noise."""
        return sum(not self._certified(path.name.split(".")[0]) for path in self.quarantine.glob("*"))

    def _certified(self, name: str) -> bool:
        held = self.holdings.get(name) if is_id(name) else None
        return held is not None and held.certificate is not None

    @property
    def intents(self) -> Path:
        """Erasures that were begun."""
        return self.layout.vault / "erasing"

    def spooled(self, recording_id: str, suffix: str) -> Path:
        """A file in the spool: `.part` or `.sealed`."""
        return self.layout.spool_recordings / f"{recording_id}{suffix}"

    # Reading.

    def holding(self, recording_id: str) -> Holding:
        """What there is of a recording; errors tell where it is when it is not held yet."""
        if not is_id(recording_id):
            raise InvalidError("this is no recording id", field="recording_id")
        found = self.holdings.get(recording_id)
        if found is not None:
            return found
        if self.spooled(recording_id, ".sealed").exists():
            raise RecordingSpooledError(
                "the recording has ended and is not filed yet", recording_id=recording_id
            )
        if self.spooled(recording_id, ".part").exists():
            raise RecordingLiveError("the recording is still being made", recording_id=recording_id)
        found = self.holdings.get(recording_id)  # it may have been filed just now
        if found is None:
            raise RecordingNotFoundError("the vault holds no such recording", recording_id=recording_id)
        return found

    def readable(self, recording_id: str, *, deleted: bool = False) -> Holding:
        """The holding of a recording that may be read: filed (or `deleted`, within its grace), not about to be erased."""
        found = self.holding(recording_id)
        self.refuse_erased(found)
        if found.state is HoldingState.DELETED and not deleted:
            raise RecordingDeletedError("the recording is deleted", recording_id=recording_id)
        if found.state is HoldingState.QUARANTINED:
            raise RecordingQuarantinedError("the recording is in quarantine", recording_id=recording_id)
        return found

    def refuse_erased(self, found: Holding) -> None:
        """RecordingErasedError where its key is destroyed, or is about to be."""
        if found.state is HoldingState.ERASED or found.recording_id in self.erasing:
            raise RecordingErasedError(
                "the recording is erased: nobody can read it", recording_id=found.recording_id
            )

    def lease(self, recording_id: str, *, deleted: bool = False) -> bytes:
        """The data key of a filed recording, for one reading. Who reads and why is in the audit log of who asks."""
        self.readable(recording_id, deleted=deleted)
        key = self.data_key(recording_id)
        log.info("key leased", recording=recording_id)
        return key

    def data_key(self, recording_id: str) -> bytes:
        """The data key of what the vault holds. RecordingErasedError; RecordingKeyAbsentError where nobody destroyed it."""
        try:
            return self.keystore.data_key(recording_id)
        except KeyAbsentError as error:
            with self.lock:
                self.refuse_erased(self.holding(recording_id))
            raise RecordingKeyAbsentError(
                "the keystore has no key of this recording, and it was not erased: was an older keystore put back?",
                recording_id=recording_id,
            ) from error

    def keyless(self, held: Holding) -> bool:
        """Whether a recording has no key though nobody is erasing it: until the key is back it is kept as it is."""
        return held.recording_id not in self.keystore and held.recording_id not in self.erasing

    def read(self, recording_id: str, *, deleted: bool = False) -> BinaryIO:
        """The sealed file of a filed recording (or of a `deleted` one: out of its snapshot), open for reading."""
        found = self.readable(recording_id, deleted=deleted)
        self.buckets.open(found.bucket)
        return self.store.read(found.bucket, recording_id, snapshot=found.parked)

    def erased_everywhere(self, certificate: Certificate) -> bool:
        """Whether each copy elsewhere that this erasure concerns has said that it has followed."""
        return all(self.confirmed.get(name, 0) >= certificate.log_number for name in certificate.replicas)

    # Delete: the journal alone, which is the answer; `parking` moves the file.

    def changeable(self, recording_id: str) -> Holding:
        """The holding of a recording that may be deleted or undeleted: not erased, not in quarantine."""
        found = self.holding(recording_id)
        self.refuse_erased(found)
        if found.state is HoldingState.QUARANTINED:
            raise RecordingQuarantinedError("the recording is in quarantine", recording_id=recording_id)
        return found

    def delete(self, recording_id: str, reason: str) -> Holding:
        """Takes a recording out of sight; a deleted one stays as it is. RecordingHeldError under a legal hold."""
        check_reason(reason)
        with self.lock:
            found = self.changeable(recording_id)
            if found.state is HoldingState.DELETED:
                return found
            self.refuse_held([found])
            gone = replace(
                found,
                state=HoldingState.DELETED,
                reason=reason,
                since_ns=self.clock(),
                parked="",
                grace_from_ns=self.rules.latest_ns(),
            )
            self.holdings.append([gone])
            self._unparked.add(recording_id)
            self.fault("deletion journalled")
            return gone

    def unparked(self) -> list[Holding]:
        """Deleted recordings whose file still lies in its bucket."""
        with self.lock:
            found = [self.holdings.get(name) for name in sorted(self._unparked)]
            waiting = [
                held for held in found if held and held.state is HoldingState.DELETED and not held.parked
            ]
            self._unparked.intersection_update(held.recording_id for held in waiting)
            return [held for held in waiting if held.recording_id not in self.erasing]

    def moved(self, held: Holding) -> None:
        """A recording lies in another bucket now; a deleted one waits there to be parked. The lock is held."""
        if held.state is HoldingState.DELETED:
            self._unparked.add(held.recording_id)

    # A bucket that is being destroyed takes no more files.

    def shut(self, bucket: BucketId) -> None:
        """From now on nothing is filed into it: what comes waits in the spool. Returns when what is being filed is."""
        with self._filing:
            self._shut.add(bucket)
            self._filing.wait_for(lambda: bucket not in self._busy)

    def is_shut(self, bucket: BucketId) -> bool:
        """Whether it is about to be destroyed, or to come back from a copy: whoever else works on it gives way."""
        with self._filing:
            return bucket in self._shut

    def reopen(self, bucket: BucketId) -> None:
        """It takes files again."""
        with self._filing:
            self._shut.discard(bucket)

    @contextmanager
    def filing_into(self, bucket: BucketId) -> Iterator[bool]:
        """While a file is brought into a bucket; False where it takes none."""
        with self._filing:
            takes = bucket not in self._shut
            if takes:
                self._busy[bucket] += 1
        try:
            yield takes
        finally:
            if takes:
                with self._filing:
                    self._busy[bucket] -= 1
                    if not self._busy[bucket]:
                        del self._busy[bucket]
                    self._filing.notify_all()

    def unchanged(self, wanted: Iterable[Holding]) -> list[Holding]:
        """Those that are still as they were, and not about to be erased."""
        with self.lock:
            return [
                held
                for held in wanted
                if held.recording_id not in self.erasing and self.holdings.get(held.recording_id) == held
            ]

    def refuse_held(self, found: Iterable[Holding]) -> None:
        """RecordingHeldError, with the cases, where a legal hold names one of these."""
        cases = {case for held in found for case in self.rules.cases_of(held)}
        if cases:
            raise RecordingHeldError("a legal hold forbids it", cases=cases)


def check_reason(reason: str) -> None:
    """InvalidError where it is too long."""
    if len(reason) > MAX_REASON:
        raise InvalidError(f"a reason has at most {MAX_REASON} characters", field="reason")
