"""Timer values of RFC 3261 table 4 (with RFC 6026 and RFC 3262), and a queue of deadlines driven from outside.

Nothing here reads a clock: `now` is seconds on any monotonic clock and comes as an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimerValues:
    """The base values in seconds (RFC 3261, section 17.1.1.1), and those of table 4 that follow from them."""

    t1: float = 0.5  # round-trip time estimate
    t2: float = 4.0  # longest interval between retransmissions
    t4: float = 5.0  # longest time a message stays in the network
    trying: float = 0.2  # section 17.2.1: how long the application may be silent before a 100 goes out

    def __post_init__(self) -> None:
        if not 0 < self.t1 <= self.t2 or self.t4 <= 0 or self.trying < 0:
            raise ValueError("SIP timers need 0 < T1 <= T2 and T4 > 0")

    @property
    def timeout(self) -> float:
        """64*T1: timers B, F, H, L, M, and the life of an unacknowledged 2xx or reliable provisional."""
        return 64 * self.t1

    def d(self, reliable: bool) -> float:
        """Wait for retransmitted final responses to an INVITE (32 s at the default T1)."""
        return 0.0 if reliable else self.timeout

    def i(self, reliable: bool) -> float:
        """Wait for repeated ACKs."""
        return 0.0 if reliable else self.t4

    def j(self, reliable: bool) -> float:
        """Wait for repeated non-INVITE requests."""
        return 0.0 if reliable else self.timeout

    def k(self, reliable: bool) -> float:
        """Wait for repeated responses to a non-INVITE request."""
        return 0.0 if reliable else self.t4


DEFAULT_TIMERS = TimerValues()


class TimerQueue:
    """Deadlines by key. Setting a key again moves it; due keys come out in order of time, ties in order of setting."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._live

    def set(self, key: Hashable, when: float) -> None:
        self._serial += 1
        self._live[key] = self._serial
        heapq.heappush(self._heap, (when, self._serial, key))
        # Moved and cancelled entries stay in the heap until they surface; do not let them outweigh the live ones.
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._live):
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """Forget `key`; not an error when it is not set."""
        self._live.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap:
            when, serial, key = self._heap[0]
            if self._live.get(key) == serial:
                return when
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> Iterator[Hashable]:
        """Take the keys whose time has come, one at a time: what a caller cancels on the way does not come out."""
        while (when := self.next()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._live[key]
            yield key
