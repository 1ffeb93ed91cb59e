"""The entries on disk: `entries-NNNNNN.jsonl`, one behind the other, one line an entry.

Appended with pwrite at the end that is known to be sound: what a full disk tore lies behind it, is cut away, and is written
over by what comes next.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from appliance.audit import files
from appliance.audit.errors import EntryDamagedError

SEGMENT: Final = 64 << 20  # bytes after which a new one begins
MAX_LINE: Final = 1 << 16  # bytes; a longer one is no entry of ours
_BLOCK: Final = 1 << 20
_NAME = re.compile(r"entries-(\d{6})\.jsonl")


@dataclass(frozen=True)
class Place:
    """Where an entry's line begins."""

    serial: int
    offset: int


@dataclass(frozen=True)
class Closed:
    """A segment that is no longer written: serial number, number of its first entry, entries in it, its size in bytes."""

    serial: int
    first: int
    count: int
    size: int


def path_of(folder: Path, serial: int) -> Path:
    return folder / f"entries-{serial:06}.jsonl"


def serials(folder: Path) -> list[int]:
    """The segments there are, in their order."""
    return sorted(int(found[1]) for one in folder.iterdir() if (found := _NAME.fullmatch(one.name)))


def lines(path: Path, offset: int = 0, block: int = _BLOCK) -> Iterator[tuple[int, bytes]]:
    """Offset and line (without its line feed) from an offset on; what has no line feed at the end is not given.

    A line that is too long is given in pieces: it is no entry, and nobody should hold it whole.
    """
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        held = b""
        while more := file.read(block):
            whole, first = held + more, 0
            while (end := whole.find(b"\n", first)) >= 0:
                yield offset, whole[first:end]
                offset += end + 1 - first
                first = end + 1
            held = whole[first:]
            if len(held) > MAX_LINE:
                yield offset, held
                offset += len(held)
                held = b""


class Lines:
    """Reads lines by their places; a context manager, since it holds the segments open that it has read from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def read(self, place: Place, size: int) -> bytes:
        """The line at a place, of so many bytes; EntryDamagedError where it is not there."""
        try:
            file = self._files.get(place.serial)
            if file is None:
                path = path_of(self._folder, place.serial)
                file = self._files[place.serial] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found = os.pread(file, size + 1, place.offset)
        except OSError as error:
            raise EntryDamagedError(
                "a part of the audit log cannot be read", errno=error.errno or 0
            ) from error
        if len(found) != size + 1 or found[-1:] != b"\n":
            raise EntryDamagedError("an entry of the audit log is not where it was")
        return found[:-1]


def cut(path: Path, size: int) -> None:
    """Take away what is behind the sound part of a segment, durably."""
    with path.open("rb+") as file:
        file.truncate(size)
        os.fsync(file.fileno())


class Tail:
    """The segment that is written. Not for several threads at once."""

    def __init__(self, folder: Path, serial: int) -> None:
        self.folder = folder
        self.serial = serial
        path = path_of(folder, serial)
        new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new:
            files.sync_directory(folder)
        self.end = os.fstat(self._fd).st_size

    def write(self, data: bytes, at: int) -> None:
        """Give bytes to the system at an offset; OSError, then nothing behind `at` counts."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, at)
            if not count:
                raise OSError("short write")
            view, at = view[count:], at + count
        self.end = at

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def cut(self, size: int) -> None:
        """Take away what was torn; OSError."""
        os.ftruncate(self._fd, size)
        self.end = size

    def close(self) -> None:
        os.close(self._fd)


class Table:
    """`segments.json`: where closed segments begin. Can be made anew from the entries."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "segments.json"
        self.closed: list[Closed] = []

    def read(self, folder: Path) -> bool:
        """Read what is there; False where it does not fit the files."""
        try:
            found = [Closed(*map(int, row)) for row in json.loads(self._path.read_bytes())]
            sizes = [path_of(folder, one.serial).stat().st_size for one in found]
        except (OSError, ValueError, OverflowError, TypeError, RecursionError):
            return False
        present = serials(folder)
        fits = [one.size for one in found] == sizes and [one.serial for one in found] == present[:-1]
        self.closed = found if fits else []
        return fits

    @property
    def next(self) -> int:
        """Number of the first entry behind them."""
        return self.closed[-1].first + self.closed[-1].count if self.closed else 0

    def place(self, index: int) -> tuple[int, int]:
        """In which segment an entry is, or will be: its serial number, and the number of its first entry."""
        for one in reversed(self.closed):
            if index >= one.first + one.count:
                return one.serial + 1, one.first + one.count
            if index >= one.first:
                return one.serial, one.first
        return 1, 0

    def add(self, one: Closed) -> None:
        """OSError: it is not closed, and goes on."""
        self._write([*self.closed, one])
        self.closed.append(one)

    def write(self) -> None:
        self._write(self.closed)

    def _write(self, closed: list[Closed]) -> None:
        rows = [[one.serial, one.first, one.count, one.size] for one in closed]
        files.replace(self._path, json.dumps(rows).encode())
