"""The hashes of all complete subtrees on disk, so that a proof reads a few hashes and no entry.

One file for each level of the tree, 32 bytes a hash: `leaves-G` (level 0) and `nodes-G-LL` above it, G the generation of
the log. They can be made anew from the entries; leaves of an earlier generation are evidence, and stay.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from appliance.audit.errors import TreeSizeError
from appliance.audit.tree import HASH

_BATCH: Final = 1 << 16  # bytes that are held back before they are written


class Hashes:
    """Hashes of one generation. Safe to use from several threads; one of them appends."""

    def __init__(self, folder: Path, label: str) -> None:
        """`label` is the generation, or what stands for one that is being made."""
        self._folder = folder
        self._label = label
        self._lock = threading.Lock()
        self._files: list[int] = []
        self._written: list[int] = []  # bytes on disk, by level
        self._held: list[bytearray] = []  # what is not written yet
        while self._path(len(self._files)).exists():
            self._open(len(self._files))
            self._written.append(os.fstat(self._files[-1]).st_size // HASH * HASH)
            self._held.append(bytearray())

    def _path(self, level: int) -> Path:
        name = f"nodes-{self._label}-{level:02}" if level else f"leaves-{self._label}"
        return self._folder / name

    def _open(self, level: int) -> None:
        file = os.open(self._path(level), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._files.append(file)

    def _hold(self, level: int, one: bytes) -> None:
        if level == len(self._held):
            self._held.append(bytearray())
            self._written.append(0)
        self._held[level] += one

    def holds(self, size: int) -> bool:
        """Whether there are hashes enough for a tree of this size."""
        with self._lock:
            levels = size.bit_length()
            return levels <= len(self._held) and all(
                self._written[level] + len(self._held[level]) >= (size >> level) * HASH
                for level in range(levels)
            )

    @property
    def leaves(self) -> int:
        """How many leaves there are."""
        with self._lock:
            return (self._written[0] + len(self._held[0])) // HASH if self._held else 0

    def get(self, level: int, number: int) -> bytes:
        """32 bytes; TreeSizeError where there is none."""
        return self.span(level, number, 1)

    def span(self, level: int, first: int, count: int) -> bytes:
        """Hashes of one level that follow one another, 32 bytes each; TreeSizeError where they are not all there."""
        start, size = first * HASH, count * HASH
        with self._lock:
            found = b""
            if level < len(self._held):
                written = self._written[level]
                if start < written:
                    found = os.pread(self._files[level], min(size, written - start), start)
                held_from = max(0, start - written)
                found += bytes(self._held[level][held_from : held_from + size - len(found)])
        if len(found) != size:
            raise TreeSizeError("the tree has no such hash", level=level, number=first)
        return found

    def append(self, nodes: Iterable[tuple[int, bytes]]) -> None:
        """What a compact range made of a leaf. On disk with `flush`, or before; OSError (then all of it is held)."""
        with self._lock:
            for level, one in nodes:
                self._hold(level, one)
            if self._held and len(self._held[0]) >= _BATCH:
                self._flush()

    def flush(self) -> None:
        """Gives everything to the system; OSError (then it is still held)."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        for level, held in enumerate(self._held):
            if level == len(self._files):
                self._open(level)
            while held:
                count = os.pwrite(self._files[level], held, self._written[level])
                count -= count % HASH
                if not count:
                    raise OSError("short write")
                self._written[level] += count
                del held[:count]

    def sync(self) -> None:
        """Makes it durable; OSError."""
        self.flush()
        for file in self._files:
            os.fsync(file)

    def cut(self, size: int) -> None:
        """Forget what is beyond a tree of this size."""
        with self._lock:
            self._flush()
            for level, file in enumerate(self._files):
                keep = (size >> level) * HASH
                if self._written[level] > keep:
                    os.ftruncate(file, keep)
                    self._written[level] = keep

    def rename(self, label: str) -> Hashes:
        """These hashes in the place of those of another label; gives them opened anew."""
        self.sync()
        self.close()
        levels = len(self._files)
        target = Hashes(self._folder, label)
        target.remove()
        for level in range(levels):
            self._path(level).rename(target._path(level))
        return Hashes(self._folder, label)

    def remove(self) -> None:
        """Away with the files."""
        self.close()
        for level in range(len(self._files)):
            with contextlib.suppress(FileNotFoundError):
                self._path(level).unlink()

    def close(self) -> None:
        for file in self._files:
            os.close(file)
