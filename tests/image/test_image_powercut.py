"""What a power cut leaves of a disk, by the log of what was written to it."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from image.errors import GuestError
from image.guest import powercut
from image.guest.powercut import BLOCK, Lost
from image.guest.spec import Disk, Spec, command

SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4
MAGIC = 0x6A736677736872
SIZE = 64 * BLOCK


class Part(random.Random):
    """Keeps this part of what was not flushed: the first offered is nothing, the last nearly all."""

    def __init__(self, place: int) -> None:
        super().__init__(1)
        self.place = place

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[self.place]


def entry(start: int = 0, data: bytes = b"", flags: int = 0, length: int = 0) -> bytes:
    """A request: a write of data, a flush, or a discard of `length` bytes."""
    head = struct.pack("<QQQQ", start // SECTOR, (length or len(data)) // SECTOR, flags, 0)
    return head.ljust(SECTOR, b"\0") + data


def write(block: int, letter: bytes, flags: int = 0, count: int = 1) -> bytes:
    return entry(block * BLOCK, letter * BLOCK * count, flags)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Full of dots when the machine starts, of question marks when it is killed: what it holds then does not count."""
    path = tmp_path / "disk"
    path.write_bytes(b"." * SIZE)
    powercut.begin(path)
    path.write_bytes(b"?" * SIZE)
    return path


def noted(disk: Path, *entries: bytes, tail: bytes = b"") -> None:
    head = struct.pack("<QQQI", MAGIC, 1, 0, SECTOR).ljust(SECTOR, b"\0")
    disk.with_name("disk.log").write_bytes(head + b"".join(entries) + tail)


def blocks(disk: Path) -> str:
    raw = disk.read_bytes()
    assert len(raw) == SIZE
    return "".join(chr(raw[at]) for at in range(0, 8 * BLOCK, BLOCK))


def test_what_was_flushed_stays_and_the_rest_goes(disk: Path) -> None:
    noted(disk, write(0, b"a"), entry(flags=FLUSH), write(1, b"b"), write(0, b"c"))
    assert powercut.cut(disk, Part(0)) == Lost(unflushed=2, gone=2, flushed=1)
    assert blocks(disk) == "a......."


def test_a_later_flush_covers_all_before_it(disk: Path) -> None:
    noted(disk, write(0, b"a"), entry(flags=FLUSH), write(1, b"b"), write(0, b"c"), entry(flags=FLUSH))
    assert powercut.cut(disk, Part(0)) == Lost(flushed=3)
    assert blocks(disk) == "cb......"


def test_a_write_through_stays_without_a_flush(disk: Path) -> None:
    noted(disk, write(0, b"a"), write(1, b"b", FUA))
    assert powercut.cut(disk, Part(0)) == Lost(1, 1, 1)
    assert blocks(disk) == ".b......"


def test_what_was_discarded_is_gone_where_that_was_flushed(disk: Path) -> None:
    gone = entry(0, flags=DISCARD, length=2 * BLOCK)
    noted(disk, gone, write(1, b"b"), entry(flags=FLUSH), entry(2 * BLOCK, flags=DISCARD, length=BLOCK))
    assert powercut.cut(disk, Part(0)) == Lost(1, 1, 3)
    assert blocks(disk) == "\0b......"


def test_of_what_was_not_flushed_some_blocks_stay_and_a_large_write_is_torn(disk: Path) -> None:
    noted(disk, write(0, b"a", count=8))
    lost = powercut.cut(disk, Part(1))
    assert lost.unflushed == 8 and 0 < lost.gone < 8
    assert sorted(set(blocks(disk))) == [".", "a"]


def test_a_log_that_was_broken_off_ends_there(disk: Path) -> None:
    noted(disk, write(0, b"a"), entry(flags=FLUSH), tail=bytes(3 * SECTOR))
    powercut.cut(disk, Part(0))
    assert blocks(disk) == "a......."
    powercut.begin(disk)
    noted(disk, write(1, b"b"), entry(flags=FLUSH), tail=b"\1" * 10)
    powercut.cut(disk, Part(0))
    assert blocks(disk) == "ab......"


def test_a_disk_that_nobody_wrote_to_is_as_it_was(disk: Path) -> None:
    assert powercut.cut(disk, Part(0)) == Lost()
    assert blocks(disk) == "........"


def test_a_file_that_is_no_log_is_refused_and_the_disk_stays(disk: Path) -> None:
    disk.with_name("disk.log").write_bytes(b"something else".ljust(2 * SECTOR, b"."))
    with pytest.raises(GuestError, match="no log"):
        powercut.cut(disk, Part(0))
    assert blocks(disk) == "????????"


def test_only_a_lossy_guest_has_its_writes_noted() -> None:
    for lossy in (False, True):
        words = " ".join(command(Spec(disks=(Disk("d1", 1 << 20),), lossy=lossy), Path("vmlinux")))
        assert ("blklogwrites" in words) == lossy
        assert "drive=node-d1" in words
    assert Spec.loads(Spec(lossy=True).dumps()).lossy
