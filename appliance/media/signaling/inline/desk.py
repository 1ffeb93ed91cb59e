"""The inline calls of the process: which INVITEs are theirs, what capture tells of them, and their end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping

import structlog

from appliance.media.inline.call import InlineCall
from appliance.media.inline.ground import Participant
from appliance.media.inline.plan import Plan, is_emergency, make_plan, uri_host
from appliance.media.inline.transfers import Release
from appliance.media.signaling import routing
from appliance.media.signaling.capture import CLOSE_S, Worker
from appliance.media.signaling.certificates import certificate_names
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.inline import memory
from appliance.media.signaling.inline.called import as_written, called_number
from appliance.media.signaling.inline.convert import media_event
from appliance.media.signaling.inline.live import LiveInline
from appliance.media.signaling.inline.neighbours import Neighbours
from appliance.media.signaling.inline.session import MediaSession
from appliance.media.signaling.routing import Decision, Facts
from appliance.media.sip.events import Event, IncomingInvite
from appliance.media.sip.message import SipRequest
from appliance.media.sip.session import SipSession
from appliance.media.siprec.bodies import read_body
from appliance.media.siprec.hints import Hints, read_hints
from appliance.media.siprec.numbers import clean, subscriber
from appliance.model import Direction, EarwitnessError, Mark, MarkKind, new_id
from appliance.model.routing import Line, Tenant
from appliance.process.status import ALARM
from earwitness.internal.v1 import capture_pb2 as pb

NOT_RECORDED = "CallsNotRecorded"
SIGNALING_RESTARTED = "signaling-restart"
_ANY = ("0.0.0.0", "::", "")

log = structlog.get_logger()


class _Clock:
    """The event loop's clock, which is that of the endpoint, and the wall."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ns(self) -> int:
        return time.time_ns()


