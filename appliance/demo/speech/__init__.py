"""The demonstration's speech: three short conversations, a FLAC file a side (see tools/make_speech.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 8000
NAMES = ("appointment", "prescription", "payment")


@dataclass(frozen=True)
class Utterance:
    """Who says what, when (seconds from the beginning of the call)."""

    speaker: str
    text: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Conversation:
    """Both sides of a call: 16-bit samples at 8 kHz, of the same length."""

    name: str
    caller: NDArray[np.int16]
    agent: NDArray[np.int16]
    script: tuple[Utterance, ...]

    @property
    def seconds(self) -> float:
        """Length of the call."""
        return len(self.caller) / RATE


def load(name: str) -> Conversation:
    """One of the conversations."""
    script = json.loads(resources.files(__name__).joinpath("script.json").read_text("utf-8"))
    return Conversation(
        name,
        _samples(f"{name}-caller.flac"),
        _samples(f"{name}-agent.flac"),
        tuple(Utterance(**one) for one in script[name]),
    )


def _samples(file: str) -> NDArray[np.int16]:
    with resources.files(__name__).joinpath(file).open("rb") as stream, av.open(stream, "r") as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(parts).astype(np.int16)


def g711(samples: NDArray[np.int16], encoding: str) -> bytes:
    """Encodes to PCMU or PCMA, one byte a sample."""
    codec: Any = av.CodecContext.create({"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw"}[encoding], "w")
    codec.sample_rate = RATE
    codec.layout = "mono"
    codec.format = "s16"
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = RATE
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
