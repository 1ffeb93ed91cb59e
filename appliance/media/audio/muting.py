"""Silence where somebody is not to be heard: zeros, before anything could smear what was there.

What is muted is zero in the samples as they were decoded, so that no filter carries it outside, and zero in the samples
as they are rendered, so that no filter carries what is around it inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.model import InvalidError

I16 = npt.NDArray[np.int16]
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Mute:
    """A stretch, in nanoseconds from the start of the recording, of these tracks; None: of all, or to the end."""

    tracks: frozenset[int] | None = None
    start_ns: int = 0
    end_ns: int | None = None

    def __post_init__(self) -> None:
        if self.start_ns < 0 or (self.end_ns is not None and self.end_ns <= self.start_ns):
            raise InvalidError("what is muted ends after it begins", field="mutes")

    def covers(self, track: int) -> bool:
        """Whether it is of this track."""
        return self.tracks is None or track in self.tracks


def of_track(mutes: Iterable[Mute], track: int) -> tuple[Mute, ...]:
    """Those that are of this track."""
    return tuple(one for one in mutes if one.covers(track))


def silence(samples: I16, start: int, rate: int, mutes: Sequence[Mute]) -> I16:
    """Zeros, in place, what is muted of samples at `rate` in Hz, the first of which is sample `start` of the recording.

    A sample that lies in a stretch in part is in it.
    """
    stop = start + len(samples)
    for one in mutes:
        low = max(one.start_ns * rate // _NS, start)
        high = stop if one.end_ns is None else min(-(-one.end_ns * rate // _NS), stop)
        if low < high:
            samples[low - start : high - start] = 0
    return samples
