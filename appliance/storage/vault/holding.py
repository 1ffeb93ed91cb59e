"""A holding: what the vault has of one recording, and the certificate of its erasure. docs/erasure.md has the bytes."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter

from appliance.model import id_bytes
from appliance.storage.vault.contract import BucketId

_CONTEXT = b"earwitness erasure certificate v1\x00"
_FIELDS = struct.Struct(">16s16sQqI")  # recording, tenant, epoch, erased at, length of the reason


class HoldingState(enum.StrEnum):
    """Where a recording is in its life."""

    FILED = "filed"
    DELETED = "deleted"
    ERASED = "erased"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Says that a recording's key is destroyed: `epoch` is the keystore's from which on it is absent."""

    recording_id: str
    tenant_id: str
    epoch: int
    erased_ns: int
    reason: str
    signature: str = ""  # hexadecimal, as is the key
    device_public_key: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        reason = self.reason.encode()
        # Of a recording in quarantine it may not be known whose it was: zeros then.
        tenant = id_bytes(self.tenant_id) if self.tenant_id else bytes(16)
        head = _FIELDS.pack(id_bytes(self.recording_id), tenant, self.epoch, self.erased_ns, len(reason))
        return _CONTEXT + head + reason

    def sign(self, key: Ed25519PrivateKey) -> Certificate:
        """The same, signed."""
        return Certificate(
            self.recording_id,
            self.tenant_id,
            self.epoch,
            self.erased_ns,
            self.reason,
            key.sign(self.signed_bytes()).hex(),
            key.public_key().public_bytes_raw().hex(),
        )

    def holds(self, device_public_key: bytes) -> bool:
        """Whether that device signed it."""
        try:
            Ed25519PublicKey.from_public_bytes(device_public_key).verify(
                bytes.fromhex(self.signature), self.signed_bytes()
            )
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Holding:
    """What the vault has of one recording. Times in nanoseconds since the Unix epoch; `size` in bytes."""

    recording_id: str
    tenant_id: str
    line_id: str
    slice: str
    state: HoldingState
    size: int
    whole: bool
    reason: str
    since_ns: int
    created_ns: int
    certificate: Certificate | None = None

    @property
    def bucket(self) -> BucketId:
        """Where its file belongs; BucketNameError for one in quarantine whose header could not be read."""
        return BucketId(self.tenant_id, self.line_id, self.slice)


@dataclass(frozen=True, slots=True)
class Entry:
    """A holding as it became, at its place in the journal (from 1)."""

    position: int
    holding: Holding


ENTRY = TypeAdapter(Entry)
HOLDING = TypeAdapter(Holding)
