"""A recording client and a capture worker for tests: real sockets, the real SIP stack, a real gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from appliance.config.layout import Layout
from appliance.config.settings import MediaSettings, Settings, SipSettings
from appliance.media.signaling.service import Signaling
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import (
    Answered,
    Bye,
    Event,
    IncomingRequest,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
)
from appliance.media.sip.flow import Target, Transport
from appliance.media.sip.message import SipResponse
from appliance.media.sip.sdp import SessionDescription, parse_sdp
from appliance.media.sip.session import SipSession
from appliance.media.sip.transports import SipTransports
from appliance.model import ExhaustedError, Mark, NotFoundError, RecordingInfo, new_id
from appliance.model.routing import Line, RoutingTable, Tenant
from appliance.process import rpc
from appliance.process.child import Child
from appliance.process.interceptors import AioErrorInterceptor
from earwitness.internal.v1 import capture_pb2 as pb
from earwitness.internal.v1 import capture_pb2_grpc

TIMEOUT_S = 20.0
TENANT = Tenant(tenant_id=new_id(), display_name="Elm Street", public_key=bytes(range(32)))
LINE = Line(line_id=new_id(), tenant_id=TENANT.tenant_id, display_name="Reception", numbers=("01632960100",))


# -- capture -------------------------------------------------------------------------------------------------------


class _PortsGone(ExhaustedError):
    reason = "PORTS_EXHAUSTED"


class _NoSession(NotFoundError):
    reason = "SESSION_NOT_FOUND"


@dataclass
class Taken:
    """A session as the double keeps it."""

    request: pb.OpenSessionRequest
    ports: dict[int, int]
    specs: dict[int, pb.TrackSpec]
    context: bytes
    marks: list[Mark] = field(default_factory=list)
    evidence: list[pb.Evidence] = field(default_factory=list)
    infos: list[RecordingInfo] = field(default_factory=list)
    paused: bool = False
    closed: str = ""
    ended_ns: int = 0
    last_packet_ns: dict[int, int] = field(default_factory=dict)
    opened_ns: int = field(default_factory=time.time_ns)
    seen_active: set[int] = field(default_factory=set)

    @property
    def info(self) -> RecordingInfo:
        return self.infos[-1]

    @property
    def kinds(self) -> list[str]:
        return [mark.kind.value for mark in self.marks]


class CaptureDouble(capture_pb2_grpc.CaptureServiceServicer):
    """CaptureService in memory; it opens no media sockets. `crash` forgets everything, as a dead process does."""

    def __init__(self, layout: Layout, number: int = 0, first_port: int = 20_000) -> None:
        self.layout = layout
        self.name = f"capture-{number}"
        self.first_port = first_port
        self.sessions: dict[str, Taken] = {}
        self.history: list[Taken] = []
        self.full = False
        self.calls: list[str] = []
        self.away = 0  # so many openings are not taken
        self.stuck: dict[str, asyncio.Event] = {}  # commands that wait for it
        self._changed = asyncio.Condition()
        self._media: list[asyncio.Queue[pb.WatchMediaResponse]] = []
        self._server: grpc.aio.Server | None = None
        self._next = first_port

    async def start(self) -> None:
        self._server = grpc.aio.server(interceptors=[AioErrorInterceptor()], options=rpc.OPTIONS)
        capture_pb2_grpc.add_CaptureServiceServicer_to_server(self, self._server)
        path = self.layout.socket(self.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._server.add_insecure_port(rpc.target(self.layout, self.name))
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def crash(self) -> None:
        await self.stop()
        self.sessions.clear()

    async def until(self, met: Callable[[], Any]) -> Any:
        """Waits until `met()` is true; it is looked at after each request, and gives its value."""
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(met)
        return met()

    async def listed_again(self, times: int = 3) -> None:
        """Until it was asked so many times more what it has open: what was to be done upon that is done."""
        before = self.calls.count("list")
        await self.until(lambda: self.calls.count("list") >= before + times)

    async def _tell(self, name: str) -> None:
        self.calls.append(name)
        async with self._changed:
            self._changed.notify_all()

    async def _pass(self, name: str) -> None:
        if name in self.stuck:
            self.calls.append(f"{name} stuck")
            async with self._changed:
                self._changed.notify_all()
            await self.stuck[name].wait()

    def _take(self, taken: Taken, request: Any) -> None:
        taken.marks += [Mark.model_validate_json(mark.json) for mark in request.marks]
        taken.evidence += list(request.evidence)
        if getattr(request, "info_json", b""):
            taken.infos.append(RecordingInfo.model_validate_json(request.info_json))
        if getattr(request, "context", b""):
            taken.context = request.context

    def _tracks(self, taken: Taken, specs: Any) -> None:
        for spec in specs:
            taken.specs[spec.track] = spec
            if spec.active:
                taken.seen_active.add(spec.track)
            if spec.track not in taken.ports:
                if spec.port:
                    taken.ports[spec.track] = spec.port
                else:
                    if self.full:
                        raise _PortsGone("no port is free")
                    taken.ports[spec.track] = self._next
                    self._next += 2

    def _ports(self, taken: Taken) -> list[pb.TrackPorts]:
        return [
            pb.TrackPorts(
                track=track, rtp_port=port, rtcp_port=port if taken.specs[track].rtcp_mux else port + 1
            )
            for track, port in taken.ports.items()
        ]

    def _of(self, session_id: str) -> Taken:
        taken = self.sessions.get(session_id)
        if taken is None:
            raise _NoSession("no session of this id is open here")
        return taken

    async def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:
        if self.away:
            self.away -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        await self._pass("open")
        assert request.session_id not in self.sessions
        taken = Taken(request, {}, {}, request.context)
        self._tracks(taken, request.tracks)
        self._take(taken, request)
        self.sessions[request.session_id] = taken
        self.history.append(taken)
        await self._tell("open")
        return pb.OpenSessionResponse(ports=self._ports(taken))

    async def UpdateSession(self, request: pb.UpdateSessionRequest, context: Any) -> pb.UpdateSessionResponse:
        taken = self._of(request.session_id)
        self._tracks(taken, request.tracks)
        self._take(taken, request)
        await self._tell("update")
        return pb.UpdateSessionResponse(ports=self._ports(taken))

    async def PauseSession(self, request: pb.PauseSessionRequest, context: Any) -> pb.PauseSessionResponse:
        await self._pass("pause")
        taken = self._of(request.session_id)
        taken.paused = True
        taken.marks.append(Mark.model_validate_json(request.mark.json))
        await self._tell("pause")
        return pb.PauseSessionResponse(at_ns=request.at_ns)

    async def ResumeSession(self, request: pb.ResumeSessionRequest, context: Any) -> pb.ResumeSessionResponse:
        await self._pass("resume")
        taken = self._of(request.session_id)
        taken.paused = False
        taken.marks.append(Mark.model_validate_json(request.mark.json))
        await self._tell("resume")
        return pb.ResumeSessionResponse(at_ns=request.at_ns)

    async def AnnotateSession(
        self, request: pb.AnnotateSessionRequest, context: Any
    ) -> pb.AnnotateSessionResponse:
        self._take(self._of(request.session_id), request)
        await self._tell("annotate")
        return pb.AnnotateSessionResponse()

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Any) -> pb.CloseSessionResponse:
        await self._pass("close")
        taken = self._of(request.session_id)
        self._take(taken, request)
        taken.closed, taken.ended_ns = request.reason, request.at_ns
        if not request.keep_relaying:
            del self.sessions[request.session_id]
        await self._tell("close")
        return pb.CloseSessionResponse()

    async def Play(self, request: pb.PlayRequest, context: Any) -> pb.PlayResponse:
        self._of(request.session_id)
        await self._tell("play")
        return pb.PlayResponse()

    async def StopPlaying(self, request: pb.StopPlayingRequest, context: Any) -> pb.StopPlayingResponse:
        await self._tell("stop-playing")
        return pb.StopPlayingResponse()

    async def WatchMedia(
        self, request: pb.WatchMediaRequest, context: Any
    ) -> AsyncIterator[pb.WatchMediaResponse]:
        told: asyncio.Queue[pb.WatchMediaResponse] = asyncio.Queue()
        self._media.append(told)
        try:
            while True:
                yield await told.get()
        finally:
            self._media.remove(told)

    async def happens(self, message: pb.WatchMediaResponse) -> None:
        """Something happens in the media; it is told once somebody listens."""
        async with asyncio.timeout(TIMEOUT_S):
            while not self._media:
                await asyncio.sleep(0.01)
        for told in self._media:
            told.put_nowait(message)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Any) -> pb.ListSessionsResponse:
        made = pb.ListSessionsResponse(
            sessions=[
                pb.SessionState(
                    session_id=name,
                    context=b"" if request.brief else taken.context,
                    paused=taken.paused,
                    opened_ns=taken.opened_ns,
                    tracks=[
                        pb.TrackState(
                            track=track, port=port, last_packet_ns=taken.last_packet_ns.get(track, 0)
                        )
                        for track, port in taken.ports.items()
                    ],
                )
                for name, taken in self.sessions.items()
            ]
        )
        await self._tell("list")
        return made


# -- the recording client ------------------------------------------------------------------------------------------


class Src:
    """A session recording client: the house's own user agent, as the other side."""

    def __init__(self, transport: Transport, target: tuple[str, int], **config: Any) -> None:
        config.setdefault("contact_params", "+sip.src")
        config.setdefault("session_expires", 0)
        self.endpoint = SipEndpoint(EndpointConfig(contact_user="src", **config))
        self.transport = transport
        self.target = Target(transport, *target)
        self.events: list[Event] = []
        self._changed = asyncio.Event()
        self.transports: SipTransports

    async def open(self, tls_client: Any = None) -> Src:
        self.transports = SipTransports(self.endpoint, self._on_event, tls_client=tls_client)
        if self.transport is Transport.TLS:
            await self.transports.listen(Transport.UDP, "127.0.0.1")
        else:
            await self.transports.listen(self.transport, "127.0.0.1")
        return self

    async def close(self) -> None:
        await self.transports.close()

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, IncomingRequest):
            with self.transports.acting() as now:
                self.endpoint.respond(event.inbound, 200, now=now)
        self._changed.set()

    async def take(self, kind: type[Any], met: Callable[[Any], bool] = lambda event: True) -> Any:
        """The first event of a kind that is not taken yet."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and met(event):
                        self.events.remove(event)
                        return event
                self._changed.clear()
                await self._changed.wait()

    def send_invite(self, body: bytes, content_type: str | None, **more: Any) -> SipSession:
        scheme = "sips" if self.transport is Transport.TLS else "sip"
        more.setdefault("from_", "<sip:src@127.0.0.1>")
        more.setdefault("headers", [("Require", "siprec")])
        with self.transports.acting() as now:
            return self.endpoint.invite(
                f"{scheme}:recorder@{self.target.host}:{self.target.port}",
                now=now,
                body=body,
                content_type=content_type,
                target=self.target,
                **more,
            )

    async def invite(
        self, body: bytes, content_type: str | None, **more: Any
    ) -> tuple[SipSession, SipResponse]:
        """Sends an INVITE; gives the session and its final response."""
        session = self.send_invite(body, content_type, **more)
        event = await self.take((Answered, SessionEnded), lambda one: one.session is session)  # type: ignore[arg-type]
        response = event.response
        assert response is not None
        return session, response

    async def change(
        self, session: SipSession, method: str, body: bytes = b"", content_type: str | None = None
    ) -> SipResponse:
        """re-INVITE or UPDATE; gives its final response."""
        with self.transports.acting() as now:
            send = self.endpoint.reinvite if method == "INVITE" else self.endpoint.update
            outbound = send(session, now=now, body=body, content_type=content_type)
        event = await self.take(
            (ResponseReceived, RequestFailed),  # type: ignore[arg-type]
            lambda one: (
                one.outbound is outbound and (isinstance(one, RequestFailed) or one.response.status >= 200)
            ),
        )
        assert isinstance(event, ResponseReceived), event
        return event.response

    async def answered_offer(self, body: bytes) -> tuple[SipSession, SipResponse]:
        """An INVITE without SDP: gives the 200 with the recorder's offer; `body` is sent in the ACK."""
        session, response = await self.invite(b"", None)
        with self.transports.acting() as now:
            self.endpoint.ack(session, now=now, body=body, content_type="application/sdp")
        return session, response

    async def options(self) -> SipResponse:
        with self.transports.acting() as now:
            outbound = self.endpoint.request(
                "OPTIONS", f"sip:{self.target.host}:{self.target.port}", now=now, from_="<sip:src@127.0.0.1>",
                target=self.target,
            )  # fmt: skip
        event = await self.take(ResponseReceived, lambda one: one.outbound is outbound)
        response: SipResponse = event.response
        return response

    async def bye(self, session: SipSession) -> None:
        with self.transports.acting() as now:
            self.endpoint.bye(session, now=now)
        await self.take(SessionEnded, lambda one: one.session is session)

    async def byed(self, session: SipSession) -> None:
        """Waits for the recorder's BYE."""
        await self.take(Bye, lambda one: one.session is session)


