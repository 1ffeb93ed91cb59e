"""Dialogs: how they are made, the way of their requests, and how they outlive a process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sip_link import ANSWER, SDP, Host, Link

from appliance.media.sip.dialog import Dialog, SnapshotError
from appliance.media.sip.endpoint import EndpointConfig, SessionStateError, SipEndpoint
from appliance.media.sip.events import (
    Acked,
    Bye,
    EndCause,
    Event,
    IncomingInvite,
    ReInvite,
    SessionEnded,
    Update,
)
from appliance.media.sip.flow import Transport
from appliance.media.sip.message import SipRequest, SipResponse, parse_message
from appliance.media.sip.reply import make_response
from appliance.media.sip.session import SipSession


def invite(*headers: str, from_tag: str = ";tag=theirs") -> SipRequest:
    message = parse_message(
        "\r\n".join(
            [
                "INVITE sip:srs@192.0.2.2 SIP/2.0",
                "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
                f'From: "A. Caller" <sip:a@example.org>{from_tag};x-farend=7',
                "To: <sip:srs@192.0.2.2>",
                "Call-ID: one@test",
                "CSeq: 7 INVITE",
                *headers,
                "",
                "",
            ]
        ).encode()
    )
    assert isinstance(message, SipRequest)
    return message


ROUTES = (
    "Record-Route: <sip:p1.example.org;lr>, <sip:p2.example.org;lr>",
    "Record-Route: <sip:p3.example.org;lr>",
)


def as_server(*headers: str) -> Dialog:
    return Dialog.as_server(invite(*headers), "ours", secure=False, local_seq=100)


def as_client(*headers: str) -> Dialog:
    request = invite()
    response = make_response(request, 200, to_tag="peer")
    for header in headers:
        name, _, value = header.partition(": ")
        response.headers.add(name, value)
    return Dialog.as_client(request, response, secure=False)


def test_the_server_takes_the_route_set_in_order() -> None:
    dialog = as_server("Contact: <sip:a@192.0.2.1:5070>", *ROUTES)
    assert dialog.route_set == [f"<sip:p{n}.example.org;lr>" for n in (1, 2, 3)]
    assert (dialog.call_id, dialog.local_tag, dialog.remote_tag, dialog.remote_seq) == (
        "one@test",
        "ours",
        "theirs",
        7,
    )
    bye = dialog.request("BYE")
    assert str(bye.uri) == "sip:a@192.0.2.1:5070" and dialog.next_hop == "sip:p1.example.org;lr"
    assert [str(route) for route in bye.route] == dialog.route_set
    assert str(bye.cseq) == "101 BYE"
    assert bye.headers.get("From") == "<sip:srs@192.0.2.2>;tag=ours"
    assert (
        bye.headers.get("To") == '"A. Caller" <sip:a@example.org>;tag=theirs'
        or bye.to.display_name == "A. Caller"
    )
    assert "x-farend" not in (bye.headers.get("To") or "")


def test_the_client_takes_it_reversed() -> None:
    dialog = as_client("Contact: <sip:srs@192.0.2.2:5080>", *ROUTES)
    assert dialog.route_set == [f"<sip:p{n}.example.org;lr>" for n in (3, 2, 1)]
    assert (dialog.local_tag, dialog.remote_tag, dialog.local_seq, dialog.remote_seq) == (
        "theirs",
        "peer",
        7,
        None,
    )


def test_a_strict_router_gets_itself_as_request_uri() -> None:
    """RFC 3261, section 12.2.1.1."""
    dialog = as_server(
        "Contact: <sip:a@192.0.2.1:5070>",
        "Record-Route: <sip:strict.example.org;method=INVITE?x=y>, <sip:p2.example.org;lr>",
    )
    request = dialog.request("BYE")
    assert str(request.uri) == "sip:strict.example.org"
    assert [str(route) for route in request.route] == ["<sip:p2.example.org;lr>", "<sip:a@192.0.2.1:5070>"]


def test_the_target_moves_and_the_routes_stay() -> None:
    dialog = as_server("Contact: <sip:a@192.0.2.1>", *ROUTES)
    routes = list(dialog.route_set)
    dialog.refresh(invite("Contact: <sip:b@192.0.2.9>", "Record-Route: <sip:evil.example.org;lr>"))
    assert dialog.remote_target == "sip:b@192.0.2.9" and dialog.route_set == routes
    dialog.refresh(invite())
    assert dialog.remote_target == "sip:b@192.0.2.9"


@pytest.mark.parametrize("contact", [(), ("Contact: <<<",), ("Contact: *",), ("Contact: <tel:+1555>",)])
def test_without_a_usable_contact_the_from_is_where_requests_go(contact: tuple[str, ...]) -> None:
    assert as_server(*contact).remote_target == "sip:a@example.org"


def test_numbers_must_not_fall() -> None:
    dialog = as_server()
    assert not dialog.admit(6) and dialog.admit(7) and dialog.admit(10) and not dialog.admit(9)


def test_a_peer_without_tags_is_let_be() -> None:
    dialog = Dialog.as_server(invite(from_tag=""), "ours", secure=False, local_seq=1)
    assert (
        dialog.remote_tag == ""
        and dialog.request("BYE").headers.get("To") == '"A. Caller" <sip:a@example.org>'
    ) or (dialog.request("BYE").to.tag is None)


def test_a_dialog_goes_into_a_dict_and_back() -> None:
    dialog = as_server("Contact: <sip:a@192.0.2.1>", *ROUTES)
    state = json.loads(json.dumps(dialog.to_dict()))
    assert Dialog.from_dict(state) == dialog
    for name in state:
        for wrong in (None, 5.5, {"a": 1}, [1]):
            if not (name == "remote_seq" and wrong is None):
                with pytest.raises(SnapshotError):
                    Dialog.from_dict(state | {name: wrong})


# -- restart -----------------------------------------------------------------------------------------------------


def serve(host: Host) -> None:
    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite | ReInvite):
            host.endpoint.respond(event.inbound, 200, body=ANSWER, now=host.link.now)
        elif isinstance(event, Update):
            host.endpoint.respond(event.inbound, 200, now=host.link.now)

    host.handler = handle


def talk(transport: Transport = Transport.UDP, **config: Any) -> tuple[Link, Host, Host, SipSession]:
    link = Link(transport=transport)
    caller, callee = link.host("192.0.2.1", **config), link.host("192.0.2.2", **config)
    serve(callee)
    session = caller.endpoint.invite(callee.uri, from_="<sip:a@b>", body=SDP, now=link.now)
    return link, caller, callee, session


def restart(host: Host) -> SipSession:
    """The process dies, and a new one takes up what the old one had told."""
    (session,) = host.endpoint.sessions.values()
    state = json.loads(json.dumps(host.endpoint.snapshot(session)))
    config = host.endpoint.config
    assert len(json.dumps(state)) < 4096
    host.endpoint = SipEndpoint(config)
    host.log.clear()
    return host.endpoint.restore(state, host.link.now)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP])
def test_a_bye_after_a_restart_is_answered(transport: Transport) -> None:
    link, caller, callee, session = talk(transport)
    link.run(1)
    old = callee.one(IncomingInvite).session
    theirs = restart(callee)
    assert theirs.id == old.id and theirs.dialog == old.dialog
    caller.endpoint.bye(session, now=link.now)
    link.run(100)
    ended = caller.one(SessionEnded)
    assert ended.response is not None and ended.response.status == 200
    assert callee.one(Bye).session is theirs and callee.one(SessionEnded).cause is EndCause.REMOTE_BYE
    assert not callee.endpoint._core.restored and not callee.endpoint.sessions


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_either_end_goes_on_after_a_restart(who: str) -> None:
    link, caller, callee, session = talk()
    link.run(1)
    if who == "callee":
        theirs = restart(callee)
        caller.endpoint.reinvite(session, body=SDP, now=link.now)
        link.run(1)
        assert callee.one(ReInvite).session is theirs
        callee.endpoint.bye(theirs, now=link.now)
        link.run(100)
        assert caller.one(SessionEnded).cause is EndCause.REMOTE_BYE
    else:
        ours = restart(caller)
        caller.endpoint.bye(ours, now=link.now)
        link.run(100)
        assert caller.one(SessionEnded).cause is EndCause.LOCAL_BYE
        assert callee.one(SessionEnded).cause is EndCause.REMOTE_BYE


def test_an_unacknowledged_2xx_survives_and_a_repeated_invite_makes_no_second_session() -> None:
    link, _caller, callee, session = talk()
    link.meddle = lambda sender, message: not (isinstance(message, SipResponse) and message.status == 200)
    link.run(0.2)
    theirs = restart(callee)
    link.run(0.5)  # the caller repeats its INVITE after 500 ms
    assert callee.endpoint.counters["invites_repeated_after_restart"] == 1
    link.meddle = lambda sender, message: True
    link.run(10)
    assert session.established and not callee.seen(IncomingInvite)
    assert callee.one(Acked).session is theirs and callee.one(Acked).invite is None
    assert theirs.dialog is not None and session.dialog is not None
    assert theirs.dialog.local_tag == session.dialog.remote_tag


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_session_timer_goes_on_after_a_restart(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    link, caller, callee, _session = talk(session_expires=100)
    link.run(49)  # the refresh was due
    monkeypatch.setattr("random.SystemRandom.uniform", lambda self, low, high: low + spread * (high - low))
    ours = restart(caller)
    assert ours.timer is not None and ours.timer.refresher
    link.run(300)
    assert len(callee.seen(Update)) >= 6 and ours.live and not callee.seen(SessionEnded)
    caller.dead = True
    link.run(150)
    assert callee.one(SessionEnded).cause is EndCause.EXPIRED


def test_what_is_no_snapshot_is_refused() -> None:
    link, _caller, callee, _ = talk()
    link.run(1)
    (theirs,) = callee.endpoint.sessions.values()
    state = callee.endpoint.snapshot(theirs)
    fresh = SipEndpoint(EndpointConfig())
    for name in state:
        broken = dict(state)
        del broken[name]
        with pytest.raises(SnapshotError):
            fresh.restore(broken, 0.0)
    for name, wrong in [
        ("version", 2),
        ("dialog", {}),
        ("flow", ["SCTP", ["a", 1], ["b", 2]]),
        ("unacked", [[1, "!", [], 1]]),
    ]:
        with pytest.raises(SnapshotError):
            fresh.restore(state | {name: wrong}, 0.0)
    assert not fresh.sessions
    fresh.restore(state, 0.0)
    with pytest.raises(SessionStateError):
        fresh.restore(state, 0.0)


def test_only_an_established_session_can_be_remembered() -> None:
    link, caller, callee, session = talk()
    with pytest.raises(SessionStateError):
        caller.endpoint.snapshot(session)
    del link, callee
