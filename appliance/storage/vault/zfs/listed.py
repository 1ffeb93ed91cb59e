"""States of buckets as the last listing told them: who lists all buckets asks for the state of each of them next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from appliance.storage.names import BucketId
from appliance.storage.vault.stored import BucketState

LISTED_S: Final = 30.0  # how long a listing answers for the buckets that were not touched since


class Listed:
    """See the module."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[BucketId, BucketState] = {}
        self._until = float("-inf")

    def put(self, states: dict[BucketId, BucketState]) -> None:
        """All that there are."""
        self._states, self._until = states, self._clock() + LISTED_S

    def get(self, bucket: BucketId) -> BucketState | None:
        """None where it is not known."""
        return self._states.get(bucket) if self._clock() < self._until else None

    def drop(self, buckets: Iterable[BucketId]) -> None:
        """They have been touched."""
        for bucket in buckets:
            self._states.pop(bucket, None)
