"""The demonstration's recording client, against a user agent server of the same SIP core."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pylibsrtp import Policy, Session

from appliance.demo.metadata import Participant
from appliance.demo.sbc import Sbc, SbcError
from appliance.demo.stream import SUITES
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import Event, IncomingInvite, ReInvite, Update
from appliance.media.sip.flow import Transport
from appliance.media.sip.multipart import message_parts
from appliance.media.sip.offer_answer import LocalMedia, answer
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.transports import SipTransports

PARTIES = [Participant("sip:1@x", "One", "1"), Participant("sip:2@x", "Two", "2")]


class Recorder:
    """Answers what is offered, with two sockets to receive on."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self.sockets:
            one.bind(("127.0.0.1", 0))
            one.settimeout(5)
        self.offers: list[list[str]] = []
        self.kinds: list[list[str]] = []
        self.keys: list[bytes] = []

    def on_event(self, event: Event) -> None:
        if not isinstance(event, IncomingInvite | ReInvite | Update):
            return
        parts = message_parts(event.inbound.request)
        self.kinds.append([part.content_type.essence for part in parts])
        body = b""
        for part in parts:
            if part.content_type.essence == "application/sdp":
                offer = parse_sdp(part.content)
                self.offers.append([str(offer.direction_of(media)) for media in offer.media])
                self.keys = [crypto.key_salt for media in offer.media for crypto in media.cryptos]
                local = [LocalMedia(one.getsockname()[1]) for one in self.sockets]
                body = answer(offer, local, address="127.0.0.1").sdp.serialize()
        self.transports.endpoint.respond(
            event.inbound,
            self.status,
            now=self.transports.now(),
            body=body if self.status == 200 else b"",
            content_type="application/sdp" if body and self.status == 200 else None,
        )


@contextlib.asynccontextmanager
async def recorder(
    transport: Transport, tls: ssl.SSLContext | None = None, status: int = 200
) -> AsyncIterator[Recorder]:
    one = Recorder(status)
    one.transports = SipTransports(
        SipEndpoint(EndpointConfig(contact_params="+sip.srs", extensions=("siprec",))), one.on_event
    )
    listener = await one.transports.listen(transport, "127.0.0.1", tls=tls)
    one.target = (listener.host, listener.port)
    try:
        yield one
    finally:
        await one.transports.close()
        for sock in one.sockets:
            sock.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_with_hold_update_and_end(transport: str) -> None:
    async def run() -> None:
        async with (
            recorder(Transport(transport.upper())) as srs,
            Sbc(transport, srs.target) as sbc,
        ):
            call = await sbc.place(PARTIES, [b"\x55" * 480, b"\xd5" * 480])
            await call.play()
            for sock, expected in zip(srs.sockets, (b"\x55", b"\xd5"), strict=True):
                for _ in range(3):
                    packet = sock.recv(2000)
                    assert packet[12:] == expected * 160
            await call.hold()
            await call.unhold()
            await call.update([Participant("sip:3@x", "Three", "1"), PARTIES[1]])
            await call.hang_up()
            assert srs.offers == [["sendonly"] * 2, ["inactive"] * 2, ["sendonly"] * 2]
            assert srs.kinds[0] == ["application/sdp", "application/rs-metadata+xml"]
            assert srs.kinds[3] == ["application/rs-metadata+xml"]

    asyncio.run(run())


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_over_tls_with_srtp(tmp_path: Path, suite: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "recorder")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(__import__("ipaddress").ip_address("127.0.0.1"))]),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "recorder.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(pem))

    async def run() -> None:
        async with recorder(Transport.TLS, server) as srs, Sbc("tls", srs.target, tls=client) as sbc:
            call = await sbc.place(PARTIES, [b"\x55" * 160, b"\xd5" * 160], srtp=suite)
            await call.play()
            for sock, sent, expected in zip(srs.sockets, srs.keys, (b"\x55", b"\xd5"), strict=True):
                policy = Policy(key=sent, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=SUITES[suite][0])
                assert Session(policy=policy).unprotect(sock.recv(2000))[12:] == expected * 160
            await call.hang_up()

    asyncio.run(run())


def test_a_refusal_is_an_error_with_the_status() -> None:
    async def run() -> None:
        async with recorder(Transport.UDP, status=503) as srs, Sbc("udp", srs.target) as sbc:
            with pytest.raises(SbcError) as caught:
                await sbc.place(PARTIES, [b"", b""])
            assert caught.value.data["status"] == 503

    asyncio.run(run())
