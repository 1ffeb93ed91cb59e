"""Brings sound to a higher rate. Each output sample depends on its place alone, not on how the sound is cut into pieces."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
CONTEXT = 24
"""Samples looked at to either side, at the lower rate."""


@lru_cache(maxsize=16)
def _phases(factor: int) -> npt.NDArray[np.float32]:
    """Polyphase filter, one row per phase: a Kaiser-windowed sinc at the lower rate's Nyquist frequency.

    Phase 0 is a single one: the samples there were stay as they are.
    """
    taps = np.arange(-CONTEXT * factor, CONTEXT * factor)
    window = np.kaiser(2 * CONTEXT * factor + 1, 8.0)[:-1]
    filtered = np.sinc(taps / factor) * window
    rows = filtered.reshape(2 * CONTEXT, factor).T
    rows /= rows.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(rows, dtype=np.float32)


def resample(read: Callable[[int, int], I16], low: int, high: int, start: int, stop: int) -> I16:
    """Samples [start, stop) at rate `high` of what `read(from, until)` gives at rate `low`.

    By whole factors through a filter; by others (11,025 Hz and its like) by straight lines between samples.
    """
    if high % low == 0:
        return _by_factor(read, high // low, start, stop)
    first = start * low // high
    last = (stop - 1) * low // high + 2
    values = read(first, last).astype(np.float64)
    places = np.arange(start, stop) * (low / high) - first
    return np.rint(np.interp(places, np.arange(len(values)), values)).astype(np.int16)


def _by_factor(read: Callable[[int, int], I16], factor: int, start: int, stop: int) -> I16:
    first = start // factor
    last = -(-stop // factor)
    values = read(first - CONTEXT, last + CONTEXT)
    if not values.any():
        return np.zeros(stop - start, np.int16)
    sound = values.astype(np.float32)
    rows = _phases(factor)
    out = np.empty((last - first, factor), np.int16)
    for phase in range(factor):
        if phase == 0:
            out[:, 0] = values[CONTEXT : CONTEXT + last - first]
            continue
        # y(n + phase / factor) = sum over k of x(n - k) h(k + phase / factor)
        whole = np.convolve(sound, rows[phase], mode="valid")[1:]
        out[:, phase] = np.clip(np.rint(whole), -32768, 32767)
    return out.reshape(-1)[start - first * factor : stop - first * factor]
