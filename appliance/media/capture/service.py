"""CaptureService: gRPC messages in and out of the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import grpc

from appliance.media.audio.formats import MAX_CLOCK
from appliance.media.audio.tones import Tone
from appliance.media.capture import prompts
from appliance.media.capture.commands import Close, Open, Play, Ports, SessionFigures, Update
from appliance.media.capture.feed import MediaEvent
from appliance.media.capture.monitoring import Monitoring
from appliance.media.capture.prompts import PlayFormatError, PromptShelf
from appliance.media.capture.recorder import Recorder
from appliance.media.capture.session import (
    EVENT_ENCODING,
    Evidence,
    RemoteRequest,
    SessionError,
    TrackRequest,
)
from appliance.media.capture.waiting import CaptureBusyError, Loop, awaited
from appliance.media.rtp.keypad import check_codes
from appliance.storage.keystore import hpke
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

MAX_LIST = 4096  # marks or evidence in one request
WATCH_S = 5.0  # how long a watcher's thread sleeps at most
MAX_PLAY_ID = 64
CLOSERS = 8  # threads that may wait for a recording's end; half of the server's

_TONES = {
    pb.TONE_RINGING: Tone.RINGING,
    pb.TONE_CONFIRMED: Tone.CONFIRMED,
    pb.TONE_REFUSED: Tone.REFUSED,
    pb.TONE_REMINDER: Tone.REMINDER,
    pb.TONE_RECORDING: Tone.RECORDING,
}


def _remote(remote: pb.Remote) -> RemoteRequest:
    srtp = (remote.srtp.suite, remote.srtp.key_salt) if remote.HasField("srtp") else None
    return RemoteRequest(remote.host, remote.rtp_port, remote.rtcp_port, srtp)


def _track(spec: pb.TrackSpec) -> TrackRequest:
    for payload in spec.payload_types:
        if not 0 <= payload.number <= 127:
            raise SessionError("a payload type is 0 to 127", field="tracks.payload_types.number")
    srtp = (spec.srtp.suite, spec.srtp.key_salt) if spec.HasField("srtp") else None
    events = [payload for payload in spec.payload_types if payload.encoding.upper() == EVENT_ENCODING]
    return TrackRequest(
        number=spec.track,
        active=spec.active,
        events=frozenset(payload.number for payload in events),
        clocks=tuple(
            (payload.number, payload.clock_rate) for payload in events if 0 < payload.clock_rate <= MAX_CLOCK
        ),
        remote=_remote(spec.remote) if spec.HasField("remote") else None,
        hears=spec.hears if spec.HasField("hears") else None,
        codes=check_codes(spec.codes, "tracks.codes"),
        box_voice=spec.box_voice,
        srtp=srtp,
        mux=spec.rtcp_mux,
        port=spec.port,
    )


def _tracks(specs: Iterable[pb.TrackSpec]) -> tuple[TrackRequest, ...]:
    return tuple(_track(spec) for spec in specs)


def _evidence(items: Iterable[pb.Evidence]) -> tuple[Evidence, ...]:
    found = tuple(Evidence(item.kind, item.content_type, item.content, item.at_ns) for item in items)
    if len(found) > MAX_LIST:
        raise SessionError("too much evidence at once", field="evidence", limit=MAX_LIST)
    return found


def _marks(items: Iterable[pb.MarkJson]) -> tuple[bytes, ...]:
    found = tuple(item.json for item in items)
    if len(found) > MAX_LIST:
        raise SessionError("too many marks at once", field="marks", limit=MAX_LIST)
    return found


def _ports(ports: Iterable[Ports]) -> list[pb.TrackPorts]:
    return [
        pb.TrackPorts(track=port.track, rtp_port=port.rtp_port, rtcp_port=port.rtcp_port) for port in ports
    ]


def _state(figures: SessionFigures) -> pb.SessionState:
    return pb.SessionState(
        session_id=figures.session_id,
        context=figures.context,
        paused=figures.paused,
        opened_ns=figures.opened_ns,
        relay_only=figures.relay_only,
        tracks=[
            pb.TrackState(
                track=track.track,
                port=track.port,
                packets=track.packets,
                dropped=track.dropped,
                refused=track.refused,
                overflowed=track.overflowed,
                last_packet_ns=track.last_packet_ns,
                sent=track.sent,
            )
            for track in figures.tracks
        ],
    )


def _event(event: MediaEvent) -> pb.WatchMediaResponse:
    message = pb.WatchMediaResponse(session_id=event.session_id, track=event.track, at_ns=event.at_ns)
    if event.play is not None:
        message.play_ended.play_id = event.play.play_id
        message.play_ended.whole = event.play.whole
        message.play_ended.played_ms = event.play.played_ms
        message.play_ended.interrupted = event.play.interrupted
    elif event.code:
        message.code = event.code
    else:
        message.key = event.key
    return message


class CaptureServicer(Monitoring, capture_pb2_grpc.CaptureServiceServicer):
    """Each call is one command in the loop's thread; its thread here waits for the answer."""

    def __init__(self, loop: Loop, recorder: Recorder, shelf: PromptShelf) -> None:
        self._loop = loop
        self._recorder = recorder
        self._feed = recorder.feed
        self._prompts = shelf
        self._closers = threading.BoundedSemaphore(CLOSERS)

    def OpenSession(
        self, request: pb.OpenSessionRequest, context: grpc.ServicerContext
    ) -> pb.OpenSessionResponse:
        """See capture.proto."""
        # Under a key that is none nothing could ever be read: better said now than found out by the vault.
        if not request.relay_only:
            hpke.check_public_key(request.tenant_public_key)
        command = Open(
            session_id=request.session_id,
            tenant_id=request.tenant_id,
            line_id=request.line_id,
            tenant_public_key=request.tenant_public_key,
            address=request.address or "127.0.0.1",
            tracks=_tracks(request.tracks),
            info_json=request.info_json,
            evidence=_evidence(request.evidence),
            marks=_marks(request.marks),
            context=request.context,
            keep_from_ns=request.keep_from_ns,
            relay_only=request.relay_only,
        )
        opened = awaited(self._loop.open(command), context)
        return pb.OpenSessionResponse(ports=_ports(opened))

    def UpdateSession(
        self, request: pb.UpdateSessionRequest, context: grpc.ServicerContext
    ) -> pb.UpdateSessionResponse:
        """See capture.proto."""
        command = Update(
            session_id=request.session_id,
            tracks=_tracks(request.tracks),
            info_json=request.info_json,
            context=request.context,
            at_ns=request.at_ns,
            marks=_marks(request.marks),
            evidence=_evidence(request.evidence),
        )
        ports = awaited(self._loop.update(command), context)
        return pb.UpdateSessionResponse(ports=_ports(ports))

    def PauseSession(
        self, request: pb.PauseSessionRequest, context: grpc.ServicerContext
    ) -> pb.PauseSessionResponse:
        """See capture.proto."""
        since = awaited(
            self._loop.call(
                lambda: self._recorder.pause(request.session_id, request.at_ns, request.mark.json)
            ),
            context,
        )
        return pb.PauseSessionResponse(at_ns=since)

    def ResumeSession(
        self, request: pb.ResumeSessionRequest, context: grpc.ServicerContext
    ) -> pb.ResumeSessionResponse:
        """See capture.proto."""
        since = awaited(
            self._loop.call(
                lambda: self._recorder.resume(request.session_id, request.at_ns, request.mark.json)
            ),
            context,
        )
        return pb.ResumeSessionResponse(at_ns=since)

    def AnnotateSession(
        self, request: pb.AnnotateSessionRequest, context: grpc.ServicerContext
    ) -> pb.AnnotateSessionResponse:
        """See capture.proto."""
        command = Update(
            session_id=request.session_id,
            context=request.context,
            marks=_marks(request.marks),
            evidence=_evidence(request.evidence),
        )
        awaited(self._loop.call(lambda: self._recorder.annotate(command)), context)
        return pb.AnnotateSessionResponse()

    def CloseSession(
        self, request: pb.CloseSessionRequest, context: grpc.ServicerContext
    ) -> pb.CloseSessionResponse:
        """See capture.proto. Answers when the file is whole and durable."""
        closing = self._loop.close(
            Close(
                session_id=request.session_id,
                reason=request.reason,
                marks=_marks(request.marks),
                evidence=_evidence(request.evidence),
                at_ns=request.at_ns,
                keep_relaying=request.keep_relaying,
            )
        )
        # Closes wait for the disk, and must never hold all threads: opening and pausing go on while it stalls.
        if not self._closers.acquire(blocking=False):
            raise CaptureBusyError("the recording ends when the disk takes it")
        try:
            closed = awaited(closing, context)
        finally:
            self._closers.release()
        return pb.CloseSessionResponse(packets=closed.packets, bytes=closed.bytes)

    def ListSessions(
        self, request: pb.ListSessionsRequest, context: grpc.ServicerContext
    ) -> pb.ListSessionsResponse:
        """See capture.proto."""
        figures = awaited(self._loop.call(lambda: self._recorder.figures(request.brief)), context)
        return pb.ListSessionsResponse(sessions=[_state(item) for item in figures])

    def Play(self, request: pb.PlayRequest, context: grpc.ServicerContext) -> pb.PlayResponse:
        """See capture.proto."""
        if not 0 < len(request.play_id) <= MAX_PLAY_ID:
            raise PlayFormatError("a play has an id of at most 64 characters", field="play_id")
        form = request.payload_type
        if not 0 <= form.number <= 127:
            raise PlayFormatError("a payload type is 0 to 127", field="payload_type.number")
        # Files are read here: the loop never waits for a disk.
        if request.WhichOneof("sound") == "prompt_id":
            sound = self._prompts.prompt(request.prompt_id, form.encoding, form.clock_rate, form.channels)
        elif (tone := _TONES.get(request.tone)) is not None:
            sound = prompts.tone(tone, form.encoding, form.clock_rate, form.channels)
        else:
            raise PlayFormatError("neither a prompt nor a tone that is known", field="tone")
        command = Play(
            session_id=request.session_id,
            play_id=request.play_id,
            track=request.track,
            sound=sound,
            payload_type=form.number,
            repeat=request.repeat,
            record_track=request.record_track if request.HasField("record_track") else None,
            interruptible=request.interruptible,
        )
        plays = awaited(self._loop.call(lambda: self._recorder.play(command)), context)
        return pb.PlayResponse(at_ns=plays.at_ns, duration_ms=plays.duration_ms)

    def StopPlaying(
        self, request: pb.StopPlayingRequest, context: grpc.ServicerContext
    ) -> pb.StopPlayingResponse:
        """See capture.proto."""
        awaited(
            self._loop.call(lambda: self._recorder.stop_playing(request.session_id, request.play_id)), context
        )
        return pb.StopPlayingResponse()

    def WatchMedia(
        self, request: pb.WatchMediaRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchMediaResponse]:
        """See capture.proto."""
        watcher = self._feed.watch()
        try:
            context.add_callback(watcher.wake)  # the caller is gone
            yield pb.WatchMediaResponse()
            while context.is_active() and not self._feed.closed:
                event = watcher.take(WATCH_S)
                if event is not None:
                    yield _event(event)
        finally:
            self._feed.leave(watcher)
