"""What lies among the buckets and is not ours, out of what a walk found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from appliance.storage.names import SnapshotNameError, check_snapshot_name
from appliance.storage.vault.zfs.programs import Facts
from appliance.storage.vault.zfs.tree import Tree


def strangers(tree: Tree, found: Iterable[Facts]) -> Iterator[str]:
    """Datasets and snapshots below the root. Below a strange one: nothing."""
    for facts in found:
        depth = facts.name.count("/") - tree.root.count("/")
        if not tree.expected(facts.name, facts.kind, depth):
            yield tree.below(facts.name)
            continue
        known = ours(facts.tags) if depth == 3 else {}
        yield from (f"{tree.below(facts.name)}@{name}" for name in facts.tags if name not in known)


def ours(tags: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Of snapshots of a bucket, those whose names are ours."""
    found = {}
    for name, held in tags.items():
        try:
            check_snapshot_name(name)
        except SnapshotNameError:
            continue
        found[name] = held
    return found
