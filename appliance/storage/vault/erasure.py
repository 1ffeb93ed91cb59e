"""Erasing: the intent first, then the keys, then the files, then the certificate. docs/erasure.md describes it.

A crash anywhere is made good at the next start: the intent says what was asked, and every step may be done again.
"""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from appliance.model import EarwitnessError, InvalidError, is_id
from appliance.process.status import ALARM
from appliance.storage.keystore.errors import BucketKeyAbsentError
from appliance.storage.keystore.files import make_directory, remove_durably, write_durably
from appliance.storage.names import BucketNameError
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.core import Vault, check_reason
from appliance.storage.vault.deletionlog import DeletionKind
from appliance.storage.vault.errors import (
    BucketKeyError,
    BucketMissingError,
    RecordingKeyAbsentError,
    StoreFullError,
    StoreUnavailableError,
)
from appliance.storage.vault.holding import Certificate, Holding, HoldingState
from appliance.storage.vault.intake import Intake

MAX_AT_ONCE = 1000  # a certificate of each, with its reason, comes back in one answer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Intent:
    """An erasure that was begun."""

    recording_ids: tuple[str, ...]
    reason: str
    asked_ns: int
    bucket: tuple[str, str, str] | None = None  # its key goes too


_INTENT = TypeAdapter(_Intent)


def check_many(recording_ids: Collection[str]) -> None:
    """InvalidError where these are none, or more than are erased at once."""
    if not 0 < len(set(recording_ids)) <= MAX_AT_ONCE:
        raise InvalidError(f"1 to {MAX_AT_ONCE} recordings are erased at once", field="recording_ids")


