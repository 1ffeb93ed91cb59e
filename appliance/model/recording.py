"""The sealed record of one call: what its INFO block and its marks say.

These are written as JSON into the sealed file, so they are a file format: fields may be added, never changed or reused.
All times are nanoseconds since the Unix epoch unless named otherwise.
"""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Role(enum.StrEnum):
    """Which side of the conversation a party is on. Caller is rendered left, agent right."""

    CALLER = "caller"
    AGENT = "agent"
    UNKNOWN = "unknown"
    BOX = "box"  # the box itself: announcements, as the caller heard them


class Direction(enum.StrEnum):
    """Direction of the call as the tenant sees it."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"
    UNKNOWN = "unknown"


class PayloadFormat(_Frozen):
    """What an RTP payload type stands for on one track."""

    number: int
    encoding: str  # upper case: PCMU, OPUS, TELEPHONE-EVENT, CN
    clock_rate: int
    channels: int = 1
    fmtp: str = ""


class Party(_Frozen):
    """A participant. Personal data: only ever inside sealed frames, the catalogue and authorised answers."""

    aor: str = ""
    name: str = ""
    role: Role = Role.UNKNOWN
    participant_id: str = ""  # as the other side named it


class TrackInfo(_Frozen):
    """One direction of media from one participant."""

    track: int
    label: str = ""
    party: int = -1  # index into RecordingInfo.parties; -1: not known
    formats: tuple[PayloadFormat, ...] = ()


class RecordingInfo(_Frozen):
    """What the recording is of. A later INFO block replaces an earlier one."""

    recording_id: str
    call_id: str
    tenant_id: str
    line_id: str
    part: int = 1  # a second part exists only after a restart of capture during the call
    started_ns: int
    source: str = "siprec"  # siprec, inline, webrtc
    direction: Direction = Direction.UNKNOWN
    parties: tuple[Party, ...] = ()
    tracks: tuple[TrackInfo, ...] = ()
    sip_call_id: str = ""
    session_ids: tuple[
        str, ...
    ] = ()  # communication session ids, UCID, GCID: how other systems name this call
    flags: tuple[str, ...] = ()  # what was not understood, such as metadata-missing


class MarkKind(enum.StrEnum):
    """Entries on the timeline."""

    PAUSED = "paused"
    RESUMED = "resumed"
    HELD = "held"
    UNHELD = "unheld"
    TRANSFERRED = "transferred"
    PARTY_JOINED = "party-joined"
    PARTY_LEFT = "party-left"
    GAP = "gap"  # lost: data has `until_ns` and `cause`
    NO_MEDIA = "no-media"
    STOPPED = "stopped"
    RESTARTED = "restarted"  # a part of the box was restarted during the call
    ENDED = "ended"
    ANNOUNCED = "announced"
    WHISPERED = "whispered"
    NOTE = "note"
    LISTENED = "listened"  # somebody listened: data has `purpose`, `listener`, `phase` (began, ended); then `since_ns`


class Mark(_Frozen):
    """One entry on the timeline."""

    kind: MarkKind
    at_ns: int
    actor: str = ""
    reason: str = ""
    track: int = -1  # -1: the whole call
    data: dict[str, str | int | float | bool] = {}
