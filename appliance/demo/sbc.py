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
from appliance.media.sip.events import (
    Answered,
    EndCause,
    Event,
    InboundRequest,
    IncomingInvite,
    IncomingRequest,
    OutboundRequest,
    ReInvite,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
    Update,
)
from appliance.media.sip.flow import Target, Transport
from appliance.media.sip.message import SipResponse
from appliance.media.sip.multipart import Part, build_multipart, message_parts
from appliance.media.sip.offer_answer import OfferMedia, make_offer, read_answer
from appliance.media.sip.sdp import Codec, MediaDirection, SessionDescription, parse_sdp
from appliance.media.sip.session import SipSession
from appliance.media.sip.transports import SipTransports
from appliance.media.sip.values import Disposition, MediaType
from appliance.model import EarwitnessError, Kind

ADDRESS = "127.0.0.1"
ANSWER_TIMEOUT_S = 20.0
METADATA = MediaType("application", "rs-metadata+xml")
SNAPSHOT_WANTED = "application/rs-metadata-request"  # RFC 7866, section 7.1.3.2


class SbcError(EarwitnessError):
    """The recorder refused, ended the call, or did not answer; `data['status']` is the SIP status where there was one."""

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
    _answer: asyncio.Future[SipResponse] | None = None
    _stopped_at: float | None = None  # loop time at which the last frame was over

    async def answered(self) -> None:
        """Waits until the recorder has taken the call. SbcError where it refuses it, or a part of it."""
        if self._answer is None:
            return
        try:
            self.agreed(await self.sbc.final(self._answer))
        except BaseException:
            # Nothing may stay half open: an INVITE without an answer is cancelled, an answered one ended.
            self.sbc.do(lambda endpoint, now: endpoint.bye(self.session, now=now))
            self.close()
            raise
        self._answer = None

    async def cancel(self) -> None:
        """Gives up an INVITE that has no final response yet, and waits for its end; `answered` then raises SbcError."""
        self.sbc.do(lambda endpoint, now: endpoint.cancel(self.session, now=now))
        await self._await_end()

    @property
    def position(self) -> int:
        """Frames played so far."""
        return max(source.position for source in self.sources)

    async def play(self, frames: int | None = None) -> None:
        """Sends all sources side by side in real time, to their end or for so many frames.

        SbcError where the recorder ends the call meanwhile.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time()
        self._catch_up(begin)
        left = max(source.frames - source.position for source in self.sources)
        count = left if frames is None else min(frames, left)
        for number in range(count):
            await _sleep_until(begin + number * FRAME_S)
            if self.ended.is_set():
                raise SbcError("the recorder has ended the call")
            for source, target in zip(self.sources, self.targets, strict=True):
                if source.position < source.frames:
                    source.send_next(target)
            self.on_frame()
        self._stopped_at = begin + count * FRAME_S
        await _sleep_until(self._stopped_at)  # the last frame lasts as long as the others

    def _catch_up(self, now: float) -> None:
        """RTP time goes on while nothing is sent (RFC 3550, section 5.1)."""
        if self._stopped_at is not None:
            for source in self.sources:
                source.skip(round((now - self._stopped_at) / FRAME_S))

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
            lambda endpoint, now: endpoint.reinvite(
                self.session, now=now, body=self.offer.serialize(), content_type="application/sdp"
            )
        )
        self.agreed(response)

    async def update(self, participants: Sequence[Participant]) -> None:
        """A metadata-only UPDATE: who the parties really are."""
        self.participants = list(participants)
        await self.sbc.ask(self._metadata)

    def _metadata(self, endpoint: SipEndpoint, now: float) -> OutboundRequest:
        return endpoint.update(
            self.session,
            now=now,
            headers=[("Content-Disposition", "recording-session")],
            body=metadata.write(self.session_id, self.participants),
            content_type=str(METADATA),
        )

    def reply(self, endpoint: SipEndpoint, inbound: InboundRequest, now: float) -> None:
        """Answers a re-INVITE or UPDATE of the recorder: nothing changes, and metadata that it wants is sent."""
        kinds = [part.content_type.essence for part in message_parts(inbound.request)]
        described = inbound.method == "INVITE" or "application/sdp" in kinds
        body = self.offer.serialize() if described else b""
        endpoint.respond(
            inbound, 200, now=now, body=body, content_type="application/sdp" if described else None
        )
        if SNAPSHOT_WANTED in kinds:
            self._metadata(endpoint, now)

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
        """BYE, and waits for its answer. Nothing is sent where the recorder has ended the call already."""
        self.sbc.do(lambda endpoint, now: endpoint.bye(self.session, now=now))
        await self._await_end()

    async def _await_end(self) -> None:
        try:
            await asyncio.wait_for(self.ended.wait(), ANSWER_TIMEOUT_S)
        except TimeoutError as error:
            raise SbcError("the recorder does not answer") from error
        finally:
            self.close()

    def close(self) -> None:
        """Closes the sources' sockets."""
        for source in self.sources:
            source.close()


