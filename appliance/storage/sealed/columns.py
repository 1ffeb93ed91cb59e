"""Packets as columns: the MEDIA and EVENT blocks.

Capture holds, once a second, the packets of all tracks of all recordings in flat arrays sorted by recording and track.
What can be done for all of them at once is done once, in `prepare`; per track there remain three slices.

Each column is delta coded and stored as byte planes (all low bytes, then all next bytes, ...): what is constant or
regular, as most of RTP is, becomes runs that zstd takes away.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from appliance.storage.sealed.errors import SealedLimitError

# block head: type, zero, zero, length; then track, payload coding, layout, count, first arrival ns, first timestamp,
# first ssrc, first sequence, first size, arrival unit ns
_HEAD = np.dtype(
    [
        ("type", "u1"),
        ("zero", "u1"),
        ("zero2", "<u2"),
        ("length", "<u4"),
        ("track", "<u2"),
        ("coding", "u1"),
        ("layout", "u1"),
        ("count", "<u4"),
        ("arrival", "<i8"),
        ("timestamp", "<u4"),
        ("ssrc", "<u4"),
        ("sequence", "<u2"),
        ("size", "<u2"),
        ("unit", "<u4"),
    ]
)
_BODY_HEAD = struct.Struct("<HBBIqIIHHI")
_BODY_BYTES = _BODY_HEAD.size
assert _HEAD.itemsize == 8 + _BODY_BYTES == 40

LAYOUT_PLANES = 1
CODING_AS_RECEIVED = 0
ARRIVAL_UNIT_NS = 1000
# rows of planes: sequence 2, timestamp 4, arrival 4, ssrc 4, size 2, marker and payload type 1
PLANES = 17
_SIZE_ROW = 14
_MEDIA = 4
_EVENT = 5

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class PacketColumns:
    """Packets in order of arrival within each track; all arrays have one entry per packet.

    `payload_type` is the second byte of the RTP header as received: marker bit and payload type. `payload` holds the
    payload bytes (after CSRCs and extension, without padding) of all packets back to back, `size` the length of each.
    """

    sequence: U16
    timestamp: U32
    arrival_ns: I64
    payload_type: U8
    ssrc: U32
    size: U16
    payload: U8 | bytes | memoryview


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets of one track in order of arrival, as plain columns: of one block, or of many joined by `join_packets`."""

    sequence: U16
    timestamp: U32
    arrival_ns: I64
    payload_type: U8  # without the marker bit
    marker: npt.NDArray[np.bool_]
    ssrc: U32
    size: U16

    def __len__(self) -> int:
        return len(self.sequence)


class PacketBlock:
    """Packets of one track out of one frame, in order of arrival; `audio` is False for telephone-events.

    Columns are decoded when first asked for. Whoever wants those of a whole track asks `join_packets` for all its
    blocks at once, which costs far less than block by block.
    """

    __slots__ = ("_base", "_columns", "_offset", "_planes", "_size", "audio", "count", "payload", "track")

    def __init__(
        self, track: int, audio: bool, base: _Base, planes: memoryview, payload: memoryview, size: U16 | None
    ) -> None:
        self.track = track
        self.audio = audio
        self.count = base.packets
        self.payload = payload
        """Payloads of all packets back to back."""
        self._base = base
        self._planes = planes
        self._size = size
        self._columns: Packets | None = None
        self._offset: I64 | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def columns(self) -> Packets:
        """All columns."""
        if self._columns is None:
            self._columns = join_packets([self])
        return self._columns

    @property
    def sequence(self) -> U16:
        return self.columns.sequence

    @property
    def timestamp(self) -> U32:
        return self.columns.timestamp

    @property
    def arrival_ns(self) -> I64:
        return self.columns.arrival_ns

    @property
    def payload_type(self) -> U8:
        return self.columns.payload_type

    @property
    def marker(self) -> npt.NDArray[np.bool_]:
        return self.columns.marker

    @property
    def ssrc(self) -> U32:
        return self.columns.ssrc

    @property
    def size(self) -> U16:
        if self._size is None:
            self._size = np.full(self.count, self._base.size, np.uint16)
        return self._size

    @property
    def offset(self) -> I64:
        """n + 1 places: packet i is `payload[offset[i] : offset[i + 1]]`."""
        if self._offset is None:
            self._offset = np.zeros(self.count + 1, dtype=np.int64)
            np.cumsum(self.size, dtype=np.int64, out=self._offset[1:])
        return self._offset

    def packets(self) -> Iterator[bytes]:
        """The payload of each packet."""
        for start, end in itertools.pairwise(self.offset.tolist()):
            yield bytes(self.payload[start:end])


