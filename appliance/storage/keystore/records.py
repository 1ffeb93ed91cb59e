"""Plain records of the key journal: what came to an epoch since it was written."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from appliance.storage.keystore.buckets import BUCKET, BucketKey
from appliance.storage.keystore.contents import DEPOSIT_KEY, Contents, DepositKey
from appliance.storage.keystore.copies import COPY, CopyRecord
from appliance.storage.keystore.deposit import IntermediateRecord, KeyRecord
from appliance.storage.keystore.errors import KeystoreCorruptError
from appliance.storage.keystore.granted import GRANTED, GrantedKey
from appliance.storage.keystore.keyjournal import TAG, End
from appliance.storage.keystore.tenantkeys import TENANT, TenantKey
from appliance.storage.keystore.wrap import ID_BYTES, SEALED_INTERMEDIATE_BYTES, WRAPPED_BYTES

_KEYS = 1
_TENANT = 2
_DEPOSIT_KEY = 3
_BUCKET_KEY = 4
_PIN = 5
_UNPIN = 6
_COPIES = 7
_FORGET = 8
_GRANTED = 9
_BEFORE = 10

_HEAD = struct.Struct("<BxxxIII")  # kind, seconds, intermediates, records
_INTERMEDIATE = struct.Struct(f"<16s16s{SEALED_INTERMEDIATE_BYTES}s")
_RECORD = struct.Struct(f"<16s16sI{WRAPPED_BYTES}s")
_END = struct.Struct(f"<QQQ{TAG}s")


def pack_keys(
    intermediates: Sequence[IntermediateRecord], records: Sequence[KeyRecord], deposited_s: int
) -> bytes:
    """Data keys, with the intermediate keys that are new with them."""
    return b"".join(
        [
            _HEAD.pack(_KEYS, deposited_s, len(intermediates), len(records)),
            *(_INTERMEDIATE.pack(item.id, item.tenant, item.sealed) for item in intermediates),
            *(
                _RECORD.pack(item.recording, item.intermediate, item.counter, item.wrapped)
                for item in records
            ),
        ]
    )


def pack_tenant(tenant: TenantKey) -> bytes:
    """A new tenant's key pair, open: a journal of any format takes it. Every other change is a turn of its own."""
    return _HEAD.pack(_TENANT, 0, 0, 0) + tenant.pack_first()


def pack_deposit_key(key: DepositKey) -> bytes:
    """A deposit key, from now on the present one."""
    return _HEAD.pack(_DEPOSIT_KEY, 0, 0, 0) + key.pack()


def pack_bucket_key(key: BucketKey) -> bytes:
    """A bucket's key."""
    return _HEAD.pack(_BUCKET_KEY, 0, 0, 0) + key.pack()


def pack_pins(recordings: Sequence[bytes], pinned: bool) -> bytes:
    """Data keys, by raw recording id, that a legal hold forbids to destroy, or that it lets go."""
    return _HEAD.pack(_PIN if pinned else _UNPIN, 0, 0, len(recordings)) + b"".join(recordings)


def pack_copies(copies: Sequence[CopyRecord]) -> bytes:
    """Copies of the keystore that are here, and the last epoch whose turn they have completed."""
    return _HEAD.pack(_COPIES, 0, 0, len(copies)) + b"".join(item.pack() for item in copies)


def pack_forget(copy: bytes) -> bytes:
    """A copy that is declared destroyed."""
    return _HEAD.pack(_FORGET, 0, 0, 1) + copy


def pack_granted(keys: Sequence[GrantedKey]) -> bytes:
    """Data keys sealed to holders of grants."""
    return _HEAD.pack(_GRANTED, 0, 0, len(keys)) + b"".join(item.pack() for item in keys)


def pack_before(end: End) -> bytes:
    """Where the journal of the epoch before ended when this one was made of it."""
    return _HEAD.pack(_BEFORE, 0, 0, 1) + _END.pack(end.epoch, end.size, end.number, end.tag)


