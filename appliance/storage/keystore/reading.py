"""What can be read of a keystore. Readers never wait for the writer, not even for a shred."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke
from appliance.storage.keystore.buckets import BucketName, pack_bucket_name, unpack_bucket_name
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.deposit import Deposit, IntermediateRecord, KeyRecord, open_deposit
from appliance.storage.keystore.errors import (
    BucketKeyAbsentError,
    KeyAbsentError,
    TenantKeyMissingError,
    TenantLockedError,
)
from appliance.storage.keystore.opened import Opened
from appliance.storage.keystore.tenantkeys import TenantKey
from appliance.storage.keystore.unlocked import Unlocked
from appliance.storage.keystore.wrap import unwrap_data_key


class KeystoreReader:
    """Safe to use from any thread: an epoch is replaced as a whole."""

    def __init__(self, contents: Contents, unlocked: Unlocked) -> None:
        self._open = Opened(contents)
        self._unlocked = unlocked

    def __len__(self) -> int:
        """Data keys held."""
        return len(self._open.contents)

    def __contains__(self, recording_id: str) -> bool:
        return id_bytes(recording_id) in self._open.contents

    def recordings(self) -> Iterable[str]:
        """Ids of all recordings whose key is held."""
        return (id_text(raw) for raw in self._open.contents.recordings())

    @property
    def device_key(self) -> Ed25519PrivateKey:
        """Signs footers and certificates."""
        return Ed25519PrivateKey.from_private_bytes(self._open.contents.device_key)

    @property
    def device_public_key(self) -> bytes:
        """Raw Ed25519 public key, 32 bytes."""
        return self.device_key.public_key().public_bytes_raw()

    @property
    def deposit_public_key(self) -> bytes:
        """What capture seals deposits to at present."""
        return hpke.public_key(self._open.contents.deposit_keys[-1].private)

    @property
    def deposit_key_ids(self) -> list[bytes]:
        """Ids of the deposit keys held, the present one last."""
        return [item.id for item in self._open.contents.deposit_keys]

    def tenant_public_key(self, tenant_id: str) -> bytes:
        """What the tenant's recordings are sealed to at present; TenantKeyMissingError where it has none."""
        return self._tenant(self._open.contents, id_bytes(tenant_id)).public

    @staticmethod
    def _tenant(contents: Contents, raw: bytes) -> TenantKey:
        tenant = contents.tenants.get(raw)
        if tenant is None:
            raise TenantKeyMissingError("this tenant has no key pair", tenant_id=id_text(raw))
        return tenant

    def tenant_of(self, recording_id: str) -> str:
        """Whose recording it is by its key; KeyAbsentError where there is none."""
        return id_text(self._above(self._open.contents, id_bytes(recording_id))[1].tenant)

    def data_key(self, recording_id: str) -> bytes:
        """The data key, 32 bytes.

        Raises KeyAbsentError, TenantKeyMissingError, TenantLockedError, or KeyRefusedError where it is sealed to no key of
        the tenant.
        """
        held, recording = self._open, id_bytes(recording_id)
        record, above = self._above(held.contents, recording)
        tenant = self._tenant(held.contents, above.tenant)
        # Asked each time, also where the intermediate key is at hand: a lock holds at once.
        privates = self._privates(tenant)
        key = held.intermediate_key(above, privates, lambda: self._may_keep(tenant))
        return unwrap_data_key(key, record.counter, above.tenant, above.id, recording, record.wrapped)

    def _privates(self, tenant: TenantKey) -> tuple[bytes, ...]:
        """The private keys, the present one first; TenantLockedError."""
        found = tenant.privates if tenant.lock is None else self._unlocked.privates(tenant.tenant)
        if found is None:
            raise TenantLockedError(
                "the tenant's keys are locked: its records officer unlocks them",
                tenant_id=id_text(tenant.tenant),
            )
        return found

    def _may_keep(self, tenant: TenantKey) -> bool:
        now = self._open.contents.tenants.get(tenant.tenant)
        return now is not None and (now.lock is None or self._unlocked.until_ns(tenant.tenant) != 0)

    @staticmethod
    def _above(contents: Contents, recording: bytes) -> tuple[KeyRecord, IntermediateRecord]:
        record = contents.find(recording)
        above = contents.intermediate(record.intermediate) if record is not None else None
        if record is None or above is None:
            raise KeyAbsentError("the keystore has no key of this recording", recording_id=id_text(recording))
        return record, above

    def bucket_key(self, tenant_id: str, line: str, slice: str) -> bytes:
        """The key of a bucket, 32 bytes; BucketKeyAbsentError where there is none (any more)."""
        found = self._open.contents.buckets.get(pack_bucket_name((tenant_id, line, slice)))
        if found is None:
            raise BucketKeyAbsentError(
                "the keystore has no key of this bucket", bucket=[tenant_id, line, slice]
            )
        return found.key

    def bucket_keys(self) -> list[BucketName]:
        """Names of the buckets whose key is held, in order."""
        return sorted(unpack_bucket_name(raw) for raw in list(self._open.contents.buckets))

    def is_pinned(self, recording_id: str) -> bool:
        """Whether a legal hold forbids to destroy the recording's key; False where there is no key."""
        return id_bytes(recording_id) in self._open.contents.pinned

    def pinned(self) -> list[str]:
        """Ids of all recordings whose key must not be destroyed, in order."""
        return sorted(id_text(raw) for raw in list(self._open.contents.pinned))

    def open_deposit(self, raw: bytes) -> Deposit:
        """As deposit.open_deposit, with the deposit keys held."""
        return open_deposit(raw, {item.id: item.private for item in self._open.contents.deposit_keys})
