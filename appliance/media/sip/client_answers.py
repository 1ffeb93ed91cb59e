"""What the responses to our requests mean: sessions made, refused, changed and ended."""

from __future__ import annotations

from appliance.media.sip import session_timer
from appliance.media.sip.client_side import MAX_EARLY, MAX_TRIES, ClientSide
from appliance.media.sip.core import (
    Core,
)
from appliance.media.sip.dialog import Dialog
from appliance.media.sip.digest import answer_challenge
from appliance.media.sip.events import (
    Answered,
    EndCause,
    OutboundRequest,
    Provisional,
    RequestFailed,
    ResponseReceived,
)
from appliance.media.sip.message import SipResponse
from appliance.media.sip.session import SessionState, SipSession, carries_sdp
from appliance.media.sip.transaction import Failure
from appliance.media.sip.transactions import FailureUp, ResponseUp

LONGEST_WAIT = 10  # seconds of Retry-After that we sit out in a dialog
CAUSES = {Failure.TIMEOUT: EndCause.TIMEOUT, Failure.TRANSPORT: EndCause.TRANSPORT}


class ClientAnswers:
    """Takes the responses, and the lack of them."""

    def __init__(self, core: Core, client: ClientSide) -> None:
        self.core = core
        self.client = client

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

    def _authenticate(self, outbound: OutboundRequest, response: SipResponse, now: float) -> bool:
        """Answer a challenge, once for each nonce (section 22.2)."""
        core, chosen = self.core, self.core.config.credentials
        credentials = chosen(outbound.request) if callable(chosen) else chosen
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
            only_realm=credentials.realm,
        )
        return value is not None and self.client.again(outbound, now, [(name, value)])

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
        return self.client.again(outbound, now, changes)

    def _provisional(
        self, session: SipSession, outbound: OutboundRequest, response: SipResponse, now: float
    ) -> None:
        core, client = self.core, session.client
        client.provisional = True
        if client.cancel is not None:
            if not client.cancel_sent:
                self.client.send_cancel(session, outbound, now)
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
            self.client.send_prack(session, response, now)
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
            self.client.send_ack(session, dialog, number)
            self.client.in_dialog(session, "BYE", now, dialog=dialog, quiet=True)
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
            self.client.send_ack(session, dialog, number)
            self.client.send_bye(session, EndCause.CANCELLED, now)
            return
        session.state = SessionState.ESTABLISHED
        core.start_session_timer(session, session_timer.accept(response.session_expires), now)
        if wants_ack:
            client.ack_wanted = (number, tag)
        else:
            self.client.send_ack(session, dialog, number)
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
            # Only now: an offer that was refused is not what a refresh may say again (RFC 4028, section 7.4).
            core.remember_description(session, outbound.request)
            dialog.refresh(response)
            core.learn(session, response)
            if outbound.method == "INVITE":
                wants_ack = carries_sdp(response) and not carries_sdp(outbound.request)
                if wants_ack and session.established:
                    client.ack_wanted = (response.cseq.number, dialog.remote_tag)
                else:
                    self.client.send_ack(session, dialog, response.cseq.number)
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
            self.client.send_bye(session, EndCause.GONE, now)

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
                    self.client.send_bye(session, cause, now)
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
            elif session.established and self.client.again(outbound, now, ()):
                self._pend(session, outbound)
