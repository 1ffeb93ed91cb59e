"""A pool on the guest's disks."""

from __future__ import annotations

import json
import os
from pathlib import Path

from conftest import Shell, blocks


def test_a_mirror_is_online_and_scrubs_clean(pool: str, disks: list[str], sh: Shell) -> None:
    sh("zpool", "scrub", "-w", pool)
    found = json.loads(sh("zpool", "status", "-j", pool))["pools"][pool]
    assert found["state"] == "ONLINE"
    assert found["error_count"] == "0"
    (mirror,) = found["vdevs"][pool]["vdevs"].values()
    assert mirror["vdev_type"] == "mirror"
    assert {Path(leaf["path"]).name.split("-part")[0] for leaf in mirror["vdevs"].values()} == {
        Path(disk).name for disk in disks[:2]
    }


def test_damage_on_one_side_is_found_and_repaired(pool: str, disks: list[str], sh: Shell) -> None:
    sh(
        "zfs",
        "create",
        "-o",
        "compression=off",
        "-o",
        "mountpoint=/damaged",
        "-o",
        "canmount=on",
        f"{pool}/damaged",
    )
    data = b"whole" * 200_000
    Path("/damaged/file").write_bytes(data)
    sh("zpool", "sync", pool)
    with open(f"{disks[0]}-part1", "r+b") as part:
        for address in blocks(f"{pool}/damaged", os.stat("/damaged/file").st_ino, sh):
            part.seek(address)
            part.write(os.urandom(4096))
        part.flush()
        os.fsync(part.fileno())
    sh("zpool", "scrub", "-w", pool)
    found = json.loads(sh("zpool", "status", "-j", "--json-int", pool))["pools"][pool]
    assert found["error_count"] == 0, "the other side had everything"
    assert found["scan_stats"]["processed"] > 0, "something was repaired"
    assert Path("/damaged/file").read_bytes() == data
    sh("zpool", "clear", pool)
    sh("zfs", "destroy", f"{pool}/damaged")


def test_an_injected_write_error_degrades_the_disk_that_has_it(
    pool: str, disks: list[str], sh: Shell
) -> None:
    sh("zfs", "create", "-o", "mountpoint=/injected", "-o", "canmount=on", f"{pool}/injected")
    sh("zinject", "-d", Path(disks[0]).name, "-e", "io", "-T", "write", pool)
    try:
        Path("/injected/file").write_bytes(b"x" * 1_000_000)
        sh("zpool", "sync", pool)
        found = json.loads(sh("zpool", "status", "-j", "--json-int", pool))["pools"][pool]
        (mirror,) = found["vdevs"][pool]["vdevs"].values()
        errors = {name: leaf["write_errors"] for name, leaf in mirror["vdevs"].items()}
        assert errors[Path(disks[0]).name] > 0
        assert errors[Path(disks[1]).name] == 0
        assert Path("/injected/file").read_bytes() == b"x" * 1_000_000
    finally:
        sh("zinject", "-c", "all")
        sh("zpool", "clear", pool)
        sh("zfs", "destroy", f"{pool}/injected")
