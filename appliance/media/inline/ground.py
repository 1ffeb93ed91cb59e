"""What the parts of an inline call share: its participants, what it asks of capture, its timers, how it ends."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from appliance.media.inline.media import (
    Close,
    Command,
    Evidence,
    Failed,
    Far,
    Opened,
    Outcome,
    TrackPlan,
)
from appliance.media.inline.negotiation import Place, Side, reachable
from appliance.media.inline.plan import Plan, codes_of
from appliance.media.inline.sounds import Clock, Sounds
from appliance.media.inline.telling import Telling, Then
from appliance.media.sip.core import Fields, SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE, SipEndpoint
from appliance.media.sip.session import InboundRequest, SipSession
from appliance.model import Mark, Role
from appliance.model.routing import Line

SDP = "application/sdp"


class Life(enum.StrEnum):
    """What the call is doing."""

    OPENING = "opening"
    ANNOUNCING = "announcing"
    RINGING = "ringing"
    WHISPERING = "whispering"
    TALKING = "talking"
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class Participant:
    """One end of the call. `raw` is the last description they sent, for a call whose media does not go through us.
    `settled`: offer and answer are complete, media can flow. `answered`: its call is up (200).
    """

    track: int
    agent: bool
    side: Side
    aor: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    number: str = field(default="", repr=False)
    sip: SipSession | None = None
    place: Place | None = None
    settled: bool = False
    answered: bool = False
    gone: bool = False
    held: bool = False
    lent: bool = False  # another call asks it to talk to its own: until that is decided it is not hung up
    kept_out: str = ""  # why it is not recorded: brought along from the call it comes from
    raw: bytes = field(default=b"", repr=False)

    @property
    def role(self) -> Role:
        return Role.AGENT if self.agent else Role.CALLER


class Ground:
    """See the module. One thread calls everything; the endpoint is pumped by whoever calls."""

    def __init__(
        self, call_id: str, line: Line, plan: Plan, endpoint: SipEndpoint, clock: Clock, started_ns: int
    ) -> None:
        self.call_id, self.line, self.plan = call_id, line, plan
        self.endpoint, self.clock = endpoint, clock
        self.started_ns = started_ns
        self.life = Life.OPENING
        self.participants: dict[int, Participant] = {}
        self.pair: tuple[int, int] | None = None  # tracks of those who talk, or are about to
        self.joined = False
        self.was_joined = False  # the parties have talked, whatever came after
        self.bypass = False  # no capture: descriptions go through as they are
        self.relay_only = bool(plan.withheld)
        self.why_not = plan.withheld  # not recorded, and why
        self.paused = self.stopped = False
        self.paused_by = self.stopped_by = ""
        self.voice = -1  # the box's own track
        self.open = False  # capture has a session, or is asked for one
        self.closing = False
        self.over = False
        self.commands: deque[tuple[Command, Then]] = deque()
        self.timers: dict[str, float] = {}
        self.changed = True
        self.notes: list[str] = []  # for the log: what a person should know, without personal data
        self.sounds = Sounds(self)
        self.telling = Telling(self)
        self._later: dict[str, Callable[[], None]] = {}
        self._later_made = 0
        self._next_track = 0

    # -- participants ------------------------------------------------------------------------------------------------

    def join_in(self, *, agent: bool, srtp: bool = False) -> Participant:
        """A new participant, with a track of its own."""
        participant = Participant(self.take_track(), agent, Side(srtp))
        self.participants[participant.track] = participant
        return participant

    def take_track(self) -> int:
        number = self._next_track
        self._next_track += 1
        return number

    @property
    def track_count(self) -> int:
        """Tracks taken so far; a number is never used again."""
        return self._next_track

    def take_up(
        self,
        pair: tuple[int, int],
        *,
        voice: int,
        tracks: int,
        started_ns: int,
        relay_only: bool,
        why_not: str,
    ) -> None:
        """A call that talked already when its process died; its participants are there."""
        self.pair, self.voice, self.started_ns = pair, voice, started_ns
        self.relay_only, self.why_not = relay_only, why_not
        self._next_track = tracks
        self.joined = self.was_joined = self.open = True
        self.life = Life.TALKING
        self.telling.opened(self.tracks())

    def of(self, session: SipSession) -> Participant | None:
        return next((one for one in self.participants.values() if one.sip is session), None)

    def partner(self, participant: Participant) -> Participant | None:
        """With whom it talks, or is about to."""
        if self.pair is None or participant.track not in self.pair:
            return None
        other = self.pair[0] if self.pair[1] == participant.track else self.pair[1]
        return self.participants.get(other)

    @property
    def caller(self) -> Participant:
        """Who is on the first side of the call now."""
        assert self.pair is not None
        return self.participants[self.pair[0]]

    @property
    def callee(self) -> Participant | None:
        return self.participants.get(self.pair[1]) if self.pair is not None else None

    @property
    def agent(self) -> Participant | None:
        return next((one for one in self.present if one.agent), None)

    @property
    def present(self) -> list[Participant]:
        return [one for one in self.participants.values() if not one.gone]

    # -- media -------------------------------------------------------------------------------------------------------

    def ask(self, command: Command, then: Then | None = None) -> None:
        """Asks capture, in order. `then` gets the outcome."""
        self.commands.append((command, then or self._noted))

    def _noted(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.notes.append(f"media: {outcome.reason}")

    def tracks(self) -> list[TrackPlan]:
        """All tracks as they ought to be."""
        codes = codes_of(self.line) if self.recording else ()
        plans = [self._track(one, codes) for one in self.present]
        if self.voice >= 0:
            codecs = tuple(codec for one in self.present for codec in one.side.codecs if one.settled)
            plans.append(TrackPlan(self.voice, active=True, codecs=codecs, box_voice=True))
        return plans

    def _track(self, one: Participant, codes: tuple[str, ...]) -> TrackPlan:
        partner = self.partner(one)
        side, remote = one.side, one.side.remote
        far = None
        flow = one.sip.flow if one.sip is not None else None
        host = reachable(remote.address, flow.remote[0] if flow is not None else "") if remote else ""
        if remote is not None and host and remote.port and side.direction.receives:
            key = side.local_crypto
            far = Far(
                host,
                remote.port,
                remote.port if side.mux else remote.rtcp_port,
                (key.suite, key.key_salt) if key is not None else None,
            )
        hears = -1
        if partner is not None and self._flows(partner, one):
            hears = partner.track
        theirs = side.remote_crypto
        return TrackPlan(
            one.track,
            active=side.direction.sends,
            codecs=side.codecs,
            srtp=(theirs.suite, theirs.key_salt) if theirs is not None else None,
            mux=side.mux,
            far=far,
            hears=hears,
            codes=codes if one.agent else (),
        )

    def _silenced(self) -> list[TrackPlan]:
        """Tracks of who has gone: what still comes from there is not kept, and nothing is sent there any more."""
        return [
            TrackPlan(one.track, codecs=one.side.codecs, mux=one.side.mux)
            for one in self.participants.values()
            if one.gone and self.telling.has(one.track)
        ]

    def _flows(self, source: Participant, sink: Participant) -> bool:
        """Whether one hears the other: joined, or the callee's early media before that."""
        if not (source.settled and sink.settled and source.side.direction.sends):
            return False
        early = self.life is Life.RINGING and source is self.callee and not source.answered
        return self.joined or early

    def sync(
        self, marks: Iterable[Mark] = (), evidence: Iterable[Evidence] = (), then: Then | None = None
    ) -> None:
        """Tells capture what has changed, if anything."""
        if not self.open or self.closing:
            return
        said = self.telling.take_unsaid(marks, evidence)
        self.telling.say([*self.tracks(), *self._silenced()], *(said if self.recording else ((), ())), then)

    def placed(self, outcome: Outcome) -> None:
        """What comes of a change that nobody waits for."""
        if isinstance(outcome, Opened):
            self.places(outcome)
        else:
            self._noted(outcome)

    def places(self, opened: Opened) -> None:
        """Where each participant's media comes in."""
        for track, place in opened.places.items():
            if track in self.participants:
                self.participants[track].place = place

    @property
    def recording(self) -> bool:
        """Whether a recording is under way, paused or not."""
        return self.open and not (self.relay_only or self.bypass or self.stopped)

    # -- time --------------------------------------------------------------------------------------------------------

    def timer(self, name: str, seconds: float) -> None:
        self.timers[name] = self.clock.now() + seconds

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Does it in a while, unless the call is over by then."""
        self._later_made += 1
        self._later[f"later {self._later_made}"] = what
        self.timer(f"later {self._later_made}", seconds)

    def do_later(self, name: str) -> None:
        """What `later` asked for is due."""
        what = self._later.pop(name, None)
        if what is not None:
            what()

    def cancel_timer(self, name: str) -> None:
        self.timers.pop(name, None)

    # -- SIP ---------------------------------------------------------------------------------------------------------

    def respond(
        self,
        inbound: InboundRequest,
        status: int,
        *,
        headers: Fields = (),
        body: bytes = b"",
        reliable: bool = False,
    ) -> bool:
        """Answers, where it still can be answered."""
        if inbound.answered or (inbound.session is not None and not inbound.session.live):
            return False
        try:
            return self.endpoint.respond(
                inbound,
                status,
                now=self.clock.now(),
                headers=headers,
                body=body,
                content_type=SDP if body else None,
                reliable=reliable,
            )
        except SessionStateError as error:  # more provisionals wait for a PRACK than are kept
            self.notes.append(f"not answered, {status}: {error.reason}")
            return False

    def hang_up(self, participant: Participant, reason: str = "") -> None:
        """Ends a participant's session, whatever it is in; an INVITE of theirs is answered by whoever knows how."""
        session = participant.sip
        if session is None or not session.live or session.ending is not None:
            return
        headers = [("Reason", f'SIP;text="{reason}"')] if reason else []
        now = self.clock.now()
        if session.uas and not session.confirmed and not participant.answered:
            return
        try:
            # An answer of ours may still wait for a PRACK: then so does the BYE.
            if session.confirmed or session.uas:
                self.endpoint.bye(session, now=now, headers=headers)
            else:
                self.endpoint.cancel(session, now=now)
        except (SessionStateError, *UNREACHABLE) as error:
            self.notes.append(f"not hung up: {error.reason}")

    # -- the end -----------------------------------------------------------------------------------------------------

    def be(self, life: Life) -> None:
        if self.life is not life:
            self.life = life
            self.changed = True

    def finish(self, reason: str, marks: Iterable[Mark] = (), evidence: Iterable[Evidence] = ()) -> None:
        """Everybody is hung up, the recording is closed. Once."""
        if self.over:
            return
        at_ns = self.clock.wall_ns()
        self.be(Life.ENDED)
        self.over = True
        self.timers.clear()
        self.sounds.forget()
        self._later.clear()
        for participant in self.present:
            if not participant.lent:
                self.hang_up(participant)
        if self.open and not self.closing:
            self.closing = True
            last = self.telling.take_unsaid(marks, evidence) if self.recording else ((), ())
            self.ask(
                Close(reason, *last, at_ns),
                self._closed,
            )

    def _closed(self, outcome: Outcome) -> None:
        self.open = False
        self._noted(outcome)

    @property
    def ended(self) -> bool:
        """Nothing is left: no session of SIP, none of capture, nothing asked."""
        return (
            self.over
            and not self.open
            and all(one.sip is None or not one.sip.live for one in self.participants.values())
        )
