"""A pool on the guest's empty disks."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Shell = Callable[..., str]
LABEL = 4 << 20  # bytes before the first block that an address counts from


def blocks(dataset: str, number: int, sh: Shell) -> list[int]:
    """Where a file's blocks of data lie on a disk, in bytes from its beginning."""
    told = sh("zdb", "-ddddd", dataset, str(number))
    return [int(found, 16) + LABEL for found in re.findall(r"\bL0 0:([0-9a-f]+):", told)]


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def sh() -> Shell:
    """Runs a program; gives its standard output. Fails the test with what it said where it fails."""

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    return run


@pytest.fixture(scope="session")
def disks() -> list[str]:
    """The paths of the guest's data disks."""
    found = sorted(
        str(path) for path in Path("/dev/disk/by-id").glob("virtio-d*") if "-part" not in path.name
    )
    assert len(found) >= 2, "the guest has no data disks"
    return found


@pytest.fixture(scope="module")
def pool(disks: list[str], sh: Shell) -> Iterator[str]:
    """A mirror; gone after the module."""
    sh(
        "zpool",
        "create",
        "-f",
        "-o",
        "ashift=12",
        "-O",
        "canmount=off",
        "-O",
        "atime=off",
        "inside",
        "mirror",
        *disks[:2],
    )
    yield "inside"
    sh("zpool", "destroy", "-f", "inside")
