"""Packet indices of live SRTP streams, kept beside the process, so that a restarted worker can go on."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from pathlib import Path

import numpy as np

_ENTRY = np.dtype([("name", "V16"), ("check", "<u4"), ("ssrc", "<u4"), ("index", "<u8")])
_EMPTY = np.zeros((), _ENTRY)


class RolloverStore:
    """Packet indices of live SRTP streams in a small mapped file, so that a restarted worker can go on.

    The file names a key only by a hash of it, cut to 128 bits; nothing in it opens anything. It outlives the process,
    not the machine: after a power cut there is no call to go on with.
    """

    def __init__(self, path: Path, entries: int = 8192) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, entries * _ENTRY.itemsize)
            self._map = mmap.mmap(fd, entries * _ENTRY.itemsize)
        finally:
            os.close(fd)
        self._table = np.frombuffer(self._map, _ENTRY)
        self._index = self._table["index"]
        kept = self._table["check"] != 0
        for slot in np.flatnonzero(kept).tolist():
            if self._check(slot) != int(self._table["check"][slot]):
                self._table[slot] = _EMPTY
                kept[slot] = False
        self._kept: dict[bytes, list[int]] = {}
        for slot in np.flatnonzero(kept).tolist():
            self._kept.setdefault(bytes(self._table["name"][slot]), []).append(slot)
        self._free = np.flatnonzero(~kept)[::-1].tolist()

    def _check(self, slot: int) -> int:
        entry = self._table[slot]
        return zlib.crc32(bytes(entry["name"]) + int(entry["ssrc"]).to_bytes(4, "little")) or 1

    @staticmethod
    def _name(key: bytes) -> bytes:
        return hashlib.sha256(b"earwitness srtp rollover\0" + key).digest()[:16]

    def find(self, key: bytes) -> dict[int, tuple[int, int]]:
        """What an earlier process left of a key's streams: slot and highest index by SSRC.

        They are the caller's from now on.
        """
        slots = self._kept.pop(self._name(key), [])
        return {int(self._table["ssrc"][slot]): (slot, int(self._index[slot])) for slot in slots}

    def add(self, key: bytes, ssrc: int) -> int:
        """A slot for a stream; -1 where the file is full of living ones: then a restart cannot go on with it."""
        if not self._free:
            self.forget_unclaimed()
        if not self._free:
            return -1
        slot: int = self._free.pop()
        self._table[slot] = (self._name(key), 0, ssrc, 0)
        self._table["check"][slot] = self._check(slot)
        return slot

    def store(self, slot: int, index: int) -> None:
        """Remembers the highest index of a stream: one aligned word, so that a crash leaves the old or the new one."""
        if slot >= 0:
            self._index[slot] = index

    def free(self, slot: int) -> None:
        if slot >= 0:
            self._table[slot] = _EMPTY
            self._free.append(slot)

    def forget_unclaimed(self) -> int:
        """Frees what an earlier process left and nobody asked for; how many."""
        slots = [slot for group in self._kept.values() for slot in group]
        for slot in slots:
            self.free(slot)
        self._kept.clear()
        return len(slots)

    def close(self) -> None:
        """Unmaps the file; what is in it stays."""
        del self._index, self._table
        self._map.close()
