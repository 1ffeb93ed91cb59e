"""What is taken out of an arena: columns, and the payloads of many packets back to back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.storage.sealed import PacketColumns


@dataclass(slots=True)
class Gathered:
    """What is kept, sorted by group: slot times two, plus one for telephone-events. `starts` has groups + 1 entries."""

    columns: PacketColumns
    starts: NDArray[np.int64]


def payloads(cells: NDArray[np.uint8], at: NDArray[np.int64], size: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The bytes of `cells` (any shape, C-contiguous) from each offset `at`, `size` bytes each, in that order.

    Elements of one length are moved at once, through a view that begins one at every byte: one move for each length
    there is, and in nearly every second there is one.
    """
    if not len(size):
        return np.zeros(0, np.uint8)
    lengths = np.unique(size).tolist() if (size != size[0]).any() else [int(size[0])]
    if len(lengths) == 1:
        return _elements(cells, lengths[0])[at].view(np.uint8) if lengths[0] else np.zeros(0, np.uint8)
    ends = np.cumsum(size, dtype=np.int64)
    starts = ends - size
    target = np.zeros(int(ends[-1]), np.uint8)
    for length in lengths:
        if length:
            mine = np.flatnonzero(size == length)
            _elements(target, length)[starts[mine]] = _elements(cells, length)[at[mine]]
    return target


def _elements(buffer: NDArray[np.uint8], length: int) -> NDArray[np.void]:
    """A view of elements of `length` bytes that begins one at every byte. They overlap; whoever writes must know what."""
    flat = buffer.reshape(-1)
    return np.ndarray((flat.size - length + 1,), np.dtype((np.void, length)), flat, 0, (1,))
