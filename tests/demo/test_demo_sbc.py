"""The demonstration's recording client, against a user agent server of the same SIP core."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

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
from appliance.media.sip.events import (
    Bye,
    Cancelled,
    Event,
    IncomingInvite,
    ReInvite,
    ResponseReceived,
    Update,
)
from appliance.media.sip.flow import Transport
from appliance.media.sip.multipart import message_parts
from appliance.media.sip.offer_answer import LocalMedia, answer
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.transports import SipTransports

PARTIES = [Participant("sip:1@x", "One", "1"), Participant("sip:2@x", "Two", "2")]


class Recorder:
    """Answers what is offered, with two sockets to receive on."""

    transports: SipTransports
    target: tuple[str, int]

    def __init__(self, status: int, *, lines: int = 2) -> None:
        self.status = status  # 100: rings for ever
        self.lines = lines  # how many media lines are taken
        self.seen: asyncio.Queue[Event] = asyncio.Queue()
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for one in self.sockets:
            one.bind(("127.0.0.1", 0))
            one.settimeout(5)
        self.offers: list[list[str]] = []
        self.kinds: list[list[str]] = []
        self.keys: list[bytes] = []

    async def sees(self, kind: type[Event]) -> Event:
        """Waits for an event of this kind."""
        while True:
            event = await asyncio.wait_for(self.seen.get(), 10)
            if isinstance(event, kind):
                return event

    def on_event(self, event: Event) -> None:
        self.seen.put_nowait(event)
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
                local = [LocalMedia(one.getsockname()[1]) for one in self.sockets[: self.lines]]
                body = answer(offer, local, address="127.0.0.1").sdp.serialize()
        self.transports.endpoint.respond(
            event.inbound,
            180 if self.status == 100 else self.status,
            now=self.transports.now(),
            body=body if self.status == 200 else b"",
            content_type="application/sdp" if body and self.status == 200 else None,
        )


@contextlib.asynccontextmanager
async def recorder(
    transport: Transport, tls: ssl.SSLContext | None = None, status: int = 200, lines: int = 2
) -> AsyncIterator[Recorder]:
    one = Recorder(status, lines=lines)
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


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS of a recorder on loopback, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "recorder")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "recorder.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_over_tls_with_srtp(contexts: tuple[ssl.SSLContext, ssl.SSLContext], suite: str) -> None:
    server, client = contexts

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


def test_no_recorder_there_is_told_at_once() -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            async with Sbc("tcp", taken.getsockname()) as sbc:
                with pytest.raises(SbcError) as caught:
                    await sbc.place(PARTIES, [b"", b""])
                assert caught.value.data["cause"] == "transport"

    asyncio.run(run())


def test_a_call_of_which_a_part_is_refused_is_ended() -> None:
    async def run() -> None:
        async with recorder(Transport.UDP, lines=1) as srs, Sbc("udp", srs.target) as sbc:
            with pytest.raises(SbcError) as caught:
                await sbc.place(PARTIES, [b"", b""])
            assert caught.value.data["lines"] == [1]
            await srs.sees(Bye)

    asyncio.run(run())


def test_cancelled_while_it_rings() -> None:
    async def run() -> None:
        async with recorder(Transport.UDP, status=100) as srs, Sbc("udp", srs.target) as sbc:
            call = sbc.begin(PARTIES, [b"", b""])
            await srs.sees(IncomingInvite)
            await call.cancel()
            with pytest.raises(SbcError) as caught:
                await call.answered()
            assert caught.value.data["status"] == 487
            await srs.sees(Cancelled)

    asyncio.run(run())


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_the_recorder_may_refresh_ask_for_metadata_and_hang_up(
    transport: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = contexts if transport == "tls" else (None, None)

    async def run() -> None:
        async with (
            recorder(Transport(transport.upper()), server) as srs,
            Sbc(transport, srs.target, tls=client) as sbc,
        ):
            call = await sbc.place(PARTIES, [b"\x55" * 160] * 2)
            invite = await srs.sees(IncomingInvite)
            assert isinstance(invite, IncomingInvite)
            with srs.transports.acting() as now:
                srs.transports.endpoint.reinvite(
                    invite.session, now=now, body=call.answers[0].serialize(), content_type="application/sdp"
                )
            refreshed = await srs.sees(ResponseReceived)
            assert isinstance(refreshed, ResponseReceived) and refreshed.response.status == 200
            assert parse_sdp(refreshed.response.body).media == call.offer.media
            with srs.transports.acting() as now:
                srs.transports.endpoint.update(
                    invite.session,
                    now=now,
                    body=b"<requestsnapshot xmlns='urn:ietf:params:xml:ns:recording:1'/>",
                    content_type="application/rs-metadata-request",
                )
            snapshot = await srs.sees(Update)
            assert isinstance(snapshot, Update)
            assert snapshot.inbound.request.headers.get("Content-Disposition") == "recording-session"
            assert b"<datamode>complete</datamode>" in snapshot.inbound.request.body
            with srs.transports.acting() as now:
                srs.transports.endpoint.bye(invite.session, now=now)
            await asyncio.wait_for(call.ended.wait(), 10)
            with pytest.raises(SbcError, match="ended"):
                await call.play()

    asyncio.run(run())


def test_rtp_time_goes_on_while_the_call_is_on_hold() -> None:
    async def run() -> None:
        async with recorder(Transport.UDP) as srs, Sbc("udp", srs.target) as sbc:
            call = await sbc.place(PARTIES, [b"\x55" * 480] * 2)
            await call.play(2)
            begin = asyncio.get_running_loop().time()
            await asyncio.sleep(0.1)  # the length of the silence
            await call.play()
            silence = asyncio.get_running_loop().time() - begin
            packets = [struct.unpack("!BBHI", srs.sockets[0].recv(2000)[:8]) for _ in range(3)]
            assert [kind >> 7 for _, kind, _, _ in packets] == [1, 0, 1]  # markers
            sequences = [number for _, _, number, _ in packets]
            assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(3)]
            steps = [(b - a) & 0xFFFFFFFF for (*_, a), (*_, b) in itertools.pairwise(packets)]
            assert steps[0] == 160
            assert 160 * 5 <= steps[1] <= (silence / 0.02 + 2) * 160
            await call.hang_up()

    asyncio.run(run())
