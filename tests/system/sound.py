"""Was it heard, where, and how loud? Sound is 16-bit samples at 8 kHz in one channel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

RATE = 8000
BAND_HZ = (300.0, 3400.0)  # what every telephone line carries
FLOOR = 1e-3  # of the prompt's power: quieter stretches of what was heard count as this loud

HEARD = 0.6  # correlation from which on a prompt counts as heard
UNHEARD = 0.3  # and up to which it counts as not heard

Samples = NDArray[np.float64] | NDArray[np.int16]


def find(prompt: Samples, heard: Samples) -> tuple[float, float]:
    """Where in `heard` the prompt fits best: offset in seconds and normalised correlation, 0 to 1.

    Both are band-limited first; level and sign do not matter. The prompt has to be there whole. Where less was heard
    than the prompt is long, the correlation is 0. ValueError where the prompt has no sound in the band.
    """
    if len(heard) < len(prompt) or not len(prompt):
        return 0.0, 0.0
    size = 1 << (len(heard) + len(prompt) - 1).bit_length()
    wanted, given = _band(prompt, size), _band(heard, size)
    power = float(np.sum(wanted[: len(prompt)] ** 2))
    if power <= len(prompt):  # less than one step of 16 bits
        raise ValueError("the prompt is silent")
    product = np.fft.irfft(np.fft.rfft(given) * np.conj(np.fft.rfft(wanted)), size)
    places = len(heard) - len(prompt) + 1
    energy = np.concatenate([[0.0], np.cumsum(given[: len(heard)] ** 2)])
    windows = energy[len(prompt) : len(prompt) + places] - energy[:places]
    fit = np.abs(product[:places]) / np.sqrt(power * np.maximum(windows, power * FLOOR))
    best = int(np.argmax(fit))
    return best / RATE, min(1.0, float(fit[best]))


def level(heard: Samples, start_s: float, end_s: float) -> float:
    """Level of a stretch in dB below full scale; -inf for digital silence and for a stretch outside."""
    part = np.asarray(heard[max(0, round(start_s * RATE)) : max(0, round(end_s * RATE))], np.float64)
    if not part.size or not part.any():
        return -math.inf
    return 20 * math.log10(math.sqrt(float(np.mean(part**2))) / 32768)


def said(prompt: Samples, heard: Samples) -> bool:
    """True where the prompt was heard, False where it was not; AssertionError where that is not clear."""
    _, fit = find(prompt, heard)
    assert fit >= HEARD or fit <= UNHEARD, f"neither heard nor unheard: correlation {fit:.2f}"
    return fit >= HEARD


def _band(samples: Samples, size: int) -> NDArray[np.float64]:
    """Band-limited, zero-padded to `size`; what the filter rings beyond the end is cut."""
    spectrum = np.fft.rfft(np.asarray(samples, np.float64), size)
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    spectrum[(hertz < BAND_HZ[0]) | (hertz > BAND_HZ[1])] = 0
    limited = np.fft.irfft(spectrum, size)
    limited[len(samples) :] = 0
    return limited
