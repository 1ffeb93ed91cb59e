"""Key modes of tenants: turning a tenant's keys over to its own passphrase and back, unlocking, and grants.

Whatever makes an open key a locked one, or drops a sealed copy, is a turn as a shred is: the old epoch's root key is
destroyed, so that nothing the disk may still hold of it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.errors import (
    GrantKeysConflictError,
    GrantKeysFullError,
    KeyAbsentError,
    KeyModeError,
    TenantKeysFullError,
)
from appliance.storage.keystore.granted import MAX_IN_ALL, MAX_OF_GRANT, GrantedKey, seal_data_key
from appliance.storage.keystore.passphrase import (
    STANDARD,
    Cost,
    Proof,
    TenantLock,
    check_passphrase,
    make_lock,
)
from appliance.storage.keystore.records import pack_granted
from appliance.storage.keystore.tenantkeys import MAX_PAIRS, KeyMode, TenantKey, split_privates
from appliance.storage.keystore.writing import KeystoreWriter


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """How a tenant's keys stand. `unlocked_until_ns`: 0 where locked, and in auto mode. `public`: the present key."""

    tenant_id: str
    mode: KeyMode
    unlocked_until_ns: int
    public: bytes
    pairs: int

    @property
    def locked(self) -> bool:
        return self.mode is KeyMode.ATTENDED and not self.unlocked_until_ns


