"""Real sockets on loopback: framing, reuse of connections, TLS, bounds, and calls over each transport."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sip_link import ANSWER, SDP

from appliance.media.sip.connections import TransportLimits
from appliance.media.sip.endpoint import EndpointConfig, SipEndpoint
from appliance.media.sip.events import (
    Acked,
    Answered,
    EndCause,
    Event,
    IncomingInvite,
    IncomingRequest,
    RequestFailed,
    ResponseReceived,
    SessionEnded,
)
from appliance.media.sip.flow import Listener, Target, Transport
from appliance.media.sip.framing import StreamFramer
from appliance.media.sip.message import SipResponse, parse_message
from appliance.media.sip.transports import ListenError, SipTransports

E = TypeVar("E")
pytestmark = pytest.mark.filterwarnings("error")


class Agent:
    """An endpoint with sockets. `expect` awaits an event."""

    def __init__(
        self,
        limits: TransportLimits,
        tls_client: ssl.SSLContext | Callable[[], ssl.SSLContext] | None,
        **config: object,
    ) -> None:
        self.endpoint = SipEndpoint(EndpointConfig(**({"session_expires": 0} | config)))  # type: ignore[arg-type]
        self.handler: Callable[[Event], None] = lambda event: None
        self.log: list[Event] = []
        self._news = asyncio.Event()
        self.transports = SipTransports(self.endpoint, self._event, limits=limits, tls_client=tls_client)

    def _event(self, event: Event) -> None:
        self.log.append(event)
        self.handler(event)
        self._news.set()

    async def expect(self, kind: type[E]) -> E:
        while True:
            for event in self.log:
                if isinstance(event, kind):
                    return event
            self._news.clear()
            await self._news.wait()

    def answer(self, event: Event) -> None:
        """A user agent that takes every call and request."""
        if isinstance(event, IncomingInvite):
            self.endpoint.respond(event.inbound, 200, body=ANSWER, now=self.transports.now())
        elif isinstance(event, IncomingRequest):
            self.endpoint.respond(event.inbound, 200, now=self.transports.now())


@asynccontextmanager
async def agent(
    limits: TransportLimits = TransportLimits(),
    tls_client: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = None,
    **config: object,
) -> AsyncIterator[Agent]:
    made = Agent(limits, tls_client, **config)
    try:
        yield made
    finally:
        await made.transports.close()
        assert made.transports.connections == 0


def uri(listener: Listener) -> str:
    host = f"[{listener.host}]" if listener.ipv6 else listener.host
    return f"sip:srs@{host}:{listener.port};transport={listener.transport.lower()}"


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client context, with a certificate made here."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "recorder")])
    names = [x509.IPAddress(ipaddress.ip_address(host)) for host in ("127.0.0.1", "::1")]
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    client = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    return server, client


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_call_is_set_up_and_ended(
    transport: Transport, host: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async def main() -> None:
        tls = contexts[0] if transport is Transport.TLS else None
        async with agent() as server, agent(tls_client=contexts[1]) as caller:
            listener = await server.transports.listen(transport, host, tls=tls)
            await caller.transports.listen(transport, host, tls=tls)
            assert listener.port != 0
            server.handler = server.answer
            with caller.transports.acting() as now:
                session = caller.endpoint.invite(
                    uri(listener), from_="<sip:src@example.org>", body=SDP * 20, now=now
                )
            answered = await caller.expect(Answered)
            assert answered.response.body == ANSWER
            acked = await server.expect(Acked)
            assert acked.session.flow is not None
            assert (acked.session.flow.connection is not None) == transport.reliable
            with caller.transports.acting() as now:
                caller.endpoint.bye(session, now=now)
            assert (await caller.expect(SessionEnded)).cause is EndCause.LOCAL_BYE
            assert (await server.expect(SessionEnded)).cause is EndCause.REMOTE_BYE

    asyncio.run(main())


def test_the_callee_ends_the_call_over_the_connection_it_came_by() -> None:
    """The caller's Contact cannot be reached (nobody listens there): its own connection still can."""

    async def main() -> None:
        async with agent() as server, agent() as caller:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                caller.endpoint.set_listeners([Listener(Transport.TCP, "127.0.0.1", unused.getsockname()[1])])
                server.handler = server.answer
                with caller.transports.acting() as now:
                    caller.endpoint.invite(uri(listener), from_="<sip:a@b>", body=SDP, now=now)
                session = (await server.expect(Acked)).session
                with server.transports.acting() as now:
                    server.endpoint.bye(session, now=now)
                ended = await server.expect(SessionEnded)
            assert ended.response is not None and ended.response.status == 200
            assert (await caller.expect(SessionEnded)).cause is EndCause.REMOTE_BYE

    asyncio.run(main())


