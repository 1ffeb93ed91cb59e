"""What the parts of a `SipEndpoint` share: sessions, transactions, timers, what goes out, and how our messages look."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace

from appliance.media.sip.dialog import Dialog
from appliance.media.sip.events import EndCause, Event, InboundRequest, OutboundRequest, SessionEnded
from appliance.media.sip.flow import DEFAULT_PORTS, Flow, Listener, Target, Transport
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.reply import make_response
from appliance.media.sip.session import SessionState, SipSession, carries_sdp
from appliance.media.sip.session_timer import SessionTimer
from appliance.media.sip.timers import DEFAULT_TIMERS, TimerQueue, TimerValues
from appliance.media.sip.transactions import TransactionLayer
from appliance.media.sip.uri import SipUri, bracketed, parse_uri
from appliance.media.sip.values import NameAddr
from appliance.model import ExhaustedError, InvalidError, PreconditionError

Fields = Iterable[tuple[str, str]]  # extra headers, in order


class SessionStateError(PreconditionError):
    """A session is not in the state that an action needs; `data['state']` tells the one it is in."""

    reason = "SIP_SESSION_STATE"


class SessionBusyError(PreconditionError):
    """Another offer, or another request of the same kind, is pending in the session: try again when it is done."""

    reason = "SIP_SESSION_BUSY"


class TooManySessionsError(ExhaustedError):
    """No further session or transaction may begin."""

    reason = "SIP_BUSY"


class NoTargetError(InvalidError):
    """A URI that no request can be sent to."""

    reason = "SIP_NO_TARGET"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What answers a 401 or 407 to our requests (RFC 7616)."""

    username: str
    password: str = field(repr=False)
    realm: str = ""  # the only one that is answered; empty: any


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """How an endpoint behaves. Times are seconds.

    `contact_user` and `contact_params` make our Contact: `<sip:user@host:port;transport=tcp>;params`, for instance
    `contact_params="+sip.srs"`. `extensions` are the option tags we understand in Require (RFC 3261, 8.2.2.3) and
    write into Supported; `methods` is our Allow; other methods get 405. `accept` goes into the answer to OPTIONS.
    """

    listeners: tuple[Listener, ...] = ()
    contact_user: str = ""
    contact_params: str = ""
    user_agent: str = "Earwitness"
    extensions: tuple[str, ...] = ("100rel", "timer", "replaces")
    methods: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "INFO")
    accept: tuple[str, ...] = ("application/sdp", "multipart/mixed")
    content_types: tuple[str, ...] | None = None  # other bodies get 415; None: the application judges them
    session_expires: int = 1800  # asked for, and offered to a peer that supports timers; 0: none
    min_se: int = 90
    answer_within: float = (
        300.0  # an INVITE the application leaves without a final response gets 480 after that
    )
    # One for every peer, or chosen by the request that was challenged.
    credentials: Credentials | Callable[[SipRequest], Credentials | None] | None = None
    replaces_must_match: bool = True  # 481 to a Replaces that names no session of ours (RFC 3891, section 3)
    max_transactions: int = 10_000
    max_sessions: int = 5_000
    udp_request_limit: int = 1300  # octets: larger requests of ours go by TCP (RFC 3261, section 18.1.1)
    timers: TimerValues = DEFAULT_TIMERS


