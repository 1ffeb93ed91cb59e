"""Who comes without a certificate: a session's token, or one of the hospital's identity provider."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.access import credentials, oidc, register, sessions
from appliance.access.identities import Identity
from appliance.access.provider import Provider
from appliance.access.refusals import IdentityDisabledError, TokenInvalidError, TokenMissingError
from appliance.access.sessions import Session
from appliance.api.store import Store
from appliance.catalog.errors import CatalogueUnavailableError

log = structlog.get_logger()

_SCHEME: Final = "bearer "

_session: contextvars.ContextVar[Session | None] = contextvars.ContextVar("session", default=None)


def current_session() -> Session | None:
    """The session that the call comes with, within a handler."""
    return _session.get()


class Bearers:
    """Finds the identity of a call by its token."""

    def __init__(self, store: Store, providers: Sequence[Provider], clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._providers = {one.settings.issuer: one for one in providers}
        self._clock_ns = clock_ns

    async def identify(self, tokens: Sequence[str | bytes], *, notes: bool = True) -> Identity:
        """Who is calling with these values of `authorization`; `notes`: it is a use of the session.

        TokenMissingError, TokenInvalidError, TokenExpiredError, TokenUnmappedError, IdentityDisabledError,
        ProviderUnavailableError.
        """
        token = _token(tokens)
        if token.startswith(sessions.PREFIX):
            return await self._of_session(token, notes)
        return await self._of_provider(token)

    async def _of_session(self, token: str, notes: bool) -> Identity:
        now_ns = self._clock_ns()

        def look(connection: sa.Connection) -> tuple[Session, register.Entry]:
            session = sessions.find(connection, token, now_ns)
            return session, register.get(connection, session.name)

        session, entry = await self._store.read(look)
        _check_enabled(entry)
        if notes and now_ns - session.seen_ns > sessions.NOTE_NS:
            try:
                await self._store.write(lambda connection: sessions.note(connection, session.id, now_ns))
            except CatalogueUnavailableError:
                log.warning("use of a session not noted")  # its condition is raised; the session ends sooner
            else:
                session = replace(session, seen_ns=now_ns)
        _session.set(session)
        return entry.identity

    async def _of_provider(self, token: str) -> Identity:
        said = oidc.head(token)
        provider = self._providers.get(said.issuer)
        if provider is None:
            raise TokenInvalidError("the token is not accepted")
        claims = await provider.claims(said, token, self._clock_ns() / 1e9)
        subject = str(claims["sub"])

        def look(connection: sa.Connection) -> register.Entry | None:
            name = credentials.name_of_subject(connection, said.issuer, subject)
            return None if name is None else register.get(connection, name)

        entry = await self._store.read(look)
        if entry is None:
            return oidc.identity(provider.settings, claims)
        _check_enabled(entry)
        return entry.identity


def _check_enabled(entry: register.Entry) -> None:
    if entry.disable_ns is not None:
        raise IdentityDisabledError("this identity is disabled")


def _token(found: Sequence[str | bytes]) -> str:
    if not found:
        raise TokenMissingError("this listener wants a token: authorization: Bearer")
    # Two of them could be understood differently by whatever stands in between.
    text = found[0]
    if len(found) != 1 or not isinstance(text, str) or not text.lower().startswith(_SCHEME):
        raise TokenInvalidError("the token is not accepted")
    return text[len(_SCHEME) :].strip()
