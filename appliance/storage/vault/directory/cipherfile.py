"""A file of a bucket, encrypted under the bucket's key, readable from anywhere in it.

Header (56): magic `89 45 57 42 46 0D 0A 1A` (8), version 1 (2), zero (2), chunk bytes 65,536 (4), plain size (8), salt
(32). Then the plain bytes in chunks, AES-256-GCM each with its tag (16); an empty file has one empty chunk. Key:
HKDF-SHA256 of the bucket's key, that salt, info `earwitness bucket file v1`, a zero byte, and the recording id (16). Nonce:
the chunk's number (12, big-endian). Associated data: the header. All other integers are little-endian.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.model import id_bytes
from appliance.storage.vault.errors import StoredFileCorruptError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK: Final = 1 << 16
TAG: Final = 16
_HEADER = struct.Struct("<8sHHIQ32s")
_MAGIC: Final = b"\x89EWBF\r\n\x1a"
_VERSION: Final = 1


def _cipher(key: bytes, salt: bytes, recording_id: str) -> AESGCM:
    info = b"earwitness bucket file v1\0" + id_bytes(recording_id)
    return AESGCM(HKDF(SHA256(), 32, salt, info).derive(key))


def encrypt(source: BinaryIO, target: BinaryIO, key: bytes, recording_id: str) -> int:
    """Writes `source` encrypted into `target`; how many plain bytes. The size is that of the file as it is now."""
    size = os.fstat(source.fileno()).st_size
    salt = secrets.token_bytes(32)
    header = _HEADER.pack(_MAGIC, _VERSION, 0, CHUNK, size, salt)
    cipher = _cipher(key, salt, recording_id)
    target.write(header)
    left, number = size, 0
    while left or not number:
        piece = source.read(min(CHUNK, left))
        if len(piece) != min(CHUNK, left):
            raise StoredFileCorruptError(
                "the file shrank while it was read", recording_id=recording_id, offset=size - left
            )
        target.write(cipher.encrypt(number.to_bytes(12, "big"), piece, header))
        left, number = left - len(piece), number + 1
    return size


def plain_size(stored: int) -> int:
    """How many plain bytes a file of so many stored ones has, by its length alone; 0 where it is too short."""
    chunks = max(1, -(-(stored - _HEADER.size) // (CHUNK + TAG)))
    return max(0, stored - _HEADER.size - chunks * TAG)


class CipherReader(io.RawIOBase):
    """The plain bytes. StoredFileCorruptError, with the plain offset, where a chunk is not what was written."""

    def __init__(self, path: Path, key: bytes, recording_id: str, closed: Callable[[], None]) -> None:
        self._recording_id = recording_id
        self._told = closed
        self._file: BinaryIO | None = None
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (close does)
        try:
            self._header = self._file.read(_HEADER.size)
            self.size, cipher = self._read_header(key)
        except BaseException:
            self._file.close()
            self._file = None
            raise
        self._cipher = cipher
        self._at = 0
        self._chunk: tuple[int, bytes] = (-1, b"")

    def _read_header(self, key: bytes) -> tuple[int, AESGCM]:
        if len(self._header) != _HEADER.size:
            raise self._corrupt(0)
        magic, version, _, chunk, size, salt = _HEADER.unpack(self._header)
        assert self._file is not None
        stored = os.fstat(self._file.fileno()).st_size
        chunks = max(1, -(-size // CHUNK))
        if (
            magic != _MAGIC
            or version != _VERSION
            or chunk != CHUNK
            or stored != _HEADER.size + size + chunks * TAG
        ):
            raise self._corrupt(0)
        return size, _cipher(key, salt, self._recording_id)

    def _corrupt(self, offset: int) -> StoredFileCorruptError:
        return StoredFileCorruptError(
            "a file in the bucket is not what was written", recording_id=self._recording_id, offset=offset
        )

    def _load(self, number: int) -> bytes:
        if self._chunk[0] != number:
            assert self._file is not None
            length = min(CHUNK, self.size - number * CHUNK) + TAG
            raw = os.pread(self._file.fileno(), length, _HEADER.size + number * (CHUNK + TAG))
            try:
                plain = self._cipher.decrypt(number.to_bytes(12, "big"), raw, self._header)
            except InvalidTag as error:
                raise self._corrupt(number * CHUNK) from error
            self._chunk = (number, plain)
        return self._chunk[1]

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """See RawIOBase."""
        view = memoryview(buffer).cast("B")
        if self._at >= self.size:
            if not self.size:
                self._load(0)  # an empty file is authentic too, or not
            return 0
        number, offset = divmod(self._at, CHUNK)
        piece = self._load(number)[offset : offset + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def readable(self) -> bool:
        """See IOBase."""
        return True

    def seekable(self) -> bool:
        """See IOBase."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See IOBase."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a position is not negative")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """See IOBase."""
        return self._at

    def close(self) -> None:
        """See IOBase."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._told()
        super().close()


def open_plain(
    path: Path, key: bytes, recording_id: str, closed: Callable[[], None] = lambda: None
) -> BinaryIO:
    """The plain bytes of a file; `closed` is called once when the reader closes it. FileNotFoundError."""
    return io.BufferedReader(CipherReader(path, key, recording_id, closed), CHUNK)
