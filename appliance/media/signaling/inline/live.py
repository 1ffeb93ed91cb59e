"""One live inline call: the core's commands carried to capture one after the other, its timers, what is shown of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from appliance.media.inline.call import InlineCall
from appliance.media.inline.ground import Life
from appliance.media.inline.keeping import AUTOMATIC, Act
from appliance.media.inline.media import Close, Command, Failed, MediaEvent, Outcome, Resume
from appliance.media.signaling.acts import MAX_REFUSED_A_CALL
from appliance.media.signaling.desk import Desk
from appliance.media.signaling.errors import ActionError, CallNotRecordedError, CaptureUnavailableError
from appliance.media.signaling.inline.session import Left, MediaSession
from earwitness.internal.v1 import capture_pb2 as capture
from earwitness.internal.v1 import signaling_pb2 as pb

_STATES = {
    Life.OPENING: pb.CALL_STATE_RINGING,
    Life.ANNOUNCING: pb.CALL_STATE_ANNOUNCING,
    Life.RINGING: pb.CALL_STATE_RINGING,
    Life.WHISPERING: pb.CALL_STATE_WHISPERING,
    Life.ENDED: pb.CALL_STATE_ENDED,
}
_ACTIONS = {
    pb.CALL_ACTION_PAUSE: "pause",
    pb.CALL_ACTION_RESUME: "resume",
    pb.CALL_ACTION_STOP: "end",
}
_BY_NAME = {name: action for action, name in _ACTIONS.items()}
log = structlog.get_logger()


class Registry(Protocol):
    """Who holds the calls."""

    desk: Desk

    def watch_task(self, task: asyncio.Task[None]) -> None: ...

    def published(self, live: LiveInline) -> None: ...

    def forget(self, live: LiveInline) -> None: ...

    def fault(self, error: BaseException) -> None: ...


class LiveInline:
    """See the module."""

    def __init__(self, registry: Registry, core: InlineCall, session: MediaSession) -> None:
        self.registry, self.core, self.session = registry, core, session
        self.call_id = core.call_id
        self.silent: set[int] = set()
        self.lock = asyncio.Lock()
        self.probed = 0.0  # on the monotonic clock, when the parties were asked whether they are there
        self._state = pb.CALL_STATE_UNSPECIFIED
        self._state_since_ns = 0
        self._refused = 0
        self._working: asyncio.Task[None] | None = None
        self._worked = 0.0  # on the monotonic clock, when the last command was done
        self._timer: asyncio.TimerHandle | None = None

    # -- driving the core --------------------------------------------------------------------------------------------

    def drive(self, what: Callable[[], object]) -> None:
        """Does something to the core and sees to what comes of it; the endpoint is pumped by `acting`."""
        with self.registry.desk.transports.acting():
            try:
                what()
            finally:
                self.see_to()

    def see_to(self) -> None:
        """After the core was touched: commands, timer, what is shown and told."""
        core, registry = self.core, self.registry
        if core.ground.commands and (self._working is None or self._working.done()):
            self._working = asyncio.get_running_loop().create_task(self._work())
            registry.watch_task(self._working)
        self._set_timer()
        for note in core.take_notes():
            log.info("inline call", call=self.call_id, note=note)
        for act in core.take_acts():
            self._told(act)
        if core.take_changed():
            registry.published(self)
        if core.ended:
            registry.forget(self)

    def _told(self, act: Act) -> None:
        desk = self.registry.desk
        desk.status.count(f"keypad_{act.action}" + ("_refused" if act.refused else ""))
        # Who it was stands on the recording's timeline; a log holds no numbers.
        log.info("by keypad", call=self.call_id, action=act.action, refused=act.refused or None)
        if act.refused:
            self._refused += 1
            if self._refused > MAX_REFUSED_A_CALL:
                desk.status.count("refusals_not_told")
                return
        desk.acts.tell(self.message(act.at_ns), _BY_NAME[act.action], pb.ACT_BY_AGENT, act.at_ns, act.refused)

    def _resumed(self, command: Command, outcome: Outcome) -> None:
        """Tells of a pause that ended by itself."""
        if (
            isinstance(command, Resume)
            and command.mark.actor == AUTOMATIC
            and not isinstance(outcome, Failed)
        ):
            at_ns = command.mark.at_ns
            self.registry.desk.acts.tell(
                self.message(at_ns), pb.CALL_ACTION_RESUME, pb.ACT_BY_AUTOMATIC, at_ns
            )

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self.core.next_timer()
        if when is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(when, loop.time()), self.drive, self.core.handle_timeout)

    def heard(self, event: MediaEvent) -> None:
        """Capture tells of something."""
        self.drive(lambda: self.core.media(event))

    async def _work(self) -> None:
        """Carries commands out, in order."""
        while True:
            asked = self.core.next_command()
            if asked is None:
                break
            command, then = asked
            async with self.lock:
                try:
                    outcome = await self.session.carry_out(command)
                except Exception as error:  # noqa: BLE001 - the call behind it must not stay half up
                    self.registry.fault(error)
                    outcome = Failed("fault")
                self._resumed(command, outcome)
                try:
                    with self.registry.desk.transports.acting():
                        then(outcome)
                except Exception as error:  # noqa: BLE001 - what else was asked is to be done all the same
                    self.registry.fault(error)
                if not isinstance(command, Close):
                    await self.session.remember()
                elif self.session.left is not None:
                    self._keep_late(self.session.left)
                self._worked = time.monotonic()
        self.drive(lambda: None)

    def _keep_late(self, left: Left) -> None:
        """The call ended while capture was away: what waits in its sockets is kept once capture is back."""
        desk, session = self.registry.desk, self.session
        late = desk.recordings.late.keep(
            left.worker,
            self.call_id,
            lambda: not desk.stopping,
            lambda: session.reopen_left(left),
            lambda: session.close_left(left),
        )
        desk.spawn(late, "late")

    def compare(self, state: capture.SessionState, asked: float) -> None:
        """What capture says of the session, by a list that was asked for then."""
        working = self._working is not None and not self._working.done()
        if working or self.core.ground.commands or self._worked >= asked:
            return
        keeping, ground = self.core.keeping, self.core.ground
        if (state.paused, not state.relay_only) == (ground.paused, ground.recording):
            return
        self.drive(lambda: keeping.compare(paused=state.paused, recording=not state.relay_only))

    # -- from outside ------------------------------------------------------------------------------------------------

    async def act(self, action: pb.CallAction.ValueType, actor: str, reason: str) -> None:
        """Pause, resume or end. Raises CallNotRecordedError, ActionError, CaptureUnavailableError."""
        if action not in _ACTIONS:
            raise ActionError("no such action", field="action")
        told: asyncio.Future[Failed | None] = asyncio.get_running_loop().create_future()

        def outcome(failed: Failed | None) -> None:
            if not told.done():
                told.set_result(failed)

        self.drive(lambda: self.core.act(_ACTIONS[action], actor, reason, outcome))
        failed = await told
        if failed is None:
            return
        if failed.reason == "not-recorded":
            raise CallNotRecordedError("the call is not being recorded", why=self.core.ground.why_not)
        worker = self.session.worker.number if self.session.worker is not None else -1
        raise CaptureUnavailableError("capture has not confirmed it; it holds once it is back", worker=worker)

    def message(self, now_ns: int) -> pb.LiveCall:
        """The call as control is told of it."""
        ground, session = self.core.ground, self.session
        state, detail = self.now_state()
        if state != self._state:
            self._state, self._state_since_ns = state, now_ns
        made = pb.LiveCall(
            call_id=self.call_id,
            tenant_id=session.tenant.tenant_id,
            line_id=session.line.line_id,
            recording_ids=session.shown_recordings,
            state=state,
            started_ns=session.started_ns,
            state_since_ns=self._state_since_ns,
            detail=detail,
            source="inline",
            silent_tracks=sorted(self.silent),
        )
        for one in ground.present:
            made.parties.add(aor=one.aor, name=one.name, role=one.role.value, track=one.track)
        return made

    def now_state(self) -> tuple[pb.CallState.ValueType, str]:
        """What the call is doing, and the detail to it."""
        ground = self.core.ground
        if ground.life is not Life.TALKING:
            return _STATES[ground.life], ground.why_not
        if ground.stopped:
            return pb.CALL_STATE_NOT_RECORDED, f"stopped by {ground.stopped_by}"
        if ground.relay_only or ground.bypass:
            return pb.CALL_STATE_NOT_RECORDED, ground.why_not
        if ground.paused:
            return pb.CALL_STATE_PAUSED, ground.paused_by
        if any(one.held for one in ground.present):
            return pb.CALL_STATE_HELD, ""
        return pb.CALL_STATE_RECORDING, ""

    @property
    def awaited(self) -> list[int]:
        """Tracks on which media should come now."""
        ground = self.core.ground
        if ground.bypass or ground.life is not Life.TALKING:
            return []
        return [one.track for one in ground.present if one.settled and one.side.direction.sends]

    @property
    def timed(self) -> bool:
        """Session timers tell of both parties whether they are there."""
        people = [one.sip for one in self.core.ground.present if one.sip is not None]
        return all(session.timer is not None for session in people)

    @property
    def unrecorded(self) -> bool:
        """It ought to be recorded and is not."""
        ground = self.core.ground
        return ground.why_not.startswith("capture:") and not ground.over

    def close(self) -> None:
        """No timer fires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