class AttendedKeys(KeystoreWriter):
    """See the module. Trying a passphrase takes a second and hundreds of MB, and holds up neither readers nor deposits."""

    cost: Cost = STANDARD

    def tenant_keys(self, tenant_id: str) -> TenantKeys:
        """TenantKeyMissingError where there is no such tenant."""
        return self._state(self._tenant(self._open.contents, id_bytes(tenant_id)))

    def all_tenant_keys(self) -> list[TenantKeys]:
        """Of every tenant, by id."""
        tenants = dict(self._open.contents.tenants)
        return [self._state(tenants[raw]) for raw in sorted(tenants)]

    def _state(self, tenant: TenantKey) -> TenantKeys:
        until = self._unlocked.until_ns(tenant.tenant) if tenant.lock is not None else 0
        return TenantKeys(id_text(tenant.tenant), tenant.mode, until, tenant.public, tenant.pairs)

    # Modes.

    def check_mode(self, tenant_id: str, mode: KeyMode, proof: Proof) -> None:
        """Raises what `set_attended` or `set_auto` would, as far as it is known without trying the passphrase."""
        other = KeyMode.AUTO if mode is KeyMode.ATTENDED else KeyMode.ATTENDED
        tenant = self._in_mode(tenant_id, other)
        if mode is KeyMode.ATTENDED:
            check_passphrase(proof.passphrase)
            self._refuse_full(tenant)

    @staticmethod
    def _refuse_full(tenant: TenantKey) -> None:
        if tenant.pairs >= MAX_PAIRS:
            raise TenantKeysFullError("this tenant's keys changed too often", limit=MAX_PAIRS)

    def set_attended(self, tenant_id: str, passphrase: str) -> str:
        """Turns a tenant's keys over to its passphrase; the recovery key, to be shown this once. It is locked after it.

        A fresh key pair takes what is recorded from now on: who took the old one while it lay open reads none of that.
        Raises KeyModeError where it is attended, PassphraseFormatError, TenantKeysFullError; as `shred` for the copies.
        """
        check_passphrase(passphrase)
        with self._changing:
            tenant = self._in_mode(tenant_id, KeyMode.AUTO)
            self._refuse_full(tenant)
            privates = (hpke.new_private_key(), *tenant.privates)
            lock, recovery = make_lock(tenant.tenant, b"".join(privates), passphrase, self.cost)
            public = hpke.public_key(privates[0])
            self._change(TenantKey(tenant.tenant, tenant.created_ns, (), public, lock, len(privates)))
            return recovery

    def set_auto(self, tenant_id: str, proof: Proof) -> None:
        """Gives a tenant's keys back to the box. Raises KeyModeError, PassphraseWrongError; as `shred` for the copies."""
        with self._changing:
            tenant, _, privates = self._prove(tenant_id, proof)
            self._change(replace(tenant, privates=split_privates(privates), lock=None))
            self._unlocked.lock(tenant.tenant)

    def change_passphrase(
        self, tenant_id: str, proof: Proof, passphrase: str, *, renew_recovery_key: bool = False
    ) -> str:
        """Another passphrase; the new recovery key where one is asked for, else "". Who has unlocked stays so.

        Raises KeyModeError, PassphraseWrongError, PassphraseFormatError; as `shred` for the copies.
        """
        check_passphrase(passphrase, "new_passphrase")
        with self._changing:
            tenant, lock_key, privates = self._prove(tenant_id, proof)
            if renew_recovery_key:
                lock, recovery = make_lock(tenant.tenant, privates, passphrase, self.cost)
            else:
                lock = _lock_of(tenant).renewed(tenant.tenant, lock_key, passphrase, self.cost)
                recovery = ""
            self._change(replace(tenant, lock=lock))
            return recovery

    def _in_mode(self, tenant_id: str, mode: KeyMode) -> TenantKey:
        tenant = self._tenant(self._open.contents, id_bytes(tenant_id))
        if tenant.mode is not mode:
            raise KeyModeError(
                f"the tenant's keys are in {tenant.mode.name.lower()} mode",
                tenant_id=tenant_id,
                mode=tenant.mode.name.lower(),
            )
        return tenant

    def _prove(self, tenant_id: str, proof: Proof) -> tuple[TenantKey, bytes, bytes]:
        """The tenant, its lock key, its private keys joined; KeyModeError, PassphraseWrongError."""
        tenant = self._in_mode(tenant_id, KeyMode.ATTENDED)
        lock = _lock_of(tenant)
        lock_key = lock.open(tenant.tenant, proof)
        return tenant, lock_key, lock.unlock(tenant.tenant, lock_key)

    def _change(self, tenant: TenantKey) -> None:
        """A turn in which the tenant's keys are these."""

        def change(contents: Contents) -> None:
            contents.tenants[tenant.tenant] = tenant

        self._turn_over(change)

    def _turn_over(self, change: Callable[[Contents], None]) -> None:
        """A turn after which what `change` takes away opens nowhere; errors as `shred`."""
        with self._writing():
            self._look_again()
            self._refuse_degraded()
            self._refuse_missing(self._missing())
            contents = self._open.contents
            merged = contents.merged((), contents.deposit_keys)
            change(merged)
            self._destroy_old(merged)
            self._finish()
            self._refuse_missed()

    # Unlocking.

    def unlock(self, tenant_id: str, proof: Proof, duration_s: float) -> TenantKeys:
        """Opens a tenant's keys in memory for so long. Raises KeyModeError, PassphraseWrongError."""
        tenant, _, privates = self._prove(tenant_id, proof)
        with self._write:
            # The keys may have changed while the passphrase was tried; then it is another one that opens them.
            if self._open.contents.tenants.get(tenant.tenant) != tenant:
                raise KeyModeError(
                    "the tenant's keys have just changed", tenant_id=tenant_id, mode="attended"
                )
            self._unlocked.put(tenant.tenant, privates, duration_s)
        return self.tenant_keys(tenant_id)

    def lock(self, tenant_id: str) -> bool:
        """Takes a tenant's keys out of memory at once; whether they were there. TenantKeyMissingError."""
        raw = self._tenant(self._open.contents, id_bytes(tenant_id)).tenant
        was = self._unlocked.lock(raw)
        self._open.forget(raw)
        return was

    def expire_unlocked(self) -> list[str]:
        """Takes keys out of memory whose time is over; the tenants' ids. To be called often."""
        over = self._unlocked.expire()
        for raw in over:
            self._open.forget(raw)
        return [id_text(raw) for raw in over]

    # Grants.

    def seal_for_grant(
        self,
        grant_id: str,
        tenant_id: str,
        recording_ids: Sequence[str],
        public_key: bytes,
        expire_ns: int,
    ) -> list[GrantedKey]:
        """Seals these recordings' data keys to a grant's holder; all that the grant has then. Twice is success.

        Raises KeyAbsentError naming one that has no key or is not the tenant's, TenantLockedError, KeyFormatError,
        GrantKeysFullError, GrantKeysConflictError, KeystoreWriteError.
        """
        hpke.check_public_key(public_key)
        grant, tenant, key_id = id_bytes(grant_id), id_bytes(tenant_id), hpke.key_id(public_key)
        with self._writing():
            contents = self._open.contents
            before = self._of_grant(contents, grant)
            if any((item.tenant, item.key_id) != (tenant, key_id) for item in before.values()):
                raise GrantKeysConflictError(
                    "this grant has keys for another holder or of another tenant", grant_id=grant_id
                )
            wanted = dict.fromkeys(recording_ids)
            fresh = [
                name
                for name in wanted
                if (found := before.get(id_bytes(name))) is None or found.expire_ns != expire_ns
            ]
            added = sum(id_bytes(name) not in before for name in fresh)
            if len(before) + added > MAX_OF_GRANT or len(contents.grants) + added > MAX_IN_ALL:
                raise GrantKeysFullError("too many keys under grants", limit=MAX_OF_GRANT)
            keys = [self._granted(grant, tenant, name, public_key, key_id, expire_ns) for name in fresh]
            if keys:
                self._upgrade()
                self._append(pack_granted(keys))
            return sorted(
                self._of_grant(self._open.contents, grant).values(), key=lambda item: item.recording
            )

    def _granted(
        self, grant: bytes, tenant: bytes, name: str, public: bytes, key_id: bytes, expire_ns: int
    ) -> GrantedKey:
        if id_bytes(self.tenant_of(name)) != tenant:
            # As if it were not there: a tenant learns nothing of another one's recordings.
            raise KeyAbsentError("the keystore has no key of this recording", recording_id=name)
        raw = id_bytes(name)
        sealed = seal_data_key(public, tenant, grant, raw, self.data_key(name))
        return GrantedKey(grant, raw, tenant, key_id, expire_ns, sealed)

    def granted(self, grant_id: str) -> list[GrantedKey]:
        """The sealed keys that a grant's holder may have now, by recording."""
        now, found = self._clock(), self._of_grant(self._open.contents, id_bytes(grant_id))
        return sorted(
            (item for item in found.values() if item.expire_ns > now), key=lambda item: item.recording
        )

    def drop_grant(self, grant_id: str) -> int:
        """Destroys a grant's sealed keys; how many. Errors as `shred` for the copies: they may be there still then."""
        grant = id_bytes(grant_id)
        with self._writing():
            dropped = self._drop(lambda item: item.grant == grant)
            if not dropped:
                # A turn before may have taken them out of sight and not yet destroyed what opens the old epoch.
                self._finish()
                self._refuse_missed()
            return dropped

    def drop_expired(self) -> int:
        """Destroys the sealed keys whose time is over; how many. Errors as `drop_grant`."""
        now = self._clock()
        return self._drop(lambda item: item.expire_ns <= now)

    def _drop(self, goes: Callable[[GrantedKey], bool]) -> int:
        with self._writing():
            found = [place for place, item in self._open.contents.grants.items() if goes(item)]

            def change(contents: Contents) -> None:
                for place in found:
                    del contents.grants[place]

            if found:
                self._turn_over(change)
            return len(found)

    @staticmethod
    def _of_grant(contents: Contents, grant: bytes) -> dict[bytes, GrantedKey]:
        return {item.recording: item for item in list(contents.grants.values()) if item.grant == grant}


def _lock_of(tenant: TenantKey) -> TenantLock:
    if tenant.lock is None:
        raise AssertionError("looked at before")
    return tenant.lock
