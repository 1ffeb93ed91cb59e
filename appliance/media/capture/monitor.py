"""One who listens to what is recorded: a bounded queue between the loop and a thread of the service.

Recording waits for no listener: who does not take it in time loses it, and is told how much.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from appliance.media.capture.kept import Kept
from appliance.model import ExhaustedError, InvalidError

MAX_WAITING = 512
"""Packets that wait for one listener: five seconds of two voices."""
MAX_EVENTS = 64
MAX_TAKEN = 128
MAX_ACTOR = 256
MAX_WORD = 64


class ListenerTooSlowError(ExhaustedError):
    """The listener did not take what it was told for long; it may listen anew."""

    reason = "LISTENER_TOO_SLOW"


class ListenerError(InvalidError):
    """Who listens, or what for, is malformed; `data['field']` names it."""

    reason = "LISTENER_INVALID"


class Heard(NamedTuple):
    """A packet as it is copied; `arrival_ns` by the wall clock."""

    track: int
    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    arrival_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Happened:
    """See MonitorEvent of the contract; `what` is the name of the field that is said there, `value` what it says."""

    at_ns: int
    what: str
    value: Any = field(repr=False)


class Taken(NamedTuple):
    """What a listener takes at once: packets, how many were lost before them, and what happened after them."""

    packets: list[Heard]
    lost: int
    event: Happened | None


class Monitor:
    """One who listens. `actor`, `purpose` and `listener_id` go on the timeline; ListenerError.

    One thread puts, another takes; putting never waits for taking.
    """

    def __init__(self, actor: str, purpose: str, listener_id: str) -> None:
        for name, text, most in (
            ("actor", actor, MAX_ACTOR),
            ("purpose", purpose, MAX_WORD),
            ("listener_id", listener_id, MAX_WORD),
        ):
            if not 0 < len(text) <= most:
                raise ListenerError(f"1 to {most} characters", field=name)
        self.actor, self.purpose, self.listener_id = actor, purpose, listener_id
        self.since_ns = 0
        self.held: set[int] = set()
        """Tracks that it was told are on hold."""
        self._some = threading.Condition()
        self._packets: collections.deque[Heard] = collections.deque()
        self._events: collections.deque[tuple[int, Happened]] = collections.deque()
        self._taken = 0  # packets ever taken or taken back: an event says after how many it happened
        self._lost = 0
        self._overrun = self._woken = False

    def put(self, packets: Iterable[Heard], lost: int = 0) -> None:
        """Packets in order of arrival for each track; those that find no room are lost."""
        with self._some:
            room = MAX_WAITING - len(self._packets)
            for packet in packets:
                if room > 0:
                    self._packets.append(packet)
                    room -= 1
                else:
                    lost += 1
            self._lost += lost
            self._some.notify()

    def tell(self, event: Happened) -> None:
        """Something happened, after what was put."""
        with self._some:
            if len(self._events) >= MAX_EVENTS:
                self._overrun = True
            else:
                self._events.append((self._taken + len(self._packets), event))
            self._some.notify()

    def revoke(self, from_ns: int, track: int | None = None) -> None:
        """Takes back what arrived from then on (wall clock) and was not taken yet."""
        with self._some:
            kept = [
                not (packet.arrival_ns >= from_ns and track in (None, packet.track))
                for packet in self._packets
            ]
            before = np.concatenate([[0], np.cumsum(kept)]).astype(int)
            self._events = collections.deque(
                (self._taken + int(before[min(max(place - self._taken, 0), len(kept))]), event)
                for place, event in self._events
            )
            self._packets = collections.deque(
                packet for packet, stays in zip(self._packets, kept, strict=True) if stays
            )

    def wake(self) -> None:
        """Lets whoever takes look around."""
        with self._some:
            self._woken = True
            self._some.notify()

    def take(self, timeout_s: float) -> Taken | None:
        """What waits, in order; None where nothing came in time. ListenerTooSlowError."""
        with self._some:
            self._some.wait_for(
                lambda: self._packets or self._events or self._lost or self._overrun or self._woken, timeout_s
            )
            self._woken = False
            if self._overrun:
                raise ListenerTooSlowError("more has happened than was taken", limit=MAX_EVENTS)
            most = min(MAX_TAKEN, len(self._packets))
            event: Happened | None = None
            if self._events and self._events[0][0] <= self._taken + most:
                place, event = self._events.popleft()
                most = place - self._taken
            packets = [self._packets.popleft() for _ in range(most)]
            self._taken += most
            lost, self._lost = self._lost, 0
            return Taken(packets, lost, event) if packets or lost or event is not None else None


def copy_kept(monitors: Sequence[Monitor], track: int, packet: Kept, arrival_ns: int) -> None:
    """What the box itself says goes to who listens, too; `arrival_ns` by the wall clock. Keys do not."""
    if packet.event or not monitors:
        return
    heard = Heard(
        track,
        packet.sequence,
        packet.timestamp,
        packet.ssrc,
        packet.second & 127,
        arrival_ns,
        packet.payload,
    )
    for monitor in monitors:
        monitor.put([heard])
