"""What is on a disk when its power goes: all that was flushed, and of what was written since what chance leaves.

QEMU notes what a guest writes and flushes in a log (its driver `blklogwrites`, the format of Linux' dm-log-writes). A
killed QEMU alone loses nothing, because the host's page cache outlives it; so that a missing fsync shows, the disk is made
anew from what it held at the start and from that log.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from image.commands import run
from image.errors import GuestError

_SUPER: Final = struct.Struct("<QQQI")  # magic, version, entries up to the last flush, bytes in a sector
_ENTRY: Final = struct.Struct("<QQQQ")  # first sector, sectors, flags, bytes of a mark
_MAGIC: Final = 0x6A736677736872
_FLUSH, _FUA, _DISCARD = 1, 2, 4
BLOCK: Final = 4096  # bytes that a disk writes whole or not at all
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One request of a guest. `start`, `length`: on the disk; `at`: of its data in the log; all in bytes."""

    start: int
    length: int
    flags: int
    at: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What a power cut did to one disk. `unflushed`: blocks that were written since the last flush; `gone`: of those;
    `flushed`: blocks that were written before it."""

    unflushed: int = 0
    gone: int = 0
    flushed: int = 0

    def __add__(self, other: Lost) -> Lost:
        return Lost(self.unflushed + other.unflushed, self.gone + other.gone, self.flushed + other.flushed)


def options(name: str, file: str) -> str:
    """QEMU's words for a disk whose writes are noted. Flushes are noted, too, and end there."""
    return (
        f"driver=blklogwrites,node-name=node-{name},discard=unmap,"
        f"log.driver=file,log.filename={log_of(file)},log.cache.no-flush=on,"
        f"file.driver=raw,file.discard=unmap,file.cache.no-flush=on,file.file.driver=file,file.file.filename={file}"
    )


def log_of(file: str) -> str:
    """The name of a disk's log."""
    return f"{file}.log"


def _before(disk: Path) -> Path:
    return disk.with_name(f"{disk.name}.before")


def begin(disk: Path) -> None:
    """Before a start: keeps what the disk holds, and empties its log."""
    run(["cp", "--sparse=always", "--reflink=auto", disk, _before(disk)])
    disk.with_name(log_of(disk.name)).write_bytes(b"")


def cut(disk: Path, chance: random.Random) -> Lost:
    """After a power cut: the disk as it is then. `GuestError` where its log is none."""
    before, log = _before(disk), disk.with_name(log_of(disk.name))
    with open(log, "rb") as noted, open(before, "r+b") as file:
        entries = list(read(noted))
        sure = max((number for number, one in enumerate(entries) if one.flags & _FLUSH), default=-1)
        part = chance.choice((0.0, 0.5, 0.9))  # of the unflushed blocks that were written all the same
        unflushed = gone = flushed = 0
        for number, one in enumerate(entries):
            if number <= sure or one.flags & _FUA:
                _put(file, one, noted, 0, one.length)
                flushed += -(-one.length // BLOCK)
                continue
            for first in range(0, one.length, BLOCK):
                kept = chance.random() < part
                unflushed, gone = unflushed + 1, gone + (not kept)
                if kept:
                    _put(file, one, noted, first, min(BLOCK, one.length - first))
    shutil.move(before, disk)
    return Lost(unflushed, gone, flushed)


def read(log: BinaryIO) -> Iterator[Entry]:
    """The log's entries, in order. It ends where QEMU was killed: what follows is zeros or nothing."""
    head = log.read(_SUPER.size)
    if not head:
        return  # nothing was ever written
    magic, _, _, sector = _SUPER.unpack(head.ljust(_SUPER.size, b"\0"))
    if not magic and not sector:
        sector = 512  # the head is written at the first flush
    elif magic != _MAGIC:
        raise GuestError(f"{log.name} is no log of a disk")
    at = sector
    while True:
        log.seek(at)
        raw = log.read(_ENTRY.size)
        if len(raw) < _ENTRY.size:
            return
        start, count, flags, _ = _ENTRY.unpack(raw)
        if not count and not flags:
            return
        at += sector
        yield Entry(start * sector, count * sector, flags, at)
        if not flags & _DISCARD:
            at += count * sector


def _put(file: BinaryIO, one: Entry, log: BinaryIO, first: int, length: int) -> None:
    """Writes a part of an entry to the disk; what was discarded reads as zeros."""
    for done in range(first, first + length, _PIECE):
        size = min(_PIECE, first + length - done)
        if one.flags & _DISCARD:
            raw = bytes(size)
        else:
            raw = os.pread(log.fileno(), size, one.at + done).ljust(size, b"\0")
        os.pwrite(file.fileno(), raw, one.start + done)
