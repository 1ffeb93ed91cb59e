"""Packets as columns: the MEDIA and EVENT blocks.

Capture holds, once a second, the packets of all tracks of all recordings in flat arrays sorted by recording and track.
What can be done for all of them at once is done once, in `prepare`; per track there remain three slices.

Each column is delta coded and stored as byte planes (all low bytes, then all next bytes, ...): what is constant or
regular, as most of RTP is, becomes runs that zstd takes away.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

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
class PacketBlock:
    """Packets of one track out of one frame, in order of arrival.

    `offset[i] : offset[i + 1]` is packet i in `payload`. `audio` is False for telephone-events.
    """

    track: int
    audio: bool
    sequence: U16
    timestamp: U32
    arrival_ns: I64
    marker: npt.NDArray[np.bool_]
    payload_type: U8  # without the marker bit
    ssrc: U32
    size: U16
    offset: I64  # n + 1 entries
    payload: U8

    def __len__(self) -> int:
        return len(self.sequence)

    def packets(self) -> Iterator[bytes]:
        """The payload of each packet."""
        view = memoryview(self.payload.data)
        for start, end in zip(self.offset[:-1].tolist(), self.offset[1:].tolist(), strict=True):
            yield bytes(view[start:end])


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
    planes = np.frombuffer(body, np.uint8, PLANES * count, _BODY_BYTES).reshape(PLANES, count)

    def column(row: int, kind: str, base: int) -> np.ndarray:
        width = int(kind[2])
        delta = np.ascontiguousarray(planes[row : row + width].T).view(kind)[:, 0]
        total = np.cumsum(delta, dtype=kind if kind[1] == "u" else np.int64)
        total += total.dtype.type(base)
        return total

    sizes = column(14, "<u2", size)
    offset = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(sizes, dtype=np.int64, out=offset[1:])
    if columns_end + int(offset[-1]) != len(body):
        raise ValueError("sizes and payload of a MEDIA block do not agree")
    arrivals = column(6, "<i4", 0)
    if abs(arrival) > 2**62 or (count and np.abs(arrivals).max() > 2**62 // max(unit, 1)):
        raise ValueError("arrival times of a MEDIA block are out of range")
    second = planes[16]
    return PacketBlock(
        track=track,
        audio=audio,
        sequence=column(0, "<u2", sequence),
        timestamp=column(2, "<u4", timestamp),
        arrival_ns=arrivals * unit + arrival,
        marker=second >= 128,
        payload_type=second & 127,
        ssrc=column(10, "<u4", ssrc),
        size=sizes,
        offset=offset,
        payload=np.frombuffer(body, np.uint8, int(offset[-1]), columns_end),
    )
