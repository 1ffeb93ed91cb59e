"""Refused calls are written down one by one up to a rate; beyond it they are counted, and the count is written down.

So a stranger who knocks without pause is seen, and does not fill the disk. Sans-IO.
"""

from __future__ import annotations

import threading
from typing import Final

PER_SECOND: Final = 5.0
BURST: Final = 100.0


class Refusals:
    """A token bucket for all refused calls together. Safe to use from any thread."""

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at_s = float("-inf")
        self._lock = threading.Lock()
        self._unwritten = 0
        self.total_unwritten = 0

    def take(self, now_s: float) -> bool:
        """Whether this one is to be written down; else it is counted. `now_s` from a clock that does not jump."""
        with self._lock:
            passed = max(0.0, now_s - max(self._at_s, now_s - 3600))
            self._at_s = max(self._at_s, now_s)
            self._tokens = min(self._burst, self._tokens + passed * self._per_second)
            if self._tokens >= 1:
                self._tokens -= 1
                return True
            self._unwritten += 1
            self.total_unwritten += 1
            return False

    def counted(self) -> int:
        """How many were counted since this was asked last."""
        with self._lock:
            found, self._unwritten = self._unwritten, 0
            return found

    def put_back(self, count: int) -> None:
        """A count that could not be written down."""
        with self._lock:
            self._unwritten += count
