"""A wall clock that does not jump under a recording."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_NS = 10_000_000
"""A wall clock that moves by this much against the monotonic one has been set; less is the usual slewing."""


class StepClock:
    """Notices when the wall clock is set. Kernel receive times follow the wall clock, so recordings in progress must know.

    A recording keeps the time it began with: it subtracts the steps made since it was opened from every outside time.
    """

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.wall = wall
        self.monotonic = monotonic
        self._offset = self._read()
        self.steps = 0

    def _read(self) -> int:
        """Wall clock less monotonic clock, read without being interrupted in between."""
        while True:
            before = self.monotonic()
            wall = self.wall()
            after = self.monotonic()
            if after - before < STEP_NS // 10:
                return wall - (before + after) // 2

    def check(self) -> int:
        """Nanoseconds the wall clock was set forward (back: negative) since the last check; 0 where it only ran."""
        offset = self._read()
        step = offset - self._offset
        self._offset = offset
        if abs(step) < STEP_NS:
            return 0
        self.steps += 1
        return step
