"""The user agent core, sans-IO: messages and the time in, events and messages to send out.

    endpoint = SipEndpoint(EndpointConfig(listeners=(Listener(Transport.UDP, "192.0.2.1", 5060),)))
    endpoint.receive(data, flow, now)                # a datagram, or what a framer cut out of a stream
    for event in endpoint.events(): ...              # see appliance.media.sip.events
    endpoint.respond(inbound, 200, body=sdp, content_type="application/sdp", now=now)
    for transmit in endpoint.transmits(): ...        # put transmit.data on the wire towards transmit.target
    endpoint.handle_timeout(now)                     # when endpoint.next_timer() has come
`appliance.media.sip.transports.SipTransports` does this pumping over real sockets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

from appliance.media.sip import memory
from appliance.media.sip.client_answers import ClientAnswers
from appliance.media.sip.client_side import ClientSide
from appliance.media.sip.core import (
    Core,
    Credentials,
    EndpointConfig,
    Fields,
    NoTargetError,
    SessionBusyError,
    SessionStateError,
    TooManySessionsError,
)
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import EndCause, Event, InboundRequest, OutboundRequest, TransportFailed
from appliance.media.sip.flow import Flow, Listener, Target, Transmit
from appliance.media.sip.message import SipRequest, SipResponse, is_keepalive, parse_message
from appliance.media.sip.refresher import Refresher
from appliance.media.sip.reply import stamp_received
from appliance.media.sip.server_answers import ServerAnswers
from appliance.media.sip.server_side import ServerSide
from appliance.media.sip.session import SipSession
from appliance.media.sip.transactions import (
    AckUp,
    FailureUp,
    ForgottenUp,
    RequestUp,
    ResponseLostUp,
    ResponseUp,
)

__all__ = [
    "Credentials",
    "EndpointConfig",
    "NoTargetError",
    "SessionBusyError",
    "SessionStateError",
    "SipEndpoint",
    "TooManySessionsError",
]
# What a peer can make us meet by naming itself in ways that nothing can be sent to, or when we are full.
UNREACHABLE = (NoTargetError, SipParseError, TooManySessionsError)


class SipEndpoint:
    """A user agent, server and client."""

    def __init__(self, config: EndpointConfig) -> None:
        self._core = Core(config)
        self._client = ClientSide(self._core)
        self._responses = ClientAnswers(self._core, self._client)
        self._answers = ServerAnswers(self._core, self._client)
        self._server = ServerSide(self._core, self._client, self._answers)
        self._refresher = Refresher(self._core, self._client)

    @property
    def config(self) -> EndpointConfig:
        return self._core.config

    # -- in ------------------------------------------------------------------------------------------------------

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Say where we listen, once sockets are bound: Via and Contact are made from it."""
        self._core.listeners = tuple(listeners)

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """A datagram came, or a framer cut a message out of a stream. It never raises, whatever came.

        What is no SIP is dropped and counted; a malformed request is answered as the message layer judges.
        """
        if is_keepalive(data):
            return
        try:
            message = parse_message(data)
        except SipParseError as error:
            self.refuse_malformed(error, flow)
            return
        self.receive_message(message, flow, now)

    def refuse_malformed(self, error: SipParseError, flow: Flow) -> None:
        """Answer what could not be parsed (or framed), where it can be answered."""
        core = self._core
        core.counters["messages_malformed"] += 1
        if error.request is not None:
            stamp_received(error.request, *flow.remote)
            core.layer.respond_stateless(error.request, flow, error.status)

    def receive_message(self, message: SipRequest | SipResponse, flow: Flow, now: float) -> None:
        """A parsed message came."""
        layer = self._core.layer
        if isinstance(message, SipRequest):
            layer.receive_request(message, flow, now)
        else:
            layer.receive_response(message, now)
        self._work(now)

    def transmit_failed(self, key: str, now: float) -> None:
        """The `Transmit` with this key could not be sent."""
        self._core.layer.transmit_failed(key, now)
        self._work(now)

    def connection_closed(self, connection: int, now: float, *, keys: Collection[str] = ()) -> None:
        """A connection is gone: requests of ours not answered at all on it fail (as if 503). Sessions live on.

        `keys` are those of the transmits with `expects` that went over it.
        """
        self._core.layer.connection_closed(connection, keys, now)
        self._work(now)

    def next_timer(self) -> float | None:
        """When `handle_timeout` wants to be called next, on the clock of `now`; None: never."""
        return self._core.queue.next()

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`. Calling it early or twice does no harm."""
        for key in self._core.queue.due(now):
            kind, owner, name = cast("tuple[str, str, Any]", key)
            session = self._core.sessions.get(owner) if kind == "session" else None
            if session is not None:
                self._session_timer(session, name, now)
            elif kind == "transaction":
                self._core.layer.timer(owner, name, now)
            elif kind == "inbound":
                self._answers.late(owner, now)
            self._work(now)

    # -- out -----------------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Take what has happened since the last call, in order."""
        events, self._core.events = self._core.events, []
        return events

    def transmits(self) -> list[Transmit]:
        """Take what is to be sent since the last call, in order."""
        layer = self._core.layer
        transmits, layer.transmits = layer.transmits, []
        return transmits

    @property
    def sessions(self) -> Mapping[str, SipSession]:
        """Live sessions by `SipSession.id`."""
        return MappingProxyType(self._core.sessions)

    @property
    def counters(self) -> Mapping[str, int]:
        """What was refused, dropped, repeated and lost since the start, by name."""
        return MappingProxyType(self._core.counters)

    # -- answering -----------------------------------------------------------------------------------------------

    def respond(
        self,
        inbound: InboundRequest,
        status: int,
        *,
        now: float,
        reason: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
        reliable: bool = False,
    ) -> bool:
        """Answer a request: provisional (100 to 199) or final. Returns False when the request was overtaken meanwhile
        (cancelled, its session ended, or answered already): then nothing is sent.

        The endpoint adds the To tag, Record-Route, Contact, Allow, Supported and Session-Expires; `headers` of the same
        name replace its own. A 2xx to an INVITE is repeated until its ACK comes. `reliable` sends a provisional by
        100rel where the peer supports it; where the peer requires it, it is done unasked (RFC 3262), and further
        responses may wait for the PRACK. A final response of 300 or above to the first INVITE ends the session.
        """
        return self._answers.respond(
            inbound,
            status,
            now=now,
            reason=reason,
            headers=headers,
            body=body,
            content_type=content_type,
            reliable=reliable,
        )

    # -- asking --------------------------------------------------------------------------------------------------

    def invite(
        self,
        uri: str,
        *,
        now: float,
        from_: str,
        to: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
        route: Iterable[str] = (),
        target: Target | None = None,
        call_id: str | None = None,
        contact_params: str | None = None,
    ) -> SipSession:
        """Send an INVITE to `uri`. `from_` and `to` are name-addr or addr-spec without tag; `to` is `uri` by default.

        Without `body` the offer is left to the peer. `route` holds Route values; `target` sends it elsewhere than they
        and `uri` say. Further 2xx from other forks are acknowledged and ended at once (section 13.2.2.4). Raises
        `TooManySessionsError`, `NoTargetError`, `SipParseError`.
        """
        return self._client.invite(
            uri,
            now=now,
            from_=from_,
            to=to,
            headers=headers,
            body=body,
            content_type=content_type,
            route=route,
            target=target,
            call_id=call_id,
            contact_params=contact_params,
        )

    def ack(
        self, session: SipSession, *, now: float, body: bytes = b"", content_type: str | None = None
    ) -> None:
        """Acknowledge a 2xx that came with `wants_ack`. Raises `SessionStateError` when none waits."""
        del now
        self._client.ack(session, body=body, content_type=content_type)

    def prack(
        self, session: SipSession, *, now: float, body: bytes = b"", content_type: str | None = None
    ) -> None:
        """Acknowledge a reliable provisional that came with `wants_prack`. Raises `SessionStateError` when none waits."""
        self._client.prack(session, now, body=body, content_type=content_type)

    def cancel(self, session: SipSession, *, now: float, headers: Fields = ()) -> None:
        """Give up an INVITE of ours. If a 2xx wins the race it is acknowledged and followed by BYE.

        An INVITE of theirs is not cancelled but answered (`SessionStateError`). `SessionEnded` follows.
        """
        self._client.cancel(session, now, headers)

    def bye(self, session: SipSession, *, now: float, headers: Fields = ()) -> None:
        """End an established session; as the UAS of an unacknowledged 2xx the BYE waits for the ACK (section 15).

        `SessionEnded` follows when the BYE is answered or given up. Nothing happens for a session that has ended or is
        ending; an unanswered INVITE of ours is cancelled, one of theirs wants `respond` instead (`SessionStateError`).
        """
        self._client.bye(session, now, headers)

    def reinvite(
        self,
        session: SipSession,
        *,
        now: float,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> OutboundRequest:
        """Send a re-INVITE. Answers come as `ResponseReceived`; glare (491) is retried by itself (section 14.1).

        Without `body` the offer is left to the peer. Raises `SessionBusyError` while another re-INVITE or offer is
        pending either way, `SessionStateError` when the session is not established.
        """
        return self._client.renegotiate(
            session, "INVITE", now, headers=headers, body=body, content_type=content_type
        )

    def update(
        self,
        session: SipSession,
        *,
        now: float,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> OutboundRequest:
        """Send an UPDATE (RFC 3311), with or without an offer. Raises as `reinvite`."""
        return self._client.renegotiate(
            session, "UPDATE", now, headers=headers, body=body, content_type=content_type
        )

    def request(
        self,
        method: str,
        uri: str | None = None,
        *,
        now: float,
        session: SipSession | None = None,
        from_: str | None = None,
        to: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
        route: Iterable[str] = (),
        target: Target | None = None,
    ) -> OutboundRequest:
        """Send any other request: inside `session`'s dialog, or outside of one to `uri` (OPTIONS, REGISTER, ...).

        Raises as `invite`; `SessionStateError` when the session has no dialog.
        """
        if session is not None:
            return self._client.in_dialog(
                session, method, now, headers=headers, body=body, content_type=content_type
            )
        if uri is None or from_ is None:
            raise ValueError("a request outside of a dialog needs uri and from_")
        return self._client.request(
            method,
            uri,
            now=now,
            from_=from_,
            to=to,
            headers=headers,
            body=body,
            content_type=content_type,
            route=route,
            target=target,
        )

    def contact_for(self, uri: str, user: str) -> str:
        """Our Contact with this user part, as a REGISTER to `uri` names it. Raises `NoTargetError`, `SipParseError`."""
        return self._core.contact_for(uri, user)

    # -- memory --------------------------------------------------------------------------------------------------

    def find_session(self, call_id: str, local_tag: str, remote_tag: str) -> SipSession | None:
        return self._core.dialogs.get((call_id, local_tag, remote_tag))

    def snapshot(self, session: SipSession) -> dict[str, Any]:
        """The established session as a small dict that JSON can carry: dialog, timers, an unacknowledged 2xx.

        Take it anew after each change: when the session is answered, acknowledged, and when a request in it is done.
        Raises `SessionStateError` when the session is not established.
        """
        return memory.snapshot(session)

    def restore(self, state: Mapping[str, Any], now: float) -> SipSession:
        """Take up a session again after a restart. Raises `SnapshotError` when `state` is no snapshot.

        The session timer begins anew; an unacknowledged 2xx is repeated again.
        """
        return memory.restore(self._core, state, now)

    def _work(self, now: float) -> None:
        """Handle what the transactions have handed up."""
        core = self._core
        while core.layer.upcalls:
            up = core.layer.upcalls.popleft()
            if isinstance(up, RequestUp):
                self._server.receive(up, now)
            elif isinstance(up, AckUp):
                self._server.receive_ack(up.request, up.flow, now)
            elif isinstance(up, ResponseUp):
                self._response(up, now)
            elif isinstance(up, FailureUp):
                self._responses.failed(up, now)
            elif isinstance(up, ForgottenUp):
                core.outbounds.pop(up.key, None)
            else:
                self._response_lost(up)

    def _response(self, up: ResponseUp, now: float) -> None:
        outbound = self._core.outbounds.get(up.transaction.key)
        try:
            self._responses.receive(up, now)
        except UNREACHABLE:
            if outbound is not None and outbound.session is not None:
                self._unreachable(outbound.session, now)

    def _session_timer(self, session: SipSession, name: Any, now: float) -> None:
        session.timers.discard(name)
        try:
            if name in ("refresh", "expire"):
                self._refresher.timer(session, name, now)
            elif name in ("cancel", "glare"):
                self._responses.timer(session, name, now)
            else:
                self._answers.timer(session, name, now)
        except UNREACHABLE:
            self._unreachable(session, now)

    def _unreachable(self, session: SipSession, now: float) -> None:
        """The peer named itself by a Contact or route that nothing can be sent to."""
        self._core.counters["sessions_unreachable"] += 1
        self._core.end(session, EndCause.TRANSPORT, now)

    def _response_lost(self, up: ResponseLostUp) -> None:
        self._core.counters["responses_not_sent"] += 1
        inbound = self._core.inbounds.get(up.transaction.key)
        session = inbound.session if inbound else self._server.find(up.transaction.request)
        self._core.events.append(TransportFailed(up.transaction.target, session))
