"""A vault on a real pool in the guest, as programs started from outside use it: state on one disk, buckets in a pool."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "storage" / "vault"))

from conftest_vault import DAY_NS, House  # noqa: E402
from ground import Ground  # noqa: E402

from appliance.storage.keystore.files import make_directory, write_durably  # noqa: E402
from appliance.storage.vault.contract import BucketId, BucketStore, SnapshotId  # noqa: E402
from appliance.storage.vault.zfs import open_store  # noqa: E402

STATE = Path("/state")
DATASET = "tank/rec"
DEADLINE_S = 120.0  # an emulated machine beside others


class PoolGround(Ground):
    """The pool as it is; nothing is taken away at the end."""

    def open(self, fault: Callable[[str], None] = lambda step: None) -> BucketStore:
        return open_store(DATASET, STATE / "mounts", deadline_s=DEADLINE_S, fault=fault)

    def foreign_hold(self, snapshot: SnapshotId, tag: str) -> None:
        raise NotImplementedError

    def foreign_bucket(self, tenant_id: str) -> str:
        raise NotImplementedError

    def has(self, stranger: str) -> bool:
        raise NotImplementedError

    def damage(self, bucket: BucketId, recording_id: str) -> None:
        raise NotImplementedError

    def roll_back(self, bucket: BucketId) -> None:
        raise NotImplementedError

    def second(self) -> BucketStore:
        raise NotImplementedError

    def close(self) -> None:
        pass


def open_house() -> House:
    """The vault of this disk; tenant, line and the time of the clocks are those of the last start."""
    house = House(STATE / "data", PoolGround())
    known = STATE / "scene.json"
    if known.exists():
        found = json.loads(known.read_text())
        house.tenant, house.line = found["tenant"], found["line"]
        house.clocks.wall_ns = found["wall_ns"]
    house.clocks.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    house.clocks.witnessed = True
    make_directory(STATE / "data")
    keep_time(house)
    house.open()
    return house


def keep_time(house: House) -> None:
    """Durable before anything is dated by it."""
    known = {"tenant": house.tenant, "line": house.line, "wall_ns": house.clocks.wall_ns}
    write_durably(STATE / "scene.json", json.dumps(known).encode())


def pass_days(house: House, count: int) -> None:
    """Time passes for the vault."""
    house.clocks.pass_(count * DAY_NS)
    keep_time(house)
    house.parts.timekeeper.tick()


def digest(house: House, name: str) -> str:
    """Of a filed recording as the vault gives it."""
    return hashlib.sha256(house.stored(name)).hexdigest()


def say(*words: str) -> None:
    """A line to whoever started this, at once."""
    print(*words, flush=True)
