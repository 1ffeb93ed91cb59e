"""The part of CaptureService that is for listeners: gRPC messages in and out of `Monitors`."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from appliance.media.capture.monitor import Happened, Monitor, Taken
from appliance.media.capture.recorder import Recorder
from appliance.media.capture.waiting import Loop, awaited
from earwitness.internal.v1 import capture_pb2 as pb

LOOK_S = 5.0  # how long a listener's thread sleeps at most


class Monitoring:
    """See capture.proto."""

    _loop: Loop
    _recorder: Recorder

    def GetSession(
        self, request: pb.GetSessionRequest, context: grpc.ServicerContext
    ) -> pb.GetSessionResponse:
        """See capture.proto."""

        def look() -> pb.GetSessionResponse:
            session = self._recorder.recorded(request.session_id)
            return pb.GetSessionResponse(
                info_json=session.info_json,
                announced=[pb.MarkJson(json=mark.model_dump_json().encode()) for mark in session.announced],
                paused=session.paused,
            )

        return awaited(self._loop.call(look), context)

    def Monitor(
        self, request: pb.MonitorRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.MonitorResponse]:
        """See capture.proto."""
        monitors = self._recorder.monitors
        monitor = Monitor(request.actor, request.purpose, request.listener_id)
        begin = self._loop.call(lambda: monitors.begin(self._recorder.recorded(request.session_id), monitor))
        try:
            awaited(
                begin, context
            )  # a loop that is slow carries it out after we have gone: it is ended all the same
            context.add_callback(monitor.wake)  # the caller is gone
            while context.is_active():
                taken = monitor.take(LOOK_S)
                if taken is None:
                    continue
                yield _message(taken)
                if taken.event is not None and taken.event.what == "ended":
                    return
        finally:
            self._loop.call(lambda: monitors.end(monitor))


def _message(taken: Taken) -> pb.MonitorResponse:
    return pb.MonitorResponse(
        packets=[pb.MonitorPacket(**packet._asdict()) for packet in taken.packets],
        lost=taken.lost,
        event=_event(taken.event) if taken.event is not None else None,
    )


def _event(event: Happened) -> pb.MonitorEvent:
    made = pb.MonitorEvent(at_ns=event.at_ns)
    if event.what == "begun":
        made.begun.info_json, made.begun.paused = event.value
    else:
        setattr(made, event.what, event.value)
    return made
