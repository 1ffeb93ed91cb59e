"""What came to an epoch since it was written: encrypted records, appended to both copies, synced as a group.

The copies have the same bytes at the same places. A record is written and synced in the first copy, then in the
second; so only the last record can be torn, and only where no other copy has it whole.

The first record of a journal says where the one of the epoch before ended. A copy that missed the flip may have gone on
with that one: what it took in since is found by it (`records_after`).
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.storage.keystore.errors import KeystoreCorruptError
from appliance.storage.keystore.files import write_durably

MAGIC = b"\x89EWJ\r\n\x1a\n"
VERSION = 4
SYNC = b"\xe7EWj"
MAX_RECORD = 64 << 20

_HEADER = struct.Struct("<8sHHQI")  # magic, version, header length, epoch, CRC-32
HEADER_BYTES = _HEADER.size
_PREFIX = struct.Struct("<4sI12sI")  # sync, length of the ciphertext with its tag, nonce, CRC-32
_CONTEXT = b"earwitness key journal v1\x00"
TAG = 16


@dataclass(frozen=True, slots=True)
class End:
    """Where a journal ends: bytes, how many records, and the last one's tag (zeros where there is none)."""

    epoch: int
    size: int
    number: int
    tag: bytes


def _header(epoch: int, version: int = VERSION) -> bytes:
    body = _HEADER.pack(MAGIC, version, HEADER_BYTES, epoch, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def create_journal(paths: Sequence[Path], epoch: int) -> None:
    """An empty journal, durable in both copies."""
    for path in paths:
        write_durably(path, _header(epoch))


def _prefix(length: int, nonce: bytes) -> bytes:
    body = _PREFIX.pack(SYNC, length, nonce, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def _prefix_at(raw: bytes, at: int) -> tuple[int, bytes] | None:
    """Length and nonce of the record that begins here; None where none does."""
    if len(raw) < at + _PREFIX.size:
        return None
    _, length, nonce, _ = _PREFIX.unpack_from(raw, at)
    if not TAG <= length <= MAX_RECORD or _prefix(length, nonce) != raw[at : at + _PREFIX.size]:
        return None
    return length, nonce


def _record_at(raw: bytes, at: int) -> bytes | None:
    """The bytes of the record that begins here, if they are all there."""
    prefix = _prefix_at(raw, at)
    end = at + _PREFIX.size + (prefix[0] if prefix is not None else 0)
    return raw[at:end] if prefix is not None and len(raw) >= end else None


def _aad(end: End) -> bytes:
    return _CONTEXT + struct.pack("<QQQ", end.epoch, end.number, end.size) + end.tag


def _decrypt(record: bytes, aead: AESGCM, end: End) -> bytes | None:
    _, _, nonce, _ = _PREFIX.unpack_from(record)
    try:
        return aead.decrypt(nonce, record[_PREFIX.size :], _aad(end))
    except InvalidTag:
        return None


def beginning(epoch: int) -> End:
    """Where a journal ends that has no record yet."""
    return End(epoch, HEADER_BYTES, 0, bytes(TAG))


def records_after(raw: bytes, key: bytes, end: End) -> tuple[list[bytes], End]:
    """Plain records of a copy of the journal beyond `end`, and where they end.

    A torn one at the end was never said to be taken in. KeystoreCorruptError where one is damaged that others follow.
    """
    aead, found = AESGCM(key), []
    while (record := _record_at(raw, end.size)) is not None:
        plain = _decrypt(record, aead, end)
        if plain is None:
            break
        found.append(plain)
        end = End(end.epoch, end.size + len(record), end.number + 1, record[-TAG:])
    if _followed(raw, end.size):
        name = f"journal of epoch {end.epoch}"
        raise KeystoreCorruptError("a copy's key journal is damaged", what=name, offset=end.size)
    return found, end


def _followed(raw: bytes, at: int) -> bool:
    """Whether records begin after `at` that are not within the one that begins there."""
    prefix = _prefix_at(raw, at)
    place = at + 1 if prefix is None else at + _PREFIX.size + prefix[0]
    while (place := raw.find(SYNC, place)) >= 0:
        if _prefix_at(raw, place) is not None:
            return True
        place += 1
    return False


class KeyJournal:
    """The journal of one epoch, open for appending. Not for several threads at once."""

    def __init__(
        self,
        paths: Sequence[Path],
        key: bytes,
        epoch: int,
        findings: list[str],
        version: int = VERSION,
        *,
        mends: bool = True,
    ) -> None:
        """Reads and mends. KeystoreCorruptError where a record is damaged in both copies; nothing is changed then.

        `version`: of its base, which is its own too. Not `mends`: only to be looked at.
        """
        self.version = version
        self._paths = tuple(paths)
        self._aead = AESGCM(key)
        self._epoch = epoch
        self._number = 0
        self._last_tag = bytes(TAG)
        self.records: list[bytes] = []
        """Plain records as read at the opening; the caller may clear it."""
        self.degraded: dict[str, str] = {}
        """Copies that no longer take records, and why."""
        self._read(findings, mends)

    @property
    def size(self) -> int:
        """Bytes of the sound part."""
        return self._size

    @property
    def end(self) -> End:
        """Where the sound part ends."""
        return End(self._epoch, self._size, self._number, self._last_tag)

    def _read(self, findings: list[str], mends: bool) -> None:
        raw: list[bytes | None] = []
        for path in self._paths:
            try:
                raw.append(path.read_bytes())
            except OSError:
                raw.append(None)
        if all(item is None for item in raw):
            raise KeystoreCorruptError("no copy of the key journal can be read", what=self._name, offset=0)
        good = bytearray(_header(self._epoch, self.version))
        self._size = len(good)
        while (record := self._next(raw)) is not None:
            good += record
            self._size = len(good)
        self._refuse_damage(raw, len(good))
        for path, item in zip(self._paths, raw, strict=True):
            if mends and item != good:
                findings.append(self._mend(path, item, bytes(good)))

    @property
    def _name(self) -> str:
        return self._paths[0].name

    def _next(self, raw: Sequence[bytes | None]) -> bytes | None:
        """The record at the end of what is read, as any copy has it whole; its content goes to `records`."""
        found: dict[bytes, bytes] = {}
        at = self._size
        for item in raw:
            record = _record_at(item or b"", at)
            if record is not None and record not in found:
                plain = _decrypt(record, self._aead, self.end)
                if plain is not None:
                    found[record] = plain
        if len(found) > 1:
            # Each copy was written to without the other: taking one would lose what the other has.
            raise KeystoreCorruptError(
                "the copies of the key journal went on differently", what=self._name, offset=at
            )
        for record, plain in found.items():
            self.records.append(plain)
            self._number += 1
            self._last_tag = record[-TAG:]
            return record
        return None

    def _refuse_damage(self, raw: Sequence[bytes | None], at: int) -> None:
        """What follows the last whole record must be the one that a crash tore, not damage."""
        longer = [item for item in raw if item is not None and len(item) > at]
        if len(longer) > 1:
            # The second copy is begun when the first is durable: both cannot be torn.
            raise KeystoreCorruptError(
                "both copies of the key journal are damaged", what=self._name, offset=at
            )
        for item in longer:
            if _followed(item, at):
                raise KeystoreCorruptError("the key journal is damaged", what=self._name, offset=at)

    def _mend(self, path: Path, had: bytes | None, good: bytes) -> str:
        place = f"{path.parent.name}/{path.name}"
        if had is None:
            what = "missing"
        elif had.startswith(good):
            what = f"a torn record of {len(had) - len(good)} bytes at byte {len(good)}"
        else:
            at = next((i for i, (a, b) in enumerate(zip(had, good, strict=False)) if a != b), len(had))
            what = f"damaged at byte {at}"
        try:
            write_durably(path, good)
        except OSError as error:
            self.degraded[path.parent.name] = str(error.strerror)
            return f"{place}: {what}, not repaired: {error.strerror}"
        return f"{place}: {what}, repaired"

    def append(self, plain: bytes) -> None:
        """Durable in every copy that still takes records when it returns.

        OSError where none does, or the record is longer than is read back: nothing was appended then, and it may be tried
        again.
        """
        if len(plain) + TAG > MAX_RECORD:
            raise OSError(errno.EFBIG, "a record is too long")
        nonce = secrets.token_bytes(12)
        sealed = self._aead.encrypt(nonce, plain, _aad(self.end))
        record = _prefix(len(sealed), nonce) + sealed
        failed: list[tuple[Path, OSError]] = []
        done = 0
        for path in self._paths:
            if path.parent.name in self.degraded:
                continue
            try:
                self._append_to(path, record)
                done += 1
            except OSError as error:
                failed.append((path, error))
        if not done:
            if failed:
                raise failed[0][1]
            raise OSError("no copy of the key journal takes records")
        self.degraded.update({path.parent.name: str(error.strerror) for path, error in failed})
        self._size += len(record)
        self._number += 1
        self._last_tag = sealed[-TAG:]

    def _append_to(self, path: Path, record: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size != self._size:
                raise OSError(errno.ESTALE, "the file is another than the one that was open")
            try:
                view, at = memoryview(record), self._size
                while view:
                    written = os.pwrite(fd, view, at)
                    view, at = view[written:], at + written
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, self._size)
                raise
        finally:
            os.close(fd)
