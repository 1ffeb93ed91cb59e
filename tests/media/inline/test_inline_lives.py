"""Lives of calls at random: whatever peers, capture and the network do, nothing is left half up and nothing leaks.

EARWITNESS_CALL_LIVES says how many (300 where nobody says; 10,000 is what a release is held to).
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_kit import (
    BOX,
    CALLEE,
    CALLER,
    SECOND,
    Change,
    Command,
    Kit,
    Open,
    Pause,
    Play,
    announced,
    make_line,
    sdp,
)
from sip_link import Host

from appliance.media.inline.ground import Life
from appliance.media.inline.media import Keyed, PlayEnded
from appliance.media.sip.events import (
    Answered,
    IncomingInvite,
    IncomingRequest,
    ReInvite,
    ResponseReceived,
    Update,
)
from appliance.media.sip.session import SessionState, SipSession
from appliance.model import EarwitnessError
from appliance.model.routing import AnnounceWhen

LIVES = int(os.environ.get("EARWITNESS_CALL_LIVES", "300"))

ACTIONS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.05, 0.5, 3.0, 12.0, 40.0])),
    st.tuples(st.just("answer"), st.sampled_from([180, 183, 200, 200, 200, 302, 404, 486, 488, 503])),
    st.tuples(st.just("no-common"), st.just(200)),
    st.tuples(st.just("played"), st.booleans()),
    st.tuples(st.just("key"), st.sampled_from(["*2", "*3", "*4", "*9"])),
    st.tuples(st.just("bye"), st.sampled_from(["caller", "callee", "second"])),
    st.tuples(st.just("cancel"), st.just("caller")),
    st.tuples(st.just("reinvite"), st.sampled_from(["caller", "callee", "second"])),
    st.tuples(st.just("update"), st.sampled_from(["caller", "callee"])),
    st.tuples(st.just("offerless"), st.sampled_from(["caller", "callee"])),
    st.tuples(st.just("reply"), st.sampled_from([200, 200, 200, 488, 491, 500])),
    st.tuples(st.just("refer"), st.sampled_from([SECOND, "evil.example", BOX])),
    st.tuples(st.just("replaces"), st.just(0)),
    st.tuples(st.just("info"), st.sampled_from(["*", "2", "5"])),
    st.tuples(st.just("act"), st.sampled_from(["pause", "resume", "end"])),
    st.tuples(st.just("dial"), st.booleans()),
    st.tuples(st.just("hang-up"), st.just(0)),
)
TROUBLES = st.sampled_from(["none", "none", "none", "no-recording", "away", "plays", "changes", "pauses"])
# Most of what can go wrong goes wrong with a call that is up: many lives begin with one.
UP = [("played", True), ("answer", 200), ("played", True)]
LINES = [
    make_line(),
    announced(rules={"ring_s": 8}),
    announced(when=AnnounceWhen.AFTER_ANSWER),
    make_line(auto_resume_s=20, rules={"tone_s": 5, "ring_s": 5}),
]


def trouble(name: str) -> Any:
    """What capture cannot do."""

    def fails(command: Command) -> str:
        wrong = {
            "no-recording": isinstance(command, Open) and not command.relay_only,
            "away": True,
            "plays": isinstance(command, Play),
            "changes": isinstance(command, Change),
            "pauses": isinstance(command, Pause),
        }.get(name, False)
        return ("away" if name == "away" else "BROKEN") if wrong else ""

    return fails


class Peers:
    """One life: actions on a fresh call of a box that has lived through others."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    def hosts(self, name: str) -> Host:
        return {"caller": self.kit.caller, "callee": self.kit.callee, "second": self.kit.second}[name]

    @staticmethod
    def sessions(host: Host) -> list[SipSession]:
        return [one for one in host.endpoint.sessions.values() if one.state is SessionState.ESTABLISHED]

    def do(self, verb: str, what: Any) -> None:
        kit = self.kit
        try:
            self._do(kit, verb, what)
        except EarwitnessError:
            return  # what a peer cannot do in its state
        finally:
            for host in (kit.caller, kit.callee, kit.second):
                host.pump()
            kit.settle()

    def _do(self, kit: Kit, verb: str, what: Any) -> None:
        now = kit.link.now
        match verb:
            case "wait":
                kit.run(what)
            case "answer" | "no-common":
                for host, address in ((kit.callee, CALLEE), (kit.second, SECOND), (kit.caller, CALLER)):
                    for event in host.seen(IncomingInvite)[-2:]:
                        if not event.inbound.answered and event.session.live:
                            formats = "18" if verb == "no-common" else "8 101"
                            body = sdp(address, 5000, formats) if what in (183, 200) else b""
                            headers = [("Contact", f"<sip:x@{SECOND}:5060>")] if what == 302 else []
                            host.endpoint.respond(event.inbound, what, now=now, body=body, headers=headers)
            case "played":
                kit.play_to_end(whole=what, played_ms=2000 if what else 0)
            case "key":
                for call in kit.calls[-2:]:
                    call.media(Keyed(1, what, kit.wall_ns()))
                    call.media(PlayEnded("77", True, 1, False, kit.wall_ns()))
            case "bye":
                host = self.hosts(what)
                for session in self.sessions(host)[:1]:
                    host.endpoint.bye(session, now=now)
            case "cancel":
                for session in list(kit.caller.endpoint.sessions.values()):
                    if session.client.invite is not None and not session.confirmed:
                        kit.caller.endpoint.cancel(session, now=now)
            case "reinvite" | "update" | "offerless":
                host = self.hosts(what)
                for session in self.sessions(host)[:1]:
                    direction = "sendonly" if int(now) % 2 else "sendrecv"
                    body = sdp(host.address[0], 4000, "8 101", direction=direction, version=int(now * 100))
                    change = host.endpoint.update if verb == "update" else host.endpoint.reinvite
                    change(session, now=now, body=b"" if verb == "offerless" else body)
            case "reply":
                self._reply(what)
            case "refer":
                for session in self.sessions(kit.callee)[:1]:
                    to = f"<sip:201@{what}>"
                    kit.callee.endpoint.request("REFER", now=now, session=session, headers=[("Refer-To", to)])
            case "replaces":
                for session in self.sessions(kit.callee)[:1]:
                    dialog = session.dialog
                    assert dialog is not None
                    value = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
                    kit.dial(kit.second, body=sdp(SECOND, 6000), headers=[("Replaces", value)])
            case "info":
                for session in self.sessions(kit.callee)[:1]:
                    kit.callee.endpoint.request(
                        "INFO", now=now, session=session, body=what.encode(), content_type="application/dtmf"
                    )
            case "act":
                for call in kit.calls[-1:]:
                    call.act(what, "ops", "", lambda failed: None)
            case "dial":
                kit.dial(body=None if what else b"")
            case "hang-up":
                for call in kit.calls[-1:]:
                    call.hang_up("shutdown")

    def _reply(self, status: int) -> None:
        kit = self.kit
        for host in (kit.caller, kit.callee, kit.second):
            for event in host.log[-40:]:
                if isinstance(event, ReInvite | Update) and not event.inbound.answered:
                    body = sdp(host.address[0], 5000, "8 101", version=int(kit.link.now * 100))
                    host.endpoint.respond(
                        event.inbound, status, now=kit.link.now, body=body if status == 200 else b""
                    )
                elif isinstance(event, IncomingRequest) and not event.inbound.answered:
                    host.endpoint.respond(event.inbound, 200, now=kit.link.now)
                elif isinstance(event, Answered | ResponseReceived) and event.wants_ack:
                    session = event.session
                    if session is not None and session.client.ack_wanted is not None:
                        body = sdp(host.address[0], 4000, "8 101", version=int(kit.link.now * 100))
                        host.endpoint.ack(
                            session, now=kit.link.now, body=body, content_type="application/sdp"
                        )


