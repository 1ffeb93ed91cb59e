"""The user agent core, sans-IO: messages and the time in, events and messages to send out.

    endpoint = SipEndpoint(EndpointConfig(listeners=(Listener(Transport.UDP, "192.0.2.1", 5060),)))
    endpoint.receive_datagram(data, flow, now)       # or receive_message, from a stream's framer
    for event in endpoint.events(): ...              # see appliance.media.sip.events
    endpoint.respond(inbound, 200, body=sdp, content_type="application/sdp", now=now)
    for transmit in endpoint.transmits(): ...        # put transmit.data on the wire towards transmit.target
    endpoint.handle_timeout(now)                     # when endpoint.next_timer() has come

`appliance.media.sip.transports.SipTransports` is the asyncio shell that does this pumping over real sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.media.sip.events import Event, InboundRequest, OutboundRequest
from appliance.media.sip.flow import Flow, Listener, Target, Transmit
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import SipSession
from appliance.media.sip.timers import TimerValues

Fields = Iterable[tuple[str, str]]  # extra headers, in order


@dataclass(frozen=True, slots=True)
class Credentials:
    """What answers a 401 or 407 to our requests (RFC 7616)."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """How an endpoint behaves. Times are seconds.

    `contact_user` and `contact_params` make our Contact: `<sip:user@host:port;transport=tcp>;params`, for instance
    `contact_params="+sip.srs"`. `extensions` are the option tags we understand in Require (RFC 3261, 8.2.2.3) and
    write into Supported; `methods` is our Allow; other methods get 405. `accept` goes into OPTIONS answers and 415.
    """

    listeners: tuple[Listener, ...] = ()
    contact_user: str = ""
    contact_params: str = ""
    user_agent: str = "Earwitness"
    extensions: tuple[str, ...] = ("100rel", "timer", "replaces", "norefersub")
    methods: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO")
    accept: tuple[str, ...] = ("application/sdp", "multipart/mixed")
    session_expires: int = 1800  # asked for, or offered to a peer that supports timers; 0: none
    min_se: int = 90
    reliable_provisionals: bool = False  # ask for 100rel in our INVITEs
    credentials: Credentials | None = None
    replaces_must_match: bool = True  # 481 to a Replaces that names no session of ours (RFC 3891, section 3)
    max_transactions: int = 10_000
    max_sessions: int = 5_000
    udp_request_limit: int = 1300  # larger requests of ours go by TCP (RFC 3261, 18.1.1); received ones may be of any size
    timers: TimerValues = TimerValues()


class SipEndpoint:
    """A user agent, server and client."""

    def __init__(self, config: EndpointConfig) -> None: ...

    # -- in ------------------------------------------------------------------------------------------------------

    def set_listeners(self, listeners: Iterable[Listener]) -> None:
        """Say where we listen, once sockets are bound: Via and Contact are made from it."""

    def receive_datagram(self, data: bytes, flow: Flow, now: float) -> None:
        """A datagram came. What is no SIP is dropped and counted; a malformed request is answered 400."""

    def receive_message(self, message: SipRequest | SipResponse, flow: Flow, now: float) -> None:
        """A parsed message came, from a stream or a datagram."""

    def transmit_failed(self, key: str, now: float) -> None:
        """A `Transmit` could not be sent."""

    def connection_closed(self, connection: int, now: float) -> None:
        """A connection is gone: client transactions that wait on it fail (as if 503). Sessions live on."""

    def next_timer(self) -> float | None:
        """When `handle_timeout` wants to be called next, on the clock of `now`; None: never."""

    def handle_timeout(self, now: float) -> None: ...

    # -- out -----------------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Take what has happened since the last call, in order."""

    def transmits(self) -> list[Transmit]:
        """Take what is to be sent since the last call, in order."""

    @property
    def sessions(self) -> Mapping[str, SipSession]:
        """Live sessions by `SipSession.id`."""

    @property
    def counters(self) -> Mapping[str, int]:
        """What was refused, dropped, repeated and lost since the start, by name."""

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

        The endpoint adds the To tag, Record-Route, Contact, Allow, Supported and Session-Expires. A 2xx to an INVITE
        is repeated until its ACK comes. `reliable` sends a provisional by 100rel where the peer supports it; where
        the peer requires it, it is done unasked (RFC 3262).
        """

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
    ) -> SipSession:
        """Send an INVITE to `uri`. `from_` and `to` are name-addr or addr-spec without tag; `to` is `uri` by default.

        Without `body` the offer is left to the peer. `target` sends it elsewhere than `route` and `uri` say. Further
        2xx from other forks are acknowledged and ended at once (section 13.2.2.4). Raises `ExhaustedError`.
        """

    def ack(self, session: SipSession, *, now: float, body: bytes = b"", content_type: str | None = None) -> None:
        """Acknowledge a 2xx that came with `wants_ack`."""

    def prack(self, session: SipSession, *, now: float, body: bytes = b"", content_type: str | None = None) -> None:
        """Acknowledge a reliable provisional that came with `wants_prack`."""

    def cancel(self, session: SipSession, *, now: float, headers: Fields = ()) -> None:
        """Give up an INVITE of ours. If a 2xx wins the race it is acknowledged and followed by BYE.

        An INVITE of theirs is not cancelled but answered. `SessionEnded` follows.
        """

    def bye(self, session: SipSession, *, now: float, headers: Fields = ()) -> None:
        """End an established session; as the UAS of an unacknowledged 2xx the BYE waits for the ACK (section 15).

        `SessionEnded` follows when the BYE is answered or given up. Nothing happens for a session that has ended.
        """

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

        Raises `PreconditionError` while another re-INVITE or offer is pending either way.
        """

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
        """Send any other request: inside `session`'s dialog, or outside of one to `uri` (OPTIONS, REGISTER, ...)."""

    # -- memory --------------------------------------------------------------------------------------------------

    def find_session(self, call_id: str, local_tag: str, remote_tag: str) -> SipSession | None:
        """The session of that dialog."""

    def snapshot(self, session: SipSession) -> dict[str, Any]:
        """The established session as a small dict that JSON can carry: dialog, timers, an unacknowledged 2xx."""

    def restore(self, state: Mapping[str, Any], now: float) -> SipSession:
        """Take up a session again after a restart. Raises `CorruptError` when `state` is not a snapshot.

        The session timer begins anew; an unacknowledged 2xx is repeated again.
        """
