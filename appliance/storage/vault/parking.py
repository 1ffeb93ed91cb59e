"""Delete and undelete, in batches a bucket: a deleted recording's file goes from the bucket and stays in a snapshot.

The journal first, which is the answer; then, for all of a bucket together: snapshot `g-<n>`, its hold, unlink, and the
journal says where the file is parked. Bringing one back copies it out of the snapshot; nothing is ever rolled back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import structlog

from appliance.storage.vault.contract import BucketId, Snapshot, SnapshotId
from appliance.storage.vault.core import GRACE_TAG, Vault
from appliance.storage.vault.errors import BucketMissingError
from appliance.storage.vault.holding import Holding, HoldingState

MAX_IN_SNAPSHOT = 5000

log = structlog.get_logger()


class Parker:
    """See the module. For one thread."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def poll(self) -> int:
        """Parks what is deleted and not parked yet; how many."""
        waiting: dict[BucketId, list[Holding]] = defaultdict(list)
        for held in self._vault.unparked():
            waiting[held.bucket].append(held)
        return sum(
            self._park(bucket, found[first : first + MAX_IN_SNAPSHOT])
            for bucket, found in waiting.items()
            for first in range(0, len(found), MAX_IN_SNAPSHOT)
        )

    def _park(self, bucket: BucketId, wanted: Sequence[Holding]) -> int:
        """Of one bucket."""
        vault = self._vault
        with vault.moving:
            current = vault.unchanged(wanted)
            if not current:
                return 0
            try:
                vault.buckets.open(bucket)
            except BucketMissingError:
                log.error("a deleted recording's bucket is missing")
                return 0
            here = {held.recording_id for held in current if vault.store.find(bucket, held.recording_id)}
            places = self._left_by_a_crash(bucket, {held.recording_id for held in current} - here)
            if here:
                name = self._take(bucket, len(here))
                places |= dict.fromkeys(here, name)
            if places:
                # Of what a crash left its sidecar, too: it goes after its recording.
                vault.store.remove(bucket, sorted(places))
                vault.fault("deleted files removed")
            with vault.lock:
                parked = [
                    replace(held, parked=places[held.recording_id])
                    for held in vault.unchanged(current)
                    if held.recording_id in places
                ]
                vault.holdings.append(parked)
            return len(parked)

    def _take(self, bucket: BucketId, count: int) -> str:
        """The next grace snapshot of a bucket, held.

        No name comes twice, also when the one before is gone: a copy elsewhere may still have that, and holds go by names.
        So the number is that of the journal, which has grown since then.
        """
        vault = self._vault
        numbers = [number_of(item.id.name) for item in grace_snapshots(vault, bucket)]
        name = f"g-{max(vault.holdings.position, max(numbers, default=0) + 1)}"
        vault.store.snapshot([bucket], name, {"ew:kind": "grace", "ew:count": str(count)})
        vault.fault("grace snapshot taken")
        vault.store.hold([SnapshotId(bucket, name)], GRACE_TAG)
        vault.fault("grace snapshot held")
        return name

    def _left_by_a_crash(self, bucket: BucketId, wanted: set[str]) -> dict[str, str]:
        """Of files that are gone from the bucket: which grace snapshot has them, the newest first."""
        found: dict[str, str] = {}
        for item in reversed(grace_snapshots(self._vault, bucket) if wanted else []):
            for stored in self._vault.store.files(bucket, snapshot=item.id.name):
                if stored.recording_id in wanted:
                    found.setdefault(stored.recording_id, item.id.name)
        return found


def grace_snapshots(vault: Vault, bucket: BucketId) -> list[Snapshot]:
    """A bucket's grace snapshots, oldest first."""
    return [item for item in vault.store.snapshots(bucket) if item.id.name.startswith("g-")]


def number_of(name: str) -> int:
    """The number at the end of a snapshot's name."""
    return int(name.rpartition("-")[2])


def undelete(vault: Vault, recording_id: str) -> Holding:
    """Brings a deleted recording back; a filed one stays as it is. The file first, compared, then the journal."""
    with vault.moving:
        found = vault.changeable(recording_id)
        if found.state is HoldingState.FILED:
            return found
        if found.parked:
            vault.buckets.open(found.bucket)
            vault.store.restore(found.bucket, found.parked, [recording_id])
            vault.fault("file restored")
        with vault.lock:
            vault.changeable(recording_id)  # its erasure may have been asked for meanwhile
            back = replace(found, state=HoldingState.FILED, reason="", since_ns=vault.clock(), parked="")
            vault.holdings.append([back])
        vault.fault("undeletion journalled")
        return back
