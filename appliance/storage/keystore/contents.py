"""What the keystore holds, in memory: fixed-width arrays for the millions, small tables for the rest.

`Contents` is the base of an epoch and what its journal added since. Readers may use it from any thread while one writer
adds; a new epoch makes a new one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from appliance.storage.keystore import hpke
from appliance.storage.keystore.buckets import BUCKET, BucketKey
from appliance.storage.keystore.copies import COPY, CopyRecord
from appliance.storage.keystore.deposit import IntermediateRecord, KeyRecord
from appliance.storage.keystore.epochfile import VERSION
from appliance.storage.keystore.errors import KeystoreCorruptError
from appliance.storage.keystore.granted import GRANTED, GrantedKey
from appliance.storage.keystore.keyjournal import End
from appliance.storage.keystore.tenantkeys import TENANT, TenantKey, unpack_tenants
from appliance.storage.keystore.wrap import ID_BYTES, SEALED_INTERMEDIATE_BYTES, WRAPPED_BYTES

# Ids compare as bytes: numpy's S type pads with zeros, and every id is of one length.
RECORD = np.dtype(
    [
        ("recording", f"S{ID_BYTES}"),
        ("intermediate", "<u4"),  # its place in the table of intermediate keys
        ("counter", "<u4"),
        ("wrapped", f"V{WRAPPED_BYTES}"),
        ("deposited", "<u4"),  # seconds since the Unix epoch
        ("flags", "<u4"),
    ]
)
INTERMEDIATE = np.dtype(
    [("id", f"S{ID_BYTES}"), ("tenant", f"S{ID_BYTES}"), ("sealed", f"V{SEALED_INTERMEDIATE_BYTES}")]
)
DEPOSIT_KEY = struct.Struct(f"<q{hpke.PRIVATE_KEY_BYTES}s")
_RECORD = struct.Struct(f"<{ID_BYTES}sII{WRAPPED_BYTES}sII")  # RECORD, for one
_INTERMEDIATE = struct.Struct(f"<{ID_BYTES}s{ID_BYTES}s{SEALED_INTERMEDIATE_BYTES}s")
DEVICE_KEY_BYTES = 32
# Device key; how many tenants, deposit keys, intermediates, records.
_HEAD_1 = struct.Struct(f"<{DEVICE_KEY_BYTES}sQQQQ")
# Device key; epoch of the last erasure; how many tenants, deposit keys, bucket keys, copies, intermediates, records.
_HEAD_2 = struct.Struct(f"<{DEVICE_KEY_BYTES}sQQQQQQQ")
# Device key; epoch of the last erasure; bytes of the tenants; how many of the rest, with keys under grants after copies.
_HEAD = struct.Struct(f"<{DEVICE_KEY_BYTES}sQQQQQQQQ")

MAX_DEPOSIT_KEYS = 256
"""Beyond it the oldest one goes. Each erasure that fails leaves one, and each has taken in what waited before."""

PINNED = 1
"""Flag of a data key that a legal hold forbids to destroy."""


@dataclass(frozen=True, slots=True)
class DepositKey:
    """A deposit key pair of the vault. `id`: of its public half."""

    created_ns: int
    private: bytes = field(repr=False)
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hpke.key_id(hpke.public_key(self.private)))

    def pack(self) -> bytes:
        return DEPOSIT_KEY.pack(self.created_ns, self.private)

    @classmethod
    def unpack(cls, raw: bytes | memoryview, offset: int = 0) -> DepositKey:
        return cls(*DEPOSIT_KEY.unpack_from(raw, offset))


def _padded(raw: bytes) -> bytes:
    return raw.ljust(ID_BYTES, b"\0")


def _ids_array(raw: Iterable[bytes]) -> NDArray[np.bytes_]:
    """Raw ids as an array."""
    return np.frombuffer(b"".join(raw), f"S{ID_BYTES}")


def _places(sorted_ids: NDArray[np.bytes_], wanted: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """Places of those ids of `wanted` that are there, in its order."""
    if not len(sorted_ids):
        return np.empty(0, np.intp)
    at = np.searchsorted(sorted_ids, wanted)
    np.minimum(at, len(sorted_ids) - 1, out=at)
    return at[sorted_ids[at] == wanted]


def _find(sorted_ids: NDArray[np.bytes_], wanted: bytes) -> int:
    """Place of an id in a sorted array; -1: not there."""
    if not len(sorted_ids):
        return -1
    at = int(np.searchsorted(sorted_ids, np.array([wanted], dtype=f"S{ID_BYTES}"))[0])
    return at if at < len(sorted_ids) and _padded(bytes(sorted_ids[at])) == wanted else -1


class Contents:
    """See the module. `records` and `intermediates` are sorted by id, and are the base; `new_*` came since."""

    def __init__(
        self,
        device_key: bytes,
        tenants: Iterable[TenantKey] = (),
        deposit_keys: Iterable[DepositKey] = (),
        intermediates: NDArray[np.void] | None = None,
        records: NDArray[np.void] | None = None,
        buckets: Iterable[BucketKey] = (),
        copies: Iterable[CopyRecord] = (),
        erased_in: int = 0,
        grants: Iterable[GrantedKey] = (),
    ) -> None:
        self.device_key = device_key
        self.erased_in = erased_in
        """The first epoch without what was erased last; 0: nothing was, as far as is known."""
        self.before: End | None = None
        """Where the journal of the epoch before ended; None: there was none, or it was of a format that does not say."""
        self.copies = {item.id: item for item in copies}
        self.grants = {item.place: item for item in grants}
        """Data keys sealed to holders of grants, by raw ids of grant and recording."""
        self.buckets = {item.name: item for item in buckets}
        self.tenants = {item.tenant: item for item in tenants}
        self.deposit_keys = list(deposit_keys)
        self.intermediates = np.empty(0, INTERMEDIATE) if intermediates is None else intermediates
        self.records = np.empty(0, RECORD) if records is None else records
        self.pinned = {
            _padded(raw) for raw in self.records["recording"][self.records["flags"] & PINNED != 0].tolist()
        }
        """Raw ids of the recordings whose key a legal hold forbids to destroy."""
        self._ids = np.ascontiguousarray(self.records["recording"])
        self._intermediate_ids = np.ascontiguousarray(self.intermediates["id"])
        self.new_intermediates: dict[bytes, IntermediateRecord] = {}
        self.new_records: dict[bytes, tuple[KeyRecord, int]] = {}

    def __len__(self) -> int:
        """Data keys held."""
        return len(self.records) + len(self.new_records)

    def __contains__(self, recording: bytes) -> bool:
        return recording in self.new_records or _find(self._ids, recording) >= 0

    def which(self, recordings: Sequence[bytes]) -> list[bytes]:
        """Those of these raw ids whose key is held, in that order. For many at once."""
        in_base = set(self._ids[_places(self._ids, _ids_array(recordings))].tolist())
        return [name for name in recordings if name.rstrip(b"\0") in in_base or name in self.new_records]

    def find(self, recording: bytes) -> KeyRecord | None:
        """The record of a recording, by raw id."""
        found = self.new_records.get(recording)
        if found is not None:
            return found[0]
        at = _find(self._ids, recording)
        if at < 0:
            return None
        row = self.records[at]
        above = _padded(bytes(self._intermediate_ids[int(row["intermediate"])]))
        return KeyRecord(recording, above, int(row["counter"]), row["wrapped"].tobytes())

    def intermediate(self, name: bytes) -> IntermediateRecord | None:
        """An intermediate key's record, by raw id."""
        found = self.new_intermediates.get(name)
        if found is not None:
            return found
        at = _find(self._intermediate_ids, name)
        if at < 0:
            return None
        row = self.intermediates[at]
        return IntermediateRecord(name, _padded(bytes(row["tenant"])), row["sealed"].tobytes())

    def recordings(self) -> Iterator[bytes]:
        """Raw ids of every recording whose key is held."""
        yield from list(self.new_records)
        for raw in self._ids:
            yield _padded(bytes(raw))

    def add(
        self, intermediates: Iterable[IntermediateRecord], records: Iterable[KeyRecord], deposited_s: int
    ) -> None:
        """Takes in what a deposit held; the caller has left out what is known already."""
        for item in intermediates:
            self.new_intermediates[item.id] = item
        for record in records:
            self.new_records[record.recording] = (record, deposited_s)

    def add_deposit_key(self, key: DepositKey) -> None:
        """From now on it is the present one."""
        self.deposit_keys = [*self.deposit_keys, key][-MAX_DEPOSIT_KEYS:]

    def pin(self, recordings: Iterable[bytes], pinned: bool) -> None:
        """Forbids to destroy these keys, or allows it again; what is not held is left out."""
        if pinned:
            self.pinned.update(self.which(list(recordings)))
        else:
            self.pinned.difference_update(recordings)

    def merged(
        self,
        without: Iterable[bytes],
        deposit_keys: Iterable[DepositKey],
        without_buckets: Iterable[bytes] = (),
    ) -> Contents:
        """The base of the next epoch: everything but the data keys and bucket keys named, by raw id and packed name.

        An intermediate key that wraps nothing any more goes too, and what grants have of the data keys.
        """
        gone = set(without)
        keep = np.ones(len(self.records), bool)
        keep[_places(self._ids, _ids_array(gone))] = False
        above, place_old, place_new = self._merged_intermediates()
        base = self.records[keep]
        base["intermediate"] = place_old[base["intermediate"]]
        fresh = sorted(name for name in self.new_records if name not in gone)
        if fresh:
            packed = bytearray()
            for name in fresh:
                record, deposited_s = self.new_records[name]
                place = place_new[record.intermediate]
                packed += _RECORD.pack(name, place, record.counter, record.wrapped, deposited_s, 0)
            base = np.insert(
                base, np.searchsorted(self._ids[keep], _ids_array(fresh)), np.frombuffer(packed, RECORD)
            )
        base["flags"] &= np.uint32(~PINNED & 0xFFFFFFFF)
        base["flags"][_places(base["recording"], _ids_array(self.pinned))] |= PINNED
        used = np.zeros(len(above), bool)
        used[base["intermediate"]] = True
        base["intermediate"] = (np.cumsum(used) - 1).astype("<u4")[base["intermediate"]]
        closed = set(without_buckets)
        buckets = [item for name, item in self.buckets.items() if name not in closed]
        return Contents(
            self.device_key,
            self.tenants.values(),
            deposit_keys,
            above[used],
            base,
            buckets,
            self.copies.values(),
            self.erased_in,
            [item for item in self.grants.values() if item.recording not in gone],
        )

    def _merged_intermediates(self) -> tuple[NDArray[np.void], NDArray[np.uint32], dict[bytes, int]]:
        """All intermediate keys sorted; where those of the base now are; where those of `new_records` are."""
        fresh = sorted(
            (item for item in self.new_intermediates.values() if _find(self._intermediate_ids, item.id) < 0),
            key=lambda item: item.id,
        )
        above = self.intermediates
        if fresh:
            rows = np.frombuffer(
                bytearray().join(_INTERMEDIATE.pack(item.id, item.tenant, item.sealed) for item in fresh),
                INTERMEDIATE,
            )
            above = np.insert(above, np.searchsorted(self._intermediate_ids, rows["id"]), rows)
        ids = np.ascontiguousarray(above["id"])
        place_old = np.searchsorted(ids, self._intermediate_ids).astype("<u4")
        names = {record.intermediate for record, _ in self.new_records.values()}
        return above, place_old, {name: _find(ids, name) for name in names}

    def encode(self) -> list[memoryview]:
        """The plain bytes of an epoch, as buffers to be joined."""
        if self.new_records or self.new_intermediates:
            raise AssertionError("merge before writing an epoch")
        tenants = b"".join(self.tenants[name].pack() for name in sorted(self.tenants))
        small_tables = (tenants, self.deposit_keys, self.buckets, self.copies, self.grants)
        counts = [len(table) for table in (*small_tables, self.intermediates, self.records)]
        small = [_HEAD.pack(self.device_key, self.erased_in, *counts), tenants]
        small += [item.pack() for item in self.deposit_keys]
        small += [self.buckets[name].pack() for name in sorted(self.buckets)]
        small += [self.copies[name].pack() for name in sorted(self.copies)]
        small += [self.grants[place].pack() for place in sorted(self.grants)]
        parts = [memoryview(b"".join(small))]
        for array in (self.intermediates, self.records):
            if len(array):
                parts.append(memoryview(np.ascontiguousarray(array).view("u1").reshape(-1).data).cast("B"))
        return parts

    @classmethod
    def decode(cls, plain: bytearray, version: int = VERSION) -> Contents:
        """Reads what `encode` gave. It came out of an AEAD, so a wrong length is a fault of ours: said all the same."""
        view = memoryview(plain)
        head = {1: _HEAD_1, 2: _HEAD_2}.get(version, _HEAD)
        if len(plain) < head.size:
            raise KeystoreCorruptError("an epoch's content is cut short", what="epoch", offset=len(plain))
        device, *counts = head.unpack_from(view)
        erased_in = 0 if version == 1 else counts.pop(0)
        if version == 1:
            counts[2:2] = [0, 0]
        if version < 3:
            counts[4:4] = [0]
        sizes = (
            TENANT.size if version < 3 else 1,
            DEPOSIT_KEY.size,
            BUCKET.size,
            COPY.size,
            GRANTED.size,
            INTERMEDIATE.itemsize,
            RECORD.itemsize,
        )
        starts = [head.size]
        for size, count in zip(sizes, counts, strict=True):
            starts.append(starts[-1] + size * count)
        if starts.pop() != len(plain):
            raise KeystoreCorruptError("an epoch's content has a wrong length", what="epoch", offset=0)
        places = [
            range(start, start + size * count, size)
            for start, size, count in zip(starts, sizes, counts, strict=True)
        ]
        table = np.frombuffer(plain, INTERMEDIATE, counts[5], starts[5])
        rows = np.frombuffer(plain, RECORD, counts[6], starts[6])
        if len(rows) and int(rows["intermediate"].max()) >= len(table):
            raise KeystoreCorruptError(
                "a key record names no intermediate key", what="epoch", offset=starts[6]
            )
        if version < 3:
            tenants = [TenantKey.unpack_first(view, at) for at in places[0]]
        else:
            tenants = unpack_tenants(view[starts[0] : starts[1]])
        return cls(
            device,
            tenants,
            [DepositKey.unpack(view, at) for at in places[1]],
            table,
            rows,
            [BucketKey.unpack(view, at) for at in places[2]],
            [CopyRecord.unpack(view, at) for at in places[3]],
            erased_in,
            [GrantedKey.unpack(view, at) for at in places[4]],
        )
