"""The bytes of a sidecar that are in clear: header, entries' prefixes, seals. docs/sealed-format.md is the reference.

Everything is little-endian. A sidecar is a header and batches; a batch is one entry or more, and the seal over them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.model import id_bytes, id_text
from appliance.storage.sealed.layout import TAG_BYTES, leaf_hash
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError, SidecarProblem

VERSION: Final = 1
MAGIC: Final = b"\x89EWN\r\n\x1a\n"
ENTRY_SYNC: Final = b"\xe7EWN"
SEAL_SYNC: Final = b"\xe7EWH"
_ALGORITHMS: Final = (2, 0, 1, 1)  # AES-256-GCM with random nonces, nothing compressed, SHA-256, Ed25519

# Hostile input is measured against these before anything is done with it.
MAX_CONTENT: Final = 64 << 10  # bytes of one entry's JSON
MAX_ENTRIES: Final = 20_000
MAX_BYTES: Final = 3 << 20  # of a whole sidecar: it goes into one answer of the API

HEADER: Final = struct.Struct("<8sHHBBBB16s16s16s32s16s12xI")
HEADER_BYTES: Final = HEADER.size
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
# sync, ciphertext length, index, 4 zero bytes, chain, nonce, 4 zero bytes
PREFIX: Final = struct.Struct("<4sII4x32s12s4x")
PREFIX_BYTES: Final = PREFIX.size
# sync, length, entries so far, 4 zero bytes, signed at, chain, device public key
SEAL_BODY: Final = struct.Struct("<4sII4xq32s32s")
SEAL_BYTES: Final = SEAL_BODY.size + 64
assert (HEADER_BYTES, PREFIX_BYTES, SEAL_BYTES) == (128, 64, 152)

KEY_CONTEXT: Final = b"earwitness sidecar key v1\x00"
AAD_CONTEXT: Final = b"earwitness sidecar entry v1\x00"
SEAL_CONTEXT: Final = b"earwitness sidecar seal v1\x00"


@dataclass(frozen=True, slots=True)
class SidecarHeader:
    """128 bytes in clear: opaque ids, and the root that the recording's footer states (32 bytes)."""

    recording_id: str
    tenant_id: str
    line_id: str
    root: bytes
    salt: bytes

    def pack(self) -> bytes:
        """128 bytes."""
        body = HEADER.pack(
            MAGIC,
            VERSION,
            HEADER_BYTES,
            *_ALGORITHMS,
            id_bytes(self.recording_id),
            id_bytes(self.tenant_id),
            id_bytes(self.line_id),
            self.root,
            self.salt,
            0,
        )[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def parse(cls, raw: bytes) -> SidecarHeader:
        """SidecarCorruptError where these bytes are none, or of a version or algorithms not known here."""
        raw = raw[:HEADER_BYTES]
        if len(raw) < HEADER_BYTES or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise SidecarCorruptError(SidecarProblem.HEADER, 0, -1)
        magic, version, length, *algorithms, recording, tenant, line, root, salt, _ = HEADER.unpack(raw)
        stated = (magic, version, length, tuple(algorithms))
        header = cls(id_text(recording), id_text(tenant), id_text(line), root, salt)
        if stated != (MAGIC, VERSION, HEADER_BYTES, _ALGORITHMS) or header.pack() != raw:
            raise SidecarCorruptError(SidecarProblem.HEADER, 0, -1)
        return header


@dataclass(frozen=True, slots=True)
class SidecarEntry:
    """One entry as it stands. `prefix`: 64 bytes in clear; `ciphertext` with its tag; `chain`: hash of what is before."""

    index: int
    offset: int
    chain: bytes
    nonce: bytes
    prefix: bytes
    ciphertext: bytes

    def hash(self) -> bytes:
        """What the next one is chained to."""
        return leaf_hash(self.prefix, self.ciphertext)

    @classmethod
    def parse(cls, raw: bytes, offset: int) -> SidecarEntry | None:
        """None where there is no whole entry at this byte."""
        prefix = raw[offset : offset + PREFIX_BYTES]
        if len(prefix) < PREFIX_BYTES:
            return None
        sync, length, index, chain, nonce = PREFIX.unpack(prefix)
        ciphertext = raw[offset + PREFIX_BYTES : offset + PREFIX_BYTES + length]
        if (
            sync != ENTRY_SYNC
            or not TAG_BYTES < length <= MAX_CONTENT + TAG_BYTES
            or len(ciphertext) != length
            or PREFIX.pack(sync, length, index, chain, nonce) != prefix
        ):
            return None
        return cls(index, offset, chain, nonce, prefix, ciphertext)


@dataclass(frozen=True, slots=True)
class SidecarSeal:
    """The device's signature over all that stands before it. `entries`: how many; `device_key`: raw Ed25519, public."""

    offset: int
    entries: int
    signed_ns: int
    chain: bytes
    device_key: bytes
    signature: bytes

    def _body(self) -> bytes:
        return SEAL_BODY.pack(
            SEAL_SYNC, SEAL_BYTES, self.entries, self.signed_ns, self.chain, self.device_key
        )

    def pack(self) -> bytes:
        """152 bytes."""
        return self._body() + self.signature

    def hash(self) -> bytes:
        """The head of the sidecar as of this seal: SHA-256, 32 bytes."""
        return leaf_hash(self.pack())

    def sign(self, key: Ed25519PrivateKey, header_hash: bytes) -> SidecarSeal:
        """The same, signed."""
        return SidecarSeal(
            self.offset,
            self.entries,
            self.signed_ns,
            self.chain,
            self.device_key,
            key.sign(SEAL_CONTEXT + header_hash + self._body()),
        )

    def holds(self, header_hash: bytes) -> bool:
        """Whether the key that it names made the signature."""
        try:
            Ed25519PublicKey.from_public_bytes(self.device_key).verify(
                self.signature, SEAL_CONTEXT + header_hash + self._body()
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    @classmethod
    def parse(cls, raw: bytes, offset: int) -> SidecarSeal | None:
        """None where there is no whole seal at this byte."""
        part = raw[offset : offset + SEAL_BYTES]
        if len(part) < SEAL_BYTES:
            return None
        _, _, entries, signed_ns, chain, key = SEAL_BODY.unpack_from(part)
        found = cls(offset, entries, signed_ns, chain, key, part[SEAL_BODY.size :])
        return found if found.pack() == part else None


def entry_aad(header_hash: bytes, prefix: bytes) -> bytes:
    """What binds an entry to this recording, this place and everything before it."""
    return AAD_CONTEXT + header_hash + prefix
