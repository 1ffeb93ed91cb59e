"""The bytes of the sealed file that are in clear: header, frame prefix, footer. docs/sealed-format.md is the reference.

Everything is little-endian, except the STREAM nonce's counter, which is big-endian as its authors wrote it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from appliance.model import id_bytes, id_text
from appliance.storage.sealed.errors import HeaderError, Problem, SealedCorruptError

VERSION = 1
HEADER_MAGIC = b"\x89EWS\r\n\x1a\n"  # PNG's trick: shows what text-mode transfers and cuts do to a file
FOOTER_MAGIC = b"\x89EWF\r\n\x1a\n"
FRAME_SYNC = b"\xe7EWR"

AEAD_AES_256_GCM_STREAM = 1
COMPRESSION_ZSTD = 1
HASH_SHA_256 = 1
SIGNATURE_ED25519 = 1

KEY_BYTES = 32
TAG_BYTES = 16
NONCE_PREFIX_BYTES = 7

# Hostile input is measured against these before anything is allocated.
MAX_PLAIN = 32 << 20  # bytes of blocks in one frame
MAX_CIPHER = MAX_PLAIN + (1 << 20)  # bytes of ciphertext, tag included, in one frame
MAX_FRAMES = (1 << 32) - 1  # the STREAM counter must not wrap

HEADER = struct.Struct("<8sHHBBBB16s16s16sq7sx44xI")
HEADER_BYTES = HEADER.size
assert HEADER_BYTES == 128

# sync, ciphertext length, counter, kind, 3 zero bytes, chain
PREFIX = struct.Struct("<4sIIB3x16s")
PREFIX_BYTES = PREFIX.size
CHAIN_BYTES = 16
CHECK_BYTES = 8  # the frame's trailer: the first bytes of its leaf hash
FRAME_OVERHEAD = PREFIX_BYTES + CHECK_BYTES
MIN_FRAME = FRAME_OVERHEAD + TAG_BYTES

# magic, version, length, flags, 3 zero, frames, content bytes, dropped bytes, sealed ns, root, device id, device key
FOOTER_BODY = struct.Struct("<8sHHB3xQQQq32s16s32s")
FOOTER_TAIL = struct.Struct("<64sII")  # signature, footer length again, CRC-32
FOOTER_BYTES = FOOTER_BODY.size + FOOTER_TAIL.size
assert FOOTER_BYTES == 200
SIGNATURE_CONTEXT = b"earwitness sealed footer v1\x00"

AAD_CONTEXT = b"earwitness sealed frame v1\x00"
_AAD = struct.Struct("<27s32sQ")
_NONCE = struct.Struct(">7sIB")


class FrameKind(IntEnum):
    """What a frame is. The last one of a whole file is sealed with the STREAM last flag."""

    DATA = 1
    LAST = 2


class FooterFlag(IntFlag):
    """What the vault found when it signed."""

    WHOLE = 1  # the writer ended the file
    RECOVERED = 2  # bytes after the last whole frame were cut off


@dataclass(frozen=True, slots=True)
class Header:
    """The 128 bytes in clear at the head of the file. No personal data: ids are opaque."""

    recording_id: str
    tenant_id: str
    line_id: str
    created_ns: int
    nonce_prefix: bytes

    def pack(self) -> bytes:
        """128 bytes."""
        if len(self.nonce_prefix) != NONCE_PREFIX_BYTES:
            raise HeaderError(f"the nonce prefix has {NONCE_PREFIX_BYTES} bytes")
        body = HEADER.pack(
            HEADER_MAGIC,
            VERSION,
            HEADER_BYTES,
            AEAD_AES_256_GCM_STREAM,
            COMPRESSION_ZSTD,
            HASH_SHA_256,
            SIGNATURE_ED25519,
            id_bytes(self.recording_id),
            id_bytes(self.tenant_id),
            id_bytes(self.line_id),
            self.created_ns,
            self.nonce_prefix,
            0,
        )[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        """Reads 128 bytes; SealedCorruptError or HeaderError says what is wrong with them."""
        if len(raw) < HEADER_BYTES:
            raise SealedCorruptError(Problem.HEADER_CUT, len(raw), -1)
        raw = raw[:HEADER_BYTES]
        if raw[:8] != HEADER_MAGIC:
            raise SealedCorruptError(Problem.NOT_SEALED, 0, -1)
        if zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise SealedCorruptError(Problem.HEADER_CORRUPT, 0, -1)
        _, version, length, aead, compression, digest, signature, rec, tenant, line, created, prefix, _ = (
            HEADER.unpack(raw)
        )
        if version != VERSION or length != HEADER_BYTES:
            raise HeaderError("this sealed file is of a version not known here", version=version)
        if (aead, compression, digest, signature) != (1, 1, 1, 1):
            raise HeaderError("this sealed file names algorithms not known here")
        header = cls(id_text(rec), id_text(tenant), id_text(line), created, prefix)
        if header.pack() != raw:  # reserved bytes are zero in this version
            raise SealedCorruptError(Problem.HEADER_CORRUPT, 0, -1)
        return header


@dataclass(frozen=True, slots=True)
class Prefix:
    """The 32 bytes in clear before each frame's ciphertext."""

    length: int
    counter: int
    kind: int
    chain: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Prefix | None:
        """None where this is no frame's beginning."""
        if len(raw) < PREFIX_BYTES or raw[:4] != FRAME_SYNC or raw[13:16] != b"\0\0\0":
            return None
        _, length, counter, kind, chain = PREFIX.unpack(raw[:PREFIX_BYTES])
        if not TAG_BYTES <= length <= MAX_CIPHER or kind not in (FrameKind.DATA, FrameKind.LAST):
            return None
        return cls(length, counter, kind, chain)


def leaf_hash(*parts: bytes | memoryview) -> bytes:
    """RFC 6962 section 2.1: SHA-256 of 0x00 and the leaf."""
    digest = hashlib.sha256(b"\0")
    for part in parts:
        digest.update(part)
    return digest.digest()


def frame_nonce(prefix: bytes, counter: int, kind: int) -> bytes:
    """STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015): prefix, counter, last flag."""
    return _NONCE.pack(prefix, counter, 1 if kind == FrameKind.LAST else 0)


def frame_aad(header_hash: bytes, offset: int, prefix: bytes) -> bytes:
    """What the AEAD binds besides the plaintext: this file, this place, this prefix (and with it the chain)."""
    return _AAD.pack(AAD_CONTEXT, header_hash, offset) + prefix
