"""Many buckets and snapshots: `scale.py build BUCKETS SNAPSHOTS`, then `scale.py measure BUCKETS SNAPSHOTS`.

Building takes longest, and what it leaves on the disks can be measured again. Measuring says how long listing, comparing,
planning and expiring take; meanwhile a thread files recordings as the vault does, and each must be filed whole.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scene import STATE, keep_time, open_house, pass_days, say

from appliance.model import new_id
from appliance.storage.keystore.files import make_directory
from appliance.storage.retention.period import Period
from appliance.storage.retention.run import Outcome
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope
from appliance.storage.vault.contract import BucketId, SnapshotId

phase, buckets, snapshots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
house = open_house()
vault = house.vault
assert vault is not None
figures: dict[str, float] = {"buckets": buckets, "snapshots": snapshots}


def timed(name: str, work: Callable[[], object]) -> object:
    began = time.monotonic()
    result = work()
    figures[name] = round(time.monotonic() - began, 3)
    say("figure", name, str(figures[name]))
    return result


def make_all() -> list[BucketId]:
    made = []
    for number in range(buckets):
        if number % 100 == 0:
            say("built", str(number))
        bucket = BucketId(house.tenant, new_id(), f"20{10 + number % 10:02d}-{1 + number % 12:02d}")
        vault.buckets.make(bucket)
        vault.store.lock(bucket)
        made.append(bucket)
    return made


def cover(made: list[BucketId]) -> None:
    for turn in range(1, snapshots // buckets):
        began = time.monotonic()
        for first in range(0, len(made), 200):
            some = made[first : first + 200]
            # As a copy elsewhere has them: a grace snapshot that no deleted recording needs would go with the first run.
            vault.store.snapshot(some, f"r-scale-{turn}", {"ew:kind": "replica"})
            vault.store.hold([SnapshotId(bucket, f"r-scale-{turn}") for bucket in some], "ew.replica.scale")
        say("covered", str(turn * len(made)), f"{time.monotonic() - began:.1f} s for the last {len(made)}")


def keep(retention: str, scope: PolicyScope = PolicyScope()) -> None:
    change = PolicyChange(scope, Policy(Period.parse(retention)), (PolicyField.RETENTION,))
    house.parts.policies.set(change, "scene")


def appending(stop: threading.Event, filed: list[str], slowest: list[float]) -> None:
    while not stop.is_set():
        name = house.record(created_ns=house.clocks.wall_ns, payload=b"x" * 50_000)
        began = time.monotonic()
        while house.intake.poll() or not house.filer.poll():
            house.clock.now += 10
        slowest.append(time.monotonic() - began)
        filed.append(name)
        stop.wait(0.2)


def build() -> None:
    make_directory(Path(STATE / "data"))
    house.parts.policies.set(
        PolicyChange(PolicyScope(), fields=(PolicyField.COOLING,), cooling_days=0), "scene"
    )
    pass_days(house, 8)
    made = timed("building_s", make_all)
    timed("snapshots_s", lambda: cover(made))  # type: ignore[arg-type]
    keep_time(house)


def measure() -> None:
    made = [bucket for bucket in vault.store.buckets() if bucket.line_id != house.line]
    assert len(made) == buckets
    stop, filed, slowest = threading.Event(), [], []
    thread = threading.Thread(target=appending, args=(stop, filed, slowest), daemon=True)
    thread.start()
    timed("listing_buckets_s", lambda: list(vault.store.buckets()))
    timed("listing_snapshots_s", vault.store.survey)
    timed("comparing_first_s", house.settle)  # every bucket is looked into
    timed("comparing_s", house.settle)  # as at each start and nightly: what lies as it lay is not opened
    keep("30y")
    some = made[:20]
    for bucket in some:
        keep("1y", PolicyScope(bucket.tenant_id, bucket.line_id))
    plan, _ = timed("planning_s", house.parts.expiry.plan)  # type: ignore[misc]
    figures["items"] = len(plan.items)
    assert {item.bucket for item in plan.destroying} == set(some), "these, and nothing else, is due"
    record = timed("expiring_20_buckets_s", lambda: house.parts.expiry.run("scene", plan.digest))
    assert record.outcome is Outcome.DONE and record.expired_buckets == len(some), record  # type: ignore[attr-defined]
    left = set(vault.store.buckets())
    assert left >= set(made[20:]) and not left & set(some)
    stop.set()
    thread.join()
    for name in filed:
        house.check_readable(name)
    figures["filed_meanwhile"] = len(filed)
    figures["slowest_filing_s"] = round(max(slowest), 3)


{"build": build, "measure": measure}[phase]()
say("figures", json.dumps(figures))
house.close()
