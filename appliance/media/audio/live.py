"""A call as it is heard while it lasts. Pure: packets and the time in, chunks out.

Each track has a small jitter buffer: what arrives is played `DELAY_NS` later, in the order and at the distances of its RTP
timestamps (RFC 3550 section 5.1), and never sooner than `HOLD_NS` after it arrived: so long it can be taken back, when it
turns out that it fell into a pause. Times are nanoseconds of one clock that does not jump.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from appliance.media.audio.codecs import Codec, Decode, Stateful, Stateless, codec_for
from appliance.media.audio.encode import audio_frame
from appliance.media.audio.formats import resolve
from appliance.model import PayloadFormat, TrackInfo

I16 = npt.NDArray[np.int16]
RATE = 16000
FRAME_MS = 20
FRAME = RATE * FRAME_MS // 1000
FRAME_NS = FRAME_MS * 1_000_000
DELAY_NS = 80_000_000
HOLD_NS = 40_000_000
EARLY_NS = 40_000_000
"""A source that has come to be so much ahead of its first packet is brought back, so that its delay does not grow."""
BEHIND_NS = 1_000_000_000
"""Who has not asked for sound for so long has lost what was due since."""
MAX_HELD = 400  # packets of one track
MAX_VOICES = 8  # decoders of one track
MIXED = -1
OPUS_BIT_RATE = 24_000
_JOIN = RATE // 500  # 2 ms: what resampling and rounding may add or take between two packets


class Arrived(NamedTuple):
    """An RTP packet of a track."""

    track: int
    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    arrival_ns: int
    payload: bytes


class Chunk(NamedTuple):
    """Some sound; `arrival_ns` is when what begins it was received. The last two: of RTP payloads alone."""

    track: int
    sequence: int
    arrival_ns: int
    data: bytes
    payload_type: int = 0
    timestamp: int = 0


class _Voice:
    """One source in one payload format: packets in order become samples at RATE."""

    def __init__(self, codec: Codec, clock: int) -> None:
        self.codec, self.clock = codec, clock
        self._decode: Decode | None = codec.decoder() if isinstance(codec, Stateful) else None
        self._resampler = (
            av.AudioResampler(format="s16", layout="mono", rate=RATE) if codec.rate != RATE else None
        )
        self._samples = 0

    def decode(self, payload: bytes) -> I16 | None:
        """None where it cannot be decoded, or says nothing."""
        if self._decode is not None:
            values = self._decode(payload)
        elif isinstance(self.codec, Stateless):
            values = self.codec.decode(np.frombuffer(payload, np.uint8))
        else:
            return None
        if values is None or not len(values) or self._resampler is None:
            return values
        frame = audio_frame(values[:, None], self.codec.rate, self._samples)
        self._samples += len(values)
        made = [one.to_ndarray()[0] for one in self._resampler.resample(frame)]
        return np.concatenate(made).astype(np.int16, copy=False) if made else None


class LiveTrack:
    """The jitter buffer and decoders of one track."""

    def __init__(self, formats: Iterable[PayloadFormat] = ()) -> None:
        self.formats = tuple(formats)
        self.lost = 0
        self._held: list[tuple[int, int, int, Arrived]] = []  # a heap: when to play it, and in which order
        self._count = 0
        self._base: dict[
            tuple[int, int], tuple[int, int]
        ] = {}  # by source and clock: timestamp, when it is played
        self._voices: dict[tuple[int, int], _Voice | None] = {}
        self._last: dict[int, int] = {}  # sequence number that was decoded last, by source
        self._pieces: deque[tuple[int, I16, int]] = deque()  # from which sample on, and when it arrived
        self._next = 0

    def put(self, packet: Arrived) -> None:
        """A packet has arrived."""
        stated = resolve(packet.payload_type, self.formats)
        if stated is None:
            return
        key = packet.ssrc, stated.clock_rate
        timestamp, play_ns = self._base.get(key, (packet.timestamp, packet.arrival_ns))
        step = (packet.timestamp - timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        at_ns = play_ns + step * 1_000_000_000 // stated.clock_rate
        if not HOLD_NS - DELAY_NS <= at_ns - packet.arrival_ns <= EARLY_NS:
            at_ns = packet.arrival_ns  # too late to be played there, or its clock was set: it begins anew
        if len(self._base) >= MAX_VOICES and key not in self._base:
            self._base.clear()
        self._base[key] = (packet.timestamp, at_ns)
        self._count += 1
        heapq.heappush(self._held, (at_ns, self._count, stated.clock_rate, packet))
        if len(self._held) > MAX_HELD:
            heapq.heappop(self._held)
            self.lost += 1

    def revoke(self, from_ns: int) -> None:
        """Takes back what arrived from then on."""
        self._held = [item for item in self._held if item[3].arrival_ns < from_ns]
        heapq.heapify(self._held)
        self._pieces = deque(piece for piece in self._pieces if piece[2] < from_ns)

    def read(self, at_ns: int) -> I16:
        """The FRAME samples from then on. Each call goes on where the one before it ended, or later."""
        first = at_ns * RATE // 1_000_000_000
        # A little ahead: what a resampler still holds of a packet comes with the next one.
        while self._held and self._held[0][0] < at_ns + FRAME_NS + FRAME_NS // 4:
            self._decode(*heapq.heappop(self._held))
        out = np.zeros(FRAME, np.int16)
        while self._pieces and self._pieces[0][0] + len(self._pieces[0][1]) <= first:
            self._pieces.popleft()
        for start, values, _ in self._pieces:
            low, high = max(start, first), min(start + len(values), first + FRAME)
            if low < high:
                out[low - first : high - first] = values[low - start : high - start]
        return out

    def _decode(self, at_ns: int, count: int, clock: int, packet: Arrived) -> None:
        last = self._last.get(packet.ssrc)
        if last is not None and not 0 < (packet.sequence - last & 0xFFFF) < 0x8000:
            return  # late beyond use, or twice
        if len(self._last) >= MAX_VOICES and packet.ssrc not in self._last:
            self._last.clear()
        self._last[packet.ssrc] = packet.sequence
        voice = self._voice(packet.ssrc, packet.payload_type)
        values = voice.decode(packet.payload) if voice is not None else None
        if values is None or not len(values):
            return
        start = at_ns * RATE // 1_000_000_000
        if abs(start - self._next) <= _JOIN:
            start = self._next
        self._next = start + len(values)
        self._pieces.append((start, values, packet.arrival_ns))

    def _voice(self, ssrc: int, payload_type: int) -> _Voice | None:
        key = ssrc, payload_type
        if key not in self._voices:
            stated = resolve(payload_type, self.formats)
            codec = codec_for(stated) if stated is not None else None
            if len(self._voices) >= MAX_VOICES:
                del self._voices[next(iter(self._voices))]
            made = _Voice(codec, stated.clock_rate) if stated and codec and not codec.silent else None
            self._voices[key] = made
        return self._voices[key]

    def describe(self, formats: Iterable[PayloadFormat]) -> None:
        """What its payload types stand for now."""
        formats = tuple(formats)
        if formats != self.formats:
            self.formats = formats
            self._voices.clear()


class _Opus:
    """20 ms of sound at a time, as Opus packets."""

    def __init__(self) -> None:
        context = av.CodecContext.create("libopus", "w")
        context.sample_rate = RATE
        context.layout = "mono"
        context.format = av.AudioFormat("s16")
        context.time_base = Fraction(1, RATE)
        context.bit_rate = OPUS_BIT_RATE
        context.options = {"application": "voip", "frame_duration": str(FRAME_MS)}
        context.open()
        self._context = context
        self._at = 0

    def encode(self, samples: I16) -> bytes:
        packets = self._context.encode(audio_frame(samples[:, None], RATE, self._at))
        self._at += len(samples)
        return b"".join(bytes(packet) for packet in packets)


class Live(ABC):
    """What one listener hears of a call. `put` packets, `revoke` them, take what is `due`."""

    rate = 0

    @abstractmethod
    def describe(self, tracks: Iterable[TrackInfo]) -> None:
        """Which tracks there are now, and what their payload types stand for."""

    @abstractmethod
    def put(self, packet: Arrived) -> None:
        """A packet has arrived."""

    @abstractmethod
    def revoke(self, from_ns: int, track: int | None = None) -> None:
        """Takes back what arrived from then on: of one track, or of all."""

    @abstractmethod
    def due(self, now_ns: int) -> list[Chunk]:
        """What is to be heard by now."""

    @abstractmethod
    def take_lost(self) -> int:
        """How many packets or frames were lost since last asked."""


class LiveSound(Live):
    """Decoded: 16-bit samples, or Opus; a stream a track, or all in one. It goes on while nothing is said: silence."""

    rate = RATE

    def __init__(self, start_ns: int, *, opus: bool, mixed: bool) -> None:
        self._tracks: dict[int, LiveTrack] = {}
        self._opus = opus
        self._mixed = mixed
        self._encoders: dict[int, _Opus] = {}
        self._sequence: dict[int, int] = {}
        self._cursor = (start_ns - DELAY_NS) // FRAME_NS * FRAME_NS
        self._lost = 0

    def describe(self, tracks: Iterable[TrackInfo]) -> None:
        for track in tracks:
            found = self._tracks.setdefault(track.track, LiveTrack())
            found.describe(track.formats)

    def put(self, packet: Arrived) -> None:
        track = self._tracks.get(packet.track)
        if track is not None:
            track.put(packet)

    def revoke(self, from_ns: int, track: int | None = None) -> None:
        for number, found in self._tracks.items():
            if track in (None, number):
                found.revoke(from_ns)

    def due(self, now_ns: int) -> list[Chunk]:
        until = now_ns - DELAY_NS
        if until - self._cursor > BEHIND_NS:
            skipped = (until - self._cursor) // FRAME_NS
            self._cursor += skipped * FRAME_NS
            self._lost += skipped
        found: list[Chunk] = []
        while self._cursor <= until:
            found += self._frame(self._cursor)
            self._cursor += FRAME_NS
        return found

    def _frame(self, at_ns: int) -> list[Chunk]:
        sound = {number: track.read(at_ns) for number, track in self._tracks.items()}
        if self._mixed:
            total = np.zeros(FRAME, np.int32)
            for samples in sound.values():
                total += samples
            sound = {MIXED: np.clip(total, -32768, 32767).astype(np.int16)}
        return [self._chunk(number, at_ns, samples) for number, samples in sound.items()]

    def _chunk(self, number: int, at_ns: int, samples: I16) -> Chunk:
        sequence = self._sequence.get(number, 0)
        self._sequence[number] = sequence + 1
        if self._opus:
            if number not in self._encoders:
                self._encoders[number] = _Opus()
            data = self._encoders[number].encode(samples)
        else:
            data = samples.astype("<i2", copy=False).tobytes()
        return Chunk(number, sequence, at_ns, data)

    def take_lost(self) -> int:
        lost = self._lost + sum(track.lost for track in self._tracks.values())
        self._lost = 0
        for track in self._tracks.values():
            track.lost = 0
        return lost


class LivePayloads(Live):
    """As received, `HOLD_NS` later."""

    def __init__(self) -> None:
        self._held: deque[Arrived] = deque()
        self._lost = 0

    def describe(self, tracks: Iterable[TrackInfo]) -> None:
        """The listener is told by the header."""

    def put(self, packet: Arrived) -> None:
        if len(self._held) >= MAX_HELD:
            self._lost += 1
        else:
            self._held.append(packet)

    def revoke(self, from_ns: int, track: int | None = None) -> None:
        self._held = deque(
            one for one in self._held if one.arrival_ns < from_ns or track not in (None, one.track)
        )

    def due(self, now_ns: int) -> list[Chunk]:
        ready = [one for one in self._held if one.arrival_ns + HOLD_NS <= now_ns]
        if ready:
            self._held = deque(one for one in self._held if one.arrival_ns + HOLD_NS > now_ns)
        return [
            Chunk(one.track, one.sequence, one.arrival_ns, one.payload, one.payload_type, one.timestamp)
            for one in ready
        ]

    def take_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost
