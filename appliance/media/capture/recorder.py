"""The sessions of one worker: commands, ticks, commits. One thread calls everything here."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.media.capture.clock import StepClock
from appliance.media.capture.commands import (
    Close,
    Closed,
    Open,
    Ports,
    SessionExistsError,
    SessionFigures,
    SessionNotFoundError,
    TrackFigures,
    Update,
)
from appliance.media.capture.disk import Cycle, PartFile, Ticket, Write
from appliance.media.capture.intake import Control, Gathered, Intake
from appliance.media.capture.outbox import Block, Media, VoiceCompressor
from appliance.media.capture.session import MAX_TRACKS, OpenTrack, Session, SessionError, TrackRequest
from appliance.media.capture.track import Track
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.receive import Arena
from appliance.media.rtp.rtcp import parse_compound
from appliance.media.rtp.srtp import RolloverStore, SrtpReceiver
from appliance.model import Mark, MarkKind
from appliance.storage.sealed import prepare

DRAIN_WHOLE = 8192
"""Packets drained from one socket at a pause, a hold or the end: more than its buffer holds."""


@dataclass(slots=True)
class _Closing:
    """A recording that has ended and is not durable yet."""

    session: Session
    ended_ns: int
    done: Callable[[Closed], None]


@dataclass(slots=True)
class _Entry:
    """A session with its file."""

    session: Session
    file: PartFile
    ticket: Ticket
    slots: list[int] = field(default_factory=list)
    closing: _Closing | None = None


class Recorder:
    """See the module.

    `rows` is the size of the arena; `memory` the plain bytes that may wait for a disk that does not take
    them.
    """

    def __init__(
        self,
        *,
        pool: PortPool,
        clock: StepClock,
        part_file: Callable[[str], PartFile],
        rollovers: RolloverStore | None = None,
        rows: int = 1 << 17,
        memory: int = 256 << 20,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._part_file = part_file
        self._rollovers = rollovers
        self._memory = memory
        self._compressor = VoiceCompressor()
        self.intake = Intake(rows)
        self._spare = Arena(1024)  # RTCP, and what goes nowhere
        self._entries: dict[str, _Entry] = {}
        self._fds: list[int] = []
        self._slots: list[int] = []
        self._tracks: dict[int, tuple[_Entry, OpenTrack]] = {}
        self._rtcp = select.epoll()
        self._rtcp_slot: dict[int, int] = {}
        self._ended: list[_Entry] = []
        self._last_tick_ns = clock.wall()
        self._arrivals: list[NDArray[np.int64]] = []
        self._group_tracks: NDArray[np.int64] | None = None  # None: tracks have come or gone
        self.totals = dict.fromkeys(
            (
                "packets_received",
                "packets_kept",
                "packets_dropped",
                "packets_refused",
                "packets_overflowed",
                "packets_shed",
                "frames_written",
                "bytes_written",
                "payload_bytes",
                "stragglers",
                "clock_steps",
            ),
            0,
        )

    # commands

    @property
    def open_sessions(self) -> int:
        return sum(entry.closing is None for entry in self._entries.values())

    @property
    def unfinished(self) -> bool:
        """Something is still to be written, or a file to be finished."""
        return bool(self._entries)

    def session_ids(self) -> list[str]:
        return [name for name, entry in self._entries.items() if entry.closing is None]

    def _entry(self, session_id: str) -> _Entry:
        entry = self._entries.get(session_id)
        if entry is None or entry.closing is not None:
            raise SessionNotFoundError("no session of this id is open here")
        return entry

    def open(self, command: Open) -> list[Ports]:
        """Opens a session. Nothing is left behind where it fails."""
        if command.session_id in self._entries:
            raise SessionExistsError("a session of this id is open")
        self._check_tracks(command.tracks, ())
        now = self._clock.wall()
        session = Session(
            command.session_id,
            command.tenant_id,
            command.line_id,
            command.tenant_public_key,
            now,
            self._compressor,
        )
        session.describe(command.info_json)
        session.remember(command.context)
        session.annotate(command.marks, command.evidence)
        ticket = Ticket(
            session.recording_id, session.tenant_id, session.tenant_public_key, session.data_key, now
        )
        entry = _Entry(session, self._part_file(session.recording_id), ticket)
        try:
            for request in command.tracks:
                self._open_track(entry, request, command.address)
        except BaseException:
            self._close_tracks(entry)
            raise
        self._entries[session.recording_id] = entry
        return self._ports(session)

    @staticmethod
    def _check_tracks(requests: Sequence[TrackRequest], present: Sequence[int]) -> None:
        numbers = {request.number for request in requests}
        if len(numbers) != len(requests):
            raise SessionError("a track is named twice", field="tracks.track")
        if len(numbers | set(present)) > MAX_TRACKS:
            raise SessionError("too many tracks", field="tracks", limit=MAX_TRACKS)

    def _open_track(self, entry: _Entry, request: TrackRequest, address: str) -> None:
        receiver = None
        if request.srtp is not None:
            receiver = SrtpReceiver(*request.srtp, self._rollovers)
            if request.port:
                receiver.resume_known()
        pair = self._pool.open(address, mux=request.mux, port=request.port)
        track = Track(request.number, authenticated=receiver is not None)
        if not request.active:
            track.hold.shut_from(0)
        slot = self.intake.open(track, request.events, receiver)
        self.intake.shift(slot, entry.session.shift_ns)
        opened = OpenTrack(track, slot, pair, request, receiver)
        entry.session.tracks[request.number] = opened
        self._tracks[slot] = (entry, opened)
        self._group_tracks = None
        entry.slots.append(slot)
        self._fds.append(pair.rtp.fileno())
        self._slots.append(slot)
        if pair.rtcp is not None:
            self._rtcp.register(pair.rtcp.fileno(), select.EPOLLIN)
            self._rtcp_slot[pair.rtcp.fileno()] = slot

    def _close_tracks(self, entry: _Entry) -> None:
        """Lets sockets cool down and frees slots; what was not gathered is gone."""
        now = self._clock.monotonic()
        gone = set(entry.slots)
        entry.slots = []
        for opened in entry.session.tracks.values():
            if opened.pair.rtcp is not None:
                self._rtcp.unregister(opened.pair.rtcp.fileno())
                del self._rtcp_slot[opened.pair.rtcp.fileno()]
            self.intake.close(opened.slot)
            self._count_slot(opened.slot)
            del self._tracks[opened.slot]
            self._pool.give_back(opened.pair, now)
        entry.session.close_media()
        kept = [index for index, slot in enumerate(self._slots) if slot not in gone]
        self._fds = [self._fds[index] for index in kept]
        self._slots = [self._slots[index] for index in kept]

    @staticmethod
    def _ports(session: Session) -> list[Ports]:
        return [
            Ports(number, track.pair.port, track.pair.rtcp_port) for number, track in session.tracks.items()
        ]

    def update(self, command: Update) -> list[Ports]:
        """Changes a session; what it says holds from `at_ns` on."""
        entry = self._entry(command.session_id)
        session = entry.session
        self._check_tracks(command.tracks, tuple(session.tracks))
        receivers = {
            request.number: self._receiver(session.tracks.get(request.number), request)
            for request in command.tracks
        }
        session.describe(command.info_json)
        session.remember(command.context)
        session.annotate(command.marks, command.evidence)
        at = session.own_time(command.at_ns or self._clock.wall())
        self._settle(session)
        address = next((track.pair.address for track in session.tracks.values()), "")
        for request in command.tracks:
            opened = session.tracks.get(request.number)
            if opened is None:
                self._open_track(entry, request, address or "127.0.0.1")
                continue
            if request.active:
                opened.track.hold.open_from(at)
            else:
                opened.track.hold.shut_from(at)
            receiver = receivers[request.number]
            if receiver is not opened.receiver and opened.receiver is not None:
                opened.receiver.close()
            opened.receiver = receiver
            opened.request = request
            opened.track.authenticated = receiver is not None
            self.intake.change(opened.slot, request.events, receiver)
            self.intake.revoke(opened.slot)
        return self._ports(session)

    def _receiver(self, opened: OpenTrack | None, request: TrackRequest) -> SrtpReceiver | None:
        if request.srtp is None or opened is None:
            return None
        if opened.request.srtp == request.srtp:
            return opened.receiver
        return SrtpReceiver(*request.srtp, self._rollovers)

    def pause(self, session_id: str, at_ns: int = 0, mark: bytes = b"") -> int:
        """Drops everything from `at_ns` on. Returns since when it holds: what is already in a frame stays there."""
        session = self._entry(session_id).session
        session.annotate([mark] if mark else [])
        at = session.own_time(at_ns or self._clock.wall())
        self._settle(session)
        for opened in session.tracks.values():
            opened.track.pause.shut_from(at)
            self.intake.revoke(opened.slot)
            self.intake.refresh(opened.slot)
        session.paused = True
        return session.wall_time(at)

    def resume(self, session_id: str, at_ns: int = 0, mark: bytes = b"") -> int:
        """Keeps again from `at_ns` on. What a pause has dropped stays dropped."""
        session = self._entry(session_id).session
        session.annotate([mark] if mark else [])
        now = self._clock.wall()
        self._settle(session)
        # A time gone by cannot bring back what was dropped at receipt.
        at = session.own_time(max(at_ns, now) if session.paused else now)
        for opened in session.tracks.values():
            opened.track.pause.open_from(at)
            self.intake.refresh(opened.slot)
        session.paused = False
        return session.wall_time(at)

    def annotate(self, command: Update) -> None:
        """Adds marks, evidence, context."""
        session = self._entry(command.session_id).session
        session.remember(command.context)
        session.annotate(command.marks, command.evidence)

    def close(self, command: Close, done: Callable[[Closed], None]) -> None:
        """Ends a session; `done` is called when its file is whole and durable."""
        entry = self._entry(command.session_id)
        session = entry.session
        marks = session.annotate(command.marks, command.evidence)
        at_wall = min(command.at_ns or self._clock.wall(), self._clock.wall())
        at = session.own_time(at_wall)
        session.last_mark(command.reason, marks, at_wall)
        self._settle(session)
        for opened in session.tracks.values():
            opened.track.ended.shut_from(at)
            self.intake.revoke(opened.slot)
        entry.closing = _Closing(session, at, done)
        self._ended.append(entry)

    def figures(self, brief: bool = False) -> list[SessionFigures]:
        """All open sessions."""
        pending = self.intake.pending()
        return [
            SessionFigures(
                name,
                b"" if brief else entry.session.context,
                entry.session.paused,
                tuple(
                    self._track_figures(entry.session, track, int(pending[track.slot]))
                    for track in entry.session.tracks.values()
                ),
                entry.session.opened_ns,
            )
            for name, entry in self._entries.items()
            if entry.closing is None
        ]

    def _track_figures(self, session: Session, opened: OpenTrack, pending: int) -> TrackFigures:
        intake, slot = self.intake, opened.slot
        last = int(intake.last_ns[slot])
        return TrackFigures(
            opened.track.number,
            opened.pair.port,
            int(intake.kept[slot]) + pending,
            int(intake.dropped[slot]),
            int(intake.refused[slot]),
            int(intake.overflowed[slot]),
            session.wall_time(last) if last else 0,
        )

    def _count_slot(self, slot: int) -> None:
        intake = self.intake
        for name, table in (
            ("packets_received", intake.received),
            ("packets_kept", intake.kept),
            ("packets_dropped", intake.dropped),
            ("packets_refused", intake.refused),
            ("packets_overflowed", intake.overflowed),
        ):
            self.totals[name] += int(table[slot])

    def counters(self) -> dict[str, int]:
        """Totals since the start, closed sessions with open ones."""
        intake = self.intake
        slots = np.asarray(self._slots, np.intp)
        live = {
            "packets_received": intake.received,
            "packets_kept": intake.kept,
            "packets_dropped": intake.dropped,
            "packets_refused": intake.refused,
            "packets_overflowed": intake.overflowed,
        }
        found = dict(self.totals)
        for name, table in live.items():
            found[name] += int(table[slots].sum())
        found["sessions_open"] = self.open_sessions
        found["ports_free"] = self._pool.free
        return found

    # packets

    def tick(self) -> None:
        """Drains every socket and sorts out what came."""
        fds, slots = self._fds, self._slots
        served = 0
        while served < len(fds):
            if self.intake.pressed:
                self.spill()
            counts, done = self.intake.arena.drain(fds[served:] if served else fds)
            self._admitted(slots[served : served + done], counts)
            served += done
        self._read_rtcp()
        self._last_tick_ns = self._clock.wall()

    def _admitted(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        # The clock is looked at after the drain: a step made later cannot have touched what was drained.
        now = self._clock.wall()
        step = self._clock.check()
        span = None
        if step:
            self.totals["clock_steps"] += 1
            for entry in self._entries.values():
                entry.session.shift_ns += step
                for opened in entry.session.tracks.values():
                    self.intake.shift(opened.slot, step)
            span = (min(self._last_tick_ns + step, now), now)
        for control in self.intake.admit(slots, counts, now, span):
            self._take_rtcp(control)
        for slot, arrival_ns, lost in self.intake.take_losses():
            entry, opened = self._tracks[slot]
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

    def _settle(self, session: Session) -> None:
        """Drains a session's sockets at once, so that what comes later is later."""
        tracks = list(session.tracks.values())
        while tracks:
            if self.intake.pressed:
                self.spill()
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
                self._take_rtcp(Control(slot, int(stamps[row]) - shift, data))
            self._spare.rewind()

    def _take_rtcp(self, control: Control) -> None:
        entry, opened = self._tracks[control.slot]
        data: bytes | None = control.data
        if opened.receiver is not None:
            data = opened.receiver.unprotect_rtcp(control.data)
        if data is None:
            self.intake.refused[control.slot] += 1
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
            self.totals["stragglers"] += sum(counts)
            self._spare.rewind()
            cooling = cooling[done:]
        self._pool.cool(self._clock.monotonic())

    # commits

    def spill(self, entries: Sequence[_Entry] | None = None) -> None:
        """Moves what the arena holds to the recordings' outboxes."""
        if entries is None:
            gathered = self.intake.gather()
            self.intake.rewind()
            chosen: Sequence[_Entry] = list(self._entries.values())
        else:
            slots = [slot for entry in entries for slot in entry.slots]
            gathered = self.intake.gather(np.asarray(slots, np.intp))
            chosen = entries
        if len(gathered.columns.sequence):
            self._arrivals.append(gathered.columns.arrival_ns)
            self._deal(gathered, chosen)
        self._shed()

    def _deal(self, gathered: Gathered, entries: Sequence[_Entry]) -> None:
        """Gives each recording its packets. What can be done for all at once is; the loop runs once a recording."""
        columns, starts = gathered.columns, gathered.starts
        prepared = prepare(columns, starts, self._numbers(), event=np.arange(len(starts) - 1) % 2 == 1)
        ends = np.zeros(len(columns.size) + 1, np.int64)
        np.cumsum(columns.size, out=ends[1:])
        self.totals["payload_bytes"] += int(ends[-1])
        payload = np.diff(ends[starts]).tolist()
        packets = np.diff(starts).tolist()
        # Both groups of a slot lie side by side: its packets are those from one even bound to the next.
        edges = starts[::2]
        newest = len(columns.arrival_ns) - 1
        firsts = columns.arrival_ns[np.minimum(edges[:-1], newest)].tolist()
        lasts = columns.arrival_ns[edges[1:] - 1].tolist()
        block = prepared.block
        for entry in entries:
            blocks: list[Block] = []
            media = event = size = 0
            first, last = 1 << 62, 0
            for slot in entry.slots:
                group = 2 * slot
                count, other = packets[group], packets[group + 1]
                if count:
                    blocks.append(block(group))
                    media += count
                    size += payload[group]
                elif not other:
                    continue
                if other:
                    blocks.append(block(group + 1))
                    event += other
                first = min(first, firsts[slot])
                last = max(last, lasts[slot])
            if blocks:
                plain = size + 64 * len(blocks) + 20 * (media + event)
                entry.session.outbox.put_media(Media(blocks, plain, media, size, event, first, last))

    def _numbers(self) -> NDArray[np.int64]:
        """The track number of each group."""
        if self._group_tracks is None or len(self._group_tracks) != 2 * self.intake.slots:
            numbers = np.zeros(self.intake.slots, np.int64)
            for slot, (_, opened) in self._tracks.items():
                numbers[slot] = opened.track.number
            self._group_tracks = np.repeat(numbers, 2)
        return self._group_tracks

    def _shed(self) -> None:
        """Keeps what waits within bounds: the oldest goes first, everywhere alike."""
        waiting = sum(entry.session.outbox.size for entry in self._entries.values())
        while waiting > self._memory:
            oldest = min(
                (entry.session.outbox for entry in self._entries.values() if entry.session.outbox.size),
                key=lambda outbox: outbox.oldest_ns or 0,
                default=None,
            )
            if oldest is None:
                return
            before = oldest.dropped_packets
            waiting -= oldest.shed()
            self.totals["packets_shed"] += oldest.dropped_packets - before

    @property
    def ending(self) -> bool:
        """Sessions have been closed since the last commit."""
        return bool(self._ended)

    def commit(self, *, everything: bool = True) -> Cycle | None:
        """Seals what is there (or only what ends) for the disk; None where there is nothing to do.

        Only one cycle may be under way: hand it to `finished` before the next commit.
        """
        ended, self._ended = self._ended, []
        if everything or self.intake.pressed:
            self.spill()
        elif ended:
            self.spill(ended)
        for entry in ended:
            entry.session.flush_reports()
            self._close_tracks(entry)
        chosen = list(self._entries.values()) if everything else ended
        writes = []
        for entry in chosen:
            session = entry.session
            session.flush_reports()
            final = False
            if entry.closing is None:
                data = session.outbox.seal()
            else:
                data, final = session.outbox.seal_last(entry.closing.ended_ns)
            if data is not None:
                writes.append(Write(entry.file, entry.ticket, session.outbox.offset, data, final, entry))
        if not writes:
            return None
        arrivals, self._arrivals = self._arrivals, []
        return Cycle(writes, arrivals, self._clock.monotonic())

    def finished(self, cycle: Cycle) -> list[Exception]:
        """Takes the outcome of a cycle; the errors in it."""
        errors: list[Exception] = []
        if any(write.error is not None for write in cycle.writes):
            self._arrivals = [*cycle.arrivals, *self._arrivals][-64:]  # their delay goes on
            cycle.arrivals = []
        for write in cycle.writes:
            if write.error is not None:
                errors.append(write.error)
                continue
            entry = write.owner
            assert isinstance(entry, _Entry)
            outbox = entry.session.outbox
            outbox.written()
            self.totals["frames_written"] += 1
            self.totals["bytes_written"] += len(write.data)
            if write.final:
                assert entry.closing is not None
                del self._entries[entry.session.recording_id]
                entry.closing.done(Closed(outbox.packets, outbox.offset))
        return errors

    def shut(self) -> None:
        """Closes what is left of sockets; sessions are to be closed before."""
        for entry in self._entries.values():
            if entry.closing is None or entry in self._ended:
                self._close_tracks(entry)
        self._pool.close()
        self._rtcp.close()
