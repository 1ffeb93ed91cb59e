"""What lies among the buckets and is not ours."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.storage.names import SnapshotNameError, check_snapshot_name
from appliance.storage.vault.zfs.datasets import Datasets
from appliance.storage.vault.zfs.mounts import Mount
from appliance.storage.vault.zfs.programs import Facts
from appliance.storage.vault.zfs.shelf import Shelf


def strangers(datasets: Datasets, shelf: Shelf, mounted: list[Mount]) -> Iterator[str]:
    """Datasets and snapshots below the root, and names in buckets that are mounted now. Below a strange one: nothing."""
    for facts in datasets.walk(snapshots=True):
        depth = facts.name.count("/") - datasets.tree.root.count("/")
        if not datasets.expected(facts, depth):
            yield datasets.tree.below(facts.name)
            continue
        for name in _foreign(facts, depth):
            yield f"{datasets.tree.below(facts.name)}@{name}"
    for mount in mounted:
        if not mount.snapshot:
            yield from (f"{mount.bucket.path}/{name}" for name in shelf.strange(mount))


def _foreign(facts: Facts, depth: int) -> Iterator[str]:
    for one in facts.snapshots:
        try:
            check_snapshot_name(one.name)
            ours = depth == 3
        except SnapshotNameError:
            ours = False
        if not ours:
            yield one.name
