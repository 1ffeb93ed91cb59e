"""Tenants that hold their own passphrase: who unlocks, for how long, and how often a wrong one may be tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from appliance.model import InvalidError, id_bytes, id_text
from appliance.storage.keystore import GrantedKey, KeyMode, Proof, TenantKeys
from appliance.storage.keystore.errors import KeyAbsentError, PassphraseWrongError
from appliance.storage.keystore.granted import MAX_OF_GRANT
from appliance.storage.keystore.unlocked import MAX_UNLOCKED_S
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import PassphraseBusyError, PassphraseTooSoonError, RecordingNotFoundError

DEFAULT_UNLOCKED_S = 8 * 3600.0
MAX_GRANT_NS = 366 * 86_400 * 10**9
FIRST_WAIT_S = 1.0  # after a wrong passphrase; twice as long after each one more
MOST_WAIT_S = 60.0  # so that whoever guesses for a tenant keeps its officer waiting no longer than that
BUSY_S = 10.0  # how long a try waits for others: each takes a second and hundreds of MB

log = structlog.get_logger()


@dataclass(slots=True)
class _Failures:
    count: int = 0
    not_before_s: float = 0.0


class Attendance:
    """See the module. Safe to use from any thread. Nothing of a passphrase is ever logged."""

    def __init__(self, vault: Vault, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._vault = vault
        self._monotonic = monotonic
        self._trying = threading.Lock()
        self._failures: dict[str, _Failures] = {}  # of tenants that exist

    def keys(self, tenant_id: str) -> TenantKeys:
        """TenantKeyMissingError."""
        return self._vault.keystore.tenant_keys(tenant_id)

    def set_mode(
        self, tenant_id: str, mode: KeyMode, proof: Proof, *, check: bool = False
    ) -> tuple[TenantKeys, str]:
        """The keys after it, and to attended mode the recovery key. Errors as Keystore.set_attended, set_auto."""
        keystore = self._vault.keystore
        keystore.check_mode(tenant_id, mode, proof)
        recovery = ""
        if not check:
            with self._one_try(tenant_id):
                if mode is KeyMode.ATTENDED:
                    recovery = keystore.set_attended(tenant_id, proof.passphrase)
                else:
                    keystore.set_auto(tenant_id, proof)
            log.info("key mode set", tenant=tenant_id, mode=mode.name.lower())
        return self.keys(tenant_id), recovery

    def unlock(self, tenant_id: str, proof: Proof, duration_s: float = 0.0) -> TenantKeys:
        """`duration_s` 0: eight hours. Errors as Keystore.unlock; PassphraseTooSoonError, PassphraseBusyError."""
        if not 0 <= duration_s <= MAX_UNLOCKED_S:  # what is no number fails it too
            raise InvalidError("keys are unlocked for at most 24 hours", field="duration")
        with self._one_try(tenant_id):
            found = self._vault.keystore.unlock(tenant_id, proof, duration_s or DEFAULT_UNLOCKED_S)
        log.info("tenant unlocked", tenant=tenant_id)
        return found

    def lock(self, tenant_id: str) -> TenantKeys:
        """At once; success where it is locked, or in auto mode."""
        if self._vault.keystore.lock(tenant_id):
            log.info("tenant locked", tenant=tenant_id)
        return self.keys(tenant_id)

    def change_passphrase(
        self, tenant_id: str, proof: Proof, passphrase: str, *, renew_recovery_key: bool = False
    ) -> tuple[TenantKeys, str]:
        """The keys after it, and the new recovery key or "". Errors as Keystore.change_passphrase."""
        with self._one_try(tenant_id):
            recovery = self._vault.keystore.change_passphrase(
                tenant_id, proof, passphrase, renew_recovery_key=renew_recovery_key
            )
        log.info("passphrase changed", tenant=tenant_id)
        return self.keys(tenant_id), recovery

    def poll(self) -> None:
        """Locks what is past its time. To be called often."""
        for tenant_id in self._vault.keystore.expire_unlocked():
            log.info("tenant locked: its time is over", tenant=tenant_id)

    @contextmanager
    def _one_try(self, tenant_id: str) -> Iterator[None]:
        """One passphrase at a time, and after wrong ones of a tenant a pause."""
        self.keys(tenant_id)  # only tenants that there are take room here
        if not self._trying.acquire(timeout=BUSY_S):
            raise PassphraseBusyError("other passphrases are being tried: try again")
        try:
            failures = self._failures.setdefault(tenant_id, _Failures())
            wait = failures.not_before_s - self._monotonic()
            if wait > 0:
                raise PassphraseTooSoonError(
                    f"too soon after a wrong passphrase: try again in {wait:.0f} s",
                    tenant_id=tenant_id,
                    retry_after_s=round(wait, 1),
                )
            try:
                yield
            except PassphraseWrongError as error:
                failures.count += 1
                pause = min(FIRST_WAIT_S * 2 ** min(failures.count - 1, 16), MOST_WAIT_S)
                failures.not_before_s = self._monotonic() + pause
                log.warning("wrong passphrase", tenant=tenant_id, count=failures.count)
                self._vault.status.count("passphrases_wrong")
                raise PassphraseWrongError(error.message, retry_after_s=pause) from None
            del self._failures[tenant_id]
        finally:
            self._trying.release()

    # Grants.

    def seal_for_grant(
        self,
        grant_id: str,
        tenant_id: str,
        recording_ids: Sequence[str],
        public_key: bytes,
        expire_ns: int,
    ) -> tuple[KeyMode, list[GrantedKey]]:
        """The tenant's mode, and the sealed keys that the grant has then; none in auto mode.

        Raises RecordingNotFoundError for one that is not the tenant's, what Vault.readable raises for one that cannot be
        read; errors as Keystore.seal_for_grant.
        """
        names = list(dict.fromkeys(recording_ids))
        if not 0 < len(names) <= MAX_OF_GRANT:
            raise InvalidError(f"a grant has 1 to {MAX_OF_GRANT} recordings", field="recording_ids")
        now = self._vault.clock()
        if not now < expire_ns <= now + MAX_GRANT_NS:
            raise InvalidError("a grant ends in the future, within 366 days", field="expire_ns")
        id_bytes(grant_id)
        mode = self.keys(tenant_id).mode
        for name in names:
            if self._vault.holding(name).tenant_id != tenant_id:
                raise RecordingNotFoundError("the vault holds no such recording", recording_id=name)
            self._vault.readable(name)
        if mode is KeyMode.AUTO:
            return mode, []
        try:
            found = self._vault.keystore.seal_for_grant(grant_id, tenant_id, names, public_key, expire_ns)
        except KeyAbsentError:
            for name in names:
                self._vault.readable(name)  # erased meanwhile, and this says so
                self._vault.data_key(name)  # or without its key
            raise
        log.info("keys sealed for a grant", grant=grant_id, tenant=tenant_id, keys=len(found))
        return mode, found

    def granted(self, grant_id: str) -> list[GrantedKey]:
        """The sealed keys that the holder may have now; none of what is being erased."""
        found = self._vault.keystore.granted(grant_id)
        return [item for item in found if id_text(item.recording) not in self._vault.erasing]

    def drop_grant(self, grant_id: str) -> int:
        """How many sealed keys were destroyed. Errors as Keystore.drop_grant."""
        dropped = self._vault.keystore.drop_grant(grant_id)
        if dropped:
            log.info("keys of a grant destroyed", grant=grant_id, keys=dropped)
        return dropped
