"""What box and replica sign for each other. docs/replica.md has the bytes.

A **receipt** says how far a replica has followed the deletion log. A **notice** says which snapshots the box has of a
bucket: without one a replica takes nothing in and lets nothing go.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter

from appliance.storage.names import GUARD, BucketId
from appliance.storage.replica.errors import ReplicaNameError
from appliance.storage.vault.stored import Snapshot

RECEIPT_CONTEXT: Final = b"earwitness replica receipt v1\0"
NOTICE_CONTEXT: Final = b"earwitness replica notice v1\0"
_FIELDS: Final = struct.Struct(">32sQ32sqH")  # device key, number, digest, when, length of the name
_NAME: Final = re.compile(r"[a-z0-9]{1,32}")


def check_name(name: str) -> None:
    """ReplicaNameError where no replica can have this name: it is part of names of snapshots and tags."""
    if not _NAME.fullmatch(name):
        raise ReplicaNameError("a replica's name has 1 to 32 lower-case letters and digits", field="name")


def tag_of(replica: str) -> str:
    """The tag with which snapshots are held for a replica."""
    return f"ew.replica.{replica}"


def number_in(replica: str, snapshot: str) -> int:
    """Of a snapshot that was taken for this replica its number; 0: it is another's, or of another kind."""
    head = f"r-{replica}-"
    return int(snapshot[len(head) :]) if snapshot.startswith(head) else 0


def signed_by(public_key: str, signature: str, raw: bytes) -> bool:
    """Whether a key signed these bytes. Both are hexadecimal."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), raw)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Receipt:
    """`number`: the last entry that is followed, its effects durable; `digest`: of that entry, empty where it is 0.

    Keys, digest and signature are hexadecimal; `at_ns` is by the replica's clock, nanoseconds since the Unix epoch.
    """

    replica: str
    device_public_key: str
    number: int
    digest: str
    at_ns: int
    replica_public_key: str = ""
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over. ValueError where a key or digest is none."""
        name = self.replica.encode()
        key, digest = bytes.fromhex(self.device_public_key), bytes.fromhex(self.digest or "00" * 32)
        if (len(key), len(digest)) != (32, 32):
            raise ValueError("a key and a digest have 32 bytes")
        return RECEIPT_CONTEXT + _FIELDS.pack(key, self.number, digest, self.at_ns, len(name)) + name

    def sign(self, key: Ed25519PrivateKey) -> Receipt:
        """The same, signed."""
        return replace(
            self,
            replica_public_key=key.public_key().public_bytes_raw().hex(),
            signature=key.sign(self.signed_bytes()).hex(),
        )

    def holds(self) -> bool:
        """Whether the replica that it names as its key's owner signed it."""
        try:
            raw = self.signed_bytes()
        except (ValueError, struct.error):
            return False
        return signed_by(self.replica_public_key, self.signature, raw)


@dataclass(frozen=True, slots=True)
class Mark:
    """A snapshot, told from a later one of the same name by when it was taken (seconds since the Unix epoch)."""

    name: str
    created_s: int


def mark_of(snapshot: Snapshot) -> Mark:
    """A snapshot's mark: the same at the box and at a replica."""
    return Mark(snapshot.id.name, snapshot.created_ns // 1_000_000_000)


def travels(name: str, replica: str) -> bool:
    """Whether snapshots of this name go to the replica: the guard, those of the grace, its own."""
    return name == GUARD or name.startswith("g-") or number_in(replica, name) > 0


@dataclass(frozen=True, slots=True)
class Notice:
    """`snapshots` are those at the box, oldest first; the last of the replica's own is the newest that it shall have.

    `number`: how far the box knew its deletion log to be followed when it said this. `anew`: the copy is of no use any
    more, and comes again.
    """

    replica: str
    bucket: str
    number: int
    snapshots: tuple[Mark, ...]
    anew: bool = False
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        fields = asdict(self)
        del fields["signature"]
        return NOTICE_CONTEXT + json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def sign(self, key: Ed25519PrivateKey) -> Notice:
        """The same, signed."""
        return replace(self, signature=key.sign(self.signed_bytes()).hex())

    def holds(self, device_public_key: str) -> bool:
        """Whether that box signed it."""
        return signed_by(device_public_key, self.signature, self.signed_bytes())


def notice_of(
    replica: str, bucket: BucketId, number: int, here: Sequence[Snapshot], key: Ed25519PrivateKey
) -> Notice:
    """What a box has of a bucket, signed."""
    marks = tuple(mark_of(one) for one in here if travels(one.id.name, replica))
    return Notice(replica, bucket.path, number, marks).sign(key)


RECEIPT = TypeAdapter(Receipt)
