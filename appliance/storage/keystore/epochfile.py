"""The base of an epoch on disk: one encrypted file, the same bytes in both copies, so that either mends the other.

Chunks of 1 MiB under AES-256-GCM; the nonce is the chunk's number, which is safe because each writing has a root key
of its own. Associated data binds header (and with it epoch and length) and position. docs/keystore.md has the bytes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.storage.keystore.errors import KeystoreCorruptError, KeystoreTooNewError
from appliance.storage.keystore.files import sync_directory, write_durably

MAGIC = b"\x89EWK\r\n\x1a\n"
VERSION = 4
VERSIONS = (1, 2, 3, 4)  # that can be read
CHUNK = 1 << 20
TAG = 16
MAX_PLAIN = 1 << 38

_HEADER = struct.Struct("<8sHHIQQI")  # magic, version, header length, chunk, epoch, plain length, CRC-32
HEADER_BYTES = _HEADER.size
_CONTEXT = b"earwitness epoch v1\x00"


def derive(root_key: bytes, epoch: int, purpose: bytes) -> bytes:
    """A key for one purpose of one epoch (HKDF-SHA256, RFC 5869)."""
    info = _CONTEXT + epoch.to_bytes(8, "big") + purpose
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root_key)


@dataclass(frozen=True, slots=True)
class _Header:
    epoch: int
    length: int
    version: int = VERSION

    def pack(self) -> bytes:
        body = _HEADER.pack(MAGIC, self.version, HEADER_BYTES, CHUNK, self.epoch, self.length, 0)[:-4]
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def parse(cls, raw: bytes) -> _Header | None:
        if len(raw) != HEADER_BYTES:
            return None
        _, version, _, _, epoch, length, _ = _HEADER.unpack(raw)
        found = cls(epoch, length, version)
        return found if length <= MAX_PLAIN and found.pack() == raw else None

    @property
    def chunks(self) -> int:
        return -(-self.length // CHUNK)

    @property
    def file_bytes(self) -> int:
        return HEADER_BYTES + self.length + self.chunks * TAG

    def nonce_and_aad(self, number: int) -> tuple[bytes, bytes]:
        head = hashlib.sha256(self.pack()).digest()
        return number.to_bytes(12, "big"), _CONTEXT + head + number.to_bytes(8, "big")


def _pieces(parts: Sequence[memoryview]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK, the last one shorter."""
    held = bytearray()
    for part in parts:
        at = 0
        while at < len(part):
            take = min(CHUNK - len(held), len(part) - at)
            held += part[at : at + take]
            at += take
            if len(held) == CHUNK:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)


