"""A small SIPREC session border controller: a recording client (RFC 7866 section 6) that places calls with real media.

async with Sbc("udp", ("127.0.0.1", 5060)) as sbc:
    call = await sbc.place([caller, agent], [payload, payload])
    await call.play()
    await call.hang_up()
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from appliance.demo import metadata
from appliance.demo.metadata import Participant
from appliance.demo.stream import FRAME_S, PAYLOAD_TYPES, RtpSource, SrtpKey
from appliance.media.sip.crypto import Crypto, InlineKey
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import Answered, Event, ResponseReceived, SessionEnded
from appliance.media.sip.flow import Target, Transport
from appliance.media.sip.message import SipResponse
from appliance.media.sip.multipart import Part, build_multipart
from appliance.media.sip.offer_answer import OfferMedia, make_offer, read_answer
from appliance.media.sip.sdp import Codec, MediaDirection, SessionDescription, parse_sdp
from appliance.media.sip.session import SipSession
from appliance.media.sip.transports import SipTransports
from appliance.media.sip.values import Disposition, MediaType
from appliance.model import EarwitnessError, Kind

ADDRESS = "127.0.0.1"
ANSWER_TIMEOUT_S = 20.0


class SbcError(EarwitnessError):
    """The recorder refused, or did not answer; `data['status']` is the SIP status where there was one."""

    reason = "SBC_REFUSED"
    kind = Kind.UNAVAILABLE


@dataclass(eq=False)
class SbcCall:
    """One recorded call: a dialog with the recorder, and a source of RTP for each party."""

    sbc: Sbc
    session: SipSession
    participants: list[Participant]
    sources: list[RtpSource]
    offer: SessionDescription
    session_id: str
    targets: list[tuple[str, int]] = field(default_factory=list)
    answers: list[SessionDescription] = field(default_factory=list)
    on_frame: Callable[[], None] = lambda: None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def position(self) -> int:
        """Frames played so far."""
        return max(source.position for source in self.sources)

    async def play(self, frames: int | None = None) -> None:
        """Sends all sources side by side in real time, to their end or for so many frames."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        left = max(source.frames - source.position for source in self.sources)
        for number in range(left if frames is None else min(frames, left)):
            delay = begin + number * FRAME_S - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            for source, target in zip(self.sources, self.targets, strict=True):
                if source.position < source.frames:
                    source.send_next(target)
            self.on_frame()

    async def hold(self) -> None:
        """Re-INVITE to inactive."""
        await self._offer(MediaDirection.INACTIVE)

    async def unhold(self) -> None:
        """Re-INVITE back to sendonly."""
        await self._offer(MediaDirection.SENDONLY)

    async def _offer(self, direction: MediaDirection) -> None:
        lines = [
            replace(line, direction=direction) for line in self.sbc.lines(self.participants, self.sources)
        ]
        self.offer = make_offer(lines, address=ADDRESS, previous=self.offer)
        response = await self.sbc.ask(
            lambda endpoint, now: (
                endpoint.reinvite(
                    self.session, now=now, body=self.offer.serialize(), content_type="application/sdp"
                ).key
            )
        )
        self.agreed(response)

    async def update(self, participants: Sequence[Participant]) -> None:
        """A metadata-only UPDATE: who the parties really are."""
        self.participants = list(participants)
        document = metadata.write(self.session_id, self.participants)
        await self.sbc.ask(
            lambda endpoint, now: (
                endpoint.update(
                    self.session, now=now, body=document, content_type="application/rs-metadata+xml"
                ).key
            )
        )

    def agreed(self, response: SipResponse) -> None:
        """Takes the recorder's answer in."""
        theirs = parse_sdp(response.body)
        self.answers.append(theirs)
        lines = read_answer(self.offer, theirs)
        refused = [
            line.plan.index for line in lines if line.plan.refusal is not None or line.plan.remote is None
        ]
        if refused:
            raise SbcError("the recorder refused media lines", lines=refused)
        self.targets = [
            (line.plan.remote.address, line.plan.remote.port) for line in lines if line.plan.remote
        ]

    async def hang_up(self) -> None:
        """BYE, and waits for its answer."""
        self.sbc.do(lambda endpoint, now: endpoint.bye(self.session, now=now))
        await asyncio.wait_for(self.ended.wait(), ANSWER_TIMEOUT_S)
        self.close()

    def close(self) -> None:
        """Closes the sources' sockets."""
        for source in self.sources:
            source.close()