def carried(plain: bytes, known: Contents, source: Contents) -> bytes | None:
    """What of a record of `source`'s journal is new to `known`, as a record that stands by itself; None: nothing.

    Keys come with the intermediate keys above them, which `known` may have lost as wrapping nothing.
    """
    kind, deposited_s, above, _ = _HEAD.unpack_from(plain)
    if kind == _BEFORE:
        return None
    if kind == _DEPOSIT_KEY:
        return None if DepositKey.unpack(plain, _HEAD.size) in known.deposit_keys else plain
    if kind == _BUCKET_KEY:
        return None if BucketKey.unpack(plain, _HEAD.size).name in known.buckets else plain
    if kind != _KEYS:
        return plain
    split = _HEAD.size + above * _INTERMEDIATE.size
    rows = [KeyRecord(*row) for row in _RECORD.iter_unpack(plain[split:])]
    fresh = [row for row in rows if row.recording not in known]
    names = dict.fromkeys(row.intermediate for row in fresh if known.intermediate(row.intermediate) is None)
    wanted = [found for name in names if (found := source.intermediate(name)) is not None]
    return pack_keys(wanted, fresh, deposited_s) if fresh else None


def apply_record(plain: bytes, contents: Contents) -> None:
    """Takes a record in. It came out of an AEAD: a malformed one is a fault of ours, and said."""
    if len(plain) < _HEAD.size:
        raise KeystoreCorruptError("a journal record is cut short", what="key journal", offset=len(plain))
    kind, deposited_s, above, count = _HEAD.unpack_from(plain)
    at = _HEAD.size
    sizes = {
        _KEYS: above * _INTERMEDIATE.size + count * _RECORD.size,
        _TENANT: TENANT.size,
        _DEPOSIT_KEY: DEPOSIT_KEY.size,
        _BUCKET_KEY: BUCKET.size,
        _PIN: count * ID_BYTES,
        _UNPIN: count * ID_BYTES,
        _COPIES: count * COPY.size,
        _FORGET: count * ID_BYTES,
        _GRANTED: count * GRANTED.size,
        _BEFORE: count * _END.size,
    }
    if sizes.get(kind) != len(plain) - at:
        raise KeystoreCorruptError(
            "a journal record has a wrong length or kind", what="key journal", kind=kind
        )
    if kind == _TENANT:
        tenant = TenantKey.unpack_first(plain, at)
        contents.tenants.setdefault(tenant.tenant, tenant)
    elif kind == _DEPOSIT_KEY:
        contents.add_deposit_key(DepositKey.unpack(plain, at))
    elif kind == _BUCKET_KEY:
        bucket = BucketKey.unpack(plain, at)
        contents.buckets[bucket.name] = bucket
    elif kind in (_PIN, _UNPIN):
        contents.pin(
            (plain[place : place + ID_BYTES] for place in range(at, len(plain), ID_BYTES)), kind == _PIN
        )
    elif kind == _COPIES:
        for place in range(at, len(plain), COPY.size):
            copy = CopyRecord.unpack(plain, place)
            contents.copies[copy.id] = copy
    elif kind == _FORGET:
        for place in range(at, len(plain), ID_BYTES):
            contents.copies.pop(plain[place : place + ID_BYTES], None)
    elif kind == _BEFORE:
        contents.before = End(*_END.unpack_from(plain, at))
    elif kind == _GRANTED:
        for place in range(at, len(plain), GRANTED.size):
            granted = GrantedKey.unpack(plain, place)
            contents.grants[granted.place] = granted
    else:
        split = at + above * _INTERMEDIATE.size
        contents.add(
            (IntermediateRecord(*row) for row in _INTERMEDIATE.iter_unpack(plain[at:split])),
            (KeyRecord(*row) for row in _RECORD.iter_unpack(plain[split:])),
            deposited_s,
        )
