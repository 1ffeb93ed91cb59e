"""Deposits: how data keys get from capture, which cannot read them back, to the vault. docs/keystore.md has the bytes.

Capture's side is `Depositor`; the vault's is `open_deposit`. Bytes and clock in, bytes out: writing the file into
`spool/keys` (whole, synced, then renamed to `*.deposit`) is the caller's.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.model import id_bytes, id_text
from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import (
    DepositCorruptError,
    DepositKeyUnknownError,
    KeyFormatError,
    KeyRefusedError,
)
from appliance.storage.keystore.wrap import (
    ID_BYTES,
    KEY_BYTES,
    SEALED_INTERMEDIATE_BYTES,
    WRAPPED_BYTES,
    seal_intermediate,
    wrap_data_key,
)

MAGIC = b"\x89EWD\r\n\x1a\n"
VERSION = 1
INTERMEDIATE_LIFETIME_NS = 300 * 1_000_000_000
MAX_USES = 65536  # data keys wrapped by one intermediate key
MAX_RECORDS = 100_000  # in one deposit
MAX_INTERMEDIATES = 10_000
MAX_DEPOSIT_BYTES = 32 << 20

_HEADER = struct.Struct("<8sHHI16s")  # magic, version, header length, zero, deposit key id
HEADER_BYTES = _HEADER.size
_COUNTS = struct.Struct("<II")
_INTERMEDIATE = struct.Struct(f"<16s16s{SEALED_INTERMEDIATE_BYTES}s")
_RECORD = struct.Struct(f"<16sII{WRAPPED_BYTES}s")
_CONTEXT = b"earwitness deposit v1\x00"


@dataclass(frozen=True, slots=True)
class IntermediateRecord:
    """An intermediate key, sealed to its tenant. Ids are raw, 16 bytes."""

    id: bytes
    tenant: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A data key, wrapped by an intermediate key. Ids are raw, 16 bytes."""

    recording: bytes
    intermediate: bytes
    counter: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Deposit:
    """What one deposit file holds."""

    intermediates: tuple[IntermediateRecord, ...]
    records: tuple[KeyRecord, ...]


@dataclass(frozen=True, slots=True)
class DepositRequest:
    """A data key to deposit. Keep it as long as the recording lives: a new deposit key asks for a new deposit."""

    recording_id: str
    tenant_id: str
    tenant_public_key: bytes
    data_key: bytes = field(repr=False)


@dataclass(slots=True)
class _Intermediate:
    record: IntermediateRecord
    key: bytes = field(repr=False)
    made_ns: int
    used: int = 0


class Depositor:
    """Makes deposits. One for each capture worker; not for several threads at once.

    It holds one intermediate key for each tenant, for `lifetime_ns` of the caller's clock, and then forgets it: what it
    gave out before, it cannot open any more.
    """

    def __init__(self, lifetime_ns: int = INTERMEDIATE_LIFETIME_NS) -> None:
        self._lifetime_ns = lifetime_ns
        self._held: dict[tuple[str, bytes], _Intermediate] = {}

    @staticmethod
    def new_data_key() -> bytes:
        """32 random bytes."""
        return secrets.token_bytes(KEY_BYTES)

    def forget(self, now_ns: int) -> None:
        """Drops intermediate keys that are past their time. Call it each tick; `deposit` does it too.

        `now_ns` is of any one clock; where it went backwards every intermediate key is dropped.
        """
        for key, held in list(self._held.items()):
            if not 0 <= now_ns - held.made_ns < self._lifetime_ns:
                del self._held[key]

    def deposit(
        self,
        recording_id: str,
        tenant_id: str,
        tenant_public_key: bytes,
        deposit_public_key: bytes,
        data_key: bytes,
        now_ns: int,
    ) -> bytes:
        """The deposit of one recording's key; as `deposit_many`."""
        request = DepositRequest(recording_id, tenant_id, tenant_public_key, data_key)
        return self.deposit_many([request], deposit_public_key, now_ns)

    def deposit_many(
        self, requests: Sequence[DepositRequest], deposit_public_key: bytes, now_ns: int
    ) -> bytes:
        """A deposit file: 1,176 bytes, 72 for each recording, 1,200 for each tenant among them.

        Raises InvalidError (KeyFormatError) where an id or key is malformed; nothing was deposited then.
        """
        self.forget(now_ns)
        if not 0 < len(requests) <= MAX_RECORDS:
            raise KeyFormatError(f"a deposit holds 1 to {MAX_RECORDS} keys", field="requests")
        places: dict[bytes, int] = {}
        intermediates: list[bytes] = []
        records: list[bytes] = []
        for request in requests:
            recording, tenant = id_bytes(request.recording_id), id_bytes(request.tenant_id)
            if len(request.data_key) != KEY_BYTES:
                raise KeyFormatError(f"a data key has {KEY_BYTES} bytes", field="data_key")
            held = self._intermediate(request, tenant, now_ns)
            name = held.record.id
            counter, held.used = held.used, held.used + 1
            wrapped = wrap_data_key(held.key, counter, tenant, name, recording, request.data_key)
            if name not in places:
                places[name] = len(intermediates)
                intermediates.append(_INTERMEDIATE.pack(name, tenant, held.record.sealed))
            records.append(_RECORD.pack(recording, places[name], counter, wrapped))
        if len(intermediates) > MAX_INTERMEDIATES:
            raise KeyFormatError(f"a deposit holds keys of {MAX_INTERMEDIATES} tenants", field="requests")
        header = _HEADER.pack(MAGIC, VERSION, HEADER_BYTES, 0, hpke.key_id(deposit_public_key))
        body = b"".join([_COUNTS.pack(len(intermediates), len(records)), *intermediates, *records])
        return header + hpke.seal(deposit_public_key, body, _CONTEXT + header)

    def _intermediate(self, request: DepositRequest, tenant: bytes, now_ns: int) -> _Intermediate:
        place = (request.tenant_id, request.tenant_public_key)
        held = self._held.get(place)
        if held is None or held.used >= MAX_USES:
            key, name = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(ID_BYTES)
            sealed = seal_intermediate(request.tenant_public_key, tenant, name, key)
            held = _Intermediate(IntermediateRecord(name, tenant, sealed), key, now_ns)
            self._held[place] = held
        return held


