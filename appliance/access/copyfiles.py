"""The general copy's files: `control/catalogue-copy/`, a file a table, and an index of them.

A table's file is zstd of JSON, a row a line, in chunks of AES-256-GCM (STREAM: the nonce is the chunk's number and whether
it is the last) under a random key of its own. Keys, names of columns and counts of rows stand in `index.sealed`, itself
sealed under `control/identities.key`; it is replaced atomically, and with the index the keys of files that it no longer
names are gone. Tables that did not change keep their file. `pki/catalogue-copy.serial` holds the index's serial once more.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.access.anchor import Anchor
from appliance.access.refusals import CatalogueCopyError, IdentityKeyError
from appliance.access.sealing import Sealing
from appliance.process.wholefile import sync_directory, write_whole

INDEX: Final = "index.sealed"
FORMAT: Final = 1
CHUNK: Final = 256 << 10  # plain bytes
_TAG: Final = 16
_LEVEL: Final = 3
_SEALED_FOR: Final = "\0catalogue copy"  # no identity has such a name

Row = Sequence[Any]


@dataclass(frozen=True)
class Part:
    """A table's file; a table without rows has none. `key`: base64."""

    file: str
    key: str
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Index:
    """What the copy says. `revision`: of the catalogue's tables; parts by the table's name."""

    serial: int
    revision: str
    made_ns: int
    parts: dict[str, Part]


class CopyFiles:
    """The directory. Used by one thread at a time."""

    def __init__(self, folder: Path, anchor: Path, sealing: Sealing) -> None:
        self.folder = folder
        self._anchor = Anchor(anchor)
        self._sealing = sealing

    def anchored(self) -> int:
        """The serial of the newest index that was ever written; 0: none, -1: not known."""
        return self._anchor.read()

    def index(self) -> Index | None:
        """None where there is no copy; CatalogueCopyError where it is damaged or of another box."""
        try:
            raw = (self.folder / INDEX).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CatalogueCopyError("the copy's index cannot be read", errno=error.errno or 0) from None
        try:
            said = json.loads(self._sealing.open(raw, _SEALED_FOR))
            if said["format"] != FORMAT:
                raise CatalogueCopyError("the copy is of another release", format=said["format"])
            parts = {
                name: Part(one["file"], one["key"], tuple(one["columns"]), one["rows"])
                for name, one in said["parts"].items()
            }
            return Index(said["serial"], said["revision"], said["made_ns"], parts)
        except (IdentityKeyError, ValueError, KeyError, TypeError):
            raise CatalogueCopyError("the copy's index is damaged, or of another box") from None

    def write(self, table: str, serial: int, columns: Sequence[str], rows: Iterable[Row]) -> Part:
        """A file of its own, on disk when this returns; it counts once an index names it. OSError."""
        left = iter(rows)
        if (first := next(left, None)) is None:
            return Part("", "", tuple(columns), 0)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name, key = f"{table}-{serial}.sealed", secrets.token_bytes(32)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        count = 0
        with open(os.open(self.folder / name, flags, 0o600), "wb", buffering=0) as file:
            out = _Sealer(file, key, table)
            packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
            for row in chain([first], left):
                line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                out.add(packer.compress(line))
                count += 1
            out.add(packer.flush())
            out.end()
            os.fsync(file.fileno())
        return Part(name, base64.b64encode(key).decode(), tuple(columns), count)

    def publish(self, index: Index) -> None:
        """From here on this is the copy; files that it does not name go. OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = {
            "format": FORMAT,
            "serial": index.serial,
            "revision": index.revision,
            "made_ns": index.made_ns,
            "parts": {name: vars(part) for name, part in index.parts.items()},
        }
        try:
            sync_directory(self.folder)  # the names of its files
            write_whole(self.folder / INDEX, self._sealing.seal(json.dumps(said).encode(), _SEALED_FOR))
        except OSError:
            with contextlib.suppress(
                CatalogueCopyError
            ):  # whether it took the place of the old one is not known
                if (found := self.index()) is None or found.serial < index.serial:
                    self.discard(index.serial)
            raise
        try:
            self._anchor.rise(index.serial)
        finally:
            self.tidy(index)

    def tidy(self, index: Index) -> None:
        """Remove files that this index does not name: what is older, or what a kill left. OSError."""
        named = {INDEX} | {part.file for part in index.parts.values()}
        self._remove(lambda name: name not in named)

    def discard(self, serial: int) -> None:
        """Remove what broke off before an index of this serial was published, and nothing else. OSError."""
        self._remove(lambda name: name.endswith(f"-{serial}.sealed"))

    def _remove(self, which: Callable[[str], bool]) -> None:
        with contextlib.suppress(FileNotFoundError):
            for one in list(os.scandir(self.folder)):
                if which(one.name):
                    os.unlink(one.path)

    def read(self, table: str, part: Part) -> Iterator[Row]:
        """Rows of a table's file, each authenticated; CatalogueCopyError at the first place that is damaged."""
        if not part.rows:
            return
        try:
            count = 0
            if Path(part.file).name != part.file:
                raise ValueError("not a name")
            with open(self.folder / part.file, "rb") as file:
                opened = _Opener(file, base64.b64decode(part.key), table)
                plain = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", opened))
                for line in io.BufferedReader(plain, CHUNK):
                    yield json.loads(line)
                    count += 1
                opened.finish()
            if count != part.rows:
                raise ValueError("rows are missing")
        except (OSError, ValueError, InvalidTag, zstandard.ZstdError):
            raise CatalogueCopyError("a file of the copy is damaged", table=table) from None

    def put_aside(self, name: str) -> None:
        """Out of the way, for somebody to look at. OSError."""
        self.folder.rename(self.folder.with_name(name))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


class _Sealer:
    """Bytes in, chunks out; the last one is marked, so that a cut is noticed."""

    def __init__(self, file: BinaryIO, key: bytes, table: str) -> None:
        self._file = file
        self._cipher = AESGCM(key)
        self._table = table.encode()
        self._held = bytearray()
        self._number = 0

    def add(self, data: bytes) -> None:
        self._held += data
        while len(self._held) > CHUNK:
            self._put(CHUNK, last=False)

    def end(self) -> None:
        self._put(len(self._held), last=True)

    def _put(self, size: int, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), bytes(self._held[:size]), self._table)
        del self._held[:size]
        self._number += 1
        if self._file.write(sealed) != len(sealed):
            raise OSError("short write")


class _Opener(io.RawIOBase):
    """Chunks in, bytes out: what `_Sealer` wrote. InvalidTag."""

    def __init__(self, file: BinaryIO, key: bytes, table: str) -> None:
        self._file = file
        self._cipher = AESGCM(key)
        self._table = table.encode()
        self._next = file.read(CHUNK + _TAG)
        self._plain = b""
        self._number = 0
        self._over = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._plain and not self._over:
            chunk, self._next = self._next, self._file.read(CHUNK + _TAG)
            self._over = not self._next
            self._plain = self._cipher.decrypt(_nonce(self._number, self._over), chunk, self._table)
            self._number += 1
        size = len(self._plain) if size < 0 else size
        given, self._plain = self._plain[:size], self._plain[size:]
        return given

    def finish(self) -> None:
        """Authenticate what comes behind the last row: nothing may. InvalidTag, ValueError."""
        while self.read(CHUNK):
            pass
