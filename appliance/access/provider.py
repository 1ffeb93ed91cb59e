"""An identity provider over HTTPS: its configuration and keys, with bounds on size and time, no redirects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import structlog

from appliance.access import oidc
from appliance.access.keyring import Keyring, Step
from appliance.access.refusals import ProviderUnavailableError, TokenInvalidError
from appliance.config.settings import ConfigError, OidcSettings
from appliance.process.tls import client_context

log = structlog.get_logger()

MAX_DOCUMENT: Final = 256 * 1024  # bytes
FETCH_S: Final = 5.0  # for configuration and keys together


class Provider:
    """One provider: `claims` of its tokens. Everything on one event loop. ConfigError where `ca` is no authority."""

    def __init__(self, settings: OidcSettings, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock_s = clock_s
        self._keyring = Keyring(settings.usable_s)
        try:
            self._tls = client_context(settings.ca)
        except OSError as error:  # also of what is no certificate
            raise ConfigError(
                f"access.oidc: the ca of {settings.name} cannot be read as certificates", key="access.oidc.ca"
            ) from error
        self._fetching: asyncio.Task[None] | None = None

    async def claims(self, said: oidc.Head, token: str, now_s: float) -> dict[str, Any]:
        """The claims of a token that names this issuer. `now_s`: seconds since the Unix epoch.

        TokenInvalidError, TokenExpiredError, ProviderUnavailableError.
        """
        if said.algorithm not in self.settings.algorithms:
            raise TokenInvalidError("the token is not accepted")
        found = self._keyring.decide(said, self._clock_s())
        under_way = self._fetching is not None and not self._fetching.done()
        if found.step is Step.FETCH or (found.key is None and under_way):
            # Shielded: whoever else waits for the same answer still gets it when this caller goes away.
            await asyncio.shield(self._fetch())
            found = self._keyring.decide(said, self._clock_s())
        elif found.step is Step.REFRESH:
            self._fetch()
        if found.key is not None:
            return oidc.verify(self.settings, found.key, said, token, now_s)
        if found.step is Step.UNAVAILABLE:
            raise ProviderUnavailableError(
                "the identity provider does not answer",
                provider=self.settings.name,
                cause="no-answer",
                retry_after_s=round(found.retry_s, 1),
            )
        raise TokenInvalidError("the token is not accepted")

    @property
    def silent_s(self) -> float | None:
        """How old the keys in use are while the provider does not answer; None: it does."""
        since = self._keyring.stale_since_s
        return None if since is None else self._clock_s() - since

    async def close(self) -> None:
        """Whatever is under way ends."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _fetch(self) -> asyncio.Task[None]:
        """The one fetch that is under way."""
        if self._fetching is None or self._fetching.done():
            self._keyring.trying(self._clock_s())
            self._fetching = asyncio.create_task(self._get_keys())
        return self._fetching

    async def _get_keys(self) -> None:
        """Takes the keys into the ring, or says there that they could not be had."""
        settings = self.settings
        try:
            async with asyncio.timeout(FETCH_S), self._session() as session:
                where = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
                address = oidc.read_discovery(await self._get(session, where), settings)
                keys = oidc.read_keys(await self._get(session, address), settings)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ProviderUnavailableError) as error:
            self._keyring.failed()
            cause = (
                error.data["cause"] if isinstance(error, ProviderUnavailableError) else type(error).__name__
            )
            log.warning("identity provider gives no keys", provider=settings.name, cause=cause)
        else:
            self._keyring.fetched(keys, self._clock_s())

    def _session(self) -> aiohttp.ClientSession:
        # One connection at a time and none kept: keys are fetched seldom, and a provider's address may change.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=1, force_close=True),
            timeout=aiohttp.ClientTimeout(total=FETCH_S),
            trust_env=False,
            auto_decompress=False,  # a small answer must not become a large one
            headers={"Accept-Encoding": "identity", "Accept": "application/json"},
        )

    async def _get(self, session: aiohttp.ClientSession, address: str) -> bytes:
        async with session.get(address, allow_redirects=False) as answer:
            if answer.status != 200:
                raise oidc.unavailable(self.settings, f"status-{answer.status}")
            document = bytearray()
            async for part in answer.content.iter_chunked(16384):
                document += part
                if len(document) > MAX_DOCUMENT:
                    raise oidc.unavailable(self.settings, "too-large")
            return bytes(document)
