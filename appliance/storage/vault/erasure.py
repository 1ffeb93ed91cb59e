"""Erasing: the intent first, then the keys, then the files, then the certificate. docs/erasure.md describes it.

A crash anywhere is made good at the next start: the intent says what was asked, and every step may be done again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from appliance.model import EarwitnessError, InvalidError, is_id
from appliance.process.status import ALARM
from appliance.storage.keystore.files import make_directory, remove_durably, write_durably
from appliance.storage.vault.core import Vault, check_reason
from appliance.storage.vault.errors import BucketNameError
from appliance.storage.vault.holding import Certificate, Holding, HoldingState
from appliance.storage.vault.intake import Intake

MAX_AT_ONCE = 10_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Intent:
    """An erasure that was begun."""

    recording_ids: tuple[str, ...]
    reason: str
    asked_ns: int


_INTENT = TypeAdapter(_Intent)


class Eraser:
    """One erasure at a time; a second one waits, and finds what the first has done."""

    def __init__(self, vault: Vault, intake: Intake) -> None:
        self._vault = vault
        self._intake = intake
        self._lock = threading.Lock()

    def erase(self, recording_ids: Sequence[str], reason: str) -> list[Certificate]:
        """Erases recordings, all in one epoch; a certificate for each, in that order.

        What was erased before keeps its certificate. Raises RecordingNotFoundError, RecordingLiveError or
        RecordingSpooledError where one cannot be erased, before anything is done; KeystoreWriteError or
        KeystoreDegradedError where the keystore cannot be written.
        """
        check_reason(reason)
        names = list(dict.fromkeys(recording_ids))
        if not 0 < len(names) <= MAX_AT_ONCE:
            raise InvalidError(f"1 to {MAX_AT_ONCE} recordings are erased at once", field="recording_ids")
        with self._lock:
            done, to_do = {}, []
            with self._vault.lock:
                for name in names:
                    held = self._vault.holding(name)
                    if held.certificate is not None:
                        done[name] = held.certificate
                    else:
                        to_do.append(held)
                if to_do:
                    path = self._begin([item.recording_id for item in to_do], reason)
            if to_do:
                done |= self._carry_out(path, to_do, reason)
            return [done[name] for name in recording_ids]

    def _begin(self, names: list[str], reason: str) -> Path:
        make_directory(self._vault.intents)
        path = self._vault.intents / f"{secrets.token_hex(16)}.json"
        write_durably(path, _INTENT.dump_json(_Intent(tuple(names), reason, self._vault.clock())))
        # From here on nobody gets these keys any more.
        self._vault.erasing.update(names)
        return path

    def _carry_out(self, intent: Path, holdings: list[Holding], reason: str) -> dict[str, Certificate]:
        vault, names = self._vault, [item.recording_id for item in holdings]
        had = [name for name in names if name in vault.keystore]
        vault.fault("intent written")
        try:
            if had:
                # What a file system may still hold of an old deposit must open nothing: the deposit key changes, and
                # what waits under the old one is taken in before its private half goes.
                vault.keystore.rotate_deposit_key()
                vault.publish()
                vault.fault("deposit key published")
                self._intake.ingest()
            epoch = vault.keystore.shred(names).epoch
        except (EarwitnessError, OSError):
            if had and all(name in vault.keystore for name in had):
                # Nothing is destroyed: what was asked is told to have failed, so it must not happen later.
                remove_durably(intent)
                vault.erasing.difference_update(names)
            raise
        vault.fault("keys destroyed")
        certificates = {}
        with vault.lock:
            entries = []
            for held in holdings:
                self._remove_file(held)
                certificate = Certificate(
                    held.recording_id, held.tenant_id, epoch, vault.clock(), reason
                ).sign(vault.keystore.device_key)
                certificates[held.recording_id] = certificate
                entries.append(
                    replace(
                        held,
                        state=HoldingState.ERASED,
                        reason=reason,
                        since_ns=certificate.erased_ns,
                        certificate=certificate,
                    )
                )
            vault.fault("files removed")
            vault.holdings.append(entries)
            vault.erasing.difference_update(names)
            vault.last_erasure_ns = max(item.erased_ns for item in certificates.values())
        vault.fault("certificates journalled")
        remove_durably(intent)
        vault.status.count("recordings_erased", len(names))
        log.info("erased", recordings=len(names), epoch=epoch)
        return certificates

    def _remove_file(self, held: Holding) -> None:
        try:
            bucket = held.bucket
        except BucketNameError:
            return  # in quarantine, with a header that cannot be read: without its key it is noise
        self._vault.store.erase(bucket, [held.recording_id])

    def load(self) -> None:
        """Marks what was begun before this start, so that nobody gets at it before `resume`."""
        for _, intent in self._intents():
            self._vault.erasing.update(
                name for name in intent.recording_ids if not self._has_certificate(name)
            )

    def _has_certificate(self, name: str) -> bool:
        held = self._vault.holdings.get(name)
        return held is not None and held.certificate is not None

    def resume(self) -> int:
        """Completes erasures that were begun; how many recordings. A condition says where it cannot be done yet."""
        count = 0
        with self._lock:
            for path, intent in self._intents():
                try:
                    found = [self._vault.holdings.get(name) for name in intent.recording_ids]
                    to_do = [held for held in found if held is not None and held.certificate is None]
                    if to_do:
                        self._vault.erasing.update(held.recording_id for held in to_do)
                        self._carry_out(path, to_do, intent.reason)
                        count += len(to_do)
                    else:
                        remove_durably(path)
                except (EarwitnessError, OSError) as error:
                    log.error("erasure not completed yet", error=type(error).__name__)
                    self._vault.status.raise_condition(
                        "ErasureUnfinished",
                        ALARM,
                        "An erasure that was begun is not complete: the keystore cannot be written. Look at its disks.",
                    )
                    return count
            self._vault.status.clear_condition("ErasureUnfinished")
        return count

    def _intents(self) -> list[tuple[Path, _Intent]]:
        found = []
        for path in sorted(self._vault.intents.glob("*.json")):
            try:
                intent = _INTENT.validate_json(path.read_bytes())
            except ValidationError:
                # Written whole or not at all: this is damage, and it is kept.
                self._vault.status.raise_condition(
                    "IntentDamaged", ALARM, "An intent to erase is damaged and kept; look into vault/erasing."
                )
                continue
            if all(is_id(name) for name in intent.recording_ids):
                found.append((path, intent))
        return found
