"""How long packets waited, as histograms of the last times that were looked at."""

from __future__ import annotations

import collections

import numpy as np
from numpy.typing import NDArray


class Delays:
    """Over the last `commits` additions. Bins of `bin_ns`; the last of `bins` holds the rest."""

    def __init__(self, commits: int = 64, *, bin_ns: int = 5_000_000, bins: int = 4000) -> None:
        self._recent: collections.deque[NDArray[np.int64]] = collections.deque(maxlen=commits)
        self._bin_ns = bin_ns
        self._bins = bins

    def add(self, arrivals: list[NDArray[np.int64]], end_ns: int) -> None:
        """Packets that arrived then waited until `end_ns`."""
        if arrivals:
            waited = np.concatenate(arrivals) if len(arrivals) > 1 else arrivals[0]
            bins = np.clip((end_ns - waited) // self._bin_ns, 0, self._bins - 1)
            self._recent.append(np.bincount(bins))

    def percentile_ns(self, share: float) -> int:
        """Nanoseconds, the upper edge of the bin; 0 where nothing was measured."""
        total = np.zeros(self._bins, np.int64)
        for counts in self._recent:
            total[: len(counts)] += counts
        packets = int(total.sum())
        if not packets:
            return 0
        return int((np.searchsorted(np.cumsum(total), share * packets) + 1) * self._bin_ns)

    def percentile(self, share: float) -> int:
        """The same in milliseconds."""
        return self.percentile_ns(share) // 1_000_000
