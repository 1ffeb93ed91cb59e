"""Reads a sound file that somebody sent: WAV, FLAC, Ogg with Opus or Vorbis. Bounded in every direction.

The file is hostile: only these containers and decoders are tried, and reading ends at the first thing that is out of its
bounds. Nothing of the file is repeated in errors.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

from appliance.model import InvalidError

F32 = npt.NDArray[np.float32]
MAX_BYTES: Final = 20 << 20
MAX_SECONDS: Final = 60
MIN_RATE: Final = 8000
MAX_RATE: Final = 48000
MAX_CHANNELS: Final = 2
MAX_PACKETS: Final = 200_000  # 60 s of the shortest FLAC blocks there are at 48 kHz
_MAX_CHUNKS: Final = 1000
_MAX_FORM: Final = 64  # bytes that say the format: 16, 18 or 40
_PCM: Final = "pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_alaw,pcm_mulaw"
_DECODERS: Final = {"wav": _PCM, "flac": "flac", "ogg": "opus,libopus,vorbis,libvorbis"}
_SCALES: Final = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "flt": 1.0, "dbl": 1.0}
# Tags are nobody's business here. Before PyAV 19 one that is no UTF-8 was an error unless told otherwise; since then the
# option is gone.
_TAGS: Final[dict[str, Any]] = (
    {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
_FULL: Final = {"pcm_u8": 127 / 128, "pcm_alaw": 32256 / 32768, "pcm_mulaw": 32124 / 32768}


class PromptFormatError(InvalidError):
    """Not a sound file that is read here, or a damaged one: WAV (PCM, G.711), FLAC, Ogg with Opus or Vorbis."""

    reason = "PROMPT_FORMAT"


class PromptEmptyError(InvalidError):
    """No sound was sent, or the file holds none."""

    reason = "PROMPT_EMPTY"


class PromptTooLargeError(InvalidError):
    """The file is larger than what is taken; `data['limit']` in bytes."""

    reason = "PROMPT_TOO_LARGE"


class PromptTooLongError(InvalidError):
    """The sound is longer than a prompt may be; `data['limit']` in seconds."""

    reason = "PROMPT_TOO_LONG"


class PromptRateError(InvalidError):
    """The sampling rate is outside 8 to 48 kHz; `data['rate']` in Hz."""

    reason = "PROMPT_RATE"


class PromptChannelsError(InvalidError):
    """More than two channels; `data['channels']`."""

    reason = "PROMPT_CHANNELS"


@dataclass(frozen=True, slots=True)
class Sound:
    """What a file holds. `samples`: one row a moment, one column a channel, full scale is 1.0."""

    format: str  # such as wav/pcm_s16le
    rate: int
    samples: F32
    full: float = 32767 / 32768
    """What the file's format can say at most: samples there are at full scale."""

    @property
    def sha256(self) -> str:
        """Of the samples: 32-bit floats, little-endian, channels interleaved."""
        return hashlib.sha256(np.ascontiguousarray(self.samples, "<f4").tobytes()).hexdigest()


def read_sound(data: bytes) -> Sound:
    """The sound in a file of at most MAX_BYTES; the errors of this module say why there is none, `field` is `audio`."""
    if not data:
        raise PromptEmptyError("no sound was sent", field="audio")
    if len(data) > MAX_BYTES:
        raise PromptTooLargeError(f"at most {MAX_BYTES >> 20} MiB", field="audio", limit=MAX_BYTES)
    container = _container(data)
    if container == "wav":
        data = _bare_wav(data)
    try:
        return _read(data, container)
    except (FFmpegError, ValueError):
        # Not chained: what libavformat says may repeat what the file holds.
        raise PromptFormatError("the file is damaged, or not what it begins as", field="audio") from None


def _container(data: bytes) -> str:
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "ogg"
    raise PromptFormatError("should be WAV, FLAC or Ogg", field="audio")


