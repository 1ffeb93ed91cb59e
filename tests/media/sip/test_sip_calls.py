"""Calls between two endpoints over a link in memory: set-up, change, end, and what races on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sip_link import ANSWER, SDP, Host, Link

from appliance.media.sip.endpoint import (
    Credentials,
    SessionBusyError,
    SessionStateError,
    TooManySessionsError,
)
from appliance.media.sip.events import (
    Acked,
    AckTimeout,
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
from appliance.media.sip.flow import Transport
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import SessionState, SipSession

A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"
METADATA = "application/rs-metadata+xml"


def answering(host: Host, body: bytes = ANSWER) -> Callable[[Event], None]:
    """A server that takes all it is asked."""

    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite | ReInvite):
            host.endpoint.respond(event.inbound, 200, body=body, now=host.link.now)
        elif isinstance(event, Update | IncomingRequest) or (
            isinstance(event, Prack) and event.inbound is not None
        ):
            host.endpoint.respond(event.inbound, 200, now=host.link.now)

    return handle


def pair(
    link: Link | None = None, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None
) -> tuple[Link, Host, Host]:
    link = link or Link()
    caller, callee = link.host(A, **(a or {})), link.host(B, **(b or {}))
    callee.handler = answering(callee)
    return link, caller, callee


def call(link: Link, caller: Host, callee: Host, body: bytes = SDP, **more: Any) -> SipSession:
    return caller.endpoint.invite(callee.uri, from_="<sip:src@example.org>", body=body, now=link.now, **more)


def established(link: Link, caller: Host, callee: Host) -> tuple[SipSession, SipSession]:
    session = call(link, caller, callee)
    link.run(1)
    return session, callee.one(IncomingInvite).session


def pending(host: Host) -> Callable[[], InboundRequest]:
    """Make `host` keep the INVITE waiting; the result gives it."""
    host.handler = lambda event: None
    return lambda: host.one(IncomingInvite).inbound


def nothing_left(*hosts: Host) -> None:
    for host in hosts:
        core = host.endpoint._core
        assert not core.sessions and not core.dialogs and not core.restored
        assert not core.inbounds and not core.outbounds
        assert len(core.layer) == 0 and len(core.queue) == 0


# -- set-up and end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
@pytest.mark.parametrize("who", ["caller", "callee"])
def test_a_call_is_set_up_and_ended_and_leaves_nothing(transport: Transport, who: str) -> None:
    link, caller, callee = pair(Link(transport=transport))
    session, theirs = established(link, caller, callee)
    assert session.state is theirs.state is SessionState.ESTABLISHED
    assert caller.one(Answered).response.body == ANSWER
    assert callee.one(Acked).invite is callee.one(IncomingInvite).inbound
    assert len(caller.requests("ACK")) == len(callee.responses(200)) == 1
    ender, other = (caller, callee) if who == "caller" else (callee, caller)
    ender.endpoint.bye(
        session if who == "caller" else theirs, now=link.now, headers=[("Reason", "Q.850;cause=16")]
    )
    link.run(100)
    assert other.one(Bye).request.headers.get("Reason") == "Q.850;cause=16"
    assert other.one(SessionEnded).cause is EndCause.REMOTE_BYE
    assert ender.one(SessionEnded).cause is EndCause.LOCAL_BYE
    nothing_left(caller, callee)


def test_a_refused_call_ends_with_its_response() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    assert callee.endpoint.respond(inbound(), 486, now=link.now)
    link.run(100)
    ended = caller.one(SessionEnded)
    assert ended.cause is EndCause.REJECTED and ended.response is not None and ended.response.status == 486
    assert callee.one(SessionEnded).cause is EndCause.REJECTED
    assert not callee.endpoint.respond(inbound(), 200, now=link.now)
    nothing_left(caller, callee)


def test_provisional_and_final_responses_carry_one_tag() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    callee.endpoint.respond(inbound(), 180, now=link.now)
    link.run(1)
    assert caller.seen(Provisional)[-1].session.state is SessionState.EARLY
    callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now)
    link.run(1)
    tags = {response.to.tag for response in (*callee.responses(180), *callee.responses(200))}
    assert len(tags) == 1 and None not in tags


def test_the_answer_may_come_in_the_ack() -> None:
    link, caller, callee = pair()
    session = call(link, caller, callee, body=b"")
    link.run(1)
    assert caller.one(Answered).wants_ack and not callee.seen(Acked)
    caller.endpoint.ack(session, body=SDP, now=link.now)
    link.run(1)
    assert callee.one(Acked).ack.body == SDP
    with pytest.raises(SessionStateError):
        caller.endpoint.ack(session, now=link.now)


def test_a_2xx_is_repeated_until_given_up_then_bye() -> None:
    """RFC 3261, section 13.3.1.4: T1 doubling up to T2, for 64*T1, whatever the transport."""
    for transport in (Transport.UDP, Transport.TCP):
        link, caller, callee = pair(Link(transport=transport))
        link.meddle = lambda sender, message: (
            not (isinstance(message, SipRequest) and message.method == "ACK")
        )
        call(link, caller, callee)
        link.run(0.3)
        link.run(100)
        assert callee.one(AckTimeout)
        assert len(callee.responses(200)) == 11
        assert len(callee.requests("BYE")) == 1
        assert len(caller.requests("ACK")) == 11, "each repeat is acknowledged again"
        assert callee.one(SessionEnded).cause is EndCause.ACK_TIMEOUT
        nothing_left(caller, callee)


def test_a_bye_of_the_callee_waits_for_the_ack() -> None:
    """RFC 3261, section 15."""
    link, caller, callee = pair()
    link.meddle = lambda sender, message: not (isinstance(message, SipRequest) and message.method == "ACK")
    call(link, caller, callee)
    link.run(0.2)
    callee.endpoint.bye(callee.one(IncomingInvite).session, now=link.now)
    link.run(0.1)
    assert not callee.requests("BYE")
    link.meddle = lambda sender, message: True
    link.run(100)
    assert len(callee.requests("BYE")) == 1
    assert callee.one(SessionEnded).cause is EndCause.LOCAL_BYE
    nothing_left(caller, callee)


def test_nobody_answers() -> None:
    link, caller, callee = pair()
    callee.dead = True
    call(link, caller, callee)
    link.run(100)
    assert caller.one(SessionEnded).cause is EndCause.TIMEOUT
    nothing_left(caller)


def test_a_bye_that_is_never_answered_ends_the_session_all_the_same() -> None:
    link, caller, callee = pair()
    session, _ = established(link, caller, callee)
    callee.dead = True
    caller.endpoint.bye(session, now=link.now)
    caller.endpoint.bye(session, now=link.now)
    link.run(100)
    assert caller.one(SessionEnded).cause is EndCause.LOCAL_BYE
    nothing_left(caller)


def test_byes_that_cross_are_both_answered() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    caller.endpoint.bye(session, now=link.now)
    callee.endpoint.bye(theirs, now=link.now)
    link.run(100)
    assert caller.one(SessionEnded) and callee.one(SessionEnded)
    nothing_left(caller, callee)


# -- CANCEL ------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_a_waiting_invite() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    session = call(link, caller, callee)
    link.run(1)
    caller.endpoint.cancel(session, now=link.now, headers=[("Reason", "SIP;cause=200")])
    link.run(1)
    assert callee.one(Cancelled).inbound is inbound()
    assert not callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now), "it was overtaken"
    link.run(100)
    assert len(callee.responses(487)) >= 1 and len(callee.responses(200, "CANCEL")) == 1
    assert {r.to.tag for r in callee.responses(200, "CANCEL")} == {r.to.tag for r in callee.responses(487)}
    assert caller.one(SessionEnded).cause is callee.one(SessionEnded).cause is EndCause.CANCELLED
    nothing_left(caller, callee)


def test_a_cancel_waits_for_the_first_provisional_response() -> None:
    link, caller, callee = pair()
    pending(callee)
    session = call(link, caller, callee)
    caller.endpoint.cancel(session, now=link.now)
    link.run(0.1)
    assert not caller.requests("CANCEL")
    link.run(100)  # the 100 that the transaction sends after 200 ms
    assert len(caller.requests("CANCEL")) == 1
    assert callee.one(Cancelled)
    nothing_left(caller, callee)


def test_a_2xx_that_wins_against_the_cancel_is_acknowledged_and_ended() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    session = call(link, caller, callee)
    link.run(1)
    callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now)
    caller.endpoint.cancel(session, now=link.now)
    link.run(100)
    assert not callee.seen(Cancelled)
    assert callee.endpoint.counters["cancels_too_late"] == 1
    assert callee.one(Acked) and callee.one(Bye)
    assert caller.one(SessionEnded).cause is EndCause.CANCELLED and not caller.seen(Answered)
    nothing_left(caller, callee)


def test_a_cancel_to_which_no_final_response_comes_is_given_up() -> None:
    link, caller, callee = pair()
    pending(callee)
    session = call(link, caller, callee)
    link.run(1)
    callee.dead = True
    caller.endpoint.cancel(session, now=link.now)
    link.run(100)
    assert caller.one(SessionEnded).cause is EndCause.CANCELLED


def test_a_cancelled_reinvite_leaves_the_session() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    callee.handler = lambda event: None
    outbound = caller.endpoint.reinvite(session, body=SDP, now=link.now)
    link.run(1)
    caller.endpoint._client.send_cancel(session, outbound, link.now)
    link.run(1)
    assert callee.one(Cancelled).session is theirs
    assert caller.seen(ResponseReceived)[-1].response.status == 487
    assert session.established and theirs.established


# -- re-INVITE and UPDATE ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
def test_a_reinvite_changes_the_session_and_moves_the_target(backwards: bool) -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    if backwards:
        caller.handler = answering(caller, SDP)
        outbound = callee.endpoint.reinvite(theirs, body=ANSWER, now=link.now)
    else:
        outbound = caller.endpoint.reinvite(
            session, body=SDP, headers=[("Contact", f"<sip:moved@{A}>")], now=link.now
        )
    link.run(2)
    sender, receiver = (callee, caller) if backwards else (caller, callee)
    answered = sender.one(ResponseReceived)
    assert answered.outbound is outbound and answered.response.status == 200
    assert receiver.one(ReInvite) and len(receiver.seen(Acked)) == (1 if backwards else 2)
    if not backwards:
        assert theirs.dialog is not None and theirs.dialog.remote_target == f"sip:moved@{A}"
    sender.endpoint.bye(session if sender is caller else theirs, now=link.now)
    link.run(100)
    nothing_left(caller, callee)


def test_a_reinvite_without_offer_gets_one() -> None:
    link, caller, callee = pair()
    session, _ = established(link, caller, callee)
    caller.endpoint.reinvite(session, now=link.now)
    link.run(1)
    assert caller.one(ResponseReceived).wants_ack
    caller.endpoint.ack(session, body=SDP, now=link.now)
    link.run(1)
    assert callee.seen(Acked)[-1].ack.body == SDP


def test_reinvites_that_cross_are_refused_by_491_and_both_come_through_in_the_end() -> None:
    link, caller, callee = pair()
    caller.handler = answering(caller, SDP)
    session, theirs = established(link, caller, callee)
    caller.endpoint.reinvite(session, body=SDP, now=link.now)
    callee.endpoint.reinvite(theirs, body=ANSWER, now=link.now)
    link.run(30)
    assert caller.responses(491) and callee.responses(491)
    assert caller.one(ResponseReceived).response.status == callee.one(ResponseReceived).response.status == 200
    assert len(caller.seen(ReInvite)) == len(callee.seen(ReInvite)) == 1
    assert session.established and theirs.established


def test_a_reinvite_while_one_waits_is_told_to_come_later() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    callee.handler = lambda event: None
    caller.endpoint.reinvite(session, body=SDP, now=link.now)
    link.run(1)
    session.client.invite = None  # a peer that does not wait
    caller.endpoint.reinvite(session, body=SDP, now=link.now)
    link.run(0.5)
    (response,) = callee.responses(500)
    assert response.retry_after is not None and response.retry_after <= 10
    with pytest.raises(SessionBusyError):
        callee.endpoint.reinvite(theirs, body=SDP, now=link.now)


def test_updates_that_cross_are_refused_by_491_and_retried() -> None:
    link, caller, callee = pair()
    caller.handler = answering(caller, SDP)
    session, theirs = established(link, caller, callee)
    caller.endpoint.update(session, body=SDP, now=link.now)
    callee.endpoint.update(theirs, body=ANSWER, now=link.now)
    link.run(30)
    assert caller.responses(491, "UPDATE") and callee.responses(491, "UPDATE")
    assert caller.one(ResponseReceived).response.status == callee.one(ResponseReceived).response.status == 200


def test_metadata_alone_is_no_offer_and_meets_no_glare() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    caller.handler = lambda event: None
    callee.endpoint.reinvite(theirs, body=ANSWER, now=link.now)
    link.run(0.5)
    caller.endpoint.update(session, body=b"<recording/>", content_type=METADATA, now=link.now)
    link.run(1)
    assert callee.one(Update).inbound.request.body == b"<recording/>"
    assert caller.seen(ResponseReceived)[-1].response.status == 200


def test_an_update_while_one_waits_is_told_to_come_later_and_comes() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    callee.handler = lambda event: None
    caller.endpoint.update(session, now=link.now)
    link.run(0.5)
    session.client.update = None
    caller.endpoint.update(session, body=SDP, now=link.now)
    link.run(0.5)
    assert len(callee.responses(500, "UPDATE")) == 1
    callee.endpoint.respond(callee.seen(Update)[0].inbound, 200, now=link.now)
    callee.handler = answering(callee)
    link.run(30)
    assert len(callee.seen(Update)) == 2
    assert theirs.established


# -- reliable provisionals ---------------------------------------------------------------------------------------


def test_a_reliable_provisional_is_repeated_until_its_prack_and_seen_once() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    link.meddle = lambda sender, message: not (isinstance(message, SipRequest) and message.method == "PRACK")
    callee.endpoint.respond(inbound(), 183, body=ANSWER, reliable=True, now=link.now)
    callee.endpoint.respond(inbound(), 200, now=link.now)
    link.run(4)
    assert len(callee.responses(183)) == 4 and not callee.responses(200)
    link.meddle = lambda sender, message: True
    link.run(10)
    assert len(callee.responses(200)) == 1, "the 2xx waited for the PRACK (RFC 3262, section 3)"
    assert len([e for e in caller.seen(Provisional) if e.response.status == 183]) == 1
    assert callee.one(Prack).inbound is None and callee.one(Acked)
    rseq = callee.responses(183)[0].rseq
    assert rseq is not None and caller.requests("PRACK")[0].rack is not None
    assert caller.requests("PRACK")[0].rack.rseq == rseq  # type: ignore[union-attr]


def test_reliable_provisionals_go_one_after_the_other() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    for status in (180, 181, 183):
        assert callee.endpoint.respond(inbound(), status, reliable=True, now=link.now)
    link.run(2)
    rseqs = [response.rseq for status in (180, 181, 183) for response in callee.responses(status)]
    first = rseqs[0]
    assert first is not None and rseqs == [first, first + 1, first + 2]
    assert len(callee.seen(Prack)) == 3


def test_100rel_is_used_unasked_where_the_peer_requires_it_and_only_where_it_can() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee, headers=[("Require", "100rel")])
    link.run(1)
    callee.endpoint.respond(inbound(), 180, now=link.now)
    link.run(1)
    assert callee.one(Prack)
    link, caller, callee = pair(a={"extensions": ("timer",)})
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    callee.endpoint.respond(inbound(), 180, reliable=True, now=link.now)
    link.run(1)
    assert callee.responses(180)[0].rseq is None and not caller.requests("PRACK")


def test_the_offer_may_come_in_a_reliable_provisional_and_the_answer_in_its_prack() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    session = call(link, caller, callee, body=b"")
    link.run(1)
    callee.endpoint.respond(inbound(), 183, body=ANSWER, reliable=True, now=link.now)
    link.run(1)
    assert caller.seen(Provisional)[-1].wants_prack and not caller.requests("PRACK")
    callee.handler = answering(callee)
    caller.endpoint.prack(session, body=SDP, now=link.now)
    link.run(1)
    assert callee.one(Prack).request.body == SDP
    callee.endpoint.respond(inbound(), 200, now=link.now)
    link.run(1)
    assert not caller.one(Answered).wants_ack and callee.one(Acked)


def test_a_reliable_provisional_never_acknowledged_ends_the_invite() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    link.meddle = lambda sender, message: not (isinstance(message, SipRequest) and message.method == "PRACK")
    call(link, caller, callee)
    link.run(1)
    callee.endpoint.respond(inbound(), 183, reliable=True, now=link.now)
    link.run(200)
    assert callee.one(SessionEnded).cause is EndCause.PRACK_TIMEOUT
    ended = caller.one(SessionEnded)
    assert ended.response is not None and ended.response.status == 504
    nothing_left(caller, callee)


def test_a_prack_that_a_final_response_overtook_is_answered() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    call(link, caller, callee)
    link.run(1)
    callee.endpoint.respond(inbound(), 180, reliable=True, now=link.now)
    callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now)
    link.run(5)
    assert len(callee.responses(200, "PRACK")) == 1 and not callee.responses(481, "PRACK")
    assert len(callee.responses(200)) == 1


# -- forks, routes, glimpses of hostile peers --------------------------------------------------------------------


def test_further_2xx_of_forks_are_acknowledged_and_ended() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    session = call(link, caller, callee)
    link.run(1)
    first = callee.endpoint._core.response(inbound(), 200, body=ANSWER)
    other = first.copy()
    other.headers.set("To", f"<{callee.uri}>;tag=otherfork")
    callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now)
    link.run(1)
    caller.endpoint.receive_message(other, callee.one(IncomingInvite).inbound.flow, link.now)
    caller.endpoint.receive_message(other, callee.one(IncomingInvite).inbound.flow, link.now)
    link.run(1)
    assert [r.to.tag for r in caller.requests("BYE")] == ["otherfork"]
    assert [r.to.tag for r in caller.requests("ACK")].count("otherfork") == 2
    assert session.established and caller.one(Answered) and not caller.seen(SessionEnded)


def test_early_dialogs_of_forks_are_bounded() -> None:
    link, caller, callee = pair()
    inbound = pending(callee)
    session = call(link, caller, callee)
    link.run(1)
    for number in range(100):
        response = callee.endpoint._core.response(inbound(), 180)
        response.headers.set("To", f"<{callee.uri}>;tag=fork{number}")
        caller.endpoint.receive_message(response, inbound().flow, link.now)
    assert len(session.client.early) == 16
    callee.endpoint.respond(inbound(), 200, body=ANSWER, now=link.now)
    link.run(1)
    assert session.established and len(caller.endpoint._core.dialogs) == 1


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("SUBSCRIBE", [], 405),
        ("FROBNICATE", [], 405),
        ("BYE", [], 481),
        ("UPDATE", [], 481),
        ("PRACK", [("RAck", "1 1 INVITE")], 481),
        ("OPTIONS", [("Require", "frobnication")], 420),
        ("OPTIONS", [("To", "<sip:x@y>;tag=unknown")], 481),
        ("INVITE", [("To", "<sip:x@y>;tag=unknown")], 481),
    ],
)
def test_requests_that_go_nowhere(method: str, headers: list[tuple[str, str]], status: int) -> None:
    link, caller, callee = pair()
    caller.endpoint.request(method, callee.uri, from_="<sip:a@b>", headers=headers, now=link.now)
    link.run(1)
    response = caller.one(ResponseReceived).response
    assert response.status == status and not callee.log
    if status == 405:
        assert "INVITE" in response.allow
    if status == 420:
        assert response.unsupported == ("frobnication",)
    link.run(100)
    nothing_left(callee)


def test_a_request_out_of_order_is_refused() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    assert theirs.dialog is not None and theirs.dialog.remote_seq is not None
    theirs.dialog.remote_seq += 1000
    caller.endpoint.request("INFO", session=session, now=link.now)
    link.run(1)
    assert caller.one(ResponseReceived).response.status == 500


def test_requests_within_a_dialog_reach_the_application() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    caller.endpoint.request("INFO", session=session, body=b"x", content_type="text/plain", now=link.now)
    link.run(1)
    assert callee.one(IncomingRequest).session is theirs
    assert caller.one(ResponseReceived).response.status == 200


def test_options_tell_what_we_can() -> None:
    link, caller, callee = pair()
    caller.endpoint.request("OPTIONS", callee.uri, from_="<sip:a@b>", now=link.now)
    link.run(1)
    response = caller.one(ResponseReceived).response
    assert "UPDATE" in response.allow and "timer" in response.supported and response.contact is not None


def test_a_peer_that_forgot_the_dialog_ends_it() -> None:
    link, caller, callee = pair()
    session, theirs = established(link, caller, callee)
    callee.endpoint._core.end(theirs, EndCause.GONE, link.now)
    caller.endpoint.update(session, now=link.now)
    link.run(1)
    assert caller.one(SessionEnded).cause is EndCause.GONE


def test_an_update_that_is_never_answered_ends_the_session() -> None:
    link, caller, callee = pair()
    session, _ = established(link, caller, callee)
    callee.dead = True
    caller.endpoint.update(session, now=link.now)
    link.run(100)
    assert caller.one(RequestFailed).cause is EndCause.TIMEOUT
    assert caller.one(SessionEnded).cause is EndCause.TIMEOUT
    nothing_left(caller)


def test_a_bye_ends_a_session_whose_reinvite_waits() -> None:
    link, caller, callee = pair()
    session, _ = established(link, caller, callee)
    callee.handler = lambda event: None
    caller.endpoint.reinvite(session, body=SDP, now=link.now)
    link.run(1)
    caller.endpoint.bye(session, now=link.now)
    link.run(1)
    assert callee.responses(487) and callee.responses(200, "BYE")
    assert not callee.endpoint.respond(callee.one(ReInvite).inbound, 200, now=link.now)
    link.run(100)
    nothing_left(caller, callee)


def test_sessions_are_bounded() -> None:
    link, caller, callee = pair(b={"max_sessions": 2})
    for _ in range(3):
        call(link, caller, callee)
    link.run(1)
    assert len(callee.seen(IncomingInvite)) == 2
    ended = caller.one(SessionEnded)
    assert ended.response is not None and (ended.response.status, ended.response.retry_after) == (503, 10)
    with pytest.raises(TooManySessionsError):
        call(link, callee, caller)


def test_a_contact_nothing_can_be_sent_to_ends_our_call() -> None:
    link, caller, callee = pair()

    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite):
            callee.endpoint.respond(
                event.inbound,
                200,
                body=ANSWER,
                headers=[("Contact", "<sip:x@y;transport=carrier-pigeon>")],
                now=link.now,
            )

    callee.handler = handle
    call(link, caller, callee)
    link.run(1)
    assert caller.one(SessionEnded).cause is EndCause.TRANSPORT
    assert caller.endpoint.counters["sessions_unreachable"] == 1


def test_replaces_names_its_session() -> None:
    link, caller, callee = pair()
    _, theirs = established(link, caller, callee)
    assert theirs.dialog is not None
    value = f"{theirs.dialog.call_id};to-tag={theirs.dialog.local_tag};from-tag={theirs.dialog.remote_tag}"
    call(link, caller, callee, headers=[("Replaces", value)])
    link.run(1)
    replaces = callee.seen(IncomingInvite)[-1].replaces
    assert replaces is not None and replaces.session is theirs
    call(link, caller, callee, headers=[("Replaces", value + ";early-only")])
    call(link, caller, callee, headers=[("Replaces", "no;to-tag=such;from-tag=dialog")])
    link.run(1)
    assert [e.response.status for e in caller.seen(SessionEnded) if e.response] == [486, 481]


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenge_is_answered_once(status: int) -> None:
    link, caller, callee = pair(a={"credentials": Credentials("src", "secret")})
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    answer = "Authorization" if status == 401 else "Proxy-Authorization"

    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite):
            right = answer in event.inbound.request.headers and not event.inbound.request.headers.get(
                "X-Again"
            )
            challenge = (
                [] if right else [(name, 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256')]
            )
            callee.endpoint.respond(
                event.inbound,
                200 if right else status,
                body=ANSWER if right else b"",
                headers=challenge,
                now=link.now,
            )

    callee.handler = handle
    session = call(link, caller, callee)
    link.run(1)
    assert session.established
    numbers = [request.cseq.number for request in caller.requests("INVITE")]
    assert len(numbers) == 2 and numbers[1] == numbers[0] + 1
    call(link, caller, callee, headers=[("X-Again", "yes")])
    link.run(1)
    ended = caller.one(SessionEnded)
    assert ended.response is not None and ended.response.status == status


def test_the_repr_of_a_session_holds_no_addresses() -> None:
    link, caller, callee = pair()
    established(link, caller, callee)
    for event in (*caller.log, *callee.log):
        assert "example.org" not in repr(event) and A not in repr(event).replace("flow", "")


def test_responses_of_our_own_making_carry_what_they_must() -> None:
    link, caller, callee = pair(b={"contact_user": "srs", "contact_params": "+sip.srs"})
    call(
        link,
        caller,
        callee,
        headers=[("Record-Route", "<sip:p1.example.org;lr>"), ("Record-Route", "<sip:p2.example.org;lr>")],
    )
    link.run(0.1)
    (response,) = callee.responses(200)
    assert isinstance(response, SipResponse)
    assert response.headers.get("Contact") == f"<sip:srs@{B}:5060>;+sip.srs"
    assert [str(route) for route in response.record_route] == [
        "<sip:p1.example.org;lr>",
        "<sip:p2.example.org;lr>",
    ]
    assert response.headers.get("Server") == "Earwitness"
