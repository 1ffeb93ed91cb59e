"""A tenant's key pairs as the keystore holds them: open to the box, or locked by the tenant's own passphrase."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field

from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import KeystoreCorruptError
from appliance.storage.keystore.passphrase import TenantLock

# As the first two formats have it, and records of new tenants in the journal: one open key pair.
TENANT = struct.Struct(f"<16sqII{hpke.PRIVATE_KEY_BYTES}s")
# Id, created, mode, number of key pairs, public half of the present one; then the private halves, open or locked.
_HEAD = struct.Struct(f"<16sqII{hpke.PUBLIC_KEY_BYTES}s")
MAX_PAIRS = 64
"""Key pairs of one tenant: each turn to attended mode makes one, and what was sealed to the older ones needs them."""


class KeyMode(enum.IntEnum):
    """Who opens a tenant's private keys."""

    AUTO = 1  # the box by itself
    ATTENDED = 2  # whoever has the tenant's passphrase


@dataclass(frozen=True, slots=True)
class TenantKey:
    """A tenant's key pairs. `tenant` is a raw id; `privates`: the present one first, none where `lock` has them.

    `public`: the present one, to which what is recorded is sealed.
    """

    tenant: bytes
    created_ns: int
    privates: tuple[bytes, ...] = field(repr=False)
    public: bytes = field(repr=False)
    lock: TenantLock | None = field(default=None, repr=False)
    pairs: int = 1

    @classmethod
    def auto(cls, tenant: bytes, created_ns: int, *privates: bytes) -> TenantKey:
        """Open to the box."""
        return cls(tenant, created_ns, privates, hpke.public_key(privates[0]), None, len(privates))

    @property
    def mode(self) -> KeyMode:
        return KeyMode.AUTO if self.lock is None else KeyMode.ATTENDED

    def pack_first(self) -> bytes:
        """One open key pair, as the first formats have it."""
        (private,) = self.privates
        return TENANT.pack(self.tenant, self.created_ns, KeyMode.AUTO, 0, private)

    @classmethod
    def unpack_first(cls, raw: bytes | memoryview, offset: int = 0) -> TenantKey:
        """What `pack_first` gave."""
        tenant, created, _, _, private = TENANT.unpack_from(raw, offset)
        return cls.auto(tenant, created, private)

    def pack(self) -> bytes:
        head = _HEAD.pack(self.tenant, self.created_ns, self.mode, self.pairs, self.public)
        return head + (b"".join(self.privates) if self.lock is None else self.lock.pack())

    @classmethod
    def unpack(cls, raw: bytes | memoryview, offset: int = 0) -> tuple[TenantKey, int]:
        """One of them, and where the next one begins. It came out of an AEAD: what is wrong is a fault of ours."""
        at = offset + _HEAD.size
        if at > len(raw):
            raise KeystoreCorruptError("a tenant's keys are cut short", what="epoch", offset=offset)
        tenant, created, mode, pairs, public = _HEAD.unpack_from(raw, offset)
        length = pairs * hpke.PRIVATE_KEY_BYTES
        if mode == KeyMode.ATTENDED:
            length = TenantLock.packed_bytes(length)
        if mode not in (*KeyMode,) or not 0 < pairs <= MAX_PAIRS or at + length > len(raw):
            raise KeystoreCorruptError("a tenant's keys are not as written", what="epoch", offset=offset)
        body = bytes(raw[at : at + length])
        if mode == KeyMode.ATTENDED:
            return cls(tenant, created, (), public, TenantLock.unpack(body), pairs), at + length
        return cls(tenant, created, split_privates(body), public, None, pairs), at + length


def split_privates(joined: bytes) -> tuple[bytes, ...]:
    """Private keys that were put one after the other."""
    size = hpke.PRIVATE_KEY_BYTES
    return tuple(joined[at : at + size] for at in range(0, len(joined), size))


def unpack_tenants(raw: memoryview) -> list[TenantKey]:
    """All of a section."""
    found, at = [], 0
    while at < len(raw):
        tenant, at = TenantKey.unpack(raw, at)
        found.append(tenant)
    return found