def end_all(kit: Kit, life: Peers) -> None:
    """Everybody who is up hangs up, and everything that waits comes to its end."""
    for host in (kit.caller, kit.callee, kit.second):
        for session in list(host.endpoint.sessions.values()):
            try:
                if session.confirmed:
                    host.endpoint.bye(session, now=kit.link.now)
                elif not session.uas:
                    host.endpoint.cancel(session, now=kit.link.now)
            except EarwitnessError:
                continue
        host.pump()
    for _ in range(3):
        life.do("reply", 200)
        kit.run(2)
    kit.run(400)


@settings(max_examples=LIVES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    line=st.integers(0, len(LINES) - 1),
    actions=st.lists(ACTIONS, max_size=14),
    troubles=TROUBLES,
    loss=st.sampled_from([0.0, 0.0, 0.15]),
    seed=st.integers(0, 1 << 16),
    late=st.booleans(),
    up=st.sampled_from([True, True, False]),
)
def test_no_life_leaves_anything_behind(
    line: int, actions: list[tuple[str, Any]], troubles: str, loss: float, seed: int, late: bool, up: bool
) -> None:
    kit = Kit(LINES[line], seed=seed, loss=loss, jitter=0.05 if loss else 0.0)
    life = Peers(kit)
    if not late:
        kit.fails = trouble(troubles)
    kit.dial()
    actions = [*UP, *actions] if up else actions
    for place, (verb, what) in enumerate(actions):
        if late and place == len(actions) // 2:
            kit.fails = trouble(troubles)
        life.do(verb, what)
        for call in kit.calls:
            # Whoever talks has both ends up; whoever is over asks nothing more.
            if call.life is Life.TALKING and not call.over:
                assert call.ground.caller.sip is not None
    end_all(kit, life)
    for call in kit.calls:
        assert call.ended, (call.life, call.ground.participants)
        assert not call.ground.timers
        media = kit.media[call.call_id]
        assert not media.open or troubles in ("away", "changes")
    assert not kit.box.endpoint.sessions
