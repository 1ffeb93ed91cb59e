"""What either side changes while the parties talk: hold, other codecs, another address, refreshes, keys by INFO.

An offer of one side is made to the other and its answer brought back, so that both always agree with each other. An INVITE
without an offer is given one from what the other side takes; what its answer changes is then told to the other side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from appliance.media.inline.ground import SDP, Ground, Participant
from appliance.media.inline.negotiation import DESCRIPTION_ERRORS, Side, same
from appliance.media.sip.core import Fields, SessionBusyError, SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE
from appliance.media.sip.events import RequestFailed, ResponseReceived
from appliance.media.sip.session import InboundRequest, OutboundRequest, carries_sdp
from appliance.model import Mark, MarkKind

GLARE = 491
MAX_INFO = 4096  # octets that are passed on
# What of the other side's refusal is said to who asked; anything else is 488.
SAID = frozenset({403, 415, 480, 488, 500, 503, 606})


@dataclass(slots=True)
class _Asked:
    """A change that waits for the other side. Trials take the place of the sides once both agree."""

    outbound: OutboundRequest
    by: Participant
    of: Participant
    inbound: InboundRequest | None
    mine: Side
    theirs: Side
    taken_back: bool = False


class Talk:
    """See the module. `changed` is called when a participant holds, or comes back."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._asked: list[_Asked] = []
        self._relayed: list[tuple[OutboundRequest, InboundRequest]] = []  # INFO: ours, theirs
        self._offered: Participant | None = None  # has our offer in a 200, its answer comes in the ACK
        self.took_place: Callable[[Participant], None] = lambda new: None
        self.keyed: Callable[[Participant, str, bytes], bool] = lambda participant, kind, body: False

    # -- offers ------------------------------------------------------------------------------------------------------

    def requested(self, participant: Participant, inbound: InboundRequest) -> None:
        """A re-INVITE or UPDATE came."""
        ground, request = self.ground, inbound.request
        partner = ground.partner(participant)
        if ground.over:
            ground.respond(inbound, 481)
            return
        if partner is None or partner.sip is None or not ground.joined:
            self._alone(participant, inbound)
            return
        if not carries_sdp(request):
            self._without_offer(participant, partner, inbound)
            return
        if ground.bypass:
            self._pass(participant, partner, inbound)
            return
        if participant.side.repeats(request.body) and participant.side.ours is not None:
            ground.respond(inbound, 200, body=participant.side.ours.serialize())
            return
        if self._asked or self._offered is not None:
            ground.respond(inbound, GLARE)
            return
        mine, theirs = copy.copy(participant.side), copy.copy(partner.side)
        assert partner.place is not None
        try:
            plan = mine.offered(request.body)
            body = theirs.offer(plan.codecs, mine.direction, partner.place, ptime=plan.media.ptime)
        except DESCRIPTION_ERRORS:
            ground.respond(inbound, 488)
            return
        self._ask(participant, partner, inbound, mine, theirs, body)

    def _ask(
        self,
        participant: Participant,
        partner: Participant,
        inbound: InboundRequest | None,
        mine: Side,
        theirs: Side,
        body: bytes,
    ) -> None:
        """Our offer to the other side."""
        ground = self.ground
        assert partner.sip is not None
        update = inbound is not None and inbound.method == "UPDATE" and "UPDATE" in partner.sip.remote_allow
        send = ground.endpoint.update if update else ground.endpoint.reinvite
        try:
            outbound = send(partner.sip, now=ground.clock.now(), body=body, content_type=SDP)
        except (SessionBusyError, SessionStateError):
            if inbound is not None:
                ground.respond(inbound, GLARE)
            else:
                ground.timer(f"tell {partner.track}", 2.0)
            return
        except UNREACHABLE as error:
            ground.notes.append(f"change not passed on: {error.reason}")
            if inbound is not None:
                ground.respond(inbound, 500)
            return
        self._asked.append(_Asked(outbound, participant, partner, inbound, mine, theirs))

    def _pass(self, participant: Participant, partner: Participant, inbound: InboundRequest) -> None:
        """Media goes past us: so does what is said of it."""
        participant.raw = inbound.request.body
        self._ask(participant, partner, inbound, participant.side, partner.side, inbound.request.body)

    def _alone(self, participant: Participant, inbound: InboundRequest) -> None:
        """Before the parties are joined: answered from what was agreed, as far as it still fits."""
        ground, side = self.ground, participant.side
        if not carries_sdp(inbound.request):
            body = side.ours.serialize() if inbound.method == "INVITE" and side.ours is not None else b""
            ground.respond(inbound, 200, body=body)
            return
        if participant.place is None:
            # Media goes past us, and the other side cannot be asked yet.
            ground.respond(inbound, GLARE)
            return
        trial = copy.copy(side)
        try:
            wanted = side.codecs
            trial.offered(inbound.request.body)
            body = trial.answer(wanted, trial.direction.reversed(), participant.place)
        except DESCRIPTION_ERRORS:
            ground.respond(inbound, 488)
            return
        participant.side = trial
        ground.respond(inbound, 200, body=body)
        ground.sync()

    def _without_offer(self, participant: Participant, partner: Participant, inbound: InboundRequest) -> None:
        ground = self.ground
        if inbound.method == "UPDATE":
            ground.respond(inbound, 200)
            return
        if ground.bypass:
            ground.respond(inbound, 488)
            return
        if self._asked or self._offered is not None:
            ground.respond(inbound, GLARE)
            return
        assert participant.place is not None
        trial = copy.copy(participant.side)
        body = trial.offer(
            partner.side.codecs, partner.side.direction, participant.place, ptime=partner.side.ptime
        )
        if ground.respond(inbound, 200, body=body):
            participant.side = trial
            self._offered = participant

    def acked(self, participant: Participant, body: bytes) -> None:
        """An ACK; where our 200 was the offer it brings the answer."""
        if participant is not self._offered:
            return
        self._offered = None
        partner = self.ground.partner(participant)
        before = (participant.side.direction, participant.side.speech)
        try:
            participant.side.answered(body)
        except DESCRIPTION_ERRORS as error:
            self.ground.notes.append(f"an offer of ours is not answered: {error.reason}")
            return  # all stays as it was
        self._settle()
        if partner is not None and before != (participant.side.direction, participant.side.speech):
            self.tell(participant, partner)

    def tell(self, participant: Participant, partner: Participant) -> None:
        """Offers the other side what this one has agreed to."""
        ground = self.ground
        if ground.over or partner.sip is None or not partner.sip.established:
            return
        if partner.sip.server.unacked:
            # It has not acknowledged our answer yet: too early for the next question (RFC 3261, section 14.1).
            ground.timer(f"tell {partner.track}", 0.2)
            return
        assert partner.place is not None
        theirs = copy.copy(partner.side)
        body = theirs.offer(
            participant.side.codecs, participant.side.direction, partner.place, ptime=participant.side.ptime
        )
        self._ask(participant, partner, None, participant.side, theirs, body)

    # -- answers -----------------------------------------------------------------------------------------------------

    def response(self, event: ResponseReceived) -> bool:
        """A response to a request of ours; whether it was one of these."""
        status = event.response.status
        relayed = self._take_relayed(event.outbound, final=status >= 200)
        if relayed is not None:
            if status >= 200:
                self.ground.respond(relayed, status)
            return True
        asked = next((one for one in self._asked if one.outbound is event.outbound), None)
        if asked is None:
            return False
        if status < 200:
            return True
        self._asked.remove(asked)
        if status >= 300:
            if asked.inbound is not None:
                self.ground.respond(asked.inbound, status if status in SAID else 488)
            return True
        self._agreed(asked, event)
        return True

    def _take_relayed(self, outbound: OutboundRequest, *, final: bool) -> InboundRequest | None:
        for pair in self._relayed:
            if pair[0] is outbound:
                if final:
                    self._relayed.remove(pair)
                return pair[1]
        return None

    def _agreed(self, asked: _Asked, event: ResponseReceived) -> None:
        ground, body = self.ground, event.response.body if carries_sdp(event.response) else b""
        if asked.inbound is not None and asked.inbound.answered:
            self._take_back(asked)  # it took too long
        if ground.bypass:
            asked.of.raw = body
            if asked.inbound is not None:
                ground.respond(asked.inbound, 200, body=body)
            return
        if asked.of.gone or asked.by.gone:
            if asked.inbound is not None:
                ground.respond(asked.inbound, 500)
            return
        try:
            asked.theirs.answered(body)
            answer = b""
            if asked.inbound is not None:
                assert asked.by.place is not None
                answer = asked.mine.answer(asked.theirs.codecs, asked.theirs.direction, asked.by.place)
        except DESCRIPTION_ERRORS:
            # They took what we offered and cannot be understood: nothing has changed for who asked.
            if asked.inbound is not None:
                ground.respond(asked.inbound, 488)
            return
        asked.by.side, asked.of.side = asked.mine, asked.theirs
        asked.of.settled = True
        if asked.inbound is not None:
            ground.respond(asked.inbound, 200, body=answer)
        self._settle()
        if asked.taken_back:
            self.tell(asked.by, asked.of)

    def _settle(self) -> None:
        """Tells capture, and the timeline who holds."""
        ground, marks = self.ground, []
        for one in ground.present:
            held = not one.side.direction.receives
            if one.settled and held != one.held:
                one.held = held
                kind = MarkKind.HELD if held else MarkKind.UNHELD
                marks.append(Mark(kind=kind, at_ns=ground.clock.wall_ns(), track=one.track))
                ground.changed = True
        ground.sync(marks)

    def failed(self, event: RequestFailed) -> bool:
        """A request of ours got no answer; whether it was one of these."""
        relayed = self._take_relayed(event.outbound, final=True)
        if relayed is not None:
            self.ground.respond(relayed, 408)
            return True
        asked = next((one for one in self._asked if one.outbound is event.outbound), None)
        if asked is None:
            return False
        self._asked.remove(asked)
        if asked.inbound is not None:
            self.ground.respond(asked.inbound, 408)
        return True

    def withdrawn(self, inbound: InboundRequest) -> None:
        """A re-INVITE was cancelled by who sent it: what the other side answers goes nowhere."""
        for asked in self._asked:
            if asked.inbound is inbound:
                self._take_back(asked)

    @staticmethod
    def _take_back(asked: _Asked) -> None:
        """Who asked for the change is where it was."""
        asked.inbound, asked.mine, asked.taken_back = None, asked.by.side, True

    def change_places(self, old: Participant, new: Participant, stays: Participant) -> None:
        """The new one talks to who stays, in place of the old one."""
        ground = self.ground
        first = ground.pair is not None and ground.pair[0] == stays.track
        ground.pair = (stays.track, new.track) if first else (new.track, stays.track)
        ground.joined = ground.changed = True
        self.gone(old)
        self.took_place(new)

    def gone(self, participant: Participant) -> None:
        """A participant has left: nothing waits for it any more."""
        for asked in list(self._asked):
            if asked.of is participant or asked.by is participant:
                self._asked.remove(asked)
                if asked.inbound is not None and asked.by is not participant:
                    self.ground.respond(asked.inbound, 480)
        if self._offered is participant:
            self._offered = None

    # -- INFO --------------------------------------------------------------------------------------------------------

    def info(self, participant: Participant, inbound: InboundRequest) -> None:
        """Keys are looked at first; what is none of ours goes to the other side (RFC 6086 knows no better)."""
        ground, request = self.ground, inbound.request
        content_type = request.headers.get("Content-Type") or ""
        if len(request.body) > MAX_INFO:
            ground.respond(inbound, 413)
            return
        if self.keyed(participant, content_type, request.body):
            ground.respond(inbound, 200)
            return
        headers = [
            (name, value)
            for name in ("Info-Package", "Content-Disposition")
            for value in request.headers.get_all(name)[:1]
        ]
        outbound = self.send_info(participant, content_type, request.body, headers)
        if outbound is None:
            ground.respond(inbound, 200 if keys_of(content_type, request.body) else 480)
            return
        self._relayed.append((outbound, inbound))

    def send_info(
        self, participant: Participant, content_type: str, body: bytes, headers: Fields = ()
    ) -> OutboundRequest | None:
        """An INFO of one side to the other; None where it cannot be sent."""
        ground, partner = self.ground, self.ground.partner(participant)
        if partner is None or partner.sip is None or not partner.sip.established:
            return None
        try:
            return ground.endpoint.request(
                "INFO",
                now=ground.clock.now(),
                session=partner.sip,
                headers=headers,
                body=body,
                content_type=content_type or None,
            )
        except (SessionStateError, *UNREACHABLE) as error:
            ground.notes.append(f"INFO not passed on: {error.reason}")
            return None


def keys_of(content_type: str, body: bytes) -> str:
    """The key that an INFO reports, "" for none: `application/dtmf-relay` (Signal=5) and `application/dtmf` (5)."""
    kind = content_type.partition(";")[0].strip().lower()
    text = body[:256].decode("ascii", "replace")
    if kind == "application/dtmf-relay":
        for line in text.splitlines():
            name, _, value = line.partition("=")
            if name.strip().lower() == "signal":
                text = value
                break
        else:
            return ""
    elif kind != "application/dtmf":
        return ""
    key = {"10": "*", "11": "#"}.get(text.strip(), text.strip().upper())
    return key if len(key) == 1 and key in "0123456789*#ABCD" else ""


def differs(one: Participant, other: Participant) -> bool:
    """Whether two participants speak in different codecs, or mean different ones by a payload type."""
    if not one.side.speaks_as(other.side):
        return True
    numbers = [{codec.payload_type for codec in side.codecs} for side in (one.side, other.side)]
    return any(
        same(codec, twin) and codec.payload_type not in numbers[1]
        for codec in one.side.codecs
        for twin in other.side.codecs
    )
