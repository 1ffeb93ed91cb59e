"""A provider for tests: a registrar and a peer for calls, of the house's own SIP stack, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from signaling_kit import TIMEOUT_S

from appliance.media.sip.digest import DigestServer, Verdict
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import Event, IncomingInvite, IncomingRequest
from appliance.media.sip.flow import Transport
from appliance.media.sip.message import SipRequest
from appliance.media.sip.offer_answer import AnswerPolicy, LocalMedia, OfferMedia, answer, make_offer
from appliance.media.sip.sdp import Codec, parse_sdp
from appliance.media.sip.session import InboundRequest, SipSession
from appliance.media.sip.transports import SipTransports

PASSWORD = "correct horse"
HOST = "127.0.0.1"
CODECS = (Codec(0, "PCMU", 8000), Codec(101, "telephone-event", 8000, 1, "0-16"))


@dataclass(frozen=True)
class Said:
    """What is answered to a REGISTER before anything is checked."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


class Provider:
    """`script` is answered first, one REGISTER each. `expires` is granted (0: as asked); None of `realm`: no digest."""

    def __init__(self, realm: str | None = "provider.example", user: str = "box", expires: int = 0) -> None:
        self.endpoint = SipEndpoint(
            EndpointConfig(contact_user="provider", methods=(*EndpointConfig().methods, "REGISTER"))
        )
        known = {user: PASSWORD}
        self.digest = DigestServer(realm, known.get, secret=bytes(32)) if realm is not None else None
        self.expires = expires
        self.script: list[Said] = []
        self.contact_params = True
        self.registers: list[SipRequest] = []  # those that were let in
        self.invites: list[SipRequest] = []  # likewise
        self.refused: list[SipRequest] = []
        self.calls: list[SipSession] = []
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Provider:
        self.transports = SipTransports(self.endpoint, self._on_event)
        self.listener = await self.transports.listen(Transport.UDP, HOST)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transports.close()

    @property
    def uri(self) -> str:
        return f"sip:{HOST}:{self.listener.port}"

    @property
    def contact(self) -> str:
        """What is registered now; empty where nothing is."""
        last = self.registers[-1] if self.registers else None
        return str(last.contact.uri) if last is not None and last.expires and last.contact else ""

    async def until(self, met: Callable[[], Any]) -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := met()):
                self._changed.clear()
                await self._changed.wait()
            return found

    def call(self, uri: str, **more: Any) -> SipSession:
        """Calls the box."""
        offer = make_offer([OfferMedia(40_000, CODECS)], address=HOST)
        more.setdefault("from_", "<sip:07700900123@provider.example>")
        with self.transports.acting() as now:
            return self.endpoint.invite(
                uri, now=now, body=offer.serialize(), content_type="application/sdp", **more
            )

    # -- what comes --------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        match event:
            case IncomingInvite(session, inbound):
                if self._let_in(inbound, "Proxy-Authorization", "Proxy-Authenticate", 407):
                    self.invites.append(inbound.request)
                    self.calls.append(session)
                    made = answer(
                        parse_sdp(inbound.request.body),
                        [LocalMedia(41_000)],
                        address=HOST,
                        policy=AnswerPolicy(sends=True),
                    )
                    self._respond(inbound, 200, body=made.sdp.serialize())
            case IncomingRequest(inbound, _) if inbound.request.method == "REGISTER":
                self._register(inbound)
            case IncomingRequest(inbound, _):
                self._respond(inbound, 200)
        self.events.append(event)
        self._changed.set()

    def _register(self, inbound: InboundRequest) -> None:
        request = inbound.request
        if self.script:
            said = self.script.pop(0)
            self.refused.append(request)
            self._respond(inbound, said.status, headers=list(said.headers))
        elif self._let_in(inbound, "Authorization", "WWW-Authenticate", 401):
            self.registers.append(request)
            granted = min(self.expires or 10**6, request.expires or 0)
            assert request.contact is not None
            if self.contact_params:
                headers = [("Contact", f"<{request.contact.uri}>;expires={granted}")]
            else:
                headers = [("Expires", str(granted))]
            self._respond(inbound, 200, headers=headers)

    def _let_in(self, inbound: InboundRequest, header: str, challenge: str, status: int) -> bool:
        if self.digest is None:
            return True
        request = inbound.request
        with self.transports.acting() as now:
            value = request.headers.get(header)
            if value and self.digest.verify(value, method=request.method, now=now).verdict is Verdict.GRANTED:
                return True
            if value:
                self.refused.append(request)
            self.endpoint.respond(
                inbound,
                status,
                now=now,
                headers=[(challenge, one) for one in self.digest.challenges(now)],
            )
        return False

    def _respond(self, inbound: InboundRequest, status: int, *, headers: Any = (), body: bytes = b"") -> None:
        with self.transports.acting() as now:
            self.endpoint.respond(
                inbound,
                status,
                now=now,
                headers=headers,
                body=body,
                content_type="application/sdp" if body else None,
            )


@contextlib.asynccontextmanager
async def a_provider(**how: Any) -> AsyncIterator[Provider]:
    async with Provider(**how) as made:
        yield made
