"""HPKE (RFC 9180) with the hybrid KEM MLKEM768-X25519: raw key bytes in, raw bytes out.

Records kept for twenty years outlive today's curves, so each encapsulation rests on ML-KEM-768 (FIPS 203) and X25519
together. The suite is fixed: MLKEM768-X25519, HKDF-SHA256, AES-256-GCM. A ciphertext is `enc ‖ ct`.
"""

from __future__ import annotations

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from appliance.storage.keystore.errors import KeyFormatError, KeyRefusedError

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

_MLKEM_PUBLIC = 1184
_MLKEM_SEED = 64
_X25519 = 32
PUBLIC_KEY_BYTES = _MLKEM_PUBLIC + _X25519
"""ML-KEM-768 encapsulation key, then X25519 public key."""
PRIVATE_KEY_BYTES = _MLKEM_SEED + _X25519
"""ML-KEM-768 seed (d ‖ z), then X25519 private key."""
ENCAPSULATION_BYTES = 1088 + _X25519
OVERHEAD_BYTES = ENCAPSULATION_BYTES + 16
"""A ciphertext is this much longer than its plaintext."""


def new_private_key() -> bytes:
    """A fresh private key, 96 bytes."""
    return secrets.token_bytes(PRIVATE_KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """The public half, 1,216 bytes, of a private one."""
    mlkem, x25519 = _private_halves(private)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def key_id(public: bytes) -> bytes:
    """16 bytes that name a public key: the head of its SHA-256."""
    return hashlib.sha256(public).digest()[:16]


def seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seals `plaintext` so that only the holder of the private half, stating the same `info`, opens it."""
    try:
        return _SUITE.encrypt(plaintext, _public(public), info)
    except ValueError as error:  # an X25519 point of small order
        raise KeyFormatError("these bytes are no public key to seal to", field="public_key") from error


def unseal(private: bytes, ciphertext: bytes, info: bytes) -> bytes:
    """Opens what `seal` gave; KeyRefusedError where key, `info` or a byte is another."""
    if len(ciphertext) < OVERHEAD_BYTES:
        raise KeyRefusedError("a sealed key is cut short", length=len(ciphertext))
    try:
        return _SUITE.decrypt(ciphertext, MLKEM768X25519PrivateKey(*_private_halves(private)), info)
    except (InvalidTag, ValueError) as error:
        raise KeyRefusedError("a sealed key does not open with this private key") from error


def check_public_key(public: bytes) -> None:
    """KeyFormatError where these are not the bytes of a public key."""
    _public(public)


def _public(raw: bytes) -> MLKEM768X25519PublicKey:
    if len(raw) != PUBLIC_KEY_BYTES:
        raise KeyFormatError(f"a public key has {PUBLIC_KEY_BYTES} bytes", field="public_key")
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]),
            X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC:]),
        )
    except ValueError as error:
        raise KeyFormatError("these bytes are no public key", field="public_key") from error


def _private_halves(raw: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(raw) != PRIVATE_KEY_BYTES:
        raise KeyFormatError(f"a private key has {PRIVATE_KEY_BYTES} bytes", field="private_key")
    return (
        MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED]),
        X25519PrivateKey.from_private_bytes(raw[_MLKEM_SEED:]),
    )
