"""Power cuts and resets at any moment under load: nothing that was said to be durable is lost, and all is clean again.

With the power goes what the disks had not flushed; a reset leaves them theirs.

EARWITNESS_BOX_ROUNDS says how often (3 where nobody says; 30 is what a release is held to).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from image.guest.session import Guest, Job

ROUNDS = int(os.environ.get("EARWITNESS_BOX_ROUNDS", "3"))
LOAD = "/srv/earwitness/tests/box/scenes/load.py"
STATE = "/dev/disk/by-id/virtio-d3"

pytestmark = pytest.mark.timeout(900 + 240 * ROUNDS)


@dataclass
class Known:
    """What the load said: by recording its state and digest (empty where the power went before it was said), and what
    it was doing when the power went."""

    states: dict[str, list[str]] = field(default_factory=dict)
    doing: list[str] = field(default_factory=list)
    working: bool = False
    heard: int = 0  # bytes of the present load's output

    def hear(self, line: str) -> None:
        words = line.split()
        match words:
            case ["doing", verb, *names]:
                self.doing = [verb, *names]
            case ["done", "filed", name, sha]:
                self.states[name] = ["filed", sha]
                self.doing = []
            case ["done", "expired", *names]:
                for name in names:
                    self.states[name] = ["erased", ""]
                self.doing = []
            case ["done", state, *names]:
                for name in names:
                    self.states[name] = [state, self.states.get(name, ["", ""])[1]]
                self.doing = []
            case ["checked", *rest]:
                found = json.loads(" ".join(rest))["states"]
                for name, state in found.items():
                    if name in self.states:
                        self.states[name] = [state, self.states[name][1]]
                self.states = {name: what for name, what in self.states.items() if name in found}
                self.doing = []
            case ["working", *_]:
                self.working = True
            case ["error", *_]:
                raise AssertionError(line)


def mount(guest: Guest) -> None:
    guest.run(["sh", "-c", f"mkdir -p /state && mount -o data=ordered {STATE} /state"])


def listen(job: Job, known: Known, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """Hears the load for a while, or until that is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        code = job.poll(0.2)
        whole = bytes(job.out).decode()
        *lines, _ = whole[known.heard :].split("\n")
        for line in lines:
            known.heard += len(line) + 1
            known.hear(line)
        assert code is None, f"the load ended by itself: {whole[-2000:]} {bytes(job.err).decode()[-4000:]}"


def test_resets_at_random_moments_lose_nothing_that_was_durable(
    boot: Callable[..., Guest], tell: Callable[[str], None]
) -> None:
    guest = boot(3, lossy=True)
    guest.chance = random.Random(20261130)
    pool = ["zpool", "create", "-f", "-o", "ashift=12", "-O", "canmount=off", "-O", "mountpoint=none", "tank"]
    guest.run([*pool, "mirror", "virtio-d1", "virtio-d2"])
    guest.run(["mkfs.ext4", "-q", STATE])
    known, chance = Known(), random.Random(20261128)
    for turn in range(ROUNDS):
        mount(guest)
        expected = {"states": known.states, "doing": known.doing, "seed": turn}
        guest.put(json.dumps(expected).encode(), "/tmp/expected.json")
        known.working, known.heard = False, 0
        job = guest.begin(["python", LOAD, "/tmp/expected.json", "3600"])
        listen(job, known, 300, until=lambda: known.working)
        assert known.working, f"not at work: {bytes(job.err).decode()[-4000:]}"
        listen(job, known, chance.uniform(1.0, 12.0))
        listen(job, known, 20.0, until=lambda: bool(known.doing))  # in the midst of something
        if turn % 3:
            guest.kill()
            guest.start()
        else:
            guest.reset()
        guest.run(["zpool", "import", "-d", "/dev/disk/by-id", "-N", "tank"])
    mount(guest)
    guest.put(
        json.dumps({"states": known.states, "doing": known.doing, "seed": 0}).encode(), "/tmp/expected.json"
    )
    result = guest.run(["python", LOAD, "/tmp/expected.json", "0"], 400, check=False)
    assert result.code == 0 and b"ended" in result.out, result.describe()
    assert len(known.states) >= 2 * ROUNDS, "the load hardly worked"
    assert guest.lost.flushed and (guest.lost.gone or ROUNDS < 10), "no power cut took what was not flushed"
    tell(f"resets: {ROUNDS} rounds, {len(known.states)} recordings, lost with the power: {guest.lost}")
    guest.close()
