"""An append-only file of lines, each checked, appended and synced before it is told to anybody.

A line is eight hexadecimal digits (CRC-32 of the body), a space, the body, and a line feed. Not for several threads at
once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.storage.keystore.files import make_directory, sync_directory
from appliance.storage.vault.errors import JournalCorruptError, JournalLineTooLongError

_BLOCK = 1 << 20
MAX_LINE = 1 << 16


def pack(body: bytes) -> bytes:
    """One line."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse(line: bytes) -> bytes | None:
    """The body of a whole line; None where it is not what was written."""
    if len(line) < 11 or line[8:9] != b" " or line[-1:] != b"\n":
        return None
    body = line[9:-1]
    return body if line[:8] == b"%08x" % zlib.crc32(body) else None


class LineFile:
    """See the module. `size` is the length of its sound part."""

    def __init__(self, path: Path, *, max_line: int = MAX_LINE) -> None:
        make_directory(path.parent)
        self._path = path
        self._max_line = max_line
        new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new:
            sync_directory(path.parent)
        self.size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._fd)

    def lines(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of each line from the one that begins at `start`; the last may lack its line feed."""
        offset, held = start, b""
        at = start
        while True:
            block = os.pread(self._fd, min(_BLOCK, self.size - at), at) if at < self.size else b""
            if not block:
                if held:
                    yield offset, held
                return
            at += len(block)
            whole = held + block
            first = 0
            while (end := whole.find(b"\n", first)) >= 0:
                yield offset, whole[first : end + 1]
                offset += end + 1 - first
                first = end + 1
            held = whole[first:]
            if len(held) > self._max_line:  # no line of ours is that long: it is damage, passed on in pieces
                yield offset, held
                offset += len(held)
                held = b""

    def bodies(self) -> Iterator[bytes]:
        """Every body; what a crash tore off the end is cut away. JournalCorruptError where damage has lines after it."""
        damaged: int | None = None
        for offset, line in self.lines():
            body = parse(line)
            if body is None:
                damaged = offset if damaged is None else damaged
            elif damaged is not None:
                raise JournalCorruptError(
                    "a journal is damaged in its midst", what=self._path.name, offset=damaged
                )
            else:
                yield body
        if damaged is not None:
            self.cut(damaged)

    def cut(self, size: int) -> None:
        """Takes away what a crash tore."""
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)
        self.size = size

    def append(self, bodies: Sequence[bytes]) -> list[int]:
        """Durable when it returns; the offsets of the lines. On OSError nothing was appended.

        JournalLineTooLongError where one would be read as damage; nothing was appended.
        """
        offsets: list[int] = []
        data, at = bytearray(), self.size
        for body in bodies:
            line = pack(body)
            if len(line) > self._max_line:
                raise JournalLineTooLongError(
                    "an entry is too long for its journal",
                    what=self._path.name,
                    bytes=len(line),
                    limit=self._max_line,
                )
            offsets.append(at + len(data))
            data += line
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size = at
        return offsets
