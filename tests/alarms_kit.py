"""Real far ends on loopback: mail, web, syslog; their certificates; and something to tell."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass, field, replace

from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.alarms.alarm import Alarm
from appliance.alarms.message import Message, What
from appliance.alarms.severity import Severity
from appliance.model import new_id

NOW = 1_790_000_000 * 10**9
SCRIPTS = (
    "Ward 7 – Ærøskøbing Ħal Ğüneş Żółć | Ωμέγα | Больница | Հիվանդանոց | בית חולים | مستشفى | अस्पताल | হাসপাতাল | 医院"
    " | 病院 | 병원 | โรงพยาบาล | ཨ | 𐌰𐍄 | 👩‍⚕️🏥"
)


def message(what: What = What.RAISED, *, tenant_name: str = "", kind: str = "DiskFull", **fields) -> Message:
    base = Alarm(new_id(), kind, Severity.CRITICAL, "capture-0", "", NOW, NOW, data={"free_percent": 3})
    return Message(new_id(), what, replace(base, **fields), tenant_name, "box7.hospital.example", NOW)


@dataclass
class Authority:
    """A certificate for localhost and 127.0.0.1, and the context of a server that shows it."""

    pem: str
    server: ssl.SSLContext


def authority(tmp_path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / f"{new_id()}.pem"
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + pem.encode()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return Authority(pem, context)


@dataclass
class Mails:
    """What a mail server does with mail."""

    refused: set[str] = field(default_factory=set)
    failing: bool = False  # answers the data with 451
    hanging_up: bool = False  # takes it, and is gone without an answer
    answer_s: float = 0.0  # how long it takes to say that it took it
    got: list[tuple[list[str], bytes, bool]] = field(default_factory=list)  # recipients, content, over TLS

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return "550 5.1.1 nobody of that name\x1b[2J"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.failing:
            return "451 4.3.0 come again"
        self.got.append((list(envelope.rcpt_tos), envelope.content, session.ssl is not None))
        if self.hanging_up:
            server.transport.abort()
        await asyncio.sleep(self.answer_s)
        return "250 2.0.0 taken as 42"


class MailServer(Controller):
    """aiosmtpd on a port of its own, in a thread."""

    def __init__(
        self, mails: Mails, tls: ssl.SSLContext, *, implicit: bool = False, auth: str = "", utf8: bool = True
    ) -> None:
        self.password = auth.encode()
        self._utf8 = utf8
        self._starttls = None if implicit else tls
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        super().__init__(
            mails,
            hostname="127.0.0.1",
            port=port,
            ssl_context=tls if implicit else None,
            server_hostname="localhost",
        )

    def factory(self):
        return SMTP(
            self.handler,
            hostname="mail.example",
            enable_SMTPUTF8=self._utf8,
            tls_context=self._starttls,
            auth_required=bool(self.password),
            authenticator=self._check,
            auth_require_tls=self._starttls is not None,
        )

    def _check(self, server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and data.password == self.password
        return AuthResult(success=right, handled=right or False)


@contextlib.contextmanager
def mail_server(mails: Mails, tls: ssl.SSLContext, **how):
    server = MailServer(mails, tls, **how)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def silent_server():
    """Takes connections, and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


class Hooks:
    """A web server over TLS, in a thread; `status` is how it answers."""

    def __init__(self, tls: ssl.SSLContext, port: int = 0) -> None:
        self.status = 204
        self.answer = b""
        self.headers: dict[str, str] = {}
        self.got: list[tuple[dict[str, str], bytes]] = []
        self._tls = tls
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _handle(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, body=self.answer or None, headers=self.headers)

    async def _begin(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return runner

    def __enter__(self) -> Hooks:
        self._thread.start()
        self._runner = asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(10)
        return self

    def __exit__(self, *what: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/alarms?box=7"


class Collector:
    """A collector of syslog over TLS; what arrives is in `got`."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self.got = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), plain, self._tls.wrap_socket(plain, server_side=True) as peer:
                while piece := peer.recv(4096):
                    self.got += piece

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
