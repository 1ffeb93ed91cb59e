"""What an inline call asks of capture, and what it hears back: plain values; the shell carries them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from appliance.media.inline.negotiation import Place
from appliance.media.sip.sdp import Codec
from appliance.model import Mark


class Tone(enum.StrEnum):
    """See the Tone of capture.proto."""

    RINGING = "ringing"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REMINDER = "reminder"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class Far:
    """Where a participant receives; `srtp` is suite and key of ours."""

    host: str
    rtp_port: int
    rtcp_port: int
    srtp: tuple[str, bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """One participant's media as it ought to be. `srtp` is theirs; `hears` the track that is relayed to it, -1: none."""

    number: int
    active: bool = False
    codecs: tuple[Codec, ...] = ()
    srtp: tuple[str, bytes] | None = field(default=None, repr=False)
    mux: bool = False
    far: Far | None = None
    hears: int = -1
    codes: tuple[str, ...] = ()
    box_voice: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """A message as it was received."""

    kind: str
    content_type: str
    content: bytes = field(repr=False)
    at_ns: int


@dataclass(frozen=True, slots=True)
class Open:
    """Sockets, and a recording unless `relay_only`. Answered by `Opened`, or failed."""

    tracks: tuple[TrackPlan, ...]
    marks: tuple[Mark, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    relay_only: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """Tracks that are new or have changed, and what belongs to the change. Answered by `Opened`."""

    tracks: tuple[TrackPlan, ...] = ()
    marks: tuple[Mark, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Play:
    """A prompt (by its id) or a tone, to one participant. Answered by `Playing`, later `PlayEnded`."""

    play_id: str
    track: int
    sound: str | Tone
    codec: Codec
    repeat: bool = False
    record_track: int = -1
    interruptible: bool = False


@dataclass(frozen=True, slots=True)
class StopPlaying:
    """Ends a play."""

    play_id: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is kept from the mark's time on."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Resume:
    """Kept again."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class EndRecording:
    """The recording ends, the call goes on."""

    mark: Mark


@dataclass(frozen=True, slots=True)
class Close:
    """All is over."""

    reason: str
    marks: tuple[Mark, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    at_ns: int = 0


Command = Open | Change | Play | StopPlaying | Pause | Resume | EndRecording | Close


@dataclass(frozen=True, slots=True)
class Opened:
    """Where each track is received."""

    places: dict[int, Place]


@dataclass(frozen=True, slots=True)
class Done:
    """A command was carried out. `at_ns`: since when it holds, or when a play began; `duration_ms` of a play."""

    at_ns: int = 0
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """A command was not carried out; `away`: capture does not answer."""

    reason: str
    away: bool = False


Outcome = Opened | Done | Failed


@dataclass(frozen=True, slots=True)
class PlayEnded:
    """Something has been played, to its end or not."""

    play_id: str
    whole: bool
    played_ms: int
    interrupted: bool
    at_ns: int


@dataclass(frozen=True, slots=True)
class Keyed:
    """A participant entered one of the line's codes."""

    track: int
    code: str
    at_ns: int


MediaEvent = PlayEnded | Keyed
