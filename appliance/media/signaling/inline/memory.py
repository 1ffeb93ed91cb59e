"""Signaling's state of an inline call, kept for it in capture's memory (never on disk: it holds SRTP keys).

Calls that talk are remembered; one that is still being set up is over when signaling is.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance.media.inline.call import InlineCall
from appliance.media.inline.ground import Life, Participant
from appliance.media.inline.negotiation import Place, Side
from appliance.media.inline.plan import Plan
from appliance.media.inline.sounds import Clock
from appliance.media.signaling.errors import ContextError
from appliance.media.sip.crypto import Crypto
from appliance.media.sip.endpoint import SipEndpoint
from appliance.media.sip.offer_answer import AnswerPolicy, plan_answer
from appliance.media.sip.sdp import Codec, parse_sdp
from appliance.model import Direction, EarwitnessError
from appliance.model.routing import Line, Tenant

MARK = b"i"
MAX_PLAIN = 1 << 20
_POLICY = AnswerPolicy(sends=True)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class SideContext(_Frozen):
    """A `Side`. Codecs are (payload type, encoding, rate, channels, fmtp)."""

    srtp: bool
    theirs: str = ""
    ours: str = ""
    line: int
    codecs: tuple[tuple[int, str, int, int, str | None], ...]
    remote_crypto: str = ""
    local_crypto: str = ""
    key: str = ""
    mux: bool


class ParticipantContext(_Frozen):
    """A `Participant`; `sip` is its dialog, a snapshot of `SipEndpoint`."""

    track: int
    agent: bool
    aor: str
    name: str
    number: str
    side: SideContext
    sip: dict[str, Any]
    place: tuple[str, int, int] | None
    held: bool


class InlineContext(_Frozen):
    """A call that talks."""

    call_id: str
    tenant_id: str
    line: Line
    plan: dict[str, Any]
    recordings: tuple[str, ...]
    recorded_parts: int
    started_ns: int
    part_started_ns: int
    sip_call_id: str
    identifiers: tuple[str, ...]
    participants: tuple[ParticipantContext, ...]
    pair: tuple[int, int]
    voice: int
    tracks: int
    relay_only: bool
    why_not: str
    paused: bool
    paused_by: str
    stopped: bool
    stopped_by: str


class Kept(Protocol):
    """What is remembered of a call beside its core."""

    core: InlineCall
    tenant: Tenant
    line: Line
    sip_call_id: str
    identifiers: tuple[str, ...]
    started_ns: int
    recordings: list[str]
    recorded_parts: int
    part_started_ns: int


def pack(live: Kept) -> bytes:
    """As bytes; a bare mark while there is nothing to take up."""
    ground = live.core.ground
    if ground.life is not Life.TALKING or ground.pair is None or ground.bypass or live.core.transfers.pending:
        return MARK
    people = [one for one in ground.present if one.track in ground.pair]
    sessions = [one.sip for one in people]
    if len(people) != 2 or not all(session is not None and session.established for session in sessions):
        return MARK
    plan = ground.plan
    context = InlineContext(
        call_id=live.core.call_id,
        tenant_id=live.tenant.tenant_id,
        line=live.line,
        plan={
            "direction": plan.direction.value,
            "tone_s": plan.tone_s,
            "ring_s": plan.ring_s,
            "withheld": plan.withheld,
            "emergency": plan.emergency,
        },
        recordings=tuple(live.recordings),
        recorded_parts=live.recorded_parts,
        started_ns=live.started_ns,
        part_started_ns=live.part_started_ns,
        sip_call_id=live.sip_call_id,
        identifiers=live.identifiers,
        participants=tuple(_participant(one, ground.endpoint) for one in people),
        pair=ground.pair,
        voice=ground.voice,
        tracks=ground.track_count,
        relay_only=ground.relay_only,
        why_not=ground.why_not,
        paused=ground.paused,
        paused_by=ground.paused_by,
        stopped=ground.stopped,
        stopped_by=ground.stopped_by,
    )
    return MARK + zlib.compress(context.model_dump_json().encode(), 1)


def _participant(one: Participant, endpoint: SipEndpoint) -> ParticipantContext:
    side = one.side
    assert one.sip is not None
    place = (one.place.address, one.place.rtp_port, one.place.rtcp_port) if one.place is not None else None
    return ParticipantContext(
        track=one.track,
        agent=one.agent,
        aor=one.aor,
        name=one.name,
        number=one.number,
        sip=endpoint.snapshot(one.sip),
        place=place,
        held=one.held,
        side=SideContext(
            srtp=side.srtp,
            theirs=_text(side.theirs.serialize() if side.theirs is not None else b""),
            ours=_text(side.ours.serialize() if side.ours is not None else b""),
            line=side.line,
            codecs=tuple((c.payload_type, c.encoding, c.clock_rate, c.channels, c.fmtp) for c in side.codecs),
            remote_crypto=str(side.remote_crypto or ""),
            local_crypto=str(side.local_crypto or ""),
            key=side.key.hex() if side.key is not None else "",
            mux=side.mux,
        ),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def unpack(data: bytes) -> InlineContext:
    """Reads it back; ContextError where it is none, or the call was still being set up."""
    if data[:1] != MARK or len(data) == 1:
        raise ContextError("a call that was not talking yet")
    try:
        plain = zlib.decompressobj().decompress(data[1:], MAX_PLAIN)
        return InlineContext.model_validate_json(plain)
    except (zlib.error, ValidationError):
        # Not chained: what stands in it is personal data.
        raise ContextError("a context that cannot be read") from None


def restore(context: InlineContext, core: InlineCall, endpoint: SipEndpoint, clock: Clock) -> None:
    """Puts a fresh core back where the call was. Raises ContextError."""
    ground = core.ground
    for saved in context.participants:
        try:
            session = endpoint.restore(saved.sip, clock.now())
            side = _side(saved.side)
        except (EarwitnessError, ValueError) as error:
            raise ContextError("a dialog that cannot be taken up") from error
        session.user = core
        place = Place(*saved.place) if saved.place is not None else None
        one = Participant(
            saved.track,
            saved.agent,
            side,
            saved.aor,
            saved.name,
            saved.number,
            session,
            place,
            settled=True,
            answered=True,
            held=saved.held,
        )
        ground.participants[one.track] = one
    ground.take_up(
        context.pair,
        voice=context.voice,
        tracks=context.tracks,
        started_ns=context.started_ns,
        relay_only=context.relay_only,
        why_not=context.why_not,
    )
    ground.paused, ground.paused_by = context.paused, context.paused_by
    ground.stopped, ground.stopped_by = context.stopped, context.stopped_by
    core.keeping.taken_up()


def plan_of(context: InlineContext) -> Plan:
    """The plan, as far as it still matters."""
    values = dict(context.plan)
    return Plan(direction=Direction(values.pop("direction")), destinations=(), **values)


def _side(saved: SideContext) -> Side:
    side = Side(saved.srtp)
    side.line, side.mux = saved.line, saved.mux
    side.theirs = parse_sdp(saved.theirs.encode()) if saved.theirs else None
    side.ours = parse_sdp(saved.ours.encode()) if saved.ours else None
    if side.theirs is not None and side.line >= 0:
        plan = plan_answer(side.theirs, _POLICY)[side.line]
        side.plan = replace(plan, codecs=tuple(Codec(*codec) for codec in saved.codecs))
    side.remote_crypto = Crypto.parse(saved.remote_crypto) if saved.remote_crypto else None
    side.local_crypto = Crypto.parse(saved.local_crypto) if saved.local_crypto else None
    side.key = bytes.fromhex(saved.key) if saved.key else None
    return side
