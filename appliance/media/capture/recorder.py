"""The sessions of one worker: commands, ticks, commits. One thread calls everything here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from appliance.media.capture.commits import Commits
from appliance.media.capture.disk import PartFile, Ticket
from appliance.media.capture.entry import Closing, Entry
from appliance.media.capture.intake import Intake
from appliance.media.capture.outbox import VoiceCompressor
from appliance.media.capture.receiving import Receiving
from appliance.media.capture.session import MAX_TRACKS, OpenTrack, Session, SessionError, TrackRequest
from appliance.media.rtp.ports import PortPool
from appliance.media.rtp.srtp import RolloverStore, SrtpReceiver

DRAIN_WHOLE = 8192
"""Packets drained from one socket at a pause, a hold or the end: more than its buffer holds."""


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
        self._clock = clock
        self._part_file = part_file
        self._rollovers = rollovers
        self._compressor = VoiceCompressor()
        self._entries: dict[str, Entry] = {}
        self.intake = Intake(rows)
        self.commits = Commits(self._entries, clock, memory)
        self.receiving = Receiving(
            self.intake, pool, clock, rollovers, self.commits.spill, self._clock_was_set
        )
        self.commits.receiving = self.receiving
        self.clock_steps = 0

    def _clock_was_set(self, step_ns: int) -> None:
        self.clock_steps += 1
        for entry in self._entries.values():
            entry.session.shift_ns += step_ns

    def counters(self) -> dict[str, int]:
        """Totals since the start, and what is open now."""
        commits = self.commits
        return {
            **self.receiving.counters(),
            "packets_shed": commits.packets_shed,
            "frames_written": commits.frames_written,
            "bytes_written": commits.bytes_written,
            "payload_bytes": commits.payload_bytes,
            "clock_steps": self.clock_steps,
            "sessions_open": self.open_sessions,
        }

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

    def _entry(self, session_id: str) -> Entry:
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
        session.address = command.address
        session.keep_from_ns = command.keep_from_ns
        session.describe(command.info_json)
        session.remember(command.context)
        session.annotate(command.marks, command.evidence)
        ticket = Ticket(
            session.recording_id, session.tenant_id, session.tenant_public_key, session.data_key, now
        )
        entry = Entry(session, self._part_file(session.recording_id), ticket)
        try:
            for request in command.tracks:
                self.receiving.open(entry, request)
        except BaseException:
            self.receiving.close(entry)
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
        self.receiving.settle(session)
        at = session.own_time(command.at_ns or self._clock.wall())
        for request in command.tracks:
            opened = session.tracks.get(request.number)
            if opened is None:
                self.receiving.open(entry, request)
                continue
            if request.active:
                opened.track.hold.open_from(at)
            else:
                opened.track.hold.shut_from(at)
            receiver = receivers[request.number]
            if receiver is None and opened.receiver is not None:
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
        return SrtpReceiver(*request.srtp, self._rollovers, opened.receiver)

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
        session.paused = True
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
        self.receiving.settle(session)
        at_wall = min(command.at_ns or self._clock.wall(), self._clock.wall())
        at = session.own_time(at_wall)
        session.last_mark(command.reason, marks, at_wall)
        for opened in session.tracks.values():
            opened.track.ended.shut_from(at)
            self.intake.revoke(opened.slot)
            self.intake.refresh(opened.slot)
        entry.closing = Closing(at, done)
        self.commits.end(entry)

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

    def shut(self) -> None:
        """Closes what is left of sockets; recordings that were not ended stay as they are on disk."""
        for entry in self._entries.values():
            self.receiving.close(entry)
        self.receiving.shut()
