"""Buckets with their keys: the keystore has the key before the store has the bucket, and a bucket is open while it is used.

A slice of time that is over is locked when nobody has used its bucket for a while: what nobody reads lies unreadable.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

from appliance.model import EarwitnessError
from appliance.storage.keystore import Keystore
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore, slice_end_ns
from appliance.storage.vault.errors import BucketBusyError

QUIET_S = 600.0

log = structlog.get_logger()


class Buckets:
    """See the module. Safe to use from any thread."""

    def __init__(
        self,
        keystore: Keystore,
        store: BucketStore,
        *,
        quiet_s: float = QUIET_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keystore = keystore
        self._store = store
        self._quiet_s = quiet_s
        self._monotonic = monotonic
        self._used: dict[BucketId, float] = {}
        self._opened: Counter[BucketId] = Counter()
        self._looked = False
        self._lock = threading.Lock()

    def make(self, bucket: BucketId) -> None:
        """Makes the bucket if it is absent, and opens it.

        Errors as `open`, and of keystore and store where it cannot be made.
        """
        self._touch(bucket)
        if self._store.state(bucket) is BucketState.ABSENT:
            key = self._keystore.create_bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)
            self._store.create(bucket, key)
        else:
            self.open(bucket)

    def open(self, bucket: BucketId) -> bool:
        """Opens a bucket that is there; whether it was locked. BucketMissingError; BucketKeyAbsentError where its key is
        destroyed."""
        self._touch(bucket)
        if self._store.state(bucket) is BucketState.OPEN:
            return False
        key = self._keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)
        self._store.unlock(bucket, key)
        return True

    def lock(self, bucket: BucketId) -> None:
        """Locks it now. BucketBusyError where somebody reads it."""
        self._store.lock(bucket)
        with self._lock:
            self._used.pop(bucket, None)

    def opened(self, bucket: BucketId) -> int:
        """How often it was opened in this life of the process: whoever changes its files has opened it first."""
        with self._lock:
            return self._opened[bucket]

    def _touch(self, bucket: BucketId) -> None:
        with self._lock:
            self._used[bucket] = self._monotonic()
            self._opened[bucket] += 1

    def _find_open(self) -> None:
        """Once: what a process before this one left open is quiet from now on."""
        if self._looked:
            return
        for bucket, found in self._store.survey(snapshots=False).buckets.items():
            if found.state is BucketState.OPEN:
                with self._lock:
                    self._used.setdefault(bucket, self._monotonic())
        self._looked = True

    def lock_quiet(self, now_ns: int) -> int:
        """Locks buckets whose slice is over and that nobody has used for a while; how many."""
        self._find_open()
        with self._lock:
            late = self._monotonic() - self._quiet_s
            quiet = [bucket for bucket, used in self._used.items() if used < late]
        locked = 0
        for bucket in quiet:
            if not bucket.of_hold and slice_end_ns(bucket.slice) > now_ns:
                continue  # it still fills
            try:
                if self._store.state(bucket) is BucketState.OPEN:
                    self._store.lock(bucket)
                    locked += 1
            except BucketBusyError:
                continue
            except EarwitnessError as error:
                log.warning("bucket not locked, tried again", reason=error.reason)
                continue
            with self._lock:
                self._used.pop(bucket, None)
        return locked
