"""From payloads to samples: 16-bit, one channel.

G.711 and linear PCM have no memory: whole stretches are decoded at once by numpy. The others go packet by packet
through libavcodec, in order, one decoder for each source. What cannot be decoded is silence, and is counted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from appliance.media.audio.amr import storage_frames
from appliance.media.audio.formats import parameter
from appliance.model import PayloadFormat

I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
Decode = Callable[[bytes], I16 | None]
"""One packet's samples; None where it cannot be decoded."""


class Codec(ABC):
    """How one payload format becomes sound. `rate` is samples per second of what comes out."""

    rate: int
    silent = False  # comfort noise, telephone-events, what is not known

    @abstractmethod
    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        """How many samples each packet holds, without decoding it."""


class Stateless(Codec):
    """Bytes of several packets may be decoded in one go, where each is a whole number of samples of `width` bytes."""

    width = 1

    @abstractmethod
    def decode(self, payload: U8) -> I16:
        """All samples of these bytes."""

    def quiet(self, payload: U8, offset: I64, size: I64) -> npt.NDArray[np.bool_]:
        """Which packets hold no speech, where that can be said cheaply."""
        return np.zeros(len(size), np.bool_)


class Stateful(Codec):
    """Packets must be decoded in order, each by the decoder of its source."""

    @abstractmethod
    def decoder(self) -> Decode:
        """A fresh decoder."""


class Silent(Codec):
    """No sound: comfort noise, or a format not known here."""

    silent = True

    def __init__(self, rate: int) -> None:
        self.rate = rate

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        return np.zeros(len(size), np.int64)


def _ulaw_table() -> I16:
    # ITU-T G.711 table 2: all bits are inverted; sign, three bits exponent, four bits mantissa.
    code = ~np.arange(256) & 0xFF
    value = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -value, value).astype(np.int16)


def _alaw_table() -> I16:
    # ITU-T G.711 table 1: even bits are inverted.
    code = np.arange(256) ^ 0x55
    exponent = code >> 4 & 7
    mantissa = (code & 15) << 4
    value = np.where(exponent == 0, mantissa + 8, (mantissa + 264) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, value, -value).astype(np.int16)


ULAW = _ulaw_table()
ALAW = _alaw_table()
# Between words a line is not silent: its noise is far below its speech, and within these bounds (-54 and -38 dBFS).
_QUIET_FLOOR, _QUIET_CEILING, _BELOW_SPEECH = 64, 400, 24


class G711(Stateless):
    """PCMU and PCMA (RFC 3551 section 4.5.14)."""

    def __init__(self, table: I16, rate: int) -> None:
        self.rate = rate
        self._table = table

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        return size

    def decode(self, payload: U8) -> I16:
        return self._table.take(payload)

    def quiet(self, payload: U8, offset: I64, size: I64) -> npt.NDArray[np.bool_]:
        some = np.flatnonzero(size > 0)
        quiet = np.zeros(len(size), np.bool_)
        if not len(some):
            return quiet
        level = np.append(
            np.minimum(np.abs(self._table.astype(np.int32)), 32767).astype(np.int16).take(payload), 0
        )
        spans = np.stack([offset[some], offset[some] + size[some]], axis=1).reshape(-1)
        peak = np.maximum.reduceat(level, spans)[::2]
        speech = float(np.percentile(peak, 95))
        quiet[some] = peak <= min(max(speech / _BELOW_SPEECH, _QUIET_FLOOR), _QUIET_CEILING)
        return quiet


class L16(Stateless):
    """Linear PCM, big-endian (RFC 3551 section 4.5.11). Several channels become one."""

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self._channels = channels
        self.width = 2 * channels

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        return size // (2 * self._channels)

    def decode(self, payload: U8) -> I16:
        whole = len(payload) - len(payload) % (2 * self._channels)
        values = (
            payload[:whole].view(">i2") if payload.flags.c_contiguous else payload[:whole].copy().view(">i2")
        )
        if self._channels == 1:
            return values.astype(np.int16)
        return (values.reshape(-1, self._channels).sum(axis=1, dtype=np.int32) // self._channels).astype(
            np.int16
        )


class Library(Stateful):
    """A codec of libavcodec with packets of whole frames."""

    def __init__(self, name: str, rate: int, frames: dict[int, int], *, step: int = 0) -> None:
        """`frames`: samples by bytes of one frame, longest first. `step`: hand it to the decoder in such pieces."""
        self.rate = rate
        self._name = name
        self._frames = frames
        self._step = step

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        total = np.zeros(len(size), np.int64)
        for octets, samples in self._frames.items():
            mine = (total == 0) & (size % octets == 0)
            total[mine] = size[mine] // octets * samples
        return total

    def decoder(self) -> Decode:
        context = _context(self._name, self.rate)
        step = self._step

        def decode(payload: bytes) -> I16 | None:
            whole = len(payload) - len(payload) % step if step else len(payload)
            pieces = [payload[at : at + step] for at in range(0, whole, step)] if step else [payload]
            return _decode(context, pieces)

        return decode


class G722(Library):
    """G.722 (RFC 3551 section 4.5.2): 16 kHz sound, and an RTP clock of 8 kHz by an old mistake."""

    def __init__(self) -> None:
        super().__init__("g722", 16000, {1: 2})


