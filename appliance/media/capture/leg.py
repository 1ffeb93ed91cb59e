"""What one participant is sent: relayed packets that want more than passing on, keys made afresh, and the box's own voice.

Most relayed packets never come here; `Relay` sends them as they lie in the arena.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.batch import Batch
from appliance.media.capture.playing import OwnVoice, Playing
from appliance.media.capture.session import MediaSession, OpenTrack
from appliance.media.rtp.events import Event, EventMaker
from appliance.media.rtp.send import send_one
from appliance.media.rtp.srtp import SrtpSender
from appliance.media.rtp.streams import OutStream

MAX_STREAMS = 16  # SSRCs on their way to one participant that are still numbered
MAX_MAKING = 64  # keys that wait to be sent anew
KEY_PAUSE_NS = 60_000_000  # between two keys (ITU-T Q.24 wants 40 ms at least)


@dataclass(slots=True)
class Making:
    """A key on its way to being sent anew."""

    maker: EventMaker
    event: Event
    second: int
    next_ns: int = 0
    timestamp: int | None = None


@dataclass(slots=True)
class Leg:
    """See the module. `name`s are socket addresses in the kernel's form; none: nothing is sent there."""

    slot: int
    session: MediaSession
    opened: OpenTrack
    sender: SrtpSender | None = None
    senders: dict[tuple[str, bytes], SrtpSender] = field(default_factory=dict, repr=False)
    said_name: bytes = b""
    rtcp_name: bytes = b""
    stale_key: int = 0
    """Where packets came from when the address was changed; not followed until `stale_ns`."""
    stale_ns: int = 0
    reports: int = 0
    streams: dict[int, OutStream] = field(default_factory=dict)
    making: deque[Making] = field(default_factory=deque)
    play: Playing | None = None
    queue: deque[Playing] = field(default_factory=deque)
    own: OwnVoice = field(default_factory=OwnVoice)
    riding: bool = False

    @property
    def muted(self) -> bool:
        """The participant hears the box, and nobody else."""
        return self.play is not None and not self.riding

    @property
    def interruptible(self) -> bool:
        return self.play is not None and self.play.interruptible

    @property
    def special(self) -> bool:
        """Each packet must be looked at."""
        return bool(self.play is not None or self.making) or any(
            stream.resumed for stream in self.streams.values()
        )

    def stream(self, ssrc: int) -> OutStream:
        found = self.streams.get(ssrc)
        if found is None:
            if len(self.streams) >= MAX_STREAMS:
                del self.streams[next(iter(self.streams))]
            found = self.streams[ssrc] = OutStream(steady=self.sender is not None)
        return found

    def heard(self, ssrc: int, sequence: int) -> None:
        """The last packet that went out without coming here."""
        self.stream(ssrc).passed(sequence)

    def swallow(self, ssrc: int, sequence: int) -> None:
        """A packet of the participant that this one hears does not go out."""
        self.stream(ssrc).swallow(sequence)

    def prepare(
        self, batch: Batch, rows: list[int], cells: NDArray[np.uint8], lengths: NDArray[np.uint32], at: int
    ) -> int:
        """Writes what is to be sent of relayed packets into cells from `at` on; how many they are."""
        heads, arena, first = batch.heads, batch.arena, batch.first
        start = at
        making = self.making[0].event.ssrc if self.making else None
        for row in rows:
            ssrc, sequence = int(heads.ssrc[row]), int(heads.sequence[row])
            stream = self.stream(ssrc)
            if self.muted or ssrc == making:
                stream.swallow(sequence)
                stream.resumed = True
                continue
            size = int(arena.lengths[first + row])
            cell = cells[at]
            cell[:size] = arena.cells[first + row, :size]
            number = stream.number(sequence)
            cell[2], cell[3] = number >> 8, number & 0xFF
            event = bool(batch.event[row])
            if stream.resumed and not event:
                stream.resumed = False
                cell[1] |= 0x80
            play = self.play
            if play is not None and not event and not play.over and play.fits(int(heads.second[row]) & 127):
                own = self.session.own_time(int(batch.stamps[row]))
                size, kept = play.ride(cell, size, int(heads.offset[row]), int(heads.size[row]), own)
                for packet in kept:
                    assert play.voice is not None
                    self.session.keep(play.voice.number, packet)
            lengths[at] = size
            at += 1
        if self.sender is not None and at > start:
            self.sender.protect_rows(cells, lengths, start, at)
            good = start + np.flatnonzero(lengths[start:at])
            if len(good) < at - start:
                cells[start : start + len(good)] = cells[good]
                lengths[start : start + len(good)] = lengths[good]
                at = start + len(good)
        return at - start

    def post(self, packet: bytes, name: bytes) -> int:
        """Sends an RTP packet of the box's own; 0 or the kernel's error number, -1 where there is nowhere to send."""
        if not name:
            return -1
        data = packet if self.sender is None else self.sender.protect(packet)
        if data is None:
            return -1
        return send_one(self.opened.pair.rtp.fileno(), data, name)

    def post_rtcp(self, packet: bytes, name: bytes) -> int:
        """Sends a compound packet, from the socket where RTCP is awaited; as `post`."""
        if not name:
            return -1
        data = packet if self.sender is None else self.sender.protect_rtcp(packet)
        if data is None:
            return -1
        return send_one((self.opened.pair.rtcp or self.opened.pair.rtp).fileno(), data, name)

    # keys made afresh

    def resend(self, event: Event, second: int, clock_rate: int, now_ns: int) -> None:
        """Sends a key anew, behind those that wait. `now_ns` by the monotonic clock."""
        if len(self.making) >= MAX_MAKING:
            return
        held_ms = event.duration * 1000 // clock_rate if event.ended else 0
        maker = EventMaker(event.key, clock_rate, max(held_ms, 100), event.volume)
        self.making.append(Making(maker, event, second, now_ns))
