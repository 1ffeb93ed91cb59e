"""What comes from the network is hostile: nothing makes the endpoint raise, and nothing makes it grow without bound."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sip_link import ANSWER, SDP, Link

from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import Event, IncomingInvite, IncomingRequest, ReInvite, Update
from appliance.media.sip.flow import Flow, Listener, Transport
from appliance.media.sip.message import SipResponse, parse_message

TORTURE = Path(__file__).parents[3] / ".." / "shared" / "sip-torture"
UDP = Flow(Transport.UDP, ("192.0.2.2", 5060), ("192.0.2.1", 5060))
TCP = Flow(Transport.TCP, ("192.0.2.2", 5060), ("192.0.2.1", 49152), 7)


def endpoint(**config: object) -> SipEndpoint:
    listeners = tuple(Listener(transport, "192.0.2.2", 5060) for transport in Transport)
    return SipEndpoint(EndpointConfig(listeners=listeners, **config))  # type: ignore[arg-type]


def settle(made: SipEndpoint, now: float) -> list[Event]:
    """Answer everything as a server would; all that goes out must be SIP."""
    seen: list[Event] = []
    for _ in range(20):
        events = made.events()
        seen += events
        for event in events:
            if isinstance(event, IncomingInvite | ReInvite | Update | IncomingRequest):
                made.respond(event.inbound, 200, body=ANSWER, now=now)
        for transmit in made.transmits():
            if transmit.key:  # a refusal without a transaction says what was malformed as it came
                parse_message(transmit.data)
        if not events:
            break
    return seen


def recorded() -> list[bytes]:
    """Both sides of a call with all sorts of requests in it."""
    link = Link()
    caller, callee = link.host("192.0.2.1"), link.host("192.0.2.2")

    def handle(event: Event) -> None:
        if isinstance(event, IncomingInvite):
            callee.endpoint.respond(event.inbound, 183, body=ANSWER, reliable=True, now=link.now)
            callee.endpoint.respond(event.inbound, 200, now=link.now)
        elif isinstance(event, ReInvite | Update | IncomingRequest):
            callee.endpoint.respond(event.inbound, 200, body=ANSWER, now=link.now)

    callee.handler = handle
    headers = [("Record-Route", "<sip:192.0.2.2:5060;lr>"), ("Replaces", "a;to-tag=b;from-tag=c;early-only")]
    session = caller.endpoint.invite(
        callee.uri, from_="<sip:a@b>", body=SDP, headers=headers[:1], now=link.now
    )
    link.run(1)
    caller.endpoint.reinvite(session, body=SDP, headers=headers[1:], now=link.now)
    link.run(1)
    caller.endpoint.update(session, now=link.now)
    caller.endpoint.request("INFO", session=session, now=link.now)
    caller.endpoint.bye(session, now=link.now)
    link.run(1)
    return [message.serialize() for host in (caller, callee) for message in host.sent]


MESSAGES = recorded()
WORDS = [
    b"\r\n",
    b";",
    b"<",
    b">",
    b'"',
    b",",
    b"=",
    b"0",
    b"4294967296",
    b"-1",
    b"tag=",
    b"branch=z9hG4bK",
    b"\x00",
    b"\xff",
]


def mutated(seed: int) -> bytes:
    source = random.Random(seed)
    data = bytearray(source.choice(MESSAGES))
    for _ in range(source.randrange(1, 6)):
        at = source.randrange(len(data))
        match source.randrange(4):
            case 0:
                del data[at : at + source.randrange(1, 20)]
            case 1:
                data[at:at] = source.choice(WORDS)
            case 2:
                data[at] = source.randrange(256)
            case _:
                other = source.choice(MESSAGES)
                start = source.randrange(len(other))
                data[at:at] = other[start : start + source.randrange(1, 80)]
        if not data:
            return b""
    return bytes(data)


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_mutated_calls_never_raise(seeds: list[int], tcp: bool) -> None:
    made = endpoint()
    now = 0.0
    for seed in seeds:
        made.receive(mutated(seed), TCP if tcp else UDP, now)
        settle(made, now)
        now += 0.3
        made.handle_timeout(now)
        settle(made, now)
    for session in list(made.sessions.values()):
        made.snapshot(session) if session.established else None
        if session.confirmed:
            made.bye(session, now=now)
    settle(made, now)
    while (when := made.next_timer()) is not None and when < now + 200:
        made.handle_timeout(when)
        settle(made, when)
    assert not made.sessions


@given(st.binary(max_size=400))
def test_noise_never_raises(data: bytes) -> None:
    made = endpoint()
    for prefix in (b"", b"INVITE sip:a@b SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n"):
        made.receive(prefix + data, UDP, 0.0)
        settle(made, 0.0)


@pytest.mark.skipif(not TORTURE.is_dir(), reason="the RFC 4475 messages are not beside this checkout")
@pytest.mark.parametrize("flow", [UDP, TCP], ids=["udp", "tcp"])
def test_the_torture_messages_never_raise(flow: Flow) -> None:
    made = endpoint()
    for path in sorted(TORTURE.glob("*.dat")):
        made.receive(path.read_bytes(), flow, 0.0)
        settle(made, 0.0)


def invite(number: int, body: bytes = b"") -> bytes:
    lines = [
        "INVITE sip:srs@192.0.2.2 SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{number};rport",
        f"From: <sip:a@b>;tag={number}",
        "To: <sip:srs@192.0.2.2>",
        f"Call-ID: {number}@flood",
        "CSeq: 1 INVITE",
        "Contact: <sip:a@192.0.2.1>",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def test_a_flood_of_invites_is_bounded() -> None:
    made = endpoint(max_transactions=100, max_sessions=1000)
    for number in range(1000):
        made.receive(invite(number), UDP, 0.0)
    assert len(made.sessions) == 100
    refused = [parse_message(transmit.data) for transmit in made.transmits()]
    assert len(refused) == 900
    assert all(isinstance(r, SipResponse) and r.status == 503 and r.retry_after for r in refused)
    core = made._core
    assert len(core.layer) == 100 and len(core.inbounds) == 100 and len(core.queue) <= 300


def test_a_malformed_request_is_answered_and_a_malformed_response_is_not() -> None:
    made = endpoint()
    made.receive(invite(1).replace(b"CSeq: 1 INVITE", b"CSeq: x INVITE"), UDP, 0.0)
    (transmit,) = made.transmits()
    response = parse_message(transmit.data) if b"CSeq: x" not in transmit.data else None
    assert transmit.data.startswith(b"SIP/2.0 400 ") and response is None
    assert transmit.target.port == 5060 and transmit.target.host == "192.0.2.1"
    made.receive(b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n", UDP, 0.0)
    made.receive(b"\r\n\r\n", UDP, 0.0)
    made.receive(b"", UDP, 0.0)
    assert not made.transmits() and made.counters["messages_malformed"] == 2


def test_requests_that_are_never_answered_by_the_application_are_let_go() -> None:
    made = endpoint()
    made.receive(invite(1).replace(b"INVITE", b"OPTIONS"), UDP, 0.0)
    (event,) = made.events()
    assert isinstance(event, IncomingRequest)
    made.handle_timeout(32.0)
    assert not made.respond(event.inbound, 200, now=33.0)
    made.receive(invite(2), UDP, 33.0)
    made.handle_timeout(400.0)
    assert made.transmits()[-1].data.startswith(b"SIP/2.0 480 ")
    assert not made.sessions and not made._core.inbounds
    made.handle_timeout(500.0)
    assert len(made._core.layer) == 0 and len(made._core.queue) == 0
