"""The footer: what the vault states and signs about a finished file."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.storage.sealed.layout import (
    FOOTER_BODY,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    FOOTER_TAIL,
    SIGNATURE_CONTEXT,
    VERSION,
    FooterFlag,
)


def device_id(public_key: bytes) -> bytes:
    """16 bytes that name a device: the head of SHA-256 of its raw Ed25519 public key."""
    return hashlib.sha256(public_key).digest()[:16]


@dataclass(frozen=True, slots=True)
class Footer:
    """200 bytes at the end of a filed recording."""

    flags: FooterFlag
    frames: int
    content_bytes: int  # header and frames: where the footer begins
    dropped_bytes: int  # cut off when the file was recovered
    sealed_ns: int
    root: bytes  # RFC 6962 tree over header and frames
    device_key: bytes  # raw Ed25519 public key; whether to trust it is the reader's business
    signature: bytes = b""

    @property
    def whole(self) -> bool:
        """True: the writer ended the file."""
        return bool(self.flags & FooterFlag.WHOLE)

    def body(self) -> bytes:
        """The 128 bytes that are signed (after SIGNATURE_CONTEXT)."""
        return FOOTER_BODY.pack(
            FOOTER_MAGIC,
            VERSION,
            FOOTER_BYTES,
            self.flags,
            self.frames,
            self.content_bytes,
            self.dropped_bytes,
            self.sealed_ns,
            self.root,
            device_id(self.device_key),
            self.device_key,
        )

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The 200 bytes, signed."""
        raw = self.body()
        raw += FOOTER_TAIL.pack(key.sign(SIGNATURE_CONTEXT + raw), FOOTER_BYTES, 0)[:-4]
        return raw + zlib.crc32(raw).to_bytes(4, "little")

    @classmethod
    def parse(cls, raw: bytes) -> Footer | None:
        """Reads 200 bytes; None where they are not what a vault writes. The signature is not checked here."""
        if len(raw) != FOOTER_BYTES or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            return None
        magic, version, length, flags, frames, content, dropped, sealed, root, device, key = (
            FOOTER_BODY.unpack_from(raw)
        )
        signature, length_again, _ = FOOTER_TAIL.unpack_from(raw, FOOTER_BODY.size)
        footer = cls(FooterFlag(flags & 3), frames, content, dropped, sealed, root, key, signature)
        stated = (magic, version, length, device, length_again)
        if stated != (FOOTER_MAGIC, VERSION, FOOTER_BYTES, device_id(key), FOOTER_BYTES):
            return None
        return footer if footer.body() == raw[: FOOTER_BODY.size] else None

    def signature_holds(self) -> bool:
        """Whether the key in the footer made the signature over the footer."""
        try:
            Ed25519PublicKey.from_public_bytes(self.device_key).verify(
                self.signature, SIGNATURE_CONTEXT + self.body()
            )
        except (InvalidSignature, ValueError):
            return False
        return True
