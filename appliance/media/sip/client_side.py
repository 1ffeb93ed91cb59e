"""The user agent client: sessions we begin and requests we send. `client_answers` takes the responses."""

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
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import (
    EndCause,
    OutboundRequest,
)
from appliance.media.sip.flow import Target
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import SessionState, SipSession, is_description
from appliance.media.sip.uri import parse_uri
from appliance.media.sip.values import CSeq, NameAddr, RAck

MAX_EARLY = 16  # early dialogs of one INVITE: forks beyond are not followed
MAX_TRIES = 6  # of one request: challenges, intervals and glare together


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
        contact_params: str | None = None,
    ) -> SipSession:
        """See `SipEndpoint.invite`."""
        core = self.core
        if len(core.sessions) >= core.config.max_sessions:
            raise TooManySessionsError("too many SIP sessions")
        request, targets = self._first_request("INVITE", uri, from_, to, route, target, call_id)
        sips = request.uri.scheme == "sips"
        core.finish_request(request, targets[0], sips=sips, params=contact_params)
        self._ask_for_timer(request, None)
        core.extend(request, headers, body, content_type)
        session = SipSession(core.token(), uas=False, contact_params=contact_params)
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
        core.finish_request(request, targets[0], sips=dialog.secure, params=session.contact_params)
        if method in ("INVITE", "UPDATE"):
            self._ask_for_timer(request, session)
        core.extend(request, headers, body, content_type)
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
            self.send_cancel(session, client.invite, now)

    def send_cancel(self, session: SipSession, invite: OutboundRequest, now: float) -> None:
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
        try:
            if session.client.ack_wanted is not None:
                self.ack(session)  # the offer goes unanswered, but their 2xx must not be repeated
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
        self.send_ack(session, session.dialog, wanted[0], body, content_type)

    def send_ack(
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
        self.send_prack(session, response, now, body, content_type)

    def send_prack(
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

    def again(self, outbound: OutboundRequest, now: float, changes: Fields) -> bool:
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
