"""One inline call: a back-to-back user agent between a caller and where the line's calls go on to. Sans-IO.

    call = InlineCall(call_id, line, plan, endpoint, clock)
    call.begin(event)                          # the IncomingInvite
    call.sip(event)                            # whatever the endpoint tells of one of its sessions
    while (asked := call.next_command()): ...  # carry out asked[0], then call asked[1](outcome), in this order
    call.media(event)                          # keys and ends of plays, as capture tells them
    call.handle_timeout()                      # when call.next_timer() has come
The endpoint is used directly, since it does no I/O either; whoever calls pumps it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.media.inline.ground import Ground, Life, Participant
from appliance.media.inline.keeping import AUTOMATIC, END, PAUSE, Act, Keeping, Told
from appliance.media.inline.media import Command, Evidence, Keyed, MediaEvent, PlayEnded
from appliance.media.inline.plan import Plan, kept_out
from appliance.media.inline.presence import LOST, Presence
from appliance.media.inline.setup import Setup
from appliance.media.inline.sounds import Clock
from appliance.media.inline.talk import Talk, keys_of
from appliance.media.inline.telling import Then
from appliance.media.inline.transfers import Release, Transfers
from appliance.media.sip.core import SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE, SipEndpoint
from appliance.media.sip.events import (
    Acked,
    Answered,
    Bye,
    Cancelled,
    EndCause,
    Event,
    InboundRequest,
    IncomingInvite,
    IncomingRequest,
    Prack,
    Provisional,
    ReInvite,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
    Update,
)
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import SipSession, carries_sdp
from appliance.model import Mark, MarkKind
from appliance.model.routing import Line

DO_NOT_RECORD = "do-not-record"
MAX_EVIDENCE = 64  # messages kept of one call
Elsewhere = Callable[["InlineCall", SipSession], "tuple[Participant, Release] | None"]
_ENDS = {
    EndCause.REMOTE_BYE: "bye",
    EndCause.LOCAL_BYE: "bye",
    EndCause.CANCELLED: "cancelled",
    EndCause.REJECTED: "refused",
    EndCause.EXPIRED: "session-expired",
    EndCause.ACK_TIMEOUT: "ack-timeout",
}


def nobody(call: InlineCall, session: SipSession) -> None:
    """There is no other call to join."""


class InlineCall:
    """See the module. Every SIP session of the call has it as `user`."""

    def __init__(
        self,
        call_id: str,
        line: Line,
        plan: Plan,
        endpoint: SipEndpoint,
        clock: Clock,
        *,
        elsewhere: Elsewhere = nobody,
    ) -> None:
        self.ground = Ground(call_id, line, plan, endpoint, clock, clock.wall_ns())
        self.talk = Talk(self.ground)
        self.keeping = Keeping(self.ground, self._pass_key)
        self.transfers = Transfers(self.ground, self.talk, lambda session: elsewhere(self, session))
        self.talk.keyed, self.talk.took_place = self._keyed, self._took_place
        self.presence = Presence(self.ground)
        self.setup: Setup | None = None
        self._evidence = 0
        self._noted = ""

    # -- read --------------------------------------------------------------------------------------------------------

    @property
    def call_id(self) -> str:
        return self.ground.call_id

    @property
    def over(self) -> bool:
        """It has ended; `ended` tells when nothing is left of it either."""
        return self.ground.over

    @property
    def ended(self) -> bool:
        return self.ground.ended and not self.ground.commands

    def take_changed(self) -> bool:
        """Whether what is shown of the call has changed since last asked."""
        changed, self.ground.changed = self.ground.changed, False
        return changed

    def take_acts(self) -> list[Act]:
        """What was asked by keypad since last asked."""
        acts, self.keeping.acts = self.keeping.acts, []
        return acts

    def take_notes(self) -> list[str]:
        """What a log should say, since last asked; the same again and again is said once."""
        notes, self.ground.notes = self.ground.notes, []
        fresh = [note for note, before in zip(notes, [self._noted, *notes], strict=False) if note != before]
        self._noted = notes[-1] if notes else self._noted
        return fresh

    # -- capture -----------------------------------------------------------------------------------------------------

    def next_command(self) -> tuple[Command, Then] | None:
        """What capture is asked next; the outcome goes to the function beside it, before the next is taken."""
        return self.ground.commands.popleft() if self.ground.commands else None

    def media(self, event: MediaEvent) -> None:
        """Something happened in the media."""
        if isinstance(event, PlayEnded):
            self.ground.sounds.ended(event)
        elif isinstance(event, Keyed) and not self.over:
            participant = self.ground.participants.get(event.track)
            if participant is not None and not participant.gone:
                self.keeping.code(participant, event.code)

    # -- from outside ------------------------------------------------------------------------------------------------

    def act(self, action: str, actor: str, reason: str, told: Told) -> None:
        """Pause, resume or end the recording; see `Keeping.act`."""
        self.keeping.act(action, actor, reason, told)

    def lend(self, session: SipSession, to: InlineCall) -> tuple[Participant, Release] | None:
        """Lets another call of the same tenant ask one of our parties to talk to its own; None where that cannot be."""
        ground = self.ground
        participant = ground.of(session)
        partner = ground.partner(participant) if participant is not None else None
        wanted = partner.sip if partner is not None else None
        same_tenant = ground.line.tenant_id == to.ground.line.tenant_id
        if (
            partner is None
            or wanted is None
            or not wanted.established
            or not ground.joined
            or not same_tenant
        ):
            return None
        if ground.over or ground.bypass or self.transfers.pending:
            return None
        wanted.user = to
        partner.lent = True
        partner.kept_out = "stopped" if ground.stopped else "paused" if ground.paused else ""
        if kept_out(ground.line, partner.number):
            partner.kept_out = DO_NOT_RECORD

        def release(taken: bool) -> None:
            partner.lent = False
            if taken:
                mark = Mark(kind=MarkKind.TRANSFERRED, at_ns=ground.clock.wall_ns(), track=partner.track)
                partner.sip, partner.gone = None, True
                ground.finish("transferred", [mark])
                return
            wanted.user = self
            if ground.over:
                ground.hang_up(partner)  # who lent it has gone meanwhile
            elif not wanted.live:
                self.sip(SessionEnded(wanted, wanted.ending or EndCause.GONE, wanted.final))

        return partner, release

    def _took_place(self, new: Participant) -> None:
        """Who comes into the call may be somebody who is not to be recorded, here or in the call it comes from."""
        why = DO_NOT_RECORD if kept_out(self.ground.line, new.number) else new.kept_out
        if why and self.ground.recording:
            self.keeping.act(PAUSE if why == "paused" else END, AUTOMATIC, why)

    def hang_up(self, reason: str) -> None:
        """Ends the call from our side."""
        self._refuse_waiting(503)
        self.ground.finish(reason)

    def _refuse_waiting(self, status: int) -> None:
        """The call ends before its caller was answered: then it is told by its INVITE."""
        if self.setup is not None and not self.over and not self.ground.caller.answered:
            self.setup.refuse(status)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `handle_timeout` wants to be called, by the clock's `now`."""
        return min(self.ground.timers.values(), default=None)

    def handle_timeout(self) -> None:
        """Does what is due."""
        now = self.ground.clock.now()
        for name, when in sorted(self.ground.timers.items(), key=lambda pair: pair[1]):
            if when <= now and self.ground.timers.get(name) == when:
                del self.ground.timers[name]
                self._timer(name)

    def _timer(self, name: str) -> None:
        ground = self.ground
        kind, _, rest = name.partition(" ")
        if ground.over:
            return
        if name == "ring" and self.setup is not None:
            self.setup.dialling.ring_over()
        elif kind == "play":
            ground.sounds.ended(PlayEnded(rest, False, 0, False, ground.clock.wall_ns()))
        elif kind == "again":
            ground.sync()
        elif kind == "later":
            ground.do_later(name)
        elif kind == "tell":
            self._tell(int(rest))
        elif not self.keeping.timer(name):
            self.transfers.timer(name)

    def _tell(self, track: int) -> None:
        partner = self.ground.participants.get(track)
        participant = self.ground.partner(partner) if partner is not None and not partner.gone else None
        if partner is not None and participant is not None:
            self.talk.tell(participant, partner)

    # -- SIP ---------------------------------------------------------------------------------------------------------

    def begin(self, event: IncomingInvite) -> None:
        """The INVITE that begins it."""
        event.session.user = self
        event.session.contact_params = ""
        self.setup = Setup(self.ground, event.inbound, self._joined)
        self.setup.start(event.session, (self._as_evidence(event.inbound.request),))

    def replace(self, event: IncomingInvite, replaced: SipSession) -> None:
        """An INVITE that takes the place of one of our sessions."""
        participant = self.ground.of(replaced)
        event.session.user = self
        event.session.contact_params = ""
        if participant is None:
            self.ground.respond(event.inbound, 481)
            return
        self.transfers.replaced(event, participant)

    def _joined(self) -> None:
        self.keeping.begin()
        ground, setup = self.ground, self.setup
        callee = ground.callee
        if setup is not None and setup.wants_rejoin and callee is not None:
            self.talk.tell(callee, ground.caller)

    def sip(self, event: Event) -> None:
        """The endpoint tells of one of our sessions."""
        match event:
            case Provisional(session):
                if self.transfers.concerns(session):
                    self.transfers.provisional(event)
                elif self.setup is not None and not self.ground.joined:
                    self.setup.dialling.provisional(event)
            case Answered(session, response):
                self._answered(event, session, response)
            case SessionEnded(session):
                self._session_ended(event, session)
            case Acked(session, ack, _):
                self._acked(session, ack)
            case Cancelled(session, inbound):
                self.talk.withdrawn(inbound)
            case ReInvite(session, inbound) | Update(session, inbound):
                self._changed_by(session, inbound)
            case Prack(session, request, InboundRequest() as inbound):
                if carries_sdp(request):
                    self._changed_by(session, inbound)
                else:
                    self.ground.respond(inbound, 200)
            case Bye(session, request):
                self._keep(self._as_evidence(request))
            case IncomingRequest(inbound, session):
                self._request(inbound, session)
            case ResponseReceived(outbound, response):
                if not (self.presence.answered(outbound, response.status) or self.transfers.response(event)):
                    self.talk.response(event)
            case RequestFailed(outbound):
                if not (self.presence.answered(outbound) or self.transfers.failed(event)):
                    self.talk.failed(event)

    def _answered(self, event: Answered, session: SipSession, response: SipResponse) -> None:
        ground = self.ground
        self._keep(self._as_evidence(response))
        if self.transfers.concerns(session):
            self.transfers.answered(event)
        elif self.setup is not None and ground.of(session) is not None and not ground.joined:
            self.setup.answered(event)
        if ground.of(session) is None and session.live:
            # Nobody waits for it any more: another place was tried meanwhile.
            self._drop(session)

    def _drop(self, session: SipSession) -> None:
        try:
            self.ground.endpoint.bye(session, now=self.ground.clock.now())
        except (SessionStateError, *UNREACHABLE) as error:
            self.ground.notes.append(f"not hung up: {error.reason}")

    def _acked(self, session: SipSession, ack: SipRequest) -> None:
        participant = self.ground.of(session)
        if participant is None or self.over:
            return
        if self.setup is not None and participant is self.ground.participants.get(0):
            self.setup.acked(ack.body)
        self.talk.acked(participant, ack.body)

    def _changed_by(self, session: SipSession, inbound: InboundRequest) -> None:
        participant = self.ground.of(session)
        if participant is None or participant.gone:
            self.ground.respond(inbound, 481)
            return
        self._keep(self._as_evidence(inbound.request))
        self.talk.requested(participant, inbound)

    def _request(self, inbound: InboundRequest, session: SipSession | None) -> None:
        participant = self.ground.of(session) if session is not None else None
        if participant is None or participant.gone or self.over:
            self.ground.respond(inbound, 481)
        elif inbound.method == "INFO":
            self.talk.info(participant, inbound)
        elif inbound.method == "REFER":
            self._keep(self._as_evidence(inbound.request))
            self.transfers.referred(participant, inbound)
        elif inbound.method in ("OPTIONS", "NOTIFY"):
            self.ground.respond(inbound, 200)
        else:
            self.ground.respond(inbound, 405)

    def _session_ended(self, event: SessionEnded, session: SipSession) -> None:
        ground = self.ground
        if self.transfers.concerns(session):
            self.transfers.new_ended(event)
            return
        participant = ground.of(session)
        if participant is None:
            return
        if ground.over:
            participant.gone = True
            return
        if not ground.joined and not self.transfers.pending and participant is ground.callee:
            assert self.setup is not None
            self.setup.dialling.callee_ended(event)
            return
        participant.gone = True
        self.talk.gone(participant)
        partner = ground.partner(participant)
        if self.transfers.left(participant):
            return
        if partner is None:
            ground.changed = True
            ground.sync()  # who had been transferred away from
            return
        self.transfers.partner_left()
        if participant is not ground.caller:
            self._refuse_waiting(480)
        ground.finish(_ENDS.get(event.cause, LOST))

    # -- keys by INFO ------------------------------------------------------------------------------------------------

    def _keyed(self, participant: Participant, content_type: str, body: bytes) -> bool:
        key = keys_of(content_type, body)
        return bool(key) and self.keeping.info_key(participant, key, content_type, body)

    def _pass_key(self, participant: Participant, content_type: str, body: bytes) -> None:
        self.talk.send_info(participant, content_type, body)

    # -- evidence ----------------------------------------------------------------------------------------------------

    def _as_evidence(self, message: SipRequest | SipResponse) -> Evidence:
        kind = message.method.lower() if isinstance(message, SipRequest) else f"{message.status}"
        return Evidence(f"sip-{kind}", "message/sip", message.serialize(), self.ground.clock.wall_ns())

    def _keep(self, evidence: Evidence) -> None:
        self._evidence += 1
        if self._evidence <= MAX_EVIDENCE and not self.over and self.ground.recording:
            self.ground.sync((), [evidence])

    @property
    def life(self) -> Life:
        return self.ground.life
