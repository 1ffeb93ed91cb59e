"""Who listens to what is recorded, filled from what a drain has brought.

What is copied is what the recording keeps, so that nothing of a pause or a hold goes anywhere, nor any telephone-event:
keys may be a card's number.
"""

from __future__ import annotations

import numpy as np

from appliance.media.capture.batch import Batch
from appliance.media.capture.clock import StepClock
from appliance.media.capture.exchange import Exchange
from appliance.media.capture.intake import Intake
from appliance.media.capture.monitor import Happened, Heard, Monitor
from appliance.media.capture.session import MediaSession, OpenTrack, Session
from appliance.media.capture.track import Verdict
from appliance.model import ExhaustedError, Mark, MarkKind

MAX_OF_SESSION = 8
MAX_OF_WORKER = 24  # each holds one of the server's threads
MAX_BURST = 32  # packets of one track copied from one drain: more is no voice
_KEEP = int(Verdict.KEEP)


class TooManyListenersError(ExhaustedError):
    """As many listen to this call, or to calls of this box, as may; `data['limit']`."""

    reason = "TOO_MANY_LISTENERS"


class Monitors:
    """All who listen to sessions of one worker. The loop's thread calls everything here."""

    def __init__(self, intake: Intake, exchange: Exchange, clock: StepClock) -> None:
        self._first, intake.passed_on = intake.passed_on, self._both
        self._exchange = exchange
        self._clock = clock
        self._slots: dict[int, tuple[MediaSession, int]] = {}
        self._table = np.zeros(64, np.bool_)
        self._sessions: dict[Monitor, Session] = {}

    @property
    def open(self) -> int:
        """How many listen."""
        return len(self._sessions)

    def begin(self, session: Session, monitor: Monitor) -> None:
        """From now on; the timeline says so first. TooManyListenersError."""
        for count, most in ((len(session.monitors), MAX_OF_SESSION), (self.open, MAX_OF_WORKER)):
            if count >= most:
                raise TooManyListenersError("as many listen as may", limit=most)
        monitor.since_ns = self._clock.wall()
        self._sessions[monitor] = session
        session.annotate([_mark(monitor, monitor.since_ns, "began")])
        session.monitors.append(monitor)
        begun = Happened(monitor.since_ns, "begun", (session.info_json, session.paused))
        monitor.tell(begun)
        for opened in session.tracks.values():
            self.held(session, opened, monitor.since_ns)
        self.rewire(session)

    def end(self, monitor: Monitor) -> None:
        """The listener goes; nothing happens where the recording has ended before."""
        session = self._sessions.pop(monitor, None)
        if session is None:
            return
        now = self._clock.wall()
        session.annotate([_mark(monitor, now, "ended")])
        session.monitors.remove(monitor)
        self.rewire(session)

    def ended(self, session: Session, at_ns: int, reason: str) -> None:
        """The recording ends: everybody's end is on its timeline. `at_ns` by the wall clock."""
        gone, session.monitors = session.monitors, []
        for monitor in gone:
            del self._sessions[monitor]
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

    def described(self, session: Session, at_ns: int) -> None:
        """There is a new INFO block. `at_ns` by the wall clock."""
        for monitor in session.monitors:
            monitor.tell(Happened(at_ns, "info_json", session.info_json))

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


def _mark(monitor: Monitor, at_ns: int, phase: str) -> Mark:
    data: dict[str, str | int | float | bool] = {
        "purpose": monitor.purpose,
        "listener": monitor.listener_id,
        "phase": phase,
    }
    if phase == "ended":
        data["since_ns"] = monitor.since_ns
    return Mark(kind=MarkKind.LISTENED, at_ns=at_ns, actor=monitor.actor, data=data)
