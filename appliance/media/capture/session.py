"""A session: one recording of one call in one worker. State and rules; no sockets are read and no files written here."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from pydantic import ValidationError

from appliance.media.capture.kept import BoxVoice, Kept, pack
from appliance.media.capture.monitor import Monitor, copy_kept
from appliance.media.capture.outbox import Outbox
from appliance.media.capture.track import Track
from appliance.media.rtp.ports import PortPair
from appliance.media.rtp.rtcp import SenderReport
from appliance.media.rtp.srtp import SrtpReceiver
from appliance.model import InvalidError, Mark, MarkKind, PreconditionError, RecordingInfo, id_bytes
from appliance.storage.sealed import (
    RTCP_DTYPE,
    Compressor,
    SealedWriter,
    pack_evidence,
    pack_info,
    pack_mark,
    pack_rtcp,
)

MAX_TRACKS = 64
MAX_CONTEXT = 1 << 20
MAX_EVIDENCE = 1 << 20
MAX_WAITING_EVIDENCE = 8 << 20  # bytes that wait for the disk
MAX_MARK = 1 << 16
MAX_INFO = 1 << 20
MAX_ANNOUNCED = 64  # marks of announcements that are remembered
MAX_KEPT = 1024  # packets of the box's own that wait outside of the outbox
MAX_REPORTS = 256  # sender reports kept between two commits; a voice sends one in five seconds
EVENT_ENCODING = "TELEPHONE-EVENT"


class SessionError(InvalidError):
    """A request on a session is malformed; `data['field']` names the field."""

    reason = "CAPTURE_REQUEST_INVALID"


class RelayOnlyError(PreconditionError):
    """Nothing is recorded in this session, so there is nothing to pause, to resume or to annotate."""

    reason = "SESSION_RELAY_ONLY"


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """Where a participant receives (Remote of the contract). `srtp`: suite, and our own master key and salt."""

    host: str = field(repr=False)
    rtp_port: int
    rtcp_port: int
    srtp: tuple[str, bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """What is asked of one track (TrackSpec of the contract)."""

    number: int
    active: bool = True
    events: frozenset[int] = frozenset()
    srtp: tuple[str, bytes] | None = field(default=None, repr=False)
    mux: bool = False
    port: int = 0
    clocks: tuple[tuple[int, int], ...] = ()  # clock rates in Hz of the telephone-events' payload types
    remote: RemoteRequest | None = None
    hears: int | None = None
    codes: tuple[str, ...] = ()
    box_voice: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 0xFFFF:
            raise SessionError("a track's number is 0 to 65535", field="tracks.track")
        if not 0 <= self.port <= 0xFFFF:
            raise SessionError("not a port", field="tracks.port")


@dataclass(slots=True)
class OpenTrack:
    """A track with its sockets and its slot in the intake."""

    track: Track
    slot: int
    pair: PortPair
    request: TrackRequest
    receiver: SrtpReceiver | None


@dataclass(slots=True)
class Evidence:
    """Something as it was received (RFC 7866 calls for none of it; a court may)."""

    kind: str
    content_type: str
    content: bytes
    at_ns: int


class MediaSession:
    """The media of one call in one worker. Times are of the session's clock unless named `wall`: it does not jump when the
    wall clock is set."""

    def __init__(self, session_id: str, opened_wall_ns: int) -> None:
        _check_id("session_id", session_id)
        self.recording_id = session_id
        self.opened_ns = opened_wall_ns
        self.context = b""
        self.keep_from_ns = 0
        self.tracks: dict[int, OpenTrack] = {}
        self.voices: dict[int, BoxVoice] = {}
        self.order: list[int] = []
        """Numbers of all tracks, in the order in which they were opened."""
        self.address = ""
        self.shift_ns = 0
        self.paused = False
        self.monitors: list[Monitor] = []
        """Who listens to what is recorded."""

    def own_time(self, wall_ns: int) -> int:
        """A time of the wall clock, by the session's clock."""
        return wall_ns - self.shift_ns

    def wall_time(self, own_ns: int) -> int:
        return own_ns + self.shift_ns

    def remember(self, context: bytes) -> None:
        """A new context; empty: unchanged. It is never written anywhere."""
        if len(context) > MAX_CONTEXT:
            raise SessionError("the context is too large", field="context", limit=MAX_CONTEXT)
        if context:
            self.context = context

    def keep(self, track: int, packet: Kept) -> None:
        """A packet of the box's own making; only a recording keeps it."""


def _check_id(name: str, value: str) -> None:
    try:
        id_bytes(value)
    except InvalidError as error:
        raise SessionError(f"{name} is not an id", field=name) from error


