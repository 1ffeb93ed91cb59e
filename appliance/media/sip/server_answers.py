"""Our answers to the peer's requests: what they agree, how long they are repeated, and what waits behind them."""

from __future__ import annotations

from appliance.media.sip import session_timer
from appliance.media.sip.client_side import ClientSide
from appliance.media.sip.core import Core, Fields, SessionStateError
from appliance.media.sip.events import (
    AckTimeout,
    EndCause,
    InboundRequest,
)
from appliance.media.sip.flow import Transmit
from appliance.media.sip.message import SipResponse
from appliance.media.sip.session import Reliable, SessionState, SipSession, Unacked, carries_sdp

MAX_WAITING = 16  # reliable provisionals queued behind an unacknowledged one


class ServerAnswers:
    """Gives the answers, and repeats those that must be acknowledged."""

    def __init__(self, core: Core, client: ClientSide) -> None:
        self.core = core
        self.client = client

    # -- our answers ---------------------------------------------------------------------------------------------

    def late(self, key: str, now: float) -> None:
        """The application has not answered. Only an INVITE's client still waits (RFC 4320, section 4.2)."""
        inbound = self.core.inbounds.get(key)
        if inbound is None:
            return
        self.core.counters["requests_left_unanswered"] += 1
        session = inbound.session
        if inbound.method == "INVITE" and session is not None:
            self.final(session, inbound, self.core.response(inbound, 480), now)
            if not session.confirmed:
                self.core.end(session, EndCause.REJECTED, now)
            return
        if session is not None and session.server.update is inbound:
            session.server.update = None
        self.core.drop(inbound)

    def respond(
        self,
        inbound: InboundRequest,
        status: int,
        *,
        now: float,
        reason: str | None,
        headers: Fields,
        body: bytes,
        content_type: str | None,
        reliable: bool,
    ) -> bool:
        """See `SipEndpoint.respond`."""
        core, session = self.core, inbound.session
        if not 100 <= status <= 699:
            raise ValueError("a SIP status is 100 to 699")
        if inbound.answered or inbound.key not in core.inbounds:
            return False
        response = core.response(
            inbound, status, reason=reason, headers=headers, body=body, content_type=content_type
        )
        if session is None or inbound.method not in ("INVITE", "UPDATE"):
            sent = core.answer(inbound, response, now)
            if session is not None and inbound.method == "PRACK" and status >= 200:
                self.send_waiting(session, now)
            return sent
        if inbound.method == "UPDATE":
            return self._respond_update(session, inbound, response, now)
        return self._respond_invite(session, inbound, response, reliable, now)

    def _respond_update(
        self, session: SipSession, inbound: InboundRequest, response: SipResponse, now: float
    ) -> bool:
        timer = self._agree(session, inbound, response) if 200 <= response.status < 300 else None
        sent = self.core.answer(inbound, response, now)
        if response.status < 200:
            return sent
        session.server.update = None
        if sent and response.status < 300:
            self._refreshed(session, inbound, response, timer, now)
        return sent

    def _agree(
        self, session: SipSession, inbound: InboundRequest, response: SipResponse
    ) -> session_timer.SessionTimer | None:
        """Write the session timer into a 2xx (RFC 4028, section 9)."""
        config, request = self.core.config, inbound.request
        supported = "timer" in request.supported or "timer" in request.require
        if "timer" not in config.extensions:
            return None
        agreed = session_timer.answer(
            request.session_expires,
            min_se=max(request.min_se or 0, session.min_se),
            supported=supported,
            wanted=config.session_expires,
        )
        if agreed is None:
            return None
        value, timer = agreed
        response.headers.set("Session-Expires", str(value))
        if supported and value.refresher == "uac":
            response.headers.add("Require", "timer")
        return timer

    def _refreshed(
        self,
        session: SipSession,
        inbound: InboundRequest,
        response: SipResponse,
        timer: session_timer.SessionTimer | None,
        now: float,
    ) -> None:
        """A 2xx to INVITE or UPDATE went out: the target moves, the session timer begins anew."""
        if session.dialog is not None:
            session.dialog.refresh(inbound.request)
        self.core.remember_description(session, response)
        if session.confirmed:
            self.core.start_session_timer(session, timer, now)

    def _respond_invite(
        self, session: SipSession, inbound: InboundRequest, response: SipResponse, reliable: bool, now: float
    ) -> bool:
        request, server, status = inbound.request, session.server, response.status
        if server.invite is not inbound or server.held is inbound:
            return False
        if 100 < status < 200:
            required = "100rel" in request.require
            reliable = required or (reliable and "100rel" in request.supported)
            if session.state is SessionState.CALLING:
                session.state = SessionState.EARLY
        else:
            reliable = False
        behind = server.reliable is not None
        if behind and status < 300 and (reliable or (status >= 200 and server.holds_final)):
            if len(server.waiting) >= MAX_WAITING:
                raise SessionStateError("too many reliable provisionals wait", state=str(session.state))
            server.waiting.append((inbound, response, reliable))
            if status >= 200:
                server.held = inbound
            return True
        return self._send_invite_response(session, inbound, response, reliable, now)

    def _send_invite_response(
        self, session: SipSession, inbound: InboundRequest, response: SipResponse, reliable: bool, now: float
    ) -> bool:
        if response.status >= 200:
            sent = self.final(session, inbound, response, now)
            if response.status >= 300 and not session.confirmed:
                self.core.end(session, EndCause.REJECTED, now, response)
            return sent
        if reliable:
            self._send_reliable(session, inbound, response, now)
        if carries_sdp(response):
            session.server.described = True
        return self.core.answer(inbound, response, now)

    def _send_reliable(
        self, session: SipSession, inbound: InboundRequest, response: SipResponse, now: float
    ) -> None:
        core, server = self.core, session.server
        server.rseq = server.rseq + 1 if server.rseq else core.random.randrange(1, 2**30)
        response.headers.add("Require", "100rel")
        response.headers.set("RSeq", str(server.rseq))
        described = carries_sdp(response)
        server.reliable = Reliable(
            rseq=server.rseq,
            cseq=inbound.request.cseq.number,
            inbound=inbound,
            response=response,
            interval=core.config.timers.t1,
            described=described,
            offered=described and not carries_sdp(inbound.request),
        )
        core.set_timer(session, "1xx", now + core.config.timers.t1)
        core.set_timer(session, "prack", now + core.config.timers.timeout)

    def final(self, session: SipSession, inbound: InboundRequest, response: SipResponse, now: float) -> bool:
        """A final response to an INVITE or re-INVITE goes out."""
        core, server, status = self.core, session.server, response.status
        success = 200 <= status < 300
        timer = self._agree(session, inbound, response) if success else None
        transaction = core.layer.server(inbound.key)
        sent = core.answer(inbound, response, now)
        offered = carries_sdp(response) and not carries_sdp(inbound.request) and not server.described
        if server.reliable is not None:
            server.overtaken = (server.reliable.rseq, server.reliable.cseq)
        server.invite = server.held = server.reliable = None
        server.described = False
        server.waiting.clear()
        core.cancel_timer(session, "1xx")
        core.cancel_timer(session, "prack")
        if not success or transaction is None or session.dialog is None:
            return sent
        session.state = SessionState.ESTABLISHED
        session.dialog.confirmed = True
        self._refreshed(session, inbound, response, timer, now)
        number = inbound.request.cseq.number
        t1 = core.config.timers.t1
        server.unacked[number] = Unacked(response, transaction.target, t1, offered, inbound)
        core.set_timer(session, ("2xx", number), now + t1)
        core.set_timer(session, ("ack", number), now + core.config.timers.timeout)
        return sent

    # -- time ----------------------------------------------------------------------------------------------------

    def timer(self, session: SipSession, name: object, now: float) -> None:
        core, server, timers = self.core, session.server, self.core.config.timers
        if name == "1xx" and server.reliable is not None:
            reliable = server.reliable
            core.answer(reliable.inbound, reliable.response, now)
            reliable.interval *= 2
            core.set_timer(session, "1xx", now + reliable.interval)
        elif name == "prack" and server.reliable is not None:
            response = core.response(server.reliable.inbound, 504)
            self.final(session, server.reliable.inbound, response, now)
            if not session.confirmed:
                core.end(session, EndCause.PRACK_TIMEOUT, now, response)
        elif isinstance(name, tuple) and (unacked := server.unacked.get(name[1])) is not None:
            number = name[1]
            if name[0] == "2xx":
                core.layer.transmits.append(Transmit(unacked.response.serialize(), unacked.target, ""))
                unacked.interval = min(2 * unacked.interval, timers.t2)
                core.set_timer(session, ("2xx", number), now + unacked.interval)
            else:
                del server.unacked[number]
                self.stop_repeating(session, number)
                core.events.append(AckTimeout(session))
                session.ending = session.ending or EndCause.ACK_TIMEOUT
                server.bye_fields = server.bye_fields or ()
                self.bye_if_waiting(session, now)

    def send_waiting(self, session: SipSession, now: float) -> None:
        server = session.server
        while server.waiting and server.reliable is None and session.live:
            self._send_invite_response(session, *server.waiting.popleft(), now)

    def stop_repeating(self, session: SipSession, number: int) -> None:
        self.core.cancel_timer(session, ("2xx", number))
        self.core.cancel_timer(session, ("ack", number))

    def bye_if_waiting(self, session: SipSession, now: float) -> None:
        headers = session.server.bye_fields
        if headers is not None and not session.server.unacked:
            session.server.bye_fields = None
            self.client.send_bye(session, session.ending or EndCause.LOCAL_BYE, now, headers)
