"""A tenant's private keys under its own passphrase, and under a recovery key: what the box cannot open by itself.

A random lock key encrypts the private keys. It is there twice: under a key from the passphrase (Argon2id, RFC 9106), and
under the recovery key, which was shown once and is kept nowhere. All three by AES-256-GCM. docs/keystore.md has the bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import struct
import unicodedata
from dataclasses import dataclass, field, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from appliance.storage.keystore.errors import (
    KeystoreCorruptError,
    PassphraseFormatError,
    PassphraseWrongError,
)
from appliance.storage.keystore.wrap import KEY_BYTES

MIN_CHARACTERS = 12
MAX_CHARACTERS = 256
SALT_BYTES = 16
_NONCE = 12
_TAG = 16
_WRAPPED = _NONCE + KEY_BYTES + _TAG
_CONTEXT = b"earwitness tenant lock v1\x00"
_HEAD = struct.Struct(
    f"<IIII{SALT_BYTES}s{_WRAPPED}s{_WRAPPED}s"
)  # memory, passes, lanes, zero, salt, twice the key
_BY_PASSPHRASE, _BY_RECOVERY, _KEYS = b"P", b"R", b"K"
_CHECK_BYTES = 3
_GROUP = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What trying one passphrase costs (RFC 9106, section 3.1): memory in KiB, passes over it, lanes."""

    memory_kib: int = 256 << 10
    passes: int = 3
    lanes: int = 4


STANDARD = Cost()
"""Above the second recommended option of RFC 9106, section 4 (64 MiB): about a second of one box's time."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What opens a lock: the passphrase, or the recovery key as it was shown. One of them."""

    passphrase: str = field(default="", repr=False)
    recovery_key: str = field(default="", repr=False)


def check_passphrase(text: str, field_name: str = "passphrase") -> bytes:
    """A new passphrase as it goes into the derivation: NFC (RFC 8265, section 4.2.2), UTF-8. PassphraseFormatError."""
    normal = unicodedata.normalize("NFC", text)
    if not MIN_CHARACTERS <= len(normal) <= MAX_CHARACTERS or any(
        unicodedata.category(letter) == "Cc" for letter in normal
    ):
        raise PassphraseFormatError(
            f"a passphrase has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters, none of them control characters",
            field=field_name,
        )
    try:
        return normal.encode()
    except UnicodeEncodeError as error:
        raise PassphraseFormatError("a passphrase is text", field=field_name) from error


def write_recovery_key(raw: bytes) -> str:
    """As it is shown: base32 with a checksum, in groups of four."""
    text = base64.b32encode(raw + hashlib.sha256(_CONTEXT + raw).digest()[:_CHECK_BYTES]).decode().lower()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def read_recovery_key(text: str) -> bytes:
    """What `write_recovery_key` gave, however it was typed; PassphraseFormatError where it was mistyped."""
    bare = "".join(text.split()).replace("-", "").upper() if len(text) <= MAX_CHARACTERS else ""
    try:
        raw = base64.b32decode(bare)
    except (binascii.Error, ValueError):
        raw = b""
    key = raw[:KEY_BYTES]
    if (
        len(raw) != KEY_BYTES + _CHECK_BYTES
        or hashlib.sha256(_CONTEXT + key).digest()[:_CHECK_BYTES] != raw[KEY_BYTES:]
    ):
        # Not chained: the cause would hold what was typed.
        raise PassphraseFormatError(
            "this is no recovery key: it was mistyped", field="recovery_key"
        ) from None
    return key


