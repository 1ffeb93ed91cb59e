"""Transfers (RFC 3515, RFC 3891): who was talked to goes on with somebody else, in the same call and recording.

A REFER of the agent's side is carried out here: the new party is called, and takes the place of who transferred. With
Replaces it names a dialog: one of ours is joined without another call, any other is passed on to whom it concerns. An
INVITE with Replaces that names one of our dialogs takes that party's place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from appliance.media.inline.ground import SDP, Ground, Participant
from appliance.media.inline.media import Opened, Outcome, Tone
from appliance.media.inline.negotiation import DESCRIPTION_ERRORS
from appliance.media.inline.plan import hosts
from appliance.media.inline.referral import capabilities, notify, place_of, read_refer_to
from appliance.media.inline.talk import Talk, differs
from appliance.media.sip.core import SessionBusyError, SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import (
    Answered,
    IncomingInvite,
    Provisional,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
)
from appliance.media.sip.sdp import MediaDirection
from appliance.media.sip.session import InboundRequest, OutboundRequest, SipSession, carries_sdp
from appliance.media.sip.values import DialogRef
from appliance.media.siprec.numbers import subscriber
from appliance.model import Mark, MarkKind

FAREWELL_S = 4.0  # who has transferred hangs up by itself, or is hung up
DECLINED = 603


Release = Callable[[bool], None]
"""Called once: the party is taken over for good, or goes back to its call."""


@dataclass(slots=True)
class _Under:
    """A transfer under way. `replaces` is the header for a dialog that is not ours; `taken` a session of another call."""

    by: Participant
    stays: Participant
    new: Participant
    uri: str = ""
    replaces: str = ""
    asked: OutboundRequest | None = None  # our re-INVITE of a session taken over
    release: Release | None = None  # ends, or gives back, the loan of another call
    ringing: str = ""


class Transfers:
    """See the module. `elsewhere` finds the call and participant that a session of ours belongs to, if this call may join
    it, and lends it."""

    def __init__(
        self,
        ground: Ground,
        talk: Talk,
        elsewhere: Callable[[SipSession], tuple[Participant, Release] | None],
    ) -> None:
        self.ground, self.talk = ground, talk
        self._elsewhere = elsewhere
        self._under: _Under | None = None

    @property
    def pending(self) -> bool:
        return self._under is not None

    # -- REFER -------------------------------------------------------------------------------------------------------

    def referred(self, participant: Participant, inbound: InboundRequest) -> None:
        """A REFER came."""
        ground = self.ground
        partner = ground.partner(participant)
        if partner is None or not ground.joined or not participant.agent or ground.bypass or not ground.open:
            # Only the agent's side may send calls on: a caller could have any number dialled at the tenant's cost.
            ground.respond(inbound, DECLINED)
            return
        if self._under is not None:
            ground.respond(inbound, 491)
            return
        named = read_refer_to(inbound.request)
        if named is None:
            ground.respond(inbound, 400)
            return
        plain, replaces = named
        if replaces and self._join_ours(participant, partner, replaces, inbound):
            return
        uri = place_of(ground, participant, plain, exact=bool(replaces))
        if not uri:
            ground.respond(inbound, DECLINED)
            return
        ground.respond(inbound, 202)
        new = ground.join_in(agent=participant.agent, srtp=participant.side.srtp)
        new.aor, new.number = str(plain), subscriber(str(plain))
        self._under = _Under(participant, partner, new, uri, replaces)
        notify(ground, participant, 100)
        ground.sync(then=self._placed)

    def _placed(self, outcome: Outcome) -> None:
        if isinstance(outcome, Opened):
            self.ground.places(outcome)
            self._call()
        else:
            self._fail(503)

    def _call(self) -> None:
        """The new party's INVITE."""
        ground, under = self.ground, self._under
        if under is None or ground.over:
            return
        try:
            assert under.new.place is not None
            body = under.new.side.offer(
                capabilities(under.stays),
                MediaDirection.SENDRECV,
                under.new.place,
                ptime=under.stays.side.ptime,
            )
            session = ground.endpoint.invite(
                under.uri,
                now=ground.clock.now(),
                from_=f"<{under.stays.aor}>" if under.stays.aor else "<sip:anonymous@anonymous.invalid>",
                headers=[("Replaces", under.replaces)] if under.replaces else (),
                body=body,
                content_type=SDP,
                contact_params="",
            )
        except (*UNREACHABLE, *DESCRIPTION_ERRORS) as error:
            ground.notes.append(f"transfer not called: {error.reason}")
            self._fail(503)
            return
        under.new.sip = session
        session.user = under.by.sip.user if under.by.sip is not None else None
        ground.timer("transfer", ground.plan.ring_s)

    def concerns(self, session: SipSession) -> bool:
        """Whether a session is that of the party being called."""
        return self._under is not None and self._under.new.sip is session

    def provisional(self, event: Provisional) -> None:
        """It rings there."""
        ground, under = self.ground, self._under
        if under is None or event.response.status < 180:
            return
        notify(ground, under.by, event.response.status)
        if under.by.gone:
            self._ring(under)

    def _ring(self, under: _Under) -> None:
        if not under.ringing:
            under.ringing = self.ground.sounds.play(under.stays, Tone.RINGING, repeat=True)

    def answered(self, event: Answered) -> None:
        """The new party is there."""
        under = self._under
        if under is None:
            return
        body = event.response.body if carries_sdp(event.response) else b""
        under.new.answered = True
        under.new.raw = body
        try:
            under.new.side.answered(body)
        except DESCRIPTION_ERRORS:
            self._fail(488)
            return
        self._change(under)

    def _change(self, under: _Under) -> None:
        """The new party takes the place of who transferred."""
        ground, old, new, stays = self.ground, under.by, under.new, under.stays
        self._under = None
        ground.cancel_timer("transfer")
        if under.ringing:
            ground.sounds.stop(under.ringing)
        new.settled = True
        self.talk.change_places(old, new, stays)
        mark = Mark(
            kind=MarkKind.TRANSFERRED,
            at_ns=ground.clock.wall_ns(),
            track=new.track,
            actor=old.number,
            data={"from": old.track, "to": new.track, "number": new.number},
        )
        ground.sync([mark])
        if under.release is not None:
            under.release(True)
        if stays.side.direction is not MediaDirection.SENDRECV or differs(stays, new):
            self.talk.tell(new, stays)
        notify(ground, old, 200)
        if not old.gone:
            ground.timer(f"farewell {old.track}", FAREWELL_S)

    def _fail(self, status: int) -> None:
        """It did not come about: who transferred goes on, or (where gone) the call is over."""
        ground, under = self.ground, self._under
        self._under = None
        ground.cancel_timer("transfer")
        if under is None:
            return
        if under.ringing:
            ground.sounds.stop(under.ringing)
        under.new.gone = True
        if under.release is None:
            ground.hang_up(under.new)
        else:
            under.new.sip = None
            under.release(False)
        notify(ground, under.by, status)
        if under.by.gone:
            ground.finish("transfer-failed")
        else:
            ground.sync()

    def new_ended(self, event: SessionEnded) -> None:
        """The party being called refused, or hung up at once."""
        self._fail(event.response.status if event.response is not None else 480)

    def left(self, participant: Participant) -> bool:
        """Who transferred has hung up; whether the call goes on for the other's sake."""
        under = self._under
        if under is None or under.by is not participant:
            return False
        self.ground.joined = False
        self.ground.sync()
        self._ring(under)
        return True

    def partner_left(self) -> None:
        """Who was to be transferred has hung up: nobody needs to be called any more."""
        under, self._under = self._under, None
        if under is None:
            return
        if under.release is None:
            self.ground.hang_up(under.new)
        else:
            under.new.sip = None
            under.release(False)

    # -- a dialog of ours --------------------------------------------------------------------------------------------

    def _join_ours(
        self, participant: Participant, partner: Participant, replaces: str, inbound: InboundRequest
    ) -> bool:
        """Attended transfer of a call that runs through us too: its party is asked to talk to ours."""
        ground = self.ground
        try:
            ref = DialogRef.parse(replaces)
        except SipParseError:
            return False
        session = ground.endpoint.find_session(ref.call_id, ref.to_tag, ref.from_tag)
        found = self._elsewhere(session) if session is not None else None
        if found is None or ground.bypass or not ground.open:
            return False
        other, release = found
        new = ground.join_in(agent=True, srtp=other.side.srtp)
        new.side, new.sip = copy.copy(other.side), other.sip
        new.aor, new.number, new.name, new.agent = other.aor, other.number, other.name, other.agent
        new.answered, new.kept_out = True, other.kept_out
        ground.respond(inbound, 202)
        self._under = _Under(participant, partner, new, release=release)
        notify(ground, participant, 100)

        def placed(outcome: Outcome) -> None:
            if not isinstance(outcome, Opened) or self._under is None:
                self._fail(503)
                return
            ground.places(outcome)
            self._ask_over()

        ground.sync(then=placed)
        return True

    def _ask_over(self) -> None:
        ground, under = self.ground, self._under
        if under is None or under.new.place is None or under.new.sip is None:
            return
        try:
            body = under.new.side.offer(
                capabilities(under.stays),
                MediaDirection.SENDRECV,
                under.new.place,
                ptime=under.stays.side.ptime,
            )
            under.asked = ground.endpoint.reinvite(
                under.new.sip, now=ground.clock.now(), body=body, content_type=SDP
            )
        except (SessionBusyError, SessionStateError, *UNREACHABLE, *DESCRIPTION_ERRORS) as error:
            ground.notes.append(f"transfer not joined: {error.reason}")
            self._fail(503)

    def response(self, event: ResponseReceived) -> bool:
        """A response to the re-INVITE of a party taken over; whether it was that."""
        under = self._under
        if under is None or event.outbound is not under.asked:
            return False
        status = event.response.status
        if status < 200:
            return True
        if status >= 300:
            self._fail(status)
            return True
        try:
            under.new.side.answered(event.response.body)
        except DESCRIPTION_ERRORS:
            self._fail(488)
            return True
        self._change(under)
        return True

    def failed(self, event: RequestFailed) -> bool:
        """The same, without an answer."""
        if self._under is None or event.outbound is not self._under.asked:
            return False
        self._fail(408)
        return True

    # -- INVITE with Replaces ----------------------------------------------------------------------------------------

    def replaced(self, event: IncomingInvite, participant: Participant) -> None:
        """Somebody calls in to take a participant's place (RFC 3891, section 3)."""
        ground, inbound = self.ground, event.inbound
        partner = ground.partner(participant)
        rules = ground.line.inline
        flow = participant.sip.flow if participant.sip is not None else None
        source = inbound.flow.remote[0]
        known = hosts([*rules.inbound, *rules.outbound]) if rules is not None else frozenset()
        if source not in known and (flow is None or source != flow.remote[0]):
            ground.respond(inbound, 403)
            return
        if (
            partner is None
            or not ground.joined
            or self._under is not None
            or ground.bypass
            or not ground.open
        ):
            ground.respond(inbound, 481 if partner is None else 491)
            return
        new = ground.join_in(agent=participant.agent)
        new.sip = event.session
        new.aor, new.number = str(inbound.request.from_.uri), subscriber(str(inbound.request.from_.uri))
        try:
            new.side.offered(inbound.request.body)
        except DESCRIPTION_ERRORS:
            new.gone = True
            ground.respond(inbound, 488)
            return
        self._under = _Under(participant, partner, new)

        def placed(outcome: Outcome) -> None:
            if self._under is None or not isinstance(outcome, Opened):
                self._under = None
                new.gone = True
                ground.respond(inbound, 503)
                return
            ground.places(outcome)
            assert new.place is not None
            try:
                body = new.side.answer(capabilities(partner), partner.side.direction, new.place)
            except DESCRIPTION_ERRORS:
                self._under = None
                new.gone = True
                ground.respond(inbound, 488)
                return
            new.answered = ground.respond(inbound, 200, body=body)
            under = self._under
            self._change(under)
            ground.timer(f"farewell {participant.track}", 0.0)

        ground.sync(then=placed)

    # -- time --------------------------------------------------------------------------------------------------------

    def timer(self, name: str) -> bool:
        """Whether it was one of these."""
        ground = self.ground
        kind, _, number = name.partition(" ")
        if name == "transfer":
            self._fail(408)
        elif kind == "farewell":
            participant = ground.participants.get(int(number))
            if participant is not None and not participant.gone:
                ground.hang_up(participant)
        else:
            return False
        return True