def request(method: str, number: int, body: bytes = b"", via: str = "TCP 192.0.2.9:5060") -> bytes:
    lines = [
        f"{method} sip:srs@127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/{via};branch=z9hG4bK{method}{number};rport",
        "From: <sip:a@example.org>;tag=1",
        "To: <sip:srs@127.0.0.1>",
        f"Call-ID: {number}@test",
        f"CSeq: {number} {method}",
        "Contact: <sip:a@192.0.2.9>",
        "Max-Forwards: 70",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def read_messages(reader: asyncio.StreamReader, count: int) -> list[SipResponse]:
    framer, found = StreamFramer(), []
    while len(found) < count:
        data = await reader.read(65536)
        assert data, "closed early"
        for item in framer.feed(data):
            assert isinstance(item, bytes)
            message = parse_message(item)
            assert isinstance(message, SipResponse)
            found.append(message)
    return found


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the peer is gone, be it by an orderly end or by a reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_messages_in_pieces_of_any_size_are_answered_on_their_connection(size: int) -> None:
    async def main() -> None:
        async with agent() as server:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            server.handler = server.answer
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            stream = b"".join(request("OPTIONS", number, b"x" * number) for number in range(1, 6))
            for start in range(0, len(stream), size):
                writer.write(stream[start : start + size])
                await writer.drain()
            responses = await read_messages(reader, 5)
            assert [(r.status, r.cseq.number) for r in responses] == [(200, n) for n in range(1, 6)]
            assert responses[0].via[0].received == "127.0.0.1"
            writer.close()

    asyncio.run(main())


def test_a_keep_alive_gets_its_pong() -> None:
    async def main() -> None:
        async with agent() as server:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            writer.write(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"\r\n"
            writer.close()

    asyncio.run(main())


@pytest.mark.parametrize("start", [b"", b"OPTIONS sip:a@b SIP/2.0\r\nVia: "])
def test_who_sends_no_whole_message_in_time_is_cut_off(start: bytes) -> None:
    async def main() -> None:
        async with agent(TransportLimits(first_message=0.05)) as server:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            writer.write(start)
            assert await rest_of(reader) == b""
            writer.close()

    asyncio.run(main())


def test_a_slow_second_message_is_cut_off_too() -> None:
    async def main() -> None:
        async with agent(TransportLimits(message=0.05)) as server:
            server.handler = server.answer
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            writer.write(request("OPTIONS", 1) + b"OPTIONS sip:a")
            await read_messages(reader, 1)
            assert await rest_of(reader) == b""
            writer.close()

    asyncio.run(main())


def test_what_is_no_sip_closes_the_connection() -> None:
    async def main() -> None:
        async with agent() as server:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.read() == b""
            assert server.transports.counters["streams_damaged"] == 1
            writer.close()

    asyncio.run(main())


def test_connections_are_bounded_per_host() -> None:
    async def main() -> None:
        async with agent(TransportLimits(connections_per_host=2)) as server:
            server.handler = server.answer
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            kept = [await asyncio.open_connection(listener.host, listener.port) for _ in range(2)]
            for reader, writer in kept:
                writer.write(request("OPTIONS", id(reader) % 1000 + 1))
                await read_messages(reader, 1)
            reader, writer = await asyncio.open_connection(listener.host, listener.port)
            assert await reader.read() == b""
            assert server.transports.counters["connections_refused"] == 1
            for _, other in [*kept, (reader, writer)]:
                other.close()

    asyncio.run(main())


def test_a_large_datagram_is_taken() -> None:
    """A SIPREC INVITE is far above 1300 octets, and comes by UDP all the same."""

    async def main() -> None:
        async with agent() as server:
            server.handler = server.answer
            listener = await server.transports.listen(Transport.UDP, "127.0.0.1")
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.bind(("127.0.0.1", 0))
                data = request("OPTIONS", 1, b"x" * 60_000, via="UDP 192.0.2.9:9")
                await loop.sock_sendto(client, data, (listener.host, listener.port))
                response = parse_message(await loop.sock_recv(client, 65536))
            assert isinstance(response, SipResponse)
            assert response.status == 200
            assert response.via[0].rport is not None

    asyncio.run(main())


def test_a_large_request_goes_by_tcp_and_by_udp_where_there_is_no_tcp() -> None:
    """RFC 3261, section 18.1.1."""

    async def main(with_tcp: bool) -> str:
        async with agent() as server, agent() as caller:
            listener = await server.transports.listen(Transport.UDP, "127.0.0.1")
            if with_tcp:
                await server.transports.listen(Transport.TCP, "127.0.0.1", listener.port)
            await caller.transports.listen(Transport.UDP, "127.0.0.1")
            server.handler = server.answer
            with caller.transports.acting() as now:
                caller.endpoint.invite(uri(listener), from_="<sip:a@b>", body=SDP * 20, now=now)
            invite = await server.expect(IncomingInvite)
            await caller.expect(Answered)
            return invite.inbound.request.via[0].transport

    assert asyncio.run(main(True)) == "TCP"
    assert asyncio.run(main(False)) == "UDP"


def test_a_request_to_nobody_fails_at_once() -> None:
    async def main() -> None:
        async with agent() as caller:
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                with caller.transports.acting() as now:
                    caller.endpoint.request(
                        "OPTIONS",
                        f"sip:127.0.0.1:{unused.getsockname()[1]};transport=tcp",
                        from_="<sip:a@b>",
                        now=now,
                    )
                assert (await caller.expect(RequestFailed)).cause is EndCause.TRANSPORT

    asyncio.run(main())


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("host", ["pbx..example", "x" * 64 + ".example"])
def test_a_request_to_what_cannot_be_a_name_fails_at_once(transport: Transport, host: str) -> None:
    async def main() -> None:
        async with agent() as caller:
            await caller.transports.listen(Transport.UDP, "127.0.0.1")
            for failed in (1, 2):  # the first is not waited with for ever, nor is the second
                with caller.transports.acting() as now:
                    caller.endpoint.request(
                        "OPTIONS",
                        "sip:pbx.example",
                        from_="<sip:a@b>",
                        target=Target(transport, host, 5060),
                        now=now,
                    )
                assert (await caller.expect(RequestFailed)).cause is EndCause.TRANSPORT
                assert caller.transports.counters["messages_not_sent"] == failed
                caller.log.clear()

    asyncio.run(main())


def test_a_request_fails_too_where_the_connection_fails_by_a_fault() -> None:
    def broken() -> ssl.SSLContext:
        raise RuntimeError("no context")

    async def main() -> None:
        faults: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: faults.append(context["exception"])
        )
        async with agent(tls_client=broken) as caller:
            with caller.transports.acting() as now:
                caller.endpoint.request(
                    "OPTIONS",
                    "sip:pbx.example",
                    from_="<sip:a@b>",
                    target=Target(Transport.TLS, "127.0.0.1", 5061),
                    now=now,
                )
            assert (await caller.expect(RequestFailed)).cause is EndCause.TRANSPORT
            assert [str(fault) for fault in faults] == ["no context"]

    asyncio.run(main())


def test_a_request_whose_connection_closes_unanswered_fails() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with agent() as caller:
            with caller.transports.acting() as now:
                caller.endpoint.request(
                    "OPTIONS", f"sip:127.0.0.1:{port};transport=tcp", from_="<sip:a@b>", now=now
                )
            assert (await caller.expect(RequestFailed)).cause is EndCause.TRANSPORT
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_requests_to_one_peer_share_a_connection() -> None:
    async def main() -> None:
        async with agent() as server, agent() as caller:
            server.handler = server.answer
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")
            with caller.transports.acting() as now:
                for _ in range(5):
                    caller.endpoint.request("OPTIONS", uri(listener), from_="<sip:a@b>", now=now)
            while len([e for e in caller.log if isinstance(e, ResponseReceived)]) < 5:
                caller.log = [e for e in caller.log if isinstance(e, ResponseReceived)]
                caller._news.clear()
                await caller._news.wait()
            assert caller.transports.connections == 1

    asyncio.run(main())


def test_a_failing_handler_is_reported_and_the_next_event_comes() -> None:
    async def main() -> None:
        reported: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        async with agent() as server, agent() as caller:
            listener = await server.transports.listen(Transport.TCP, "127.0.0.1")

            def handler(event: Event) -> None:
                server.answer(event)
                raise RuntimeError("a bug of the application")

            server.handler = handler
            with caller.transports.acting() as now:
                caller.endpoint.request("OPTIONS", uri(listener), from_="<sip:a@b>", now=now)
            assert (await caller.expect(ResponseReceived)).response.status == 200
        assert isinstance(reported[0]["exception"], RuntimeError)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("transport", "host"),
    [(Transport.UDP, "0.0.0.0"), (Transport.UDP, "localhost"), (Transport.TLS, "127.0.0.1")],
)
def test_what_cannot_be_listened_on_is_told(transport: Transport, host: str) -> None:
    async def main() -> None:
        async with agent() as server:
            with pytest.raises(ListenError):
                await server.transports.listen(transport, host)

    asyncio.run(main())


def test_a_host_name_is_resolved() -> None:
    async def main() -> None:
        async with agent() as server, agent() as caller:
            server.handler = server.answer
            listener = await server.transports.listen(Transport.UDP, "127.0.0.1")
            await caller.transports.listen(Transport.UDP, "127.0.0.1")
            with caller.transports.acting() as now:
                caller.endpoint.request(
                    "OPTIONS",
                    "sip:srs@example.org",
                    from_="<sip:a@b>",
                    target=Target(Transport.UDP, "localhost", listener.port),
                    now=now,
                )
            assert (await caller.expect(ResponseReceived)).response.status == 200

    asyncio.run(main())
