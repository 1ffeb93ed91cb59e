"""From a sound to a prompt: checked, levelled, and rendered for every codec that calls use. Sans-IO.

What is played is one RTP payload of 20 ms after the other, so that playing it costs no encoding. All renderings of a prompt
have the same number of payloads.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
import numpy.typing as npt

from appliance.media.audio.encode import packets
from appliance.media.audio.sound import PromptEmptyError, Sound
from appliance.model import CorruptError, InvalidError

F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]
PACKET_MS: Final = 20
MIN_MS: Final = 200
SILENT_DBFS: Final = -50.0
MAX_CLIPPED: Final = 0.001  # of the samples
SPEECH_DBFS: Final = -20.0  # active speech level that prompts are brought to
PEAK_DBFS: Final = -1.0  # and that their peaks stay below
_TAIL_S: Final = 0.0065  # what Opus delays sound by (312 samples at 48 kHz); G.722 less
_OPUS_BIT_RATE: Final = 32_000


class PromptTooShortError(InvalidError):
    """Shorter than 200 ms: nobody could understand it; `data['duration_ms']`."""

    reason = "PROMPT_TOO_SHORT"


class PromptSilentError(InvalidError):
    """No sample is louder than -50 dBFS; `data['peak_dbfs']`."""

    reason = "PROMPT_SILENT"


class PromptClippingError(InvalidError):
    """More than one sample in a thousand is at full scale: record it lower; `data['clipped']`, in parts of 1."""

    reason = "PROMPT_CLIPPING"


class PayloadsCorruptError(CorruptError):
    """A file of payloads is not what was written."""

    reason = "PROMPT_CORRUPT"


@dataclass(frozen=True, slots=True)
class Form:
    """What a prompt is rendered for, as in the rtpmap of SDP (RFC 8866 section 6.6)."""

    encoding: str
    clock_rate: int
    channels: int

    @property
    def file(self) -> str:
        """Its file in a prompt's folder."""
        return f"{self.encoding}-{self.clock_rate}-{self.channels}.packets"


PCMU: Final = Form("PCMU", 8000, 1)
PCMA: Final = Form("PCMA", 8000, 1)
G722: Final = Form("G722", 8000, 1)  # sound of 16 kHz; the clock is an old mistake (RFC 3551 section 4.5.2)
OPUS: Final = Form("OPUS", 48000, 2)  # always so (RFC 7587 section 7), whatever is inside: one channel
L16_NARROW: Final = Form("L16", 8000, 1)
L16_WIDE: Final = Form("L16", 16000, 1)
FORMS: Final = (PCMU, PCMA, G722, OPUS, L16_NARROW, L16_WIDE)


@dataclass(frozen=True, slots=True)
class Checked:
    """A sound that is fit to be a prompt. `mono`: before levelling, full scale is 1.0. Levels in dB of full scale."""

    rate: int
    mono: F64
    peak_dbfs: float
    speech_dbfs: float
    gain_db: float
    """What brings the speech to SPEECH_DBFS, or as near as the peaks allow."""

    @property
    def packets(self) -> int:
        """Of PACKET_MS, with room for what codecs delay sound by."""
        return math.ceil((len(self.mono) / self.rate + _TAIL_S) * 1000 / PACKET_MS)

    @property
    def duration_ms(self) -> int:
        """As it is played."""
        return self.packets * PACKET_MS


def check(sound: Sound) -> Checked:
    """PromptEmptyError, PromptTooShortError, PromptClippingError, PromptSilentError; `field` is `audio`."""
    count = len(sound.samples)
    if not count:
        raise PromptEmptyError("the file holds no sound", field="audio")
    duration_ms = count * 1000 // sound.rate
    if duration_ms < MIN_MS:
        raise PromptTooShortError(f"at least {MIN_MS} ms", field="audio", duration_ms=duration_ms)
    clipped = float(np.mean(np.abs(sound.samples) >= sound.full - 1e-6))
    mono = sound.samples.astype(np.float64).mean(axis=1)
    mono -= mono.mean()  # a constant is not heard, and takes room from what is
    peak_dbfs = _db(float(np.abs(mono).max()))
    if peak_dbfs < SILENT_DBFS:
        raise PromptSilentError(
            f"nothing is louder than {SILENT_DBFS:.0f} dBFS", field="audio", peak_dbfs=round(peak_dbfs, 1)
        )
    if clipped > MAX_CLIPPED:
        raise PromptClippingError(
            "it clips: more than 0.1 % of the samples are at full scale",
            field="audio",
            clipped=round(clipped, 4),
        )
    speech_dbfs = speech_level(mono, sound.rate)
    gain_db = min(SPEECH_DBFS - speech_dbfs, PEAK_DBFS - peak_dbfs)
    return Checked(sound.rate, mono, peak_dbfs, speech_dbfs, gain_db)


