"""How much of the box one identity gets: a token bucket of calls, and a number of calls that are open."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from appliance.access.errors import RateLimitError

PER_SECOND: Final = 100.0
BURST: Final = 300.0
OPEN: Final = 200  # streams too; a fifth of what the box has open for all
STRANGERS_OPEN: Final = 100  # streams of all strangers together
NETWORK_OPEN: Final = 10  # and of those from one network
SILENT_OPEN: Final = 300  # calls of all strangers together whose message has not come yet
NETWORK_SILENT: Final = 60  # and of those from one network
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


class OpenCalls:
    """So many calls open at a time, for each identity: who opens streams without end leaves room for all others."""

    def __init__(self, most: int | None = None) -> None:
        self._most = OPEN if most is None else most
        self._open: Counter[str] = Counter()

    def begin(self, name: str) -> None:
        """One more, until `end`; RateLimitError."""
        if self._open[name] >= self._most:
            raise RateLimitError("too many calls are open", retry_after_s=1.0)
        self._open[name] += 1

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """One more, until this is over; RateLimitError."""
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def end(self, name: str) -> None:
        """One that was begun is over."""
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
