"""The guest for tests on this machine. Inside the guest only `inside/` is collected, on this machine all but that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image.cache import Cache
from image.guest.root import Recipe
from image.guest.session import Guest
from image.guest.spec import Disk, Spec

ROOT = Path(__file__).resolve().parents[2]
DISK = 1 << 30  # bytes, sparse

IN_GUEST = "EARWITNESS_GUEST" in os.environ
FULL = os.environ.get("EARWITNESS_BOX_FULL", "") not in ("", "0")
collect_ignore = [] if IN_GUEST else ["inside"]
if not FULL:
    collect_ignore.append("test_pool_trouble.py")  # waits for deadlines that a busy emulated machine misses

Boot = Callable[..., Guest]  # so many disks, their size, and whether a power cut loses what was not flushed
FOUND = "found in the guest"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Has a line written at the end of the run, whichever process a test ran in."""
    return lambda line: record_property(FOUND, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests told: here a whole suite in the guest is one test."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call" and not hasattr(report, "context"):
                for name, line in report.user_properties:
                    if name == FOUND:
                        terminalreporter.write_line(f"in the guest, {line}")


@pytest.fixture(scope="session")
def guest_image() -> Path:
    """The built image. Building it from nothing takes longer than a test may: `make test-box` does it before."""
    return Recipe(Cache(), ROOT / "requirements" / "dev.lock").get()


@pytest.fixture(scope="session")
def boot(guest_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boot]:
    """Boots guests with so many data disks (d1, d2, …) and the checkout in them; all are gone at the end."""
    guests: list[Guest] = []

    def make(disks: int, size: int = DISK, *, lossy: bool = False) -> Guest:
        spec = Spec(disks=tuple(Disk(f"d{number}", size) for number in range(1, disks + 1)), lossy=lossy)
        guest = Guest(tmp_path_factory.mktemp("guest") / "guest", guest_image, spec)
        guests.append(guest)
        guest.create()
        guest.start()
        guest.sync(ROOT)
        return guest

    yield make
    for guest in guests:
        if guest.folder.exists():
            guest.close()


@pytest.fixture(scope="session")
def shared(boot: Boot) -> Guest:
    """One guest with three disks for the tests of this machine's side."""
    return boot(3)


@pytest.fixture
def guest(shared: Guest) -> Guest:
    """The shared guest, running, without a pool. One that a test has left dead is cut and started again."""
    if not shared.alive():
        if shared.pid() is not None:
            shared.kill()
        shared.start()
    return shared


@pytest.fixture
def pool(guest: Guest) -> Iterator[str]:
    """A mirror of d1 and d2 that no dataset lives in yet, and that writes to disk only when it must.

    So a test that cuts the power knows what was written: what was synced, and nothing else.
    """
    guest.run(
        [
            "zpool",
            "create",
            "-f",
            "-o",
            "ashift=12",
            "-O",
            "canmount=off",
            "tank",
            "mirror",
            "virtio-d1",
            "virtio-d2",
        ]
    )
    guest.run(["sh", "-c", "echo 3600 > /sys/module/zfs/parameters/zfs_txg_timeout"])
    yield "tank"
    if not guest.alive():
        guest.kill()
        guest.start()
    if guest.run(["zpool", "list", "-H", "tank"], check=False).code:
        guest.run(["zpool", "import", "-d", "/dev/disk/by-id", "tank"])
    guest.run(["zpool", "destroy", "-f", "tank"])
