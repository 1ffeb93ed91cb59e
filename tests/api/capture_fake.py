"""Capture's contract for listeners, held in memory; what is listened to is what a test says."""

from __future__ import annotations

import queue
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np

from appliance.model import (
    Mark,
    NotFoundError,
    Party,
    PayloadFormat,
    RecordingInfo,
    Role,
    TrackInfo,
)
from appliance.process import rpc
from appliance.process.interceptors import ErrorInterceptor
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

FRAME = 320  # samples of 20 ms at 16 kHz
_FORMATS = (PayloadFormat(number=96, encoding="L16", clock_rate=16000),)


@dataclass
class Session:
    """A recording that is being made."""

    info: RecordingInfo
    announced: list[Mark] = field(default_factory=list)
    queues: list[queue.Queue] = field(default_factory=list)
    paused: bool = False
    number: int = 0


class CaptureServer(capture_pb2_grpc.CaptureServiceServicer):
    """The one worker of a test's box."""

    def __init__(self, layout) -> None:
        self.layout = layout
        self.sessions: dict[str, Session] = {}
        self.asked: list[pb.MonitorRequest] = []
        self.gone: list[str] = []
        """Listeners that went, or whose recording ended, by their ids."""
        self._server: grpc.Server | None = None

    def start(self) -> None:
        path = self.layout.socket("capture-0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(24), interceptors=[ErrorInterceptor()])
        capture_pb2_grpc.add_CaptureServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(rpc.target(self.layout, "capture-0"))
        self._server.start()

    def stop(self) -> None:
        for one in self.sessions.values():
            self._tell(one, None)
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None

    def begin(self, call, *announced: Mark) -> None:
        """The newest recording of a live call is being made: caller on track 0, agent on track 1."""
        self.sessions[call.recording_ids[-1]] = Session(
            RecordingInfo(
                recording_id=call.recording_ids[-1],
                call_id=call.call_id,
                tenant_id=call.tenant_id,
                line_id=call.line_id,
                started_ns=call.started_ns,
                parties=(
                    Party(aor="sip:1@x.example", name="Ada Lovelace", role=Role.CALLER),
                    Party(aor="sip:2@x.example", name="Dr. Grace Hopper", role=Role.AGENT),
                ),
                tracks=tuple(TrackInfo(track=n, party=n, formats=_FORMATS) for n in range(2)),
            ),
            list(announced),
        )

    def say(self, recording_id: str, *levels: int, lost: int = 0, event=None) -> None:
        """20 ms of a level on each track; `event`: what happened since then."""
        one, now = self.sessions[recording_id], time.time_ns()
        packets = [
            pb.MonitorPacket(
                track=track,
                sequence=one.number & 0xFFFF,
                timestamp=one.number * FRAME,
                ssrc=track + 1,
                payload_type=96,
                arrival_ns=now,
                payload=np.full(FRAME, level, ">i2").tobytes(),
            )
            for track, level in enumerate(levels)
        ]
        one.number += 1
        if event is not None:
            event.at_ns = now
        self._tell(one, pb.MonitorResponse(packets=packets, lost=lost, event=event))

    def happen(self, recording_id: str, **what: object) -> None:
        """An event, such as paused=True, held=1 or ended="bye"."""
        one = self.sessions[recording_id]
        one.paused = bool(what.get("paused", one.paused))
        if "ended" in what:
            del self.sessions[recording_id]
        self._tell(one, pb.MonitorResponse(event=pb.MonitorEvent(at_ns=time.time_ns(), **what)))

    @staticmethod
    def _tell(one: Session, message) -> None:
        for waiting in one.queues:
            waiting.put(message)

    def _session(self, session_id: str) -> Session:
        try:
            return self.sessions[session_id]
        except KeyError:
            raise NotFoundError("no session of this id is open here") from None

    def GetSession(self, request, context):
        one = self._session(request.session_id)
        return pb.GetSessionResponse(
            info_json=one.info.model_dump_json().encode(),
            announced=[pb.MarkJson(json=mark.model_dump_json().encode()) for mark in one.announced],
            paused=one.paused,
        )

    def Monitor(self, request, context):
        one = self._session(request.session_id)
        self.asked.append(request)
        waiting: queue.Queue = queue.Queue()
        context.add_callback(lambda: waiting.put(None))
        begun = pb.MonitorBegun(info_json=one.info.model_dump_json().encode(), paused=one.paused)
        waiting.put(pb.MonitorResponse(event=pb.MonitorEvent(at_ns=time.time_ns(), begun=begun)))
        one.queues.append(waiting)
        try:
            while (message := waiting.get()) is not None:
                yield message
                if message.event.WhichOneof("what") == "ended":
                    return
        finally:
            self.gone.append(request.listener_id)
