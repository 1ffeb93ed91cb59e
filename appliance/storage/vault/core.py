"""What the vault knows and does for others: holdings, keys for a reading, delete and undelete. No network here.

`Vault` holds the parts together; `filing`, `erasure` and `reconcile` work on it. Its lock covers a change of one holding
together with its file (milliseconds); shredding happens outside it, so reading and filing go on meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

import structlog

from appliance.config.layout import Layout
from appliance.model import InvalidError, is_id
from appliance.process.status import Status
from appliance.storage.keystore import Keystore, publish_deposit_key
from appliance.storage.keystore.files import make_directory
from appliance.storage.keystore.rootslot import Fault, no_fault
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.errors import (
    RecordingDeletedError,
    RecordingErasedError,
    RecordingLiveError,
    RecordingNotFoundError,
    RecordingQuarantinedError,
    RecordingSpooledError,
)
from appliance.storage.vault.holding import Holding, HoldingState
from appliance.storage.vault.index import Holdings

MAX_REASON = 1000  # characters

log = structlog.get_logger()


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
        self.status = status
        self.fault = fault
        self.clock = clock
        self.lock = threading.RLock()
        self.erasing: set[str] = set()
        """Recordings whose erasure is asked for and not done: nothing else may happen to them."""
        self.last_erasure_ns = holdings.last_erasure_ns()

    @classmethod
    def open(
        cls,
        layout: Layout,
        status: Status,
        *,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Opens keystore, journal and buckets, and publishes the deposit key. Errors as Keystore.open.

        A keystore is made only where there is no journal: recordings without one would all count as erased.
        """
        for folder in (layout.vault, layout.spool_keys, layout.spool_recordings):
            make_directory(folder)
        holdings = Holdings(layout.vault)
        try:
            keystore = Keystore.open(
                layout.keystores, create=holdings.position == 0, fault=fault, clock=clock
            )
        except BaseException:
            holdings.close()
            raise
        vault = cls(
            layout, keystore, DirectoryStore(layout.vault), holdings, status, fault=fault, clock=clock
        )
        vault.publish()
        return vault

    def close(self) -> None:
        """Lets another process open it."""
        self.keystore.close()
        self.holdings.close()

    def publish(self) -> None:
        """Tells capture the present deposit key."""
        publish_deposit_key(self.layout.deposit_key, self.keystore.deposit_public_key)

    @property
    def quarantine(self) -> Path:
        """Where what cannot be filed is kept."""
        return self.layout.vault / "quarantine"

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

    def readable(self, recording_id: str) -> Holding:
        """The holding of a recording that may be read: filed, and not about to be erased."""
        found = self.holding(recording_id)
        self.refuse_erased(found)
        if found.state is HoldingState.DELETED:
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

    def lease(self, recording_id: str) -> bytes:
        """The data key of a filed recording, for one reading. Who reads and why is in the audit log of who asks."""
        self.readable(recording_id)
        key = self.keystore.data_key(recording_id)
        log.info("key leased", recording=recording_id)
        return key

    def read(self, recording_id: str) -> BinaryIO:
        """The sealed file of a filed recording, open for reading."""
        found = self.readable(recording_id)
        return self.store.read(found.bucket, recording_id)

    # Delete and undelete: the journal first, then the file, so that what was answered holds after a crash.

    def delete(self, recording_id: str, reason: str) -> Holding:
        """Takes a recording out of sight; a deleted one stays as it is."""
        check_reason(reason)
        with self.lock:
            found = self.holding(recording_id)
            self.refuse_erased(found)
            if found.state is HoldingState.QUARANTINED:
                raise RecordingQuarantinedError("the recording is in quarantine", recording_id=recording_id)
            if found.state is HoldingState.DELETED:
                return found
            gone = replace(found, state=HoldingState.DELETED, reason=reason, since_ns=self.clock())
            self.holdings.append([gone])
            self.fault("deletion journalled")
            self.store.park(found.bucket, [recording_id])
            return gone

    def undelete(self, recording_id: str) -> Holding:
        """Brings a deleted recording back; a filed one stays as it is."""
        with self.lock:
            found = self.holding(recording_id)
            self.refuse_erased(found)
            if found.state is HoldingState.QUARANTINED:
                raise RecordingQuarantinedError("the recording is in quarantine", recording_id=recording_id)
            if found.state is HoldingState.FILED:
                return found
            back = replace(found, state=HoldingState.FILED, reason="", since_ns=self.clock())
            self.holdings.append([back])
            self.fault("undeletion journalled")
            self.store.unpark(found.bucket, [recording_id])
            return back


def check_reason(reason: str) -> None:
    """InvalidError where it is too long."""
    if len(reason) > MAX_REASON:
        raise InvalidError(f"a reason has at most {MAX_REASON} characters", field="reason")
