"""Whether a rendered call is what was said: sample by sample, left and right."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.cli.demonstration.calls import HOLD_S, Placed
from appliance.demo import speech
from appliance.model import EarwitnessError, Kind

TOLERANCE_S = 0.5  # signalling before the first and after the last packet is on the timeline too

AUDIBLE = 500  # of 32768


class MismatchError(EarwitnessError):
    """A rendered call is not what was said."""

    reason = "DEMO_AUDIO_MISMATCH"
    kind = Kind.INTERNAL


def read_wav(path: Path) -> tuple[int, NDArray[np.int16]]:
    """Rate, and samples of shape (channels, length)."""
    with wave.open(str(path), "rb") as file:
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), data.reshape(-1, file.getnchannels()).T


def companded(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The samples as they are after G.711 µ-law, from the definition (ITU-T G.711)."""
    code = ~np.frombuffer(speech.g711(samples, "PCMU"), np.uint8).astype(np.int32) & 0xFF
    magnitude = ((((code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def place_of(needle: NDArray[np.int16], hay: NDArray[np.int16]) -> int | None:
    """Where `needle` stands in `hay`, sample for sample; None where it does not."""
    wanted, given = needle.astype("<i2").tobytes(), hay.astype("<i2").tobytes()
    place = given.find(wanted)
    while place > 0 and place % 2:  # between two samples
        place = given.find(wanted, place + 1)
    return place // 2 if place >= 0 else None


def _pieces(sound: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
    """The sound in pieces of a tenth of a second, those in which something is said."""
    length = speech.RATE // 10
    for begin in range(0, len(sound) - length + 1, length):
        piece = sound[begin : begin + length]
        if np.abs(piece).max() > AUDIBLE:
            yield piece


def compare(path: Path, call: Placed) -> str:
    """Compares a WAV with what was said. MismatchError says what differs; the answer is a sentence."""
    rate, channels = read_wav(path)
    if rate != speech.RATE or len(channels) != 2:
        raise MismatchError(f"{path.name}: {len(channels)} channels at {rate} Hz")
    said = {"caller": companded(call.conversation.caller), "agent": companded(call.conversation.agent)}
    expected = call.conversation.seconds + (HOLD_S if call.plan.conversation == "prescription" else 0)
    expected += call.lead_s
    tolerance = TOLERANCE_S + (4.0 if call.lead_s else 0.0)  # ringing and the whisper lie between
    length = channels.shape[1] / rate
    if abs(length - expected) > tolerance + 0.02 * 2:
        raise MismatchError(f"{path.name}: lasts {length:.2f} s, the call {expected:.2f} s")
    found = 0
    for line in call.conversation.script:
        begin, end = round(line.begin_s * rate), round(line.end_s * rate)
        sound = said[line.speaker][begin:end]
        heard = channels[0 if line.speaker == "caller" else 1]
        hushed = any(line.begin_s < stop and line.end_s > start for start, stop in call.silenced)
        place = place_of(sound, heard)
        if hushed:
            if any(place_of(piece, heard) is not None for piece in _pieces(sound)):
                raise MismatchError(f"{path.name}: words that were not to be kept are in it")
        elif place is None:
            raise MismatchError(f"{path.name}: “{line.text}” is not in it sample for sample")
        else:
            found += 1
    kept = f"{found} utterances, each sample as it was sent"
    return f"{length:.1f} s, {kept}" + ("; the card is not in it" if call.silenced else "")
