"""RTP headers of many packets at once (RFC 3550 section 5.1), as arrays. No packet can make it read outside its cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = 12
_PLAIN = 0x80  # version 2, no padding, no extension, no CSRC: nearly every packet there is


@dataclass(slots=True)
class Headers:
    """Columns, one entry per packet. Where `valid` is false the other columns say nothing.

    `rtcp` marks compound RTCP that came to the RTP port (RFC 5761 section 4); such packets are not `valid` RTP.
    `second` is the header's second byte: marker bit and payload type. `offset` and `size` are the payload's
    place in the cell in bytes, without CSRCs, extension and padding.
    """

    valid: NDArray[np.bool_]
    rtcp: NDArray[np.bool_]
    second: NDArray[np.uint8]
    sequence: NDArray[np.uint16]
    timestamp: NDArray[np.uint32]
    ssrc: NDArray[np.uint32]
    offset: NDArray[np.uint16]
    size: NDArray[np.uint16]


def parse(cells: NDArray[np.uint8], lengths: NDArray[np.uint32]) -> Headers:
    """Parses packets in cells: shape (packets, cell bytes), C-contiguous; `lengths` in bytes, at most a cell's.

    Cells may hold rubbish behind the packet, as an arena's do.
    """
    count, width = cells.shape
    words = cells.view(np.uint32)[
        :, :3
    ].byteswap()  # one pass over the cells; the rest works on what is dense
    first = words[:, 0]
    zero = (first >> np.uint32(24)).astype(np.uint8)
    second = (first >> np.uint32(16)).astype(np.uint8)
    sizes = lengths.astype(np.int64)
    valid = (sizes >= HEADER) & (sizes <= width) & (zero >> 6 == 2)
    rtcp = (second >= 192) & (second <= 223) & valid
    if rtcp.any():
        valid &= ~rtcp
    offset = np.full(count, HEADER, np.uint16)
    size = sizes - HEADER
    odd = np.flatnonzero((zero != _PLAIN) & valid)
    if len(odd):
        _parse_odd(cells, sizes, zero, odd, valid, offset, size)
    return Headers(
        valid=valid,
        rtcp=rtcp,
        second=second,
        sequence=first.astype(np.uint16),
        timestamp=words[:, 1],
        ssrc=words[:, 2],
        offset=offset,
        size=size.astype(np.uint16),
    )


def _parse_odd(
    cells: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    zero: NDArray[np.uint8],
    rows: NDArray[np.intp],
    valid: NDArray[np.bool_],
    offset: NDArray[np.uint16],
    size: NDArray[np.int64],
) -> None:
    """Packets with CSRCs, an extension or padding; writes `valid`, `offset` and `size` of `rows`."""
    length = lengths[rows]
    flags = zero[rows]
    start = HEADER + 4 * (flags & 15).astype(np.int64)
    extended = (flags & 0x10) != 0
    good = start + 4 * extended <= length
    looked = np.flatnonzero(extended & good)
    at = start[looked]
    inside = rows[looked]
    words = cells[inside, at + 2].astype(np.int64) << 8 | cells[inside, at + 3]
    start[looked] += 4 + 4 * words
    good &= start <= length
    padding = np.zeros(len(rows), np.int64)
    looked = np.flatnonzero(((flags & 0x20) != 0) & good)
    padding[looked] = cells[rows[looked], length[looked] - 1]
    # Padding counts itself, so zero is malformed (RFC 3550 section 5.1).
    good[looked] &= padding[looked] > 0
    good &= start + padding <= length
    valid[rows] = good
    offset[rows] = np.where(good, start, HEADER)
    size[rows] = np.where(good, length - start - padding, 0)
