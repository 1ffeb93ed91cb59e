"""Data keys sealed to the holder of a support grant: they open with the holder's private key, which is not on the box."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import KeyRefusedError
from appliance.storage.keystore.wrap import KEY_BYTES

SEALED_DATA_KEY_BYTES = KEY_BYTES + hpke.OVERHEAD_BYTES
# Grant, recording, tenant, id of the holder's public key, expires (ns), sealed data key.
GRANTED = struct.Struct(f"<16s16s16s16sq{SEALED_DATA_KEY_BYTES}s")
MAX_OF_GRANT = 1000
MAX_IN_ALL = 20_000
_CONTEXT = b"earwitness grant key v1\x00"


@dataclass(frozen=True, slots=True)
class GrantedKey:
    """A data key under a grant. Ids are raw, 16 bytes. `key_id`: of the holder's public key."""

    grant: bytes
    recording: bytes
    tenant: bytes
    key_id: bytes
    expire_ns: int
    sealed: bytes

    @property
    def place(self) -> tuple[bytes, bytes]:
        """There is one of each recording under each grant."""
        return self.grant, self.recording

    def pack(self) -> bytes:
        return GRANTED.pack(self.grant, self.recording, self.tenant, self.key_id, self.expire_ns, self.sealed)

    @classmethod
    def unpack(cls, raw: bytes | memoryview, offset: int = 0) -> GrantedKey:
        return cls(*GRANTED.unpack_from(raw, offset))


def seal_data_key(public: bytes, tenant: bytes, grant: bytes, recording: bytes, data_key: bytes) -> bytes:
    """1,168 bytes (HPKE, RFC 9180, as `hpke`). Ids are raw. KeyFormatError where `public` is no public key."""
    return hpke.seal(public, data_key, _CONTEXT + tenant + grant + recording)


def open_data_key(private: bytes, tenant: bytes, grant: bytes, recording: bytes, sealed: bytes) -> bytes:
    """The data key, 32 bytes: the holder's side. KeyRefusedError where anything is another."""
    key = hpke.unseal(private, sealed, _CONTEXT + tenant + grant + recording)
    if len(key) != KEY_BYTES:
        raise KeyRefusedError("a data key has a wrong length")
    return key
