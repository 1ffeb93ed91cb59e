"""Bucket keys: 32 raw bytes for each bucket, which open nothing by themselves (recordings are sealed beneath)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from appliance.model import id_bytes, id_text
from appliance.storage.keystore.errors import KeyFormatError
from appliance.storage.keystore.wrap import KEY_BYTES

BucketName = tuple[str, str, str]
"""Tenant id, line id or `hold`, slice or case id; as written."""

_PART = re.compile(r"[A-Za-z0-9-]{1,26}")
BUCKET_NAME = struct.Struct("<16s26s26s")
BUCKET = struct.Struct(f"<{BUCKET_NAME.size}sIq{KEY_BYTES}s")


def pack_bucket_name(name: BucketName) -> bytes:
    """68 bytes: raw tenant id, line, slice. InvalidError where a part cannot be of a bucket's name."""
    tenant, line, part = name
    for text, field_name in ((line, "line"), (part, "slice")):
        if not _PART.fullmatch(text):
            raise KeyFormatError(
                "a bucket's line and slice have 1 to 26 letters, digits, -", field=field_name
            )
    return BUCKET_NAME.pack(id_bytes(tenant), line.encode("ascii"), part.encode("ascii"))


def unpack_bucket_name(raw: bytes) -> BucketName:
    """What `pack_bucket_name` took."""
    tenant, line, part = BUCKET_NAME.unpack(raw)
    return id_text(tenant), line.rstrip(b"\0").decode("ascii"), part.rstrip(b"\0").decode("ascii")


@dataclass(frozen=True, slots=True)
class BucketKey:
    """The key of a bucket. `name` is packed."""

    name: bytes
    created_ns: int
    key: bytes = field(repr=False)

    def pack(self) -> bytes:
        return BUCKET.pack(self.name, 0, self.created_ns, self.key)

    @classmethod
    def unpack(cls, raw: bytes | memoryview, offset: int = 0) -> BucketKey:
        name, _, created, key = BUCKET.unpack_from(raw, offset)
        return cls(name, created, key)
