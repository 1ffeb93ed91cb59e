"""Everything here beside everything there: what the journal of changes cannot tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from appliance.storage.names import GUARD, BucketId
from appliance.storage.replica.papers import mark_of, number_in, tag_of
from appliance.storage.replica.progress import Progress
from appliance.storage.replica.target import Copy
from appliance.storage.vault.contract import Snapshot
from appliance.storage.vault.core import Vault


def sweep(vault: Vault, replica: str, copies: Mapping[BucketId, Copy], progress: Progress) -> int:
    """Marks buckets whose copy is missing or has other snapshots; how many copies are of buckets that are not here.

    Errors of the store.
    """
    here: dict[BucketId, list[Snapshot]] = defaultdict(list)
    for one in vault.store.snapshots():
        here[one.id.bucket].append(one)
    there = set(vault.store.buckets())
    for bucket in sorted(there):
        copy = copies.get(bucket, Copy())
        if not _sent(replica, here[bucket], copy):
            progress.mark(bucket, changed=True)
        elif not _tidy(replica, here[bucket], copy):
            progress.mark(bucket, changed=False)
    return sum(1 for bucket, copy in copies.items() if bucket not in there and not copy.kept)


def _sent(replica: str, here: list[Snapshot], copy: Copy) -> bool:
    """Whether the newest that was taken for the copy is the newest there."""
    own = [one for one in here if number_in(replica, one.id.name)]
    return bool(own and copy.snapshots) and mark_of(own[-1]) == copy.snapshots[-1]


def _tidy(replica: str, here: list[Snapshot], copy: Copy) -> bool:
    """Whether nothing is held here, or lies there, that is not needed any more."""
    own = [one for one in here if number_in(replica, one.id.name)]
    held = [one for one in here if tag_of(replica) in one.holds]
    marks = {mark_of(one) for one in here}
    extra = [mark for mark in copy.snapshots if mark not in marks and mark.name != GUARD]
    return len(own) == 1 and held == own and not extra
