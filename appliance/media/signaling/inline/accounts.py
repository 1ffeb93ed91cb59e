"""How the box proves itself to providers and switchboards, and registers with them (RFC 3261 sections 10 and 22)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from appliance.config.settings import SipAccount
from appliance.media.sip.core import Credentials
from appliance.media.sip.endpoint import UNREACHABLE, SipEndpoint
from appliance.media.sip.events import Event, RequestFailed, ResponseReceived
from appliance.media.sip.message import SipRequest
from appliance.media.sip.session import OutboundRequest
from appliance.media.sip.transports import SipTransports
from appliance.media.sip.uri import SipUri
from appliance.process.status import ALARM, Status

NOT_REGISTERED = "RegistrationFailed"
RETRY_S = 30.0
MOST_RETRY_S = 600.0
ANSWER_S = 40.0
MAX_PASSWORD = 1024

log = structlog.get_logger()


class Accounts:
    """Credentials by the domain that a request goes to."""

    def __init__(self, accounts: Sequence[SipAccount]) -> None:
        self._accounts = {one.domain.lower(): one for one in accounts}

    def credentials(self, request: SipRequest) -> Credentials | None:
        """For a request that was challenged; None where there are none, or the password cannot be read."""
        for host in (_host(request), request.to.uri.host if isinstance(request.to.uri, SipUri) else ""):
            account = self._accounts.get(host.lower())
            if account is not None:
                password = read_password(account.password_file)
                return Credentials(account.username, password) if password else None
        return None


def _host(request: SipRequest) -> str:
    return request.uri.host if isinstance(request.uri, SipUri) else ""


def read_password(path: Path) -> str:
    """The first line of the file; "" where it cannot be read, which is logged without what stands in it."""
    try:
        with path.open("r", encoding="utf-8") as file:
            return file.readline(MAX_PASSWORD).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        log.error("password of a SIP account cannot be read", error=type(error).__name__)
        return ""


class Registrar:
    """Keeps the box registered wherever its accounts say so; a failure is a condition until it is mended."""

    def __init__(self, accounts: Sequence[SipAccount], endpoint: SipEndpoint, status: Status) -> None:
        self._accounts = [one for one in accounts if one.register_uri]
        self._endpoint = endpoint
        self._status = status
        self._waiting: dict[int, asyncio.Future[int]] = {}  # by identity of our request
        self._failed: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.registered: set[str] = set()

    def start(self, transports: SipTransports) -> None:
        """Begins to register."""
        self._tasks = [asyncio.create_task(self._keep(one, transports)) for one in self._accounts]

    async def close(self, transports: SipTransports) -> None:
        """Takes the registrations back, without waiting long."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for account in self._accounts:
            if account.domain in self.registered:
                with transports.acting() as now:
                    self._send(account, 0, now)

    def event(self, event: Event) -> bool:
        """Whether an event answers one of our REGISTERs."""
        if not isinstance(event, ResponseReceived | RequestFailed):
            return False
        waiting = self._waiting.get(id(event.outbound))
        if waiting is None:
            return False
        if isinstance(event, RequestFailed):
            _settle(waiting, 408)
        elif event.response.status >= 200:
            _settle(waiting, event.response.status)
        return True

    async def _keep(self, account: SipAccount, transports: SipTransports) -> None:
        retry = RETRY_S
        while True:
            status = await self._once(account, transports)
            if 200 <= status < 300:
                if account.domain not in self.registered:
                    log.info("registered", domain=account.domain)
                self.registered.add(account.domain)
                self._tell(account, failed=False)
                retry = RETRY_S
                await asyncio.sleep(account.expires_s * 0.8)
                continue
            self.registered.discard(account.domain)
            log.warning("not registered", domain=account.domain, status=status)
            self._tell(account, failed=True)
            await asyncio.sleep(retry)
            retry = min(2 * retry, MOST_RETRY_S)

    async def _once(self, account: SipAccount, transports: SipTransports) -> int:
        """One REGISTER: the status it was answered with, 408 where it was not, 503 where it could not be sent."""
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        outbound: OutboundRequest | None = None
        try:
            with transports.acting() as now:
                outbound = self._send(account, account.expires_s, now)
                if outbound is None:
                    return 503
                self._waiting[id(outbound)] = waiting
            async with asyncio.timeout(ANSWER_S):
                return await waiting
        except TimeoutError:
            return 408
        finally:
            if outbound is not None:
                self._waiting.pop(id(outbound), None)

    def _send(self, account: SipAccount, expires: int, now: float) -> OutboundRequest | None:
        try:
            of_record = f"<sip:{account.username}@{account.domain}>"
            contact = self._endpoint.contact_for(account.register_uri, account.username)
            return self._endpoint.request(
                "REGISTER",
                account.register_uri,
                now=now,
                from_=of_record,
                to=of_record,
                headers=[("Contact", contact), ("Expires", str(expires))],
            )
        except UNREACHABLE as error:
            log.error("cannot register", domain=account.domain, reason=error.reason)
            return None

    def _tell(self, account: SipAccount, *, failed: bool) -> None:
        if failed:
            self._failed.add(account.domain)
        else:
            self._failed.discard(account.domain)
        if self._failed:
            names = ", ".join(sorted(self._failed))
            self._status.raise_condition(
                NOT_REGISTERED, ALARM, f"Not registered with {names}: calls from there do not arrive."
            )
        else:
            self._status.clear_condition(NOT_REGISTERED)


def _settle(waiting: asyncio.Future[int], status: int) -> None:
    if not waiting.done():
        waiting.set_result(status)