def speech_level(mono: F64, rate: int) -> float:
    """Active speech level, dB of full scale, after ITU-T P.56 method B: the mean power while somebody speaks.

    The envelope is the power of 10 ms at a time. Speech is what is above a threshold, and 200 ms after it; the threshold is
    the one that is 15.9 dB below the level that follows from it.
    """
    size = max(rate // 100, 1)
    whole = mono[: len(mono) - len(mono) % size]
    if not len(whole):
        whole, size = mono, len(mono)
    power = np.square(whole).reshape(-1, size).mean(axis=1)
    total = float(power.sum())
    place = np.arange(len(power))
    level = _db(math.sqrt(total / len(power)))
    for threshold in np.arange(-100.0, 0.0, 0.5):
        above = power > 10 ** (threshold / 10)
        if not above.any():
            break
        last = np.maximum.accumulate(np.where(above, place, -1000))
        active = np.count_nonzero(place - last <= 20)
        level = _db(math.sqrt(total / active))
        if level - threshold <= 15.9:
            break
    return level


def render(checked: Checked) -> dict[Form, list[bytes]]:
    """The payloads of each form, `checked.packets` of each."""
    sound = checked.mono * 10 ** (checked.gain_db / 20)
    rates = {
        rate: _samples(sound, checked.rate, rate, checked.packets * PACKET_MS * rate // 1000)
        for rate in (8000, 16000, 48000)
    }
    narrow, wide, full = rates[8000], rates[16000], rates[48000]
    made = {
        PCMU: packets("pcm_mulaw", narrow, 8000, PACKET_MS),
        PCMA: packets("pcm_alaw", narrow, 8000, PACKET_MS),
        G722: packets("g722", wide, 16000, PACKET_MS),
        OPUS: packets("libopus", full, 48000, PACKET_MS, opus_bit_rate=_OPUS_BIT_RATE)[: checked.packets],
        L16_NARROW: _linear(narrow, 8000),
        L16_WIDE: _linear(wide, 16000),
    }
    if any(len(payloads) != checked.packets for payloads in made.values()):
        raise AssertionError("a codec did not give one payload for each 20 ms")
    return made


def _samples(sound: F64, rate: int, wanted: int, count: int) -> I16:
    """At another rate, `count` of them: silence is put at the end."""
    if rate != wanted:
        frame = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=wanted)
        parts = [out.to_ndarray()[0] for some in (frame, None) for out in resampler.resample(some)]
        sound = np.concatenate(parts).astype(np.float64)
    out = np.zeros(count, np.int16)
    values = np.clip(np.rint(sound[:count] * 32768), -32768, 32767)
    out[: len(values)] = values
    return out


def _linear(samples: I16, rate: int) -> list[bytes]:
    """Big-endian (RFC 3551 section 4.5.11)."""
    step = rate * PACKET_MS // 1000
    return [samples[at : at + step].astype(">i2").tobytes() for at in range(0, len(samples), step)]


def pack(payloads: Iterable[bytes]) -> bytes:
    """One behind the other, each behind its length (16 bits, big-endian)."""
    return b"".join(struct.pack(">H", len(payload)) + payload for payload in payloads)


def unpack(data: bytes) -> Sequence[bytes]:
    """What `pack` was given; PayloadsCorruptError."""
    payloads: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or end == at + 2:
            raise PayloadsCorruptError("a payload is not whole", offset=at)
        payloads.append(data[at + 2 : end])
        at = end
    return payloads


def _db(amplitude: float) -> float:
    return 20 * math.log10(max(amplitude, 1e-9))