def _bare_wav(data: bytes) -> bytes:
    """The same WAV file with nothing but format and samples in it.

    What else there may be (names, pictures, cue sheets) is read by libavformat into as much memory as it claims to fill.
    """
    form = b""
    at = 12
    for _ in range(_MAX_CHUNKS):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if name == b"data" and form:
            # A size that was not known when it was written is larger than the file; then all of it is sound.
            samples = memoryview(data)[body : body + size]
            head = struct.pack(
                "<4sI4s4sI", b"RIFF", 20 + len(form) + len(samples), b"WAVE", b"fmt ", len(form)
            )
            return b"".join((head, form, struct.pack("<4sI", b"data", len(samples)), samples))
        if name == b"fmt ":
            form = data[body : body + size]
            if not 16 <= len(form) == size <= _MAX_FORM or size % 2:
                break
        at = body + size + size % 2
        if at >= len(data):
            break
    raise PromptFormatError("a WAV file without format or samples", field="audio")


def _read(data: bytes, container: str) -> Sound:
    decoders = _DECODERS[container]
    options = {"codec_whitelist": decoders}
    with av.open(io.BytesIO(data), "r", format=container, options=options, **_TAGS) as source:
        if len(source.streams.audio) != 1:
            raise PromptFormatError("should hold one stream of sound", field="audio")
        stream = source.streams.audio[0]
        context = stream.codec_context
        # None: a coding that libavcodec does not know.
        if context is None or context.name not in decoders.split(","):
            raise PromptFormatError(
                "this coding is not read: PCM, G.711, FLAC, Opus, Vorbis are", field="audio"
            )
        rate, channels = context.sample_rate, context.channels
        if not MIN_RATE <= rate <= MAX_RATE:
            raise PromptRateError(f"should be {MIN_RATE} to {MAX_RATE} Hz", field="audio", rate=rate)
        if not 1 <= channels <= MAX_CHANNELS:
            raise PromptChannelsError("should have one channel or two", field="audio", channels=channels)
        parts = list(_pieces(source, stream, rate, channels))
    if not parts:
        raise PromptEmptyError("the file holds no sound", field="audio")
    samples = np.concatenate(parts)
    if not np.isfinite(samples).all():
        raise PromptFormatError("holds samples that are no numbers", field="audio")
    return Sound(f"{container}/{context.name}", rate, samples, _FULL.get(context.name, 32767 / 32768))


def _pieces(
    source: av.container.InputContainer, stream: av.AudioStream, rate: int, channels: int
) -> Iterator[F32]:
    total = packets = 0
    for packet in source.demux(stream):
        packets += 1
        if packets > MAX_PACKETS:
            raise PromptFormatError("holds far more packets than sound", field="audio")
        for frame in packet.decode():
            if not isinstance(frame, av.AudioFrame):
                continue
            if frame.sample_rate != rate or frame.layout.nb_channels != channels:
                raise PromptFormatError("changes its rate or channels on the way", field="audio")
            total += frame.samples
            if total > MAX_SECONDS * rate:
                raise PromptTooLongError(f"at most {MAX_SECONDS} s", field="audio", limit=MAX_SECONDS)
            if frame.samples:
                yield _floats(frame, channels)


def _floats(frame: av.AudioFrame, channels: int) -> F32:
    kind = frame.format.name
    scale = _SCALES.get(kind.removesuffix("p"))
    if scale is None:
        raise PromptFormatError("samples of a kind that is not read", field="audio")
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is refused by who asked
        return _scaled(frame.to_ndarray().astype(np.float64), frame, channels, scale)


def _scaled(values: npt.NDArray[np.float64], frame: av.AudioFrame, channels: int, scale: float) -> F32:
    if frame.format.name.startswith("u8"):
        values -= 128
    rows = values.T if frame.format.is_planar else values.reshape(-1, channels)
    return np.ascontiguousarray(rows / scale, np.float32)
