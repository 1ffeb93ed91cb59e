"""Calls over a link that loses half of what it carries, repeats and reorders: all end as they should, nothing stays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sip_link import ANSWER, SDP, Host, Link

from appliance.media.sip.events import (
    Acked,
    AckTimeout,
    Answered,
    EndCause,
    Event,
    IncomingInvite,
    Prack,
    ReInvite,
    SessionEnded,
    Update,
)
from appliance.media.sip.session import SessionState


def serve(host: Host, *, reliable: bool) -> None:
    """Ring, answer after the PRACK where there is one, take every change."""

    def handle(event: Event) -> None:
        now, endpoint = host.link.now, host.endpoint
        if isinstance(event, IncomingInvite):
            endpoint.respond(event.inbound, 183, body=ANSWER if reliable else b"", reliable=reliable, now=now)
            endpoint.respond(event.inbound, 200, body=b"" if reliable else ANSWER, now=now)
        elif isinstance(event, ReInvite):
            endpoint.respond(event.inbound, 200, body=ANSWER, now=now)
        elif isinstance(event, Update) or (isinstance(event, Prack) and event.inbound is not None):
            assert event.inbound is not None
            endpoint.respond(event.inbound, 200, now=now)

    host.handler = handle


def nothing_left(host: Host) -> None:
    core = host.endpoint._core
    assert not core.sessions and not core.dialogs and not core.inbounds and not core.outbounds
    assert len(core.layer) == 0 and len(core.queue) == 0


@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.5),
    repeat=st.floats(0, 0.5),
    jitter=st.floats(0, 0.4),
    reliable=st.booleans(),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_every_call_ends_on_both_sides_and_is_seen_once(
    seed: int, loss: float, repeat: float, jitter: float, reliable: bool
) -> None:
    link = Link(seed=seed, loss=loss, repeat=repeat, jitter=jitter)
    caller, callee = link.host("192.0.2.1"), link.host("192.0.2.2")
    serve(callee, reliable=reliable)
    session = caller.endpoint.invite(callee.uri, from_="<sip:a@b>", body=SDP, now=link.now)
    link.run(200, until=lambda: session.state in (SessionState.ESTABLISHED, SessionState.ENDED))
    if session.established:
        link.run(40)  # the 2xx is acknowledged by then, or never
    if session.established:
        caller.endpoint.update(session, now=link.now)
        link.run(40)
    caller.endpoint.bye(session, now=link.now)
    link.run(400)
    assert (
        len(callee.seen(IncomingInvite)) <= 1
        and len(callee.seen(Acked)) <= 1
        and len(callee.seen(Update)) <= 1
    )
    assert len(caller.seen(Answered)) <= 1
    assert len(caller.seen(SessionEnded)) == 1
    assert len(callee.seen(SessionEnded)) == len(callee.seen(IncomingInvite)) or callee.endpoint.sessions
    # A callee that never hears the BYE keeps its session: only a session timer can tell it.
    if not callee.endpoint.sessions:
        nothing_left(callee)
    nothing_left(caller)


@pytest.mark.parametrize("loss", [0.1, 0.3, 0.5])
def test_most_calls_get_through(loss: float) -> None:
    """INVITE goes out 7 times, BYE 11 times: even at half lost a call fails rarely."""
    completed = 0
    for seed in range(40):
        link = Link(seed=seed, loss=loss, repeat=0.1, jitter=0.1)
        caller, callee = link.host("192.0.2.1"), link.host("192.0.2.2")
        serve(callee, reliable=False)
        session = caller.endpoint.invite(callee.uri, from_="<sip:a@b>", body=SDP, now=link.now)
        link.run(40)
        if session.established and callee.seen(Acked):
            caller.endpoint.bye(session, now=link.now)
            link.run(100)
            ended = callee.seen(SessionEnded)
            completed += bool(ended) and ended[0].cause is EndCause.REMOTE_BYE and not callee.seen(AckTimeout)
    assert completed >= {0.1: 40, 0.3: 39, 0.5: 34}[loss]


def test_a_session_timer_frees_a_callee_that_never_hears_the_bye() -> None:
    link = Link()
    caller, callee = link.host("192.0.2.1", session_expires=90), link.host("192.0.2.2", session_expires=90)
    serve(callee, reliable=False)
    session = caller.endpoint.invite(callee.uri, from_="<sip:a@b>", body=SDP, now=link.now)
    link.run(1)
    caller.dead = True
    assert session.established
    link.run(200)
    assert callee.one(SessionEnded).cause is EndCause.EXPIRED
    nothing_left(callee)
