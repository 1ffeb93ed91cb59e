"""WAV, FLAC and Ogg Opus, written piece by piece; the same sound gives the same bytes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
_LAYOUTS = {1: "mono", 2: "stereo"}
_WAV = struct.Struct("<4sI4s4sIHHIIHH4sI")
_RF64 = struct.Struct("<4sI4s4sIQQQI4sIHHIIHH4sI")
_MAX_RIFF = (1 << 32) - 1


def wav_header(rate: int, channels: int, samples: int) -> bytes:
    """44 bytes; beyond 4 GiB, 80 bytes of RF64 (EBU Tech 3306), which says the same with 64 bits."""
    block = 2 * channels
    size = samples * block
    form = (16, 1, channels, rate, rate * block, block, 16, b"data")
    if size + _WAV.size - 8 <= _MAX_RIFF:
        return _WAV.pack(b"RIFF", size + _WAV.size - 8, b"WAVE", b"fmt ", *form, size)
    return _RF64.pack(
        b"RF64",
        _MAX_RIFF,
        b"WAVE",
        b"ds64",
        28,
        size + _RF64.size - 8,
        size,
        samples,
        0,
        b"fmt ",
        *form,
        _MAX_RIFF,
    )


def audio_frame(piece: I16, rate: int, at: int) -> av.AudioFrame:
    """Samples (n, channels) as a frame of libavcodec, `at` samples after the beginning."""
    channels = piece.shape[1]
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(piece).reshape(1, -1), format="s16", layout=_LAYOUTS[channels]
    )
    frame.sample_rate = rate
    frame.pts = at
    frame.time_base = Fraction(1, rate)
    return frame


def packets(codec: str, samples: I16, rate: int, ms: int, *, opus_bit_rate: int = 0) -> list[bytes]:
    """One channel as RTP payloads of so many milliseconds; `opus_bit_rate` in bits a second, 0: as the encoder chooses."""
    context = cast(av.AudioCodecContext, av.CodecContext.create(codec, "w"))
    context.sample_rate = rate
    context.layout = "mono"
    context.format = av.AudioFormat("s16")
    context.time_base = Fraction(1, rate)
    if codec == "libopus":
        context.options = {"application": "voip", "frame_duration": str(ms)}
        if opus_bit_rate:
            context.bit_rate = opus_bit_rate
    context.open()
    step = rate * ms // 1000
    made: list[bytes] = []
    for at in range(0, len(samples), step):
        made += [
            bytes(packet) for packet in context.encode(audio_frame(samples[at : at + step, None], rate, at))
        ]
    return made + [bytes(packet) for packet in context.encode(None)]


def flac(pieces: Iterable[I16], rate: int, channels: int, samples: int, md5: bytes) -> Iterator[bytes]:
    """A FLAC stream (RFC 9639) whose STREAMINFO is right from the beginning, MD5 included, so that it can be streamed."""
    context = av.CodecContext.create("flac", "w")
    context.sample_rate = rate
    context.layout = _LAYOUTS[channels]
    context.format = "s16"
    context.time_base = Fraction(1, rate)
    context.open()
    info = bytearray(context.extradata or b"")[-34:]
    block = int.from_bytes(info[2:4], "big")
    info[4:10] = bytes(6)  # frame sizes are not known beforehand
    packed = int.from_bytes(info[10:18], "big")
    info[10:18] = (packed >> 36 << 36 | samples).to_bytes(8, "big")
    info[18:34] = md5
    yield b"fLaC\x80\x00\x00\x22" + bytes(info)
    at = 0
    for piece in _cut(pieces, block):
        for packet in context.encode(audio_frame(piece, rate, at)):
            yield bytes(packet)
        at += len(piece)
    for packet in context.encode(None):
        yield bytes(packet)


def _cut(pieces: Iterable[I16], size: int) -> Iterator[I16]:
    """The same samples in pieces of exactly `size`, but for the last."""
    rest: I16 | None = None
    for piece in pieces:
        whole = piece if rest is None else np.concatenate([rest, piece])
        until = len(whole) - len(whole) % size
        for at in range(0, until, size):
            yield whole[at : at + size]
        rest = whole[until:]
    if rest is not None and len(rest):
        yield rest


def digest(pieces: Iterable[I16]) -> bytes:
    """MD5 of the samples, as STREAMINFO wants it: a checksum of FLAC, not a matter of security."""
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        md5.update(np.ascontiguousarray(piece, dtype="<i2").data)
    return md5.digest()


class _Sink:
    """Takes what a muxer writes; it cannot seek, so the muxer must not want to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def drain(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


def ogg_opus(pieces: Iterable[I16], rate: int, channels: int, bit_rate: int) -> Iterator[bytes]:
    """Ogg Opus (RFC 7845) with a fixed serial number and no trace of time or place."""
    sink = _Sink()
    options = {"fflags": "+bitexact", "serial_offset": "0", "flush_packets": "1"}
    with av.open(sink, "w", format="ogg", container_options=options) as container:
        stream = container.add_stream(
            "libopus", rate=rate, options={"application": "voip", "frame_duration": "20"}
        )
        context = stream.codec_context
        context.layout = _LAYOUTS[channels]
        context.format = "s16"
        context.bit_rate = bit_rate * channels
        at = 0
        for piece in _cut(pieces, rate // 50):
            container.mux(stream.encode(audio_frame(piece, rate, at)))
            at += len(piece)
            if data := sink.drain():
                yield data
        if at:
            container.mux(stream.encode(None))
        else:
            container.start_encoding()
    yield sink.drain()
