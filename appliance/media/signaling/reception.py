"""What the recording client asks: new sessions, changes, questions. SIP events in, recordings and answers out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from appliance.media.signaling import routing
from appliance.media.signaling.calls import Call, Leg
from appliance.media.signaling.certificates import certificate_names
from appliance.media.signaling.conversions import Evidence, request_evidence
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.media.signaling.inline.accounts import Registrar
from appliance.media.signaling.inline.desk import InlineDesk
from appliance.media.signaling.routing import Decision, Facts
from appliance.media.sip.events import (
    Acked,
    Bye,
    EndCause,
    Event,
    InboundRequest,
    IncomingInvite,
    IncomingRequest,
    Prack,
    ReInvite,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
    Update,
)
from appliance.media.sip.session import SipSession
from appliance.media.siprec.bodies import Body, read_body
from appliance.media.siprec.hints import read_hints
from appliance.media.siprec.srs import Change, RecordingSession
from appliance.media.siprec.stitch import Relation
from appliance.model import EarwitnessError, Mark, MarkKind, new_id
from appliance.model.routing import Line, Tenant

RETRY_AFTER_S = 5
WORKER_WAIT_S = 3.0
_NOBODY = Tenant(tenant_id="", display_name="", public_key=b"")
_NOWHERE = Line(line_id="", tenant_id="", display_name="")
_REASONS = {
    EndCause.REMOTE_BYE: "bye",
    EndCause.CANCELLED: "cancelled",
    EndCause.REJECTED: "refused",
    EndCause.EXPIRED: "session-expired",
    EndCause.ACK_TIMEOUT: "ack-timeout",
    EndCause.PRACK_TIMEOUT: "prack-timeout",
    EndCause.TIMEOUT: "source-lost",
    EndCause.TRANSPORT: "source-lost",
    EndCause.GONE: "source-lost",
}

log = structlog.get_logger()


class Reception:
    """`on_event` is what `SipTransports` calls."""

    def __init__(self, desk: Desk, inline: InlineDesk, registrar: Registrar) -> None:
        self.desk = desk
        self.inline = inline
        self.registrar = registrar

    def on_event(self, event: Event) -> None:
        """Sorts what the endpoint tells."""
        if isinstance(event, SessionEnded):
            self.desk.ended.set()
        if self.inline.event(event) or self.registrar.event(event):
            return
        if isinstance(event, IncomingInvite) and not self.desk.stopping and self._inline_takes(event):
            return
        match event:
            case IncomingInvite():
                self.desk.spawn(self._guard(self._invite(event), event.inbound), "INVITE")
            case ReInvite(session, inbound) | Update(session, inbound):
                self._of_leg(session, inbound)
            case Acked(session, ack, _) if isinstance(session.user, Leg):
                self.desk.spawn(self._acked(session.user, read_body(ack)), "ACK")
            case Bye(session, request) if isinstance(session.user, Leg):
                session.user.bye.append(request_evidence(request, time.time_ns()))
            case SessionEnded(session, cause):
                if isinstance(session.user, Leg):
                    self.desk.spawn(self.desk.end(session.user, _REASONS.get(cause, "bye")), "end")
            case Prack(_, _, InboundRequest() as inbound):
                self.desk.respond(inbound, 200)
            case IncomingRequest(inbound, session):
                self._request(inbound, session)
            case ResponseReceived(outbound, response, _):
                leg = self.desk.probed(outbound.key) if response.status >= 200 else None
                if leg is not None and response.status == 481:
                    self.desk.lost(leg)
                elif leg is not None and response.status == 408:
                    self.desk.unanswered(leg)
                elif leg is not None:
                    leg.unanswered = 0
                    self.desk.spawn(self.desk.remember(leg), "remember")
                elif response.status >= 200 and outbound.session and isinstance(outbound.session.user, Leg):
                    self.desk.spawn(self.desk.remember(outbound.session.user), "remember")
            case RequestFailed(outbound, _, _):
                leg = self.desk.probed(outbound.key)
                if leg is not None:
                    self.desk.unanswered(leg)

    def _inline_takes(self, event: IncomingInvite) -> bool:
        try:
            return self.inline.takes(event)
        except Exception:
            self._failed(event.inbound)
            raise

    def _of_leg(self, session: SipSession, inbound: InboundRequest) -> None:
        if isinstance(session.user, Leg):
            self.desk.spawn(
                self._guard(self._change(session.user, inbound, time.time_ns()), inbound), inbound.method
            )
        else:
            self.desk.respond(inbound, 481)

    async def _guard(self, work: Coroutine[Any, Any, None], inbound: InboundRequest) -> None:
        """Whatever goes wrong, the peer gets an answer: it may have another recorder to go to."""
        try:
            await work
        finally:
            self._failed(inbound)

    def _failed(self, inbound: InboundRequest) -> None:
        if not inbound.answered and (inbound.session is None or inbound.session.live):
            self.desk.respond(inbound, 500, headers=[("Retry-After", str(RETRY_AFTER_S))])

    def _request(self, inbound: InboundRequest, session: SipSession | None) -> None:
        """OPTIONS as a health check; anything else is none of ours, except metadata in an INFO."""
        if inbound.method == "OPTIONS" and session is None and not self._serving:
            self._elsewhere(inbound)
        elif (
            session is not None
            and isinstance(session.user, Leg)
            and inbound.method == "INFO"
            and inbound.request.body
        ):
            self._of_leg(session, inbound)
        elif inbound.method in ("OPTIONS", "INFO"):
            self.desk.respond(inbound, 200)
        else:
            self.desk.respond(inbound, 405)

    @property
    def _serving(self) -> bool:
        return not self.desk.stopping and self.desk.table.table is not None and self.desk.workers.any_up

    def _elsewhere(self, inbound: InboundRequest) -> None:
        """Another recorder is to be tried (RFC 3261, section 21.5.4)."""
        self.desk.status.count(
            "calls_sent_elsewhere" if inbound.method == "INVITE" else "options_unavailable"
        )
        self.desk.respond(inbound, 503, headers=[("Retry-After", str(RETRY_AFTER_S))])

    # -- a new session -----------------------------------------------------------------------------------------------

    async def _invite(self, event: IncomingInvite) -> None:
        inbound, session = event.inbound, event.session
        now_ns = time.time_ns()
        self.desk.status.count("invites")
        if not session.live:
            return  # its CANCEL came with it: the end was told before there was anything to end
        if not self._serving:
            self._elsewhere(inbound)
            return
        body = read_body(inbound.request)
        decision, srs, change = self._plan(inbound, body, now_ns)
        if change.refusal:
            self.desk.status.count("invites_refused")
            self.desk.respond(inbound, change.refusal)
            return
        leg = self._leg(event, decision, srs, now_ns)
        session.user = leg
        if not change.has_offer:
            srs.prepare_offer()
        received = [request_evidence(inbound.request, now_ns), *_metadata_evidence(body, now_ns)]
        async with leg.lock:
            try:
                await self._begin(leg, list(change.marks), received, now_ns)
            except CaptureUnavailableError:
                self.desk.drop(leg)
                self._elsewhere(inbound)
                return
            except EarwitnessError:
                self.desk.drop(leg)
                raise
            await self._answer(leg, inbound, has_offer=change.has_offer)
        if session.live and event.replaces is not None and event.replaces.session is not None:
            self._replaced(event.replaces.session)

    def _plan(
        self, inbound: InboundRequest, body: Body, now_ns: int
    ) -> tuple[Decision, RecordingSession, Change]:
        """Which line, and what is to be recorded. The line needs the numbers, and the sides of parties need the line."""
        self.desk.table.look()  # a line made a moment ago holds for this call
        assert self.desk.table.table is not None
        hints = read_hints(inbound.request)
        draft = RecordingSession()
        draft.receive(body, hints=hints, ours=lambda number: False, now_ns=now_ns)
        facts = Facts(draft.numbers, inbound.flow.remote[0], certificate_names(inbound.flow.peer_certificate))
        decision = routing.decide(self.desk.table.table, facts)
        srs = RecordingSession()
        change = srs.receive(body, hints=hints, ours=decision.ours, now_ns=now_ns)
        return decision, srs, change

    def _leg(self, event: IncomingInvite, decision: Decision, srs: RecordingSession, now_ns: int) -> Leg:
        """The session's place: a call of its own, or one it belongs to."""
        session, request = event.session, event.inbound.request
        flags = decision.flags
        if decision.line is None or decision.tenant is None:
            call = Call(new_id(), _NOBODY, _NOWHERE, now_ns)
            leg = Leg(call, srs, now_ns, session, withheld=decision.reason)
        else:
            call, more = self._call(event, decision.tenant, decision.line, srs, now_ns)
            flags += more
            leg = Leg(call, srs, now_ns, session)
            leg.withheld = routing.withheld(decision.line, srs.numbers, srs.direction)
            if call.stopped:
                leg.withheld = leg.withheld or "stopped"
        leg.flags = flags if not leg.withheld else (*flags, "not-recorded", leg.withheld)
        leg.sip_call_id = request.call_id[:256].encode("utf-8", "replace").decode()
        call.legs.append(leg)
        self.desk.legs.add(leg)
        return leg

    def _call(
        self, event: IncomingInvite, tenant: Tenant, line: Line, srs: RecordingSession, now_ns: int
    ) -> tuple[Call, tuple[str, ...]]:
        replaced = event.replaces.session.user if event.replaces and event.replaces.session else None
        if isinstance(replaced, Leg) and replaced.call.tenant.tenant_id == tenant.tenant_id:
            return replaced.call, (f"continues:{replaced.recording_id}",)
        match = self.desk.stitcher.find(srs.fingerprint(tenant.tenant_id), now_ns)
        if match is None:
            return Call(new_id(), tenant, line, now_ns), ()
        live = self.desk.board.calls.get(match.call_id)
        found = live if isinstance(live, Call) else self.desk.recent.get(match.call_id, (0, None))[1]
        if found is None:
            return Call(match.call_id, tenant, line, now_ns), ()
        self.desk.status.count(f"sessions_{match.relation}")
        words = {Relation.DUPLICATE: "duplicate-of", Relation.COMPANION: "companion-of"}
        return found, (f"{words.get(match.relation, 'continues')}:{match.recording_id}",)

    async def _begin(self, leg: Leg, marks: list[Mark], received: list[Evidence], now_ns: int) -> None:
        """Starts the recording, or notes why there is none."""
        if leg.withheld in (routing.NO_LINE, routing.NO_TENANT):
            self.desk.note_without_line(leg)
            return
        if leg.withheld in (routing.NOT_CONTRACTED, routing.LINE_CLOSED, "stopped"):
            self.desk.status.count(f"calls_not_recorded_{leg.withheld.replace('-', '_')}")
            return
        if leg.withheld:
            # The call is noted and why it is not recorded: a sealed file without any track.
            self.desk.status.count("calls_noted")
            marks = [Mark(kind=MarkKind.NOTE, at_ns=now_ns, reason=leg.withheld)]
        await self.desk.recordings.open(leg, marks, received, now_ns)
        self.desk.stitcher.add(
            leg.call.call_id, leg.recording_id, leg.srs.fingerprint(leg.call.tenant.tenant_id)
        )

    async def _answer(self, leg: Leg, inbound: InboundRequest, *, has_offer: bool) -> None:
        """Our 200. Capture remembers the dialog before the peer can rely on it."""
        wants_sdp = has_offer or inbound.method == "INVITE"
        body = b""
        if wants_sdp:
            address = self._media_address(inbound)
            silent = bool(leg.withheld)
            body = (
                leg.srs.answer(address, silent=silent) if has_offer else leg.srs.offer(address, silent=silent)
            )
        sent = self.desk.endpoint.respond(
            inbound,
            200,
            now=self.desk.transports.now(),
            body=body,
            content_type="application/sdp" if body else None,
        )
        try:
            if sent and leg.sip is not None and leg.sip.established:
                await self.desk.remember(leg)
        finally:
            self.desk.transports.pump()
        if not leg.over:
            self.desk.publish(leg.call)

    def _media_address(self, inbound: InboundRequest) -> str:
        """The address told in SDP: as set, or where the peer reaches us."""
        media = self.desk.settings.media
        chosen = media.advertised_address or media.address
        if chosen not in ("0.0.0.0", "::", ""):
            return chosen
        host, port = inbound.flow.remote
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, port or 9))  # sends nothing: the kernel names the way it would go
                return str(probe.getsockname()[0])
            except OSError:
                return inbound.flow.local[0]

    # -- a change ----------------------------------------------------------------------------------------------------

    async def _change(self, leg: Leg, inbound: InboundRequest, at_ns: int) -> None:
        """re-INVITE, UPDATE, or INFO with a body: new media, new parties, or a refresh."""
        body = read_body(inbound.request)
        async with leg.lock:
            if leg.over:
                self.desk.respond(inbound, 481)
                return
            change = leg.srs.receive(body, ours=self.desk.decision(leg.call).ours, now_ns=at_ns)
            if change.refusal:
                self.desk.respond(inbound, change.refusal)
                return
            received = [request_evidence(inbound.request, at_ns)] if inbound.request.body else []
            received += _metadata_evidence(body, at_ns)
            if not leg.withheld and (
                why := routing.withheld(leg.call.line, leg.srs.numbers, leg.srs.direction)
            ):
                await self.desk.withhold(leg, why, received, at_ns)
            elif change.tracks or change.info or change.marks or received:
                await self._tell_capture(leg, change, received, at_ns)
            if leg.recording_id:
                self.desk.stitcher.add(
                    leg.call.call_id, leg.recording_id, leg.srs.fingerprint(leg.call.tenant.tenant_id)
                )
            await self._answer(leg, inbound, has_offer=change.has_offer)

    async def _tell_capture(self, leg: Leg, change: Change, received: list[Evidence], at_ns: int) -> None:
        """Nothing that goes wrong here may fail the request: the answer names the ports there are."""
        for tracks in (change.tracks, tuple(n for n in change.tracks if leg.srs.track(n).rtp_port)):
            try:
                await self.desk.recordings.update(
                    leg, tracks=tracks, info=change.info, made=change.marks, received=received, at_ns=at_ns
                )
            except CaptureUnavailableError:
                # Its new part will say all of this; the answer cannot wait long for it.
                await self._wait_for(leg)
                return
            except EarwitnessError as error:
                self.desk.status.count("changes_refused")
                log.warning("change refused", reason=error.reason, call=leg.call.call_id)
            else:
                return

    async def _wait_for(self, leg: Leg) -> None:
        """The leg's lock is given up meanwhile, so that the recording can be opened again."""
        leg.resumed.clear()
        leg.lock.release()
        try:
            async with asyncio.timeout(WORKER_WAIT_S):
                await leg.resumed.wait()
        except TimeoutError:
            log.warning("capture away during a change", call=leg.call.call_id)
        finally:
            await leg.lock.acquire()

    async def _acked(self, leg: Leg, body: Body) -> None:
        async with leg.lock:
            if leg.over:
                return
            now_ns = time.time_ns()
            change = leg.srs.answered(body, ours=self.desk.decision(leg.call).ours, now_ns=now_ns)
            if change.tracks or change.info:
                await self._tell_capture(leg, change, [], 0)
                self.desk.publish(leg.call)
            await self.desk.remember(leg)

    def _replaced(self, old: SipSession) -> None:
        """RFC 3891, section 3: the new session took its place."""
        leg = old.user
        if isinstance(leg, Leg):
            self.desk.spawn(self.desk.end(leg, "replaced"), "replaced")
        with self.desk.transports.acting() as now:
            self.desk.endpoint.bye(old, now=now)


def _metadata_evidence(body: Body, at_ns: int) -> list[Evidence]:
    if body.metadata is None:
        return []
    return [Evidence("siprec-metadata", body.metadata_type or "application/xml", body.metadata, at_ns)]
