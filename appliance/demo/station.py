"""A small telephone: it calls and is called, speaks G.711, presses keys, and keeps what it hears.

async with Station() as outside, Station() as desk:
    desk.says = payload                              # what it answers with
    call = await outside.dial(uri, "sip:07700900101@example", payload)
    await call.play()
    await call.hang_up()
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from appliance.demo.stream import FRAME, FRAME_S, RtpSource
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import (
    Answered,
    Event,
    InboundRequest,
    IncomingInvite,
    IncomingRequest,
    Provisional,
    ReInvite,
    SessionEnded,
    Update,
)
from appliance.media.sip.flow import Transport
from appliance.media.sip.offer_answer import (
    AnswerPolicy,
    LocalMedia,
    OfferMedia,
    Remote,
    answer,
    make_offer,
    read_answer,
)
from appliance.media.sip.sdp import Codec, SessionDescription, parse_sdp
from appliance.media.sip.session import SipSession, carries_sdp
from appliance.media.sip.transports import SipTransports
from appliance.model import EarwitnessError, Kind

ADDRESS = "127.0.0.1"
PATIENCE_S = 20.0
EVENTS = 101
KEYS = "0123456789*#ABCD"
CODECS = (Codec(0, "PCMU", 8000), Codec(EVENTS, "telephone-event", 8000, 1, "0-16"))
_POLICY = AnswerPolicy(sends=True)


class StationError(EarwitnessError):
    """A call was refused or not answered; `data['status']` is the SIP status where there was one."""

    reason = "STATION_REFUSED"
    kind = Kind.UNAVAILABLE


@dataclass(eq=False)
class Talk:
    """One call of a station. `heard` are the audio payloads that came, `times` when (loop time), `keys` the keys."""

    station: Station
    session: SipSession
    source: RtpSource
    target: tuple[str, int] | None = None
    heard: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: str = ""
    status: int = 0  # of the final response, or of the last provisional one before it
    up: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ours: SessionDescription | None = None
    _last_key: tuple[int, int] = (-1, -1)

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.source.socket.fileno(), self._read)

    def _read(self) -> None:
        now = asyncio.get_running_loop().time()
        while True:
            try:
                data = self.source.socket.recv(2048)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if len(data) < 12 or data[0] >> 6 != 2 or 192 <= data[1] <= 223:
                continue
            kind, (timestamp,) = data[1] & 127, struct.unpack("!I", data[4:8])
            if kind == EVENTS and len(data) >= 16:
                if (timestamp, data[12]) != self._last_key and data[12] < len(KEYS):
                    self._last_key = (timestamp, data[12])
                    self.keys += KEYS[data[12]]
            elif kind == 0:
                self.heard.append(data[12:])
                self.times.append(now)

    async def play(self, frames: int | None = None) -> None:
        """Sends in real time to the end, or so many frames; ends early where the call does."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        left = self.source.frames - self.source.position
        for number in range(left if frames is None else min(frames, left)):
            await asyncio.sleep(max(0.0, begin + number * FRAME_S - loop.time()))
            if self.ended.is_set():
                return
            if self.target is not None:
                self.source.send_next(self.target)
        await asyncio.sleep(FRAME_S)

    async def press(self, keys: str) -> None:
        """Keys as telephone-events (RFC 4733), 100 ms each, beside what is spoken."""
        assert self.target is not None
        source = self.source
        for key in keys:
            timestamp = (source.timestamp + FRAME * source.position) & 0xFFFFFFFF
            for number in range(1, 9):
                last = number > 5
                duration = FRAME * min(number, 6)
                header = struct.pack(
                    "!BBHII",
                    0x80,
                    EVENTS | (0x80 if number == 1 else 0),
                    (source.sequence + source.position) & 0xFFFF,
                    timestamp,
                    source.ssrc,
                )
                body = struct.pack("!BBH", KEYS.index(key), 10 | (0x80 if last else 0), duration)
                source.socket.sendto(header + body, self.target)
                source.sequence += 1
                if not last:
                    await asyncio.sleep(FRAME_S)
            await asyncio.sleep(0.06)

    async def hang_up(self) -> None:
        """BYE, or CANCEL before an answer; waits for the end."""
        self.station.do(lambda endpoint, now: endpoint.bye(self.session, now=now))
        await asyncio.wait_for(self.ended.wait(), PATIENCE_S)

    def close(self) -> None:
        """Closes its socket."""
        loop = asyncio.get_running_loop()
        if self.source.socket.fileno() >= 0:
            loop.remove_reader(self.source.socket.fileno())
            self.source.close()


