"""Exit packs onto a disk (`disk = true`), with real mounts: not there, full, pulled in the middle and back again."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "whole"))
import whole_kit as kit
from embedded_kit import started

import earwitness.verify.exitpack as verifier
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.config.exits import ExitFolder
from appliance.packs.errors import ExitSpaceError, ExitTargetAwayError
from appliance.packs.exittargets import PARTIAL, FolderTarget

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
BUSY_S = 180  # for one step, on a busy machine
CALLS = 24
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
SIZE = 16 << 20


@pytest.fixture(scope="module")
def mounts() -> Iterator[None]:
    """What is mounted from here on nobody else sees, and it is gone afterwards, whatever becomes of the tests."""
    libc, here = ctypes.CDLL(None, use_errno=True), os.getcwd()
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(NEW_MOUNTS) != 0:
            pytest.skip(f"mounting is not permitted here: {os.strerror(ctypes.get_errno())}")
        try:
            done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
            yield
        finally:
            assert libc.setns(before, NEW_MOUNTS) == 0, os.strerror(ctypes.get_errno())
            os.chdir(here)
    finally:
        os.close(before)


class Disk:
    """A small disk that can be plugged into its mount point, and pulled, and that keeps what it holds meanwhile."""

    def __init__(self, root: Path) -> None:
        self.itself, self.point = root / "itself", root / "exit"
        for folder in (self.itself, self.point):
            folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={SIZE}", "disk", str(self.itself))

    @staticmethod
    def _mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    def plug(self) -> None:
        self._mount("--bind", str(self.itself), str(self.point))

    def pull(self) -> None:
        """As if it were torn out: what is open on it stays open."""
        subprocess.run(["umount", "--lazy", str(self.point)], check=True)

    def fill(self) -> None:
        with (self.itself / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 12))
            except OSError:
                return

    def clear(self) -> None:
        (self.itself / "ballast").unlink()


@pytest.fixture
def disk(mounts: None, tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def target(disk: Disk) -> FolderTarget:
    return FolderTarget(ExitFolder(path=disk.point, disk=True), (), "earwitness-exit-x")


def nothing_below(disk: Disk) -> bool:
    """That the mount point is empty, looked at while nothing is mounted there."""
    assert not os.path.ismount(disk.point)
    return not list(disk.point.iterdir())


def test_where_no_disk_is_mounted_nothing_is_written(disk: Disk) -> None:
    for begun in (False, True):
        with pytest.raises(ExitTargetAwayError) as caught:
            target(disk).open(begun=begun)
        assert caught.value.data["code"] == "NOT_MOUNTED" and nothing_below(disk)


@pytest.mark.parametrize("step", ["put", "drop", "finish", "remove"])
def test_what_is_open_on_a_pulled_disk_is_used_no_more(disk: Disk, step: str) -> None:
    disk.plug()
    opened = target(disk)
    assert not opened.open(begun=False)
    opened.put("a/b", [b"whole"])
    disk.pull()
    steps: dict[str, Any] = {
        "put": lambda: opened.put("a/c", [b"lost"]),
        "drop": lambda: opened.drop("a"),
        "finish": opened.finish,
        "remove": opened.remove,
    }
    with pytest.raises(ExitTargetAwayError) as caught:
        steps[step]()
    assert caught.value.data["code"] == "NOT_MOUNTED" and nothing_below(disk)
    assert sorted(one.name for one in (disk.itself / f"earwitness-exit-x{PARTIAL}" / "a").iterdir()) == ["b"]
    opened.close()
    disk.plug()
    again = target(disk)
    assert not again.open(begun=True)
    steps = {"put": lambda: again.put("a/c", [b"kept"]), "drop": lambda: again.drop("a")}
    (steps.get(step) or again.finish)()
    again.close()


def test_another_disk_is_not_taken_for_the_one_it_was_begun_on(disk: Disk, tmp_path: Path) -> None:
    disk.plug()
    opened = target(disk)
    opened.open(begun=False)
    opened.close()
    disk.pull()
    (tmp_path / "other").mkdir()
    other = Disk(tmp_path / "other")
    subprocess.run(["mount", "--bind", str(other.itself), str(disk.point)], check=True)
    with pytest.raises(ExitTargetAwayError) as caught:
        target(disk).open(begun=True)
    assert caught.value.data["code"] == "PACK_AWAY" and not list(other.itself.iterdir())


def test_a_disk_that_fills_says_what_is_needed(disk: Disk) -> None:
    disk.plug()
    opened = target(disk)
    opened.open(begun=False)
    with pytest.raises(ExitSpaceError) as caught:
        opened.put("large", (bytes(1 << 20) for _ in range(SIZE >> 19)))
    assert caught.value.data["needed"] >= SIZE * 0.9 and caught.value.data["free"] < 1 << 20
    opened.close()


@pytest.fixture(scope="module")
def plugged(mounts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedBox, Disk]]:
    """A served box with recordings, and the disk that it may write exit packs to."""
    root = tmp_path_factory.mktemp("exit-disk")
    disk, site = Disk(root), root / "site.toml"
    site.write_text(f'[[exit.folders]]\npath = "{disk.point}"\ndisk = true\n')
    with started(root / "data", "--config", str(site)) as box:
        kit.call_each(box, CALLS)
        yield box, disk


def create(box: EmbeddedBox, disk: Disk, *, code: int = 0) -> Any:
    tenant = kit.recordings(box)[0]["name"].rsplit("/", 2)[0]
    return kit.cli(
        box, "exit-pack", "create", "--tenant", tenant, "--folder", str(disk.point), "--sealed", code=code
    )


def test_a_box_waits_for_a_disk_that_is_not_there_or_full_or_pulled(
    plugged: tuple[EmbeddedBox, Disk],
) -> None:
    box, disk = plugged
    assert "EXIT_TARGET_AWAY" in create(box, disk, code=5) and nothing_below(disk)
    disk.plug()
    with kit.slow(kit.pid_of(box, "vault")):
        operation = create(box, disk)["operation"]["name"]

        def shown() -> Any:
            return kit.until(lambda: kit.operation(box, operation), "it answers", BUSY_S)

        kit.until(lambda: shown().done_count >= 2, "recordings are on it", BUSY_S)
        disk.fill()
        full = kit.until(lambda: (one := shown()).exit_pack.waiting and one, "it waits for space", BUSY_S)
        assert full.exit_pack.waiting == "EXIT_SPACE" and full.exit_pack.needed_bytes > 0
        disk.clear()
        kit.until(lambda: shown().done_count >= full.done_count + 2, "it goes on", BUSY_S)
        disk.pull()
        away = kit.until(lambda: (one := shown()).exit_pack.waiting and one, "it waits for the disk", BUSY_S)
        assert away.exit_pack.waiting == "EXIT_TARGET_AWAY" and nothing_below(disk)
        assert away.done_count < CALLS, "it was pulled in the middle"
    disk.plug()
    last = kit.until(lambda: (one := shown()).HasField("end_time") and one, "it ends", BUSY_S)
    assert (last.exit_pack.recording_count, last.exit_pack.problem_count) == (CALLS, 0)
    (pack,) = disk.point.iterdir()
    found = verifier.check(pack)
    assert (found.wrong, len(found.recordings)) == ([], CALLS)
    journals = list((box.layout.control / "exit").iterdir())
    assert not journals and json.loads((pack / "pack.json").read_text())["complete"]