class _Base(NamedTuple):
    """How many packets a block has, and the values of its first."""

    packets: int
    arrival: int
    timestamp: int
    ssrc: int
    sequence: int
    size: int
    unit: int


class PreparedColumns:
    """Columns of many groups, ready to be sliced; see `prepare`."""

    __slots__ = ("_ends", "_heads", "_payload", "_payload_at", "_planes", "_starts", "groups")

    def __init__(
        self, heads: bytes, planes: U8, payload: memoryview, bounds: list[int], payload_at: list[int]
    ) -> None:
        self._heads = memoryview(heads)
        self._planes = planes
        self._payload = payload
        self._starts = bounds[:-1]
        self._ends = bounds[1:]
        self._payload_at = payload_at
        self.groups = len(self._starts)

    def block(self, group: int) -> tuple[memoryview, bytes, memoryview] | tuple[()]:
        """The buffers of one group's block, for SealedWriter.frame; nothing where the group has no packets."""
        start, end = self._starts[group], self._ends[group]
        if start == end:
            return ()
        at = self._payload_at
        return (
            self._heads[group * 40 : group * 40 + 40],
            self._planes[:, start:end].tobytes(),
            self._payload[at[group] : at[group + 1]],
        )


def prepare(
    columns: PacketColumns,
    starts: npt.ArrayLike,
    tracks: npt.ArrayLike,
    *,
    event: npt.ArrayLike | bool = False,
) -> PreparedColumns:
    """Makes columns ready to be sliced into one block per group.

    A group is a run of packets of one track of one recording. `starts` holds each group's first packet index, and the
    number of packets as its last entry (groups + 1 entries); `tracks` the track number of each group; `event` which
    groups are telephone-events. Arrival times are kept to a microsecond.
    """
    bounds = np.asarray(starts, dtype=np.int64)
    count = len(columns.sequence)
    if len(bounds) < 1 or bounds[0] != 0 or bounds[-1] != count or (np.diff(bounds) < 0).any():
        raise SealedLimitError("group bounds must rise from 0 to the number of packets")
    groups = len(bounds) - 1
    source = columns.payload
    payload = memoryview(source.data if isinstance(source, np.ndarray) else source).cast("B")
    # One cumulative sum gives where each packet's payload begins; only the groups' bounds are kept.
    ends = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(columns.size, dtype=np.int64, out=ends[1:])
    if ends[-1] != len(payload):
        raise SealedLimitError("sizes and payload do not agree", size=int(ends[-1]), payload=len(payload))
    payload_at = ends[bounds]

    arrival = columns.arrival_ns // ARRIVAL_UNIT_NS
    filled = bounds[:-1] < bounds[1:]
    first = bounds[:-1][filled]
    planes = np.empty((PLANES, count), dtype=np.uint8)
    row = 0
    for column, kind in (
        (columns.sequence, "<u2"),
        (columns.timestamp, "<u4"),
        (arrival, "<i4"),
        (columns.ssrc, "<u4"),
        (columns.size, "<u2"),
    ):
        width = int(kind[2])
        delta = np.empty(count, dtype=kind)
        if count:
            if column is arrival:
                # A clock that jumps by more than 35 minutes saturates; the next block states its time anew.
                delta[1:] = np.clip(np.diff(arrival), -(2**31), 2**31 - 1)
            else:
                np.subtract(column[1:], column[:-1], out=delta[1:], casting="unsafe")
            delta[first] = 0
        planes[row : row + width] = delta.view(np.uint8).reshape(count, width).T
        row += width
    planes[row] = columns.payload_type

    heads = np.zeros(groups, dtype=_HEAD)
    heads["type"] = np.where(event, _EVENT, _MEDIA)
    packets = np.diff(bounds)
    lengths = _BODY_BYTES + PLANES * packets + np.diff(payload_at)
    heads["length"] = lengths
    heads["track"] = tracks
    heads["coding"] = CODING_AS_RECEIVED
    heads["layout"] = LAYOUT_PLANES
    heads["count"] = packets
    heads["unit"] = ARRIVAL_UNIT_NS
    for name, values in (
        ("arrival", arrival),
        ("timestamp", columns.timestamp),
        ("ssrc", columns.ssrc),
        ("sequence", columns.sequence),
        ("size", columns.size),
    ):
        heads[name][filled] = values[first]
    heads["arrival"] *= ARRIVAL_UNIT_NS
    return PreparedColumns(heads.tobytes(), planes, payload, bounds.tolist(), payload_at.tolist())


