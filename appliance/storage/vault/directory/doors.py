"""Which buckets are open, with which key, by how many readers; and one lock a bucket."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from appliance.storage.names import BucketId
from appliance.storage.vault.errors import BucketBusyError, BucketLockedError


class Doors:
    """See the module. Safe to use from any thread."""

    def __init__(self) -> None:
        self._keys: dict[BucketId, bytes] = {}
        self._readers: Counter[BucketId] = Counter()
        self._guard = threading.Lock()
        self._locks: dict[BucketId, threading.RLock] = {}

    @contextmanager
    def hand_on(self, *buckets: BucketId) -> Iterator[None]:
        """The locks of these buckets, taken in one order by everybody."""
        with self._guard:
            locks = [self._locks.setdefault(bucket, threading.RLock()) for bucket in sorted(set(buckets))]
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            yield

    def open(self, bucket: BucketId, key: bytes) -> None:
        """From now on the key is in memory."""
        with self._guard:
            self._keys[bucket] = key

    def close(self, bucket: BucketId) -> None:
        """The key is forgotten."""
        with self._guard:
            self._keys.pop(bucket, None)

    def close_all(self) -> None:
        """Every key is forgotten."""
        with self._guard:
            self._keys.clear()

    def is_open(self, bucket: BucketId) -> bool:
        """Whether its key is in memory."""
        with self._guard:
            return bucket in self._keys

    def key(self, bucket: BucketId) -> bytes:
        """BucketLockedError where it is not in memory."""
        with self._guard:
            key = self._keys.get(bucket)
        if key is None:
            raise BucketLockedError("the bucket is locked", bucket=bucket.path)
        return key

    def enter(self, bucket: BucketId) -> None:
        """A reader comes."""
        with self._guard:
            self._readers[bucket] += 1

    def leave(self, bucket: BucketId) -> None:
        """A reader goes."""
        with self._guard:
            self._readers[bucket] -= 1

    def refuse_busy(self, bucket: BucketId) -> None:
        """BucketBusyError where somebody reads."""
        with self._guard:
            if self._readers[bucket]:
                raise BucketBusyError("a file of the bucket is open", bucket=bucket.path)