def write_epoch(paths: Sequence[Path], key: bytes, epoch: int, parts: Sequence[memoryview]) -> int:
    """Writes both copies durably; how many bytes each has. Names are made durable too."""
    header = _Header(epoch, sum(len(part) for part in parts))
    aead = AESGCM(key)
    files = []
    try:
        for path in paths:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            files.append(os.fdopen(fd, "wb", buffering=0))
        for file in files:
            _write_all(file.fileno(), header.pack())
        for number, piece in enumerate(_pieces(parts)):
            nonce, aad = header.nonce_and_aad(number)
            sealed = aead.encrypt(nonce, piece, aad)
            for file in files:
                _write_all(file.fileno(), sealed)
        for file in files:
            os.fsync(file.fileno())
            # What is verified next shall come from the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        for file in files:
            file.close()
    for path in paths:
        sync_directory(path.parent)
    return header.file_bytes


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class _Copy:
    """One copy, read with tolerance: what cannot be read is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.fd: int | None = None
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self.fd).st_size
        except OSError:
            pass  # missing or unreadable: the caller sees no bytes and says so

    def read(self, offset: int, length: int) -> bytes:
        if self.fd is None:
            return b""
        try:
            return os.pread(self.fd, length, offset)
        except OSError:
            return b""

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)


def peek_epoch(path: Path, key: bytes, epoch: int) -> bytes | None:
    """The first chunk of one copy, decrypted; None where it cannot be. Changes nothing."""
    copy = _Copy(path)
    try:
        header = _Header.parse(copy.read(0, HEADER_BYTES))
        if header is None or header.epoch != epoch or header.version not in VERSIONS:
            return None
        nonce, aad = header.nonce_and_aad(0)
        return AESGCM(key).decrypt(nonce, copy.read(HEADER_BYTES, min(CHUNK, header.length) + TAG), aad)
    except InvalidTag:
        return None
    finally:
        copy.close()


def read_epoch(paths: Sequence[Path], key: bytes, epoch: int, findings: list[str]) -> tuple[bytearray, int]:
    """The plain bytes, and the format version; what was damaged in one copy is repaired from the other and told in
    `findings`.

    KeystoreCorruptError where both copies of a piece are damaged, KeystoreTooNewError; nothing is changed on disk then.
    """
    copies = [_Copy(path) for path in paths]
    try:
        return _read(copies, key, epoch, findings)
    finally:
        for copy in copies:
            copy.close()


def _read(copies: Sequence[_Copy], key: bytes, epoch: int, findings: list[str]) -> tuple[bytearray, int]:
    name = copies[0].path.name
    headers = [_Header.parse(copy.read(0, HEADER_BYTES)) for copy in copies]
    sound = {item for item in headers if item is not None and item.epoch == epoch}
    if len(sound) != 1:
        raise KeystoreCorruptError("no copy of the epoch has a sound header", what=name, offset=0)
    header = sound.pop()
    if header.version not in VERSIONS:
        raise KeystoreTooNewError("the keystore was written by a newer release", version=header.version)
    bad: list[list[tuple[int, bytes]]] = [[] for _ in copies]
    for copy, head, repairs in zip(copies, headers, bad, strict=True):
        if head != header:
            repairs.append((0, header.pack()))
        if copy.size > header.file_bytes:
            repairs.append((header.file_bytes, b""))
    aead = AESGCM(key)
    plain = bytearray(header.length)
    for number in range(header.chunks):
        at = number * CHUNK
        length = min(CHUNK, header.length - at)
        offset = HEADER_BYTES + number * (CHUNK + TAG)
        nonce, aad = header.nonce_and_aad(number)
        seen = [copy.read(offset, length + TAG) for copy in copies]
        good = None
        for candidate in dict.fromkeys(seen):
            if len(candidate) != length + TAG:
                continue
            try:
                aead.decrypt_into(nonce, candidate, aad, memoryview(plain)[at : at + length])
            except InvalidTag:
                continue
            good = candidate
            break
        if good is None:
            raise KeystoreCorruptError("both copies of the epoch are damaged", what=name, offset=offset)
        for item, repairs in zip(seen, bad, strict=True):
            if item != good:
                repairs.append((offset, good))
    for copy, repairs in zip(copies, bad, strict=True):
        if repairs:
            findings.append(_repair(copy, repairs, header.file_bytes))
    return plain, header.version


def _repair(copy: _Copy, repairs: list[tuple[int, bytes]], size: int) -> str:
    place = f"{copy.path.parent.name}/{copy.path.name}"
    where = "missing" if copy.fd is None else f"damaged at byte {repairs[0][0]}"
    try:
        if copy.fd is None:
            write_durably(copy.path, (data for _, data in repairs))
        else:
            fd = os.open(copy.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                for offset, data in repairs:
                    if data:
                        os.pwrite(fd, data, offset)
                os.ftruncate(fd, size)
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as error:
        return f"{place}: {where}, not repaired: {error.strerror}"
    return f"{place}: {where}, repaired"


def equal_files(first: Path, second: Path) -> bool:
    """Whether two files have the same bytes."""
    with open(first, "rb", buffering=0) as one, open(second, "rb", buffering=0) as two:
        while True:
            a, b = one.read(CHUNK), two.read(CHUNK)
            if a != b:
                return False
            if not a:
                return True
