"""What may be asked of capture: plain values, checked, so that rules need not know gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.media.capture.playing import Sound
from appliance.media.capture.session import Evidence, TrackRequest
from appliance.model import NotFoundError, PreconditionError


class SessionNotFoundError(NotFoundError):
    """No session of this id is open here."""

    reason = "SESSION_NOT_FOUND"


class SessionExistsError(PreconditionError):
    """A session of this id is open or was not long ago; a recording's id is used once."""

    reason = "SESSION_EXISTS"


class ShuttingDownError(PreconditionError):
    """This worker is being stopped and opens nothing any more."""

    reason = "CAPTURE_STOPPING"


@dataclass(frozen=True, slots=True)
class Open:
    """Opens one recording. Times in all commands are of the wall clock, 0: now."""

    session_id: str
    tenant_id: str
    line_id: str
    tenant_public_key: bytes
    address: str
    tracks: tuple[TrackRequest, ...] = ()
    info_json: bytes = field(default=b"", repr=False)
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    marks: tuple[bytes, ...] = field(default=(), repr=False)
    context: bytes = field(default=b"", repr=False)
    keep_from_ns: int = 0
    relay_only: bool = False  # tenant, key, info, evidence and marks are not looked at: nothing is recorded


@dataclass(frozen=True, slots=True)
class Update:
    """Changes tracks, adds tracks, replaces info or context.

    Where nothing is recorded any more, media and context change all the same; info, marks and evidence have no recording to
    go into.
    """

    session_id: str
    tracks: tuple[TrackRequest, ...] = ()
    info_json: bytes = field(default=b"", repr=False)
    context: bytes = field(default=b"", repr=False)
    at_ns: int = 0
    marks: tuple[bytes, ...] = field(default=(), repr=False)
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """Ends a recording."""

    session_id: str
    reason: str = ""
    marks: tuple[bytes, ...] = field(default=(), repr=False)
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    at_ns: int = 0
    keep_relaying: bool = False


@dataclass(frozen=True, slots=True)
class Play:
    """Plays a sound to the participant of a track. `record_track`: the box's voice that keeps it."""

    session_id: str
    play_id: str
    track: int
    sound: Sound
    payload_type: int
    repeat: bool = False
    record_track: int | None = None
    interruptible: bool = False


@dataclass(frozen=True, slots=True)
class Plays:
    """When its first packet goes out (wall clock), and how long it is, milliseconds; 0 where it repeats."""

    at_ns: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a track's media is awaited."""

    track: int
    rtp_port: int
    rtcp_port: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A recording is whole and durable: packets kept, bytes of the file."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TrackFigures:
    """See TrackState of the contract."""

    track: int
    port: int
    packets: int
    dropped: int
    refused: int
    overflowed: int
    last_packet_ns: int
    sent: int = 0


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """See SessionState of the contract."""

    session_id: str
    context: bytes = field(repr=False)
    paused: bool
    tracks: tuple[TrackFigures, ...]
    opened_ns: int
    relay_only: bool = False
