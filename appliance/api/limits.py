"""A token bucket for each identity."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from appliance.access.errors import RateLimitError

PER_SECOND: Final = 100.0
BURST: Final = 300.0
_MOST_BUCKETS: Final = 10_000


@dataclass
class _Bucket:
    tokens: float
    at_s: float


class RateLimit:
    """So many calls a second, and so many at once, for each identity."""

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, now_s: float) -> None:
        """Count one call; RateLimitError says when to come again. `now_s` from a clock that does not jump."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._burst, now_s)
            if len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        bucket.tokens = min(self._burst, bucket.tokens + max(0.0, now_s - bucket.at_s) * self._per_second)
        bucket.at_s = max(bucket.at_s, now_s)
        if bucket.tokens < 1:
            wait = (1 - bucket.tokens) / self._per_second
            raise RateLimitError("too many calls", retry_after_s=round(wait, 3))
        bucket.tokens -= 1