class G729(Library):
    """G.729 (RFC 3551 section 4.5.6): frames of 10 bytes; a last one of 2 bytes is comfort noise."""

    def __init__(self) -> None:
        super().__init__("g729", 8000, {10: 80}, step=10)

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        return size // 10 * 80


class Ilbc(Library):
    """iLBC (RFC 3952): frames of 20 or 30 ms; their length says which, so that a missing fmtp does no harm."""

    _BIT_RATES = {50: 13330, 38: 15200}

    def __init__(self) -> None:
        super().__init__("ilbc", 8000, {50: 240, 38: 160})

    def decoder(self) -> Decode:
        contexts: dict[int, av.AudioCodecContext] = {}

        def decode(payload: bytes) -> I16 | None:
            step = 50 if len(payload) % 50 == 0 else 38
            if step not in contexts:
                contexts[step] = _context("ilbc", self.rate, self._BIT_RATES[step])
            return _decode(contexts[step], [payload[at : at + step] for at in range(0, len(payload), step)])

        return decode


class Opus(Stateful):
    """Opus (RFC 7587): always a clock of 48 kHz, whatever is inside."""

    rate = 48000
    # RFC 6716 section 3.1, table 2: frame lengths in samples by the configuration number.
    _LENGTHS = np.asarray([480, 960, 1920, 2880] * 3 + [480, 960] * 2 + [120, 240, 480, 960] * 4, np.int64)

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        total = np.zeros(len(size), np.int64)
        some = np.flatnonzero(size > 2)  # one or two bytes are DTX: nothing is said
        first = payload[offset[some]].astype(np.int64)
        code = first & 3
        count = np.where(code == 0, 1, 2)
        many = code == 3
        count[many] = payload[offset[some[many]] + 1] & 63
        total[some] = self._LENGTHS[first >> 3] * count
        total[total > 5760] = 0  # more than 120 ms is no Opus packet
        return total

    def decoder(self) -> Decode:
        context = _context("libopus", self.rate)
        return lambda payload: _decode(context, [payload])


class Amr(Stateful):
    """AMR and AMR-WB (RFC 4867)."""

    def __init__(self, wide: bool, fmtp: str) -> None:
        self.rate = 16000 if wide else 8000
        self._wide = wide
        self._aligned = parameter(fmtp, "octet-align") == "1"
        # What changes the layout of the payload and is not read here.
        self.foreign = any(
            parameter(fmtp, name) not in ("", "0") for name in ("interleaving", "crc", "robust-sorting")
        )

    def _frames(self, payload: bytes) -> list[bytes] | None:
        return storage_frames(payload, wide=self._wide, aligned=self._aligned)

    def samples(self, payload: U8, offset: I64, size: I64) -> I64:
        total = np.zeros(len(size), np.int64)
        data = payload.tobytes()
        for index, (start, length) in enumerate(zip(offset.tolist(), size.tolist(), strict=True)):
            frames = self._frames(data[start : start + length])
            # Frame types without speech bits say that there is none.
            total[index] = len(frames) * self.rate // 50 if frames and len(frames[0]) > 1 else 0
        return total

    def decoder(self) -> Decode:
        context = _context("amrwb" if self._wide else "amrnb", self.rate)

        def decode(payload: bytes) -> I16 | None:
            frames = self._frames(payload)
            return None if frames is None else _decode(context, frames)

        return decode


def _context(name: str, rate: int, bit_rate: int = 0) -> av.AudioCodecContext:
    context = cast(av.AudioCodecContext, av.CodecContext.create(name, "r"))
    context.sample_rate = rate
    context.layout = "mono"
    if bit_rate:
        context.bit_rate = bit_rate
    return context


def _decode(context: av.AudioCodecContext, pieces: list[bytes]) -> I16 | None:
    out = []
    try:
        for piece in pieces:
            for frame in context.decode(av.Packet(piece)):
                values = frame.to_ndarray()[0]
                if values.dtype != np.int16:
                    values = np.clip(np.rint(values * 32768.0), -32768, 32767).astype(np.int16)
                out.append(values)
    except FFmpegError:
        return None  # the caller counts it and says so in the report
    return np.concatenate(out) if out else None


def codec_for(payload_format: PayloadFormat) -> Codec | None:
    """How to decode a format; None: not known here."""
    clock = payload_format.clock_rate
    fmtp = payload_format.fmtp
    match payload_format.encoding.upper():
        case "PCMU":
            return G711(ULAW, clock)
        case "PCMA":
            return G711(ALAW, clock)
        case "L16" if 1 <= payload_format.channels <= 8:
            return L16(clock, payload_format.channels)
        case "G722":
            return G722()
        case "OPUS":
            return Opus()
        case "G729":
            return G729()
        case "GSM":
            return Library("gsm", 8000, {33: 160})
        case "G723":
            return Library("g723_1", 8000, {24: 240, 20: 240, 4: 240})
        case "ILBC":
            return Ilbc()
        case "AMR" | "AMR-WB" as name if payload_format.channels == 1:
            amr = Amr(name == "AMR-WB", fmtp)
            return None if amr.foreign else amr
        case "CN" | "TELEPHONE-EVENT":
            return Silent(clock)
    return None
