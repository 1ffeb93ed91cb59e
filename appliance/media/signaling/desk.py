"""The live calls and what may be done with them. One per process, in one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from appliance.config.settings import Settings
from appliance.media.signaling.acts import Acts
from appliance.media.signaling.board import Board
from appliance.media.signaling.calls import STOPPED, Call, Leg
from appliance.media.signaling.capture import Workers
from appliance.media.signaling.conversions import Evidence
from appliance.media.signaling.media import MediaWatch
from appliance.media.signaling.recordings import Recordings
from appliance.media.signaling.routing import Decision
from appliance.media.signaling.table import TableFile
from appliance.media.sip.endpoint import SipEndpoint
from appliance.media.sip.events import InboundRequest
from appliance.media.sip.transports import SipTransports
from appliance.media.siprec.stitch import WINDOW_NS, Stitcher
from appliance.model import EarwitnessError, Mark, MarkKind
from appliance.process.status import WARNING, Status

NO_LINE = "CallsWithoutLine"
UNANSWERED = 2  # questions in a row without an answer, and without media, that mean that the client is gone
UNANSWERED_HELD = 12  # the same during a hold, when they are ten minutes apart

log = structlog.get_logger()


class Desk:
    """Holds the calls."""

    def __init__(
        self, settings: Settings, status: Status, table: TableFile, endpoint: SipEndpoint, board: Board
    ) -> None:
        self.settings = settings
        self.status = status
        self.table = table
        self.endpoint = endpoint
        self.board = board
        self.acts = Acts()
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
            # Since Python 3.12 that does not suspend where all are done, and who is done is taken out by a callback.
            await asyncio.sleep(0)

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

    def decision(self, call: Call) -> Decision:
        """The call's line, by the newest table where it still has the line."""
        lines = self.table.table.lines if self.table.table is not None else ()
        line = next((one for one in lines if one.line_id == call.line.line_id), call.line)
        return Decision(line, call.tenant)

    async def withhold(self, leg: Leg, why: str, received: list[Evidence], at_ns: int) -> None:
        """Ends the recording of a call that turns out not to be recorded."""
        leg.withheld = why
        leg.flags = (*leg.flags, why)
        self.status.count("recordings_withheld")
        mark = Mark(kind=MarkKind.STOPPED, at_ns=at_ns, reason=why)
        await self.recordings.close(leg, "stopped", [mark], received, at_ns)
        self.watch.forget(leg)

    async def stop(self, leg: Leg, mark: Mark) -> None:
        """Ends the recording of a session whose call was stopped; the call goes on."""
        async with leg.lock:
            if leg.over or leg.withheld:
                return
            leg.withheld = STOPPED
            await self.recordings.close(leg, STOPPED, [mark], [], mark.at_ns)
            self.watch.forget(leg)

    # -- the end -----------------------------------------------------------------------------------------------------

    def unanswered(self, leg: Leg) -> None:
        """A question of ours got no answer. That alone ends nothing: a client behind a firewall may have closed its
        connection during a long hold, and comes back by one of its own."""
        leg.unanswered += 1
        if leg.unanswered >= (UNANSWERED_HELD if leg.srs.on_hold else UNANSWERED):
            self.lost(leg)

    def lost(self, leg: Leg) -> None:
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
        # What is asked of its call meanwhile does not wait for a leg that is over.
        try:
            if not await self.recordings.close(leg, reason, [], leg.bye, at_ns):
                await self.recordings.close_later(leg, reason, at_ns, lambda: self._kept_late(leg))
        finally:
            self.drop(leg)
            if leg.recording_id:
                self.stitcher.ended(leg.recording_id, at_ns)

    def _kept_late(self, leg: Leg) -> bool:
        """Whether something may wait in its sockets that is to be kept."""
        heard = any(track.rtp_port for track in leg.srs.tracks)
        return heard and not (self.stopping or leg.withheld or leg.call.paused)

    def drop(self, leg: Leg) -> None:
        """Forgets a session."""
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
            old = [one for one, (ended_ns, _) in self.recent.items() if now_ns - ended_ns > WINDOW_NS]
            for call_id in old:
                del self.recent[call_id]
        self.publish(call)

    def note_without_line(self, leg: Leg) -> None:
        """A call that no line takes: it is answered, and it is a condition of the box."""
        self._without_line.add(leg)
        self._tell_without_line()

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

    def probed(self, key: str) -> Leg | None:
        """The session that a question of ours was about, once: it has its answer."""
        return self._probes.pop(key, None)
