"""The journal of holdings: one line for each change, appended and synced before it is told to anybody.

A line is eight hexadecimal digits (CRC-32 of the JSON), a space, JSON, and a line feed. Positions count from 1. It is the
truth of what became of recordings, next to the files themselves; the index is made from it. Not for several threads at
once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from appliance.storage.keystore.files import make_directory, sync_directory
from appliance.storage.vault.holding import ENTRY, Entry

_BLOCK = 1 << 20
MAX_LINE = 1 << 16


def pack_line(entry: Entry) -> bytes:
    """One line."""
    body = ENTRY.dump_json(entry)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def parse_line(line: bytes) -> Entry | None:
    """The entry of a whole line; None where it is not what was written."""
    if len(line) < 11 or line[8:9] != b" " or line[-1:] != b"\n":
        return None
    body = line[9:-1]
    if line[:8] != b"%08x" % zlib.crc32(body):
        return None
    try:
        return ENTRY.validate_json(body)
    except ValidationError:
        return None


class Journal:
    """See the module. `size` is the length of its sound part, `position` that of its last entry."""

    def __init__(self, path: Path) -> None:
        make_directory(path.parent)
        self._path = path
        new = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new:
            sync_directory(path.parent)
        self.position = 0
        self.size = os.fstat(self._fd).st_size

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._fd)

    def lines(self, start: int) -> Iterator[tuple[int, bytes]]:
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
            if len(held) > MAX_LINE:  # no line of ours is that long: it is damage, passed on in pieces
                yield offset, held
                offset += len(held)
                held = b""

    def cut(self, size: int) -> None:
        """Takes away what a crash tore."""
        os.ftruncate(self._fd, size)
        os.fsync(self._fd)
        self.size = size

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Durable when it returns; the offsets of the lines. On OSError nothing was appended."""
        offsets: list[int] = []
        data, at = b"", self.size
        for entry in entries:
            if entry.position != self.position + len(offsets) + 1:
                raise AssertionError("positions have no gaps")
            line = pack_line(entry)
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
        self.position += len(offsets)
        return offsets
