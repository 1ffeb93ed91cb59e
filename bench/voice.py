"""What the senders send: G.711 of the demonstration's conversations, with the noise every line has."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

import appliance.demo

NOISE = 6.0  # standard deviation on 16 bits, about -75 dBFS: digital silence would flatter the compression


def encode_mulaw(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """ITU-T G.711 mu-law of samples on the 16-bit scale."""
    sign = (samples < 0).astype(np.uint8) << 7
    magnitude = np.minimum(np.abs(samples).astype(np.int32), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    return ~(sign | (exponent << 4).astype(np.uint8) | mantissa.astype(np.uint8))


def _load(path: Path) -> NDArray[np.float64]:
    chunks = []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        for frame in container.decode(audio=0):
            chunks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        chunks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(chunks).astype(np.float64)


def conversations() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Caller's and agent's leg of each conversation, as mu-law frames: shape (frames, 160)."""
    folder = Path(appliance.demo.__file__).parent / "speech"
    rng = np.random.default_rng(11)
    found = []
    for caller in sorted(folder.glob("*-caller.flac")):
        legs = [_load(caller), _load(caller.with_name(caller.name.replace("-caller", "-agent")))]
        length = max(len(leg) for leg in legs) // 160 * 160
        coded = []
        for leg in legs:
            samples = np.zeros(length)
            samples[: min(len(leg), length)] = leg[:length]
            samples += rng.normal(0, NOISE, length)
            coded.append(encode_mulaw(samples).reshape(-1, 160))
        found.append((coded[0], coded[1]))
    return found