def unpack_packets(body: memoryview, *, audio: bool) -> PacketBlock:
    """Reads a MEDIA or EVENT block's body; ValueError where it is malformed."""
    if len(body) < _BODY_BYTES:
        raise ValueError("a MEDIA block is cut")
    track, coding, layout, count, arrival, timestamp, ssrc, sequence, size, unit = _BODY_HEAD.unpack_from(
        body
    )
    if coding != CODING_AS_RECEIVED or layout != LAYOUT_PLANES:
        raise ValueError("a MEDIA block is coded in a way not known here")
    columns_end = _BODY_BYTES + PLANES * count
    if not count or columns_end > len(body):
        raise ValueError("a MEDIA block is cut")
    # All times of a block fit into 63 bits, whatever its differences are.
    if abs(arrival) > 2**62 or unit * count > 2**31:
        raise ValueError("arrival times of a MEDIA block are out of range")
    base = _Base(count, arrival, timestamp, ssrc, sequence, size, unit)
    planes = body[_BODY_BYTES:columns_end]
    payload = body[columns_end:]
    sizes: U16 | None = None
    if planes[_SIZE_ROW * count : (_SIZE_ROW + 2) * count].tobytes().strip(b"\0"):
        sizes = _column(
            np.frombuffer(planes, np.uint8).reshape(PLANES, count), _SIZE_ROW, "<u2", [base], size
        )
        total = int(sizes.sum(dtype=np.int64))
    else:
        total = size * count  # every packet is as long as the first: nearly always
    if total != len(payload):
        raise ValueError("sizes and payload of a MEDIA block do not agree")
    return PacketBlock(track, audio, base, planes, payload, sizes)


def join_packets(blocks: Sequence[PacketBlock]) -> Packets:
    """The columns of many blocks of one track, one after the other."""
    if not blocks:
        none = (np.zeros(0, kind) for kind in ("u2", "u4", "i8", "u1", "?", "u4", "u2"))
        return Packets(*none)
    bases = [block._base for block in blocks]
    parts = [np.frombuffer(block._planes, np.uint8).reshape(PLANES, block.count) for block in blocks]
    planes = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    second = planes[PLANES - 1]
    return Packets(
        sequence=_column(planes, 0, "<u2", bases, *(base.sequence for base in bases)),
        timestamp=_column(planes, 2, "<u4", bases, *(base.timestamp for base in bases)),
        arrival_ns=_arrivals(planes, bases),
        payload_type=second & 127,
        marker=second >= 128,
        ssrc=_column(planes, 10, "<u4", bases, *(base.ssrc for base in bases)),
        size=_column(planes, _SIZE_ROW, "<u2", bases, *(base.size for base in bases)),
    )


def _deltas(planes: U8, row: int, kind: str) -> npt.NDArray[Any]:
    width = int(kind[2])
    return np.array(planes[row : row + width].T, order="C").view(kind)[:, 0]


def _column(planes: U8, row: int, kind: str, bases: Sequence[_Base], *firsts: int) -> npt.NDArray[Any]:
    """One running sum over all blocks: each block's first difference is made to lead to its first value."""
    delta = _deltas(planes, row, kind)
    starts = np.cumsum([0] + [base.packets for base in bases[:-1]])
    value = np.asarray(firsts, dtype=kind)
    within = np.add.reduceat(delta, starts, dtype=kind)
    # A well-formed block begins with 0, but what it begins with is part of its running sum.
    lead = value.copy()
    lead[1:] -= value[:-1] + within[:-1]
    delta[starts] += lead
    return np.cumsum(delta, dtype=kind)


def _arrivals(planes: U8, bases: Sequence[_Base]) -> I64:
    counts = [base.packets for base in bases]
    starts = np.cumsum([0] + counts[:-1])
    units = np.asarray([base.unit for base in bases], np.int64)
    delta = _deltas(planes, 6, "<i4") * np.repeat(units, counts)
    total = np.cumsum(delta)
    before = total[starts] - delta[starts]
    first = np.asarray([base.arrival for base in bases], np.int64)
    return total + np.repeat(first - before, counts)