# -- what is sent --------------------------------------------------------------------------------------------------

BOUNDARY = "kit-boundary"
MULTIPART = f"multipart/mixed;boundary={BOUNDARY}"


def sdp(*lines: str, session: str = "c=IN IP4 127.0.0.1") -> bytes:
    """An offer; each line is `label[ direction[ port]]`."""
    made = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", session, "t=0 0"]
    for place, line in enumerate(lines):
        words = line.split()
        label, direction, port = (*words, *("", "sendonly", str(30_000 + 2 * place))[len(words) :])
        made += [f"m=audio {port} RTP/AVP 0 101", "a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000"]
        made += [f"a=label:{label}"] if label != "-" else []
        made += [f"a={direction}"] if direction != "none" else []
    return ("\r\n".join(made) + "\r\n").encode()


def metadata(
    parties: dict[str, tuple[str, str]], *, session_id: str = "c2Vzc2lvbi0x", complete: bool = True, more: str = "",
    calling: str = "a",
) -> bytes:  # fmt: skip
    """RFC 7865: `parties` is {participant: (aor, label sent)}; no label, no stream. `calling` placed the call."""
    pieces = [f'<session session_id="{session_id}"/>']
    for name, (aor, label) in parties.items():
        said = '<x:callingParty xmlns:x="urn:x">true</x:callingParty>' if name == calling else ""
        pieces.append(f'<participant participant_id="{name}"><nameID aor="{aor}"/>{said}</participant>')
        if label:
            pieces.append(
                f'<stream stream_id="s-{label}" session_id="{session_id}"><label>{label}</label></stream>'
            )
            pieces.append(
                f'<participantstreamassoc participant_id="{name}"><send>s-{label}</send></participantstreamassoc>'
            )
    mode = "complete" if complete else "partial"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><recording xmlns="urn:ietf:params:xml:ns:recording:1">'
        f"<datamode>{mode}</datamode>{''.join(pieces)}{more}</recording>"
    ).encode()


