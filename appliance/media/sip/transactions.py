"""The transaction layer: finds the machine for each message, keeps their number bounded, routes responses.

Matching is that of RFC 3261 sections 17.1.3 and 17.2.3, with the rules for RFC 2543 peers (no magic cookie in the
branch); responses go where section 18.2.2 and RFC 3581 say. Sans-IO: what is to be sent lies in `transmits`, what
concerns the user agent in `upcalls`; the owner takes both after every call.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from appliance.media.sip import parts
from appliance.media.sip.flow import DEFAULT_PORTS, Flow, Target, Transmit, Transport
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.reply import make_response, stamp_received
from appliance.media.sip.timers import TimerQueue, TimerValues
from appliance.media.sip.transaction import ClientTransaction, Failure, ServerTransaction, State


@dataclass(frozen=True, slots=True)
class RequestUp:
    """A new request, with its transaction. `cancels`: the INVITE's transaction that a CANCEL names, if there is one."""

    transaction: ServerTransaction
    request: SipRequest
    flow: Flow
    cancels: ServerTransaction | None = None


@dataclass(frozen=True, slots=True)
class AckUp:
    """An ACK that may belong to a 2xx."""

    request: SipRequest
    flow: Flow


@dataclass(frozen=True, slots=True)
class ResponseUp:
    transaction: ClientTransaction
    response: SipResponse


@dataclass(frozen=True, slots=True)
class FailureUp:
    transaction: ClientTransaction
    failure: Failure


@dataclass(frozen=True, slots=True)
class ResponseLostUp:
    """A response of ours could not be sent."""

    transaction: ServerTransaction


@dataclass(frozen=True, slots=True)
class ForgottenUp:
    """A client transaction is gone: no further response can come."""

    key: str


Upcall = RequestUp | AckUp | ResponseUp | FailureUp | ResponseLostUp | ForgottenUp
ServerKey = tuple[str, ...]


