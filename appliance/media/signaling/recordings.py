"""What signaling asks of capture for a recording session: open, change, pause, resume, end, and open again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from appliance.media.signaling.calls import Leg
from appliance.media.signaling.capture import CLOSE_S, Worker, Workers
from appliance.media.signaling.context import pack
from appliance.media.signaling.conversions import (
    Evidence,
    bound_ports,
    evidence,
    info_json,
    marks,
    track_spec,
)
from appliance.media.signaling.errors import CaptureUnavailableError
from appliance.media.signaling.parts import CAPTURE_RESTARTED, Late, seam
from appliance.media.siprec.state import TrackState
from appliance.model import EarwitnessError, Kind, Mark, MarkKind, new_id
from appliance.process.status import ALARM, Status
from earwitness.internal.v1 import capture_pb2 as pb

PORTS = "MediaPortsExhausted"
FAILED = "RecordingRefused"

log = structlog.get_logger()

Snapshot = Callable[[Leg], dict[str, Any] | None]


class Recordings:
    """Commands to capture. Callers hold the leg's lock."""

    def __init__(self, workers: Workers, address: str, status: Status, snapshot: Snapshot) -> None:
        self._workers = workers
        self._address = address
        self._status = status
        self._snapshot = snapshot
        self.late = Late()

    def _context(self, leg: Leg) -> bytes:
        return pack(leg.context(self._snapshot(leg)))

    async def open(self, leg: Leg, made: Iterable[Mark], received: Iterable[Evidence], now_ns: int) -> None:
        """Starts the recording in the least busy worker, or the one that has the call already.

        Raises CaptureUnavailableError where no worker can: then another recorder is to be tried.
        """
        first = next((other.worker for other in leg.call.legs if other is not leg and other.worker), None)
        leg.recordings.append(new_id())
        leg.part_started_ns = now_ns
        exhausted = False
        received, made = list(received), list(made)
        for worker in self._workers.by_load(first):
            worker.load += 1
            try:
                await self._open_at(worker, leg, made, received, again=False)
            except EarwitnessError as error:
                worker.load -= 1
                exhausted = exhausted or error.kind is Kind.EXHAUSTED
                log.warning(
                    "session not opened", worker=worker.number, reason=error.reason, call=leg.call.call_id
                )
                # The id may have been taken although the answer was lost; an id is used once.
                leg.recordings[-1] = new_id()
                continue
            self._status.clear_condition(PORTS)
            self._status.clear_condition(FAILED)
            return
        leg.recordings.pop()
        if exhausted:
            self._status.raise_condition(PORTS, ALARM, "No media port is free: new calls are sent elsewhere.")
        else:
            self._status.raise_condition(
                FAILED, ALARM, "Capture cannot open recordings: new calls are sent elsewhere."
            )
        raise CaptureUnavailableError("no capture worker could open the session")

    async def _open_at(
        self, worker: Worker, leg: Leg, made: list[Mark], received: list[Evidence], *, again: bool
    ) -> None:
        tracks = [] if leg.withheld else leg.srs.tracks
        paused = leg.call.paused
        answer = await worker.ask(
            "OpenSession",
            pb.OpenSessionRequest(
                session_id=leg.recording_id,
                tenant_id=leg.call.tenant.tenant_id,
                line_id=leg.call.line.line_id,
                tenant_public_key=leg.call.tenant.public_key,
                # Nothing is let in before the pause holds, not even what waits in the sockets.
                tracks=[
                    track_spec(track, active=False if paused else None, again=again)
                    for track in tracks
                    if not again or track.rtp_port
                ],
                info_json=info_json(leg.info()),
                evidence=evidence(received),
                marks=marks(made),
                context=self._context(leg),
                address=self._address,
                keep_from_ns=leg.call.keep_from_ns if again else 0,
            ),
        )
        try:
            if paused:
                await self._begin_paused(worker, leg, tracks)
        except EarwitnessError:
            await self._undo(worker, leg.recording_id)
            raise
        leg.worker = worker
        leg.open = True
        leg.opened = leg.told = time.monotonic()
        leg.paused_there = paused
        leg.srs.bind(bound_ports(answer.ports))

    @staticmethod
    async def _begin_paused(worker: Worker, leg: Leg, tracks: Iterable[TrackState]) -> None:
        mark = Mark(kind=MarkKind.PAUSED, at_ns=time.time_ns(), actor=leg.call.paused_by)
        await worker.ask(
            "PauseSession",
            pb.PauseSessionRequest(session_id=leg.recording_id, at_ns=mark.at_ns, mark=marks([mark])[0]),
        )
        await worker.ask(
            "UpdateSession",
            pb.UpdateSessionRequest(
                session_id=leg.recording_id, tracks=[track_spec(track) for track in tracks if track.active]
            ),
        )

    @staticmethod
    async def _undo(worker: Worker, recording_id: str) -> None:
        try:
            await worker.ask(
                "CloseSession", pb.CloseSessionRequest(session_id=recording_id, reason="failed"), CLOSE_S
            )
        except EarwitnessError as error:
            log.warning("session left behind", reason=error.reason, recording=recording_id)

    async def reopen(self, leg: Leg, worker: Worker, gap_from_ns: int, cause: str) -> None:
        """The worker died and is back: the recording goes on as a new part, on the same ports."""
        before = leg.recording_id
        leg.recordings.append(new_id())
        leg.part_started_ns, made = seam(before, leg.part_started_ns, gap_from_ns, cause)
        try:
            await self._open_at(worker, leg, list(made), [], again=True)
        except EarwitnessError:
            leg.recordings.pop()
            raise
        leg.resumed.set()

    @staticmethod
    async def _ask(leg: Leg, method: str, request: Any) -> Any:
        """A command on the present part. A worker that does not know it any more has died and come back meanwhile."""
        assert leg.worker is not None
        try:
            return await leg.worker.ask(method, request)
        except CaptureUnavailableError:
            raise
        except EarwitnessError as error:
            if error.kind is Kind.NOT_FOUND:
                raise CaptureUnavailableError(
                    f"{leg.worker.name} has lost the session", worker=leg.worker.number
                ) from error
            raise

    async def update(
        self,
        leg: Leg,
        *,
        tracks: Iterable[int] = (),
        info: bool = False,
        made: Iterable[Mark] = (),
        received: Iterable[Evidence] = (),
        at_ns: int = 0,
    ) -> None:
        """Tells what has changed. Where the worker is away nothing is lost but marks: a new part says all anew."""
        if not leg.open or leg.worker is None:
            return
        made = tuple(made)
        if any(mark.kind is MarkKind.UNHELD for mark in made):
            leg.call.keep_from_ns = max(leg.call.keep_from_ns, at_ns or time.time_ns())
        numbers = () if leg.withheld else tuple(tracks)
        answer = await self._ask(
            leg,
            "UpdateSession",
            pb.UpdateSessionRequest(
                session_id=leg.recording_id,
                tracks=[track_spec(leg.srs.track(number)) for number in numbers],
                info_json=info_json(leg.info()) if info else b"",
                context=self._context(leg),
                at_ns=at_ns,
                marks=marks(made),
                evidence=evidence(received),
            ),
        )
        leg.srs.bind(bound_ports(answer.ports))

    async def remember(self, leg: Leg, made: Iterable[Mark] = (), received: Iterable[Evidence] = ()) -> None:
        """Gives capture the present context, with marks and evidence."""
        if leg.open and leg.worker is not None:
            await self._ask(
                leg,
                "AnnotateSession",
                pb.AnnotateSessionRequest(
                    session_id=leg.recording_id,
                    marks=marks(made),
                    evidence=evidence(received),
                    context=self._context(leg),
                ),
            )

    async def pause(self, leg: Leg, mark: Mark) -> None:
        """Nothing is kept from the mark's time on."""
        await self._keep(leg, "PauseSession", pb.PauseSessionRequest, mark, paused=True)

    async def resume(self, leg: Leg, mark: Mark) -> None:
        """Kept again."""
        await self._keep(leg, "ResumeSession", pb.ResumeSessionRequest, mark, paused=False)

    async def _keep(self, leg: Leg, method: str, request: Any, mark: Mark, *, paused: bool) -> None:
        if not leg.open or leg.worker is None:
            return
        leg.paused_there = None
        try:
            await self._ask(
                leg,
                method,
                request(session_id=leg.recording_id, at_ns=mark.at_ns, mark=marks([mark])[0]),
            )
            leg.paused_there = paused
        finally:
            leg.told = time.monotonic()

    async def close(
        self, leg: Leg, reason: str, made: Iterable[Mark], received: Iterable[Evidence], at_ns: int
    ) -> bool:
        """Ends the recording. False where its worker is gone: the vault recovers what it had, and what came since waits
        in the sockets (see `close_later`)."""
        if not leg.open or leg.worker is None:
            return True
        worker, recording_id = leg.worker, leg.recording_id
        leg.open = False
        request = pb.CloseSessionRequest(
            session_id=recording_id,
            reason=reason,
            marks=marks(made),
            evidence=evidence(received),
            at_ns=at_ns,
        )
        try:
            await worker.ask("CloseSession", request, CLOSE_S)
        except EarwitnessError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.UNAVAILABLE):
                raise
            log.warning("session not closed", reason=error.reason, recording=recording_id)
            # If it is only late, the next list shows a session that nobody knows, and that is closed then.
            return bool(error.data.get("late"))
        finally:
            worker.load -= 1
        return True

    async def close_later(self, leg: Leg, reason: str, at_ns: int, wanted: Callable[[], bool]) -> None:
        """Ends the recording of a call that ended while its worker was gone, see `Late`."""
        worker, since_ns = leg.worker, leg.seen_ns or leg.part_started_ns
        assert worker is not None
        await self.late.keep(
            worker,
            leg.call.call_id,
            wanted,
            lambda: self.reopen(leg, worker, since_ns, CAPTURE_RESTARTED),
            lambda: self.close(leg, reason, [], leg.bye, at_ns),
        )
