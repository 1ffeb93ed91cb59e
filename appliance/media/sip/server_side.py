"""The user agent server: requests of the peer, from the first INVITE to the BYE, and our answers to them."""

from __future__ import annotations

from appliance.media.sip import session_timer
from appliance.media.sip.client_side import ClientSide
from appliance.media.sip.core import Core, Fields, SessionStateError
from appliance.media.sip.dialog import Dialog
from appliance.media.sip.events import (
    Acked,
    AckTimeout,
    Bye,
    Cancelled,
    EndCause,
    InboundRequest,
    IncomingInvite,
    IncomingRequest,
    Prack,
    ReInvite,
    Replaces,
    Update,
)
from appliance.media.sip.flow import Flow, Transmit
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import Reliable, SessionState, SipSession, Unacked, carries_sdp
from appliance.media.sip.transactions import RequestUp
from appliance.media.sip.validate import Policy, check_request

MAX_WAITING = 16  # reliable provisionals queued behind an unacknowledged one


class ServerSide:
    """Answers what the peer asks."""

    def __init__(self, core: Core, client: ClientSide) -> None:
        self.core = core
        self.client = client
        self._policy = Policy(
            methods=core.config.methods,
            extensions=frozenset(tag.lower() for tag in core.config.extensions),
            content_types=core.config.content_types,
            answers_with=None,
        )

    # -- a request comes -----------------------------------------------------------------------------------------

    def receive(self, up: RequestUp, now: float) -> None:
        core, request = self.core, up.request
        inbound = InboundRequest(request, up.flow, up.transaction.key)
        core.inbounds[inbound.key] = inbound
        if request.method == "CANCEL":
            self._cancel(inbound, core.inbounds.get(up.cancels.key) if up.cancels else None, up, now)
            return
        session = self.find(request)
        inbound.session = session
        problem = check_request(request, self._policy)
        if problem is not None:
            core.refuse(inbound, problem.status, now, problem.headers)
        elif session is not None:
            self._in_dialog(session, inbound, now)
        elif request.to.tag or request.method in ("BYE", "PRACK", "UPDATE", "INFO"):
            core.refuse(inbound, 481, now)
        elif request.method == "INVITE":
            self._invite(inbound, now)
        else:
            core.events.append(IncomingRequest(inbound))

    def find(self, request: SipRequest) -> SipSession | None:
        """The session whose dialog a request of the peer names."""
        tag = request.to.tag
        return self.core.dialogs.get((request.call_id, tag, request.from_.tag or "")) if tag else None

    # -- a new session -------------------------------------------------------------------------------------------

    def _invite(self, inbound: InboundRequest, now: float) -> None:
        core, request = self.core, inbound.request
        if self._repeat_after_restart(inbound, now):
            return
        if len(core.sessions) >= core.config.max_sessions:
            core.refuse(inbound, 503, now, [("Retry-After", "10")])
            return
        if self._too_small(inbound, now):
            return
        replaces = self._replaces(request)
        if replaces is not None and core.config.replaces_must_match:
            old = replaces.session
            if old is None or (old.uas and not old.confirmed):
                core.refuse(inbound, 481, now)
                return
            if replaces.early_only and old.confirmed:
                core.refuse(inbound, 486, now)
                return
        session = SipSession(core.token(), uas=True, flow=inbound.flow)
        secure = inbound.flow.transport == "TLS"
        session.dialog = Dialog.as_server(
            request, core.token(), secure=secure, local_seq=core.random.randrange(1, 10_000)
        )
        session.server.invite = inbound
        session.server.first_cseq = request.cseq.number
        inbound.session = session
        core.learn(session, request)
        core.sessions[session.id] = session
        core.index(session, session.dialog)
        core.events.append(IncomingInvite(session, inbound, replaces))

    def _repeat_after_restart(self, inbound: InboundRequest, now: float) -> bool:
        """An INVITE whose session was restored after a restart: its transaction is lost, its 2xx may be at hand."""
        core, request = self.core, inbound.request
        session = core.restored.get((request.call_id, request.from_.tag or "", request.cseq.number))
        if session is None:
            return False
        core.counters["invites_repeated_after_restart"] += 1
        unacked = session.server.unacked.get(request.cseq.number)
        if unacked is not None:
            core.answer(inbound, unacked.response, now)
        else:
            core.drop(inbound)
        return True

    def _replaces(self, request: SipRequest) -> Replaces | None:
        header = request.replaces
        if header is None:
            return None
        session = self.core.dialogs.get((header.call_id, header.to_tag, header.from_tag))
        return Replaces(header.call_id, header.to_tag, header.from_tag, header.early_only, session)

    def _too_small(self, inbound: InboundRequest, now: float) -> bool:
        """Refuse an interval below ours (RFC 4028, section 9). A client without support for it could not do better."""
        core, request = self.core, inbound.request
        wanted = request.session_expires
        if wanted is None or wanted.seconds >= core.config.min_se or "timer" not in request.supported:
            return False
        core.refuse(inbound, 422, now, [("Min-SE", str(core.config.min_se))])
        return True

    def _cancel(
        self, cancel: InboundRequest, invite: InboundRequest | None, up: RequestUp, now: float
    ) -> None:
        """Section 9.2: a CANCEL is always answered; it ends an INVITE that has no final response yet."""
        core = self.core
        if up.cancels is None:
            core.refuse(cancel, 481, now)
            return
        session = invite.session if invite is not None else None
        cancel.session = session
        core.answer(cancel, core.response(cancel, 200), now)
        if invite is None or session is None or session.server.invite is not invite:
            core.counters["cancels_too_late"] += 1
            return
        response = core.response(invite, 487)
        self._final(session, invite, response, now)
        core.events.append(Cancelled(session, invite))
        if not session.confirmed:
            core.end(session, EndCause.CANCELLED, now, response)

    # -- within a dialog -----------------------------------------------------------------------------------------

    def _in_dialog(self, session: SipSession, inbound: InboundRequest, now: float) -> None:
        core, request = self.core, inbound.request
        dialog = self.client.dialog_of(session, request.from_.tag or "")
        if dialog is None or not dialog.admit(request.cseq.number):
            core.refuse(inbound, 500, now)
            return
        session.flow = inbound.flow
        if request.method == "BYE":
            self._bye(session, inbound, now)
        elif session.state is SessionState.ENDING:
            core.refuse(inbound, 481, now)
        elif request.method == "INVITE":
            self._reinvite(session, inbound, now)
        elif request.method == "UPDATE":
            self._update(session, inbound, now)
        elif request.method == "PRACK":
            self._prack(session, inbound, now)
        else:
            core.events.append(IncomingRequest(inbound, session))

    def _bye(self, session: SipSession, inbound: InboundRequest, now: float) -> None:
        core = self.core
        core.answer(inbound, core.response(inbound, 200), now)
        core.events.append(Bye(session, inbound.request))
        core.end(session, EndCause.REMOTE_BYE, now)

    def _later(self, inbound: InboundRequest, now: float) -> None:
        """500 with a random wait (sections 14.2; RFC 3311, 5.2)."""
        self.core.refuse(inbound, 500, now, [("Retry-After", str(self.core.random.randrange(0, 11)))])

    def _reinvite(self, session: SipSession, inbound: InboundRequest, now: float) -> None:
        core, server = self.core, session.server
        if (
            server.invite is not None
            or (server.update is not None and carries_sdp(server.update.request))
            or not session.established
        ):
            self._later(inbound, now)
        elif session.offering:
            core.refuse(inbound, 491, now)
        elif not self._too_small(inbound, now):
            core.learn(session, inbound.request)
            server.invite = inbound
            core.events.append(ReInvite(session, inbound))

    def _update(self, session: SipSession, inbound: InboundRequest, now: float) -> None:
        """RFC 3311, section 5.2."""
        core, server = self.core, session.server
        offer = carries_sdp(inbound.request)
        if server.update is not None or (offer and server.undescribed_offer):
            self._later(inbound, now)
        elif offer and session.offering:
            core.refuse(inbound, 491, now)
        elif not self._too_small(inbound, now):
            core.learn(session, inbound.request)
            server.update = inbound
            core.events.append(Update(session, inbound))

    def _prack(self, session: SipSession, inbound: InboundRequest, now: float) -> None:
        """RFC 3262, section 3."""
        core, server, rack = self.core, session.server, inbound.request.rack
        reliable = server.reliable
        if rack is not None and (rack.rseq, rack.cseq.number) == server.overtaken:
            core.answer(inbound, core.response(inbound, 200), now)  # the final response did not wait for it
            return
        if (
            reliable is None
            or rack is None
            or (rack.rseq, rack.cseq.number, rack.cseq.method) != (reliable.rseq, reliable.cseq, "INVITE")
        ):
            core.refuse(inbound, 481, now)
            return
        server.reliable = None
        core.cancel_timer(session, "1xx")
        core.cancel_timer(session, "prack")
        if inbound.request.body:
            core.events.append(Prack(session, inbound.request, inbound))
            return  # what waits goes out after the answer
        core.answer(inbound, core.response(inbound, 200), now)
        core.events.append(Prack(session, inbound.request, None))
        self._send_waiting(session, now)

    def _send_waiting(self, session: SipSession, now: float) -> None:
        server = session.server
        while server.waiting and server.reliable is None and session.live:
            self._send_invite_response(session, *server.waiting.popleft(), now)

    def receive_ack(self, request: SipRequest, flow: Flow, now: float) -> None:
        """An ACK to a 2xx (section 13.3.1.4). One that fits nothing is a late repeat."""
        session = self.find(request)
        unacked = session.server.unacked.pop(request.cseq.number, None) if session else None
        if session is None or unacked is None:
            self.core.counters["acks_stray"] += 1
            return
        session.flow = flow
        self._stop_repeating(session, request.cseq.number)
        self.core.events.append(Acked(session, request, unacked.inbound))
        self._bye_if_waiting(session, now)

    def _stop_repeating(self, session: SipSession, number: int) -> None:
        self.core.cancel_timer(session, ("2xx", number))
        self.core.cancel_timer(session, ("ack", number))

    def _bye_if_waiting(self, session: SipSession, now: float) -> None:
        headers = session.server.bye_fields
        if headers is not None and not session.server.unacked:
            session.server.bye_fields = None
            self.client.send_bye(session, session.ending or EndCause.LOCAL_BYE, now, headers)

    # -- our answers ---------------------------------------------------------------------------------------------

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
                self._send_waiting(session, now)
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
            sent = self._final(session, inbound, response, now)
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

    def _final(self, session: SipSession, inbound: InboundRequest, response: SipResponse, now: float) -> bool:
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
            self._final(session, server.reliable.inbound, response, now)
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
                self._stop_repeating(session, number)
                core.events.append(AckTimeout(session))
                session.ending = session.ending or EndCause.ACK_TIMEOUT
                server.bye_fields = server.bye_fields or ()
                self._bye_if_waiting(session, now)
