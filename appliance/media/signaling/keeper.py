"""Holds what we know of recordings against what capture has open: after its death, after ours, and while all is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog

from appliance.media.signaling.calls import STOPPED, Call, Leg
from appliance.media.signaling.capture import CLOSE_S, Worker
from appliance.media.signaling.context import CallContext, SessionContext, unpack
from appliance.media.signaling.conversions import marks
from appliance.media.signaling.desk import UNANSWERED, UNANSWERED_HELD, Desk
from appliance.media.signaling.errors import ContextError
from appliance.media.signaling.inline import memory
from appliance.media.signaling.inline.desk import InlineDesk
from appliance.media.signaling.inline.live import LiveInline
from appliance.media.signaling.parts import CAPTURE_RESTARTED
from appliance.media.siprec.srs import RecordingSession
from appliance.model import EarwitnessError, Kind, Mark, MarkKind
from appliance.model.routing import Line, Tenant
from appliance.process.status import ALARM
from earwitness.internal.v1 import capture_pb2 as pb

SIDE_BY_SIDE = 16  # sessions opened again at once
PROBE_AFTER_S = 60.0  # without media, until the recording client is asked whether it is there
PROBE_EVERY_S = 60.0
QUIET_PROBE_S = 600.0  # between questions to a client that has no session timer and has put the call on hold
NOT_REOPENED = "RecordingsInterrupted"
SIGNALING_RESTARTED = "signaling-restart"

log = structlog.get_logger()


class Keeper:
    """`listed` is called with what a worker has open."""

    def __init__(self, desk: Desk, inline: InlineDesk) -> None:
        self._desk = desk
        self._inline = inline
        self._strays: dict[str, float] = {}  # sessions nobody knows, since when
        self._closing: set[str] = set()  # strays whose end is asked for
        self._good: dict[int, int] = {}  # by worker: when it last had everything, for the gap's beginning
        self._probed: dict[Leg, float] = {}
        self._interrupted: set[Leg] = set()

    async def listed(self, worker: Worker, sessions: list[pb.SessionState], asked: float) -> None:
        """`asked` is the monotonic time at which the list was asked for: what was opened since may not be in it."""
        now_ns = time.time_ns()
        open_there = {state.session_id: state for state in sessions}
        if not worker.met:
            self._adopt(worker, sessions)
        mine = [leg for leg in self._desk.legs if leg.worker is worker and leg.open]
        inline = self._inline.lost(worker, set(open_there), asked)
        lost = [
            leg for leg in mine if leg.recording_id not in open_there and leg.opened < asked and not leg.over
        ]
        if lost or inline:
            limit = asyncio.Semaphore(SIDE_BY_SIDE)
            since_ns = self._good.get(worker.number, now_ns)
            outcomes = await asyncio.gather(
                *(self._reopen_inline(live, worker, since_ns, limit) for live in inline),
                *(self._reopen(leg, worker, since_ns, limit) for leg in lost),
                return_exceptions=True,  # none may be under way still when the next list comes: it would open twice
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
        self._good[worker.number] = now_ns
        for leg in mine:
            state = open_there.get(leg.recording_id)
            if state is None:
                continue
            leg.seen_ns = now_ns
            if not leg.over and not leg.withheld:
                self._compare(leg, state, asked)
                self._look(leg, state, now_ns)
        for live in self._inline.calls.values():
            state = self._inline.state_of(live, worker, open_there)
            if state is None:
                continue
            live.session.seen_ns = now_ns
            if not live.core.over:
                live.compare(state, asked)
                self._look_inline(live, state, now_ns)
        self._close_strays(worker, open_there)
        self._gauges()

    def _gauges(self) -> None:
        status, desk = self._desk.status, self._desk
        status.gauge("calls_live", len(desk.board.calls))
        status.gauge("sessions_live", len(desk.legs))
        for name, value in (*desk.endpoint.counters.items(), *desk.transports.counters.items()):
            status.gauge(f"sip_{name}", value)

    # -- capture died ------------------------------------------------------------------------------------------------

    async def _reopen(self, leg: Leg, worker: Worker, since_ns: int, limit: asyncio.Semaphore) -> None:
        desk = self._desk
        async with limit, leg.lock:
            if leg.over or not leg.open:
                return
            try:
                await desk.recordings.reopen(leg, worker, since_ns, CAPTURE_RESTARTED)
            except EarwitnessError as error:
                # The next list tries again: the port may still be held by what the dead worker left.
                log.error("recording not resumed", reason=error.reason, call=leg.call.call_id)
                self._interrupted.add(leg)
                self._tell()
                if error.kind is Kind.UNAVAILABLE:
                    raise
                return
            desk.status.count("recordings_resumed")
            self._interrupted.discard(leg)
            self._tell()
            desk.stitcher.add(
                leg.call.call_id, leg.recording_id, leg.srs.fingerprint(leg.call.tenant.tenant_id)
            )
        desk.publish(leg.call)

    async def _reopen_inline(
        self, live: LiveInline, worker: Worker, since_ns: int, limit: asyncio.Semaphore
    ) -> None:
        async with limit:
            try:
                await self._inline.reopen(live, worker, since_ns, CAPTURE_RESTARTED)
            except EarwitnessError as error:
                # The next list tries again.
                log.error("media not resumed", reason=error.reason, call=live.call_id)
                if error.kind is Kind.UNAVAILABLE:
                    raise

    def _tell(self) -> None:
        self._interrupted = {leg for leg in self._interrupted if not leg.over}
        status, count = self._desk.status, len(self._interrupted)
        if count:
            status.raise_condition(
                NOT_REOPENED, ALARM, f"After a restart of capture {count} calls are not recorded."
            )
        else:
            status.clear_condition(NOT_REOPENED)

    # -- we died -----------------------------------------------------------------------------------------------------

    def _adopt(self, worker: Worker, sessions: list[pb.SessionState]) -> None:
        """Takes up the sessions of our earlier life."""
        known = {leg.recording_id for leg in self._desk.legs} | self._inline.sessions()
        for state in sessions:
            if state.session_id in known:
                continue
            try:
                if state.context.startswith(memory.MARK):
                    self._inline.adopt(worker, state)
                else:
                    self._restore(worker, state, unpack(state.context))
            except EarwitnessError as error:
                # Nobody can end this session any more; it is closed as a stray.
                log.warning("session not taken up", reason=error.reason, recording=state.session_id)
                self._desk.status.count("sessions_not_restored")

    def _restore(self, worker: Worker, state: pb.SessionState, context: SessionContext) -> None:
        desk = self._desk
        if context.sip is None or not context.recordings or context.recordings[-1] != state.session_id:
            raise ContextError("a session that was never answered")
        session = desk.endpoint.restore(context.sip, desk.transports.now())
        call = self._call(context.call)
        leg = Leg(
            call,
            RecordingSession(context.srs),
            context.started_ns,
            session,
            context.sip_call_id,
            worker,
            list(context.recordings),
            open=True,
            paused_there=state.paused,
            withheld=context.withheld,
            flags=context.flags,
            part_started_ns=state.opened_ns,
        )
        session.user = leg
        call.paused = call.paused or state.paused
        if call.paused and not call.resume_at:
            call.set_resume()  # we died before capture was told of the time
        call.legs.append(leg)
        desk.legs.add(leg)
        worker.load += 1
        desk.stitcher.add(call.call_id, leg.recording_id, leg.srs.fingerprint(call.tenant.tenant_id))
        desk.status.count("sessions_restored")
        desk.publish(call)
        mark = Mark(kind=MarkKind.RESTARTED, at_ns=time.time_ns(), reason=SIGNALING_RESTARTED)
        desk.spawn(self._annotate(leg, [mark]), "annotate")
        if not state.paused:
            # We may have died between capture's word and ours.
            desk.spawn(self._hush(leg, SIGNALING_RESTARTED), "pause")

    async def _hush(self, leg: Leg, reason: str = "") -> None:
        """A call that is paused is paused in all its sessions, or is asked to be again: what is shown as paused must
        not be kept."""
        async with leg.lock:
            if leg.over or leg.withheld or not leg.call.paused or leg.paused_there:
                return
            mark = Mark(
                kind=MarkKind.PAUSED,
                at_ns=time.time_ns(),
                actor=leg.call.paused_by,
                reason=reason,
            )
            try:
                await self._desk.recordings.pause(leg, mark)
            except EarwitnessError as error:
                # Capture that is away opens it again as the call is: paused.
                log.warning("pause not repeated", reason=error.reason, call=leg.call.call_id)

    def _call(self, context: CallContext) -> Call:
        desk = self._desk
        call = next((leg.call for leg in desk.legs if leg.call.call_id == context.call_id), None)
        if call is None:
            table = desk.table.table
            tenants = {one.tenant_id: one for one in table.tenants} if table is not None else {}
            lines = {one.line_id: one for one in table.lines} if table is not None else {}
            call = Call(
                context.call_id,
                tenants.get(context.tenant_id)
                or Tenant(tenant_id=context.tenant_id, display_name="", public_key=b""),
                lines.get(context.line_id)
                or Line(line_id=context.line_id, tenant_id=context.tenant_id, display_name=""),
                context.started_ns,
                state_since_ns=context.state_since_ns,
            )
        call.paused = call.paused or context.paused
        call.paused_by = call.paused_by or context.paused_by
        call.resume_at = call.resume_at or context.resume_at
        call.stopped = call.stopped or context.stopped
        call.stopped_by = call.stopped_by or context.stopped_by
        return call

    # -- commands, or capture's word that they are done, were lost ----------------------------------------------------

    def _compare(self, leg: Leg, state: pb.SessionState, asked: float) -> None:
        """What capture says of a session, by a list that was asked for then, against what was asked of the call."""
        call, desk = leg.call, self._desk
        if leg.told >= asked or leg.lock.locked() or call.lock.locked():
            return
        leg.paused_there = state.paused
        if call.stopped:
            mark = Mark(kind=MarkKind.STOPPED, at_ns=time.time_ns(), actor=call.stopped_by)
            desk.spawn(self._stop(leg, mark), "stop")
        elif call.paused and not state.paused:
            desk.spawn(self._hush(leg), "pause")
        elif state.paused and not call.paused:
            call.paused = True
            call.set_resume()
            desk.publish(call)

    async def _stop(self, leg: Leg, mark: Mark) -> None:
        await self._desk.stop(leg, mark)
        self._desk.publish(leg.call)

    # -- strays ------------------------------------------------------------------------------------------------------

    def _close_strays(self, worker: Worker, open_there: Iterable[str]) -> None:
        """Ends sessions that nobody knows: opened although the answer was lost, or of a call that nobody can end."""
        # A session that is asked to end and is here all the same: the command was lost, or is late.
        ended = {leg.recording_id: leg for leg in self._desk.legs if not leg.open and not leg.lock.locked()}
        known = {leg.recording_id for leg in self._desk.legs} - set(ended) | self._inline.sessions()
        strays = [one for one in open_there if one not in known]
        # Seen twice, so that one which is being opened or closed at this moment is left alone.
        old = [one for one in strays if one in self._strays and one not in self._closing]
        self._strays = {one: self._strays.get(one, time.monotonic()) for one in strays} | {
            one: since
            for one, since in self._strays.items()
            if time.monotonic() - since < 10 and one not in strays
        }
        for recording_id in old:
            leg = ended.get(recording_id)
            self._desk.status.count("sessions_orphaned" if leg is None else "sessions_ended_again")
            request = pb.CloseSessionRequest(session_id=recording_id, reason="orphaned")
            if leg is not None:
                request.reason = STOPPED
                why = "" if leg.call.stopped else leg.withheld
                mark = Mark(
                    kind=MarkKind.STOPPED, at_ns=time.time_ns(), actor=leg.call.stopped_by, reason=why
                )
                request.marks.extend(marks([mark]))
            self._closing.add(recording_id)
            self._desk.spawn(self._close_stray(worker, request), "stray")

    async def _close_stray(self, worker: Worker, request: pb.CloseSessionRequest) -> None:
        """Beside the lists: while the disk stalls an end takes its time, and what was lost is opened again meanwhile."""
        try:
            await worker.ask("CloseSession", request, CLOSE_S)
        except EarwitnessError as error:
            log.warning("stray not closed", reason=error.reason, recording=request.session_id)
        finally:
            self._closing.discard(request.session_id)
            self._strays.pop(request.session_id, None)

    # -- media -------------------------------------------------------------------------------------------------------

    def _look(self, leg: Leg, state: pb.SessionState, now_ns: int) -> None:
        desk = self._desk
        marks, changed = desk.watch.look(leg, state.tracks, now_ns)
        if marks:
            desk.spawn(self._annotate(leg, marks), "annotate")
        if changed:
            desk.publish(leg.call)
        quiet_ns = desk.watch.quiet_since(leg)
        now = time.monotonic()
        asked = self._probed.get(leg, leg.opened)
        waits = quiet_ns and now_ns - quiet_ns > PROBE_AFTER_S * 1e9 and now - asked > PROBE_EVERY_S
        held = not quiet_ns and leg.sip is not None and leg.sip.timer is None and now - asked > QUIET_PROBE_S
        if waits or held:
            self._probed[leg] = now
            desk.probe(leg)
        if len(self._probed) > 2 * len(desk.legs) + 16:
            self._probed = {one: when for one, when in self._probed.items() if not one.over}

    def _look_inline(self, live: LiveInline, state: pb.SessionState, now_ns: int) -> None:
        marks, changed = self._desk.watch.look(live, state.tracks, now_ns)
        if marks:
            live.drive(lambda: live.core.ground.sync(marks))
        if changed:
            self._inline.published(live)
        quiet_ns = self._desk.watch.quiet_since(live)
        now = time.monotonic()
        asked = max(live.probed, live.session.opened)
        waits = quiet_ns and now_ns - quiet_ns > PROBE_AFTER_S * 1e9 and now - asked > PROBE_EVERY_S
        if waits or (not quiet_ns and not live.timed and now - asked > QUIET_PROBE_S):
            live.probed = now
            live.drive(lambda: live.core.presence.ask(UNANSWERED if waits else UNANSWERED_HELD))

    async def _annotate(self, leg: Leg, marks: list[Mark]) -> None:
        async with leg.lock:
            if leg.over:
                return
            try:
                await self._desk.recordings.remember(leg, marks)
            except EarwitnessError as error:
                log.warning("marks not added", reason=error.reason, call=leg.call.call_id)
