"""From the INVITE until the parties are joined: sockets, announcement, the call to where it goes on to, whisper.

    opening -> (announcing) -> ringing -> (whispering) -> talking
Where capture cannot record, the call is relayed only; where it is not there at all, media goes past the box. A call that
can reach its destination is never refused for the box's own sake.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.media.inline.dialling import WHY, Dialling, agree, reliable
from appliance.media.inline.ground import Ground, Life, Participant
from appliance.media.inline.media import Evidence, Failed, Open, Opened, Outcome, PlayEnded
from appliance.media.inline.negotiation import DESCRIPTION_ERRORS, OWN_OFFER, NoCommonMediaError, alone
from appliance.media.sip.events import Answered
from appliance.media.sip.reply import REASONS
from appliance.media.sip.sdp import MediaDirection
from appliance.media.sip.session import InboundRequest, SipSession, carries_sdp
from appliance.model import Mark, MarkKind
from appliance.model.routing import AnnounceWhen, PromptRef

LEAD_S = 0.2  # a phone that has just learnt where media comes from misses its beginning


class Setup:
    """See the module. `joined` is called once the parties can talk."""

    def __init__(self, ground: Ground, invite: InboundRequest, joined: Callable[[], None]) -> None:
        self.ground = ground
        self.invite = invite
        self._joined = joined
        self.dialling = Dialling(ground, invite, self.refuse)
        self._rejoin = False  # what the caller agreed to is not what the callee took
        self._plays_left = 0
        self._late_ack: Callable[[], None] | None = None
        self._evidence: tuple[Evidence, ...] = ()

    # -- opening -----------------------------------------------------------------------------------------------------

    def start(self, session: SipSession, evidence: tuple[Evidence, ...]) -> None:
        """Takes the call in hand."""
        ground, request = self.ground, self.invite.request
        caller = ground.join_in(agent=ground.plan.caller_is_agent)
        caller.sip = session
        ground.pair = (caller.track, -1)
        if request.max_forwards == 0:
            self.refuse(483)
            return
        if carries_sdp(request):
            caller.raw = request.body
            try:
                caller.side.offered(request.body)
            except DESCRIPTION_ERRORS:
                self.refuse(488)
                return
        if not self.dialling.anywhere:
            self.refuse(404)
            return
        callee = ground.join_in(agent=not ground.plan.caller_is_agent)
        ground.pair = (caller.track, callee.track)
        if ground.plan.announcement is not None:
            ground.voice = ground.take_track()
        ground.respond(self.invite, 100)
        ground.later(self.dialling.alive_s, self.dialling.alive)
        self._evidence = evidence
        self._open()

    def _open(self) -> None:
        ground = self.ground
        ground.open = True
        plans = tuple(ground.tracks())
        ground.telling.opened(plans)
        ground.ask(
            Open(plans, (), self._evidence if ground.recording else (), ground.relay_only), self._opened
        )

    def _opened(self, outcome: Outcome) -> None:
        ground = self.ground
        if isinstance(outcome, Opened):
            ground.places(outcome)
            if not ground.over:
                self._announce_or_dial()
            return
        ground.open = False
        if ground.over:
            return
        reason = outcome.reason if isinstance(outcome, Failed) else "no-ports"
        ground.changed = True
        ground.notes.append(f"not recorded: {reason}")
        ground.why_not = ground.why_not or f"capture: {reason}"
        away = isinstance(outcome, Failed) and outcome.away
        if not (ground.relay_only or away):  # who is not there relays nothing either
            ground.relay_only = True
            ground.voice = -1
            self._open()
            return
        ground.bypass = True
        self.dialling.dial()

    # -- announcement ------------------------------------------------------------------------------------------------

    def _announce_or_dial(self) -> None:
        ground, plan = self.ground, self.ground.plan
        if plan.announcement is None or plan.caller_is_agent or ground.relay_only:
            self.dialling.dial()
            return
        caller = ground.caller
        if caller.side.theirs is None:
            self._offer_ourselves(caller)
        elif plan.when is AnnounceWhen.BEFORE_ANSWER:
            self._answer_alone(183)
        else:
            self._answer_alone(200)

    def _offer_ourselves(self, caller: Participant) -> None:
        """The caller left the offer to us: it is answered, and the announcement waits for its ACK."""
        assert caller.place is not None
        self.dialling.own_offer = True
        body = caller.side.offer(OWN_OFFER, MediaDirection.SENDRECV, caller.place)
        caller.answered = self.ground.respond(self.invite, 200, body=body)
        self.ground.be(Life.ANNOUNCING)

    def acked(self, body: bytes) -> None:
        """The caller has acknowledged our 200: with its answer where ours was the offer."""
        ground, caller = self.ground, self.ground.caller
        if ground.bypass:
            self._acked_past_us(body)
            return
        if not self.dialling.own_offer or caller.settled:
            return
        try:
            caller.side.answered(body)
        except DESCRIPTION_ERRORS:
            ground.finish("no-common-media")
            return
        caller.settled = True
        if self._late_ack is not None:
            late, self._late_ack = self._late_ack, None
            late()
            return
        ground.sync()
        self._announce()

    def _answer_alone(self, status: int) -> None:
        ground, caller = self.ground, self.ground.caller
        assert caller.place is not None
        codecs = alone(caller.side.codecs)
        if not codecs:
            self._note_unheard("no-codec")
            self.dialling.dial()
            return
        body = caller.side.answer(codecs, MediaDirection.SENDRECV, caller.place)
        caller.settled = True
        sent = ground.respond(self.invite, status, body=body, reliable=reliable(caller))
        if not sent:
            return
        caller.answered = status == 200
        ground.sync()
        self._announce()

    def _announce(self) -> None:
        ground, prompt = self.ground, self.ground.plan.announcement
        assert prompt is not None
        ground.be(Life.ANNOUNCING)
        self._say(ground.caller, prompt, MarkKind.ANNOUNCED, self.dialling.dial)

    def _say(self, to: Participant, prompt: PromptRef, kind: MarkKind, then: Callable[[], None]) -> None:
        """Plays a prompt, once its hearer's phone is ready, and notes on the timeline what was heard of it."""
        self.ground.later(LEAD_S, lambda: self._say_now(to, prompt, kind, then))

    def _say_now(self, to: Participant, prompt: PromptRef, kind: MarkKind, then: Callable[[], None]) -> None:
        ground = self.ground
        began_ns = ground.clock.wall_ns()

        def ended(outcome: PlayEnded) -> None:
            mark = Mark(
                kind=kind,
                at_ns=began_ns,
                track=to.track,
                reason="" if outcome.played_ms else "not-played",
                data={
                    "prompt": prompt.prompt_id,
                    "language": prompt.language,
                    "text_sha256": prompt.text_sha256,
                    "audio_sha256": prompt.audio_sha256,
                    "purposes": ",".join(prompt.purposes),
                    "until_ns": outcome.at_ns,
                    "played_ms": outcome.played_ms,
                    "heard": "whole" if outcome.whole else "part" if outcome.played_ms else "none",
                    "interrupted": outcome.interrupted,
                },
            )
            ground.sync([mark])
            if not outcome.played_ms:
                ground.notes.append(f"{kind.value}: not played")
            then()

        ground.sounds.play(
            to,
            prompt.prompt_id,
            ended,
            record=kind is MarkKind.ANNOUNCED,
            interruptible=kind is MarkKind.ANNOUNCED and ground.plan.interruptible,
        )

    def _note_unheard(self, reason: str) -> None:
        ground = self.ground
        prompt = ground.plan.announcement
        data: dict[str, str | int | float | bool] = {"heard": "none"}
        if prompt is not None:
            data |= {"prompt": prompt.prompt_id, "text_sha256": prompt.text_sha256}
        mark = Mark(
            kind=MarkKind.ANNOUNCED,
            at_ns=ground.clock.wall_ns(),
            track=ground.caller.track,
            reason=reason,
            data=data,
        )
        ground.sync([mark])
        ground.notes.append(f"announcement not played: {reason}")

    # -- answered ----------------------------------------------------------------------------------------------------

    def answered(self, event: Answered) -> None:
        """The callee has answered."""
        ground, callee, caller = self.ground, self.ground.callee, self.ground.caller
        if ground.over or callee is None or event.session is not callee.sip:
            return
        ground.cancel_timer("ring")
        callee.answered = True
        body = event.response.body if carries_sdp(event.response) else b""
        callee.raw = body or callee.raw
        if ground.bypass:
            self._answered_past_us(event, body)
            return
        if event.wants_ack:
            self._answered_with_offer(body)
            return
        try:
            if body:  # again: early media may have been another branch's, or elsewhere
                callee.side.answered(body)
            elif not callee.settled:
                raise NoCommonMediaError("an answer without a description")
        except DESCRIPTION_ERRORS:
            self._no_common()
            return
        callee.settled = True
        if not caller.settled and not agree(caller, callee):
            self._no_common()
            return
        self._rejoin = caller.settled and not caller.side.speaks_as(callee.side)
        self._whisper()

    def _no_common(self) -> None:
        ground = self.ground
        ground.notes.append("no common codec")
        callee = ground.callee
        if callee is not None:
            ground.hang_up(callee, "no common codec")
        self.refuse(488)

    def _answered_past_us(self, event: Answered, body: bytes) -> None:
        ground, caller = self.ground, self.ground.caller
        caller.answered = ground.respond(self.invite, 200, body=body)
        self._talk()

    def _acked_past_us(self, body: bytes) -> None:
        """The caller's answer to the callee's offer, where media goes past us."""
        callee = self.ground.callee
        if callee is not None and callee.sip is not None and callee.sip.client.ack_wanted is not None:
            self.dialling.acknowledge(callee.sip, body)

    def _answered_with_offer(self, body: bytes) -> None:
        """The caller left the offer to the callee: it is passed on, and the answer comes in the caller's ACK."""
        ground, callee, caller = self.ground, self.ground.callee, self.ground.caller
        assert callee is not None and callee.sip is not None
        assert caller.place is not None and callee.place is not None
        callee_sip, callee_place = callee.sip, callee.place
        try:
            plan = callee.side.offered(body)
        except DESCRIPTION_ERRORS:
            self._no_common()
            return
        offer = caller.side.offer(plan.codecs, callee.side.direction, caller.place, ptime=plan.media.ptime)
        self.dialling.own_offer = True
        caller.answered = ground.respond(self.invite, 200, body=offer)

        def late() -> None:
            try:
                answer = callee.side.answer(caller.side.codecs, caller.side.direction, callee_place)
            except NoCommonMediaError:
                ground.finish("no-common-media")
                return
            if self.dialling.acknowledge(callee_sip, answer):
                callee.settled = True
                self._whisper()

        self._late_ack = late

    # -- whisper, and joined -----------------------------------------------------------------------------------------

    def _whisper(self) -> None:
        """What the agent, and the callee of an outbound call, hear before the parties are joined."""
        ground, plan = self.ground, self.ground.plan
        caller, callee = ground.caller, ground.callee
        assert callee is not None
        plays: list[tuple[Participant, PromptRef, MarkKind]] = []
        if not ground.relay_only:
            if plan.caller_is_agent and plan.announcement is not None:
                plays.append((callee, plan.announcement, MarkKind.ANNOUNCED))
            if plan.whisper is not None:
                plays.append((caller if plan.caller_is_agent else callee, plan.whisper, MarkKind.WHISPERED))
        if not plays:
            self._talk()
            return
        ground.be(Life.WHISPERING)
        if any(to is caller for to, _, _ in plays):
            self.dialling.stop_ringing()
        elif caller.settled:
            self.dialling.ring()  # nobody is to wait in silence
        if any(to is caller for to, _, _ in plays) and not caller.answered:
            self._agree_with_caller()
            self._answer_caller()
        ground.sync()
        self._plays_left = len(plays)

        def one_less() -> None:
            self._plays_left -= 1
            if not self._plays_left:
                self._talk()

        for to, prompt, kind in plays:
            self._say(to, prompt, kind, one_less)

    def _agree_with_caller(self) -> None:
        """The caller's answer is made; it is said once its media is ready."""
        ground, caller = self.ground, self.ground.caller
        if caller.answered or ground.bypass or ground.callee is None:
            return
        if not self._rejoin or caller.side.ours is None:
            agree(caller, ground.callee)
        caller.settled = True

    def _answer_caller(self) -> None:
        ground, caller = self.ground, self.ground.caller
        if caller.answered or ground.bypass or ground.over:
            return
        assert caller.side.ours is not None
        caller.answered = ground.respond(self.invite, 200, body=caller.side.ours.serialize())

    def _talk(self) -> None:
        ground = self.ground
        if ground.over:
            return
        self.dialling.stop_ringing()
        self._agree_with_caller()
        ground.joined = ground.was_joined = True
        ground.be(Life.TALKING)

        def ready(outcome: Outcome) -> None:
            # Only now is the caller told that it may speak: not a word of it is to be lost.
            if isinstance(outcome, Opened):
                ground.places(outcome)
            if not ground.over:
                self._answer_caller()
                self._joined()

        if ground.open and not ground.closing:
            ground.sync(then=ready)
        else:
            self._answer_caller()
            self._joined()

    @property
    def wants_rejoin(self) -> bool:
        """The caller is to be asked anew, since the callee took another codec."""
        return self._rejoin

    def refuse(self, status: int) -> None:
        """The call ends here: the caller is told why, by its INVITE or, where it is up already, by BYE."""
        ground, caller = self.ground, self.ground.caller
        ground.notes.append(
            f"not connected, {status}: {WHY.get(status, REASONS.get(status, 'refused there'))}"
        )
        if caller.answered:
            ground.hang_up(caller, f"{status}")
        else:
            ground.respond(self.invite, status)
        ground.finish("not-answered")
