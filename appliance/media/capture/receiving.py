"""The sockets of a worker's tracks: opening, draining, closing. What a drain brings goes through the intake at once."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence

import numpy as np

from appliance.media.capture.batch import Control
from appliance.media.capture.clock import StepClock
from appliance.media.capture.entry import AnyEntry, Entry
from appliance.media.capture.exchange import Exchange
from appliance.media.capture.intake import Intake
from appliance.media.capture.kept import BoxVoice
from appliance.media.capture.session import MediaSession, OpenTrack, Session, TrackRequest
from appliance.media.capture.track import Track
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.receive import CELL, Arena
from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.rtcp import parse_compound
from appliance.media.rtp.srtp import SrtpReceiver
from appliance.model import Mark, MarkKind

DRAIN_WHOLE = 8192
"""Packets drained from one socket at a pause, a hold or the end: more than its buffer holds."""
SHARE = 512
"""Sockets drained before what is relayed gets its turn; about 2 ms."""
_COUNTED = ("received", "kept", "dropped", "refused", "overflowed")


class Receiving:
    """See the module. `relieve` is called when the arena has no room left: it must gather what is there; `stepped`
    when the wall clock was set, with the nanoseconds."""

    def __init__(
        self,
        intake: Intake,
        pool: PortPool,
        clock: StepClock,
        rollovers: RolloverStore | None,
        exchange: Exchange,
        relieve: Callable[[], None],
        stepped: Callable[[int], None],
    ) -> None:
        self.intake = intake
        intake.passed_on = exchange.admitted
        self.tracks: dict[int, tuple[AnyEntry, OpenTrack]] = {}
        self.stragglers = 0
        self._pool = pool
        self._clock = clock
        self._rollovers = rollovers
        self._exchange = exchange
        self._relieve = relieve
        self._stepped = stepped
        self._spare = Arena(1024)  # RTCP, and what goes nowhere
        self._fds: list[int] = []
        self._slots: list[int] = []
        self._rtcp = select.epoll()
        self._rtcp_slot: dict[int, int] = {}
        self._last_tick_ns = clock.wall()
        self._span: tuple[int, int] | None = None
        self._ready = (
            select.epoll()
        )  # of sockets that are drained in fast ticks: half of them have nothing each time
        self._fast: dict[int, int] = {}  # their slots
        self._version = -1
        self.breathe: Callable[[], None] = lambda: None
        """Called between two shares of a long tick; set by the recorder."""
        self._past = dict.fromkeys(_COUNTED, 0)  # of tracks that are closed

    def open(self, entry: AnyEntry, request: TrackRequest) -> None:
        """Opens the sockets of a track; errors of PortPool.open and SrtpKeyError. The box's own voice has none."""
        session = entry.session
        if request.box_voice:
            voice = session.voices[request.number] = BoxVoice(request.number)
            if session.paused:
                voice.gate.shut_from(0)
            session.order.append(request.number)
            return
        receiver = None
        if request.srtp is not None:
            receiver = SrtpReceiver(*request.srtp, self._rollovers)
            if request.port:
                receiver.resume_known()
        pair = self._pool.open(entry.session.address, mux=request.mux, port=request.port)
        track = Track(request.number, authenticated=receiver is not None)
        if not request.active:
            track.hold.shut_from(0)
        elif entry.session.keep_from_ns:
            track.hold.shut_from(0)
            track.hold.open_from(entry.session.own_time(entry.session.keep_from_ns))
        if entry.session.paused:
            track.pause.shut_from(0)
        if not isinstance(session, Session):
            track.ended.shut_from(0)  # nothing of it is kept
        slot = self.intake.open(track, request.events, receiver)
        self.intake.shift(slot, entry.session.shift_ns)
        opened = OpenTrack(track, slot, pair, request, receiver)
        session.tracks[request.number] = opened
        session.order.append(request.number)
        self.tracks[slot] = (entry, opened)
        entry.slots.append(slot)
        self._fds.append(pair.rtp.fileno())
        self._slots.append(slot)
        if pair.rtcp is not None:
            self._rtcp.register(pair.rtcp.fileno(), select.EPOLLIN)
            self._rtcp_slot[pair.rtcp.fileno()] = slot
        self._exchange.open(self.intake.slots, session, opened)

    def receiver_of(self, opened: OpenTrack, request: TrackRequest) -> SrtpReceiver | None:
        """What opens the packets of a track under the key that is asked for. A new one takes the place of the key before
        it: it is made once nothing can fail any more."""
        if request.srtp is None:
            return None
        if opened.request.srtp == request.srtp:
            return opened.receiver
        return SrtpReceiver(*request.srtp, self._rollovers, opened.receiver)

    def hand_over(self, entry: Entry, relayed: AnyEntry) -> None:
        """The tracks of a recording that ends are relayed on; the entry keeps its slots until it is gathered."""
        relayed.slots = list(entry.slots)
        for slot in relayed.slots:
            self.tracks[slot] = (relayed, self.tracks[slot][1])
        self._exchange.move(relayed.session)

    def open_all(self, entry: AnyEntry, requests: Sequence[TrackRequest]) -> None:
        """Opens tracks of a session, all or none. Errors of `open`."""
        try:
            for request in requests:
                self.open(entry, request)
        except BaseException:
            self.withdraw(entry, requests)
            raise

    def withdraw(self, entry: AnyEntry, requests: Sequence[TrackRequest]) -> None:
        """Takes back what was opened a moment ago, as if it had never been."""
        session = entry.session
        gone = []
        for number in (request.number for request in requests if request.number in session.order):
            session.order.remove(number)
            session.voices.pop(number, None)
            if (opened := session.tracks.pop(number, None)) is not None:
                gone.append(opened)
        self._let_go(entry, gone)

    def close(self, entry: AnyEntry) -> None:
        """Lets sockets cool down and frees slots; what was not gathered is gone."""
        if entry.slots:
            self._let_go(entry, list(entry.session.tracks.values()))

    def _let_go(self, entry: AnyEntry, tracks: Sequence[OpenTrack]) -> None:
        now = self._clock.monotonic()
        gone = {opened.slot for opened in tracks}
        entry.slots = [slot for slot in entry.slots if slot not in gone]
        for opened in tracks:
            if opened.pair.rtcp is not None:
                self._rtcp.unregister(opened.pair.rtcp.fileno())
                del self._rtcp_slot[opened.pair.rtcp.fileno()]
            fd = opened.pair.rtp.fileno()
            if self._fast.pop(fd, None) is not None:  # before the number is another socket's
                self._ready.unregister(fd)
            self._exchange.close(opened.slot)
            self.intake.close(opened.slot)
            for name in _COUNTED:
                self._past[name] += int(getattr(self.intake, name)[opened.slot])
            del self.tracks[opened.slot]
            self._pool.give_back(opened.pair, now)
            if opened.receiver is not None:
                opened.receiver.close()  # the next key begins anew
        kept = [index for index, slot in enumerate(self._slots) if slot not in gone]
        self._fds = [self._fds[index] for index in kept]
        self._slots = [self._slots[index] for index in kept]

    def counters(self) -> dict[str, int]:
        """Packets since the start, by what became of them."""
        slots = np.asarray(self._slots, np.intp)
        found = {
            f"packets_{name}": self._past[name] + int(getattr(self.intake, name)[slots].sum())
            for name in _COUNTED
        }
        found["stragglers"] = self.stragglers
        found["ports_free"] = self._pool.free
        return found

    def tick(self) -> None:
        """Drains every socket and sorts out what came."""
        fds, slots = self._fds, self._slots
        served = 0
        while served < len(fds):
            if served:
                self.breathe()
            if self.intake.pressed:
                self._relieve()
            counts, done = self.intake.arena.drain(fds[served : served + SHARE])
            self._admitted(slots[served : served + done], counts)
            served += done
        self._read_rtcp()
        self._last_tick_ns = self._clock.wall()
        self._span = None

    def tick_fast(self) -> None:
        """Drains the sockets of participants that somebody hears, or whose keys are awaited."""
        if self._version != self._exchange.version:
            self._choose_fast()
        fds = [fd for fd, _ in self._ready.poll(0, max(len(self._fast), 1))]
        served = 0
        while served < len(fds):
            if self.intake.pressed:
                self._relieve()
            counts, done = self.intake.arena.drain(fds[served:] if served else fds)
            self._admitted([self._fast[fd] for fd in fds[served : served + done]], counts)
            served += done
        self._read_rtcp()

    def _choose_fast(self) -> None:
        self._version = self._exchange.version
        wanted = {self.tracks[slot][1].pair.rtp.fileno(): slot for slot in self._exchange.fast}
        for fd in self._fast.keys() - wanted.keys():
            self._ready.unregister(fd)
        for fd in wanted.keys() - self._fast.keys():
            self._ready.register(fd, select.EPOLLIN)
        self._fast = wanted

    def look_at_clock(self) -> int:
        """Takes in whether the wall clock was set since last looked at; what it says now."""
        now = self._clock.wall()
        step = self._clock.check()
        if step:
            self._stepped(step)
            for slot in self._slots:
                self.intake.shift(slot, step)
            # Whatever waits in any socket may be of before the step, until all have been drained.
            self._span = (min(self._last_tick_ns + step, now), now)
        return now

    def _admitted(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        # The clock is looked at after the drain: a step made later cannot have touched what was drained.
        now = self.look_at_clock()
        span = None if self._span is None else (self._span[0], now)
        for control in self.intake.admit(slots, counts, now, span):
            self._take_rtcp(control)
        for slot, arrival_ns, lost in self.intake.take_losses():
            entry, opened = self.tracks[slot]
            if not isinstance(entry, Entry):
                continue
            entry.session.annotate(
                [
                    Mark(
                        kind=MarkKind.GAP,
                        at_ns=entry.session.wall_time(arrival_ns),
                        track=opened.track.number,
                        reason="receive-buffer",
                        data={"until_ns": arrival_ns, "cause": "receive-buffer", "packets": lost},
                    )
                ]
            )

    def settle(self, session: MediaSession) -> None:
        """Drains a session's sockets at once, so that what comes later is later."""
        tracks = list(session.tracks.values())
        while tracks:
            if self.intake.pressed:
                self._relieve()
            counts, done = self.intake.arena.drain([track.pair.rtp.fileno() for track in tracks], DRAIN_WHOLE)
            self._admitted([track.slot for track in tracks[:done]], counts)
            tracks = tracks[done:]

    def _read_rtcp(self) -> None:
        for fd, _ in self._rtcp.poll(0, 256):
            self._spare.drain([fd])
            slot = self._rtcp_slot[fd]
            now = self._clock.wall()
            stamps = self._spare.arrivals(0, self._spare.used, now)
            for row in range(self._spare.used):
                size = int(self._spare.lengths[row])
                data = self._spare.cells[row, :size].tobytes()
                shift = self.intake.shift_of(slot)
                if size >= CELL:
                    continue  # longer than its cell: no report that anybody needs
                name = self._spare.source_name(row)
                self._take_rtcp(Control(slot, int(stamps[row]) - shift, data, name))
            self._spare.rewind()

    def _take_rtcp(self, control: Control) -> None:
        entry, opened = self.tracks[control.slot]
        data: bytes | None = control.data
        if opened.receiver is not None:
            data = opened.receiver.unprotect_rtcp(control.data)
        if data is None:
            self.intake.refused[control.slot] += 1
            return
        self._exchange.relay.control(control.slot, data, control.name)
        if not isinstance(entry, Entry):
            return
        for report in parse_compound(data).reports:
            # Only of voices that are here: anybody can send a report.
            if report.ssrc in opened.track.ssrcs:
                entry.session.report(opened.track.number, report, control.arrival_ns)

    def tidy(self) -> None:
        """Once a second: newcomers, old spans, cooling ports."""
        self.intake.tidy(self._clock.wall())
        cooling = [sock.fileno() for pair in self._pool.cooling for sock in pair.sockets]
        while cooling:
            counts, done = self._spare.drain(cooling)
            self.stragglers += sum(counts)
            self._spare.rewind()
            cooling = cooling[done:]
        self._pool.cool(self._clock.monotonic())

    def shut(self) -> None:
        """Closes what cools down; open tracks are to be closed before."""
        self._pool.close()
        self._rtcp.close()
        self._ready.close()
