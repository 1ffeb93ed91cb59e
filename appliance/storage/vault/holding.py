"""A holding: what the vault has of one recording, and the certificate of its erasure. docs/erasure.md has the bytes."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter

from appliance.model import id_bytes
from appliance.storage.keystore.reach import UNKNOWN, Reach
from appliance.storage.names import HOLD_LINE, BucketId
from appliance.storage.sealed.sidecar import Head

_CONTEXTS = {1: b"earwitness erasure certificate v1\x00", 2: b"earwitness erasure certificate v2\x00"}
_FIELDS = struct.Struct(">16s16sQqI")  # recording, tenant, epoch, erased at, length of the reason
_COPIES = struct.Struct(">QH")  # number in the deletion log, how many replicas


class HoldingState(enum.StrEnum):
    """Where a recording is in its life."""

    FILED = "filed"
    DELETED = "deleted"
    ERASED = "erased"
    QUARANTINED = "quarantined"


KEPT: Final = (HoldingState.FILED, HoldingState.DELETED)
"""In these a recording has its key, and its file in a bucket."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Says that a recording's key is destroyed: `epoch` is the keystore's from which on it is absent.

    `replicas` are the copies elsewhere that must follow, and `log_number` is the entry of the deletion log that tells them:
    a replica that has confirmed this number has forgotten the recording too.
    """

    recording_id: str
    tenant_id: str
    epoch: int
    erased_ns: int
    reason: str
    signature: str = ""  # hexadecimal, as is the key
    device_public_key: str = ""
    version: int = 1
    log_number: int = 0
    replicas: tuple[str, ...] = ()

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        reason = self.reason.encode()
        # Of a recording in quarantine it may not be known whose it was: zeros then.
        tenant = id_bytes(self.tenant_id) if self.tenant_id else bytes(16)
        head = _FIELDS.pack(id_bytes(self.recording_id), tenant, self.epoch, self.erased_ns, len(reason))
        signed = _CONTEXTS[self.version] + head + reason
        if self.version == 1:
            return signed
        names = [name.encode() for name in self.replicas]
        signed += _COPIES.pack(self.log_number, len(names))
        return signed + b"".join(len(name).to_bytes(2, "big") + name for name in names)

    def sign(self, key: Ed25519PrivateKey) -> Certificate:
        """The same, signed."""
        return replace(
            self,
            signature=key.sign(self.signed_bytes()).hex(),
            device_public_key=key.public_key().public_bytes_raw().hex(),
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
    """What the vault has of one recording. Times in nanoseconds since the Unix epoch; `size` in bytes.

    `kept_from_ns` is what its retention counts from: its creation, unless the clock was wrong then. `parked` names the
    snapshot that has the file of a deleted one; empty: the file still lies in the bucket. `grace_from_ns` is when it was
    deleted by the retention clock. `case` names the legal hold into whose bucket it went when its own expired. `sidecar`:
    how far what was added to it later goes; None: nothing was.
    """

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
    kept_from_ns: int = 0
    parked: str = ""
    case: str = ""
    grace_from_ns: int = 0
    sidecar: Head | None = None

    @property
    def bucket(self) -> BucketId:
        """Where its file is; BucketNameError for one in quarantine whose header could not be read."""
        return BucketId(self.tenant_id, HOLD_LINE, self.case) if self.case else self.home

    @property
    def home(self) -> BucketId:
        """The bucket of its line and time, which says how long it is kept."""
        return BucketId(self.tenant_id, self.line_id, self.slice)


@dataclass(frozen=True, slots=True)
class Entry:
    """A holding as it became, at its place in the journal (from 1). `keystore`: how far that was known to go then."""

    position: int
    holding: Holding
    keystore: Reach = UNKNOWN


ENTRY = TypeAdapter(Entry)
HOLDING = TypeAdapter(Holding)