def both(offer: bytes, document: bytes) -> bytes:
    """SDP and metadata in one body."""
    return b"\r\n".join(
        [
            f"--{BOUNDARY}".encode(),
            b"Content-Type: application/sdp",
            b"",
            offer.rstrip(b"\r\n"),
            f"--{BOUNDARY}".encode(),
            b"Content-Type: application/rs-metadata+xml",
            b"Content-Disposition: recording-session",
            b"",
            document,
            f"--{BOUNDARY}--".encode(),
            b"",
        ]
    )


PATIENT, SURGERY = "sip:07700900101@pbx.example", "sip:01632960100@pbx.example"


def usual(session_id: str = "c2Vzc2lvbi0x", offer: bytes | None = None) -> bytes:
    """A call from a patient to the surgery."""
    return both(
        offer or sdp("1", "2"), metadata({"a": (PATIENT, "1"), "b": (SURGERY, "2")}, session_id=session_id)
    )


def described(response: SipResponse) -> SessionDescription:
    return parse_sdp(response.body)


# -- the house -----------------------------------------------------------------------------------------------------


@dataclass
class House:
    """Signaling in this process, with capture doubles."""

    settings: Settings
    captures: list[CaptureDouble]
    signaling: Signaling

    @property
    def capture(self) -> CaptureDouble:
        return self.captures[0]

    def address(self, transport: Transport) -> tuple[str, int]:
        listener = self.signaling.listeners[transport]
        return listener.host, listener.port

    async def src(self, transport: Transport = Transport.UDP, tls_client: Any = None, **config: Any) -> Src:
        return await Src(transport, self.address(transport), **config).open(tls_client)

    async def vanish(self) -> None:
        """Signaling is gone from one moment to the next, as after kill -9: no BYE, nothing closed."""
        await self.signaling.desk.transports.close()
        await self.signaling.desk.workers.close()
        for task in self.signaling._tasks:
            task.cancel()
        assert self.signaling._server is not None
        await self.signaling._server.stop(0)

    async def again(self) -> None:
        """Signaling starts anew on the ports it had."""
        ports = {transport: listener.port for transport, listener in self.signaling.listeners.items()}
        sip = self.settings.sip.model_copy(
            update={"udp_port": ports[Transport.UDP], "tcp_port": ports[Transport.TCP]}
        )
        settings = self.settings.model_copy(update={"sip": sip})
        self.signaling = Signaling(Child("signaling", settings), list_interval_s=0.05, farewell_s=0.1)
        assert await self.signaling.start()

    def conditions(self) -> set[str]:
        return {one.type for one in self.signaling.child.status.conditions()}