class Station:
    """See the module. `says` is what it speaks when it is called, `answers` the status it answers with, `after` seconds."""

    def __init__(self, *, answers: int = 200, after: float = 0.0, says: bytes = b"") -> None:
        self.answers, self.after, self.says = answers, after, says
        self.talks: list[Talk] = []
        self.called = asyncio.Event()
        self.endpoint = SipEndpoint(EndpointConfig(contact_user="phone", user_agent="Earwitness station"))
        self._of: dict[SipSession, Talk] = {}

    async def __aenter__(self) -> Self:
        self.transports = SipTransports(self.endpoint, self._on_event)
        self.listener = await self.transports.listen(Transport.UDP, ADDRESS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for talk in self.talks:
            talk.close()
        await self.transports.close()

    @property
    def uri(self) -> str:
        """Where it can be called."""
        return f"sip:{ADDRESS}:{self.listener.port}"

    def do(self, action: Callable[[SipEndpoint, float], object]) -> None:
        """Lets the endpoint do something now."""
        with self.transports.acting() as now:
            action(self.endpoint, now)

    def call(self, uri: str, from_: str, payload: bytes = b"", **headers: str) -> Talk:
        """Begins a call, and does not wait."""
        source = RtpSource(payload)
        offer = make_offer([OfferMedia(source.port, CODECS)], address=ADDRESS)
        with self.transports.acting() as now:
            session = self.endpoint.invite(
                uri,
                now=now,
                from_=f"<{from_}>",
                headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
                body=offer.serialize(),
                content_type="application/sdp",
            )
        talk = Talk(self, session, source, ours=offer)
        self._take(talk)
        return talk

    async def dial(self, uri: str, from_: str, payload: bytes = b"", **headers: str) -> Talk:
        """Calls and waits for the answer. StationError where there is none."""
        talk = self.call(uri, from_, payload, **headers)
        done, waiting = await asyncio.wait(
            [asyncio.create_task(talk.up.wait()), asyncio.create_task(talk.ended.wait())],
            timeout=PATIENCE_S * 3,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in waiting:
            task.cancel()
        if not done or talk.ended.is_set():
            raise StationError("the call was not answered", status=talk.status)
        return talk

    def _take(self, talk: Talk) -> None:
        self.talks.append(talk)
        self._of[talk.session] = talk
        talk.listen()

    def _on_event(self, event: Event) -> None:
        match event:
            case IncomingInvite(session, inbound):
                self._called(session, inbound)
            case Provisional(session, response) | Answered(session, response):
                talk = self._of[session]
                talk.status = response.status
                if carries_sdp(response) and talk.ours is not None:
                    self._aim(talk, read_answer(talk.ours, parse_sdp(response.body), _POLICY)[0].plan.remote)
                if isinstance(event, Answered):
                    talk.up.set()
            case ReInvite(session, inbound) | Update(session, inbound):
                self._reply(self._of[session], inbound)
            case IncomingRequest(inbound, _):
                self._respond(inbound, 200)
            case SessionEnded(session, _, response):
                talk = self._of[session]
                talk.status = response.status if response is not None else talk.status
                talk.ended.set()

    def _respond(self, inbound: InboundRequest, status: int, body: bytes = b"") -> None:
        with self.transports.acting() as now:
            self.endpoint.respond(
                inbound, status, now=now, body=body, content_type="application/sdp" if body else None
            )

    def _called(self, session: SipSession, inbound: InboundRequest) -> None:
        talk = Talk(self, session, RtpSource(self.says))
        self._take(talk)
        if self.answers >= 300:
            self._respond(inbound, self.answers)
            return
        self._respond(inbound, 180)
        asyncio.get_running_loop().call_later(self.after, self._answer, talk, inbound)

    def _answer(self, talk: Talk, inbound: InboundRequest) -> None:
        if talk.ended.is_set() or self.answers < 200:
            return
        self._reply(talk, inbound)
        talk.up.set()
        self.called.set()

    def _reply(self, talk: Talk, inbound: InboundRequest) -> None:
        if not carries_sdp(inbound.request):
            self._respond(inbound, 200, talk.ours.serialize() if talk.ours is not None else b"")
            return
        offer = parse_sdp(inbound.request.body)
        made = answer(
            offer,
            [LocalMedia(talk.source.port)],
            address=ADDRESS,
            policy=_POLICY,
            previous=talk.ours,
        )
        talk.ours = made.sdp
        self._aim(talk, made.media[0].plan.remote)
        self._respond(inbound, 200, made.sdp.serialize())

    @staticmethod
    def _aim(talk: Talk, remote: Remote | None) -> None:
        if remote is not None and remote.port:
            talk.target = (remote.address, remote.port)
