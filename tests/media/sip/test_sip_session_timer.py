"""Session timers (RFC 4028): what is agreed, who refreshes and how, and what happens when nobody does."""

from __future__ import annotations

from typing import Any

import pytest
from sip_link import ANSWER, SDP, Host, Link

from appliance.media.sip import session_timer
from appliance.media.sip.events import (
    EndCause,
    Event,
    IncomingInvite,
    ReInvite,
    SessionEnded,
    SessionExpired,
    Update,
)
from appliance.media.sip.message import SipRequest
from appliance.media.sip.session import SipSession
from appliance.media.sip.session_timer import SessionTimer
from appliance.media.sip.values import SessionExpires

NO_UPDATE = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK")


def serve(host: Host) -> None:
    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite | ReInvite):
            host.endpoint.respond(event.inbound, 200, body=ANSWER, now=host.link.now)
        elif isinstance(event, Update):
            host.endpoint.respond(event.inbound, 200, now=host.link.now)

    host.handler = handle


def talk(
    a: dict[str, Any] | None = None,
    b: dict[str, Any] | None = None,
    headers: list[tuple[str, str]] | None = None,
) -> tuple[Link, Host, Host, SipSession]:
    link = Link()
    caller = link.host("192.0.2.1", **({"session_expires": 100} | (a or {})))
    callee = link.host("192.0.2.2", **({"session_expires": 100} | (b or {})))
    serve(caller)
    serve(callee)
    session = caller.endpoint.invite(
        callee.uri, from_="<sip:a@b>", body=SDP, headers=headers or [], now=link.now
    )
    link.run(1)
    return link, caller, callee, session


@pytest.mark.parametrize(
    ("request_", "supported", "wanted", "expected"),
    [
        (None, True, 1800, ("1800;refresher=uac", False)),
        (None, True, 0, None),
        (None, False, 1800, None),
        (SessionExpires(600), True, 1800, ("600;refresher=uac", False)),
        (SessionExpires(600, "uas"), True, 1800, ("600;refresher=uas", True)),
        (SessionExpires(600, "uac"), True, 1800, ("600;refresher=uac", False)),
        (SessionExpires(600), False, 1800, ("600;refresher=uas", True)),
        (SessionExpires(3600), True, 1800, ("1800;refresher=uac", False)),
        (SessionExpires(3600), True, 0, ("3600;refresher=uac", False)),
        (SessionExpires(30), False, 1800, ("90;refresher=uas", True)),
    ],
)
def test_the_servers_choice(
    request_: SessionExpires | None, supported: bool, wanted: int, expected: tuple[str, bool] | None
) -> None:
    """RFC 4028, section 9, table 2."""
    agreed = session_timer.answer(request_, min_se=0, supported=supported, wanted=wanted)
    assert (agreed and (str(agreed[0]), agreed[1].refresher)) == expected


def test_the_server_never_goes_below_the_smallest_interval_asked() -> None:
    agreed = session_timer.answer(SessionExpires(3600), min_se=2400, supported=True, wanted=1800)
    assert agreed is not None and agreed[0].seconds == 2400


@pytest.mark.parametrize(
    ("interval", "refresh", "expire"), [(90, 45, 60), (1800, 900, 1768), (96, 48, 64), (3600, 1800, 3568)]
)
def test_when_to_refresh_and_when_to_give_up(interval: int, refresh: float, expire: float) -> None:
    timer = SessionTimer(interval, True)
    assert (timer.refresh_after, timer.expire_after) == (refresh, expire)


@pytest.mark.parametrize("methods", [None, NO_UPDATE])
def test_the_caller_refreshes_and_the_session_lives(methods: tuple[str, ...] | None) -> None:
    link, caller, callee, session = talk(b={"methods": methods} if methods else None)
    link.run(1000)
    assert session.established and not callee.seen(SessionExpired)
    if methods:
        refreshes = caller.requests("INVITE")[1:]
        assert len(callee.seen(ReInvite)) == len(refreshes) == 20
        assert {request.body for request in refreshes} == {SDP}
    else:
        refreshes = caller.requests("UPDATE")
        assert len(callee.seen(Update)) == len(refreshes) == 20
        assert {request.body for request in refreshes} == {b""}
    expires = refreshes[-1].session_expires
    assert expires == SessionExpires(100, "uac")
    response = (callee.responses(200) if methods else callee.responses(200, "UPDATE"))[-1]
    assert "timer" in response.require and response.session_expires == SessionExpires(100, "uac")


