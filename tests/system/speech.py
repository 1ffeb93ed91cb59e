"""Speech to play: stretches of the demonstration's conversations, as WAV files made when a test runs."""

from __future__ import annotations

import functools
import wave
from pathlib import Path

import av
import numpy as np

import appliance.demo

RATE = 8000
_FOLDER = Path(appliance.demo.__file__).parent / "speech"


@functools.cache
def _whole(name: str) -> np.ndarray:
    with av.open(str(_FOLDER / f"{name}.flac")) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        chunks = [
            part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)
        ]
        chunks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(chunks)


def speech(name: str, start_s: float, end_s: float) -> np.ndarray:
    """Seconds `start_s` to `end_s` of a leg such as `payment-agent`: 16-bit samples at 8 kHz, cut to what there is."""
    return _whole(name)[round(start_s * RATE) : round(end_s * RATE)]


def write_wav(path: Path, samples: np.ndarray, silence_s: float = 0.0) -> Path:
    """16 bits, 8 kHz, mono; with silence behind it."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes() + bytes(2 * round(silence_s * RATE)))
    return path


def read_wav(path: Path) -> np.ndarray:
    """Channels by samples, of a WAV of 16 bits and 8 kHz."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getsampwidth()) == (RATE, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels()).T
