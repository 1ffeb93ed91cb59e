"""Who listens to what is recorded: a bounded queue for each, filled from what a drain has brought.

What is copied is what the recording keeps, so that nothing of a pause or a hold goes anywhere, nor any telephone-event:
keys may be a card's number. Recording waits for no listener: who does not take it in time loses it, and is told how much.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from appliance.media.capture.batch import Batch
from appliance.media.capture.clock import StepClock
from appliance.media.capture.kept import Kept
from appliance.media.capture.track import Verdict
from appliance.model import ExhaustedError, InvalidError, Mark, MarkKind

if TYPE_CHECKING:
    from appliance.media.capture.exchange import Exchange
    from appliance.media.capture.intake import Intake
    from appliance.media.capture.session import MediaSession, OpenTrack, Session

MAX_WAITING = 512
"""Packets that wait for one listener: five seconds of two voices."""
MAX_EVENTS = 64
MAX_TAKEN = 128
MAX_OF_SESSION = 8
MAX_OF_WORKER = 24  # each holds one of the server's threads
MAX_BURST = 32  # packets of one track copied from one drain: more is no voice
MAX_ACTOR = 256
MAX_WORD = 64
_KEEP = int(Verdict.KEEP)


class TooManyListenersError(ExhaustedError):
    """As many listen to this call, or to calls of this box, as may; `data['limit']`."""

    reason = "TOO_MANY_LISTENERS"


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
        self.session: Session | None = None
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


class Monitors:
    """All who listen to sessions of one worker. The loop's thread calls everything here."""

    def __init__(self, intake: Intake, exchange: Exchange, clock: StepClock) -> None:
        self._first, intake.passed_on = intake.passed_on, self._both
        self._exchange = exchange
        self._clock = clock
        self._slots: dict[int, tuple[MediaSession, int]] = {}
        self._table = np.zeros(64, np.bool_)
        self.open = 0

    def begin(self, session: Session, monitor: Monitor) -> None:
        """From now on; the timeline says so first. TooManyListenersError."""
        for count, most in ((len(session.monitors), MAX_OF_SESSION), (self.open, MAX_OF_WORKER)):
            if count >= most:
                raise TooManyListenersError("as many listen as may", limit=most)
        monitor.session, monitor.since_ns = session, self._clock.wall()
        session.annotate([_mark(monitor, monitor.since_ns, "began")])
        session.monitors.append(monitor)
        self.open += 1
        begun = Happened(monitor.since_ns, "begun", (session.info_json, session.paused))
        monitor.tell(begun)
        for opened in session.tracks.values():
            self.held(session, opened, monitor.since_ns)
        self.rewire(session)

    def end(self, monitor: Monitor) -> None:
        """The listener goes; nothing happens where the recording has ended before."""
        session = monitor.session
        if session is None or monitor not in session.monitors:
            return
        now = self._clock.wall()
        session.annotate([_mark(monitor, now, "ended")])
        session.monitors.remove(monitor)
        self.open -= 1
        self.rewire(session)

    def ended(self, session: Session, at_ns: int, reason: str) -> None:
        """The recording ends: everybody's end is on its timeline. `at_ns` by the wall clock."""
        gone, session.monitors = session.monitors, []
        self.open -= len(gone)
        for monitor in gone:
            session.annotate([_mark(monitor, max(at_ns, monitor.since_ns), "ended")])
            monitor.revoke(at_ns)
            monitor.tell(Happened(at_ns, "ended", reason))
        if gone:
            self.rewire(session)

    def rewire(self, session: MediaSession) -> None:
        """Who listens has changed, or the session's tracks."""
        for opened in session.tracks.values():
            slot, heard = opened.slot, bool(session.monitors)
            if slot >= len(self._table):
                self._table = np.concatenate([self._table, np.zeros(slot + 1, np.bool_)])
            if heard:
                self._slots[slot] = (session, opened.track.number)
            else:
                self._slots.pop(slot, None)
            if heard != self._table[slot]:
                self._table[slot] = heard
                self._exchange.monitor(slot, heard)

    # what happens to a session

    def paused(self, session: Session, at_ns: int, paused: bool) -> None:
        """`at_ns` by the wall clock; nothing that arrived from then on may be heard."""
        for monitor in session.monitors:
            if paused:
                monitor.revoke(at_ns)
            monitor.tell(Happened(at_ns, "paused", paused))

    def held(self, session: MediaSession, opened: OpenTrack, at_ns: int) -> None:
        """A track's hold may be another. `at_ns` by the wall clock."""
        held, number = opened.track.hold.shut, opened.track.number
        for monitor in session.monitors:
            if held == (number in monitor.held):
                continue
            if held:
                monitor.held.add(number)
                monitor.revoke(at_ns, number)
            else:
                monitor.held.discard(number)
            monitor.tell(Happened(at_ns, "held" if held else "unheld", number))

    # packets

    def _both(self, batch: Batch) -> None:
        """What is copied is looked at last: others may take packets out of what is recorded."""
        self._first(batch)
        if self._slots:
            self._admitted(batch)

    def _admitted(self, batch: Batch) -> None:
        if len(self._table) < len(batch.voice):
            self._table = np.concatenate([self._table, np.zeros(len(batch.voice), np.bool_)])
        served = self._table[batch.served]
        start = 0
        for index in np.flatnonzero(served).tolist():
            slot = int(batch.served[index])
            start = int(batch.ends[index - 1]) if index else 0
            part = slice(start, int(batch.ends[index]))
            rows = np.flatnonzero((batch.verdict[part] == _KEEP) & ~batch.event[part]) + start
            if not len(rows):
                continue
            session, number = self._slots[slot]
            packets = [self._copy(batch, row, session, number) for row in rows[:MAX_BURST].tolist()]
            for monitor in session.monitors:
                monitor.put(packets, len(rows) - len(packets))

    @staticmethod
    def _copy(batch: Batch, row: int, session: MediaSession, number: int) -> Heard:
        heads = batch.heads
        offset, size = int(heads.offset[row]), int(heads.size[row])
        return Heard(
            number,
            int(heads.sequence[row]),
            int(heads.timestamp[row]),
            int(heads.ssrc[row]),
            int(heads.second[row]) & 127,
            session.wall_time(int(batch.arrival[row])),
            batch.arena.cells[batch.first + row, offset : offset + size].tobytes(),
        )


def copy_kept(session: Session, track: int, packet: Kept) -> None:
    """What the box itself says goes to who listens, too."""
    if packet.event:
        return
    heard = Heard(
        track,
        packet.sequence,
        packet.timestamp,
        packet.ssrc,
        packet.second & 127,
        session.wall_time(packet.arrival_ns),
        packet.payload,
    )
    for monitor in session.monitors:
        monitor.put([heard])


def _mark(monitor: Monitor, at_ns: int, phase: str) -> Mark:
    data: dict[str, str | int | float | bool] = {
        "purpose": monitor.purpose,
        "listener": monitor.listener_id,
        "phase": phase,
    }
    if phase == "ended":
        data["since_ns"] = monitor.since_ns
    return Mark(kind=MarkKind.LISTENED, at_ns=at_ns, actor=monitor.actor, data=data)
