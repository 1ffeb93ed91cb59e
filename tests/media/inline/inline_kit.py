"""A box between peers on a network in memory, with a capture that does as it is told: for tests of inline calls."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "sip"))

from sip_link import Host, Link

from appliance.media.inline.call import InlineCall
from appliance.media.inline.media import (
    Change,
    Close,
    Command,
    Done,
    EndRecording,
    Failed,
    Keyed,
    Open,
    Opened,
    Outcome,
    Pause,
    Play,
    PlayEnded,
    Resume,
    StopPlaying,
    TrackPlan,
)
from appliance.media.inline.negotiation import Place
from appliance.media.inline.plan import Plan, direction_of, make_plan
from appliance.media.sip.events import Event, IncomingInvite
from appliance.media.sip.flow import Transport
from appliance.media.sip.session import SipSession
from appliance.media.siprec.numbers import subscriber
from appliance.model import Mark
from appliance.model.routing import (
    AgentRights,
    Announcement,
    AnnounceWhen,
    InlineRules,
    Line,
    PromptRef,
    Rights,
    Target,
)

BOX, CALLER, CALLEE, SECOND = "192.0.2.9", "192.0.2.1", "192.0.2.2", "192.0.2.3"
PROMPT = PromptRef(
    prompt_id="p" * 26, language="en-GB", text_sha256="a" * 64, purposes=("training",), duration_ms=2000
)
WHISPER = PromptRef(prompt_id="w" * 26, language="en-GB", text_sha256="b" * 64, duration_ms=500)


def sdp(
    address: str, port: int, formats: str = "8 0 101", more: str = "", direction: str = "", version: int = 1
) -> bytes:
    """A description as a phone makes it."""
    lines = [
        "v=0",
        f"o=- 77 {version} IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {formats}",
    ]
    if "101" in formats:
        lines += ["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16"]
    lines += [line for line in more.split("|") if line]
    if direction:
        lines.append(f"a={direction}")
    return "".join(f"{line}\r\n" for line in lines).encode()


class Media:
    """Capture of one call: what it was asked, and what it has open. `fails` names commands that fail, with the reason."""

    _ports = itertools.count(20_000, 4)

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.asked: list[Command] = []
        self.tracks: dict[int, TrackPlan] = {}
        self.places: dict[int, Place] = {}
        self.marks: list[Mark] = []
        self.open = self.recording = self.paused = False
        self.plays: dict[str, Play] = {}

    def carry_out(self, command: Command) -> Outcome:
        self.asked.append(command)
        why = self.kit.fails(command)
        if why:
            return Failed(why, away=why == "away")
        match command:
            case Open(tracks, marks, _, relay_only):
                assert not self.open
                self.open, self.recording = True, not relay_only
                return self._take(tracks, marks)
            case Change(tracks, marks):
                assert self.open
                return self._take(tracks, marks)
            case Play(play_id):
                assert self.open
                self.plays[play_id] = command
                return Done(0, 0 if command.repeat else 2000)
            case StopPlaying(play_id):
                self.plays.pop(play_id, None)
            case Pause(mark):
                self.paused = True
                self.marks.append(mark)
            case Resume(mark):
                self.paused = False
                self.marks.append(mark)
            case EndRecording(mark):
                assert self.recording
                self.recording = False
                self.marks.append(mark)
            case Close(_, marks):
                assert self.open
                self.open = self.recording = False
                self.marks += marks
        return Done()

    def _take(self, tracks: tuple[TrackPlan, ...], marks: tuple[Mark, ...]) -> Opened:
        self.marks += marks
        for plan in tracks:
            self.tracks[plan.number] = plan
            if not plan.box_voice and plan.number not in self.places:
                port = next(self._ports)
                self.places[plan.number] = Place(BOX, port, port + 1)
        return Opened(dict(self.places))

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.asked if isinstance(one, kind)]

    def kinds(self) -> list[str]:
        return [mark.kind.value for mark in self.marks]


class Kit:
    """The box, and peers on its link. Time is the link's."""

    def __init__(
        self, line: Line | None = None, *, transport: Transport = Transport.UDP, seed: int = 0, **link: Any
    ) -> None:
        self.link = Link(transport=transport, seed=seed, **link)
        self.line = line or make_line()
        methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO", "REFER", "NOTIFY")
        self.box = self.link.host(BOX, methods=methods, contact_params="+sip.srs")
        self.caller = self.link.host(CALLER, methods=methods)
        self.callee = self.link.host(CALLEE, methods=methods)
        self.second = self.link.host(SECOND, methods=methods)
        self.box.handler = self._on_event
        self.fails: Callable[[Command], str] = lambda command: ""
        self.withheld = ""
        self.calls: list[InlineCall] = []
        self.media: dict[str, Media] = {}
        self.strays = 0

    # the clock

    def now(self) -> float:
        return self.link.now

    def wall_ns(self) -> int:
        return int((1_700_000_000 + self.link.now) * 1e9)

    # the shell

    def _on_event(self, event: Event) -> None:
        if isinstance(event, IncomingInvite):
            replaced = event.replaces.session if event.replaces is not None else None
            if replaced is not None and isinstance(replaced.user, InlineCall):
                replaced.user.replace(event, replaced)
            else:
                self._begin(event)
            return
        outbound = getattr(event, "outbound", None)
        session: SipSession | None = getattr(event, "session", None) or (
            outbound.session if outbound else None
        )
        if session is not None and isinstance(session.user, InlineCall):
            session.user.sip(event)
        else:
            self.strays += 1
        self._carry_out()

    def plan(self, event: IncomingInvite) -> Plan:
        request = event.inbound.request
        called = subscriber(str(request.uri))
        calling = subscriber(str(request.from_.uri))
        direction = direction_of(self.line, calling, called, event.inbound.flow.remote[0])
        return make_plan(
            self.line,
            direction=direction,
            user=getattr(request.uri, "user", "") or "",
            called=called,
            languages=request.headers.get("Accept-Language") or "",
            withheld=self.withheld,
            emergency=("999", "112"),
        )

    def _begin(self, event: IncomingInvite) -> None:
        call = InlineCall(
            f"call{len(self.calls)}",
            self.line,
            self.plan(event),
            self.box.endpoint,
            self,
            elsewhere=lambda mine, session: (
                session.user.lend(session, mine) if isinstance(session.user, InlineCall) else None
            ),
        )
        self.calls.append(call)
        self.media[call.call_id] = Media(self)
        call.begin(event)
        self._carry_out()

    def settle(self) -> None:
        """Capture does what it was asked, and what comes of it is sent."""
        self._carry_out()
        self.box.pump()

    def _carry_out(self) -> None:
        for call in self.calls:
            while (asked := call.next_command()) is not None:
                command, then = asked
                then(self.media[call.call_id].carry_out(command))

    def run(self, seconds: float) -> None:
        """Time goes by, for calls too."""
        end = self.link.now + seconds
        while self.link.now < end:
            due = [when for call in self.calls if (when := call.next_timer()) is not None]
            step = min([end, *(max(when, self.link.now) for when in due)]) - self.link.now
            self.link.run(min(max(step, 0.01), end - self.link.now + 0.001))
            for call in self.calls:
                call.handle_timeout()
            self.settle()

    # what peers do

    @property
    def call(self) -> InlineCall:
        return self.calls[-1]

    @property
    def capture(self) -> Media:
        return self.media[self.call.call_id]

    def dial(
        self, host: Host | None = None, user: str = "02079460000", body: bytes | None = None, **more: Any
    ) -> SipSession:
        """A call from the outside into the box."""
        host = host or self.caller
        session = host.endpoint.invite(
            f"sip:{user}@{BOX}:5060;transport={self.link.transport.lower()}",
            now=self.link.now,
            from_=more.pop("from_", f"<sip:07700900123@{host.address[0]}>"),
            body=sdp(host.address[0], 4000) if body is None else body,
            content_type="application/sdp" if body != b"" else None,
            **more,
        )
        self.run(0.4)
        return session

    def incoming(self, host: Host | None = None) -> IncomingInvite:
        return (host or self.callee).seen(IncomingInvite)[-1]

    def answer(
        self, host: Host | None = None, status: int = 200, body: bytes | None = None, **more: Any
    ) -> None:
        host = host or self.callee
        made = sdp(host.address[0], 5000) if body is None else body
        inbound = self.incoming(host).inbound
        host.endpoint.respond(
            inbound,
            status,
            now=self.link.now,
            body=made if status < 300 else b"",
            content_type="application/sdp" if made and status < 300 else None,
            **more,
        )
        self.run(0.5)

    def play_to_end(self, *, whole: bool = True, played_ms: int = 2000) -> None:
        """All prompts that play come to their end."""
        for call in self.calls:
            media = self.media[call.call_id]
            for play_id, play in list(media.plays.items()):
                if not play.repeat:
                    del media.plays[play_id]
                    call.media(PlayEnded(play_id, whole, played_ms, False, self.wall_ns()))
        self.settle()
        self.run(0.4)

    def key(self, code: str, track: int = 1) -> None:
        self.call.media(Keyed(track, code, self.wall_ns()))
        self.settle()
        self.run(0.1)


def make_line(**changes: Any) -> Line:
    """A line in front of a switchboard at CALLEE, with SECOND behind it, and a trunk at CALLER."""
    rules: dict[str, Any] = {
        "inbound": (Target(uri=f"sip:{CALLEE}:5060"), Target(uri=f"sip:{SECOND}:5060")),
        "outbound": (Target(uri=f"sip:{CALLER}:5060"),),
    }
    rules |= changes.pop("rules", {})
    given: dict[str, Any] = {
        "line_id": "l" * 26,
        "tenant_id": "t" * 26,
        "display_name": "Surgery",
        "numbers": ("02079460000",),
        "rights": Rights.END,
        "inline": InlineRules(**rules),
    }
    return Line(**(given | changes))


def announced(**changes: Any) -> Line:
    """A line with announcement and whisper."""
    when = changes.pop("when", AnnounceWhen.BEFORE_ANSWER)
    rules = {"announcement": Announcement(prompts=(PROMPT,), when=when), "whisper": WHISPER} | changes.pop(
        "rules", {}
    )
    return make_line(rules=rules, **changes)


__all__ = ["AgentRights", "Host", "announced", "make_line"]
