"""The reset button and a power cut: what was synced is there afterwards, what was not is gone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from image.guest.session import Guest

pytestmark = pytest.mark.timeout(400)


def cut(guest: Guest) -> None:
    """Pulls the plug, and puts it back."""
    guest.kill()
    guest.start()


def reset(guest: Guest) -> None:
    """Presses the button."""
    guest.reset()


@pytest.mark.parametrize("stop", [cut, reset])
def test_what_was_synced_survives_and_what_was_not_is_gone(
    guest: Guest, pool: str, stop: Callable[[Guest], None]
) -> None:
    before = guest.get("/proc/sys/kernel/random/boot_id")
    guest.run(["zfs", "create", "-o", "canmount=on", "-o", "mountpoint=/synced", f"{pool}/data"])
    write = (
        "import os; f = open('/synced/kept', 'wb'); f.write(b'kept' * 1000); f.flush(); os.fsync(f.fileno())"
    )
    guest.run(["python", "-c", write])
    guest.run(
        ["mount", "-o", "remount,commit=300", "/"]
    )  # the root disk, too, is written only when it must be
    guest.run(
        [
            "sh",
            "-c",
            "echo lost > /synced/lost; echo kept > /var/kept; sync -f /var; echo lost > /var/lost",
        ]
    )
    stop(guest)
    assert guest.get("/proc/sys/kernel/random/boot_id") != before, "it booted anew"
    assert guest.run(["zpool", "list", "-H"], check=False).text == "", "no pool comes by itself"
    guest.run(["zpool", "import", "-d", "/dev/disk/by-id", pool])
    assert guest.get("/synced/kept") == b"kept" * 1000
    assert guest.run(["ls", "/synced"]).text == "kept"
    assert guest.get("/var/kept") == b"kept\n"
    assert guest.run(["ls", "-A", "/var/lost"], check=False).code != 0


def test_the_disks_are_the_same_after_a_start(guest: Guest) -> None:
    guest.run(["sh", "-c", "echo mark | dd of=/dev/disk/by-id/virtio-d3 conv=notrunc,fsync status=none"])
    cut(guest)
    assert guest.run(["head", "-c", "5", "/dev/disk/by-id/virtio-d3"]).out == b"mark\n"
    assert guest.run(["readlink", "-f", "/dev/disk/by-id/virtio-d3"]).text == "/dev/vdd", (
        "names keep their order"
    )


class Nothing(random.Random):
    """Leaves nothing that was not flushed."""

    def choice(self, seq: Sequence[Any]) -> Any:
        return seq[0]


def test_the_power_of_a_lossy_guest_takes_what_its_disks_had_not_flushed(
    boot: Callable[..., Guest],
) -> None:
    guest = boot(1, lossy=True)
    guest.chance = Nothing()
    disk = "/dev/disk/by-id/virtio-d1"

    def put(letter: str, place: int, *words: str) -> None:
        fill = f"yes {letter} | tr -d '\\n' | head -c 8192"
        guest.run(["sh", "-c", f"{fill} | dd of={disk} bs=4096 seek={place} oflag=direct {' '.join(words)}"])

    def letters() -> str:
        raw = guest.run(["dd", f"if={disk}", "bs=4096", "count=6", "iflag=direct"]).out
        return "".join(chr(raw[at]) for at in range(0, len(raw), 4096))

    put("a", 0, "conv=fsync")
    put("b", 2)
    assert letters() == "aabb\0\0"
    reset(guest)
    assert letters() == "aabb\0\0", "a reset leaves a disk its power"
    cut(guest)
    assert letters() == "aa\0\0\0\0"
    assert guest.lost.gone == 2
    put("c", 4, "conv=fsync")
    cut(guest)
    assert letters() == "aa\0\0cc", "a flush covers what was written before it, since the last start too"
    guest.close()
