"""Who comes in: everything of identities, their credentials and tokens that there is one of."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, Self

import sqlalchemy as sa

from appliance.access import credentials, identities, issued, pki, records, register, sessions
from appliance.access.certificates import fingerprint_of_pem
from appliance.access.errors import NoCertificateError, RateLimitError
from appliance.access.identities import SITE_ROLES, Identity, Role
from appliance.access.issued import Ending
from appliance.access.journal import Journal
from appliance.access.policy import OPEN
from appliance.access.provider import Provider
from appliance.access.sealing import Sealing
from appliance.api import identitynames
from appliance.api.bearers import Bearers
from appliance.api.limits import RateLimit
from appliance.api.presented import Presented
from appliance.api.roll import Roll
from appliance.api.signing import SignIns
from appliance.api.store import Store
from appliance.catalog import events
from appliance.catalog.events import Event, EventType
from appliance.config.settings import Settings
from appliance.model import UnauthenticatedError
from appliance.process.status import WARNING, Status

STRANGERS_PER_S, STRANGERS_BURST = 2.0, 60.0  # calls without a good token, from one network
CLIENTS_EXPIRING: Final = "ClientCertificateExpiring"
PROVIDER_SILENT: Final = "IdentityProviderSilent"


class Entrance:
    """Finds who is calling, and keeps what that stands on."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        status: Status,
        sealing: Sealing,
        clock_ns: Callable[[], int],
    ) -> None:
        layout = settings.layout
        self._settings = settings
        self._store = store
        self._status = status
        self._clock_ns = clock_ns
        journal = Journal(layout.control / "identities.jsonl", layout.pki / "identities.serial", sealing)
        self.roll = Roll(store, journal, status, clock_ns)
        self.providers = [Provider(one) for one in settings.access.oidc]
        self.bearers = Bearers(store, self.providers, clock_ns)
        self.sign_ins = SignIns(store, self.roll, sealing, status, clock_ns)
        self._strangers = RateLimit(STRANGERS_PER_S, STRANGERS_BURST)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        store: Store,
        status: Status,
        clock_ns: Callable[[], int],
        exit_: AsyncExitStack,
    ) -> Self:
        """Made, and held against the copy beside the catalogue; closed with the stack. IdentityKeyError."""
        sealing = await asyncio.to_thread(Sealing.at, settings.layout.control / "identities.key")
        made = cls(settings, store, status, sealing, clock_ns)
        exit_.callback(made.sign_ins.close)
        for provider in made.providers:
            exit_.push_async_callback(provider.close)
        await made.roll.settle()
        return made

    async def enroll(self, admin: pki.Issued) -> None:
        """The box's own administrator, as the site file says who runs the box."""
        now_ns = self._clock_ns()
        roles = SITE_ROLES if self._settings.access.run_by == "site" else frozenset({Role.OPERATOR})

        def work(connection: sa.Connection) -> tuple[None, Collection[str]]:
            before = records.read(connection, admin.name) if admin.name in records.names(connection) else None
            identities.settle(connection, admin.name, roles)
            identities.enroll(connection, admin, roles, now_ns)
            changed = records.read(connection, admin.name) != before
            return None, [admin.name] if changed else []

        await self.roll.change(work)

    async def identify(
        self, presented: Presented, method: str, now_s: float, *, notes: bool = True
    ) -> Identity | None:
        """Who is calling; None: a stranger, who may call this method. `notes`: it is a use of the session.

        Errors of certificates and tokens; RateLimitError for strangers that come too often.
        """
        found = await self._find(presented, method, now_s, notes)
        if found is None or found.tenant_id or self._settings.access.run_by == "site":
            return found
        return replace(found, blind=True)

    async def _find(self, presented: Presented, method: str, now_s: float, notes: bool) -> Identity | None:
        if presented.certificate is not None:
            return await self._of_certificate(presented.certificate)
        if method in OPEN and not presented.tokens:
            self._strangers.take(presented.network, now_s)
            return None
        try:
            return await self.bearers.identify(presented.tokens, notes=notes)
        except UnauthenticatedError:
            # Counted only when it fails: who has a good token is not kept out by a neighbour that has none.
            try:
                self._strangers.take(presented.network, now_s)
            except RateLimitError as error:
                raise error from None
            raise

    async def known_subject(self, subject: str) -> str:
        """The name of an identity as it may be written down: only of one that is there."""
        name = identitynames.owner(subject)
        if name is None:
            return subject
        known = await self._store.read(lambda connection: register.find(connection, name) is not None)
        return subject if known else "unknown"

    async def look(self) -> None:
        """From time to time: warnings before certificates end, what is over forgotten, the copy caught up."""
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> int:
            sessions.prune(connection, now_ns)
            credentials.prune(connection, now_ns)
            for ending in issued.endings(connection, now_ns):
                events.append(connection, _event(ending, now_ns))
            return issued.count_ending(connection, now_ns, issued.WARN_DAYS[0])

        ending = await self._store.write(work)
        if ending:
            self._status.raise_condition(
                CLIENTS_EXPIRING,
                WARNING,
                f"Client certificates that end within {issued.WARN_DAYS[0]} days and have no younger one:"
                f" {ending}. Renew them; `earwitness identities list --expiring` names them.",
            )
        else:
            self._status.clear_condition(CLIENTS_EXPIRING)
        self._look_at_providers()
        await self.roll.catch_up()

    def _look_at_providers(self) -> None:
        silent = {one.settings.name: one.silent_s for one in self.providers if one.silent_s is not None}
        if silent:
            self._status.raise_condition(
                PROVIDER_SILENT,
                WARNING,
                f"Identity providers do not give their keys: {', '.join(sorted(silent))}. Tokens are checked with the"
                " last ones until those are too old.",
            )
        else:
            self._status.clear_condition(PROVIDER_SILENT)

    async def _of_certificate(self, pem: bytes) -> Identity:
        fingerprint = _fingerprint(pem)
        now_ns = self._clock_ns()
        return await self._store.read(lambda connection: identities.find(connection, fingerprint, now_ns))


@functools.lru_cache(maxsize=1024)
def _fingerprint(pem: bytes) -> str:
    try:
        return fingerprint_of_pem(pem)
    except ValueError:
        raise NoCertificateError("the client certificate cannot be read") from None


def _event(ending: Ending, now_ns: int) -> Event:
    left = max(0, ending.certificate.expire_ns - now_ns) // issued.DAY_NS
    return Event(
        EventType.CERTIFICATE_EXPIRING,
        now_ns,
        ending.certificate.name,
        tenant_id=ending.tenant_id,
        state=f"{ending.days}d",
        message=f"A certificate of this identity ends in {left} days: renew it.",
    )
