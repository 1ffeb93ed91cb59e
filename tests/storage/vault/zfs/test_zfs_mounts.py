"""Mounts: a bounded number, those unused longest go, those with open files stay."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from appliance.model import new_id
from appliance.storage.names import BucketId
from appliance.storage.vault.errors import BucketBusyError
from appliance.storage.vault.zfs.doors import Doors
from appliance.storage.vault.zfs.mounts import IDLE_S, Mount, Mounts
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Answer


class Kernel:
    """Stands for the agent: notes what is mounted where."""

    def __init__(self) -> None:
        self.mounted: dict[str, dict[str, Any]] = {}
        self.busy: set[str] = set()
        self.calls: list[tuple[str, str]] = []

    def call(self, op: str, *, changes: object = (), **args: Any) -> Answer:
        target = args.get("target", args.get("under", ""))
        self.calls.append((op, target.rpartition("/")[2]))
        if op == "mount":
            there = self.mounted.setdefault(
                target,
                {"source": args["source"], "target": target, "device": 7, "readonly": args["readonly"]},
            )
            return Answer(there, b"")
        if op == "remount":
            self.mounted[target]["readonly"] = args["readonly"]
        elif op == "unmount":
            if target in self.busy:
                raise Trouble(errno.EBUSY)
            self.mounted.pop(target, None)
        elif op == "mounts":
            return Answer([one for one in self.mounted.values() if one["target"].startswith(target)], b"")
        return Answer(None, b"")


class House:
    def __init__(self) -> None:
        self.now = 0.0
        self.kernel = Kernel()
        self.doors = Doors(1.0, lambda: None)
        self.mounts = Mounts(Path("/m"), self.kernel, self.doors, most=3, clock=lambda: self.now)  # type: ignore[arg-type]
        self.made: list[BucketId] = []

    def mount(self, readonly: bool = False, snapshot: str = "", bucket: BucketId | None = None) -> Mount:
        self.now += 1
        if bucket is None:
            bucket = BucketId(new_id(), new_id(), "2026-11-25")
            self.made.append(bucket)
        source = f"tank/{bucket.path}" + (f"@{snapshot}" if snapshot else "")
        with self.doors.hand_on(bucket):
            return self.mounts.mount(bucket, source, snapshot, readonly=readonly)

    def sources(self) -> set[str]:
        return {one["source"] for one in self.kernel.mounted.values()}


@pytest.fixture
def house() -> House:
    return House()


def test_those_unused_longest_go_and_open_ones_stay(house: House) -> None:
    first, second, third = house.mount(), house.mount(), house.mount()
    house.mounts.opened(first)
    house.mounts.get(second.source)
    house.now += 1
    house.mounts.get(second.source)
    fourth = house.mount()
    assert house.sources() == {first.source, second.source, fourth.source}, "the third was unused for longest"
    assert house.mounts.is_clean(third.source), "it was unmounted in good order"
    house.mounts.closed(first)
    house.mount()
    house.mount()
    assert len(house.kernel.mounted) == 3


def test_a_bucket_that_somebody_works_on_is_not_unmounted(house: House) -> None:
    import threading

    first, second, third = house.mount(), house.mount(), house.mount()
    held, over = threading.Event(), threading.Event()

    def work() -> None:
        with house.doors.hand_on(first.bucket):
            held.set()
            over.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(10)
    fourth = house.mount()
    over.set()
    thread.join()
    assert house.sources() == {first.source, third.source, fourth.source}
    assert second.source not in house.sources()


def test_a_busy_one_stays_and_nothing_fails(house: House) -> None:
    first = house.mount()
    house.kernel.busy.add(first.target)
    for _ in range(4):
        house.mount()
    assert first.source in house.sources()


def test_idle_snapshots_are_unmounted(house: House) -> None:
    bucket = BucketId(new_id(), new_id(), "2026-11-25")
    snapshot = house.mount(snapshot="g-1", bucket=bucket)
    assert snapshot.readonly and snapshot.target == f"/m/{bucket.path.replace('/', '.')}@g-1"
    live = house.mount(bucket=bucket)
    house.now += IDLE_S + 1
    assert snapshot.source in house.sources(), "its own bucket leaves it alone"
    house.mount()
    assert house.sources() >= {live.source} and snapshot.source not in house.sources()


def test_a_read_only_mount_becomes_writable_and_is_clean_until_then(house: House) -> None:
    first = house.mount(readonly=True)
    assert first.readonly and house.mounts.is_clean(first.source)
    again = house.mount(bucket=first.bucket)
    assert again is first and not first.readonly
    assert [op for op, _ in house.kernel.calls] == ["mount", "remount"]
    assert not house.mounts.is_clean("tank/of/another")


def test_a_bucket_that_is_read_is_neither_unmounted_nor_its_snapshots(house: House) -> None:
    live = house.mount()
    snapshot = house.mount(snapshot="g-1", bucket=live.bucket)
    house.mounts.opened(snapshot)
    for refused in (
        lambda: house.mounts.unmount_bucket(live.bucket, live.source),
        lambda: house.mounts.unmount_snapshot(live.bucket, snapshot.source, "g-1"),
        lambda: house.mounts.refuse_busy(live.bucket),
    ):
        with pytest.raises(BucketBusyError):
            refused()
    assert len(house.kernel.mounted) == 2
    house.mounts.closed(snapshot)
    house.mounts.unmount_bucket(live.bucket, live.source)
    assert house.kernel.mounted == {} and house.mounts.mounted() == []
    unmounted = [target for op, target in house.kernel.calls if op == "unmount"]
    assert unmounted[0].endswith("@g-1"), "snapshots first"


def test_what_a_process_before_this_one_mounted_is_found(house: House) -> None:
    live = house.mount(readonly=True)
    after = Mounts(Path("/m"), house.kernel, house.doors)  # type: ignore[arg-type]
    after.unmount_bucket(live.bucket, live.source)
    assert house.kernel.mounted == {}


def test_what_is_forgotten_is_mounted_anew(house: House) -> None:
    first = house.mount()
    house.kernel.mounted.clear()
    assert not house.mounts.is_there(first)
    house.mounts.forget(first.bucket)
    assert not house.mounts.is_clean(first.source)
    assert house.mount(bucket=first.bucket) is not first
