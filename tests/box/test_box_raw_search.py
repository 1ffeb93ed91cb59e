"""After erasure a search of the raw disks, pool and keystore, finds neither a data key nor what was said."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image.guest.session import Guest

PLANTED = b"the patient said that nobody must ever hear of this"
STATE = "/dev/disk/by-id/virtio-d3"
MARK = b"this is on the disk, so that a search that finds nothing is known to look"

pytestmark = pytest.mark.timeout(1200)


def found_in(disks: list[Path], wanted: bytes) -> Iterator[str]:
    """Which disks have these bytes anywhere."""
    for disk in disks:
        with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            if raw.find(wanted) >= 0:
                yield disk.name


def test_neither_keys_nor_words_are_on_any_disk(boot: Callable[[int], Guest]) -> None:
    guest = boot(3)
    pool = ["zpool", "create", "-f", "-o", "ashift=12", "-O", "canmount=off", "-O", "mountpoint=none", "tank"]
    guest.run([*pool, "mirror", "virtio-d1", "virtio-d2"])
    guest.run(["sh", "-c", f"mkfs.ext4 -q {STATE} && mkdir -p /state && mount {STATE} /state"])
    guest.run(["zfs", "create", "-o", "compression=off", "-o", "mountpoint=/mark", "tank/mark"])
    for place in ("/mark/mark", "/state/mark"):
        guest.put(MARK * 100, place)
    result = guest.run(["python", "/srv/earwitness/tests/box/scenes/erase.py"], 600)
    (line,) = [line for line in result.text.splitlines() if line.startswith("planted ")]
    planted = json.loads(line.removeprefix("planted "))
    guest.run(["sh", "-c", "umount /state && zpool export tank && sync"])
    disks = [guest.folder / disk.file for disk in guest.spec.disks]
    guest.kill()
    assert sorted(found_in(disks, MARK)) == sorted(disk.name for disk in disks), (
        "the search sees what is there"
    )
    secrets = [bytes.fromhex(key) for key in (*planted["erased"], planted["kept"], planted["bucket"])]
    for secret in (*secrets, *(secret[:16] for secret in secrets), PLANTED, PLANTED[:24]):
        assert list(found_in(disks, secret)) == []
    guest.close()
