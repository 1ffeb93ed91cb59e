"""Packets of a recording that did not come straight from a socket: the box's own voice, and keys that were held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from appliance.media.capture.gate import Gate
from appliance.media.capture.outbox import Media
from appliance.storage.sealed import PacketColumns, prepare


class Kept(NamedTuple):
    """One packet. `second` is the header's second byte (marker bit and payload type); `arrival_ns` by the recording's
    clock."""

    event: bool
    arrival_ns: int
    sequence: int
    timestamp: int
    ssrc: int
    second: int
    payload: bytes


@dataclass(slots=True)
class BoxVoice:
    """A track without sockets: what the box says."""

    number: int
    gate: Gate = field(default_factory=Gate)
    packets: int = 0
    dropped: int = 0
    last_ns: int = 0

    def takes(self, at_ns: int) -> bool:
        """Whether a packet sent at this time is recorded; it is counted."""
        self.last_ns = at_ns
        if not self.gate.idle and self.gate.dropped(np.array([at_ns], np.int64))[0]:
            self.dropped += 1
            return False
        self.packets += 1
        return True


def pack(packets: Sequence[tuple[int, Kept]]) -> Media:
    """Packets of one recording, each with its track's number, as blocks for a frame."""
    # Stable: those of one track stay in the order in which they were kept.
    ordered = sorted(packets, key=lambda item: (item[0], item[1].event))
    groups = [(track, packet.event) for track, packet in ordered]
    starts = [at for at in range(len(groups)) if not at or groups[at] != groups[at - 1]]
    found = [packet for _, packet in ordered]
    columns = PacketColumns(
        sequence=np.array([packet.sequence for packet in found], np.uint16),
        timestamp=np.array([packet.timestamp for packet in found], np.uint32),
        arrival_ns=np.array([packet.arrival_ns for packet in found], np.int64),
        payload_type=np.array([packet.second for packet in found], np.uint8),
        ssrc=np.array([packet.ssrc for packet in found], np.uint32),
        size=np.array([len(packet.payload) for packet in found], np.uint16),
        payload=b"".join(packet.payload for packet in found),
    )
    prepared = prepare(
        columns,
        [*starts, len(found)],
        [groups[at][0] for at in starts],
        event=np.array([groups[at][1] for at in starts], np.bool_),
    )
    events = sum(packet.event for packet in found)
    payload = sum(len(packet.payload) for packet in found if not packet.event)
    arrivals = columns.arrival_ns
    return Media(
        blocks=[prepared.block(group) for group in range(prepared.groups)],
        size=len(columns.payload) + 64 * prepared.groups + 20 * len(found),
        packets=len(found) - events,
        payload=payload,
        events=events,
        first_ns=int(arrivals.min()),
        last_ns=int(arrivals.max()),
    )
