"""Snapshots and their holds. What is asked for is compared with what is there: each step can be done twice."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from appliance.storage.names import GUARD, GUARD_TAG, BucketId, SnapshotId, SnapshotNameError
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketLockedError,
    BucketMissingError,
    SnapshotHeldError,
    SnapshotMissingError,
)
from appliance.storage.vault.stored import BucketState, Snapshot
from appliance.storage.vault.zfs.datasets import Datasets, Fault, state_of
from appliance.storage.vault.zfs.programs import NAMES, Facts
from appliance.storage.vault.zfs.trouble import Trouble
from appliance.storage.vault.zfs.worker import Worker

MAX_DESTROYED: Final = 500
AT_ONCE: Final = 500  # names in one call
_PEER: Final = "r-"


def said(bucket: BucketId, name: str) -> str:
    """As errors name a snapshot."""
    return f"{bucket.path}@{name}"


def described(bucket: BucketId, facts: Facts) -> Iterator[Snapshot]:
    """Those whose names are ours, oldest first."""
    for one in facts.snapshots:
        try:
            id_ = SnapshotId(bucket, one.name)
        except SnapshotNameError:
            continue  # `strangers` tells
        yield Snapshot(id_, one.properties, one.holds, one.created_s * 1_000_000_000, one.txg)


class Snapshots:
    """See the module. The caller holds the locks of the buckets."""

    def __init__(self, datasets: Datasets, worker: Worker, fault: Fault) -> None:
        self._datasets = datasets
        self._tree = datasets.tree
        self._worker = worker
        self._fault = fault

    def _facts(self, buckets: Iterable[BucketId], at: str) -> dict[BucketId, Facts]:
        wanted = {self._tree.dataset(bucket): bucket for bucket in buckets}
        found = self._datasets.facts(list(wanted), at=at)
        return {wanted[one.name]: one for one in found if one.kind == "bucket"}

    def take(
        self,
        buckets: Sequence[BucketId],
        name: str,
        properties: Mapping[str, str],
        replay: Callable[[BucketId, Facts], bool],
    ) -> None:
        """Of all, or of none; those that have it keep it. BucketMissingError.

        `replay`: sees to it that a bucket has nothing left in its intent log; false where its key is not loaded.
        """
        facts = self._facts(buckets, name)
        for bucket in buckets:
            if state_of(facts.get(bucket)) is BucketState.ABSENT:
                raise BucketMissingError("there is no such bucket", bucket=bucket.path)
        wanted = [bucket for bucket in facts if facts[bucket].snapshot(name) is None]
        for bucket in wanted:
            if not replay(bucket, facts[bucket]):
                raise BucketLockedError(
                    "the bucket was not closed in good order: unlock it once first", bucket=bucket.path
                )
        if wanted:
            self._fault("about to snapshot")
            self._take(wanted, name, properties)
            self._fault("snapshot taken")

    def _take(self, buckets: Sequence[BucketId], name: str, properties: Mapping[str, str]) -> None:
        told = dict(properties)
        if told:
            told[NAMES] = " ".join(key.removeprefix("ew:") for key in properties)
        names = [self._tree.snapshot(SnapshotId(bucket, name)) for bucket in buckets]
        try:
            self._call("snapshot", buckets, names=names, properties=told)
        except Trouble as trouble:
            if not trouble.all_are(errno.EEXIST):  # an earlier call that was given up has taken it meanwhile
                raise
            there = self._facts(buckets, name)
            left = [bucket for bucket in buckets if bucket in there and there[bucket].snapshot(name) is None]
            if len(left) < len(buckets) and left:
                self._take(left, name, properties)

    def guard(self, bucket: BucketId, facts: Facts) -> None:
        """The snapshot that a bucket is born with, and its hold.

        A copy has that of its original, or none: one of our own would be in the way of what is received later.
        """
        there = facts.snapshot(GUARD)
        if there is None:
            if facts.is_copy:
                return
            self._take([bucket], GUARD, {})
            self._fault("guard taken")
        if there is None or GUARD_TAG not in there.holds:
            self._hold([SnapshotId(bucket, GUARD)], GUARD_TAG)
            self._fault("guard held")

    def hold(self, snapshots: Sequence[SnapshotId], tag: str) -> None:
        """SnapshotMissingError: the others are held."""
        there = self._datasets.held(snapshots)
        fresh = [one for one in dict.fromkeys(snapshots) if one in there and tag not in there[one]]
        missing = [one for one in dict.fromkeys(snapshots) if one not in there]
        for first in range(0, len(fresh), AT_ONCE):
            missing += self._hold(fresh[first : first + AT_ONCE], tag)
            self._fault("snapshots held")
        if missing:
            raise SnapshotMissingError(
                "there is no such snapshot", snapshots=[said(one.bucket, one.name) for one in sorted(missing)]
            )

    def _hold(self, snapshots: Sequence[SnapshotId], tag: str, again: bool = True) -> list[SnapshotId]:
        names = {self._tree.snapshot(one): one for one in snapshots}
        try:
            answer = self._call("hold", (one.bucket for one in snapshots), names=list(names), tag=tag)
        except Trouble as trouble:
            if trouble.number != errno.EEXIST or not again:
                raise
            there = self._datasets.held(
                snapshots
            )  # an earlier call that was given up has put some of them there meanwhile
            left = [one for one in snapshots if one not in there or tag not in there[one]]
            return self._hold(left, tag, again=False) if left else []
        return [names[name] for name in answer]

    def release(self, snapshots: Sequence[SnapshotId], tag: str) -> None:
        """Success where it is not held."""
        there = self._datasets.held(snapshots)
        held = [one for one in dict.fromkeys(snapshots) if one in there and tag in there[one]]
        for first in range(0, len(held), AT_ONCE):
            part = held[first : first + AT_ONCE]
            names = [self._tree.snapshot(one) for one in part]
            try:
                self._call("release", (one.bucket for one in part), names=names, tag=tag)
            except Trouble as trouble:
                if not trouble.all_are(errno.ENOENT):
                    raise
            self._fault("snapshots released")

    def destroy(self, snapshots: Sequence[SnapshotId], unmount: Callable[[SnapshotId], None]) -> None:
        """All of these or none, at once. SnapshotHeldError, BucketBusyError; SnapshotNameError where they are too many."""
        if len(snapshots) > MAX_DESTROYED:
            raise SnapshotNameError(f"at most {MAX_DESTROYED} at once", field="snapshots")
        there = self._datasets.held(snapshots)
        self._refuse_held(there)
        for one in there:
            unmount(one)
        self._keep_cursors(list(there))
        if not there:
            return
        names = {self._tree.snapshot(one): one for one in there}
        self._fault("about to destroy snapshots")
        try:
            self._call("destroy_snapshots", (one.bucket for one in there), names=list(names))
        except Trouble as trouble:
            if trouble.number not in (errno.EBUSY, errno.EEXIST):
                raise
            # Every EBUSY is said to be a hold; whether it is, only the holds say.
            self._refuse_held(self._datasets.held(list(there)))
            busy = [names[name] for name in trouble.names if name in names] or list(there)
            raise BucketBusyError(
                "a snapshot is being sent, looked into, or has a clone", bucket=busy[0].bucket.path
            ) from trouble
        self._fault("snapshots destroyed")

    @staticmethod
    def _refuse_held(holds: Mapping[SnapshotId, frozenset[str]]) -> None:
        held = {one: tags for one, tags in holds.items() if tags}
        if held:
            raise SnapshotHeldError(
                "held snapshots are not destroyed",
                snapshots=[said(one.bucket, one.name) for one in sorted(held)],
                tags=sorted(frozenset().union(*held.values())),
            )

    def refuse_left(self, bucket: BucketId, facts: Facts, but: frozenset[str]) -> list[str]:
        """Snapshots beside the guard, foreign ones too. SnapshotHeldError where one is held, or the guard but by `but`."""
        left = [one for one in facts.snapshots if one.name != GUARD]
        guard = facts.snapshot(GUARD)
        held = {one.name: one.holds for one in left if one.holds}
        if not held and guard and guard.holds - but:
            held = {GUARD: guard.holds - but}
        if held:
            raise SnapshotHeldError(
                "held snapshots are not destroyed",
                snapshots=[said(bucket, name) for name in sorted(held)],
                tags=sorted(frozenset().union(*held.values())),
            )
        return [said(bucket, one.name) for one in left]

    def drop_guard(self, bucket: BucketId, facts: Facts) -> None:
        """Releases and destroys the guard; success where there is none."""
        guard = facts.snapshot(GUARD)
        if guard is None:
            return
        name = self._tree.snapshot(SnapshotId(bucket, GUARD))
        if GUARD_TAG in guard.holds:
            try:
                self._call("release", [bucket], names=[name], tag=GUARD_TAG)
            except Trouble as trouble:
                if not trouble.all_are(errno.ENOENT):
                    raise
            self._fault("guard released")
        self._call("destroy_snapshots", [bucket], names=[name])
        self._fault("guard destroyed")

    def _keep_cursors(self, snapshots: Sequence[SnapshotId]) -> None:
        """A bookmark stays of what was sent to another box: later changes can go on from there. One for each peer."""
        for one in snapshots:
            if not one.name.startswith(_PEER):
                continue
            dataset, (peer, number) = self._tree.dataset(one.bucket), _split(one.name)
            before = [mark for mark in self.bookmarks(one.bucket) if _split(mark)[0] == peer]
            if any(_split(mark)[1] >= number for mark in before):
                continue
            self._call("bookmark", [one.bucket], marks={f"{dataset}#{one.name}": self._tree.snapshot(one)})
            if before:
                self._call("destroy_bookmarks", [one.bucket], names=[f"{dataset}#{mark}" for mark in before])
            self._fault("cursor kept")

    def bookmarks(self, bucket: BucketId) -> list[str]:
        """Names of bookmarks of ours, each that of the snapshot it was."""
        found = self._worker.call("bookmarks", name=self._tree.dataset(bucket)).value
        ours = []
        for name in found:
            try:
                if SnapshotId(bucket, name).name.startswith(_PEER):
                    ours.append(name)
            except SnapshotNameError:
                continue  # somebody else's
        return ours

    def _call(self, op: str, buckets: Iterable[BucketId], **args: Any) -> list[str]:
        changes = {self._tree.dataset(bucket) for bucket in buckets}
        return list(self._worker.call(op, changes=changes, **args).value or [])


def _split(name: str) -> tuple[str, int]:
    peer, _, number = name.rpartition("-")
    return peer, int(number)
