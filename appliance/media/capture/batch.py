"""What one drain has brought, with its columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.media.rtp.parse import Headers
from appliance.media.rtp.receive import Arena


@dataclass(slots=True)
class Batch:
    """What a drain has just brought, before its verdict is carried out. One entry per row from `first` on.

    Rows of one slot lie together: `served` are the slots in that order, `ends` where the rows of each end. `settled`: all
    are of the established voice of their track. `stamps` are the kernel's receive times by the wall clock, `arrival` those
    by each session's own. `voice` is the established source of each slot there is. `verdict` may be changed.
    """

    arena: Arena
    first: int
    served: NDArray[np.intp]
    ends: NDArray[np.intp]
    settled: bool
    slot: NDArray[np.intp]
    stamps: NDArray[np.int64]
    arrival: NDArray[np.int64]
    source: NDArray[np.uint64]
    heads: Headers
    event: NDArray[np.bool_]
    verdict: NDArray[np.uint8]
    voice: NDArray[np.uint64]


@dataclass(slots=True)
class Control:
    """An RTCP packet that came to an RTP port."""

    slot: int
    arrival_ns: int
    data: bytes
    name: bytes  # whom it came from, a socket address in the kernel's form