class Eraser:
    """One erasure at a time; a second one waits, and finds what the first has done."""

    def __init__(self, vault: Vault, intake: Intake) -> None:
        self._vault = vault
        self._intake = intake
        self._lock = threading.Lock()

    def erase(self, recording_ids: Sequence[str], reason: str) -> list[Certificate]:
        """Erases recordings, all in one epoch; a certificate for each, in that order.

        What was erased before keeps its certificate. Raises RecordingNotFoundError, RecordingLiveError,
        RecordingSpooledError or RecordingHeldError where one cannot be erased, before anything is done; KeystoreWriteError
        or KeystoreDegradedError where the keystore cannot be written.
        """
        check_many(recording_ids)
        return self.erase_all(recording_ids, reason, keyless=True)

    def erase_all(
        self,
        recording_ids: Sequence[str],
        reason: str,
        *,
        bucket: BucketId | None = None,
        states: Collection[HoldingState] = tuple(HoldingState),
        keyless: bool = False,
    ) -> list[Certificate]:
        """As `erase`, however many; with `bucket` its key goes in the same epoch, and who destroys it removes the files.

        What is in none of `states` by then is left as it is, without a certificate. RecordingKeyAbsentError, unless
        `keyless`, while there are recordings without a key that nobody erased: a turn would make the right keystore an
        older one.
        """
        check_reason(reason)
        names = list(dict.fromkeys(recording_ids))
        with self._lock:
            done, to_do = {}, []
            with self._vault.lock:
                for name in names:
                    held = self._vault.holding(name)
                    if held.certificate is not None:
                        done[name] = held.certificate
                    elif held.state in states:
                        to_do.append(held)
                self._vault.refuse_held(to_do)
                if to_do or bucket is not None:
                    if not keyless:
                        self._refuse_keyless(to_do)
                    intent = _Intent(
                        tuple(item.recording_id for item in to_do),
                        reason,
                        self._vault.clock(),
                        (bucket.tenant_id, bucket.line_id, bucket.slice) if bucket is not None else None,
                    )
                    path = self._begin(intent)
            if to_do or bucket is not None:
                done |= self._carry_out(path, to_do, intent)
            return [done[name] for name in recording_ids if name in done]

    def _refuse_keyless(self, holdings: list[Holding]) -> None:
        if self._vault.keys_absent or any(map(self._vault.keyless, holdings)):
            raise RecordingKeyAbsentError(
                "recordings have no key and were not erased: nothing is destroyed until the right keystore is back"
            )

    def _begin(self, intent: _Intent) -> Path:
        make_directory(self._vault.intents)
        path = self._vault.intents / f"{secrets.token_hex(16)}.json"
        write_durably(path, _INTENT.dump_json(intent))
        # From here on nobody gets these keys any more.
        self._vault.erasing.update(intent.recording_ids)
        return path

    def _carry_out(self, path: Path, holdings: list[Holding], intent: _Intent) -> dict[str, Certificate]:
        vault, names = self._vault, [item.recording_id for item in holdings]
        buckets = [intent.bucket] if intent.bucket is not None else []
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
            epoch = vault.keystore.shred(names, buckets=buckets).epoch
        except (EarwitnessError, OSError):
            if vault.keystore.in_doubt:
                # It may have happened: nobody gets these keys, and no hold is taken for them, until that is known.
                self._unfinished()
                raise
            present = vault.keystore.bucket_keys() if buckets else []
            if (
                (had or buckets)
                and all(item in present for item in buckets)
                and all(name in vault.keystore for name in had)
            ):
                # Nothing is destroyed: what was asked is told to have failed, so it must not happen later.
                remove_durably(path)
                vault.erasing.difference_update(names)
            raise
        vault.fault("keys destroyed")
        # Copies elsewhere are told under the intent's name, so that a crash here tells them once.
        number = vault.deletions.append(
            DeletionKind.EXPIRED if buckets else DeletionKind.ERASED,
            path.stem,
            recordings=names,
            buckets=["/".join(item) for item in buckets] or _places(holdings),
        )
        vault.fault("copies told")
        if not buckets:
            self._remove_files(holdings)
            vault.fault("files removed")
        certificates = self._certify(holdings, intent.reason, epoch, number)
        vault.fault("certificates journalled")
        remove_durably(path)
        vault.status.count("recordings_erased", len(names))
        log.info("erased", recordings=len(names), epoch=epoch)
        return certificates

    def _certify(
        self, holdings: list[Holding], reason: str, epoch: int, number: int
    ) -> dict[str, Certificate]:
        vault, signer = self._vault, self._vault.keystore.device_key
        certificates: dict[str, Certificate] = {}
        entries = []
        for held in holdings:
            certificate = Certificate(
                held.recording_id,
                held.tenant_id,
                epoch,
                vault.clock(),
                reason,
                version=2,
                log_number=number,
                replicas=vault.replicas,
            ).sign(signer)
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
        with vault.lock:
            vault.holdings.append(entries)
            vault.erasing.difference_update(certificates)
            vault.last_erasure_ns = max(
                [vault.last_erasure_ns, *(item.erased_ns for item in certificates.values())]
            )
        return certificates

    def _remove_files(self, holdings: list[Holding]) -> None:
        """Gives the space back. Their keys are gone already: where a bucket is not to be had, `reconcile` does it."""
        vault = self._vault
        by_bucket: dict[BucketId, list[str]] = defaultdict(list)
        for held in holdings:
            try:
                if not held.parked:
                    by_bucket[held.bucket].append(held.recording_id)
            except BucketNameError:
                continue  # in quarantine, with a header that cannot be read: without its key it is noise
        with vault.moving:
            for bucket, names in by_bucket.items():
                try:
                    vault.buckets.open(bucket)
                    vault.store.remove(bucket, names)
                except (BucketMissingError, BucketKeyAbsentError):
                    continue
                except (StoreUnavailableError, StoreFullError, BucketKeyError) as error:
                    log.warning("erased files not removed yet", reason=error.reason, count=len(names))

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
                    if to_do or intent.bucket is not None:
                        self._vault.erasing.update(held.recording_id for held in to_do)
                        self._carry_out(path, to_do, intent)
                        count += len(to_do)
                    else:
                        remove_durably(path)
                except (EarwitnessError, OSError) as error:
                    log.error("erasure not completed yet", error=type(error).__name__)
                    self._unfinished()
                    return count
            self._vault.status.clear_condition("ErasureUnfinished")
        return count

    def _unfinished(self) -> None:
        self._vault.status.raise_condition(
            "ErasureUnfinished",
            ALARM,
            "An erasure that was begun is not complete: the keystore cannot be written. Look at its disks.",
        )

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


def _places(holdings: Sequence[Holding]) -> list[str]:
    """The buckets where these lie, or lay."""
    found = set()
    for held in holdings:
        try:
            found.add(held.bucket.path)
        except BucketNameError:
            continue  # in quarantine, with a header that cannot be read
    return sorted(found)
