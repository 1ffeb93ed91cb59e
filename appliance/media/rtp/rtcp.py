"""Compound RTCP packets (RFC 3550 section 6), read only.

What is not needed is skipped, what is malformed ends the reading.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SR, RR, SDES, BYE = 200, 201, 202, 203
MAX_PACKETS = 32  # in one compound; more is not a report, it is an attack
_HEAD = struct.Struct(">BBH")
_SENDER = struct.Struct(">IQIII")


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender says of its clocks: `ntp` is 32.32 fixed point since 1900, `timestamp` the RTP time of
    the same instant.
    """

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int


@dataclass(slots=True)
class Compound:
    """What a compound packet says. `whole` is false where the rest was malformed or too much."""

    reports: list[SenderReport] = field(default_factory=list)
    receivers: list[int] = field(default_factory=list)
    byes: list[int] = field(default_factory=list)
    names: dict[int, bytes] = field(default_factory=dict)  # CNAME by SSRC: may be personal data
    whole: bool = True


def parse_compound(data: bytes | memoryview) -> Compound:
    """Reads a compound packet of any bytes; never raises."""
    found = Compound()
    view = memoryview(data)
    for _ in range(MAX_PACKETS):
        if not len(view):
            return found
        if len(view) < 4:
            break
        first, kind, words = _HEAD.unpack_from(view)
        size = 4 + 4 * words
        if first >> 6 != 2 or size > len(view):
            break
        body = view[4:size]
        if first & 0x20:  # padding, at the end of the last packet only
            cut = view[size - 1]
            if not 0 < cut <= len(body) or cut % 4:
                break
            body = body[:-cut]
        if not _read(found, kind, first & 31, body):
            break
        view = view[size:]
    found.whole = False
    return found


def _read(found: Compound, kind: int, count: int, body: memoryview) -> bool:
    if kind == SR:
        if len(body) < _SENDER.size + 24 * count:
            return False
        found.reports.append(SenderReport(*_SENDER.unpack_from(body)))
    elif kind == RR:
        if len(body) < 4 + 24 * count:
            return False
        found.receivers.append(int.from_bytes(body[:4], "big"))
    elif kind == BYE:
        if len(body) < 4 * count:
            return False
        found.byes.extend(int.from_bytes(body[4 * i : 4 * i + 4], "big") for i in range(count))
    elif kind == SDES:
        return _read_names(found, count, body)
    return True  # others (APP, feedback) are none of our business


def _read_names(found: Compound, chunks: int, body: memoryview) -> bool:
    at = 0
    for _ in range(chunks):
        if at + 4 > len(body):
            return False
        ssrc = int.from_bytes(body[at : at + 4], "big")
        at += 4
        while True:
            if at >= len(body):
                return False
            if body[at] == 0:
                at += 4 - at % 4  # chunks end on a word
                break
            if at + 2 > len(body) or at + 2 + body[at + 1] > len(body):
                return False
            if body[at] == 1:
                found.names[ssrc] = bytes(body[at + 2 : at + 2 + body[at + 1]])
            at += 2 + body[at + 1]
    return True