class Session(MediaSession):
    """All that capture knows of one recording while it lasts."""

    def __init__(
        self,
        recording_id: str,
        tenant_id: str,
        line_id: str,
        tenant_public_key: bytes,
        opened_wall_ns: int,
        compressor: Compressor,
    ) -> None:
        super().__init__(recording_id, opened_wall_ns)
        _check_id("tenant_id", tenant_id)
        _check_id("line_id", line_id)
        self.tenant_id = tenant_id
        self.tenant_public_key = tenant_public_key
        self.data_key = secrets.token_bytes(32)
        self._evidence_dropped = False
        self.gathered_ns = 0
        """Arrival of the newest packet that is on its way into a frame."""
        self.ended_ns: int | None = None
        self.outbox = Outbox(
            SealedWriter(
                recording_id, tenant_id, line_id, opened_wall_ns, self.data_key, compressor=compressor
            )
        )
        self.reports: list[tuple[int, ...]] = []
        self._kept: list[tuple[int, Kept]] = []
        self.info_json = b""
        self.announced: list[Mark] = []
        """What was announced so far, by its marks."""

    def keep(self, track: int, packet: Kept) -> None:
        """A packet of the box's own making, or one that was held back: it goes into the next frame."""
        self._kept.append((track, packet))
        copy_kept(self.monitors, track, packet, self.wall_time(packet.arrival_ns))
        if len(self._kept) >= MAX_KEPT:
            self.flush_kept()

    def forget_kept(self, from_ns: int) -> None:
        """A pause that began at `from_ns` also covers what the box itself said."""
        self._kept = [item for item in self._kept if item[1].arrival_ns < from_ns]

    def flush_kept(self) -> None:
        """Moves what was kept to what the next frame takes."""
        if self._kept:
            media = pack(self._kept)
            self._kept = []
            self.gathered_ns = max(self.gathered_ns, media.last_ns)
            self.outbox.put_media(media)

    def annotate(self, marks: Iterable[bytes | Mark], evidence: Iterable[Evidence] = ()) -> list[Mark]:
        """Adds marks (JSON or model, times of the wall clock) and evidence.

        All or nothing; SessionError says what is wrong.
        """
        read = [mark if isinstance(mark, Mark) else self._read_mark(mark) for mark in marks]
        blocks = []
        for item in evidence:
            if len(item.content) > MAX_EVIDENCE:
                raise SessionError("evidence is too large", field="evidence.content", limit=MAX_EVIDENCE)
            if self.outbox.loose_size > MAX_WAITING_EVIDENCE:
                # The disk takes nothing and the peer sends on: sound goes before paper.
                if not self._evidence_dropped:
                    self._evidence_dropped = True
                    read.append(Mark(kind=MarkKind.NOTE, at_ns=item.at_ns, reason="evidence-dropped"))
                continue
            blocks.append(
                pack_evidence(item.kind, item.content_type, self.own_time(item.at_ns), item.content)
            )
        for mark in read:
            moved = mark.model_copy(update={"at_ns": self.own_time(mark.at_ns)}) if self.shift_ns else mark
            blocks.append(pack_mark(moved))
            if mark.kind is MarkKind.ANNOUNCED and len(self.announced) < MAX_ANNOUNCED:
                self.announced.append(mark)
        self.outbox.put(blocks)
        return read

    @staticmethod
    def _read_mark(raw: bytes) -> Mark:
        if len(raw) > MAX_MARK:
            raise SessionError("a mark is too large", field="marks", limit=MAX_MARK)
        try:
            return Mark.model_validate_json(raw)
        except ValidationError:
            # Not chained: pydantic quotes its input, which is personal data.
            raise SessionError("a mark is not a Mark in JSON", field="marks") from None

    def describe(self, info_json: bytes) -> None:
        """A new INFO block; empty: unchanged."""
        if not info_json:
            return
        if len(info_json) > MAX_INFO:
            raise SessionError("the info is too large", field="info_json", limit=MAX_INFO)
        try:
            RecordingInfo.model_validate_json(info_json)
        except ValidationError:
            raise SessionError("the info is not a RecordingInfo in JSON", field="info_json") from None
        self.outbox.put([pack_info(info_json)])
        self.info_json = info_json

    def report(self, track: int, report: SenderReport, arrival_ns: int) -> None:
        """Keeps a sender report: it ties RTP time to the sender's clock."""
        if len(self.reports) < MAX_REPORTS:
            self.reports.append(
                (
                    track,
                    0,
                    report.ssrc,
                    report.timestamp,
                    report.packets,
                    report.octets,
                    report.ntp,
                    arrival_ns,
                )
            )

    def flush_reports(self) -> None:
        """Moves sender reports to what the next frame takes."""
        if self.reports:
            self.outbox.put([pack_rtcp(np.array(self.reports, RTCP_DTYPE))])
            self.reports.clear()

    def last_mark(self, reason: str, marks: Iterable[Mark], at_wall_ns: int) -> None:
        """Sees to it that the timeline says how the recording ended."""
        if not any(mark.kind in (MarkKind.ENDED, MarkKind.STOPPED) for mark in marks):
            kind = MarkKind.STOPPED if reason == "stopped" else MarkKind.ENDED
            self.annotate([Mark(kind=kind, at_ns=at_wall_ns, reason=reason)])
