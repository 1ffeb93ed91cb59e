"""A pool that stops, loses a disk or the power, as the vault's store tells it: never a hang, and it goes on by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from image.guest.session import Guest, Job

SCENE = "tests/box/scenes/pool_trouble.py"
DEADLINE_S = 6.0  # of the scene's calls
SLACK_S = 3.0  # an emulated machine is slow, and the store looks at the pool's state twice
HEALTH_S = 1.5

pytestmark = pytest.mark.timeout(900)


class Scene:
    """What the scene says, line by line."""

    def __init__(self, guest: Guest, pool: str, what: str) -> None:
        guest.run(["rm", "-f", "/run/trouble/stop", "/run/trouble/pause"])
        self.guest = guest
        self.job: Job = guest.begin(["python", SCENE, pool, what])
        self.said: list[dict[str, Any]] = []
        self.heard = 0

    def hear(self) -> list[dict[str, Any]]:
        """Lines that are new."""
        self.job.poll(0.5)
        *lines, _ = self.job.out[self.heard :].split(b"\n")
        self.heard += sum(len(line) + 1 for line in lines)
        fresh = [json.loads(line) for line in lines if line.startswith(b"{")]
        self.said += fresh
        return fresh

    def until(self, true: Callable[[dict[str, Any]], bool], seconds: float = 150.0) -> dict[str, Any]:
        """The first new line of which this is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.hear():
                if true(line):
                    return line
        raise AssertionError(f"it was never said: {self.said[-12:]} {self.job.err[-2000:]!r}")


def ended(name: str, how: str) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line.get("call") == name and how in [line["ended"], *line["ended"]]


def none_waited_too_long(said: list[dict[str, Any]]) -> None:
    for line in said:
        if "call" in line:
            most = HEALTH_S if line["call"] == "health" else DEADLINE_S + SLACK_S
            assert line["seconds"] < most, line


def test_a_suspended_pool_is_told_nothing_hangs_and_it_goes_on_by_itself(guest: Guest) -> None:
    third = guest.spec.disks[2]
    guest.run(["zpool", "create", "-f", "-O", "mountpoint=none", "lonely", "virtio-d3"])
    scene = Scene(guest, "lonely", "watch")
    scene.until(ended("write", "ok"))
    guest.run(["touch", "/run/trouble/pause"])
    scene.until(lambda line: "paused" in line)
    guest.run(["zpool", "sync", "lonely"])
    guest.unplug(third)
    guest.run(["zpool", "reopen", "lonely"])  # the disk is missed before anybody writes
    guest.run(["rm", "/run/trouble/pause"])
    scene.until(ended("write", "STORE_SUSPENDED"))
    scene.until(ended("health", "PoolSuspended"))
    for _ in range(3):
        scene.until(ended("read", "STORE_SUSPENDED"))
    none_waited_too_long(scene.said)
    guest.plug(third)
    guest.settle()
    guest.run(["zpool", "clear", "lonely"])
    for call in ("write", "snapshot", "destroy", "read"):
        scene.until(ended(call, "ok"))
    scene.until(
        lambda line: line.get("call") == "health" and not {"PoolSuspended", "PoolStuck"} & set(line["ended"])
    )
    guest.run(["touch", "/run/trouble/stop"])
    assert scene.job.wait(120).code == 0
    guest.run(["zpool", "destroy", "-f", "lonely"])


def test_a_disk_that_goes_in_the_midst_of_a_write_is_told_and_nothing_hangs(guest: Guest) -> None:
    """OpenZFS may go on trying then, and never call the pool suspended: calls are given up one by one all the same."""
    third = guest.spec.disks[2]
    guest.run(["zpool", "create", "-f", "-O", "mountpoint=none", "lonely", "virtio-d3"])
    scene = Scene(guest, "lonely", "watch")
    scene.until(ended("write", "ok"))
    guest.unplug(third)
    scene.until(lambda line: line.get("call") == "write" and line["ended"].startswith("STORE_"))
    scene.until(
        lambda line: line.get("call") == "health" and {"PoolSuspended", "PoolStuck"} & set(line["ended"])
    )
    ends(guest, scene)
    again(guest)


def ends(guest: Guest, scene: Scene) -> None:
    """The process ends though the pool never answers, and no call before that took too long."""
    none_waited_too_long(scene.said)
    guest.run(["touch", "/run/trouble/stop"])
    assert scene.until(lambda line: "closed" in line)["closed"] < 30
    assert scene.job.wait(30).code == 0


def again(guest: Guest) -> None:
    """Nothing else than the power ends such a pool for certain."""
    guest.kill()
    guest.start()
    guest.run(["zpool", "import", "-d", "/dev/disk/by-id", "lonely"])
    guest.run(["zpool", "destroy", "-f", "lonely"])


def test_a_mirror_that_loses_a_disk_goes_on_and_says_so(guest: Guest, pool: str) -> None:
    second = guest.spec.disks[1]
    scene = Scene(guest, pool, "watch")
    scene.until(ended("write", "ok"))
    guest.unplug(second)
    scene.until(ended("health", "PoolDegraded"))
    scene.until(ended("write", "ok"))
    guest.plug(second)
    guest.settle()
    guest.run(["zpool", "online", pool, "virtio-d2"])
    guest.run(["zpool", "wait", "-t", "resilver", pool])
    guest.run(["zpool", "clear", pool])
    scene.until(lambda line: line.get("call") == "health" and line["ended"] == [])
    none_waited_too_long(scene.said)
    guest.run(["touch", "/run/trouble/stop"])
    assert scene.job.wait(120).code == 0


def test_after_a_power_cut_a_bucket_is_completed_before_it_is_snapshotted(guest: Guest, pool: str) -> None:
    """The pool of these tests writes to disk only when it must, so what was just filed is in the intent log alone."""
    scene = Scene(guest, pool, "fill")
    written = sorted(scene.until(lambda line: "written" in line)["written"])
    guest.kill()
    guest.start()
    guest.run(["zpool", "import", "-d", "/dev/disk/by-id", pool])
    told = guest.run(["python", SCENE, pool, "check"], timeout=300).text.splitlines()
    said = [json.loads(line) for line in told if line.startswith("{")]
    assert said == [
        {"state": "locked"},
        {"refused": "BUCKET_LOCKED"},
        {"found": written, "now": written},
        {"strangers": []},
    ]