class Core:
    """The state that server side, client side and session timers work on."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.listeners = tuple(config.listeners)
        self.counters: Counter[str] = Counter()
        self.queue = TimerQueue()
        self.random = random.SystemRandom()
        self.events: list[Event] = []
        self.sessions: dict[str, SipSession] = {}
        self.dialogs: dict[tuple[str, str, str], SipSession] = {}
        self.restored: dict[
            tuple[str, str, int], SipSession
        ] = {}  # by Call-ID, remote tag, CSeq of the first INVITE
        self.inbounds: dict[str, InboundRequest] = {}  # unanswered requests, by server transaction
        self.outbounds: dict[str, OutboundRequest] = {}  # by client transaction
        self.layer = TransactionLayer(
            config.timers,
            self.queue,
            sent_by=self._sent_by,
            token=self.token,
            counters=self.counters,
            max_transactions=config.max_transactions,
            udp_request_limit=config.udp_request_limit,
        )

    @staticmethod
    def token() -> str:
        """A fresh random token: tags, branches, ids."""
        return secrets.token_hex(8)

    # -- addresses -----------------------------------------------------------------------------------------------

    def _listener(self, transport: Transport, host: str, local: tuple[str, int] | None) -> Listener | None:
        """Where a peer reaches us best: the socket itself, else one of the same transport and family, else any."""
        same = [listener for listener in self.listeners if listener.transport is transport]
        for listener in same:
            if local == (listener.host, listener.port):
                return listener
        family = [listener for listener in same if listener.ipv6 == (":" in host)]
        return next(iter([*family, *same, *self.listeners]), None)

    def _sent_by(self, target: Target) -> tuple[str, int]:
        listener = self._listener(target.transport, target.host, target.local)
        if listener is None:
            return (
                "localhost.invalid",
                DEFAULT_PORTS[target.transport],
            )  # responses find us by rport or connection
        port = listener.port if listener.transport is target.transport else DEFAULT_PORTS[target.transport]
        return (listener.host, port)

    def contact(
        self,
        transport: Transport,
        host: str,
        local: tuple[str, int] | None,
        *,
        sips: bool = False,
        params: str | None = None,
    ) -> str:
        """Our Contact towards a peer at `host`; `params` in place of the configured ones."""
        listener = self._listener(transport, host, local)
        if listener is None:
            address, parameter = "localhost.invalid", ""
        else:
            address = f"{bracketed(listener.host)}:{listener.port}"
            parameter = (
                "" if listener.transport is Transport.UDP else f";transport={listener.transport.lower()}"
            )
        user = f"{self.config.contact_user}@" if self.config.contact_user else ""
        params = self.config.contact_params if params is None else params
        params = f";{params}" if params else ""
        scheme, parameter = ("sips", "") if sips else ("sip", parameter)
        return f"<{scheme}:{user}{address}{parameter}>{params}"

    def contact_for(self, uri: str, user: str) -> str:
        """Our Contact with another user part, towards `uri`."""
        target = self.targets(uri)[0]
        where = NameAddr.parse(self.contact(target.transport, target.host, target.local, params="")).uri
        assert isinstance(where, SipUri)
        return f"<{replace(where, user=user)}>"

    def contact_for_flow(self, flow: Flow, *, sips: bool = False, params: str | None = None) -> str:
        return self.contact(flow.transport, flow.remote[0], flow.local, sips=sips, params=params)

    def targets(self, uri: str, flow: Flow | None = None) -> list[Target]:
        """Where a request to `uri` goes, the best first. `flow` is the way the dialog's last request came, if any.

        Without a transport parameter it goes by the transport that the dialog runs over, else UDP. Where the peer
        cannot be reached at its Contact, the connection it opened to us still can. Raises `NoTargetError`.
        """
        parsed = parse_uri(uri)
        if not isinstance(parsed, SipUri):
            raise NoTargetError("requests can be sent to SIP URIs only")
        names = {"udp": Transport.UDP, "tcp": Transport.TCP, "tls": Transport.TLS}
        if parsed.transport is not None and parsed.transport not in names:
            raise NoTargetError("a transport that is not ours")
        connected = flow if flow is not None and flow.connection is not None else None
        if parsed.scheme == "sips":
            transport = Transport.TLS
        elif parsed.transport is not None:
            transport = names[parsed.transport]
        else:
            transport = connected.transport if connected else Transport.UDP
        host = parsed.params.get("maddr") or parsed.host
        port = parsed.port or DEFAULT_PORTS[transport]
        local = flow.local if flow is not None and flow.transport is transport is Transport.UDP else None
        targets = [Target(transport, host, port, None, local)]
        if connected is not None:
            back = Target(connected.transport, connected.remote[0], 0, connected.connection, None)
            if transport is connected.transport and (host, port) == connected.remote:
                targets[0] = Target(transport, host, port, connected.connection)
            else:
                targets.append(back)
        return targets

    # -- messages ------------------------------------------------------------------------------------------------

    def response(
        self,
        inbound: InboundRequest,
        status: int,
        *,
        reason: str | None = None,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> SipResponse:
        """A response as ours look: tag, Contact, Record-Route, Allow and Supported where they belong."""
        request, session = inbound.request, inbound.session
        dialog = session.dialog if session else None
        # A response without session gets a tag that stays the same for the transaction, provisional and final.
        tag = None if status == 100 else dialog.local_tag if dialog else inbound.key[-16:]
        response = make_response(request, status, reason=reason, to_tag=tag)
        add = response.headers.add
        forms_dialog = request.method == "INVITE" and 100 < status < 300
        if forms_dialog:
            for route in request.headers.get_all("Record-Route"):
                add("Record-Route", route)
        if forms_dialog or (request.method in ("UPDATE", "OPTIONS") and 200 <= status < 300):
            params = session.contact_params if session else None
            sips = bool(dialog and dialog.secure)
            add("Contact", self.contact_for_flow(inbound.flow, sips=sips, params=params))
        if (200 <= status < 300 and request.method in ("INVITE", "UPDATE", "OPTIONS")) or status == 405:
            add("Allow", ", ".join(self.config.methods))
            add("Supported", ", ".join(self.config.extensions))
        if 200 <= status < 300 and request.method == "OPTIONS" and self.config.accept:
            add("Accept", ", ".join(self.config.accept))
        if status > 100:
            add("Server", self.config.user_agent)
        self.extend(response, headers, body, content_type)
        return response

    @staticmethod
    def extend(
        message: SipRequest | SipResponse, headers: Fields, body: bytes, content_type: str | None
    ) -> None:
        """Add the application's headers (each replaces one of ours of the same name) and body."""
        ours = {name.lower() for name, _ in message.headers}
        for name, value in headers:
            if name.lower() in ours and name.lower() not in ("record-route", "route", "via"):
                message.headers.remove(name)
                ours.discard(name.lower())
            message.headers.add(name, value)
        if body:
            message.headers.set("Content-Type", content_type or "application/sdp")
            message.body = body

    def finish_request(
        self, request: SipRequest, target: Target, *, sips: bool = False, params: str | None = None
    ) -> None:
        """Add what all our requests carry: Contact where it refreshes a target, Allow, Supported, User-Agent."""
        if request.method in ("INVITE", "UPDATE", "OPTIONS", "SUBSCRIBE", "REFER", "NOTIFY"):
            contact = self.contact(target.transport, target.host, target.local, sips=sips, params=params)
            request.headers.add("Contact", contact)
        if request.method in ("INVITE", "UPDATE", "OPTIONS"):
            request.headers.add("Allow", ", ".join(self.config.methods))
            request.headers.add("Supported", ", ".join(self.config.extensions))
        request.headers.add("User-Agent", self.config.user_agent)

    # -- answering and asking ------------------------------------------------------------------------------------

    def answer(self, inbound: InboundRequest, response: SipResponse, now: float) -> bool:
        """Give a response to the transaction. False when it is gone or has its final response."""
        transaction = self.layer.server(inbound.key)
        sent = transaction is not None and self.layer.respond(transaction, response, now)
        if response.status >= 200:
            self._settle(inbound)
        return sent

    def await_answer(self, inbound: InboundRequest, now: float) -> None:
        """Keep a request for the application, but not forever."""
        invite = inbound.method == "INVITE"
        wait = self.config.answer_within if invite else self.config.timers.timeout
        self.inbounds[inbound.key] = inbound
        self.queue.set(("inbound", inbound.key, "late"), now + wait)

    def _settle(self, inbound: InboundRequest) -> None:
        inbound.answered = True
        self.inbounds.pop(inbound.key, None)
        self.queue.cancel(("inbound", inbound.key, "late"))

    def drop(self, inbound: InboundRequest) -> None:
        """Forget a request without an answer."""
        self._settle(inbound)
        transaction = self.layer.server(inbound.key)
        if transaction is not None:
            transaction.discard()

    def refuse(self, inbound: InboundRequest, status: int, now: float, headers: Fields = ()) -> None:
        """Answer with a final response of our own."""
        self.counters[f"refused_{status}"] += 1
        self.answer(inbound, self.response(inbound, status, headers=headers), now)

    def send(
        self,
        request: SipRequest,
        targets: list[Target],
        now: float,
        *,
        session: SipSession | None = None,
        outbound: OutboundRequest | None = None,
        refresh: bool = False,
        branch: str | None = None,
    ) -> OutboundRequest:
        """Send a request in a transaction. `outbound` is given when it is another try. Raises `TooManySessionsError`."""
        transaction = self.layer.request(request, targets, now, branch=branch)
        if transaction is None:
            raise TooManySessionsError("too many SIP transactions")
        if outbound is None:
            outbound = OutboundRequest(request, transaction.key, session, refresh)
        else:
            outbound.request, outbound.key = request, transaction.key
        self.outbounds[transaction.key] = outbound
        return outbound

    # -- sessions ------------------------------------------------------------------------------------------------

    def index(self, session: SipSession, dialog: Dialog) -> None:
        self.dialogs[dialog.key] = session

    def set_timer(self, session: SipSession, name: Hashable, when: float) -> None:
        key = ("session", session.id, name)
        session.timers.add(name)
        self.queue.set(key, when)

    def cancel_timer(self, session: SipSession, name: Hashable) -> None:
        session.timers.discard(name)
        self.queue.cancel(("session", session.id, name))

    def start_session_timer(self, session: SipSession, timer: SessionTimer | None, now: float) -> None:
        """A 2xx set the session timer anew, or (None) ended it."""
        session.timer = timer
        self.cancel_timer(session, "refresh")
        self.cancel_timer(session, "expire")
        if timer is not None:
            self.set_timer(session, "expire", now + timer.expire_after)
            if timer.refresher:
                self.set_timer(session, "refresh", now + timer.refresh_after)

    def learn(self, session: SipSession, message: SipRequest | SipResponse) -> None:
        """Take up what the peer tells of itself."""
        if message.allow:
            session.remote_allow = frozenset(message.allow)
        if "Supported" in message.headers or "Require" in message.headers:
            session.remote_supported = frozenset((*message.supported, *message.require))

    @staticmethod
    def remember_description(session: SipSession, message: SipRequest | SipResponse) -> None:
        """Keep the SDP we sent: a refresh by re-INVITE says it again (RFC 4028, section 7.4)."""
        if carries_sdp(message):
            session.description = (message.headers.get("Content-Type") or "", message.body)

    def end(
        self, session: SipSession, cause: EndCause, now: float, response: SipResponse | None = None
    ) -> None:
        """The session is over: answer what the peer still waits for, forget it, tell the application."""
        if session.state is SessionState.ENDED:
            return
        self.abandon(session, now)
        session.state = SessionState.ENDED
        session.ending = session.ending or cause
        session.final = response
        for name in tuple(session.timers):
            self.cancel_timer(session, name)
        dialogs = [*session.client.early.values(), *([session.dialog] if session.dialog else [])]
        for dialog in dialogs:
            if self.dialogs.get(dialog.key) is session:
                del self.dialogs[dialog.key]
        self.sessions.pop(session.id, None)
        if session.dialog is not None:
            self.restored.pop(
                (session.dialog.call_id, session.dialog.remote_tag, session.server.first_cseq), None
            )
        self.events.append(SessionEnded(session, session.ending, response))

    def abandon(self, session: SipSession, now: float) -> None:
        """The session is ending: requests of theirs that still wait get 487 (section 15.1.2)."""
        server = session.server
        for inbound in (server.invite, server.update):
            if inbound is not None:
                self.answer(inbound, self.response(inbound, 487), now)
        server.invite = server.update = server.reliable = None
        server.waiting.clear()