class InlineDesk:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.calls: dict[str, LiveInline] = {}
        self._by_core: dict[InlineCall, LiveInline] = {}
        self.neighbours = Neighbours()
        self._clock = _Clock()
        self._contacts = {one.username for one in desk.settings.sip.accounts if one.register_uri}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lenders: set[LiveInline] = set()  # calls whose party another one is taking over
        self._unrecorded: set[str] = set()
        self._followers: list[asyncio.Task[None]] = []

    # -- SIP ---------------------------------------------------------------------------------------------------------

    def takes(self, event: IncomingInvite) -> bool:
        """Whether an INVITE is an inline call, and if so begins it. Anything a recording client sends is not."""
        replaced = event.replaces.session if event.replaces is not None else None
        if replaced is not None and isinstance(replaced.user, InlineCall):
            core = replaced.user
            self._drive(core, lambda: core.replace(event, replaced))
            return True
        hints = read_hints(event.inbound.request)
        if hints.recording_client or hints.fork is not None or self.desk.table.table is None:
            return False
        body = read_body(event.inbound.request)
        if body.metadata is not None:
            return False
        decision, called = self._decide(event, hints)
        line = decision.line
        if line is None or line.inline is None or decision.tenant is None:
            return False
        self._begin(event, hints, line, decision.tenant, called)
        return True

    def _decide(self, event: IncomingInvite, hints: Hints) -> tuple[Decision, str]:
        self.desk.table.look()  # a line made a moment ago holds for this call
        table = self.desk.table.table
        assert table is not None
        inbound = event.inbound
        called = called_number(inbound.request, hints, self._contacts)
        numbers = tuple(dict.fromkeys(filter(None, (called, hints.called, hints.calling, *hints.numbers))))
        facts = Facts(numbers, inbound.flow.remote[0], certificate_names(inbound.flow.peer_certificate))
        decision = routing.decide(table, facts)
        if decision.line is None or decision.line.inline is None:
            decision = self.neighbours.behind(table, facts.source, decision.tenant) or decision
        if decision.line is not None and not decision.ours(called) and decision.ours(hints.called):
            called = hints.called
        return decision, called

    def _begin(self, event: IncomingInvite, hints: Hints, line: Line, tenant: Tenant, called: str) -> None:
        desk, inbound = self.desk, event.inbound
        request, source = inbound.request, inbound.flow.remote[0]
        desk.status.count("invites")
        desk.status.count("inline_calls")
        direction = self.neighbours.direction(line, hints.calling, called, source)
        emergency = desk.settings.sip.emergency
        outward = direction is not Direction.INBOUND or is_emergency(called, emergency)
        if outward and not self._from_inside(event, line):
            # Else anybody who can reach the box could call the world at the tenant's cost.
            desk.status.count("inline_refused")
            log.warning("outbound call from outside refused", line=line.line_id)
            desk.respond(inbound, 403)
            return
        plan = make_plan(
            line,
            direction=direction,
            user=as_written(request, called),
            called=called,
            languages=(request.headers.get("Accept-Language") or "")[:1024],
            withheld=routing.withheld(line, (called, hints.calling), direction),
            emergency=emergency,
        )
        core = InlineCall(new_id(), line, plan, desk.endpoint, self._clock, elsewhere=self._elsewhere)
        live = self._live(core, tenant, line, clean(request.call_id, 256), hints.identifiers)
        self.calls[live.call_id] = live
        self._by_core[core] = live
        if plan.withheld:
            desk.status.count(f"calls_not_recorded_{plan.withheld.replace('-', '_')}")

        def begin() -> None:
            core.begin(event)
            self._name(core, request, hints, called)

        live.drive(begin)

    def _live(
        self, core: InlineCall, tenant: Tenant, line: Line, sip_call_id: str, identifiers: tuple[str, ...]
    ) -> LiveInline:
        core.keeping.barred = lambda number: routing.barred(self.desk.table.table, tenant.tenant_id, number)
        session = MediaSession(
            core,
            tenant,
            line,
            self.desk.workers,
            self.desk.settings.media.address,
            lambda track: self.address_for(core, track),
            sip_call_id=sip_call_id,
            identifiers=identifiers,
        )
        return LiveInline(self, core, session)

    @staticmethod
    def _name(core: InlineCall, request: SipRequest, hints: Hints, called: str) -> None:
        caller, callee = core.ground.participants.get(0), core.ground.participants.get(1)
        if caller is not None:
            caller.aor, caller.name = clean(str(request.from_.uri), 1024), hints.calling_name
            caller.number = hints.calling or subscriber(caller.aor)
        if callee is not None:
            callee.aor, callee.number = clean(str(request.uri), 1024), called

    def _from_inside(self, event: IncomingInvite, line: Line) -> bool:
        """Whether it comes from the switchboard, or from what the line names as its trunks."""
        inbound = event.inbound
        source = inbound.flow.remote[0]
        rules = line.inline
        if rules is not None and self.neighbours.among(source, rules.inbound):
            return True
        names = certificate_names(inbound.flow.peer_certificate)
        facts = Facts((), source, names)
        bare = line.model_copy(update={"numbers": (), "catch_all": False})
        table = self.desk.table.table
        assert table is not None
        found = routing.decide(table.model_copy(update={"lines": (bare,)}), facts)
        return found.line is not None

    def _elsewhere(self, mine: InlineCall, session: SipSession) -> tuple[Participant, Release] | None:
        other = session.user
        if not isinstance(other, InlineCall) or other is mine:
            return None
        found = other.lend(session, mine)
        if found is not None and other in self._by_core:
            self._lenders.add(self._by_core[other])
        return found

    def event(self, event: Event) -> bool:
        """Whether an event is of an inline call; then it is told."""
        outbound = getattr(event, "outbound", None)
        session: SipSession | None = getattr(event, "session", None)
        if session is None and outbound is not None:
            session = outbound.session
        core = session.user if session is not None else None
        if not isinstance(core, InlineCall):
            return False
        self._drive(core, lambda: core.sip(event))
        return True

    def _drive(self, core: InlineCall, what: Callable[[], object]) -> None:
        live = self._by_core.get(core)
        if live is None:
            # It has ended: a straggler of its dialogs, which the endpoint has answered.
            with self.desk.transports.acting():
                what()
            return
        live.drive(what)
        for other in list(self._lenders):
            # A transfer between two calls of ours touches both.
            if other is not live:
                other.see_to()
            if other.core.ended:
                self._lenders.discard(other)

    # -- where media comes in ----------------------------------------------------------------------------------------

    def address_for(self, core: InlineCall, track: int) -> str:
        """The address told to a participant: as set, or the one by which the kernel would go to it."""
        media = self.desk.settings.media
        chosen = media.advertised_address or media.address
        if chosen not in _ANY:
            return chosen
        participant = core.ground.participants.get(track)
        flow = participant.sip.flow if participant is not None and participant.sip is not None else None
        if flow is not None:
            host, port = flow.remote
        else:
            known = (uri_host(one.uri) for one in core.ground.plan.destinations)
            host, port = self.neighbours.nearest(known), 5060
        if not host:
            told = (one.place.address for one in core.ground.participants.values() if one.place is not None)
            return next(told, self.desk.settings.sip.advertised_address or "127.0.0.1")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((host, port or 9))  # sends nothing
                return str(probe.getsockname()[0])
            except OSError:
                return self.desk.settings.sip.advertised_address or "127.0.0.1"

    # -- capture -----------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Begins to hear what happens in the media of each worker, and to look up where targets are."""
        if self.desk.table.table is not None:
            self.neighbours.follow_table(self.desk.table.table)
        works = (self.neighbours.run(), *map(self._follow, self.desk.workers.all))
        self._followers = [asyncio.create_task(work) for work in works]
        for task in self._followers:
            task.add_done_callback(self._done)

    async def _follow(self, worker: Worker) -> None:
        while True:
            await worker.up.wait()
            try:
                async for message in worker.watch(pb.WatchMediaRequest()):
                    self._heard(message)
            except EarwitnessError as error:
                log.info("media events away", worker=worker.number, reason=error.reason)
            except Exception as error:  # noqa: BLE001 - keys of all other calls are heard all the same
                self.fault(error)
            await asyncio.sleep(0.1)

    def _heard(self, message: pb.WatchMediaResponse) -> None:
        event = media_event(message)
        if event is None:
            return
        live = next(
            (one for one in self.calls.values() if message.session_id in one.session.recordings), None
        )
        if live is not None and message.session_id == live.session.recording_id:
            live.heard(event)

    def sessions(self) -> set[str]:
        """Sessions in capture that are ours."""
        return {one for live in self.calls.values() for one in live.session.recordings}

    @staticmethod
    def state_of(
        live: LiveInline, worker: Worker, open_there: Mapping[str, pb.SessionState]
    ) -> pb.SessionState | None:
        """What the worker says of a call."""
        session = live.session
        if session.worker is not worker or not session.recordings:
            return None
        return open_there.get(session.recording_id)

    def lost(self, worker: Worker, open_there: set[str], asked: float) -> list[LiveInline]:
        """Calls whose session the worker has lost."""
        return [
            live
            for live in self.calls.values()
            if live.session.worker is worker
            and live.session.recordings
            and live.session.recording_id not in open_there
            and live.session.opened < asked
            and live.core.ground.open
            and not live.core.over
        ]

    async def reopen(self, live: LiveInline, worker: Worker, since_ns: int, cause: str) -> None:
        """See `MediaSession.reopen`."""
        async with live.lock:
            if live.core.over or live.session.worker is not worker:
                return
            await live.session.reopen(worker, since_ns, cause)
        self.desk.status.count("recordings_resumed")
        self.published(live)

    def adopt(self, worker: Worker, state: pb.SessionState) -> None:
        """Takes up a call of our earlier life. Raises ContextError."""
        context = memory.unpack(state.context)
        if context.recordings[-1] != state.session_id:
            raise memory.ContextError("another part of the call is the present one")
        table = self.desk.table.table
        tenants = {one.tenant_id: one for one in table.tenants} if table is not None else {}
        tenant = tenants.get(context.tenant_id) or Tenant(
            tenant_id=context.tenant_id, display_name="", public_key=b""
        )
        plan: Plan = memory.plan_of(context)
        core = InlineCall(
            context.call_id, context.line, plan, self.desk.endpoint, self._clock, elsewhere=self._elsewhere
        )
        memory.restore(context, core, self.desk.endpoint, self._clock)
        live = self._live(core, tenant, context.line, context.sip_call_id, context.identifiers)
        session = live.session
        session.recordings, session.recorded_parts = list(context.recordings), context.recorded_parts
        session.part_started_ns, session.started_ns = context.part_started_ns, context.started_ns
        session.worker = worker
        worker.load += 1
        self.calls[live.call_id] = live
        self._by_core[core] = live
        self.desk.status.count("sessions_restored")
        mark = Mark(kind=MarkKind.RESTARTED, at_ns=time.time_ns(), reason=SIGNALING_RESTARTED)
        live.drive(lambda: core.ground.sync([mark]))
        live.drive(lambda: core.keeping.compare(paused=state.paused, recording=not state.relay_only))

    # -- shown -------------------------------------------------------------------------------------------------------

    def published(self, live: LiveInline) -> None:
        """Tells watchers of a call as it is now, and of calls that ought to be recorded and are not."""
        if live.session.tenant.tenant_id:
            self.desk.board.publish(live)
        before = bool(self._unrecorded)
        if live.unrecorded:
            if live.call_id not in self._unrecorded:
                self.desk.status.count("calls_unrecorded")
            self._unrecorded.add(live.call_id)
        else:
            self._unrecorded.discard(live.call_id)
        if self._unrecorded:
            count = len(self._unrecorded)
            verb = "call is" if count == 1 else "calls are"
            self.desk.status.raise_condition(
                NOT_RECORDED, ALARM, f"{count} {verb} up that ought to be recorded and cannot be."
            )
        elif before:
            self.desk.status.clear_condition(NOT_RECORDED)

    def forget(self, live: LiveInline) -> None:
        """The call is over, and nothing of it is left."""
        if self.calls.pop(live.call_id, None) is None:
            return
        live.close()
        self._by_core.pop(live.core, None)
        self.desk.watch.forget(live)
        self.published(live)

    def fault(self, error: BaseException) -> None:
        """Something of ours went wrong in a call: logged and counted, never lost."""
        self.desk.status.count("faults")
        log.error("fault", what="inline call", exc_info=error)

    def watch_task(self, task: asyncio.Task[None]) -> None:
        """A fault in it is told."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, ended: asyncio.Task[None]) -> None:
        self._tasks.discard(ended)
        if not ended.cancelled() and (error := ended.exception()) is not None:
            self.fault(error)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Hangs up and closes every call; what capture does not confirm in time it ends by itself."""
        for live in list(self.calls.values()):
            live.drive(lambda live=live: live.core.hang_up("shutdown"))  # type: ignore[misc]
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