@dataclass(frozen=True, slots=True)
class TenantLock:
    """A lock key under passphrase and recovery key, and what it locks. Opens nothing by itself."""

    cost: Cost
    salt: bytes
    by_passphrase: bytes
    by_recovery_key: bytes
    sealed: bytes

    def pack(self) -> bytes:
        cost = self.cost
        head = _HEAD.pack(
            cost.memory_kib, cost.passes, cost.lanes, 0, self.salt, self.by_passphrase, self.by_recovery_key
        )
        return head + self.sealed

    @classmethod
    def packed_bytes(cls, plain_bytes: int) -> int:
        """How long `pack` is where so many bytes are locked."""
        return _HEAD.size + _NONCE + plain_bytes + _TAG

    @classmethod
    def unpack(cls, raw: bytes) -> TenantLock:
        if len(raw) < _HEAD.size + _NONCE + _TAG:
            raise KeystoreCorruptError("a tenant's lock is cut short", what="epoch")
        memory, passes, lanes, _, salt, first, second = _HEAD.unpack_from(raw)
        return cls(Cost(memory, passes, lanes), salt, first, second, raw[_HEAD.size :])

    def open(self, tenant: bytes, proof: Proof) -> bytes:
        """The lock key. PassphraseWrongError; PassphraseFormatError where a recovery key was mistyped."""
        if bool(proof.passphrase) == bool(proof.recovery_key):
            raise PassphraseFormatError("state the passphrase or the recovery key", field="passphrase")
        if proof.recovery_key:
            key, wrapped, aad = (
                read_recovery_key(proof.recovery_key),
                self.by_recovery_key,
                _bound(tenant, _BY_RECOVERY),
            )
        else:
            text = unicodedata.normalize("NFC", proof.passphrase)
            if len(text) > MAX_CHARACTERS:
                raise PassphraseWrongError("this is not the passphrase")
            raw = text.encode(errors="surrogatepass")
            key, wrapped = _derive(raw, self.salt, self.cost), self.by_passphrase
            aad = _bound(tenant, _BY_PASSPHRASE, self.cost, self.salt)
        try:
            return _open(key, wrapped, aad)
        except InvalidTag:
            raise PassphraseWrongError("this is not the passphrase, or not the recovery key") from None

    def unlock(self, tenant: bytes, lock_key: bytes) -> bytes:
        """What is locked, with the lock key of `open`."""
        try:
            return _open(lock_key, self.sealed, _bound(tenant, _KEYS))
        except InvalidTag as error:
            raise KeystoreCorruptError("a tenant's locked keys do not open", what="epoch") from error

    def renewed(self, tenant: bytes, lock_key: bytes, passphrase: str, cost: Cost = STANDARD) -> TenantLock:
        """The same lock key under another passphrase; the recovery key stays. PassphraseFormatError."""
        salt, wrapped = _under(tenant, lock_key, passphrase, cost)
        return replace(self, cost=cost, salt=salt, by_passphrase=wrapped)


def make_lock(tenant: bytes, plain: bytes, passphrase: str, cost: Cost = STANDARD) -> tuple[TenantLock, str]:
    """Locks `plain`; the lock, and the recovery key as it is to be shown. PassphraseFormatError."""
    lock_key, recovery = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    salt, wrapped = _under(tenant, lock_key, passphrase, cost)
    lock = TenantLock(
        cost,
        salt,
        wrapped,
        _seal(recovery, lock_key, _bound(tenant, _BY_RECOVERY)),
        _seal(lock_key, plain, _bound(tenant, _KEYS)),
    )
    return lock, write_recovery_key(recovery)


def _under(tenant: bytes, lock_key: bytes, passphrase: str, cost: Cost) -> tuple[bytes, bytes]:
    """A salt, and the lock key under the passphrase with it."""
    salt = secrets.token_bytes(SALT_BYTES)
    key = _derive(check_passphrase(passphrase), salt, cost)
    return salt, _seal(key, lock_key, _bound(tenant, _BY_PASSPHRASE, cost, salt))


def _derive(passphrase: bytes, salt: bytes, cost: Cost) -> bytes:
    return Argon2id(
        salt=salt, length=KEY_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    ).derive(passphrase)


def _bound(tenant: bytes, what: bytes, cost: Cost | None = None, salt: bytes = b"") -> bytes:
    head = struct.pack("<III", cost.memory_kib, cost.passes, cost.lanes) if cost is not None else b""
    return _CONTEXT + tenant + what + head + salt


def _seal(key: bytes, plain: bytes, aad: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, aad)


def _open(key: bytes, raw: bytes, aad: bytes) -> bytes:
    return AESGCM(key).decrypt(raw[:_NONCE], raw[_NONCE:], aad)
