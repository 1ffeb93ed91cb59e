"""Deposits from the spool into the keystore. A deposit file goes when its keys are durable, and not before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from appliance.model import EarwitnessError
from appliance.process.status import ALARM, WARNING
from appliance.storage.keystore.deposit import MAX_DEPOSIT_BYTES, Deposit
from appliance.storage.keystore.errors import DepositCorruptError, DepositKeyUnknownError
from appliance.storage.keystore.files import sync_directory
from appliance.storage.vault.core import Vault
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.spool import listing, move_to_quarantine

PATIENCE_S = 60.0  # until a deposit that cannot be opened goes to quarantine: capture renews it meanwhile
RETRY_S = 5.0
_BATCH = 256

log = structlog.get_logger()


class Intake:
    """See the module. Safe to use from any thread."""

    def __init__(self, vault: Vault, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._unopened: dict[str, float] = {}  # sealed to a key not held: since when
        self._not_before: dict[str, float] = {}

    def poll(self) -> None:
        """Takes in what there is; a condition says where that cannot be done."""
        status = self._vault.status
        try:
            self.ingest()
        except (EarwitnessError, OSError) as error:
            log.error("deposits not taken, tried again", error=type(error).__name__)
            status.raise_condition(
                "KeysNotKept",
                ALARM,
                "Keys cannot be kept and wait in the spool. Look at the keystore's disks.",
            )
        else:
            status.clear_condition("KeysNotKept")
        if self._unopened:
            status.raise_condition(
                "DepositsUnopened",
                WARNING,
                f"{len(self._unopened)} key deposits are sealed to an older deposit key; capture renews them.",
            )
        else:
            status.clear_condition("DepositsUnopened")

    def ingest(self) -> int:
        """Takes every deposit that opens; how many files were taken. Errors as Keystore.add; OSError of the spool."""
        with self._lock:
            taken = 0
            while batch := list(self._deposits()):
                added = self._vault.keystore.add((deposit for _, deposit in batch), self._refuses)
                self._vault.fault("deposits kept")
                for path, _ in batch:
                    path.unlink(missing_ok=True)
                sync_directory(self._vault.layout.spool_keys)
                taken += len(batch)
                if added.refused:
                    log.warning("deposited keys refused", count=len(added.refused))
                    self._vault.status.count("keys_refused", len(added.refused))
                self._vault.status.count("keys_deposited", len(added.accepted))
            return taken

    def _refuses(self, recording_id: str) -> bool:
        # A deposit found late must not bring an erased key back.
        found = self._vault.holdings.get(recording_id)
        erased = found is not None and found.state is HoldingState.ERASED
        return erased or recording_id in self._vault.erasing

    def _deposits(self) -> Iterator[tuple[Path, Deposit]]:
        paths = listing(self._vault.layout.spool_keys, ".deposit")
        names = {path.name for path in paths}
        for known in (self._unopened, self._not_before):
            for name in known.keys() - names:
                del known[name]
        count = 0
        for path in paths:
            if self._monotonic() < self._not_before.get(path.name, 0):
                continue
            try:
                opened = self._vault.keystore.open_deposit(_read(path))
            except FileNotFoundError:
                continue  # capture took it back to deposit it again
            except OSError as error:
                # One file that cannot be read must not keep the others out; it is tried again.
                log.error("deposit not readable", error=type(error).__name__)
                self._not_before[path.name] = self._monotonic() + RETRY_S
                continue
            except DepositKeyUnknownError as error:
                # Capture sees that it is not taken, and deposits anew under the present key.
                since = self._unopened.setdefault(path.name, self._monotonic())
                self._not_before[path.name] = self._monotonic() + RETRY_S
                if self._monotonic() - since >= PATIENCE_S:
                    self._set_aside(path, error.reason)
            except DepositCorruptError as error:
                self._set_aside(path, error.reason)
            else:
                yield path, opened
                count += 1
                if count == _BATCH:
                    return

    def _set_aside(self, path: Path, reason: str) -> None:
        log.error("deposit in quarantine", reason=reason)
        self._vault.status.count("deposits_quarantined")
        move_to_quarantine(self._vault.quarantine, path)


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_DEPOSIT_BYTES + 1)
