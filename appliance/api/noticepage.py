"""The HTTPS page where staff acknowledges a notice by a link, without signing in.

Everything that reaches it is hostile: few connections, each short; small requests; a rate for each network and for all; one
answer for every token that cannot be used, whatever the reason. Reading the page uses nothing up, as programs that look at
mail open links: only the form does. Where it cannot be written into the audit log it does not happen.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import parse_qs

import sqlalchemy as sa
import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from appliance.access.errors import RateLimitError
from appliance.access.networks import network_of
from appliance.api import names, noticehtml, noticelinks
from appliance.api.acknowledging import made_by_link
from appliance.api.errors import FieldInvalidError, RoutingUnwrittenError
from appliance.api.limits import OpenCalls, RateLimit
from appliance.api.parts import Parts
from appliance.api.stafffields import display_name
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog import acknowledgements
from appliance.catalog import noticelinks as links
from appliance.catalog.noticeerrors import NoticeLinkInvalidError
from appliance.catalog.noticelinks import Opened
from appliance.model import EarwitnessError, Kind, UnavailableError, new_id

log = structlog.get_logger()

MAX_CONNECTIONS: Final = 100
MAX_OF_NETWORK: Final = 10
CONNECTION_S: Final = 20.0  # whatever is done on it
HANDSHAKE_S: Final = 5.0
MAX_FORM: Final = 4096  # bytes
PER_SECOND: Final = 1.0  # for each network
BURST: Final = 20.0
ALL_PER_SECOND: Final = 50.0
ALL_BURST: Final = 100.0
METHOD: Final = "/notices-page/acknowledge"
"""As the audit log calls it."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",  # the token is in the path
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


class NoticePageTakenError(UnavailableError):
    """The address of the page for notices cannot be listened on."""

    reason = "NOTICE_ADDRESS_UNAVAILABLE"


class _Server(web.Server):
    """Makes connections that say when they are over."""

    def __call__(self) -> _Connection:
        return _Connection(self)


class _Connection(RequestHandler):
    def __init__(self, server: _Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None is no log, which would hold the tokens
            max_headers=50,
            max_field_size=4096,
            max_line_size=2048,
            keepalive_timeout=1.0,
            lingering_time=0.5,
        )
        self.over = asyncio.Event()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.over.set()


