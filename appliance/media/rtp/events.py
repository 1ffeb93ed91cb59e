"""Telephone-events (RFC 4733): keys read once each, whatever is lost or repeated, and keys made afresh. Sans-IO."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

KEYS = "0123456789*#ABCD"
"""The key of each event code from 0 to 15 (RFC 4733 section 3.2)."""
MAX_BLOCKS = 8  # reports in one packet; a sender that packs more presses keys faster than anybody can
REMEMBERED = 16  # events of a track that a late repetition is still known by
TOO_SOFT = 55  # -dBm0: at and beyond this level it must not be taken for a key (ITU-T Q.24)
RESTAMPED_NS = 100_000_000  # how long an event goes on of a sender that gives each packet a time of its own
LONGEST = 0xFFFF  # duration at which a long event goes on in a new segment (RFC 4733 section 2.5.1.3)
STEP_MS = 20
ENDS = 3  # the last packet is sent three times (RFC 4733 section 2.5.1.4)
_BLOCK = struct.Struct(">BBH")


@dataclass(slots=True, eq=False)
class Event:
    """One key held down. `key` is empty for other events (flash, tones). Durations in timestamp units."""

    key: str
    ssrc: int
    timestamp: int
    at_ns: int
    volume: int
    duration: int = 0
    ended: bool = False
    last_ns: int = 0
    fate: int = 0
    """For whoever decides what becomes of its packets."""


class EventReader:
    """Puts a track's event packets together to events. Any bytes may come; nothing is raised."""

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[int, int], Event] = OrderedDict()
        self._last: Event | None = None

    def read(self, ssrc: int, timestamp: int, payload: bytes, at_ns: int) -> list[tuple[Event, bool]]:
        """The events that a packet reports, each with whether it is new."""
        found = []
        for code, end, volume, duration in _blocks(payload):
            found.append(self._take(ssrc, timestamp, code, end, volume, duration, at_ns))
            timestamp = timestamp + duration & 0xFFFFFFFF  # the next one begins where this one ends
        return found

    def _take(
        self, ssrc: int, timestamp: int, code: int, end: bool, volume: int, duration: int, at_ns: int
    ) -> tuple[Event, bool]:
        event = self._events.get((ssrc, timestamp))
        fresh = False
        if event is None:
            key = KEYS[code] if code < len(KEYS) and volume < TOO_SOFT else ""
            event = self._continued(ssrc, timestamp, key, duration, at_ns)
            if event is None:
                event, fresh = Event(key, ssrc, timestamp, at_ns, volume), True
            self._events[ssrc, timestamp] = event
            if len(self._events) > REMEMBERED:
                self._events.popitem(last=False)
        span = (timestamp - event.timestamp & 0xFFFFFFFF) + duration
        event.duration = max(event.duration, span)
        event.ended |= end
        event.last_ns = max(event.last_ns, at_ns)
        self._last = event
        return event, fresh

    def _continued(self, ssrc: int, timestamp: int, key: str, duration: int, at_ns: int) -> Event | None:
        """The event that this is more of, though its time is another."""
        last = self._last
        if last is None or last.ended or last.ssrc != ssrc or last.key != key:
            return None
        ahead = timestamp - last.timestamp & 0xFFFFFFFF
        if ahead and ahead % LONGEST == 0 and ahead <= last.duration + LONGEST:
            return last
        # Some senders stamp each packet anew; the duration grows all the same.
        if duration > last.duration and at_ns - last.last_ns < RESTAMPED_NS:
            last.timestamp = timestamp
            return last
        return None


def _blocks(payload: bytes) -> Iterator[tuple[int, bool, int, int]]:
    for at in range(0, min(len(payload) - 3, 4 * MAX_BLOCKS), 4):
        code, flags, duration = _BLOCK.unpack_from(payload, at)
        yield code, bool(flags & 0x80), flags & 63, duration


@dataclass(slots=True)
class EventMaker:
    """Makes the packets of one key: an update every 20 ms, and the last three times. `clock_rate` in Hz."""

    key: str
    clock_rate: int
    duration_ms: int = 100
    volume: int = 10
    sent: int = 0
    _steps: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        steps = max(2, min(self.duration_ms, 500) // STEP_MS)
        # The duration field has 16 bits; at 48 kHz that is a good second.
        self._steps = min(steps, LONGEST * 1000 // (self.clock_rate * STEP_MS))

    @property
    def packets(self) -> int:
        """How many there are in all."""
        return self._steps + ENDS - 1

    def next(self) -> tuple[bytes, bool] | None:
        """The next payload, and whether it takes the marker bit; None after the last."""
        if self.sent >= self.packets:
            return None
        self.sent += 1
        step = min(self.sent, self._steps)
        duration = step * STEP_MS * self.clock_rate // 1000
        flags = self.volume & 63 | (0x80 if step == self._steps else 0)
        return _BLOCK.pack(KEYS.index(self.key), flags, duration), self.sent == 1
