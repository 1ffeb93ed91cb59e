"""The box's own certificates while control runs: renewed in time, taken up, and what is the matter with them said."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from cryptography import x509

from appliance.access import pki
from appliance.access.errors import AuthorityError
from appliance.api.entrance import Entrance
from appliance.config.settings import Settings
from appliance.model import EarwitnessError, Kind
from appliance.process.status import ALARM, WARNING, Status

log = structlog.get_logger()

LOOK_S: Final = 600.0  # a clock that was put right keeps nobody out for longer
EXPIRING: Final = "CertificateExpiring"
FAILING: Final = "CertificatesNotRenewed"
NOT_YET_VALID: Final = "AuthorityNotYetValid"
_EXPIRING_DAYS: Final = 30


class Renewal:
    """`run` beside all else. `take_up`: reads the server's certificate again, for new connections."""

    def __init__(
        self, settings: Settings, status: Status, entrance: Entrance, take_up: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._status = status
        self._entrance = entrance
        self._take_up = take_up

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(LOOK_S)

    async def renew(self) -> None:
        """Once, as far as it goes now: what is there is used until the next time."""
        failing = [why for step in (self._renew, self._look) if (why := await self._tried(step()))]
        if failing:
            self._status.raise_condition(
                FAILING,
                ALARM,
                f"Certificates of the box cannot be renewed or taken up ({', '.join(failing)}). Those that are there are"
                " used until they end; it is tried again every ten minutes.",
            )
        else:
            self._status.clear_condition(FAILING)

    async def _tried(self, step: Coroutine[Any, Any, str]) -> str:
        """What is in the way; empty where nothing is."""
        try:
            return await step
        except EarwitnessError as error:
            if error.kind is not Kind.UNAVAILABLE and not isinstance(error, AuthorityError):
                raise
            log.error("certificates not renewed", reason=error.reason)
            return " ".join(filter(None, [error.reason, str(error.data.get("file", ""))]))
        except OSError as error:  # of TLS, too
            log.error("certificates not renewed", error=type(error).__name__, errno=error.errno)
            return errno.errorcode.get(error.errno or 0, type(error).__name__)

    async def _renew(self) -> str:
        ensured = await asyncio.to_thread(pki.ensure, self._settings.layout, self._settings)
        self._take_up()
        await self._entrance.enroll(ensured.admin)
        return ", ".join(ensured.kept)

    async def _look(self) -> str:
        present = await asyncio.to_thread(pki.present, self._settings.layout)
        now = datetime.now(UTC)
        self._look_at_ends(present, now)
        if present["ca"].not_valid_before_utc > now:
            self._status.raise_condition(
                NOT_YET_VALID,
                ALARM,
                f"The box's certificate authority is valid from {present['ca'].not_valid_before_utc:%Y-%m-%d} on: no client"
                " trusts the box before. Is the clock right? It was made while a clock was years ahead, or this one is"
                " behind.",
            )
        else:
            self._status.clear_condition(NOT_YET_VALID)
        return ""

    def _look_at_ends(self, present: dict[str, x509.Certificate], now: datetime) -> None:
        ending = [
            label
            for label, certificate in present.items()
            if (certificate.not_valid_after_utc - now).days < _EXPIRING_DAYS
        ]
        if ending:
            self._status.raise_condition(
                EXPIRING,
                WARNING,
                f"Certificates end within {_EXPIRING_DAYS} days: {', '.join(ending)}. Issue new ones.",
            )
        else:
            self._status.clear_condition(EXPIRING)
