"""How the box proves itself to providers and switchboards, and registers with them (RFC 3261 sections 10 and 22)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from appliance.config.settings import SipAccount
from appliance.media.signaling.errors import AccountPasswordError
from appliance.media.sip.core import Credentials
from appliance.media.sip.endpoint import UNREACHABLE, SipEndpoint
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.events import Event, RequestFailed, ResponseReceived
from appliance.media.sip.grammar import parse_uint
from appliance.media.sip.message import SipRequest, SipResponse
from appliance.media.sip.session import OutboundRequest
from appliance.media.sip.transports import SipTransports
from appliance.media.sip.uri import SipUri, Uri
from appliance.media.sip.values import NameAddr
from appliance.process.status import ALARM, Status

NOT_REGISTERED = "RegistrationFailed"
PASSWORD_UNREADABLE = "SipPasswordUnreadable"
RETRY_S = 30.0
MOST_RETRY_S = 600.0
ANSWER_S = 40.0
FAREWELL_S = 2.0  # for the end of a registration to be confirmed
REFRESH = 0.8  # of the time that was granted
LEAST_S = 10.0  # between two registrations, whatever was granted
MOST_EXPIRES_S = 7 * 86_400
MAX_PASSWORD = 1024
MAX_CONTACTS = 64

log = structlog.get_logger()


class Accounts:
    """Credentials by the domain that a request goes to."""

    def __init__(self, accounts: Sequence[SipAccount], status: Status) -> None:
        self._accounts = {one.domain.lower(): one for one in accounts}
        self._status = status
        self._unreadable: set[str] = set()

    def check(self) -> None:
        """Reads every password once, so that one that cannot be read is a condition before a call needs it."""
        for account in self._accounts.values():
            self._password(account)

    def credentials(self, request: SipRequest) -> Credentials | None:
        """For a request that was challenged; None where there are none, or the password cannot be read."""
        hosts = [_host(request.uri), _host(request.to.uri)]
        if request.method == "REGISTER":
            hosts.reverse()  # who is registered stands in To; the Request-URI may be any server of theirs
        for host in hosts:
            account = self._accounts.get(host)
            if account is not None:
                password = self._password(account)
                return Credentials(account.username, password, account.realm) if password else None
        return None

    def _password(self, account: SipAccount) -> str:
        """Empty where it cannot be read: that is a condition until it can."""
        password = ""
        try:
            password = read_password(account)
        except AccountPasswordError as error:
            log.error("password of a SIP account unusable", **error.data, why=error.message)
            self._unreadable.add(account.domain)
        else:
            self._unreadable.discard(account.domain)
        if self._unreadable:
            domains = ", ".join(sorted(self._unreadable))
            self._status.raise_condition(
                PASSWORD_UNREADABLE,
                ALARM,
                f"The password file of the SIP account for {domains} cannot be used (sip.accounts, password_file): "
                "the box cannot prove itself there.",
            )
        else:
            self._status.clear_condition(PASSWORD_UNREADABLE)
        return password


def _host(uri: Uri) -> str:
    return uri.host.lower() if isinstance(uri, SipUri) else ""


def read_password(account: SipAccount) -> str:
    """The first line of the account's file. AccountPasswordError, which has nothing of what stands in it."""
    try:
        with account.password_file.open("r", encoding="utf-8") as file:
            line = file.readline(MAX_PASSWORD + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise AccountPasswordError(
            f"cannot be read ({type(error).__name__})", domain=account.domain
        ) from None  # the error of the codec holds what it could not read
    password = line.rstrip("\r\n")
    if not 0 < len(password) <= MAX_PASSWORD:
        raise AccountPasswordError("empty, or too long", domain=account.domain)
    return password


@dataclass(frozen=True, slots=True)
class _Answer:
    """To one REGISTER: 408 where there was none, 503 where it could not be sent."""

    status: int
    response: SipResponse | None = None

    @property
    def granted(self) -> bool:
        return 200 <= self.status < 300


class Registrar:
    """Keeps the box registered wherever its accounts say so; a failure is a condition until it is mended."""

    def __init__(self, accounts: Sequence[SipAccount], endpoint: SipEndpoint, status: Status) -> None:
        self._accounts = [one for one in accounts if one.register_uri]
        self._endpoint = endpoint
        self._status = status
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}  # by identity of our request
        self._failed: dict[str, str] = {}  # why, by domain
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
        mine = [one for one in self._accounts if one.domain in self.registered]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await asyncio.gather(*(self._once(one, transports, 0) for one in mine))
        self.registered.clear()

    def event(self, event: Event) -> bool:
        """Whether an event answers one of our REGISTERs."""
        if not isinstance(event, ResponseReceived | RequestFailed):
            return False
        waiting = self._waiting.get(id(event.outbound))
        if waiting is None:
            return False
        if isinstance(event, RequestFailed):
            _settle(waiting, _Answer(408))
        elif event.response.status >= 200:
            _settle(waiting, _Answer(event.response.status, event.response))
        return True

    async def _keep(self, account: SipAccount, transports: SipTransports) -> None:
        retry, asked = RETRY_S, account.expires_s
        while True:
            answer = await self._once(account, transports, asked)
            if answer.granted:
                if account.domain not in self.registered:
                    log.info("registered", domain=account.domain)
                self.registered.add(account.domain)
                self._tell(account)
                retry = RETRY_S
                await asyncio.sleep(max(_granted_s(answer.response, account, asked) * REFRESH, LEAST_S))
                continue
            self.registered.discard(account.domain)
            least = _least_s(answer.response) if answer.status == 423 else 0
            if asked < least <= MOST_EXPIRES_S:
                asked = least  # RFC 3261 section 10.2.8: as long as they want, at once
                continue
            log.warning("not registered", domain=account.domain, status=answer.status)
            self._tell(account, f"answered {answer.status}" if answer.response is not None else "no answer")
            wanted = answer.response.retry_after if answer.response is not None else None
            await asyncio.sleep(max(retry, min(wanted or 0, MOST_RETRY_S)))
            retry = min(2 * retry, MOST_RETRY_S)

    async def _once(self, account: SipAccount, transports: SipTransports, expires: int) -> _Answer:
        """One REGISTER; 0 takes the registration back."""
        waiting: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        outbound: OutboundRequest | None = None
        try:
            with transports.acting() as now:
                outbound = self._send(account, expires, now)
                if outbound is None:
                    return _Answer(503)
                self._waiting[id(outbound)] = waiting
            async with asyncio.timeout(ANSWER_S):
                return await waiting
        except TimeoutError:
            return _Answer(408)
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

    def _tell(self, account: SipAccount, why: str = "") -> None:
        """`why` it is not registered; "" where it is."""
        if why:
            self._failed[account.domain] = why
        else:
            self._failed.pop(account.domain, None)
        if self._failed:
            names = ", ".join(f"{domain} ({why})" for domain, why in sorted(self._failed.items()))
            self._status.raise_condition(
                NOT_REGISTERED, ALARM, f"Not registered with {names}: calls from there do not arrive."
            )
        else:
            self._status.clear_condition(NOT_REGISTERED)


def _granted_s(response: SipResponse | None, account: SipAccount, asked: int) -> int:
    """How long the registration holds (RFC 3261 section 10.2.4): our Contact says, else Expires, else as asked."""
    if response is None:
        return asked
    try:
        contacts = [NameAddr.parse(value) for value in response.headers.get_list("Contact")[:MAX_CONTACTS]]
    except SipParseError:
        contacts = []  # then the header that holds for all of them does
    for one in contacts:
        if isinstance(one.uri, SipUri) and one.uri.user == account.username:
            stated = parse_uint(one.params.get("expires") or "")
            if stated is not None:
                return min(stated, asked)
    return min(response.expires if response.expires is not None else asked, asked)


def _least_s(response: SipResponse | None) -> int:
    """Min-Expires (RFC 3261 section 20.23)."""
    value = response.headers.get("Min-Expires") if response is not None else None
    return (parse_uint(value) or 0) if value else 0


def _settle(waiting: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not waiting.done():
        waiting.set_result(answer)
