"""What the vault says of its own state from time to time: space, copies of the keystore, quarantine, the medium."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from appliance.model import EarwitnessError
from appliance.process.status import ALARM, WARNING
from appliance.storage.vault.core import Vault

NEARLY_FULL = 0.10
FULL = 0.03
NEARLY_FULL_BYTES = 20 << 30  # more than that is no worry, whatever the share
SCRUB_EVERY_S = 3600.0

log = structlog.get_logger()


class Watchman:
    """Raises and clears conditions. `look` takes milliseconds; `scrub` reads the whole keystore, once an hour."""

    def __init__(self, vault: Vault, monotonic: Callable[[], float]) -> None:
        self._vault = vault
        self._monotonic = monotonic
        self._scrubbed = monotonic()
        self._ailments: set[str] = set()
        self.repaired(vault.keystore.findings)
        if vault.holdings.findings:
            vault.status.raise_condition(
                "JournalDamaged", WARNING, f"The vault's journal: {'; '.join(vault.holdings.findings)}."
            )

    def repaired(self, findings: list[str]) -> None:
        """Tells what the keystore repaired."""
        if not findings:
            return
        for finding in findings:
            log.warning("keystore", finding=finding)
        self._vault.status.raise_condition(
            "KeystoreRepaired",
            WARNING,
            f"The keystore repaired itself from its other copy: {'; '.join(findings[:5])}. Look at the disk.",
        )

    def look(self) -> None:
        """Looks once at everything that costs little."""
        vault, status = self._vault, self._vault.status
        present = set()
        for ailment in vault.store.health():
            present.add(ailment.name)
            status.raise_condition(ailment.name, ALARM if ailment.alarm else WARNING, ailment.message)
        for name in self._ailments - present:
            status.clear_condition(name)
        self._ailments = present
        if not present:
            try:
                self._space()
            except EarwitnessError as error:  # it fell ill just now: the next look tells
                log.warning("the space could not be told", reason=error.reason)
        degraded = vault.keystore.degraded
        if degraded:
            status.raise_condition(
                "KeystoreDegraded", ALARM, f"One copy of the keystore is not usable: {'; '.join(degraded)}."
            )
        else:
            status.clear_condition("KeystoreDegraded")
        missing = [copy for copy in vault.keystore.copies() if not copy.present]
        if missing:
            status.raise_condition(
                "KeystoreCopyMissing",
                ALARM,
                f"{len(missing)} copies of the keystore are missing, so nothing can be erased: bring the disk back, or"
                " declare it destroyed with `earwitness vault copies forget`.",
            )
        else:
            status.clear_condition("KeystoreCopyMissing")
        quarantined = vault.quarantined()
        if quarantined:
            status.raise_condition(
                "Quarantine", WARNING, f"{quarantined} files cannot be filed and are kept in quarantine."
            )
        else:
            status.clear_condition("Quarantine")
        status.gauge("keys", len(vault.keystore))
        status.gauge("epoch", vault.keystore.epoch)
        status.gauge("quarantined", quarantined)

    def _space(self) -> None:
        space, status = self._vault.store.space(), self._vault.status
        share = space.free / space.total if space.total else 0.0
        status.gauge("free_bytes", space.free)
        if share < FULL:
            status.raise_condition(
                "DiskNearlyFull",
                ALARM,
                f"{share:.1%} of the space for recordings is left: recordings will be lost.",
            )
        elif share < NEARLY_FULL and space.free < NEARLY_FULL_BYTES:
            status.raise_condition(
                "DiskNearlyFull", WARNING, f"{share:.1%} of the space for recordings is left. Add space soon."
            )
        else:
            status.clear_condition("DiskNearlyFull")

    def scrub(self) -> None:
        """Compares the keystore's copies once an hour, and merges a journal that has grown large."""
        if self._monotonic() - self._scrubbed < SCRUB_EVERY_S:
            return
        self._scrubbed = self._monotonic()
        try:
            self.repaired(self._vault.keystore.scrub())
            self._vault.keystore.compact()
        except (EarwitnessError, OSError) as error:
            why = error.message if isinstance(error, EarwitnessError) else error.strerror
            log.error("the keystore could not be looked through", why=why)
            self._vault.status.raise_condition(
                "KeystoreDamaged", ALARM, f"The keystore could not be looked through: {why}."
            )
        else:
            self._vault.status.clear_condition("KeystoreDamaged")
            self._drop_expired()

    def _drop_expired(self) -> None:
        """What grants have is not given out once its time is over; here it goes from the disk."""
        try:
            dropped = self._vault.keystore.drop_expired()
        except (
            EarwitnessError
        ) as error:  # of the copies, and their condition is raised; there is a next round
            log.warning("expired keys of grants not destroyed yet", reason=error.reason)
        else:
            if dropped:
                log.info("expired keys of grants destroyed", keys=dropped)
