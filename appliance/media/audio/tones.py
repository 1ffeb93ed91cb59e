"""The tones of the box, and their payloads for each codec that is used in calls. The same tone gives the same bytes.

Levels are dB of full scale of a 16-bit sample; speech on a telephone line is about -20. The ringing tone is that of the
United Kingdom (ITU-T E.180 supplement 2); the others are the box's own.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

import numpy as np

from appliance.media.audio.codecs import ALAW, I16, ULAW
from appliance.media.audio.encode import packets
from appliance.model import InvalidError

PACKET_MS = 20
_FADE_S = 0.004  # edges without a click


class ToneFormatError(InvalidError):
    """Nothing here can make this payload format; `data['encoding']`, `data['clock_rate']`."""

    reason = "PLAY_FORMAT_UNSUPPORTED"


class Tone(enum.Enum):
    """What each is for: see `Tone` in capture.proto."""

    RINGING = "ringing"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REMINDER = "reminder"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Beep:
    """Frequencies in Hz that sound together, and for how long; none: silence. `level` in dB of full scale, of each."""

    hertz: tuple[int, ...]
    ms: int
    level: float = -20.0


TONES: dict[Tone, tuple[Beep, ...]] = {
    Tone.RINGING: (
        Beep((400, 450), 400, -24.0),
        Beep((), 200),
        Beep((400, 450), 400, -24.0),
        Beep((), 2000),
    ),
    Tone.CONFIRMED: (Beep((880,), 100), Beep((), 40), Beep((1320,), 100)),
    Tone.REFUSED: (Beep((300,), 400),),
    Tone.REMINDER: (Beep((1000,), 120, -26.0),),
    Tone.RECORDING: (Beep((1400,), 200, -40.0),),
}


@functools.cache
def samples(tone: Tone, rate: int) -> I16:
    """A tone at a sampling rate in Hz, padded with silence to whole packets of 20 ms."""
    parts = []
    for beep in TONES[tone]:
        count = beep.ms * rate // 1000
        at = np.arange(count) / rate
        amplitude = 32767 * 10 ** (beep.level / 20)
        sound = sum((np.sin(2 * np.pi * hertz * at) for hertz in beep.hertz), np.zeros(count))
        fade = int(_FADE_S * rate)
        if beep.hertz and fade:
            slope = np.linspace(0, 1, fade, endpoint=False)
            sound[:fade] *= slope
            sound[-fade:] *= slope[::-1]
        parts.append(np.rint(amplitude * sound).astype(np.int16))
    whole = np.concatenate(parts)
    step = rate * PACKET_MS // 1000
    padded = np.concatenate([whole, np.zeros(-len(whole) % step, np.int16)])
    padded.flags.writeable = False
    return padded


@functools.lru_cache(maxsize=64)
def tone_payloads(tone: Tone, encoding: str, clock_rate: int, channels: int) -> tuple[bytes, ...]:
    """A tone as RTP payloads of 20 ms each. ToneFormatError where the format is none that can be made here."""
    match encoding, clock_rate, channels:
        case (("PCMU" | "PCMA"), (8000 | 16000), 1):
            table = ULAW_CODES if encoding == "PCMU" else ALAW_CODES
            coded = table[samples(tone, clock_rate).view(np.uint16)].tobytes()
            return _cut(coded, clock_rate * PACKET_MS // 1000)
        case "L16", (8000 | 16000), 1:
            return _cut(samples(tone, clock_rate).astype(">i2").tobytes(), clock_rate * PACKET_MS // 500)
        case "G722", 8000, 1:
            return tuple(packets("g722", samples(tone, 16000), 16000, PACKET_MS))
        case "OPUS", 48000, _:
            return tuple(packets("libopus", samples(tone, 48000), 48000, PACKET_MS))
    raise ToneFormatError("no tone can be made in this format", encoding=encoding, clock_rate=clock_rate)


def _cut(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def _codes(table: I16) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The nearest code of each 16-bit sample (indexed by its bits), for a table of G.711."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    sound = np.arange(-32768, 32768)
    after = np.clip(np.searchsorted(values, sound), 1, len(values) - 1)
    nearer = np.where(sound - values[after - 1] <= values[after] - sound, after - 1, after)
    codes = order[nearer].astype(np.uint8)
    by_bits = np.empty(65536, np.uint8)
    by_bits[sound.astype(np.int16).view(np.uint16)] = codes
    by_bits[0] = np.flatnonzero(table == 0)[-1] if (table == 0).any() else by_bits[0]  # not the negative zero
    by_bits.flags.writeable = False
    return by_bits


ULAW_CODES = _codes(ULAW)
ALAW_CODES = _codes(ALAW)
