"""The four state machines by a clock that is moved by hand: every timer of RFC 3261 table 4, and RFC 6026's L and M."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from appliance.media.sip.flow import Flow, Target, Transport
from appliance.media.sip.message import SipRequest, SipResponse, parse_message
from appliance.media.sip.reply import make_response
from appliance.media.sip.timers import TimerQueue, TimerValues
from appliance.media.sip.transaction import ClientTransaction, Failure, ServerTransaction, State
from appliance.media.sip.transactions import (
    AckUp,
    FailureUp,
    RequestUp,
    ResponseLostUp,
    ResponseUp,
    TransactionLayer,
)

PEER = ("192.0.2.9", 7000)
OURS = ("192.0.2.1", 5060)


class Bench:
    """A transaction layer, its clock, and a list of (time, start line) of what it sent."""

    def __init__(
        self, transport: Transport = Transport.UDP, max_transactions: int = 100, limit: int = 1300
    ) -> None:
        self.now = 0.0
        self.queue = TimerQueue()
        self.counters: Counter[str] = Counter()
        tokens = itertools.count()
        self.transport = transport
        self.layer = TransactionLayer(
            TimerValues(),
            self.queue,
            sent_by=lambda target: OURS,
            token=lambda: f"{next(tokens):08d}",
            counters=self.counters,
            max_transactions=max_transactions,
            udp_request_limit=limit,
        )
        self.flow = Flow(transport, OURS, PEER, 1 if transport.reliable else None)
        self.sent: list[tuple[float, str]] = []
        self.up: list[object] = []

    def collect(self) -> None:
        for transmit in self.layer.transmits:
            line = transmit.data.split(b"\r\n")[0].decode()
            self.sent.append((round(self.now, 3), line.removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")))
        self.layer.transmits.clear()
        self.up += [up for up in self.layer.upcalls if type(up).__name__ != "ForgottenUp"]
        self.layer.upcalls.clear()

    def advance(self, until: float) -> None:
        """Fire what is due up to `until`."""
        self.collect()
        while (when := self.queue.next()) is not None and when <= until:
            self.now = when
            for _, key, name in self.queue.due(when):  # type: ignore[misc]
                self.layer.timer(key, name, when)
                self.collect()
        self.now = until

    def times(self, start: str) -> list[float]:
        return [when for when, line in self.sent if line.startswith(start)]

    def start(self, method: str) -> ClientTransaction:
        request = SipRequest(method, parse(method).uri, parse(method).headers.copy())
        request.headers.remove("Via")
        client = self.layer.request(request, [Target(self.transport, *PEER)], self.now)
        assert client is not None
        self.collect()
        return client

    def answer(self, client: ClientTransaction, status: int) -> None:
        request = parse_message(client.data)
        assert isinstance(request, SipRequest)
        self.layer.receive_response(make_response(request, status, to_tag="peer"), self.now)
        self.collect()

    def receive(self, request: SipRequest) -> None:
        self.layer.receive_request(request.copy(), self.flow, self.now)
        self.collect()

    def server(self, request: SipRequest) -> ServerTransaction:
        self.receive(request)
        up = self.up[-1]
        assert isinstance(up, RequestUp)
        return up.transaction

    def respond(self, server: ServerTransaction, status: int) -> bool:
        done = self.layer.respond(server, make_response(server.request, status, to_tag="ours"), self.now)
        self.collect()
        return done


def parse(
    method: str, *, branch: str = "z9hG4bKone", cseq: int = 1, to_tag: str = "", from_tag: str = "f"
) -> SipRequest:
    message = parse_message(
        (
            f"{method} sip:srs@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:7000;branch={branch};rport\r\n"
            f"From: <sip:a@example.org>;tag={from_tag}\r\nTo: <sip:srs@192.0.2.1>{to_tag and ';tag=' + to_tag}\r\n"
            f"Call-ID: c@x\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode()
    )
    assert isinstance(message, SipRequest)
    return message


# -- client, INVITE ----------------------------------------------------------------------------------------------


def test_timers_a_and_b_double_without_limit_and_give_up_after_64_t1() -> None:
    bench = Bench()
    client = bench.start("INVITE")
    bench.advance(100)
    assert bench.times("INVITE") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert bench.up == [FailureUp(client, Failure.TIMEOUT)]
    assert client.state is State.TERMINATED and len(bench.layer) == 0


def test_over_tcp_an_invite_is_sent_once_and_given_up_all_the_same() -> None:
    bench = Bench(Transport.TCP)
    client = bench.start("INVITE")
    bench.advance(100)
    assert bench.times("INVITE") == [0]
    assert bench.up == [FailureUp(client, Failure.TIMEOUT)]


def test_a_provisional_response_stops_retransmission_and_timeout() -> None:
    bench = Bench()
    client = bench.start("INVITE")
    bench.advance(0.6)
    bench.answer(client, 180)
    bench.advance(1000)
    assert bench.times("INVITE") == [0, 0.5]
    assert client.state is State.PROCEEDING


@pytest.mark.parametrize(("transport", "gone"), [(Transport.UDP, 32.0), (Transport.TCP, 0.0)])
def test_a_failure_is_acknowledged_by_the_transaction_until_timer_d(
    transport: Transport, gone: float
) -> None:
    bench = Bench(transport)
    client = bench.start("INVITE")
    bench.answer(client, 486)
    assert bench.times("ACK") == [0]
    if transport is Transport.UDP:
        bench.answer(client, 486)
        assert bench.times("ACK") == [0, 0]
        bench.advance(31.9)
        bench.answer(client, 486)
        assert bench.times("ACK") == [0, 0, 31.9]
    assert [up.response.status for up in bench.up if isinstance(up, ResponseUp)] == [486]
    bench.advance(gone)
    assert len(bench.layer) == 0


def test_the_ack_to_a_failure_has_the_invites_branch_and_the_responses_tag() -> None:
    bench = Bench()
    client = bench.start("INVITE")
    bench.answer(client, 404)
    ack, invite = parse_message(client.ack), parse_message(client.data)
    assert isinstance(ack, SipRequest) and isinstance(invite, SipRequest)
    assert (
        ack.via == invite.via and ack.to.tag == "peer" and str(ack.cseq) == "1 ACK" and ack.uri == invite.uri
    )


def test_2xx_and_their_repeats_pass_up_until_timer_m() -> None:
    bench = Bench()
    client = bench.start("INVITE")
    bench.answer(client, 200)
    bench.advance(31.9)
    bench.answer(client, 200)
    bench.answer(client, 486)  # too late to mean anything
    assert [up.response.status for up in bench.up if isinstance(up, ResponseUp)] == [200, 200]
    bench.advance(32)
    assert len(bench.layer) == 0 and bench.times("ACK") == []
    bench.answer(client, 200)
    assert bench.counters["responses_stray"] == 1


# -- client, other -----------------------------------------------------------------------------------------------


def test_timers_e_and_f() -> None:
    bench = Bench()
    client = bench.start("OPTIONS")
    bench.advance(100)
    assert bench.times("OPTIONS") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.up == [FailureUp(client, Failure.TIMEOUT)]


def test_after_a_provisional_timer_e_runs_at_t2_and_f_still_ends_it() -> None:
    bench = Bench()
    client = bench.start("OPTIONS")
    bench.advance(0.2)
    bench.answer(client, 100)
    bench.advance(100)
    assert bench.times("OPTIONS") == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert bench.up[-1] == FailureUp(client, Failure.TIMEOUT)


@pytest.mark.parametrize(("transport", "gone"), [(Transport.UDP, 5.0), (Transport.TCP, 0.0)])
def test_timer_k_absorbs_repeated_answers(transport: Transport, gone: float) -> None:
    bench = Bench(transport)
    client = bench.start("OPTIONS")
    bench.answer(client, 200)
    bench.answer(client, 200)
    assert [type(up) for up in bench.up] == [ResponseUp]
    if gone:
        bench.advance(gone - 0.1)
        assert len(bench.layer) == 1
    bench.advance(gone)
    assert len(bench.layer) == 0


def test_a_transport_error_ends_it_and_another_target_takes_over() -> None:
    bench = Bench()
    request = parse("OPTIONS")
    request.headers.remove("Via")
    targets = [Target(Transport.TCP, *PEER), Target(Transport.UDP, *PEER)]
    client = bench.layer.request(request, targets, 0.0)
    assert client is not None
    (first,) = bench.layer.transmits
    bench.collect()
    bench.layer.transmit_failed(first.key, 0.1)
    (second,) = bench.layer.transmits
    assert b"SIP/2.0/TCP" in first.data and b"SIP/2.0/UDP" in second.data
    bench.layer.transmit_failed(first.key, 0.2)  # old news
    assert client.state is State.TRYING
    bench.layer.transmit_failed(second.key, 0.3)
    bench.collect()
    assert bench.up == [FailureUp(client, Failure.TRANSPORT)]


def test_a_large_request_tries_tcp_first() -> None:
    bench = Bench(limit=100)
    bench.start("OPTIONS")
    (client,) = bench.layer._clients.values()
    assert [target.transport for target in client.targets] == [Transport.TCP, Transport.UDP]


# -- server, INVITE ----------------------------------------------------------------------------------------------


def test_a_100_goes_out_after_200_ms_of_silence_and_answers_repeats() -> None:
    bench = Bench()
    bench.server(parse("INVITE"))
    bench.advance(0.1)
    bench.receive(parse("INVITE"))
    assert bench.sent == []
    bench.advance(1)
    assert bench.sent == [(0.2, "100 Trying")]
    bench.receive(parse("INVITE"))
    assert bench.times("100") == [0.2, 1]
    assert len(bench.up) == 1 and bench.counters["requests_repeated"] == 2


def test_timer_g_repeats_a_failure_until_the_ack_and_timer_i_absorbs_further_acks() -> None:
    bench = Bench()
    server = bench.server(parse("INVITE"))
    bench.respond(server, 486)
    bench.advance(8)
    assert bench.times("486") == [0, 0.5, 1.5, 3.5, 7.5]
    bench.receive(parse("INVITE"))
    assert bench.times("486")[-1] == 8
    bench.receive(parse("ACK", to_tag="ours"))
    assert server.state is State.CONFIRMED
    bench.advance(12.9)
    bench.receive(parse("ACK", to_tag="ours"))
    bench.receive(parse("INVITE"))
    assert bench.times("486")[-1] == 8 and len(bench.up) == 1
    bench.advance(13)
    assert len(bench.layer) == 0


def test_timer_h_ends_the_wait_for_an_ack() -> None:
    bench = Bench()
    server = bench.server(parse("INVITE"))
    bench.respond(server, 486)
    bench.advance(100)
    assert bench.times("486") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert server.state is State.TERMINATED and len(bench.layer) == 0


def test_over_tcp_a_failure_is_sent_once_and_its_ack_ends_it() -> None:
    bench = Bench(Transport.TCP)
    server = bench.server(parse("INVITE"))
    bench.respond(server, 486)
    bench.advance(5)
    assert bench.times("486") == [0]
    bench.receive(parse("ACK", to_tag="ours"))
    assert len(bench.layer) == 0


def test_an_accepted_invite_absorbs_repeats_until_timer_l_and_passes_acks_up() -> None:
    bench = Bench()
    server = bench.server(parse("INVITE"))
    assert bench.respond(server, 200)
    bench.advance(31.9)
    bench.receive(parse("INVITE"))
    assert bench.times("200") == [0], "repeating a 2xx is the user agent's"
    assert bench.respond(server, 200), "and may be done through the transaction"
    assert not bench.respond(server, 486)
    bench.receive(parse("ACK", to_tag="ours"))
    assert isinstance(bench.up[-1], AckUp)
    bench.advance(32)
    assert len(bench.layer) == 0


def test_an_ack_of_its_own_branch_passes_up() -> None:
    bench = Bench()
    bench.respond(bench.server(parse("INVITE")), 200)
    bench.receive(parse("ACK", branch="z9hG4bKtwo", to_tag="ours"))
    assert isinstance(bench.up[-1], AckUp)


# -- server, other -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transport", "gone"), [(Transport.UDP, 32.0), (Transport.TCP, 0.0)])
def test_timer_j_answers_repeats(transport: Transport, gone: float) -> None:
    bench = Bench(transport)
    server = bench.server(parse("OPTIONS"))
    bench.receive(parse("OPTIONS"))
    assert bench.sent == []
    bench.respond(server, 200)
    assert not bench.respond(server, 500)
    if transport is Transport.UDP:
        bench.advance(31.9)
        bench.receive(parse("OPTIONS"))
        assert bench.times("200") == [0, 31.9] and len(bench.up) == 1
    bench.advance(gone)
    assert len(bench.layer) == 0


def test_a_response_that_cannot_be_sent_is_told() -> None:
    bench = Bench(Transport.TCP)
    server = bench.server(parse("INVITE"))
    bench.layer.respond(server, make_response(server.request, 180), 0.0)
    key = bench.layer.transmits[-1].key
    bench.layer.transmit_failed(key, 0.0)
    bench.collect()
    assert bench.up[-1] == ResponseLostUp(server)


# -- matching ----------------------------------------------------------------------------------------------------


def test_branch_sent_by_and_method_tell_transactions_apart() -> None:
    bench = Bench()
    bench.receive(parse("OPTIONS", cseq=1))
    bench.receive(parse("OPTIONS", cseq=2, branch="z9hG4bKother"))
    other_host = parse("OPTIONS", cseq=3)
    other_host.headers.set("Via", "SIP/2.0/UDP other.example.org;branch=z9hG4bKone")
    bench.receive(other_host)
    bench.receive(parse("INFO", cseq=4))
    assert len(bench.up) == 4
    same = parse("OPTIONS", cseq=1)
    same.headers.set("Via", "SIP/2.0/UDP 192.0.2.9:7000;rport;branch=z9hG4bKone")
    bench.receive(same)
    assert len(bench.up) == 4


def test_rfc_2543_peers_are_matched_without_a_cookie() -> None:
    bench = Bench()
    old = parse("INVITE", branch="1")
    server = bench.server(old)
    bench.receive(old)
    assert len(bench.up) == 1
    bench.receive(parse("INVITE", branch="1", cseq=2))
    assert len(bench.up) == 2
    bench.respond(server, 486)
    bench.receive(parse("ACK", branch="1", to_tag="theirs"))
    assert server.state is State.COMPLETED, "the To tag of an old ACK is part of the match"
    bench.receive(parse("ACK", branch="1", to_tag="ours"))
    assert server.state is State.CONFIRMED


@pytest.mark.parametrize("branch", ["z9hG4bKone", "1", "z9hG4bK"])
def test_a_cancel_finds_its_invite(branch: str) -> None:
    bench = Bench()
    server = bench.server(parse("INVITE", branch=branch))
    bench.receive(parse("CANCEL", branch=branch))
    up = bench.up[-1]
    assert isinstance(up, RequestUp) and up.cancels is server
    bench.receive(parse("CANCEL", branch=branch + "x"))
    up = bench.up[-1]
    assert isinstance(up, RequestUp) and up.cancels is None


def test_a_merged_request_is_refused() -> None:
    """RFC 3261, section 8.2.2.2: the same request by two ways."""
    bench = Bench()
    bench.receive(parse("INVITE"))
    bench.receive(parse("INVITE", branch="z9hG4bKfork"))
    assert len(bench.up) == 1 and bench.times("482") == [0]
    bench.receive(parse("INVITE", branch="z9hG4bKfork", cseq=2))
    assert len(bench.up) == 2


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("SIP/2.0/UDP 192.0.2.9:7777;branch=z9hG4bK1;rport", ("192.0.2.9", 7000)),
        ("SIP/2.0/UDP 192.0.2.9:7777;branch=z9hG4bK1", ("192.0.2.9", 7777)),
        ("SIP/2.0/UDP pc.example.org;branch=z9hG4bK1", ("192.0.2.9", 5060)),
        ("SIP/2.0/UDP 192.0.2.9;maddr=203.0.113.1;branch=z9hG4bK1", ("192.0.2.9", 5060)),
    ],
)
def test_responses_go_where_via_and_source_say(via: str, expected: tuple[str, int]) -> None:
    bench = Bench()
    request = parse("OPTIONS")
    request.headers.set("Via", via)
    server = bench.server(request)
    assert (server.target.host, server.target.port) == expected


def test_a_response_with_further_vias_is_for_somebody_else() -> None:
    bench = Bench()
    client = bench.start("OPTIONS")
    request = parse_message(client.data)
    assert isinstance(request, SipRequest)
    response = make_response(request, 200)
    response.headers.add("Via", "SIP/2.0/UDP other;branch=z9hG4bKq")
    bench.layer.receive_response(response, 0.0)
    assert bench.counters["responses_stray"] == 1


# -- bounds ------------------------------------------------------------------------------------------------------


def test_a_flood_of_requests_is_refused_and_the_oldest_answered_ones_make_room() -> None:
    bench = Bench(max_transactions=10)
    servers = [bench.server(parse("OPTIONS", branch=f"z9hG4bK{n}", cseq=n)) for n in range(10)]
    bench.receive(parse("OPTIONS", branch="z9hG4bKx", cseq=50))
    assert len(bench.up) == 10 and bench.times("503") == [0]
    bench.respond(servers[3], 200)
    bench.respond(servers[1], 200)
    bench.receive(parse("OPTIONS", branch="z9hG4bKy", cseq=51))
    assert len(bench.up) == 11 and len(bench.layer) == 10
    assert servers[3].state is State.TERMINATED and servers[1].state is State.COMPLETED
    assert bench.layer.request(parse("OPTIONS"), [Target(Transport.UDP, *PEER)], 0.0) is not None
    assert bench.layer.request(parse("OPTIONS"), [Target(Transport.UDP, *PEER)], 0.0) is None


def test_a_stateless_refusal_says_the_same_each_time() -> None:
    bench = Bench(max_transactions=0)
    bench.layer.receive_request(parse("OPTIONS"), bench.flow, 0.0)
    bench.layer.receive_request(parse("OPTIONS"), bench.flow, 9.0)
    one, two = (parse_message(transmit.data) for transmit in bench.layer.transmits)
    assert isinstance(one, SipResponse) and one.to.tag
    assert one.serialize() == two.serialize()
    assert one.retry_after == 10


def test_an_ack_is_never_answered() -> None:
    bench = Bench(max_transactions=0)
    bench.receive(parse("ACK"))
    assert bench.sent == []


# -- timers ------------------------------------------------------------------------------------------------------


def test_the_queue_gives_keys_in_order_and_forgets_what_is_cancelled_on_the_way() -> None:
    queue = TimerQueue()
    for name, when in [("c", 3.0), ("a", 1.0), ("b", 2.0), ("a", 2.5)]:
        queue.set(name, when)
    queue.set("gone", 0.5)
    queue.cancel("gone")
    assert queue.next() == 2.0
    taken = []
    for key in queue.due(3.0):
        taken.append(key)
        if key == "b":
            queue.cancel("a")
    assert taken == ["b", "c"] and len(queue) == 0 and queue.next() is None


def test_the_queue_does_not_grow_with_timers_that_are_moved() -> None:
    queue = TimerQueue()
    for n in range(100_000):
        queue.set("one", float(n))
    assert len(queue._heap) < 200 and queue.next() == 99_999


@pytest.mark.parametrize("values", [{"t1": 0.0}, {"t1": 5.0, "t2": 4.0}, {"t4": 0.0}])
def test_senseless_timer_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="SIP timers"):
        TimerValues(**values)
