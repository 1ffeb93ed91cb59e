"""Whether a recording sounds as a conversation should: one-way, silent or clipped. Judged while its file is read once.

Bounded whatever the file holds: about half a megabyte a track in memory; G.711 and linear PCM are looked at whole, as
arrays; of other codecs at most `MAX_DECODED` packets of all tracks together are decoded, most of them from the
beginning. What was not kept (paused, held) is in no packet, so it counts as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from appliance.media.audio.codecs import Codec, Decode, Stateful, Stateless, codec_for
from appliance.media.audio.formats import resolve
from appliance.media.audio.recording import silences
from appliance.model import Mark, PayloadFormat, RecordingInfo, Role
from appliance.storage.sealed import PacketBlock, Packets, join_packets

SILENT_DBFS: Final = -50.0
"""A packet is silent below this: its power without what is constant, over that of a full-scale square wave."""
MAX_CLIPPED: Final = 0.005  # of a track's samples
FULL_SCALE: Final = 32_000  # of 32,768: only the outermost codes of G.711 stand above it
MIN_JUDGED_NS: Final = 2_000_000_000  # less was kept: too little to judge
MAX_TRACKS: Final = 256
MAX_DECODED: Final = 40_000
"""Packets of codecs with a memory: a few seconds of work."""
DENSE_S: Final = 30
"""So long every second is decoded; then every second one, and ever fewer."""
ONE_WAY: Final = "one-way"
_BATCH_BLOCKS, _BATCH_BYTES = 32, 256 << 10
_WARM_UP: Final = 2  # packets after which a decoder that begins in the middle is right
_POWER: Final = 32768.0**2 * 10 ** (SILENT_DBFS / 10)

U8 = npt.NDArray[np.uint8]
I16 = npt.NDArray[np.int16]
I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Decoder:
    decode: Decode
    ssrc: int
    second: int = 0
    taken: int = 0


@dataclass(slots=True)
class _Track:
    formats: list[PayloadFormat] = field(default_factory=list)
    blocks: list[PacketBlock] = field(default_factory=list)
    waiting: int = 0  # bytes of them
    packets: int = 0
    unknown: int = 0  # packets that cannot be decoded
    loud: bool = False
    samples: int = 0
    clipped: int = 0
    first_ns: int = 0
    codecs: dict[int, Codec | None] = field(default_factory=dict)
    decoders: dict[int, _Decoder] = field(default_factory=dict)  # by payload type

    @property
    def silent(self) -> bool:
        """It had packets, all of them could be understood, and nothing was heard."""
        return self.packets > 0 and not self.unknown and not self.loud

    @property
    def overdriven(self) -> bool:
        return self.clipped > MAX_CLIPPED * self.samples


class Quality:
    """Takes blocks in the order of the file; then `flags` gives the judgement, once."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._info: RecordingInfo | None = None
        self._budget = MAX_DECODED

    def told(self, info: RecordingInfo) -> None:
        """What the recording is of; a later one replaces it, formats of earlier ones still decode."""
        self._info = info
        for stated in info.tracks:
            track = self._track(stated.track)
            if track is not None:
                track.formats.extend(one for one in stated.formats if one not in track.formats)
                track.codecs.clear()

    def heard(self, block: PacketBlock) -> None:
        """Packets; telephone-events are none."""
        track = self._track(block.track)
        if track is None or not block.audio or not len(block):
            return
        track.blocks.append(block)
        track.waiting += len(block.payload)
        if len(track.blocks) >= _BATCH_BLOCKS or track.waiting >= _BATCH_BYTES:
            self._look(track)

    def _track(self, number: int) -> _Track | None:
        if number not in self._tracks and len(self._tracks) >= MAX_TRACKS:
            return None
        return self._tracks.setdefault(number, _Track())

    def flags(self, marks: Sequence[Mark], start_ns: int, end_ns: int) -> tuple[str, ...]:
        """`one-way`, `silent-caller`, `clipped-agent` and their like; nothing where less than 2 s were kept."""
        for track in self._tracks.values():
            self._look(track)
        duration = end_ns - start_ns
        ordered = sorted(marks, key=lambda mark: mark.at_ns)
        if duration - _covered(silences(ordered, start_ns, duration), duration) < MIN_JUDGED_NS:
            return ()
        found: set[str] = set()
        sides = self._sides()
        if len(sides) > 1 and sum(any(track.packets for track in side) for _, side in sides) == 1:
            found.add(ONE_WAY)
        for role, side in sides:
            spoken = [track for track in side if track.packets]
            if spoken and all(track.silent for track in spoken):
                found.add(f"silent-{role.value}")
            if any(track.overdriven for track in spoken):
                found.add(f"clipped-{role.value}")
        return tuple(sorted(found))

    def _sides(self) -> list[tuple[Role, list[_Track]]]:
        """Tracks by who speaks on them, without the box's; who is neither caller nor agent is a side alone.

        A track that was never agreed upon, as of a phone that did not answer, is none.
        """
        info = self._info
        stated = {one.track: one.party for one in info.tracks} if info is not None else {}
        known: dict[Role, list[_Track]] = {}
        alone: list[tuple[Role, list[_Track]]] = []
        for number, track in self._tracks.items():
            party = stated.get(number, -1)
            role = Role.UNKNOWN
            if info is not None and 0 <= party < len(info.parties):
                role = info.parties[party].role
            if role is Role.BOX or not (track.packets or track.formats):
                continue
            if role is Role.UNKNOWN:
                alone.append((role, [track]))
            else:
                known.setdefault(role, []).append(track)
        return [*known.items(), *alone]

    # -- listening ---------------------------------------------------------------------------------------------------

    def _look(self, track: _Track) -> None:
        if not track.blocks:
            return
        columns = join_packets(track.blocks)
        payload = np.frombuffer(b"".join([block.payload for block in track.blocks]), np.uint8)
        track.blocks, track.waiting = [], 0
        size = columns.size.astype(np.int64)
        if not track.packets:
            track.first_ns = int(columns.arrival_ns[0])
        track.packets += len(size)
        kinds = np.unique(columns.payload_type).tolist()
        for kind in kinds:
            mine = columns.payload_type == kind
            codec = self._codec(track, kind)
            if codec is None:
                track.unknown += int(np.count_nonzero(mine))
            elif isinstance(codec, Stateless):
                some = payload if len(kinds) == 1 else payload[np.repeat(mine, size)]
                self._whole(track, codec, some, size[mine])
            elif isinstance(codec, Stateful):
                self._sampled(track, kind, codec, payload, columns, np.flatnonzero(mine))

    @staticmethod
    def _codec(track: _Track, kind: int) -> Codec | None:
        if kind not in track.codecs:
            stated = resolve(kind, track.formats)
            track.codecs[kind] = codec_for(stated) if stated is not None else None
        return track.codecs[kind]

    @staticmethod
    def _whole(track: _Track, codec: Stateless, payload: U8, size: I64) -> None:
        """Packets of a codec without a memory, all at once."""
        even = size % codec.width == 0
        if not even.all():
            payload, size = payload[np.repeat(even, size)], size[even]
        samples = codec.decode(payload)
        track.samples += len(samples)
        track.clipped += _full(samples)
        if track.loud:
            return  # it was heard; no more need be known
        size = size[size > 0] // codec.width
        begins = np.cumsum(size) - size
        if not len(size):
            return
        value = samples.astype(np.float64)
        mean = np.add.reduceat(value, begins) / size
        power = np.add.reduceat(value * value, begins) / size - mean * mean
        track.loud = bool((power > _POWER).any())

    def _sampled(
        self, track: _Track, kind: int, codec: Stateful, payload: U8, columns: Packets, at: I64
    ) -> None:
        """Packets of a codec with a memory, one by one: those of some seconds, ever fewer as the call goes on."""
        size = columns.size.astype(np.int64)
        offset = np.cumsum(size) - size
        second = np.maximum(columns.arrival_ns[at] - track.first_ns, 0) // 1_000_000_000
        wanted = (second % (1 + second // DENSE_S) == 0) & (size[at] > 0)
        at, second = at[wanted][: self._budget], second[wanted]
        self._budget -= len(at)
        for index, moment in zip(at.tolist(), second.tolist(), strict=False):
            ssrc = int(columns.ssrc[index])
            known = track.decoders.get(kind)
            if known is None or known.ssrc != ssrc or moment - known.second > 1:
                # Another voice, or seconds that were left out: what was before says nothing of it.
                known = track.decoders[kind] = _Decoder(codec.decoder(), ssrc)
            known.second, known.taken = moment, known.taken + 1
            values = known.decode(payload[offset[index] : offset[index] + size[index]].tobytes())
            if values is None:
                track.unknown += 1
                continue
            if known.taken <= _WARM_UP or not len(values):
                continue
            track.samples += len(values)
            track.clipped += _full(values)
            track.loud = track.loud or float(np.var(values.astype(np.float64))) > _POWER


def _full(samples: I16) -> int:
    return int(np.count_nonzero((samples >= FULL_SCALE) | (samples <= -FULL_SCALE)))


def _covered(spans: Iterable[tuple[int, int]], duration: int) -> int:
    """How much of [0, duration) these spans cover together."""
    total = reached = 0
    for begin, end in sorted(spans):
        begin, end = max(begin, reached), min(end, duration)
        if end > begin:
            total += end - begin
            reached = end
    return total
