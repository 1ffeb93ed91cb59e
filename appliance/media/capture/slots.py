"""The tables of a worker's open tracks: one row each, which is the track's slot while it is open."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SlotTables:
    """What nearly every packet is judged by, and what is counted. See `Intake`, which fills them."""

    def _sized(self, slots: int) -> None:
        """(Re)makes the tables of slots with room for `slots`."""

        def grown(old: str, dtype: object, shape: tuple[int, ...] = ()) -> None:
            table = np.zeros((slots, *shape), dtype)  # type: ignore[call-overload]
            if hasattr(self, old):
                table[: len(getattr(self, old))] = getattr(self, old)
            setattr(self, old, table)

        grown("_t_ssrc", np.uint32)
        grown("_t_source", np.uint64)
        grown("_t_plain", np.bool_)
        grown("_t_shift", np.int64)
        grown("_t_counter", np.uint32)
        grown("_t_shut", np.int64)
        grown("_t_heard", np.int64)
        grown("_t_event", np.bool_, (128,))
        grown("numbers", np.int64)
        grown("received", np.int64)
        grown("kept", np.int64)
        grown("dropped", np.int64)
        grown("refused", np.int64)
        grown("overflowed", np.int64)
        grown("last_ns", np.int64)

    _t_ssrc: NDArray[np.uint32]
    _t_source: NDArray[np.uint64]
    _t_plain: NDArray[np.bool_]
    _t_shift: NDArray[np.int64]
    _t_counter: NDArray[np.uint32]
    _t_shut: NDArray[np.int64]
    _t_heard: NDArray[np.int64]
    _t_event: NDArray[np.bool_]
    numbers: NDArray[np.int64]
    received: NDArray[np.int64]
    kept: NDArray[np.int64]
    dropped: NDArray[np.int64]
    refused: NDArray[np.int64]
    overflowed: NDArray[np.int64]
    last_ns: NDArray[np.int64]

    def shift_of(self, slot: int) -> int:
        """How far the wall clock was set since the slot's recording began, nanoseconds."""
        return int(self._t_shift[slot])
