"""Headers as arrays against a plain reading of RFC 3550, and RTCP."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.rtp.parse import parse
from appliance.media.rtp.rtcp import MAX_PACKETS, parse_compound

WIDTH = 512


def plainly(packet: bytes) -> tuple[int, int, int, int, int, int] | None:
    """Second byte, sequence, timestamp, SSRC, payload offset and size, read one field at a time."""
    if len(packet) < 12 or packet[0] >> 6 != 2 or 192 <= packet[1] <= 223:
        return None
    at = 12 + 4 * (packet[0] & 15)
    if packet[0] & 0x10:
        if at + 4 > len(packet):
            return None
        at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    if at > len(packet):
        return None
    size = len(packet) - at
    if packet[0] & 0x20:
        if not 0 < packet[-1] <= size:
            return None
        size -= packet[-1]
    _, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", packet)
    return second, sequence, timestamp, ssrc, at, size


def in_cells(packets: list[bytes], filling: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    cells = np.full((len(packets), WIDTH), filling, np.uint8)
    for row, packet in enumerate(packets):
        cells[row, : len(packet)] = np.frombuffer(packet, np.uint8)
    return cells, np.array([len(packet) for packet in packets], np.uint32)


first_byte = st.one_of(st.just(0x80), st.integers(0x80, 0xBF), st.integers(0, 255))
near_rtp = st.builds(lambda first, rest: bytes([first]) + rest, first_byte, st.binary(max_size=WIDTH - 1))


@given(st.lists(st.one_of(near_rtp, st.binary(max_size=WIDTH)), min_size=1, max_size=20), st.integers(0, 255))
def test_arrays_agree_with_a_plain_reading(packets: list[bytes], filling: int) -> None:
    cells, lengths = in_cells(packets, filling)
    heads = parse(cells, lengths)
    for row, packet in enumerate(packets):
        expected = plainly(packet)
        assert bool(heads.valid[row]) == (expected is not None)
        if expected is not None:
            found = (
                heads.second[row],
                heads.sequence[row],
                heads.timestamp[row],
                heads.ssrc[row],
                heads.offset[row],
                heads.size[row],
            )
            assert tuple(int(value) for value in found) == expected


def test_a_length_beyond_the_cell_is_not_valid() -> None:
    cells, lengths = in_cells([b"\x80" + bytes(511)], 0)
    lengths[0] = 60000
    assert not parse(cells, lengths).valid[0]


def test_rtcp_on_the_rtp_port_is_told_apart() -> None:
    cells, lengths = in_cells([bytes([0x80, kind]) + bytes(30) for kind in (191, 192, 200, 223, 224)], 0)
    assert parse(cells, lengths).rtcp.tolist() == [False, True, True, True, False]


def sender_report(ssrc: int, blocks: int = 0) -> bytes:
    body = struct.pack(">IQIII", ssrc, 99 << 32, 160, 5, 800) + bytes(24 * blocks)
    return struct.pack(">BBH", 0x80 | blocks, 200, len(body) // 4) + body


def test_a_compound_packet() -> None:
    names = struct.pack(">IBB", 7, 1, 3) + b"a@b" + b"\0" * 3
    data = (
        sender_report(7, 1)
        + struct.pack(">BBH", 0x81, 202, len(names) // 4)
        + names
        + struct.pack(">BBHI", 0x81, 203, 1, 7)
        + struct.pack(">BBHI", 0x80, 201, 1, 9)
    )
    found = parse_compound(data)
    assert found.whole
    assert [(r.ssrc, r.ntp, r.timestamp, r.packets, r.octets) for r in found.reports] == [
        (7, 99 << 32, 160, 5, 800)
    ]
    assert (found.byes, found.receivers, found.names) == ([7], [9], {7: b"a@b"})


@given(st.binary(max_size=300), st.integers(0, 4))
def test_any_bytes_after_a_report_leave_the_report(rubbish: bytes, reports: int) -> None:
    found = parse_compound(b"".join(sender_report(number) for number in range(reports)) + rubbish)
    assert [report.ssrc for report in found.reports[:reports]] == list(range(reports))


def test_a_compound_without_end_is_bounded() -> None:
    found = parse_compound(struct.pack(">BBHI", 0x80, 201, 1, 9) * 500)
    assert not found.whole
    assert len(found.receivers) == MAX_PACKETS
