"""What capture does for one inline call: its session there, opened, changed, played to, and opened again after a death."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from appliance.media.inline.call import InlineCall
from appliance.media.inline.media import (
    Change,
    Close,
    Command,
    Done,
    EndRecording,
    Failed,
    Open,
    Opened,
    Outcome,
    Pause,
    Play,
    Resume,
    StopPlaying,
    Tone,
    TrackPlan,
)
from appliance.media.inline.negotiation import Place
from appliance.media.signaling.capture import CLOSE_S, Worker, Workers
from appliance.media.signaling.conversions import info_json, marks
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.media.signaling.inline import memory
from appliance.media.signaling.inline.convert import (
    TONES,
    evidence,
    payload_type,
    recording_info,
    track_spec,
)
from appliance.media.signaling.parts import CAPTURE_RESTARTED, seam
from appliance.media.signaling.routing import DO_NOT_RECORD
from appliance.model import EarwitnessError, Kind, Mark, MarkKind, new_id
from appliance.model.routing import Line, Tenant
from earwitness.internal.v1 import capture_pb2 as capture

_COMMAND_S = 2.0  # a call waits for its media; where capture takes longer it goes on without

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Left:
    """A recording that could not be closed because its worker was gone; what came since waits in the sockets."""

    worker: Worker
    close: Close


class MediaSession:
    """See the module. `recordings` are the ids of its parts; the last one is the session that capture has open.

    `address` binds the sockets; `address_for` gives the address that a participant (by its track) is told.
    """

    def __init__(
        self,
        core: InlineCall,
        tenant: Tenant,
        line: Line,
        workers: Workers,
        address: str,
        address_for: Callable[[int], str],
        *,
        sip_call_id: str = "",
        identifiers: tuple[str, ...] = (),
    ) -> None:
        self.core = core
        self.tenant, self.line = tenant, line
        self.sip_call_id, self.identifiers = sip_call_id, identifiers
        self.started_ns = core.ground.started_ns
        self.recordings: list[str] = []
        self.recorded_parts = 0
        self.part_started_ns = 0
        self.worker: Worker | None = None
        self.opened = 0.0  # on the monotonic clock, when capture last opened it
        self.seen_ns = 0  # when capture last said that it has it open
        self.left: Left | None = None
        self._plans: dict[int, TrackPlan] = {}  # each track as capture has it
        self._workers, self._address, self._address_for = workers, address, address_for
        self._keep_from_ns = 0
        self._remembered = b""

    @property
    def call_id(self) -> str:
        return self.core.call_id

    async def carry_out(self, command: Command) -> Outcome:
        """Does what the core asks."""
        try:
            return await self._do(command)
        except CaptureUnavailableError as error:
            return Failed(error.reason, away=True)
        except EarwitnessError as error:
            return Failed(error.reason, away=error.kind is Kind.NOT_FOUND)

    async def _do(self, command: Command) -> Outcome:
        match command:
            case Open():
                return await self._open(command)
            case Change(tracks, made, received, at_ns):
                # What is not to be kept is not, whether capture hears of it or not.
                unheld = (mark.at_ns for mark in made if mark.kind is MarkKind.UNHELD)
                self._keep_from_ns = max([self._keep_from_ns, *unheld])
                self._plans.update({plan.number: plan for plan in tracks if not plan.active})
                answer = await self.ask(
                    "UpdateSession",
                    capture.UpdateSessionRequest(
                        session_id=self.recording_id,
                        tracks=[track_spec(plan) for plan in tracks],
                        info_json=self.info() if tracks else b"",
                        marks=marks(made),
                        evidence=evidence(received),
                        at_ns=at_ns,
                    ),
                )
                self._plans.update({plan.number: plan for plan in tracks})
                return self.places(answer.ports)
            case Play():
                return await self._play(command)
            case StopPlaying(play_id):
                await self.ask(
                    "StopPlaying", capture.StopPlayingRequest(session_id=self.recording_id, play_id=play_id)
                )
            case Pause(mark):
                await self.ask("PauseSession", self._marked(capture.PauseSessionRequest, mark))
            case Resume(mark):
                self._keep_from_ns = mark.at_ns
                await self.ask("ResumeSession", self._marked(capture.ResumeSessionRequest, mark))
            case EndRecording(mark):
                await self._close(Close("stopped", (mark,), (), mark.at_ns), keep=True)
            case Close():
                await self._close(command, keep=False)
        return Done()

    def _marked(self, kind: Callable[..., Any], mark: Mark) -> Any:
        return kind(session_id=self.recording_id, at_ns=mark.at_ns, mark=marks([mark])[0])

    @property
    def recording_id(self) -> str:
        """The session in capture: the recording's present part, or what relays without one. CaptureUnavailableError
        where there is none."""
        if not self.recordings:
            raise CaptureUnavailableError("the call has no media", worker=-1)
        return self.recordings[-1]

    @property
    def shown_recordings(self) -> list[str]:
        return self.recordings[: self.recorded_parts]

    def info(self) -> bytes:
        ground = self.core.ground
        if ground.relay_only or not self.recordings:
            return b""
        return info_json(
            recording_info(
                ground,
                self.recording_id,
                part=len(self.recordings),
                started_ns=self.part_started_ns or self.started_ns,
                sip_call_id=self.sip_call_id,
                identifiers=self.identifiers,
            )
        )

    async def ask(self, method: str, request: object) -> Any:
        """A command on the session."""
        if self.worker is None:
            raise CaptureUnavailableError("the call has no media", worker=-1)
        return await self.worker.ask(method, request, _COMMAND_S)

    def places(self, ports: Iterable[capture.TrackPorts]) -> Opened:
        """Where each participant sends to."""
        found = {}
        for one in ports:
            found[one.track] = Place(self._address_for(one.track), one.rtp_port, one.rtcp_port)
        return Opened(found)

    async def _open(self, command: Open) -> Outcome:
        """In the least busy worker that takes it."""
        failed: Outcome = Failed("CAPTURE_UNAVAILABLE", away=True)
        self.part_started_ns = time.time_ns()
        for worker in self._workers.by_load():
            if not worker.up.is_set():
                continue
            self.recordings = [new_id()]
            self.worker = worker
            worker.load += 1
            try:
                answer = await worker.ask("OpenSession", self._open_request(command), _COMMAND_S)
            except EarwitnessError as error:
                worker.load -= 1
                self.worker = None
                failed = Failed(error.reason, away=error.kind is Kind.UNAVAILABLE)
                log.warning(
                    "session not opened", worker=worker.number, reason=error.reason, call=self.call_id
                )
                continue
            self.opened = time.monotonic()
            self._plans = {plan.number: plan for plan in command.tracks}
            self.recorded_parts = 0 if command.relay_only else 1
            return self.places(answer.ports)
        self.recordings = []
        return failed

    def _open_request(
        self, command: Open, *, again: bool = False, context: bytes = b""
    ) -> capture.OpenSessionRequest:
        ground = self.core.ground
        ports = {
            track: one.place.rtp_port for track, one in ground.participants.items() if one.place is not None
        }
        request = capture.OpenSessionRequest(
            session_id=self.recording_id,
            tracks=[track_spec(plan, ports.get(plan.number, 0) if again else 0) for plan in command.tracks],
            context=context or memory.pack(self),
            address=self._address,
            relay_only=command.relay_only,
            keep_from_ns=self._keep_from_ns if again else 0,
        )
        if not command.relay_only:
            request.tenant_id, request.line_id = self.tenant.tenant_id, self.line.line_id
            request.tenant_public_key = self.tenant.public_key
            request.info_json = self.info()
            request.evidence.extend(evidence(command.evidence))
            request.marks.extend(marks(command.marks))
        return request

    def _next_part(self, gap_from_ns: int, cause: str) -> tuple[Mark, ...]:
        """Begins a part behind the present one; the marks that say why."""
        self.part_started_ns, made = seam(self.recording_id, self.part_started_ns, gap_from_ns, cause)
        self.recordings.append(new_id())
        return made

    async def reopen(self, worker: Worker, gap_from_ns: int, cause: str) -> None:
        """The worker died and is back: media and recording go on, on the same ports. The caller holds the lock."""
        ground = self.core.ground
        recorded = not (ground.relay_only or ground.stopped)
        made = self._next_part(gap_from_ns, cause)
        plans = tuple(ground.tracks())
        hushed = ground.paused and recorded
        opening = tuple(replace(plan, active=False) for plan in plans) if hushed else plans
        try:
            await worker.ask(
                "OpenSession",
                self._open_request(Open(opening, made if recorded else (), (), not recorded), again=True),
            )
            if hushed:
                mark = Mark(kind=MarkKind.PAUSED, at_ns=time.time_ns(), actor=ground.paused_by)
                await worker.ask("PauseSession", self._marked(capture.PauseSessionRequest, mark))
                await worker.ask(
                    "UpdateSession",
                    capture.UpdateSessionRequest(
                        session_id=self.recording_id, tracks=[track_spec(plan) for plan in plans]
                    ),
                )
        except EarwitnessError:
            self.recordings.pop()
            raise
        ground.telling.opened(plans)
        self._plans = {plan.number: plan for plan in plans}
        self.opened = time.monotonic()
        if recorded:
            self.recorded_parts = len(self.recordings)

    async def _play(self, command: Play) -> Outcome:
        request = capture.PlayRequest(
            session_id=self.recording_id,
            play_id=command.play_id,
            track=command.track,
            payload_type=payload_type(command.codec),
            repeat=command.repeat,
            interruptible=command.interruptible,
        )
        if isinstance(command.sound, Tone):
            request.tone = TONES[command.sound]
        else:
            request.prompt_id = command.sound
        if command.record_track >= 0:
            request.record_track = command.record_track
        answer = await self.ask("Play", request)
        return Done(answer.at_ns, answer.duration_ms)

    async def _close(self, close: Close, *, keep: bool) -> None:
        if self.worker is None:
            return
        request = capture.CloseSessionRequest(
            session_id=self.recording_id,
            reason=close.reason,
            marks=marks(close.marks),
            evidence=evidence(close.evidence),
            at_ns=close.at_ns,
            keep_relaying=keep,
        )
        ground = self.core.ground
        try:
            await self.worker.ask("CloseSession", request, CLOSE_S)
            if not keep and ground.plan.withheld == DO_NOT_RECORD:
                await self._note(self.worker, close.reason, close.at_ns)
        except EarwitnessError as error:
            # Where it is only late it still has the session, and ends it when the next list shows that nobody knows it.
            gone = error.kind in (Kind.NOT_FOUND, Kind.UNAVAILABLE) and not error.data.get("late")
            if gone and not keep and not (ground.relay_only or ground.stopped or ground.paused):
                self.left = Left(self.worker, close)
            raise
        finally:
            if not keep:
                self.worker.load -= 1
                self.worker = None

    async def reopen_left(self, left: Left) -> None:
        """Opens the last part of a call that is over: its sockets are emptied into it, and nothing is sent any more."""
        since_ns = self.seen_ns or self.part_started_ns
        made = self._next_part(since_ns, CAPTURE_RESTARTED)
        plans = tuple(replace(plan, far=None, hears=-1, codes=()) for plan in self._plans.values())
        try:
            # Were we to die now, nobody would take it for a call that goes on.
            request = self._open_request(Open(plans, made), again=True, context=memory.MARK)
            await left.worker.ask("OpenSession", request)
        except EarwitnessError:
            self.recordings.pop()
            raise
        self.worker, self.recorded_parts = left.worker, len(self.recordings)

    async def close_left(self, left: Left) -> bool:
        """Ends that part with the call's end. False where its worker has died again."""
        self.left = None
        try:
            await self._close(left.close, keep=False)
        except EarwitnessError as error:
            log.warning("session not closed", reason=error.reason, recording=self.recording_id)
        return self.left is None

    async def _note(self, worker: Worker, reason: str, at_ns: int) -> None:
        """The call is noted and why it is not recorded: a sealed file without any track."""
        self.recordings.append(new_id())
        ground = self.core.ground
        info = recording_info(
            ground,
            self.recording_id,
            part=1,
            started_ns=self.started_ns,
            sip_call_id=self.sip_call_id,
            identifiers=self.identifiers,
        )
        flags = ("not-recorded", ground.plan.withheld)
        noted = Mark(kind=MarkKind.NOTE, at_ns=self.started_ns, reason=ground.plan.withheld)
        await worker.ask(
            "OpenSession",
            capture.OpenSessionRequest(
                session_id=self.recording_id,
                tenant_id=self.tenant.tenant_id,
                line_id=self.line.line_id,
                tenant_public_key=self.tenant.public_key,
                info_json=info_json(info.model_copy(update={"tracks": (), "flags": flags})),
                marks=marks([noted]),
                context=memory.MARK,
                address=self._address,
            ),
        )
        await worker.ask(
            "CloseSession",
            capture.CloseSessionRequest(session_id=self.recording_id, reason=reason, at_ns=at_ns),
            CLOSE_S,
        )

    async def remember(self) -> None:
        """Gives capture what we would need to take the call up again. The caller holds the lock."""
        if self.worker is None or not self.core.ground.open or self.core.ground.closing:
            return
        context = memory.pack(self)
        if context == self._remembered:
            return
        try:
            await self.worker.ask(
                "UpdateSession",
                capture.UpdateSessionRequest(session_id=self.recording_id, context=context),
                _COMMAND_S,
            )
        except EarwitnessError as error:
            log.warning("state not remembered", reason=error.reason, call=self.call_id)
        else:
            self._remembered = context
