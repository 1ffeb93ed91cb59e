"""One lock a bucket, taken in one order by everybody, and never waited for without end."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from appliance.storage.names import BucketId
from appliance.storage.vault.errors import StoreUnavailableError


class Doors:
    """See the module. Safe to use from any thread."""

    def __init__(self, deadline_s: float, hopeless: Callable[[], None]) -> None:
        self._deadline_s = deadline_s
        self._hopeless = hopeless
        self._guard = threading.Lock()
        self._locks: dict[BucketId, threading.RLock] = {}

    def _lock(self, bucket: BucketId) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(bucket, threading.RLock())

    @contextmanager
    def hand_on(self, *buckets: BucketId) -> Iterator[None]:
        """Holds the locks of these; StoreUnavailableError where another call keeps one for longer than the deadline."""
        end = time.monotonic() + self._deadline_s
        with ExitStack() as stack:
            for bucket in sorted(set(buckets)):
                lock = self._lock(bucket)
                if not lock.acquire(timeout=max(0.0, end - time.monotonic())):
                    self._hopeless()
                    raise StoreUnavailableError("the bucket is being worked on", errno=errno.EBUSY)
                stack.callback(lock.release)
            yield

    @contextmanager
    def hand_on_if_free(self, bucket: BucketId) -> Iterator[bool]:
        """Holds the lock where nobody else does; whether it is held."""
        lock = self._lock(bucket)
        held = lock.acquire(blocking=False)
        try:
            yield held
        finally:
            if held:
                lock.release()
