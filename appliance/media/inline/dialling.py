"""The places a call goes on to, tried one after the other: ringing, redirections, nobody there, the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from appliance.media.inline.ground import SDP, Ground, Life, Participant
from appliance.media.inline.headers import passed_on
from appliance.media.inline.media import Tone
from appliance.media.inline.negotiation import DESCRIPTION_ERRORS, NoCommonMediaError, Side
from appliance.media.inline.plan import Destination, bare, uri_host
from appliance.media.sip.core import SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import Provisional, SessionEnded
from appliance.media.sip.session import EndCause, InboundRequest, SipSession, carries_sdp
from appliance.media.sip.uri import SipUri

ALIVE_S = 60.0  # a caller that waits is told that it does (RFC 3261, section 13.3.1.1)
MAX_PLACES = 8  # tried for one call, redirections included
ELSEWHERE = frozenset(
    {404, 408, 410, 480, 500, 502, 503, 504, 580}
)  # another place may do what this one cannot
_NOT_TAKEN = frozenset({415, 488, 606})
_NO_ANSWER = 480
# What is between us and who said it: a challenge, a word about our own request or dialog (RFC 3261, section 16.7).
_BETWEEN_US = {
    401: 403,
    407: 403,
    420: 500,
    421: 500,
    422: 500,
    423: 500,
    494: 500,
    481: 480,
    487: 480,
    491: 480,
}
# What a person would want to read of a call that did not come about.
WHY = {
    404: "the line has no target for calls in this direction",
    408: "the target does not answer",
    480: "nobody answered at any target",
    483: "the call has gone round in a circle",
    486: "busy",
    488: "no audio that both sides take",
    503: "the target cannot be reached",
    603: "declined",
}


class Dialling:
    """See the module. `give_up` gets the status the caller is to be told."""

    alive_s = ALIVE_S

    def __init__(self, ground: Ground, invite: InboundRequest, give_up: Callable[[int], None]) -> None:
        self.ground = ground
        self.invite = invite
        self.own_offer = False  # the caller left the offer to us, and we made it
        self._tell_caller = give_up
        self._places: deque[Destination] = deque(ground.plan.destinations)
        self._tried = 0
        self._ringing = ""  # play id of the tone
        self._last = 0  # the first reason why nobody answered
        self._fallback = False  # the present place is tried a second time, with all that the caller offers
        self._destination: Destination | None = None

    def _give_up(self, status: int) -> None:
        self._tell_caller(_BETWEEN_US.get(status, status))

    @property
    def anywhere(self) -> bool:
        """There is a place to try."""
        return bool(self._places)

    def dial(self) -> None:
        """Tries the next place; gives up after the last."""
        ground = self.ground
        if ground.over:
            return
        while self._places and self._tried < MAX_PLACES:
            self._destination = self._places.popleft()
            self._fallback = False
            if self._invite():
                return
        self._give_up(self._last or _NO_ANSWER)

    def _invite(self) -> bool:
        """An INVITE to the present place; False where none can be sent there."""
        ground, destination = self.ground, self._destination
        callee = ground.callee
        assert callee is not None and destination is not None
        self._tried += 1
        callee.side = Side(destination.srtp)
        callee.settled = callee.answered = False
        callee.aor = callee.aor or destination.uri
        try:
            body = self._offer_for(callee)
            headers = passed_on(self.invite.request)
            if not body:
                # An offer in a reliable provisional wants its answer in the PRACK, when the caller has not given one yet.
                known = ground.endpoint.config.extensions
                headers.append(("Supported", ", ".join(one for one in known if one != "100rel")))
            session = ground.endpoint.invite(
                destination.uri,
                now=ground.clock.now(),
                from_=str(
                    replace(self.invite.request.from_, params=type(self.invite.request.from_.params)())
                ),
                headers=headers,
                body=body,
                content_type=SDP if body else None,
                contact_params="",
            )
        except (*UNREACHABLE, *DESCRIPTION_ERRORS) as error:
            ground.notes.append(f"not called: {error.reason}")
            self._last = self._last or 503
            return False
        callee.sip = session
        session.user = ground.caller.sip.user if ground.caller.sip is not None else None
        ground.be(Life.RINGING)
        ground.timer("ring", ground.plan.ring_s)
        return True

    def _offer_for(self, callee: Participant) -> bytes:
        ground, caller = self.ground, self.ground.caller
        if ground.bypass:
            return caller.raw
        if caller.side.theirs is None:
            return b""
        assert callee.place is not None and caller.side.plan is not None
        codecs = caller.side.codecs
        if self._fallback and not self.own_offer:
            codecs = caller.side.theirs.media[caller.side.line].codecs
        return callee.side.offer(codecs, caller.side.direction, callee.place, ptime=caller.side.ptime)

    def provisional(self, event: Provisional) -> None:
        """The callee rings, or sends early media."""
        ground, callee, caller = self.ground, self.ground.callee, self.ground.caller
        if ground.over or callee is None or event.session is not callee.sip or event.response.status == 100:
            return
        status = event.response.status
        body = event.response.body if carries_sdp(event.response) else b""
        if ground.bypass:
            if not caller.answered:
                ground.respond(self.invite, status, body=body, reliable=reliable(caller) and bool(body))
            return
        if body and not callee.settled and callee.side.ours is not None:
            try:
                callee.side.answered(body)
                callee.settled = True
            except DESCRIPTION_ERRORS:
                body = b""
        if caller.settled:
            if callee.settled and caller.side.speaks_as(callee.side):
                self.stop_ringing()
                ground.sync()
            else:
                self.ring()
            return
        if callee.settled and body and agree(caller, callee):
            assert caller.side.ours is not None
            caller.settled = True
            ground.respond(self.invite, status, body=caller.side.ours.serialize(), reliable=reliable(caller))
            ground.sync()
        else:
            ground.respond(self.invite, status)

    def acknowledge(self, session: SipSession, body: bytes) -> bool:
        """The callee's 200 wants an ACK with an answer; where it cannot be given the call is over."""
        ground = self.ground
        try:
            ground.endpoint.ack(
                session, now=ground.clock.now(), body=body, content_type=SDP if body else None
            )
        except (SessionStateError, *UNREACHABLE) as error:
            ground.notes.append(f"not acknowledged: {error.reason}")
            ground.finish("party-lost")
            return False
        return True

    def alive(self) -> None:
        """The caller has no answer yet: it is told so again, with what was said of media. Not more often than it must be: a
        phone may begin its audio anew."""
        ground, caller = self.ground, self.ground.caller
        if caller.answered or ground.bypass:
            return
        ours = caller.side.ours if caller.settled else None
        ground.respond(self.invite, 183, body=ours.serialize() if ours is not None else b"")
        ground.later(ALIVE_S, self.alive)

    def ring(self) -> None:
        """The caller hears that it rings."""
        if not self._ringing:
            self._ringing = self.ground.sounds.play(self.ground.caller, Tone.RINGING, repeat=True)

    def stop_ringing(self) -> None:
        if self._ringing:
            self.ground.sounds.stop(self._ringing)
            self._ringing = ""

    def ring_over(self) -> None:
        """Nobody answered here in time."""
        ground, callee = self.ground, self.ground.callee
        if callee is None or callee.answered or ground.over:
            return
        self._last = self._last or _NO_ANSWER
        old = callee.sip
        callee.sip = None  # its end is nobody's any more
        if old is not None and old.live:
            try:
                ground.endpoint.cancel(old, now=ground.clock.now())
            except (SessionStateError, *UNREACHABLE) as error:
                ground.notes.append(f"not cancelled: {error.reason}")
        self.stop_ringing()
        self.dial()

    def callee_ended(self, event: SessionEnded) -> None:
        """The callee refused, could not be reached, or hung up before the parties were joined."""
        ground, callee = self.ground, self.ground.callee
        ground.cancel_timer("ring")
        if ground.over or callee is None:
            return
        self.stop_ringing()
        status = event.response.status if event.response is not None else 0
        if callee.answered:
            self._give_up(_NO_ANSWER)
            return
        if event.cause in (EndCause.TIMEOUT, EndCause.TRANSPORT):
            self._last = self._last or (408 if event.cause is EndCause.TIMEOUT else 503)
            self.dial()
        elif (
            status in _NOT_TAKEN and self.ground.caller.settled and not self._fallback and not self.own_offer
        ):
            self._fallback = True
            if not self._invite():
                self.dial()
        elif 300 <= status < 400 and event.response is not None:
            self._redirected(event)
        elif status in ELSEWHERE:
            self._last = self._last or status
            self.dial()
        else:
            self._give_up(status or _NO_ANSWER)

    def _redirected(self, event: SessionEnded) -> None:
        """A 3xx names other places; only those within the switchboard's or the trunk's own hosts are followed."""
        assert event.response is not None and self._destination is not None
        known = {uri_host(one.uri) for one in self.ground.plan.destinations}
        try:
            contacts = event.response.contacts
        except SipParseError:
            contacts = ()
        found = []
        for contact in contacts[:MAX_PLACES]:
            if isinstance(contact.uri, SipUri) and contact.uri.host.lower() in known:
                found.append(Destination(str(bare(contact.uri)), self._destination.srtp))
        if not found:
            self._last = self._last or 480
        self._places.extendleft(reversed(found))
        self.dial()


def reliable(caller: Participant) -> bool:
    """Whether the caller can take provisional responses by 100rel (RFC 3262)."""
    return caller.sip is not None and "100rel" in caller.sip.remote_supported


def agree(caller: Participant, callee: Participant) -> bool:
    """Answers the caller's offer from what the callee takes; False where they have nothing in common."""
    assert caller.place is not None
    try:
        caller.side.answer(callee.side.codecs, callee.side.direction, caller.place)
    except NoCommonMediaError:
        return False
    return True
