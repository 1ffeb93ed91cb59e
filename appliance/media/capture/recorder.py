"""The sessions of one worker: commands, ticks, commits. One thread calls everything here."""

from __future__ import annotations

from collections.abc import Callable

from appliance.media.capture.checks import check_tracks
from appliance.media.capture.clock import StepClock
from appliance.media.capture.commands import (
    Close,
    Closed,
    Open,
    Play,
    Plays,
    Ports,
    SessionExistsError,
    SessionFigures,
    SessionNotFoundError,
    Update,
)
from appliance.media.capture.commits import Commits
from appliance.media.capture.disk import PartFile, Ticket
from appliance.media.capture.entry import AnyEntry, Closing, Entry, Relayed
from appliance.media.capture.exchange import Exchange
from appliance.media.capture.feed import MediaFeed
from appliance.media.capture.figures import ports, track_figures
from appliance.media.capture.intake import Intake
from appliance.media.capture.monitors import Monitors
from appliance.media.capture.outbox import VoiceCompressor
from appliance.media.capture.playing import Playing
from appliance.media.capture.receiving import Receiving
from appliance.media.capture.session import (
    MediaSession,
    RelayOnlyError,
    Session,
    SessionError,
)
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.rollover import RolloverStore

FAST_NS = 10_000_000
"""How often relayed packets are passed on."""


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
        feed: MediaFeed | None = None,
    ) -> None:
        self._clock = clock
        self.feed = feed or MediaFeed()
        self._part_file = part_file
        self._compressor = VoiceCompressor()
        self._entries: dict[str, Entry] = {}
        self._relayed: dict[str, Relayed] = {}
        self.intake = Intake(rows)
        self.exchange = Exchange(clock, rollovers, self.feed, self.intake.hide)
        self._fast_ns = 0
        self.commits = Commits(self._entries, clock, memory)
        self.receiving = Receiving(
            self.intake, pool, clock, rollovers, self.exchange, self.commits.spill, self._clock_was_set
        )
        self.monitors = Monitors(self.intake, self.exchange, clock)
        self.commits.receiving = self.receiving
        self.commits.breathe = self.receiving.breathe = self.breathe
        self.clock_steps = 0

    def _clock_was_set(self, step_ns: int) -> None:
        self.clock_steps += 1
        self.exchange.relay.stepped(step_ns)
        for entry in self._all():
            entry.session.shift_ns += step_ns

    def _all(self) -> list[AnyEntry]:
        return [*self._entries.values(), *self._relayed.values()]

    # ticks

    def tick(self) -> None:
        """Every 200 ms: all sockets."""
        self.exchange.relay.refill()
        self._fast_ns = self._clock.monotonic() + FAST_NS
        self.receiving.tick()
        self.exchange.tick()

    @property
    def fast_due_ns(self) -> int | None:
        """When `breathe` has something to do, by the monotonic clock; None where nothing is relayed or plays."""
        return self._fast_ns if self.exchange.busy else None

    def breathe(self) -> None:
        """Every 10 ms, if it is time: what is relayed or plays."""
        now = self._clock.monotonic()
        if self.exchange.busy and now >= self._fast_ns:
            # Ticks that were missed are not made up for.
            self._fast_ns = max(self._fast_ns + FAST_NS, now)
            self.receiving.tick_fast()
            self.exchange.tick()

    def counters(self) -> dict[str, int]:
        """Totals since the start, and what is open now."""
        commits = self.commits
        return {
            **self.receiving.counters(),
            "packets_relayed": self.exchange.relay.relayed,
            "packets_played": self.exchange.relay.played,
            "relay_failed": self.exchange.relay.failed,
            "relay_over_rate": self.exchange.relay.over_rate,
            "relay_p50_us": self.exchange.relay.delays.percentile_ns(0.5) // 1000,
            "relay_p99_us": self.exchange.relay.delays.percentile_ns(0.99) // 1000,
            "sessions_relayed": len(self._relayed),
            "packets_shed": commits.packets_shed,
            "frames_written": commits.frames_written,
            "bytes_written": commits.bytes_written,
            "payload_bytes": commits.payload_bytes,
            "clock_steps": self.clock_steps,
            "sessions_open": self.open_sessions,
            "listeners": self.monitors.open,
        }

    # commands

    @property
    def open_sessions(self) -> int:
        return len(self._open())

    @property
    def unfinished(self) -> bool:
        """Something is still to be written, or a file to be finished."""
        return bool(self._entries)

    def session_ids(self) -> list[str]:
        return list(self._open())

    def _open(self) -> dict[str, AnyEntry]:
        """What is open, by the session's id."""
        recorded = {name: entry for name, entry in self._entries.items() if entry.closing is None}
        return {**recorded, **self._relayed}

    def _any(self, session_id: str) -> AnyEntry:
        relayed = self._relayed.get(session_id)
        if relayed is not None:
            return relayed
        entry = self._entries.get(session_id)
        if entry is None or entry.closing is not None:
            raise SessionNotFoundError("no session of this id is open here")
        return entry

    def _entry(self, session_id: str) -> Entry:
        entry = self._any(session_id)
        if not isinstance(entry, Entry):
            raise RelayOnlyError("nothing is recorded in this session")
        return entry

    def recorded(self, session_id: str) -> Session:
        """A session that is recorded. SessionNotFoundError, RelayOnlyError."""
        return self._entry(session_id).session

    def open(self, command: Open) -> list[Ports]:
        """Opens a session. Nothing is left behind where it fails."""
        if command.session_id in self._entries or command.session_id in self._relayed:
            raise SessionExistsError("a session of this id is open")
        check_tracks(command.tracks, MediaSession(command.session_id, 0), command.address)
        self.receiving.look_at_clock()  # a step of before is none of this session's
        entry = self._new_relayed(command) if command.relay_only else self._new_entry(command)
        session = entry.session
        session.address = command.address
        session.keep_from_ns = command.keep_from_ns
        session.remember(command.context)
        self.receiving.open_all(entry, command.tracks)
        self.exchange.wire(session)
        if isinstance(entry, Entry):
            self._entries[session.recording_id] = entry
        else:
            self._relayed[session.recording_id] = entry
        return ports(session)

    def _new_relayed(self, command: Open) -> Relayed:
        return Relayed(MediaSession(command.session_id, self._clock.wall()))

    def _new_entry(self, command: Open) -> Entry:
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
        session.annotate(command.marks, command.evidence)
        ticket = Ticket(
            session.recording_id, session.tenant_id, session.tenant_public_key, session.data_key, now
        )
        return Entry(session, self._part_file(session.recording_id), ticket)

    def update(self, command: Update) -> list[Ports]:
        """Changes a session; what it says holds from `at_ns` on. Nothing is changed where it fails."""
        entry = self._any(command.session_id)
        session = entry.session
        check_tracks(command.tracks, session, session.address)
        self.receiving.settle(session)
        fresh = [request for request in command.tracks if request.number not in session.order]
        self.receiving.open_all(entry, fresh)
        try:
            session.remember(command.context)
            if isinstance(session, Session):
                session.describe(command.info_json)
                session.annotate(command.marks, command.evidence)
        except BaseException:
            self.receiving.withdraw(entry, fresh)
            raise
        at = session.own_time(command.at_ns or self._clock.wall())
        if isinstance(session, Session) and command.info_json:
            self.monitors.described(session, session.wall_time(at))
        for request in command.tracks:
            opened = session.tracks.get(request.number)
            if opened is None or request in fresh:
                continue
            if request.active:
                opened.track.hold.open_from(at)
            else:
                opened.track.hold.shut_from(at)
            self.monitors.held(session, opened, session.wall_time(at))
            receiver = self.receiving.receiver_of(opened, request)
            if receiver is None and opened.receiver is not None:
                opened.receiver.close()
            opened.receiver = receiver
            opened.request = request
            opened.track.authenticated = receiver is not None
            self.intake.change(opened.slot, request.events, receiver)
            self.intake.revoke(opened.slot)
            self.exchange.relay.change(session, opened)
            self.exchange.changed(opened)
        self.exchange.wire(session)
        self.monitors.rewire(session)
        return ports(session)

    def pause(self, session_id: str, at_ns: int = 0, mark: bytes = b"") -> int:
        """Drops everything from `at_ns` on. Returns since when it holds: what is already in a frame stays there."""
        session = self._entry(session_id).session
        session.annotate([mark] if mark else [])
        self.receiving.settle(session)
        at = session.own_time(at_ns or self._clock.wall())
        for opened in session.tracks.values():
            opened.track.pause.shut_from(at)
            self.intake.revoke(opened.slot)
            self.intake.refresh(opened.slot)
        self.exchange.forget(session, at)
        session.forget_kept(at)
        for voice in session.voices.values():
            voice.gate.shut_from(at)
        session.paused = True
        self.monitors.paused(session, session.wall_time(at), True)
        return session.wall_time(max(at, session.gathered_ns + 1))

    def resume(self, session_id: str, at_ns: int = 0, mark: bytes = b"") -> int:
        """Keeps again from `at_ns` on. What a pause has dropped stays dropped."""
        session = self._entry(session_id).session
        session.annotate([mark] if mark else [])
        self.receiving.settle(session)
        now = self._clock.wall()
        # A time gone by cannot bring back what was dropped at receipt.
        at = session.own_time(max(at_ns, now) if session.paused else now)
        for opened in session.tracks.values():
            opened.track.pause.open_from(at)
            self.intake.refresh(opened.slot)
        for voice in session.voices.values():
            voice.gate.open_from(at)
        session.paused = False
        self.monitors.paused(session, session.wall_time(at), False)
        return session.wall_time(at)

    def annotate(self, command: Update) -> None:
        """Adds marks, evidence, context."""
        session = self._entry(command.session_id).session
        session.remember(command.context)
        session.annotate(command.marks, command.evidence)

    def play(self, command: Play) -> Plays:
        """Plays a sound to a participant. Errors of Exchange.play; SessionError where there is no such track."""
        session = self._any(command.session_id).session
        opened = session.tracks.get(command.track)
        if opened is None:
            raise SessionError("there is no such participant", field="track")
        voice = None
        if command.record_track is not None and isinstance(session, Session):
            voice = session.voices.get(command.record_track)
            if voice is None:
                raise SessionError("there is no such voice of the box", field="record_track")
        playing = Playing(
            command.play_id,
            command.sound,
            command.payload_type,
            command.repeat,
            command.interruptible,
            voice,
        )
        leg = self.exchange.relay.legs.get(opened.slot)
        return Plays(*self.exchange.play(session, leg, playing))

    def stop_playing(self, session_id: str, play_id: str) -> None:
        """Ends something that plays; nothing happens where it does not."""
        self.exchange.stop(self._any(session_id).session, play_id)

    def close(self, command: Close, done: Callable[[Closed], None]) -> None:
        """Ends a session; `done` is called when its file is whole and durable."""
        entry = self._any(command.session_id)
        if isinstance(entry, Relayed):
            if command.keep_relaying:
                raise RelayOnlyError("nothing is recorded in this session")
            del self._relayed[command.session_id]
            recorded = self._entries.get(command.session_id)
            if recorded is not None:  # its last second may still wait for the disk
                self.commits.spill([recorded])
                recorded.slots = []
            self.receiving.close(entry)
            done(Closed(0, 0))
            return
        session = entry.session
        marks = session.annotate(command.marks, command.evidence)
        self.receiving.settle(session)
        at_wall = min(command.at_ns or self._clock.wall(), self._clock.wall())
        at = session.own_time(at_wall)
        self.monitors.ended(session, at_wall, command.reason)
        session.last_mark(command.reason, marks, at_wall)
        for opened in session.tracks.values():
            opened.track.ended.shut_from(at)
            self.intake.revoke(opened.slot)
            self.intake.refresh(opened.slot)
        self.exchange.forget(session, at)
        session.forget_kept(at)
        for voice in session.voices.values():
            voice.gate.shut_from(at)
        entry.closing = Closing(at, done, relaying=command.keep_relaying)
        if command.keep_relaying:
            self._relay_on(entry)
        else:
            self.exchange.end(session)
        self.commits.end(entry)

    def _relay_on(self, entry: Entry) -> None:
        """The recording ends, the call does not."""
        ended = entry.session
        session = MediaSession(ended.recording_id, ended.opened_ns)
        session.context, session.address, session.shift_ns = ended.context, ended.address, ended.shift_ns
        session.tracks, session.voices, session.order = ended.tracks, ended.voices, ended.order
        relayed = self._relayed[ended.recording_id] = Relayed(session)
        self.receiving.hand_over(entry, relayed)

    def figures(self, brief: bool = False) -> list[SessionFigures]:
        """All open sessions."""
        pending = self.intake.pending()
        return [
            SessionFigures(
                name,
                b"" if brief else entry.session.context,
                entry.session.paused,
                tuple(
                    track_figures(entry.session, track, self.intake, pending, self.exchange.relay.sent)
                    for track in entry.session.order
                ),
                entry.session.opened_ns,
                isinstance(entry, Relayed),
            )
            for name, entry in self._open().items()
        ]

    def shut(self) -> None:
        """Closes what is left of sockets; recordings that were not ended stay as they are on disk."""
        for entry in self._all():
            self.receiving.close(entry)
        self.receiving.shut()
