"""The user agent server: requests of the peer, from the first INVITE to the BYE. `server_answers` gives the answers."""

from __future__ import annotations

from appliance.media.sip.client_side import ClientSide
from appliance.media.sip.core import Core
from appliance.media.sip.dialog import Dialog
from appliance.media.sip.events import (
    Acked,
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
from appliance.media.sip.flow import Flow
from appliance.media.sip.message import SipRequest
from appliance.media.sip.server_answers import ServerAnswers
from appliance.media.sip.session import SessionState, SipSession, carries_sdp
from appliance.media.sip.transactions import RequestUp
from appliance.media.sip.validate import Policy, check_request


class ServerSide:
    """Takes what the peer asks."""

    def __init__(self, core: Core, client: ClientSide, answers: ServerAnswers) -> None:
        self.core = core
        self.client = client
        self.answers = answers
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
        core.await_answer(inbound, now)
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
        self.answers.final(session, invite, response, now)
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
        self.core.refuse(inbound, 500, now, [("Retry-After", str(self.core.random.randrange(1, 11)))])

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
        self.answers.send_waiting(session, now)

    def receive_ack(self, request: SipRequest, flow: Flow, now: float) -> None:
        """An ACK to a 2xx (section 13.3.1.4). One that fits nothing is a late repeat."""
        session = self.find(request)
        unacked = session.server.unacked.pop(request.cseq.number, None) if session else None
        if session is None or unacked is None:
            self.core.counters["acks_stray"] += 1
            return
        session.flow = flow
        self.answers.stop_repeating(session, request.cseq.number)
        self.core.events.append(Acked(session, request, unacked.inbound))
        self.answers.bye_if_waiting(session, now)
