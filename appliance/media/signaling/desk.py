"""The recording server at work: SIP events in, recordings and answers out. One per process, in one event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from appliance.config.settings import Settings
from appliance.media.signaling import routing
from appliance.media.signaling.board import Board
from appliance.media.signaling.calls import Call, Leg
from appliance.media.signaling.capture import Worker, Workers
from appliance.media.signaling.certificates import certificate_names
from appliance.media.signaling.conversions import Evidence, request_evidence
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.media.signaling.media import MediaWatch
from appliance.media.signaling.recordings import Recordings
from appliance.media.signaling.routing import Decision, Facts
from appliance.media.signaling.table import TableFile
from appliance.media.sip.endpoint import SipEndpoint
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
from appliance.media.sip.transports import SipTransports
from appliance.media.siprec.bodies import Body, read_body
from appliance.media.siprec.hints import read_hints
from appliance.media.siprec.srs import Change, RecordingSession
from appliance.media.siprec.stitch import Relation, Stitcher
from appliance.model import EarwitnessError, Mark, MarkKind, new_id
from appliance.model.routing import Line, Tenant
from appliance.process.status import WARNING, Status

RETRY_AFTER_S = 5
WORKER_WAIT_S = 3.0
NO_LINE = "CallsWithoutLine"
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


class Desk:
    """Holds the calls. `on_event` is what `SipTransports` calls."""

    def __init__(
        self, settings: Settings, status: Status, table: TableFile, endpoint: SipEndpoint, board: Board
    ) -> None:
        self.settings = settings
        self.status = status
        self.table = table
        self.endpoint = endpoint
        self.board = board
        self.stitcher = Stitcher()
        self.watch = MediaWatch(settings.media.no_media_alarm_s, status)
        self.legs: set[Leg] = set()
        self.recent: dict[str, tuple[int, Call]] = {}  # calls that ended, for what may still belong to them
        self.stopping = False
        self.ended = asyncio.Event()  # a SIP session is over
        self._transports: SipTransports | None = None
        self._workers: Workers | None = None
        self._recordings: Recordings | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes: dict[str, Leg] = {}  # our OPTIONS inside dialogs, by transaction
        self._without_line: set[Leg] = set()

    def connect(self, transports: SipTransports, workers: Workers, recordings: Recordings) -> None:
        """Gives it what could only be made with it at hand."""
        self._transports, self._workers, self._recordings = transports, workers, recordings

    @property
    def transports(self) -> SipTransports:
        assert self._transports is not None
        return self._transports

    @property
    def workers(self) -> Workers:
        assert self._workers is not None
        return self._workers

    @property
    def recordings(self) -> Recordings:
        assert self._recordings is not None
        return self._recordings

    def snapshot(self, leg: Leg) -> dict[str, Any] | None:
        """The dialog as capture remembers it for us; None before our 2xx."""
        return self.endpoint.snapshot(leg.sip) if leg.sip is not None and leg.sip.established else None

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Runs work beside others; a fault in it is logged and counted, never lost."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(ended: asyncio.Task[None]) -> None:
            self._tasks.discard(ended)
            if ended.cancelled() or (error := ended.exception()) is None:
                return
            self.status.count("faults")
            log.error("fault", what=what, exc_info=error)

        task.add_done_callback(done)

    async def idle(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- events ----------------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Sorts what the endpoint tells."""
        match event:
            case IncomingInvite():
                self.spawn(self._guard(self._invite(event), event.inbound), "INVITE")
            case ReInvite(session, inbound) | Update(session, inbound):
                self._of_leg(session, inbound)
            case Acked(session, ack, _) if isinstance(session.user, Leg):
                self.spawn(self._acked(session.user, read_body(ack)), "ACK")
            case Bye(session, request) if isinstance(session.user, Leg):
                session.user.bye.append(request_evidence(request, time.time_ns()))
            case SessionEnded(session, cause):
                self.ended.set()
                if isinstance(session.user, Leg):
                    self.spawn(self.end(session.user, _REASONS.get(cause, "bye")), "end")
            case Prack(_, _, InboundRequest() as inbound):
                self.respond(inbound, 200)
            case IncomingRequest(inbound, session):
                self._request(inbound, session)
            case ResponseReceived(outbound, response, _):
                leg = self._probes.pop(outbound.key, None) if response.status >= 200 else None
                if leg is not None and response.status in (408, 481):
                    self._lost(leg)
                elif response.status >= 200 and outbound.session and isinstance(outbound.session.user, Leg):
                    self.spawn(self.remember(outbound.session.user), "remember")
            case RequestFailed(outbound, _, _):
                leg = self._probes.pop(outbound.key, None)
                if leg is not None:
                    self._lost(leg)

    def _of_leg(self, session: SipSession, inbound: InboundRequest) -> None:
        if isinstance(session.user, Leg):
            self.spawn(
                self._guard(self._change(session.user, inbound, time.time_ns()), inbound), inbound.method
            )
        else:
            self.respond(inbound, 481)

    async def _guard(self, work: Coroutine[Any, Any, None], inbound: InboundRequest) -> None:
        """Whatever goes wrong, the peer gets an answer: it may have another recorder to go to."""
        try:
            await work
        finally:
            if not inbound.answered and (inbound.session is None or inbound.session.live):
                self.respond(inbound, 500, headers=[("Retry-After", str(RETRY_AFTER_S))])

    def respond(
        self,
        inbound: InboundRequest,
        status: int,
        *,
        headers: list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> bool:
        """Answers, and sends it."""
        with self.transports.acting() as now:
            return self.endpoint.respond(
                inbound,
                status,
                now=now,
                headers=headers or (),
                body=body,
                content_type="application/sdp" if body else None,
            )

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
            self.respond(inbound, 200)
        else:
            self.respond(inbound, 405)

    @property
    def _serving(self) -> bool:
        return not self.stopping and self.table.table is not None and self.workers.any_up

    def _elsewhere(self, inbound: InboundRequest) -> None:
        """Another recorder is to be tried (RFC 3261, section 21.5.4)."""
        self.status.count("calls_sent_elsewhere" if inbound.method == "INVITE" else "options_unavailable")
        self.respond(inbound, 503, headers=[("Retry-After", str(RETRY_AFTER_S))])

    # -- a new session -----------------------------------------------------------------------------------------------

    async def _invite(self, event: IncomingInvite) -> None:
        inbound, session = event.inbound, event.session
        now_ns = time.time_ns()
        self.status.count("invites")
        if not self._serving:
            self._elsewhere(inbound)
            return
        body = read_body(inbound.request)
        decision, srs, change = self._plan(inbound, body, now_ns)
        if change.refusal:
            self.status.count("invites_refused")
            self.respond(inbound, change.refusal)
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
                self._drop(leg)
                self._elsewhere(inbound)
                return
            except EarwitnessError:
                self._drop(leg)
                raise
            await self._answer(leg, inbound, has_offer=change.has_offer)
        if event.replaces is not None and event.replaces.session is not None:
            self._replaced(event.replaces.session)

    def _plan(
        self, inbound: InboundRequest, body: Body, now_ns: int
    ) -> tuple[Decision, RecordingSession, Change]:
        """Which line, and what is to be recorded. The line needs the numbers, and the sides of parties need the line."""
        self.table.look()  # a line made a moment ago holds for this call
        assert self.table.table is not None
        hints = read_hints(inbound.request)
        draft = RecordingSession()
        draft.receive(body, hints=hints, ours=lambda number: False, now_ns=now_ns)
        facts = Facts(draft.numbers, inbound.flow.remote[0], certificate_names(inbound.flow.peer_certificate))
        decision = routing.decide(self.table.table, facts)
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
        self.legs.add(leg)
        return leg

    def _call(
        self, event: IncomingInvite, tenant: Tenant, line: Line, srs: RecordingSession, now_ns: int
    ) -> tuple[Call, tuple[str, ...]]:
        replaced = event.replaces.session.user if event.replaces and event.replaces.session else None
        if isinstance(replaced, Leg) and replaced.call.tenant.tenant_id == tenant.tenant_id:
            return replaced.call, (f"continues:{replaced.recording_id}",)
        match = self.stitcher.find(srs.fingerprint(tenant.tenant_id), now_ns)
        if match is None:
            return Call(new_id(), tenant, line, now_ns), ()
        found = self.board.calls.get(match.call_id) or self.recent.get(match.call_id, (0, None))[1]
        if found is None:
            return Call(match.call_id, tenant, line, now_ns), ()
        self.status.count(f"sessions_{match.relation}")
        words = {Relation.DUPLICATE: "duplicate-of", Relation.COMPANION: "companion-of"}
        return found, (f"{words.get(match.relation, 'continues')}:{match.recording_id}",)

    async def _begin(self, leg: Leg, marks: list[Mark], received: list[Evidence], now_ns: int) -> None:
        """Starts the recording, or notes why there is none."""
        if leg.withheld in (routing.NO_LINE, routing.NO_TENANT):
            self._without_line.add(leg)
            self._tell_without_line()
            return
        if leg.withheld in (routing.NOT_CONTRACTED, "stopped"):
            self.status.count(f"calls_not_recorded_{leg.withheld.replace('-', '_')}")
            return
        if leg.withheld:
            # The call is noted and why it is not recorded: a sealed file without any track.
            self.status.count("calls_noted")
            marks = [Mark(kind=MarkKind.NOTE, at_ns=now_ns, reason=leg.withheld)]
        await self.recordings.open(leg, marks, received, now_ns)
        self.stitcher.add(leg.call.call_id, leg.recording_id, leg.srs.fingerprint(leg.call.tenant.tenant_id))

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
        sent = self.endpoint.respond(
            inbound,
            200,
            now=self.transports.now(),
            body=body,
            content_type="application/sdp" if body else None,
        )
        try:
            if sent and leg.sip is not None and leg.sip.established:
                await self.remember(leg)
        finally:
            self.transports.pump()
        if not leg.over:
            self.publish(leg.call)

    def _media_address(self, inbound: InboundRequest) -> str:
        """The address told in SDP: as set, or where the peer reaches us."""
        media = self.settings.media
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

    async def remember(self, leg: Leg) -> None:
        """Gives capture our newest state. Where it is away it will get it with the new part."""
        if leg.over or not leg.open:
            return
        try:
            await self.recordings.remember(leg)
        except EarwitnessError as error:
            log.warning("state not remembered", reason=error.reason, call=leg.call.call_id)

    def publish(self, call: Call) -> None:
        """Tells of a call that belongs to somebody."""
        if call.tenant.tenant_id:
            self.board.publish(call)

    # -- a change ----------------------------------------------------------------------------------------------------

    async def _change(self, leg: Leg, inbound: InboundRequest, at_ns: int) -> None:
        """re-INVITE, UPDATE, or INFO with a body: new media, new parties, or a refresh."""
        body = read_body(inbound.request)
        async with leg.lock:
            if leg.over:
                self.respond(inbound, 481)
                return
            change = leg.srs.receive(body, ours=self.decision(leg.call).ours, now_ns=at_ns)
            if change.refusal:
                self.respond(inbound, change.refusal)
                return
            received = [request_evidence(inbound.request, at_ns)] if inbound.request.body else []
            received += _metadata_evidence(body, at_ns)
            if not leg.withheld and (
                why := routing.withheld(leg.call.line, leg.srs.numbers, leg.srs.direction)
            ):
                await self.withhold(leg, why, received, at_ns)
            elif change.tracks or change.info or change.marks or received:
                await self._tell_capture(leg, change, received, at_ns)
            if leg.recording_id:
                self.stitcher.add(
                    leg.call.call_id, leg.recording_id, leg.srs.fingerprint(leg.call.tenant.tenant_id)
                )
            await self._answer(leg, inbound, has_offer=change.has_offer)

    async def _tell_capture(self, leg: Leg, change: Change, received: list[Evidence], at_ns: int) -> None:
        """Nothing that goes wrong here may fail the request: the answer names the ports there are."""
        for tracks in (change.tracks, tuple(n for n in change.tracks if leg.srs.track(n).rtp_port)):
            try:
                await self.recordings.update(
                    leg, tracks=tracks, info=change.info, made=change.marks, received=received, at_ns=at_ns
                )
            except CaptureUnavailableError:
                # Its new part will say all of this; the answer cannot wait long for it.
                await self._wait_for(leg)
                return
            except EarwitnessError as error:
                self.status.count("changes_refused")
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

    async def withhold(self, leg: Leg, why: str, received: list[Evidence], at_ns: int) -> None:
        """Ends the recording of a call that turns out not to be recorded."""
        leg.withheld = why
        leg.flags = (*leg.flags, why)
        self.status.count("recordings_withheld")
        mark = Mark(kind=MarkKind.STOPPED, at_ns=at_ns, reason=why)
        await self.recordings.close(leg, "stopped", [mark], received, at_ns)
        self.watch.forget(leg)

    def decision(self, call: Call) -> Decision:
        """The call's line, by the newest table where it still has the line."""
        lines = self.table.table.lines if self.table.table is not None else ()
        line = next((one for one in lines if one.line_id == call.line.line_id), call.line)
        return Decision(line, call.tenant)

    async def _acked(self, leg: Leg, body: Body) -> None:
        async with leg.lock:
            if leg.over:
                return
            now_ns = time.time_ns()
            change = leg.srs.answered(body, ours=self.decision(leg.call).ours, now_ns=now_ns)
            if change.tracks or change.info:
                await self._tell_capture(leg, change, [], 0)
                self.publish(leg.call)
            await self.remember(leg)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _replaced(self, old: SipSession) -> None:
        """RFC 3891, section 3: the new session took its place."""
        leg = old.user
        if isinstance(leg, Leg):
            self.spawn(self.end(leg, "replaced"), "replaced")
        with self.transports.acting() as now:
            self.endpoint.bye(old, now=now)

    def _lost(self, leg: Leg) -> None:
        """The recording client does not know the session any more, or is not there."""
        if leg.over or leg.sip is None:
            return
        log.info("source lost", call=leg.call.call_id)
        self.spawn(self.end(leg, "source-lost"), "lost")
        with self.transports.acting() as now:
            self.endpoint.bye(leg.sip, now=now)

    async def end(self, leg: Leg, reason: str, at_ns: int = 0) -> None:
        """Ends a session's recording, once."""
        at_ns = at_ns or time.time_ns()
        async with leg.lock:
            if leg.over:
                return
            leg.over = True
            try:
                await self.recordings.close(leg, reason, [], leg.bye, at_ns)
            finally:
                self._drop(leg)
                if leg.recording_id:
                    self.stitcher.ended(leg.recording_id, at_ns)

    def _drop(self, leg: Leg) -> None:
        leg.over = True
        self.legs.discard(leg)
        self.watch.forget(leg)
        if leg in self._without_line:
            self._without_line.discard(leg)
            self._tell_without_line()
        call = leg.call
        if leg in call.legs:
            call.legs.remove(leg)
            call.past += [one for one in leg.recordings if one not in call.past]
        if not call.legs:
            now_ns = time.time_ns()
            self.recent[call.call_id] = (now_ns, call)
            old = [one for one, (ended_ns, _) in self.recent.items() if now_ns - ended_ns > 150_000_000_000]
            for call_id in old:
                del self.recent[call_id]
        self.publish(call)

    def _tell_without_line(self) -> None:
        count = len(self._without_line)
        if count:
            self.status.count("calls_without_line")
            verb = "call is" if count == 1 else "calls are"
            self.status.raise_condition(
                NO_LINE, WARNING, f"{count} {verb} up that no line takes: not recorded."
            )
        else:
            self.status.clear_condition(NO_LINE)

    # -- is the other side there? ------------------------------------------------------------------------------------

    def probe(self, leg: Leg) -> None:
        """Asks the recording client, inside the dialog, whether the session still exists."""
        if leg.sip is None or not leg.sip.established or leg in self._probes.values():
            return
        self.status.count("probes")
        try:
            with self.transports.acting() as now:
                outbound = self.endpoint.request("OPTIONS", now=now, session=leg.sip)
                self._probes[outbound.key] = leg
        except EarwitnessError as error:
            log.warning("probe not sent", reason=error.reason, call=leg.call.call_id)

    def worker_of(self, recording_id: str) -> Worker | None:
        """The worker that has a recording of ours."""
        return next((leg.worker for leg in self.legs if leg.recording_id == recording_id), None)


def _metadata_evidence(body: Body, at_ns: int) -> list[Evidence]:
    if body.metadata is None:
        return []
    return [Evidence("siprec-metadata", body.metadata_type or "application/xml", body.metadata, at_ns)]