class TransactionLayer:
    """All transactions of one endpoint.

    `sent_by` gives host and port for the Via of a request towards a target; `token` a fresh random string.
    """

    def __init__(
        self,
        timers: TimerValues,
        queue: TimerQueue,
        *,
        sent_by: Callable[[Target], tuple[str, int]],
        token: Callable[[], str],
        counters: Counter[str],
        max_transactions: int,
        udp_request_limit: int,
    ) -> None:
        self.timers = timers
        self.transmits: list[Transmit] = []
        self.upcalls: deque[Upcall] = deque()
        self._queue = queue
        self._sent_by = sent_by
        self._token = token
        self._counters = counters
        self._max = max_transactions
        self._udp_limit = udp_request_limit
        self._clients: dict[str, ClientTransaction] = {}
        self._servers: dict[str, ServerTransaction] = {}
        self._server_keys: dict[ServerKey, str] = {}  # matching key to transaction
        self._keys_of: dict[str, list[tuple[dict[ServerKey, str], ServerKey]]] = {}
        self._merge_keys: dict[ServerKey, str] = {}  # section 8.2.2.2
        self._done: dict[str, None] = {}  # answered server transactions, oldest first: they may make room

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    # -- requests of theirs --------------------------------------------------------------------------------------

    def receive_request(self, request: SipRequest, flow: Flow, now: float) -> None:
        """A request came. Raises nothing; the message layer has already seen to its mandatory headers."""
        stamp_received(request, *flow.remote)
        key = _server_key(request, request.method)
        known = self._servers.get(self._server_keys.get(key, ""))
        if request.method == "ACK":
            if (
                known is not None
                and request.via[0].rfc3261_branch is None
                and known.to_tag != (request.to.tag or "")
            ):
                known = None  # for RFC 2543 peers the To tag of our response is part of the match
            if known is None or known.acked(now):
                self.upcalls.append(AckUp(request, flow))
            return
        if known is not None:
            self._counters["requests_repeated"] += 1
            known.repeated()
            return
        cancels = None
        if request.method == "CANCEL":
            cancels = self._servers.get(self._server_keys.get(_server_key(request, "INVITE"), ""))
        merge = _merge_key(request)
        if not request.to.tag and request.method != "CANCEL" and merge in self._merge_keys:
            self._counters["requests_merged"] += 1
            self.respond_stateless(request, flow, 482)
            return
        if not self._make_room():
            self._counters["requests_refused_busy"] += 1
            self.respond_stateless(request, flow, 503, (("Retry-After", "10"),))
            return
        target = response_target(request, flow)
        trying = make_response(request, 100).serialize() if request.method == "INVITE" else b""
        transaction = ServerTransaction(self, "s" + self._token(), request, target, trying)
        self._servers[transaction.key] = transaction
        self._index(transaction, self._server_keys, key)
        if not request.to.tag:
            self._index(transaction, self._merge_keys, merge)
        transaction.start(now)
        self.upcalls.append(RequestUp(transaction, request, flow, cancels))

    def _index(self, transaction: ServerTransaction, index: dict[ServerKey, str], key: ServerKey) -> None:
        index[key] = transaction.key
        self._keys_of.setdefault(transaction.key, []).append((index, key))

    def _make_room(self) -> bool:
        """Whether one more transaction may live. The oldest answered one gives way: it only absorbs late repeats."""
        if len(self) < self._max:
            return True
        if not self._done:
            return False
        self._servers[next(iter(self._done))].discard()
        self._counters["transactions_dropped"] += 1
        return True

    def server(self, key: str) -> ServerTransaction | None:
        return self._servers.get(key)

    def client(self, key: str) -> ClientTransaction | None:
        return self._clients.get(key)

    def respond(self, transaction: ServerTransaction, response: SipResponse, now: float) -> bool:
        """Answer. Returns False when the transaction has its final response already, or is gone."""
        if response.status >= 200 and not transaction.to_tag:
            transaction.to_tag = response.to.tag or ""
        done = transaction.respond(response.status, response.serialize(), now)
        # An accepted INVITE stays: it absorbs repeats of an INVITE that is a live session now.
        if done and transaction.state is State.COMPLETED:
            self._done[transaction.key] = None
        return done

    def respond_stateless(
        self,
        request: SipRequest,
        flow: Flow,
        status: int,
        headers: tuple[tuple[str, str], ...] = (),
        reason: str | None = None,
    ) -> None:
        """Answer without a transaction; the To tag depends on the request alone (section 8.2.7).

        Of the request only the topmost Via needs to be readable.
        """
        if request.method == "ACK":
            return
        seed = [
            value for name in ("Via", "From", "Call-ID", "CSeq") for value in request.headers.get_all(name)
        ]
        tag = hashlib.blake2s("\0".join(seed).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        response = make_response(request, status, reason, to_tag=tag, headers=headers)
        self.transmits.append(Transmit(response.serialize(), response_target(request, flow), ""))

    # -- requests of ours ----------------------------------------------------------------------------------------

    def request(
        self, request: SipRequest, targets: list[Target], now: float, *, branch: str | None = None
    ) -> ClientTransaction | None:
        """Send a request (without Via) to the first of `targets` that works. None: too many transactions live.

        `branch` is given for CANCEL alone: that of the INVITE.
        """
        if not self._make_room():
            self._counters["requests_not_sent_busy"] += 1
            return None
        branch = branch or "z9hG4bK" + self._token()
        transaction = ClientTransaction(self, f"{branch} {request.method}", request, targets)
        transaction.data = self._render(transaction)
        target = transaction.target
        if (
            target.transport is Transport.UDP
            and len(transaction.data) > self._udp_limit
            and request.method != "CANCEL"
        ):
            # Section 18.1.1: a large request goes by TCP, and by UDP all the same where the peer has no TCP.
            transaction.targets = [Target(Transport.TCP, target.host, target.port), *transaction.targets]
            transaction.data = self._render(transaction)
        self._clients[transaction.key] = transaction
        transaction.start(now)
        return transaction

    def _render(self, transaction: ClientTransaction) -> bytes:
        return self.render(transaction.request, transaction.target, transaction.key.partition(" ")[0])

    def render(self, request: SipRequest, target: Target, branch: str) -> bytes:
        """The request's bytes with our Via on top."""
        return parts.with_via(request, target.transport, self._sent_by(target), branch).serialize()

    def send_ack(self, ack: SipRequest, target: Target) -> Transmit:
        """Send the ACK to a 2xx, which is no transaction (section 13.2.2.4). The result may be sent again."""
        transmit = Transmit(self.render(ack, target, "z9hG4bK" + self._token()), target, "")
        self.transmits.append(transmit)
        return transmit

    def receive_response(self, response: SipResponse, now: float) -> None:
        """A response came. One that matches nothing of ours is dropped (section 18.1.2)."""
        transaction = self._clients.get(f"{response.via[0].branch} {response.cseq.method}")
        if transaction is None or len(response.via) > 1:
            self._counters["responses_stray"] += 1
            return
        ack = b""
        if transaction.invite and response.status >= 300:
            request = parts.failure_ack(transaction.request, response)
            ack = self.render(request, transaction.target, transaction.key.partition(" ")[0])
        transaction.receive(response, ack, now)

    # -- time and failure ----------------------------------------------------------------------------------------

    def timer(self, key: str, name: str, now: float) -> None:
        transaction: ClientTransaction | ServerTransaction | None = self._clients.get(
            key
        ) or self._servers.get(key)
        if transaction is not None:
            transaction.timer(name, now)

    def transmit_failed(self, transmit_key: str, now: float) -> None:
        """What was sent under this key did not go out."""
        key, _, attempt = transmit_key.rpartition("#")
        client = self._clients.get(key)
        if client is not None:
            if attempt == str(client.attempt) and client.transport_failed(now):
                client.data = self._render(client)
                client.start(now)
            return
        server = self._servers.get(key)
        if server is not None:
            self.upcalls.append(ResponseLostUp(server))

    def connection_closed(self, connection: int, keys: Collection[str], now: float) -> None:
        """Requests not answered at all on this connection are lost; further answers may come over another (18.2.2)."""
        for transaction in list(self._clients.values()):
            key = f"{transaction.key}#{transaction.attempt}"
            unanswered = transaction.state in (State.CALLING, State.TRYING)
            if unanswered and (transaction.target.connection == connection or key in keys):
                self.transmit_failed(key, now)

    # -- what the machines ask for -------------------------------------------------------------------------------

    def send(self, transaction: ClientTransaction | ServerTransaction, data: bytes) -> None:
        client = isinstance(transaction, ClientTransaction)
        attempt = transaction.attempt if isinstance(transaction, ClientTransaction) else 0
        self.transmits.append(Transmit(data, transaction.target, f"{transaction.key}#{attempt}", client))

    def set_timer(self, transaction: ClientTransaction | ServerTransaction, name: str, when: float) -> None:
        self._queue.set(("transaction", transaction.key, name), when)

    def cancel_timers(self, transaction: ClientTransaction | ServerTransaction, *names: str) -> None:
        for name in names:
            self._queue.cancel(("transaction", transaction.key, name))

    def deliver(self, transaction: ClientTransaction, response: SipResponse, now: float) -> None:
        self.upcalls.append(ResponseUp(transaction, response))

    def failed(self, transaction: ClientTransaction, failure: Failure, now: float) -> None:
        self.upcalls.append(FailureUp(transaction, failure))

    def forget(self, transaction: ClientTransaction | ServerTransaction) -> None:
        if self._clients.pop(transaction.key, None) is not None:
            self.upcalls.append(ForgottenUp(transaction.key))
        self._servers.pop(transaction.key, None)
        self._done.pop(transaction.key, None)
        for index, key in self._keys_of.pop(transaction.key, ()):
            if index.get(key) == transaction.key:
                del index[key]


def response_target(request: SipRequest, flow: Flow) -> Target:
    """Where the response to a request goes: its connection; else its source by rport, else the port in its Via.

    A `maddr` is not followed: it would let anyone aim our answers at anybody.
    """
    via = request.top_via
    port = via.port if via is not None and via.port else DEFAULT_PORTS[flow.transport]
    if flow.transport is Transport.UDP and (via is None or via.wants_rport):
        port = flow.remote[1]
    return Target(flow.transport, flow.remote[0], port, flow.connection, flow.local)


def _server_key(request: SipRequest, method: str) -> ServerKey:
    """Section 17.2.3. An ACK matches its INVITE."""
    method = "INVITE" if method == "ACK" else method
    if request.via[0].rfc3261_branch is None:
        return _old_key(request, method)
    via = request.via[0]
    return ("3261", via.branch or "", via.host.lower(), str(via.port or 0), method)


def _old_key(request: SipRequest, method: str) -> ServerKey:
    number = request.cseq.number
    via = request.via[0]
    return (
        "2543",
        str(request.uri),
        request.from_.tag or "",
        request.call_id,
        str(number),
        f"{via.host.lower()}:{via.port or 0};{via.branch or ''}",
        method,
    )


def _merge_key(request: SipRequest) -> ServerKey:
    number, method = request.cseq.number, request.cseq.method
    return (request.call_id, request.from_.tag or "", str(number), method)