class NoticePage:
    """See the module."""

    def __init__(self, parts: Parts, trail: Trail, now_s: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._trail = trail
        self._now_s = now_s
        self._settings = parts.settings.notices
        self._rate = RateLimit(PER_SECOND, BURST)
        self._all = RateLimit(ALL_PER_SECOND, ALL_BURST)
        self._open, self._networks = OpenCalls(MAX_CONNECTIONS), OpenCalls(MAX_OF_NETWORK)
        self._tls: ssl.SSLContext | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._carried: set[asyncio.Task[None]] = set()
        self.port: int | None = None
        """Where it is served; None: nowhere."""

    @property
    def base_url(self) -> str:
        """What links begin with; empty: no page is served."""
        if self.port is None:
            return ""
        return self._settings.url or self._settings.at(self.port)

    async def start(self) -> None:
        """Listen, where the settings say so; NoticePageTakenError."""
        if self._settings.port < 0:
            return
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self.reload()
        settings = self._settings
        try:
            found = socket.getaddrinfo(
                settings.address,
                settings.port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST,
            )
            listening = socket.create_server(found[0][4][:2], family=found[0][0], backlog=64)
        except OSError as error:
            raise NoticePageTakenError(
                f"{settings.address}:{settings.port} (notices.address, notices.port) cannot be listened on",
                port=settings.port,
            ) from error
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self._keep(self._accept(listening, self._tls))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        """Takes connections as far as there is room, before anything is done for them."""
        loop, server = asyncio.get_running_loop(), _Server(self._handle)
        with listening:
            while True:
                try:
                    connection, peer = await loop.sock_accept(listening)
                except (
                    OSError
                ) as error:  # no more files, or the peer went: others are taken when there is room
                    log.warning("notice page does not take a connection", errno=error.errno)
                    await asyncio.sleep(0.1)
                    continue
                network = _network_of(str(peer[0]))
                try:
                    self._open.begin("")
                except RateLimitError:
                    connection.close()
                    continue
                try:
                    self._networks.begin(network)
                except RateLimitError:
                    self._open.end("")
                    connection.close()
                    continue
                self._keep(self._serve(server, connection, network, tls))

    async def _serve(
        self, server: _Server, connection: socket.socket, network: str, tls: ssl.SSLContext
    ) -> None:
        transport: asyncio.BaseTransport | None = None
        try:
            async with asyncio.timeout(CONNECTION_S):
                loop = asyncio.get_running_loop()
                transport, made = await loop.connect_accepted_socket(
                    server, connection, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S, ssl_shutdown_timeout=1.0
                )
                await made.over.wait()
        except (OSError, TimeoutError):
            pass  # it has gone, or said nothing for too long
        finally:
            if transport is not None:
                transport.abort()  # type: ignore[attr-defined]
            else:
                connection.close()
            self._networks.end(network)
            self._open.end("")

    def reload(self) -> None:
        """Take the box's certificate as it is now, for new connections."""
        if self._tls is not None:
            pki = self._parts.settings.layout.pki
            self._tls.load_cert_chain(pki / "server.crt", pki / "server.key")

    async def close(self) -> None:
        """Nobody is listened to any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._carried, return_exceptions=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            network = _network(request.transport)
            self._rate.take(network, self._now_s())
            self._all.take("", self._now_s())
            return await self._answer(request)
        except RateLimitError:
            return _reply(429, noticehtml.BUSY, {"Retry-After": "60"})
        except NoticeLinkInvalidError:
            return _reply(404, noticehtml.GONE)
        except EarwitnessError as error:
            if error.kind is not Kind.UNAVAILABLE:
                log.error("notice page fault", reason=error.reason)
            return _reply(503, noticehtml.AWAY, {"Retry-After": "60"})
        except Exception as error:  # noqa: BLE001 - the last resort of a server; its text may hold what was sent
            log.error("notice page fault", error=type(error).__name__)
            return _reply(500, noticehtml.AWAY)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD", "POST"):
            return _reply(405, noticehtml.GONE, {"Allow": "GET, HEAD, POST"})
        now_ns = self._parts.clock_ns()
        path = request.rel_url.raw_path
        token = noticelinks.read(self._parts.link_key, path.removeprefix("/n/"), now_ns / 1e9)
        if token is None or not path.startswith("/n/") or request.query_string:
            raise NoticeLinkInvalidError("no link that can be used")

        def look(connection: sa.Connection) -> Opened:
            return links.open_link(connection, token.link_id, token.digest, now_ns)

        opened = await self._parts.store.read(look)
        shown = (opened.notice, opened.version, opened.member.display_name)
        if request.method != "POST":
            return _reply(200, noticehtml.notice(*shown))
        typed = await _typed(request)
        if typed is None:
            return _reply(422, noticehtml.notice(*shown, wrong=noticehtml.TOLD))
        await self._acknowledge(opened, look, typed, now_ns)
        return _reply(200, noticehtml.DONE)

    async def _acknowledge(
        self, opened: Opened, look: Callable[[sa.Connection], Opened], typed: str, now_ns: int
    ) -> None:
        request = new_id()
        await self._audit(opened, request, "asked", durable=True)

        def work(connection: sa.Connection) -> None:
            now = look(connection)  # it may have been used, or the notice changed, meanwhile
            if now.version.version != opened.version.version:
                raise NoticeLinkInvalidError("no link that can be used")
            links.use(connection, now.link_id, now_ns)
            acknowledgements.add(connection, made_by_link(now, typed, now_ns))

        # Who goes away now has said so all the same, and how it ended is written down.
        carried = asyncio.create_task(self._carry_out(opened, request, work))
        self._carried.add(carried)
        carried.add_done_callback(self._carried.discard)
        await asyncio.shield(carried)

    async def _carry_out(self, opened: Opened, request: str, work: Callable[[sa.Connection], None]) -> None:
        outcome = "INTERNAL"
        try:
            await self._parts.store.write(work)
            outcome = "OK"
            await self._publish()
        except EarwitnessError as error:
            outcome = error.reason
            raise
        finally:
            try:
                await self._audit(opened, request, "done", durable=False, outcome=outcome)
            except AuditUnavailableError:
                # What happened has happened, and the link is used up; the condition is raised, the next one is refused.
                log.error("outcome not audited", request=request, outcome=outcome)

    async def _publish(self) -> None:
        try:
            await self._parts.routing.publish()
        except RoutingUnwrittenError as error:
            # It is acknowledged. The table is written with the next round of the notices.
            log.error("routing not written", reason=error.reason)

    async def _audit(self, opened: Opened, request: str, what: str, *, durable: bool, **more: object) -> None:
        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": what,
                "request": request,
                "who": "",
                "tenant": opened.tenant_id,
                "method": METHOD,
                "subject": names.notice(opened.tenant_id, opened.notice.notice_id),
                "staff_member": names.staff_member(opened.tenant_id, opened.member.staff_id),
                "version": opened.version.version,
                "link": opened.link_id,
                **more,
            },
            durable=durable,
        )


async def _typed(request: web.BaseRequest) -> str | None:
    """The name that was typed, in NFC; None where the form is not what it should be."""
    if (
        request.content_type != "application/x-www-form-urlencoded"
        or (request.content_length or 0) > MAX_FORM
    ):
        return None
    raw = await request.content.read(MAX_FORM + 1)
    while len(raw) <= MAX_FORM and not request.content.at_eof():
        raw += await request.content.read(MAX_FORM + 1 - len(raw))
    if len(raw) > MAX_FORM:
        return None
    try:
        form = parse_qs(raw.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=4)
        name, read = form[noticehtml.NAME], form[noticehtml.READ]
        if len(name) != 1 or read != ["yes"]:
            return None
        return display_name(name[0], noticehtml.NAME)
    except (ValueError, KeyError, FieldInvalidError):
        return None


def _reply(status: int, body: bytes, more: dict[str, str] | None = None) -> web.Response:
    made = web.Response(
        status=status,
        body=body,
        headers={"Content-Type": "text/html; charset=utf-8", **HEADERS, **(more or {})},
    )
    made.force_close()
    return made


def _network(transport: asyncio.BaseTransport | None) -> str:
    peer = transport.get_extra_info("peername") if transport is not None else None
    return _network_of(str(peer[0]) if isinstance(peer, tuple) else "")


def _network_of(host: str) -> str:
    return network_of(f"ipv6:[{host}]:0" if ":" in host else f"ipv4:{host}:0")