def deposit_key_id(raw: bytes) -> bytes:
    """Which deposit key a deposit file is sealed to, 16 bytes; DepositCorruptError where it is no deposit."""
    if len(raw) < HEADER_BYTES:
        raise DepositCorruptError("a deposit is cut short", offset=len(raw))
    magic, version, length, zero, key_id = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise DepositCorruptError("this is no deposit", offset=0)
    if (version, length, zero) != (VERSION, HEADER_BYTES, 0):
        raise DepositCorruptError("a deposit of a version not known here", offset=8, version=version)
    return bytes(key_id)


def open_deposit(raw: bytes, private_keys: dict[bytes, bytes]) -> Deposit:
    """Opens a deposit file with the deposit keys held (private halves by key id).

    Raises DepositKeyUnknownError where it is sealed to another key, DepositCorruptError where it is not what was written.
    """
    if len(raw) > MAX_DEPOSIT_BYTES:
        raise DepositCorruptError("a deposit is larger than any may be", offset=MAX_DEPOSIT_BYTES)
    key_id = deposit_key_id(raw)
    private = private_keys.get(key_id)
    if private is None:
        raise DepositKeyUnknownError("a deposit is sealed to a deposit key not held", key_id=key_id.hex())
    try:
        body = hpke.unseal(private, raw[HEADER_BYTES:], _CONTEXT + raw[:HEADER_BYTES])
    except KeyRefusedError as error:
        raise DepositCorruptError(
            "a deposit does not open: its bytes changed", offset=HEADER_BYTES
        ) from error
    return _parse(body)


def _parse(body: bytes) -> Deposit:
    # It came out of an AEAD, but any holder of the public key may have put it in: nothing is taken on trust.
    if len(body) < _COUNTS.size:
        raise DepositCorruptError("a deposit's content is cut short", offset=len(body))
    many, count = _COUNTS.unpack_from(body)
    split = _COUNTS.size + many * _INTERMEDIATE.size
    if many > MAX_INTERMEDIATES or count > MAX_RECORDS or len(body) != split + count * _RECORD.size:
        raise DepositCorruptError("a deposit's content has another length than it states", offset=0)
    intermediates = tuple(
        IntermediateRecord(*_INTERMEDIATE.unpack_from(body, at))
        for at in range(_COUNTS.size, split, _INTERMEDIATE.size)
    )
    if len({item.id for item in intermediates}) != many:
        raise DepositCorruptError("a deposit names an intermediate key twice", offset=_COUNTS.size)
    records = []
    for at in range(split, len(body), _RECORD.size):
        recording, place, counter, wrapped = _RECORD.unpack_from(body, at)
        if place >= many:
            raise DepositCorruptError("a deposit names an intermediate key it does not hold", offset=at)
        records.append(KeyRecord(recording, intermediates[place].id, counter, wrapped))
    return Deposit(intermediates, tuple(records))


def recordings_of(deposit: Deposit) -> list[str]:
    """Written ids of the recordings whose keys a deposit holds."""
    return [id_text(record.recording) for record in deposit.records]
