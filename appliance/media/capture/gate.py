"""When packets of a track are dropped: pauses, holds, the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEVER = (1 << 63) - 1


class Gate:
    """Spans of time in which packets are dropped, by when the kernel received them.

    One span may be open-ended; it is the last. Times are nanoseconds of the recording's clock.
    """

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[tuple[int, int | None]] = []

    @property
    def shut(self) -> bool:
        """A span is open-ended: packets are dropped until further notice."""
        return bool(self._spans) and self._spans[-1][1] is None

    @property
    def shut_since(self) -> int:
        """Where the open-ended span began; NEVER where there is none."""
        return self._spans[-1][0] if self.shut else NEVER

    @property
    def idle(self) -> bool:
        """No span is left that could concern a packet still to come."""
        return not self._spans

    def shut_from(self, at_ns: int) -> int:
        """Drops from `at_ns` on. Returns since when it holds: shutting what is shut keeps the earlier time."""
        if self.shut:
            start = min(self._spans[-1][0], at_ns)
            self._spans[-1] = (start, None)
            return start
        self._spans.append((at_ns, None))
        return at_ns

    def open_from(self, at_ns: int) -> int:
        """Ends the open span at `at_ns`, at the earliest where it began. Returns since when packets are kept."""
        if self.shut:
            start = self._spans[-1][0]
            at_ns = max(at_ns, start)
            self._spans[-1] = (start, at_ns)
        return at_ns

    def dropped(self, arrival_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these packets are dropped."""
        result = np.zeros(len(arrival_ns), np.bool_)
        for start, end in self._spans:
            inside = arrival_ns >= start
            if end is not None:
                inside &= arrival_ns < end
            result |= inside
        return result

    def prune(self, before_ns: int) -> None:
        """Forgets spans that ended before any packet still to come can have arrived."""
        if self._spans and (self._spans[0][1] or before_ns) < before_ns:
            self._spans = [span for span in self._spans if span[1] is None or span[1] >= before_ns]
