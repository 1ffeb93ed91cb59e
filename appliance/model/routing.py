"""Tenants and lines, as signaling needs them: which call belongs to whom, and whether to record it."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field

from appliance.model.purpose import Purpose
from appliance.model.recording import Direction


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tenant(_Frozen):
    """The data controller whose calls these are."""

    tenant_id: str
    display_name: str
    public_key: bytes  # MLKEM768-X25519, raw; base64 in JSON
    create_ns: int = 0
    contact: str = ""  # of the records officer
    language: str = ""  # of callers where nothing else is known (BCP 47)
    time_zone: str = ""  # IANA; empty: UTC
    # Who has not acknowledged a notice that is required may do so all the same (terms 5): patients' safety comes first.
    unacknowledged_may_pause: bool = True
    unacknowledged_may_read: bool = True
    acknowledgement_years: int = 6  # after somebody left, until all but an opaque id is forgotten

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class PromptRef(_Frozen):
    """A prompt as a line uses it. The words themselves stay with the prompt; their hash says which they were."""

    prompt_id: str
    language: str = ""  # BCP 47, such as en-GB
    text_sha256: str = ""  # lower-case hexadecimal, of the text in UTF-8
    audio_sha256: str = ""  # of the samples it was made from
    purposes: tuple[str, ...] = ()  # what it says that recordings are used for
    duration_ms: int = 0


class AnnounceWhen(enum.StrEnum):
    """When the announcement is played: as early media, or after the caller's call is answered."""

    BEFORE_ANSWER = "before-answer"
    AFTER_ANSWER = "after-answer"


class Announcement(_Frozen):
    """What the outside party hears before it is joined to the agent (terms 3.1)."""

    prompts: tuple[PromptRef, ...]  # one a language; the first where the caller's language is not known
    when: AnnounceWhen = AnnounceWhen.BEFORE_ANSWER
    interruptible: bool = False  # any key ends it


class Rights(enum.StrEnum):
    """What an agent may do to a recording (terms 3.3). `END` includes `PAUSE`."""

    NONE = "none"
    PAUSE = "pause"
    END = "end"


class Listening(enum.StrEnum):
    """Whether calls may be listened to while they last. `SHOWN`: and agents see when."""

    NONE = "none"
    ALLOWED = "allowed"
    SHOWN = "shown"


class AgentRights(_Frozen):
    """Rights of the agents whose number fits: digits with an optional leading +; a trailing * matches any rest."""

    number: str
    may: Rights


class Target(_Frozen):
    """Where an inline call goes on to."""

    uri: str  # SIP or SIPS URI; without a user part the number that was called is put in
    srtp: bool = False  # offer RTP/SAVP with SDES there


class KeyCodes(_Frozen):
    """What the agent keys in. Empty: not by keypad."""

    pause: str = "*2"
    resume: str = "*3"
    end: str = "*4"


class InlineRules(_Frozen):
    """How the box stands in the path of a line's calls. Without targets a direction is not carried."""

    inbound: tuple[Target, ...] = ()  # towards the switchboard, in the order they are tried
    outbound: tuple[Target, ...] = ()  # towards the trunk
    ring_s: int = Field(30, ge=1, le=300)  # for one target
    announcement: Announcement | None = None
    whisper: PromptRef | None = None  # to the agent, before the parties are joined (terms 3.2)
    tone_s: int = Field(0, ge=0, le=3600)  # "this call is recorded" every so often; 0: never


class Line(_Frozen):
    """What a tenant contracted."""

    line_id: str
    tenant_id: str
    display_name: str
    numbers: tuple[str, ...] = ()  # digits with an optional leading +; a trailing * matches any rest
    trunks: tuple[str, ...] = ()  # source addresses (IP or CIDR) or names in the peer's TLS certificate
    catch_all: bool = False  # takes what no other line takes; at most one in a box
    directions: tuple[Direction, ...] = (
        Direction.INBOUND,
        Direction.OUTBOUND,
        Direction.INTERNAL,
        Direction.UNKNOWN,
    )
    do_not_record: tuple[str, ...] = ()  # numbers whose calls are noted, not recorded
    create_ns: int = 0
    inline: InlineRules | None = None
    keys: KeyCodes = KeyCodes()
    rights: Rights = Rights.NONE  # of agents that `agents` does not name
    agents: tuple[AgentRights, ...] = ()
    auto_resume_s: int = 0  # a pause ends by itself; 0: it does not
    reminder_s: int = 30  # a tone to the agent while paused, this often; 0: never
    purposes: tuple[str, ...] = ()  # what callers are told by other means than an announcement
    closed: bool = (
        False  # in the routing table: it, or its tenant, is closed, so that no call of it is recorded
    )
    listening: Listening = Listening.NONE


class ServiceState(enum.StrEnum):
    """Where a tenant or a line is in its life (terms 2, 6)."""

    ACTIVE = "active"
    CLOSING = "closing"  # to be closed at a date that was given notice of
    CLOSED = "closed"  # no call is recorded any more; what there is is kept, and read, as ever
    EMPTY = "empty"  # closed, and the last recording is gone


class Closing(_Frozen):
    """That a tenant or a line is being closed, or is closed. Times are nanoseconds since the Unix epoch."""

    tenant_id: str
    line_id: str = ""  # empty: the tenant, with all its lines
    state: ServiceState
    reason: str = ""
    who: str = ""
    begin_ns: int = 0
    notice_ns: int = 0  # when it closes, or closed by
    close_ns: int | None = None
    empty_ns: int | None = None
    reminded_days: int = 0  # the last reminder was of so many days before; 0: none yet


class Barred(_Frozen):
    """Agents of a tenant who may not pause or end, whatever their line says, until they acknowledge a notice (terms 5)."""

    tenant_id: str
    numbers: tuple[str, ...] = ()  # normalised


class RoutingTable(_Frozen):
    """Everything signaling needs to decide line and tenant; written whole, atomically, by control."""

    version: int = 0  # grows with each change
    tenants: tuple[Tenant, ...] = ()
    lines: tuple[Line, ...] = ()
    purposes: tuple[Purpose, ...] = ()  # for a catalogue that was lost; signaling does not ask
    closings: tuple[Closing, ...] = ()  # the same
    barred: tuple[Barred, ...] = ()
