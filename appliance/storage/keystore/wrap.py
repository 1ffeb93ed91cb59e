"""The two layers above a data key: the intermediate key wraps it, the tenant's public key seals the intermediate key.

Both layers bind what they protect to its ids, so that a record moved to another recording or tenant does not open.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import KeyRefusedError

KEY_BYTES = 32
ID_BYTES = 16
WRAPPED_BYTES = KEY_BYTES + 16
SEALED_INTERMEDIATE_BYTES = KEY_BYTES + hpke.OVERHEAD_BYTES
MAX_COUNTER = (1 << 32) - 1

_DATA_CONTEXT = b"earwitness data key v1\x00"
_INTERMEDIATE_CONTEXT = b"earwitness intermediate key v1\x00"


def seal_intermediate(tenant_public_key: bytes, tenant: bytes, intermediate: bytes, key: bytes) -> bytes:
    """1,168 bytes. `tenant` and `intermediate` are raw ids."""
    return hpke.seal(tenant_public_key, key, _INTERMEDIATE_CONTEXT + tenant + intermediate)


def unseal_intermediate(
    tenant_private_key: bytes, tenant: bytes, intermediate: bytes, sealed: bytes
) -> bytes:
    """The intermediate key; KeyRefusedError where anything is another."""
    key = hpke.unseal(tenant_private_key, sealed, _INTERMEDIATE_CONTEXT + tenant + intermediate)
    if len(key) != KEY_BYTES:
        raise KeyRefusedError("an intermediate key has a wrong length")
    return key


def wrap_data_key(
    intermediate_key: bytes, counter: int, tenant: bytes, intermediate: bytes, recording: bytes, key: bytes
) -> bytes:
    """48 bytes. `counter` is the nonce: it must never come twice under one intermediate key."""
    aad = _DATA_CONTEXT + tenant + intermediate + recording
    return AESGCM(intermediate_key).encrypt(counter.to_bytes(12, "big"), key, aad)


def unwrap_data_key(
    intermediate_key: bytes,
    counter: int,
    tenant: bytes,
    intermediate: bytes,
    recording: bytes,
    wrapped: bytes,
) -> bytes:
    """The data key; KeyRefusedError where anything is another."""
    aad = _DATA_CONTEXT + tenant + intermediate + recording
    try:
        return AESGCM(intermediate_key).decrypt(counter.to_bytes(12, "big"), wrapped, aad)
    except InvalidTag as error:
        raise KeyRefusedError("a data key does not open with its intermediate key") from error
