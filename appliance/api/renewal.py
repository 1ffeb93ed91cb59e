"""The box's own certificates while control runs: renewed in time, taken up, and what is the matter with them said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from appliance.access import pki
from appliance.api.entrance import Entrance
from appliance.config.settings import Settings
from appliance.process.status import ALARM, WARNING, Status

LOOK_S: Final = 600.0  # a clock that was put right keeps nobody out for longer
EXPIRING: Final = "CertificateExpiring"
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
        """Until cancelled. The certificates were made, or renewed, just before."""
        await self._look()
        while True:
            await asyncio.sleep(LOOK_S)
            await self.renew()

    async def renew(self) -> None:
        """Once."""
        admin = await asyncio.to_thread(pki.ensure, self._settings.layout, self._settings)
        self._take_up()
        await self._entrance.enroll(admin)
        await self._look()

    async def _look(self) -> None:
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