def test_the_callee_refreshes_where_it_is_asked_to() -> None:
    link, caller, callee, session = talk(headers=[("Session-Expires", "100;refresher=uas")])
    link.run(500)
    assert session.established and len(callee.requests("UPDATE")) >= 9 and not caller.requests("UPDATE")
    assert callee.requests("UPDATE")[-1].session_expires == SessionExpires(100, "uac")


@pytest.mark.parametrize("dead", ["caller", "callee"])
def test_a_session_whose_peer_is_gone_expires(dead: str) -> None:
    link, caller, callee, _ = talk()
    gone, left = (caller, callee) if dead == "caller" else (callee, caller)
    gone.dead = True
    link.run(70)
    if dead == "caller":
        assert left.one(SessionExpired)
        assert len({bye.cseq.number for bye in left.requests("BYE")}) == 1
        link.run(40)
        assert left.one(SessionEnded).cause is EndCause.EXPIRED
    else:
        link.run(40)
        assert left.one(SessionEnded).cause in (EndCause.TIMEOUT, EndCause.EXPIRED)


def test_an_interval_too_small_is_refused_and_the_caller_asks_for_more() -> None:
    link, caller, callee, session = talk(b={"min_se": 600, "session_expires": 900})
    first, second = caller.requests("INVITE")
    assert callee.responses(422)[0].min_se == 600
    assert first.session_expires == SessionExpires(100)
    assert (second.session_expires, second.min_se) == (SessionExpires(600), 600)
    assert second.cseq.number == first.cseq.number + 1
    assert session.established and session.timer == SessionTimer(600, True)
    link.run(400)
    assert caller.requests("UPDATE")[-1].min_se == 600


def test_who_cannot_do_timers_is_not_refused() -> None:
    """A proxy may have put in the interval: the caller could not answer a 422."""
    _link, _caller, callee, session = talk(
        a={"extensions": ()}, b={"min_se": 600}, headers=[("Session-Expires", "100")]
    )
    theirs = callee.one(IncomingInvite).session
    assert session.established and not callee.responses(422)
    assert theirs.timer == SessionTimer(100, True)


def test_without_timers_nothing_expires() -> None:
    link, _caller, _callee, session = talk(a={"extensions": ()}, b={"extensions": ()})
    link.run(100_000)
    assert session.established and session.timer is None


def test_a_refresh_that_is_not_allowed_tries_the_other_method() -> None:
    link, _caller, callee, session = talk(b={"methods": NO_UPDATE})
    session.remote_allow = frozenset({"UPDATE"})
    link.run(52)
    assert len(callee.responses(405, "UPDATE")) == 1 and len(callee.seen(ReInvite)) == 1
    assert session.established


def test_a_refresh_waits_while_another_change_is_pending() -> None:
    link, caller, callee, session = talk(b={"methods": NO_UPDATE})
    callee.handler = lambda event: None
    link.run(48)
    caller.endpoint.reinvite(session, body=SDP, now=link.now)
    link.run(4)
    assert len(callee.seen(ReInvite)) == 1
    serve(callee)
    callee.endpoint.respond(callee.seen(ReInvite)[0].inbound, 200, body=ANSWER, now=link.now)
    link.run(200)
    assert session.established and len(callee.seen(ReInvite)) >= 4


def test_a_2xx_without_session_expires_ends_the_timer() -> None:
    link, _caller, _callee, session = talk(b={"extensions": ()})
    assert session.established and session.timer is None
    link.run(1000)
    assert session.established


def test_a_lost_refresh_is_repeated() -> None:
    link, _caller, callee, session = talk()
    dropped: list[object] = []

    def meddle(sender: Host, message: object) -> bool:
        if isinstance(message, SipRequest) and message.method == "UPDATE" and len(dropped) < 3:
            dropped.append(message)
            return False
        return True

    link.meddle = meddle
    link.run(70)
    assert len(dropped) == 3 and session.established and len(callee.seen(Update)) == 1