class Sbc:
    """A recording client on loopback. `tls` is the context for transport "tls"."""

    def __init__(self, transport: str, target: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._transport = Transport(transport.upper())
        self._target = Target(self._transport, *target)
        scheme = "sips" if self._transport is Transport.TLS else "sip"
        self._uri = f"{scheme}:recorder@{target[0]}:{target[1]};transport={transport.lower()}"
        # SIPREC offers are larger than a UDP request may be (RFC 3261 section 18.1.1), and real ones are sent all the same.
        self._endpoint = SipEndpoint(
            EndpointConfig(
                contact_user="sbc",
                contact_params="+sip.src",
                user_agent="Earwitness demonstration SBC",
                udp_request_limit=65_000,
            )
        )
        self._tls = tls
        self._waiting: dict[str, asyncio.Future[SipResponse]] = {}
        self._calls: dict[str, SbcCall] = {}

    async def __aenter__(self) -> Self:
        self._transports = SipTransports(self._endpoint, self._on_event, tls_client=self._tls)
        # Requests of the recorder come back over the TLS connection that is up: nobody listens for new ones.
        own = Transport.TCP if self._transport is Transport.TLS else self._transport
        await self._transports.listen(own, ADDRESS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in list(self._calls.values()):
            call.close()
        await self._transports.close()

    def do(self, action: Callable[[SipEndpoint, float], object]) -> None:
        """Lets the endpoint do something now."""
        with self._transports.acting() as now:
            action(self._endpoint, now)

    async def ask(self, action: Callable[[SipEndpoint, float], str]) -> SipResponse:
        """Sends a request (the action gives its key) and waits for its final response. SbcError where it is no 2xx."""
        future: asyncio.Future[SipResponse] = asyncio.get_running_loop().create_future()
        self.do(lambda endpoint, now: self._waiting.__setitem__(action(endpoint, now), future))
        try:
            response = await asyncio.wait_for(future, ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise SbcError("the recorder does not answer") from error
        if response.status >= 300:
            raise SbcError(f"the recorder answered {response.status}", status=response.status)
        return response

    def lines(self, participants: Sequence[Participant], sources: Sequence[RtpSource]) -> list[OfferMedia]:
        """The media lines of an offer: one a party, sending, with the label that the metadata names."""
        offered = []
        for party, source in zip(participants, sources, strict=True):
            number = PAYLOAD_TYPES[source.encoding]
            key = source.key
            offered.append(
                OfferMedia(
                    source.port,
                    (Codec(number, source.encoding, 8000),),
                    proto="RTP/AVP" if key is None else "RTP/SAVP",
                    label=party.label,
                    direction=MediaDirection.SENDONLY,
                    cryptos=() if key is None else (Crypto(1, key.suite, (InlineKey(key.key_salt),)),),
                )
            )
        return offered

    async def place(
        self,
        participants: Sequence[Participant],
        payloads: Sequence[bytes],
        *,
        encoding: str = "PCMU",
        srtp: str = "",
        with_metadata: bool = True,
    ) -> SbcCall:
        """Places a recorded call; `payloads` are G.711 bytes, one a participant. SbcError where it is refused."""
        sources = [RtpSource(payload, encoding, SrtpKey.make(srtp) if srtp else None) for payload in payloads]
        offer = make_offer(self.lines(participants, sources), address=ADDRESS)
        session_id = metadata.new_id()
        kind, body = MediaType("application", "sdp"), offer.serialize()
        if with_metadata:
            kind, body = build_multipart(
                [
                    Part(kind, body),
                    Part(
                        MediaType("application", "rs-metadata+xml"),
                        metadata.write(session_id, participants),
                        Disposition.parse("recording-session"),
                    ),
                ]
            )
        call: list[SbcCall] = []

        def invite(endpoint: SipEndpoint, now: float) -> str:
            session = endpoint.invite(
                self._uri,
                now=now,
                from_=f"<sip:sbc@{ADDRESS}>",
                headers=[("Require", "siprec")],
                body=body,
                content_type=str(kind),
                target=self._target,
            )
            call.append(SbcCall(self, session, list(participants), sources, offer, session_id))
            self._calls[session.id] = call[0]
            return session.id

        try:
            response = await self.ask(invite)
            call[0].agreed(response)
        except EarwitnessError:
            for source in sources:
                source.close()
            raise
        return call[0]

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Answered):
            self._settle(event.session.id, event.response)
        elif isinstance(event, ResponseReceived) and event.response.status >= 200:
            self._settle(event.outbound.key, event.response)
        elif isinstance(event, SessionEnded):
            if event.response is not None:
                self._settle(event.session.id, event.response)
            if call := self._calls.pop(event.session.id, None):
                call.ended.set()

    def _settle(self, key: str, response: SipResponse) -> None:
        future = self._waiting.pop(key, None)
        if future is not None and not future.done():
            future.set_result(response)