def write_table(settings: Settings, *lines: Line, tenants: tuple[Tenant, ...] = (TENANT,)) -> None:
    """As control does it: whole, atomically."""
    path = settings.layout.routing
    path.parent.mkdir(parents=True, exist_ok=True)
    table = RoutingTable(version=time.time_ns(), tenants=tenants, lines=lines)
    fresh = path.with_suffix(".new")
    fresh.write_text(table.model_dump_json())
    fresh.replace(path)


def make_settings(root: Path, **media: Any) -> Settings:
    """Ports of the system's choice, no TLS."""
    media.setdefault("workers", 1)
    return Settings(
        data=root, sip=SipSettings(udp_port=0, tcp_port=0, tls_port=-1), media=MediaSettings(**media)
    )


@contextlib.asynccontextmanager
async def a_house(
    root: Path,
    *lines: Line,
    workers: int = 1,
    settings: Settings | None = None,
    interval_s: float = 0.05,
    farewell_s: float = 0.1,
    **media: Any,
) -> AsyncIterator[House]:
    """A running one."""
    settings = settings or make_settings(root, workers=workers, **media)
    write_table(settings, *(lines or (LINE,)))
    captures = [CaptureDouble(settings.layout, number, 20_000 + 1000 * number) for number in range(workers)]
    for capture in captures:
        await capture.start()
    signaling = Signaling(Child("signaling", settings), list_interval_s=interval_s, farewell_s=farewell_s)
    assert await signaling.start()
    house = House(settings, captures, signaling)
    try:
        yield house
    finally:
        await house.signaling.close()
        for capture in captures:
            await capture.stop()
