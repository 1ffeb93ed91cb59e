"""Snapshots of legal holds: what a case names is in one that it holds, in each bucket where something of it lies.

A bucket that still fills gets a further one at most every quarter of an hour, however much is filed into it; the keys of
what waits for it are pinned already. A snapshot that has all of the case's files in the bucket takes the place of those
before it, so that their number does not grow with the number of calls. It says what the journal said when it was taken:
while that says the same, nobody need open the bucket to see what the snapshot has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import structlog

from appliance.model import EarwitnessError
from appliance.storage.vault.contract import BucketId, BucketState, Snapshot, SnapshotId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.holding import KEPT, Holding
from appliance.storage.vault.parking import number_of

AGAIN_S: Final = 900.0
"""Until what is filed into a bucket that a case has a snapshot of gets into the next one."""
_JOURNAL: Final = "ew:journal"
"""Of a case's snapshot that has all that the case names there: the fingerprint of what the journal said of the bucket just
before. Files are moved under `moving`, and what is filed lies in its bucket before the journal tells of it."""
_FEW: Final = 4
"""Snapshots of one case in a bucket that are looked through; more than that are replaced by one."""

log = structlog.get_logger()


def tag_of(case: str) -> str:
    """The tag with which a case holds snapshots."""
    return f"ew.case.{case}"


def is_of_case(item: SnapshotId, case: str) -> bool:
    """Whether it is a snapshot that a case had taken."""
    return item.name.startswith(f"h-{case}-")


class Covering:
    """See the module. `names(case, held)`: whether an open case names a recording. Safe to use from any thread."""

    def __init__(
        self,
        vault: Vault,
        names: Callable[[str, Holding], bool],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._names = names
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, BucketId], float] = {}
        self._waiting: set[tuple[str, BucketId]] = set()

    def filed(self, case: str, held: Holding) -> None:
        """What was just filed is covered now, or, where there was a snapshot a short time ago, by the next one."""
        if held.state not in KEPT:
            return
        place = (case, held.bucket)
        with self._lock:
            if not held.parked and not self._is_due(place):
                self._waiting.add(place)
                return
        with self._vault.moving:
            if self._names(case, held):  # the case may be released by now
                self._cover(case, held.bucket, [held])

    def look(self) -> None:
        """Covers what has waited long enough. Errors of the store: what failed goes on waiting."""
        with self._lock:
            due = {place for place in self._waiting if self._is_due(place)}
            self._waiting -= due
        try:
            for place in sorted(due):
                self.cover_all(*place)
                due.discard(place)
        finally:
            with self._lock:
                self._waiting |= due

    def _is_due(self, place: tuple[str, BucketId]) -> bool:
        taken = self._taken.get(place)
        return taken is None or self._monotonic() - taken >= AGAIN_S

    def cover_these(self, case: str, buckets: Iterable[BucketId]) -> None:
        """Covers these; errors of the store, and then what was not covered waits for `look`."""
        left = sorted(buckets, reverse=True)
        try:
            while left:
                self.cover_all(case, left[-1])
                left.pop()
        finally:
            with self._lock:
                self._waiting |= {(case, bucket) for bucket in left}

    def cover_all(self, case: str, bucket: BucketId) -> None:
        """Holds snapshots that have all that a case names in a bucket."""
        with self._vault.moving:
            self._cover(case, bucket, list(self._here(case, bucket)))

    def _cover(self, case: str, bucket: BucketId, found: Sequence[Holding]) -> None:
        """Holds snapshots that have these: those in which they are parked, and one more where files lie in the bucket
        that none of the case's has. `moving` is held.
        """
        store, tag = self._vault.store, tag_of(case)
        if not found or store.state(bucket) is BucketState.ABSENT:
            return  # its files are missing; `reconcile` tells
        snapshots = list(store.snapshots(bucket))
        parked = {held.parked for held in found if held.parked}
        want = [item for item in snapshots if item.id.name in parked or is_of_case(item.id, case)]
        late = [item.id for item in want if tag not in item.holds]
        if late:
            store.hold(late, tag)
            self._vault.fault("snapshots held")
        lying = {held.recording_id for held in found if not held.parked}
        own = [item for item in snapshots if is_of_case(item.id, case)]
        if lying and not self._has_all(case, bucket, own, lying):
            self._take(case, bucket, own)

    def _has_all(self, case: str, bucket: BucketId, own: Sequence[Snapshot], lying: set[str]) -> bool:
        """Whether the case's snapshots have these files."""
        said = self._vault.holdings.fingerprint(bucket)
        if any(item.properties.get(_JOURNAL) == said for item in own):
            return True
        if len(own) > _FEW and self._is_whole(case, bucket):
            return False  # one snapshot of the bucket as it is has as much as all of them
        left = set(lying)
        for item in reversed(own):
            self._vault.buckets.open(bucket)
            left -= {stored.recording_id for stored in self._vault.store.files(bucket, snapshot=item.id.name)}
            if not left:
                return True
        return not left

    def _take(self, case: str, bucket: BucketId, own: Sequence[Snapshot]) -> None:
        vault, tag = self._vault, tag_of(case)
        number = max((number_of(item.id.name) for item in own), default=0) + 1
        taken = SnapshotId(bucket, f"h-{case}-{number}")
        vault.buckets.open(bucket)
        properties = {"ew:kind": "hold", "ew:case": case}
        # Before it is taken: what is filed from now on may be in it, and need not.
        said = vault.holdings.fingerprint(bucket)
        if self._is_whole(case, bucket):
            properties[_JOURNAL] = said
        vault.store.snapshot([bucket], taken.name, properties)
        vault.fault("hold snapshot taken")
        vault.store.hold([taken], tag)
        vault.fault("hold snapshot held")
        with self._lock:
            self._taken[case, bucket] = self._monotonic()
        if own and self._is_whole(case, bucket, taken.name):
            try:
                self._drop(case, bucket, own)
            except EarwitnessError as error:  # there are too many then, and none too few
                log.warning("older snapshots of a legal hold stay", reason=error.reason)

    def _drop(self, case: str, bucket: BucketId, own: Sequence[Snapshot]) -> None:
        """Those that another has taken the place of, but for what somebody else wants."""
        vault, tag = self._vault, tag_of(case)
        parked = {held.parked for held in vault.holdings.in_bucket(bucket)}
        old = [item.id for item in own if item.holds <= {tag} and item.id.name not in parked]
        vault.store.release(old, tag)
        vault.fault("older hold snapshots released")
        for first in range(0, len(old), 500):
            vault.store.destroy_snapshots(old[first : first + 500])
        vault.fault("older hold snapshots destroyed")

    def _here(self, case: str, bucket: BucketId) -> Iterator[Holding]:
        """What a case names in a bucket."""
        for held in self._vault.holdings.in_bucket(bucket):
            if held.state in KEPT and self._names(case, held):
                yield held

    def _is_whole(self, case: str, bucket: BucketId, snapshot: str = "") -> bool:
        """Whether all that a case names there has its file, in its length, in the bucket or in one of its snapshots."""
        self._vault.buckets.open(bucket)
        files = self._vault.store.files(bucket, snapshot=snapshot)
        there = {stored.recording_id: stored.size for stored in files}
        lying = (held for held in self._here(case, bucket) if not held.parked)
        return all(there.get(held.recording_id) == held.size for held in lying)