async def _sleep_until(when: float) -> None:
    """Until that time of the loop's clock; at once where it is over."""
    delay = when - asyncio.get_running_loop().time()
    if delay > 0:
        await asyncio.sleep(delay)


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
        self._waiting: dict[SipSession | OutboundRequest, asyncio.Future[SipResponse]] = {}
        self._calls: dict[SipSession, SbcCall] = {}

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

    async def ask(self, action: Callable[[SipEndpoint, float], OutboundRequest]) -> SipResponse:
        """Sends a request and waits for its final response. SbcError where it is no 2xx."""
        with self._transports.acting() as now:
            answer = self._await(action(self._endpoint, now))
        return await self.final(answer)

    def _await(self, what: SipSession | OutboundRequest) -> asyncio.Future[SipResponse]:
        future: asyncio.Future[SipResponse] = asyncio.get_running_loop().create_future()
        self._waiting[what] = future
        # Whoever waited may have been cancelled, and an error that nobody fetches is none of the loop's business.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    @staticmethod
    async def final(answer: asyncio.Future[SipResponse]) -> SipResponse:
        """Waits for a final response. SbcError where it is no 2xx, or none comes."""
        try:
            response = await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
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
        call = self.begin(participants, payloads, encoding=encoding, srtp=srtp, with_metadata=with_metadata)
        await call.answered()
        return call

    def begin(
        self,
        participants: Sequence[Participant],
        payloads: Sequence[bytes],
        *,
        encoding: str = "PCMU",
        srtp: str = "",
        with_metadata: bool = True,
    ) -> SbcCall:
        """Sends the INVITE and does not wait: `SbcCall.answered` does, `SbcCall.cancel` gives up."""
        sources = [RtpSource(payload, encoding, SrtpKey.make(srtp) if srtp else None) for payload in payloads]
        offer = make_offer(self.lines(participants, sources), address=ADDRESS)
        session_id = metadata.new_id()
        kind, body = MediaType("application", "sdp"), offer.serialize()
        if with_metadata:
            kind, body = build_multipart(
                [
                    Part(kind, body),
                    Part(
                        METADATA,
                        metadata.write(session_id, participants),
                        Disposition.parse("recording-session"),
                    ),
                ]
            )
        with self._transports.acting() as now:
            session = self._endpoint.invite(
                self._uri,
                now=now,
                from_=f"<sip:sbc@{ADDRESS}>",
                headers=[("Require", "siprec")],
                body=body,
                content_type=str(kind),
                target=self._target,
            )
            call = SbcCall(self, session, list(participants), sources, offer, session_id)
            call._answer = self._await(session)
            self._calls[session] = call
        return call

    def _on_event(self, event: Event) -> None:
        endpoint, now = self._endpoint, self._transports.now()
        if isinstance(event, Answered):
            self._settle(event.session, event.response)
        elif isinstance(event, ResponseReceived) and event.response.status >= 200:
            self._settle(event.outbound, event.response)
        elif isinstance(event, RequestFailed):
            self._fail(event.outbound, event.cause)
        elif isinstance(event, SessionEnded):
            if event.response is not None:
                self._settle(event.session, event.response)
            self._fail(event.session, event.cause)
            if call := self._calls.pop(event.session, None):
                call.ended.set()
        elif isinstance(event, ReInvite | Update):
            self._calls[event.session].reply(endpoint, event.inbound, now)
        elif isinstance(event, IncomingRequest):
            endpoint.respond(event.inbound, 200, now=now)
        elif isinstance(event, IncomingInvite):
            endpoint.respond(event.inbound, 603, now=now)  # this border controller only places calls

    def _settle(self, what: SipSession | OutboundRequest, response: SipResponse) -> None:
        future = self._waiting.pop(what, None)
        if future is not None and not future.done():
            future.set_result(response)

    def _fail(self, what: SipSession | OutboundRequest, cause: EndCause) -> None:
        future = self._waiting.pop(what, None)
        if future is not None and not future.done():
            future.set_exception(SbcError("the recorder does not answer", cause=cause.value))
