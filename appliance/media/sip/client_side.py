"""The user agent client: sessions we begin, requests we send, and what their responses mean."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.media.sip import session_timer
from appliance.media.sip.core import (
    Core,
    Fields,
    NoTargetError,
    SessionBusyError,
    SessionStateError,
    TooManySessionsError,
)
from appliance.media.sip.dialog import Dialog
from appliance.media.sip.digest import answer_challenge
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import (
    Answered,
    EndCause,
    OutboundRequest,
    Provisional,
    RequestFailed,
    ResponseReceived,
)
from appliance.media.sip.flow import Target
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import SessionState, SipSession, carries_sdp, is_description
from appliance.media.sip.transaction import Failure
from appliance.media.sip.transactions import FailureUp, ResponseUp
from appliance.media.sip.uri import parse_uri
from appliance.media.sip.values import CSeq, NameAddr, RAck

MAX_EARLY = 16  # early dialogs of one INVITE: forks beyond are not followed
MAX_TRIES = 6  # of one request: challenges, intervals and glare together
LONGEST_WAIT = 10  # seconds of Retry-After that we sit out in a dialog
CAUSES = {Failure.TIMEOUT: EndCause.TIMEOUT, Failure.TRANSPORT: EndCause.TRANSPORT}


class ClientSide:
    """Asks the peer."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @staticmethod
    def dialog_of(session: SipSession, remote_tag: str) -> Dialog | None:
        """The session's dialog with that remote tag: the one that counts, or an early one of a fork."""
        dialog = session.dialog
        if dialog is not None and dialog.remote_tag == remote_tag:
            return dialog
        return session.client.early.get(remote_tag)

    # -- sending -------------------------------------------------------------------------------------------------

    def invite(
        self,
        uri: str,
        *,
        now: float,
        from_: str,
        to: str | None,
        headers: Fields,
        body: bytes,
        content_type: str | None,
        route: Iterable[str],
        target: Target | None,
        call_id: str | None,
    ) -> SipSession:
        """See `SipEndpoint.invite`."""
        core = self.core
        if len(core.sessions) >= core.config.max_sessions:
            raise TooManySessionsError("too many SIP sessions")
        request, targets = self._first_request("INVITE", uri, from_, to, route, target, call_id)
        core.finish_request(request, targets[0], sips=request.uri.scheme == "sips")
        self._ask_for_timer(request, None)
        core.extend(request, headers, body, content_type)
        session = SipSession(core.token(), uas=False)
        core.remember_description(session, request)
        outbound = core.send(request, targets, now, session=session)
        outbound.targets = targets
        session.client.invite = outbound
        core.sessions[session.id] = session
        return session

    def request(
        self,
        method: str,
        uri: str,
        *,
        now: float,
        from_: str,
        to: str | None,
        headers: Fields,
        body: bytes,
        content_type: str | None,
        route: Iterable[str],
        target: Target | None,
    ) -> OutboundRequest:
        """A request outside of a dialog."""
        core = self.core
        request, targets = self._first_request(method, uri, from_, to, route, target, None)
        core.finish_request(request, targets[0], sips=request.uri.scheme == "sips")
        core.extend(request, headers, body, content_type)
        outbound = core.send(request, targets, now)
        outbound.targets = targets
        return outbound

    def _first_request(
        self,
        method: str,
        uri: str,
        from_: str,
        to: str | None,
        route: Iterable[str],
        target: Target | None,
        call_id: str | None,
    ) -> tuple[SipRequest, list[Target]]:
        """Section 8.1.1."""
        core = self.core
        routes = [NameAddr.parse(value) for value in route]
        request = SipRequest(method, parse_uri(uri), Headers([("Route", str(value)) for value in routes]))
        headers = request.headers
        headers.add("Max-Forwards", "70")
        headers.add("From", str(NameAddr.parse(from_).with_tag(core.token())))
        headers.add("To", str(NameAddr.parse(to if to is not None else f"<{uri}>")))
        headers.add("Call-ID", call_id or core.token() + core.token())
        headers.add("CSeq", str(CSeq(core.random.randrange(1, 10_000), method)))
        next_hop = str(routes[0].uri) if routes else uri
        return request, [target] if target is not None else core.targets(next_hop)

    def _ask_for_timer(self, request: SipRequest, session: SipSession | None) -> None:
        """Session-Expires and Min-SE of an INVITE or UPDATE (RFC 4028, section 7.1)."""
        config = self.core.config
        min_se = session.min_se if session else 0
        timer = session.timer if session else None
        wanted = timer.interval if timer else config.session_expires
        if not wanted or "timer" not in config.extensions or (session and session.confirmed and not timer):
            return
        value = str(max(wanted, min_se, session_timer.SMALLEST))
        if timer is not None:
            value += ";refresher=" + ("uac" if timer.refresher else "uas")
        request.headers.set("Session-Expires", value)
        if min_se:
            request.headers.set("Min-SE", str(min_se))

    def in_dialog(
        self,
        session: SipSession,
        method: str,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
        refresh: bool = False,
        dialog: Dialog | None = None,
        quiet: bool = False,
    ) -> OutboundRequest:
        """Send a request within the session's dialog: to its Contact through the route set."""
        core = self.core
        dialog = dialog or session.dialog
        if dialog is None:
            raise SessionStateError("the session has no dialog yet", state=str(session.state))
        request = dialog.request(method)
        targets = core.targets(dialog.next_hop, session.flow)
        core.finish_request(request, targets[0], sips=dialog.secure)
        if method in ("INVITE", "UPDATE"):
            self._ask_for_timer(request, session)
        core.extend(request, headers, body, content_type)
        if method in ("INVITE", "UPDATE"):
            core.remember_description(session, request)
        outbound = core.send(request, targets, now, session=session, refresh=refresh)
        outbound.targets, outbound.quiet = targets, quiet
        return outbound

    def renegotiate(
        self,
        session: SipSession,
        method: str,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
        content_type: str | None = None,
        refresh: bool = False,
    ) -> OutboundRequest:
        """Send a re-INVITE or UPDATE, where nothing of the kind is pending either way (RFC 3261, 14.1; RFC 3311, 5.1)."""
        client, server = session.client, session.server
        if not session.established and not (method == "UPDATE" and session.state is SessionState.EARLY):
            raise SessionStateError("the session is not established", state=str(session.state))
        update_pending = client.update is not None or server.update is not None
        invite_pending = client.invite is not None or server.invite is not None or client.retry is not None
        offers = is_description(content_type or "application/sdp", body)
        if method == "INVITE" and (invite_pending or update_pending or session.offering):
            raise SessionBusyError("another request that changes the session is pending")
        if method == "UPDATE" and (client.update is not None or client.retry is not None):
            raise SessionBusyError("another UPDATE is pending")
        if method == "UPDATE" and offers and (session.offering or server.undescribed_offer):
            raise SessionBusyError("another offer is pending")
        outbound = self.in_dialog(
            session, method, now, headers=headers, body=body, content_type=content_type, refresh=refresh
        )
        if method == "INVITE":
            client.invite = outbound
        else:
            client.update = outbound
        return outbound

    def cancel(self, session: SipSession, now: float, headers: Fields) -> None:
        """See `SipEndpoint.cancel`. The CANCEL waits for a provisional response (section 9.1)."""
        client = session.client
        if not session.live or session.ending is not None:
            return
        if session.confirmed and not session.uas:
            self.bye(session, now, headers)
            return
        if session.uas or client.invite is None:
            raise SessionStateError("there is no INVITE to cancel", state=str(session.state))
        if client.cancel is None:
            client.cancel = tuple(headers)
            session.state = SessionState.ENDING
        if client.provisional and not client.cancel_sent:
            self._send_cancel(session, client.invite, now)

    def _send_cancel(self, session: SipSession, invite: OutboundRequest, now: float) -> None:
        core, request = self.core, invite.request
        cancel = SipRequest("CANCEL", request.uri)
        for name in ("Route", "Max-Forwards", "From", "To", "Call-ID"):
            for value in request.headers.get_all(name):
                cancel.headers.add(name, value)
        cancel.headers.add("CSeq", str(CSeq(request.cseq.number, "CANCEL")))
        core.extend(cancel, session.client.cancel or (), b"", None)
        transaction = core.layer.client(invite.key)
        targets = [transaction.target] if transaction is not None else invite.targets
        outbound = core.send(cancel, targets, now, session=session, branch=invite.key.partition(" ")[0])
        outbound.quiet = True
        session.client.cancel_sent = True
        core.set_timer(session, "cancel", now + core.config.timers.timeout)

    def bye(self, session: SipSession, now: float, headers: Fields) -> None:
        """See `SipEndpoint.bye`."""
        if session.state is SessionState.ENDED or session.ending is not None:
            return
        if not session.confirmed and not session.uas:
            self.cancel(session, now, headers)
        elif session.server.unacked or session.server.held is not None:
            session.server.bye_fields = tuple(headers)  # section 15: not before the ACK
            session.ending = EndCause.LOCAL_BYE
            if session.confirmed:
                session.state = SessionState.ENDING
        elif not session.confirmed:
            raise SessionStateError("an INVITE is refused, not ended by BYE", state=str(session.state))
        else:
            self.send_bye(session, EndCause.LOCAL_BYE, now, headers)

    def send_bye(self, session: SipSession, cause: EndCause, now: float, headers: Fields = ()) -> None:
        """End a confirmed session now; `SessionEnded` with `cause` follows the answer."""
        session.ending = session.ending or cause
        session.state = SessionState.ENDING
        for name in ("refresh", "expire", "glare"):
            self.core.cancel_timer(session, name)
        self.core.abandon(session, now)
        if session.client.ack_wanted is not None:
            self.ack(session)  # the offer goes unanswered, but their 2xx must not be repeated
        try:
            self.in_dialog(session, "BYE", now, headers=headers)
        except (NoTargetError, SipParseError, TooManySessionsError):
            self.core.counters["byes_not_sent"] += 1
            self.core.end(session, cause, now)

    def ack(self, session: SipSession, *, body: bytes = b"", content_type: str | None = None) -> None:
        """Acknowledge the 2xx that waits for it."""
        wanted = session.client.ack_wanted
        if wanted is None or session.dialog is None:
            raise SessionStateError("no 2xx waits for an ACK", state=str(session.state))
        session.client.ack_wanted = None
        self._send_ack(session, session.dialog, wanted[0], body, content_type)

    def _send_ack(
        self,
        session: SipSession,
        dialog: Dialog,
        number: int,
        body: bytes = b"",
        content_type: str | None = None,
    ) -> None:
        core = self.core
        ack = dialog.request("ACK", number=number)
        core.extend(ack, (), body, content_type)
        core.remember_description(session, ack)
        acks = session.client.acks
        acks[(number, dialog.remote_tag)] = core.layer.send_ack(
            ack, core.targets(dialog.next_hop, session.flow)[0]
        )
        while len(acks) > MAX_EARLY:
            del acks[next(iter(acks))]

    def prack(
        self, session: SipSession, now: float, *, body: bytes = b"", content_type: str | None = None
    ) -> None:
        """Acknowledge the reliable provisional that waits for it."""
        response = session.client.prack_wanted
        if response is None:
            raise SessionStateError("no provisional response waits for a PRACK", state=str(session.state))
        session.client.prack_wanted = None
        self._send_prack(session, response, now, body, content_type)

    def _send_prack(
        self,
        session: SipSession,
        response: SipResponse,
        now: float,
        body: bytes = b"",
        content_type: str | None = None,
    ) -> None:
        dialog = self.dialog_of(session, response.to.tag or "")
        rack = str(RAck(response.rseq or 0, response.cseq))
        self.in_dialog(
            session,
            "PRACK",
            now,
            headers=[("RAck", rack)],
            body=body,
            content_type=content_type,
            dialog=dialog,
        )

    # -- a response comes ----------------------------------------------------------------------------------------

    def receive(self, up: ResponseUp, now: float) -> None:
        core, response = self.core, up.response
        outbound = core.outbounds.get(up.transaction.key)
        if outbound is None:
            core.counters["responses_stray"] += 1
            return
        if response.status >= 200 and outbound.method != "INVITE":
            del core.outbounds[up.transaction.key]
        session = outbound.session
        if response.status in (401, 407) and self._authenticate(outbound, response, now):
            return
        if session is None:
            if not outbound.quiet:
                core.events.append(ResponseReceived(outbound, response))
        elif outbound.quiet:
            return
        elif outbound.method == "INVITE" and not outbound.request.to.tag:
            self._invite_answered(session, outbound, response, now)
        elif outbound.method in ("INVITE", "UPDATE"):
            self._renegotiated(session, outbound, response, now)
        elif outbound.method == "BYE":
            if response.status >= 200:
                core.end(session, session.ending or EndCause.LOCAL_BYE, now, response)
        else:
            core.events.append(ResponseReceived(outbound, response, session))

    def _again(self, outbound: OutboundRequest, now: float, changes: Fields) -> bool:
        """Send a request once more with a higher CSeq and these headers. False when it has had its chances."""
        outbound.tries += 1
        if outbound.tries >= MAX_TRIES:
            return False
        session, request = outbound.session, outbound.request.copy()
        number = request.cseq.number + 1
        if session is not None and session.dialog is not None and request.to.tag:
            number = session.dialog.local_seq = session.dialog.local_seq + 1
        request.headers.set("CSeq", str(CSeq(number, request.method)))
        for name, value in changes:
            request.headers.set(name, value)
        self.core.outbounds.pop(outbound.key, None)
        self.core.send(request, outbound.targets, now, session=session, outbound=outbound)
        return True

    def _authenticate(self, outbound: OutboundRequest, response: SipResponse, now: float) -> bool:
        """Answer a challenge, once for each nonce (section 22.2)."""
        core, credentials = self.core, self.core.config.credentials
        proxy = response.status == 407
        name = "Proxy-Authorization" if proxy else "Authorization"
        challenges = response.headers.get_all("Proxy-Authenticate" if proxy else "WWW-Authenticate")
        stale = any("stale=true" in value.lower().replace('"', "") for value in challenges)
        if credentials is None or outbound.quiet or (outbound.request.headers.get(name) and not stale):
            return False
        value = answer_challenge(
            challenges,
            username=credentials.username,
            password=credentials.password,
            method=outbound.method,
            uri=str(outbound.request.uri),
            cnonce=core.token(),
            body=outbound.request.body,
        )
        return value is not None and self._again(outbound, now, [(name, value)])

    def _invite_answered(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> None:
        status = response.status
        if 200 <= status < 300:
            self._accepted(session, outbound, response, now)
        elif session.client.invite is not outbound:
            return  # of a try that another has followed
        elif status < 200:
            self._provisional(session, outbound, response, now)
        elif (
            status == 422 and session.client.cancel is None and self._larger(session, outbound, response, now)
        ):
            return
        else:
            session.client.invite = None
            cancelled = session.client.cancel is not None
            self.core.end(session, EndCause.CANCELLED if cancelled else EndCause.REJECTED, now, response)

    def _larger(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> bool:
        """A 422: ask again with the interval they want (RFC 4028, section 7.3)."""
        wanted = response.min_se
        asked = outbound.request.session_expires
        if wanted is None or asked is None or wanted <= session.min_se or wanted > 86_400:
            return False
        session.min_se = wanted
        refresher = f";refresher={asked.refresher}" if asked.refresher else ""
        changes = [("Min-SE", str(wanted)), ("Session-Expires", f"{max(wanted, asked.seconds)}{refresher}")]
        return self._again(outbound, now, changes)

    def _provisional(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> None:
        core, client = self.core, session.client
        client.provisional = True
        if client.cancel is not None:
            if not client.cancel_sent:
                self._send_cancel(session, outbound, now)
            return
        tag = response.to.tag
        if response.status == 100 or not tag:
            core.events.append(Provisional(session, response))
            return
        if tag not in client.early:
            if len(client.early) >= MAX_EARLY:
                core.counters["forks_not_followed"] += 1
                return
            dialog = Dialog.as_client(outbound.request, response, secure=True)
            client.early[tag] = dialog
            core.index(session, dialog)
            session.dialog = session.dialog or dialog
            session.state = SessionState.EARLY
        core.learn(session, response)
        if "100rel" not in response.require or response.rseq is None:
            core.events.append(Provisional(session, response))
            return
        last = client.rseq.get(tag)
        if last is not None and response.rseq != last + 1:
            core.counters["provisionals_repeated"] += 1
            return  # a repeat, or out of order: its predecessor will be repeated (RFC 3262, section 4)
        client.rseq[tag] = response.rseq
        wants = carries_sdp(response) and not carries_sdp(outbound.request)
        if wants:
            client.prack_wanted = response
            client.offer_seen = True
        else:
            self._send_prack(session, response, now)
        core.events.append(Provisional(session, response, wants))

    def _accepted(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> None:
        """A 2xx to our INVITE (section 13.2.2.4): the first one makes the session, others repeat it or are forks."""
        core, client, tag = self.core, session.client, response.to.tag or ""
        number = response.cseq.number
        repeated = client.acks.get((number, tag))
        if repeated is not None:
            core.layer.transmits.append(repeated)
            return
        if session.confirmed and session.dialog is not None and session.dialog.remote_tag == tag:
            return  # a repeat, and the application still has to give the answer
        dialog = client.early.pop(tag, None) or Dialog.as_client(outbound.request, response, secure=True)
        settled = session.confirmed or not session.live
        dialog.confirm(response)
        if settled:
            core.counters["forks_ended"] += 1
            self._send_ack(session, dialog, number)
            self.in_dialog(session, "BYE", now, dialog=dialog, quiet=True)
            return
        client.invite = None
        core.cancel_timer(session, "cancel")
        for other in client.early.values():
            core.dialogs.pop(other.key, None)
        client.early.clear()
        session.dialog = dialog
        core.index(session, dialog)
        core.learn(session, response)
        wants_ack = carries_sdp(response) and not carries_sdp(outbound.request) and not client.offer_seen
        if client.cancel is not None:
            self._send_ack(session, dialog, number)
            self.send_bye(session, EndCause.CANCELLED, now)
            return
        session.state = SessionState.ESTABLISHED
        core.start_session_timer(session, session_timer.accept(response.session_expires), now)
        if wants_ack:
            client.ack_wanted = (number, tag)
        else:
            self._send_ack(session, dialog, number)
        core.events.append(Answered(session, response, wants_ack))

    def _renegotiated(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> None:
        """A response to our re-INVITE or UPDATE."""
        core, client, status = self.core, session.client, response.status
        dialog = session.dialog
        if dialog is None or not session.live:
            return
        if status < 200:
            core.events.append(ResponseReceived(outbound, response, session))
            return
        repeated = client.acks.get((response.cseq.number, dialog.remote_tag))
        if outbound.method == "INVITE" and status < 300 and repeated is not None:
            core.layer.transmits.append(repeated)
            return
        if outbound not in (client.invite, client.update):
            return
        self._settle(client_of=session, outbound=outbound)
        wants_ack = False
        if status < 300:
            dialog.refresh(response)
            core.learn(session, response)
            if outbound.method == "INVITE":
                wants_ack = carries_sdp(response) and not carries_sdp(outbound.request)
                if wants_ack and session.established:
                    client.ack_wanted = (response.cseq.number, dialog.remote_tag)
                else:
                    self._send_ack(session, dialog, response.cseq.number)
            if session.established:
                core.start_session_timer(session, session_timer.accept(response.session_expires), now)
        elif session.established and self._second_chance(session, outbound, response, now):
            return
        core.events.append(ResponseReceived(outbound, response, session, wants_ack and session.established))
        if status in (408, 481) and session.established:
            self._gone(session, response, now)

    @staticmethod
    def _settle(*, client_of: SipSession, outbound: OutboundRequest) -> None:
        client = client_of.client
        if client.invite is outbound:
            client.invite = None
        if client.update is outbound:
            client.update = None

    def _second_chance(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> bool:
        """Glare is waited out (section 14.1); an interval too small is raised; a refresh tries the other method."""
        core, client, status = self.core, session.client, response.status
        if status == 422 and self._larger(session, outbound, response, now):
            self._pend(session, outbound)
            return True
        wait = None
        if status == 491:
            # Who made the Call-ID waits longer, so that both do not meet again.
            wait = (
                core.random.randrange(0, 201) / 100 if session.uas else core.random.randrange(210, 401) / 100
            )
        elif status == 500 and response.retry_after is not None and response.retry_after <= LONGEST_WAIT:
            wait = float(response.retry_after)
        if wait is not None and client.retry is None and outbound.tries + 1 < MAX_TRIES:
            client.retry = outbound
            core.set_timer(session, "glare", now + wait)
            return True
        if outbound.refresh and outbound.method == "UPDATE" and status in (405, 420, 488, 501):
            session.remote_allow -= {"UPDATE"}
            core.set_timer(session, "refresh", now)
            return True
        if outbound.refresh and status not in (408, 481):
            core.set_timer(session, "refresh", now + LONGEST_WAIT)  # until the session expires
        return False

    @staticmethod
    def _pend(session: SipSession, outbound: OutboundRequest) -> None:
        if outbound.method == "INVITE":
            session.client.invite = outbound
        else:
            session.client.update = outbound

    def _gone(self, session: SipSession, response: SipResponse, now: float) -> None:
        """The peer no longer knows the dialog (section 12.2.1.2)."""
        if response.status == 481:
            self.core.end(session, EndCause.GONE, now, response)
        else:
            self.send_bye(session, EndCause.GONE, now)

    def failed(self, up: FailureUp, now: float) -> None:
        """A request of ours got no answer."""
        core, cause = self.core, CAUSES[up.failure]
        outbound = core.outbounds.pop(up.transaction.key, None)
        if outbound is None or outbound.quiet:
            return
        session = outbound.session
        if session is None or not session.live:
            if session is None:
                core.events.append(RequestFailed(outbound, cause))
            return
        if outbound.method == "BYE":
            core.end(session, session.ending or cause, now)
        elif outbound.method == "INVITE" and not outbound.request.to.tag:
            session.client.invite = None
            core.end(session, EndCause.CANCELLED if session.client.cancel is not None else cause, now)
        else:
            self._settle(client_of=session, outbound=outbound)
            core.events.append(RequestFailed(outbound, cause, session))
            if outbound.method in ("INVITE", "UPDATE") and session.established:
                if cause is EndCause.TIMEOUT:
                    self.send_bye(session, cause, now)
                elif outbound.refresh:
                    core.set_timer(session, "refresh", now + LONGEST_WAIT)

    # -- time ----------------------------------------------------------------------------------------------------

    def timer(self, session: SipSession, name: object, now: float) -> None:
        client = session.client
        if name == "cancel":
            client.invite = None  # section 9.1: no final response in 64*T1 after the CANCEL
            self.core.end(session, EndCause.CANCELLED, now)
        elif name == "glare" and client.retry is not None:
            outbound, client.retry = client.retry, None
            if session.offering or session.server.invite is not None or session.server.update is not None:
                client.retry = outbound
                self.core.set_timer(session, "glare", now + 1.0)
            elif session.established and self._again(outbound, now, ()):
                self._pend(session, outbound)
