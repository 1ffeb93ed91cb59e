"""Live calls and their recording sessions, as signaling keeps them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.media.signaling.context import CallContext, SessionContext
from appliance.media.signaling.conversions import Evidence
from appliance.media.sip.session import SipSession
from appliance.media.siprec.numbers import subscriber
from appliance.media.siprec.srs import RecordingSession
from appliance.model import RecordingInfo
from appliance.model.routing import Line, Tenant
from earwitness.internal.v1 import signaling_pb2 as pb

if TYPE_CHECKING:
    from appliance.media.signaling.capture import Worker

STOPPED = "stopped"


@dataclass(eq=False)
class Call:
    """One conversation of one tenant; its sessions are the recording sessions that carry it."""

    call_id: str
    tenant: Tenant
    line: Line
    started_ns: int
    legs: list[Leg] = field(default_factory=list)
    past: list[str] = field(default_factory=list)  # recordings of legs that are over
    paused: bool = False
    paused_by: str = ""
    resume_at: float = 0.0  # on the monotonic clock, which a restart of ours does not touch; 0: not by itself
    keep_from_ns: int = (
        0  # the last resume or taking off hold: what arrived before must not be kept by a new part
    )
    stopped: bool = False
    stopped_by: str = ""
    state: pb.CallState.ValueType = pb.CALL_STATE_UNSPECIFIED
    state_since_ns: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while something is asked of all sessions

    def context(self) -> CallContext:
        """What every session of the call remembers of it."""
        return CallContext(
            call_id=self.call_id,
            tenant_id=self.tenant.tenant_id,
            line_id=self.line.line_id,
            started_ns=self.started_ns,
            paused=self.paused,
            paused_by=self.paused_by,
            resume_at=self.resume_at,
            stopped=self.stopped,
            stopped_by=self.stopped_by,
            state_since_ns=self.state_since_ns,
        )

    def set_resume(self) -> None:
        """A pause begins: when it ends by itself."""
        delay = self.line.auto_resume_s
        self.resume_at = time.monotonic() + delay if delay else 0.0

    def now_state(self) -> tuple[pb.CallState.ValueType, str]:
        """What the call is doing, and the detail to it."""
        if not self.legs:
            return pb.CALL_STATE_ENDED, ""
        if self.stopped:
            return (
                pb.CALL_STATE_NOT_RECORDED,
                f"{STOPPED} by {self.stopped_by}" if self.stopped_by else STOPPED,
            )
        recorded = [leg for leg in self.legs if not leg.withheld]
        if not recorded:
            return pb.CALL_STATE_NOT_RECORDED, self.legs[0].withheld
        if self.paused:
            return pb.CALL_STATE_PAUSED, self.paused_by
        if all(leg.srs.on_hold for leg in recorded):
            return pb.CALL_STATE_HELD, ""
        return pb.CALL_STATE_RECORDING, ""

    def message(self, now_ns: int) -> pb.LiveCall:
        """The call as control is told of it."""
        state, detail = self.now_state()
        if state != self.state:
            self.state, self.state_since_ns = state, now_ns
        made = pb.LiveCall(
            call_id=self.call_id,
            tenant_id=self.tenant.tenant_id,
            line_id=self.line.line_id,
            recording_ids=list(
                dict.fromkeys([*self.past, *(one for leg in self.legs for one in leg.recordings)])
            ),
            state=state,
            started_ns=self.started_ns,
            state_since_ns=self.state_since_ns,
            detail=detail,
            source="siprec",
        )
        seen: set[str] = set()
        for leg in self.legs:
            self._add_parties(made, leg, seen)
        if self.legs:
            made.silent_tracks.extend(sorted(self.legs[0].silent))
        return made

    @staticmethod
    def _add_parties(made: pb.LiveCall, leg: Leg, seen: set[str]) -> None:
        """Parties of further sessions are added where they are not the same again; tracks are those of the first."""
        first = not seen
        for place, party in enumerate(leg.srs.parties):
            key = subscriber(party.aor) or f"{leg.recordings[-1] if leg.recordings else ''} {place}"
            if place not in leg.srs.present or key in seen:
                continue
            seen.add(key)
            track = next((one.number for one in leg.srs.tracks if one.party == place and one.line >= 0), -1)
            made.parties.add(
                aor=party.aor, name=party.name, role=party.role.value, track=track if first else -1
            )


@dataclass(eq=False)
class Leg:
    """One recording session: a SIP dialog, and the recording that capture writes of it (in parts, if capture died).

    `withheld` says why nothing is recorded, "" where it is. `open` tells that there is a capture session, or is to be:
    while its worker is away it waits to be opened again. `silent` are tracks without media; see `media.MediaWatch`.
    """

    call: Call
    srs: RecordingSession
    started_ns: int
    sip: SipSession | None = None
    sip_call_id: str = ""
    worker: Worker | None = None
    recordings: list[str] = field(default_factory=list)
    open: bool = False
    opened: float = 0.0  # on the monotonic clock, when capture last opened it
    paused_there: bool | None = None  # in capture, by its last word; None while that is not known
    told: float = 0.0  # on the monotonic clock, when a pause or resume was last done with, or failed
    withheld: str = ""
    flags: tuple[str, ...] = ()
    part_started_ns: int = 0
    seen_ns: int = 0  # when capture last said that it has it open
    bye: list[Evidence] = field(default_factory=list)
    over: bool = False
    unanswered: int = 0  # questions in a row that the recording client has not answered
    silent: set[int] = field(default_factory=set)
    resumed: asyncio.Event = field(default_factory=asyncio.Event)  # set when a new part begins
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def recording_id(self) -> str:
        """The present part's."""
        return self.recordings[-1] if self.recordings else ""

    def info(self) -> RecordingInfo:
        """The INFO block of the present part."""
        return RecordingInfo(
            recording_id=self.recording_id,
            call_id=self.call.call_id,
            tenant_id=self.call.tenant.tenant_id,
            line_id=self.call.line.line_id,
            part=max(1, len(self.recordings)),
            started_ns=self.part_started_ns,
            source="siprec",
            direction=self.srs.direction,
            parties=self.srs.parties,
            tracks=() if self.withheld else self.srs.track_infos,
            sip_call_id=self.sip_call_id,
            session_ids=self.srs.session_ids,
            flags=tuple(dict.fromkeys((*self.srs.flags, *self.flags))),
        )

    @property
    def awaited(self) -> list[int]:
        """Tracks on which media should come now."""
        return [track.number for track in self.srs.tracks if track.active and track.line >= 0]

    def context(self, snapshot: dict[str, object] | None) -> SessionContext:
        """What capture keeps for us; `snapshot` is that of the dialog."""
        return SessionContext(
            call=self.call.context(),
            recordings=tuple(self.recordings),
            started_ns=self.started_ns,
            sip=snapshot,
            srs=self.srs.state(),
            sip_call_id=self.sip_call_id,
            withheld=self.withheld,
            flags=self.flags,
        )
