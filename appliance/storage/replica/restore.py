"""Bringing copies back: the store of the box is lost, its keystore and its journal are not. docs/replica.md has the steps.

A copy cannot bring back what is erased: its key is destroyed, and its file, which comes back as noise within its bucket, is
removed again when buckets and journal are laid side by side. A bucket that has expired has no key, and is left where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace

import structlog

from appliance.model import EarwitnessError
from appliance.storage.names import GUARD, BucketId, SnapshotId
from appliance.storage.replica.errors import ReplicaCopyUnknownError, ReplicationStoppedError
from appliance.storage.replica.following import Following
from appliance.storage.replica.papers import Mark, mark_of, number_in, tag_of
from appliance.storage.replica.progress import Progress
from appliance.storage.replica.replicator import TRIES
from appliance.storage.replica.standing import Standing
from appliance.storage.replica.target import Copy, ReplicaTarget
from appliance.storage.sealed.sidecarerrors import SidecarProblem
from appliance.storage.vault.aside import carry
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.contract import BucketState, BucketStore, Stream
from appliance.storage.vault.errors import (
    BucketMissingError,
    StoredFileCorruptError,
)
from appliance.storage.vault.holding import Holding, HoldingState
from appliance.storage.vault.reconciled import Reconciled
from appliance.storage.vault.sidecars import put, read_raw

log = structlog.get_logger()


@dataclass(slots=True)
class Restored:
    """What came back, as buckets: `whole` as they were; `merged` into what is here by now. What did not, and why."""

    whole: list[BucketId] = field(default_factory=list)
    merged: list[BucketId] = field(default_factory=list)
    recordings: int = 0
    """That were not here."""
    sidecars: int = 0
    """In the place of damaged or missing ones."""
    erased: int = 0
    """Recordings of these buckets that are erased: nothing of them comes."""
    keyless: list[BucketId] = field(default_factory=list)
    """Expired: nobody can read them."""
    in_use: list[BucketId] = field(default_factory=list)
    """There is such a bucket here, and no staging store to bring the copy to."""
    failed: dict[BucketId, EarwitnessError] = field(default_factory=dict)
    reconciled: Reconciled | None = None


@dataclass(slots=True)
class Advance:
    """How far a bringing back is; one thread writes."""

    done: int = 0
    """Buckets that were looked at."""
    buckets: int = 0
    """To be looked at."""
    bytes: int = 0
    """Of streams that came."""


def restore_from(
    parts: Assembly,
    target: ReplicaTarget,
    buckets: Collection[BucketId] = (),
    *,
    staging: BucketStore | None = None,
    dry: bool = False,
    advance: Advance | None = None,
    going_on: Callable[[], None] = lambda: None,
) -> Restored:
    """Brings copies of these buckets back, or of all; then lays everything side by side.

    The caller is alone with the replica (`Replication.target`). The deletion log goes there first: a replica that is older
    than it was learns what is erased before anything of it comes back. Errors of that are raised before anything is done:
    ReplicaForeignError, DeletionLogBackError and the like. `staging`: an empty store beside the vault's own, through which
    recordings come into a bucket that is here again already. Doing it again goes on where it ended.

    `dry`: says what would come if the copies have all that the journal says, and changes nothing here.
    `going_on` raises ReplicationStoppedError where it shall end: what came until then is laid side by side, too, before
    that is raised again. ReplicaCopyUnknownError where a bucket that is asked for is not there.
    """
    restoring = _Restoring(parts, target, staging, advance or Advance(), going_on)
    return restoring.look(set(buckets)) if dry else restoring.run(set(buckets))


class _Restoring:
    def __init__(
        self,
        parts: Assembly,
        target: ReplicaTarget,
        staging: BucketStore | None,
        advance: Advance,
        going_on: Callable[[], None],
    ) -> None:
        self._advance = advance
        self._going_on = going_on
        self._parts = parts
        self._vault = parts.vault
        self._stands = Standing(parts.vault)
        self._target = target
        self._staging = staging
        self._progress = Progress(self._vault, target.name)
        self._done = Restored()

    def look(self, wanted: set[BucketId]) -> Restored:
        """What would come. Opens buckets that are here, and changes nothing."""
        self._greeted()
        for bucket in self._wanted(wanted):
            self._going_on()
            try:
                self._foresee(bucket, self._target.copy(bucket))
            except ReplicationStoppedError:
                raise
            except EarwitnessError as error:
                self._done.failed[bucket] = error
            self._advance.done += 1
        return self._done

    def run(self, wanted: set[BucketId]) -> Restored:
        self._greeted().bring(self._target, self._going_on)
        found = self._wanted(wanted)
        try:
            with self._parts.expiry.held_off():
                for bucket in found:
                    self._going_on()
                    try:
                        self._one(bucket, self._target.copy(bucket))
                    except ReplicationStoppedError:
                        raise
                    except EarwitnessError as error:
                        log.error("not restored", bucket=bucket.path, reason=error.reason)
                        self._done.failed[bucket] = error
                    self._advance.done += 1
        except ReplicationStoppedError:
            self._progress.save()
            self._parts.settle()
            raise
        self._progress.save()
        self._done.reconciled = self._parts.settle()
        return self._done

    def _greeted(self) -> Following:
        following = Following(self._vault, self._progress, self._target.name)
        following.greet(self._target)
        return following

    def _wanted(self, wanted: set[BucketId]) -> list[BucketId]:
        there = set(self._target.copies())
        for bucket in sorted(wanted - there):
            raise ReplicaCopyUnknownError("the replica has no copy of this bucket", bucket=bucket.path)
        self._advance.buckets = len(wanted or there)
        return sorted(wanted or there)

    def _foresee(self, bucket: BucketId, copy: Copy) -> None:
        done, store = self._done, self._vault.store
        if not self._stands.has_key(bucket):
            done.keyless.append(bucket)
            return
        here = self._here(store, bucket)
        if _goes_on(here, copy.snapshots) and len(here) < len(copy.snapshots):
            kept = self._stands.kept(bucket)
            done.whole.append(bucket)
            done.recordings += len(kept)
            done.sidecars += sum(held.sidecar is not None for held in kept)
        elif self._stands.lacks(bucket):
            done.merged.append(bucket)
            for held in self._stands.kept(bucket):
                self._going_on()
                done.recordings += not self._stands.lies(held)
                done.sidecars += self._stands.is_damaged(held)
        else:
            return
        done.erased += self._stands.erased(bucket)

    def _one(self, bucket: BucketId, copy: Copy) -> None:
        vault = self._vault
        if not self._stands.has_key(bucket):
            self._done.keyless.append(bucket)
            return
        # Nothing is filed into it, parked or taken from it meanwhile.
        vault.shut(bucket)
        try:
            with vault.moving:
                here = self._here(vault.store, bucket)
                if _goes_on(here, copy.snapshots) and self._bring(vault.store, bucket, copy, here):
                    self._done.whole.append(bucket)
                    self._count(bucket)
                elif not self._stands.lacks(bucket):
                    return
                elif self._staging is not None:
                    self._merge(self._staging, bucket, copy)
                    self._done.merged.append(bucket)
                    self._done.erased += self._stands.erased(bucket)
                else:
                    self._done.in_use.append(bucket)
        finally:
            vault.reopen(bucket)

    def _count(self, bucket: BucketId) -> None:
        came = [held for held in self._stands.kept(bucket) if self._stands.lies(held)]
        self._done.recordings += len(came)
        self._done.sidecars += sum(
            held.sidecar is not None and not self._stands.is_damaged(held) for held in came
        )
        self._done.erased += self._stands.erased(bucket)

    @staticmethod
    def _here(store: BucketStore, bucket: BucketId) -> list[Mark]:
        try:
            return [mark_of(one) for one in store.snapshots(bucket)]
        except BucketMissingError:
            return []

    # As a whole, with its snapshots: later streams go on from there.

    def _bring(self, store: BucketStore, bucket: BucketId, copy: Copy, here: list[Mark]) -> bool:
        """Whether anything came."""
        came = self._stream(store, bucket, copy, here)
        store.adopt(bucket)
        self._vault.fault("copy adopted")
        newest = copy.snapshots[-1]
        if number_in(self._target.name, newest.name):
            store.hold([SnapshotId(bucket, newest.name)], tag_of(self._target.name))
        self._unpark(bucket)
        self._progress.mark(bucket, changed=True, forced=True)  # what is erased goes from it now
        return came

    def _stream(self, store: BucketStore, bucket: BucketId, copy: Copy, here: list[Mark]) -> bool:
        base = here[-1].name if here else ""
        left = copy.snapshots[len(here) and copy.snapshots.index(here[-1]) + 1 :]
        for mark in left:
            self._leg(store, bucket, mark.name, base)
            self._vault.fault("snapshot restored")
            base = mark.name
        return bool(left)

    def _leg(self, store: BucketStore, bucket: BucketId, snapshot: str, base: str) -> None:
        used = False
        for attempt in range(TRIES):
            resume = "" if used else store.resume_token(bucket)
            used = bool(resume)
            try:
                stream = self._target.send(bucket, snapshot, base=base, resume=resume)
                with closing(self._counted(stream)) as pieces:
                    store.receive(bucket, replace(stream, pieces=pieces))
                return
            except ReplicationStoppedError:
                raise
            except EarwitnessError as error:
                if attempt == TRIES - 1:
                    raise
                log.warning("a stream broke off", bucket=bucket.path, reason=error.reason)

    def _counted(self, stream: Stream) -> Generator[bytes, None, None]:
        pieces = iter(stream.pieces)
        try:
            for piece in pieces:
                self._going_on()
                self._advance.bytes += len(piece)
                yield piece
        finally:
            close = getattr(pieces, "close", None)
            if close:
                close()

    def _unpark(self, bucket: BucketId) -> None:
        """Deleted recordings whose grace snapshot had not come to the replica: their file lies in the bucket again."""
        vault = self._vault
        vault.buckets.open(bucket)
        names = {mark.name for mark in self._here(vault.store, bucket)}
        lying = {one.recording_id for one in vault.store.files(bucket)}
        with vault.lock:
            again = [
                replace(held, parked="")
                for held in vault.holdings.in_bucket(bucket)
                if held.state is HoldingState.DELETED
                and held.parked
                and held.parked not in names
                and held.recording_id in lying
            ]
            vault.holdings.append(again)
            for held in again:
                vault.moved(held)

    # Into a bucket that is here again: recording by recording.

    def _merge(self, staging: BucketStore, bucket: BucketId, copy: Copy) -> None:
        vault, here = self._vault, self._here(staging, bucket)
        if not _goes_on(here, copy.snapshots):
            _empty(staging, bucket)
            here = []
        self._stream(staging, bucket, copy, here)
        vault.buckets.open(bucket)
        key = vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)
        staging.unlock(bucket, key)
        for held in self._stands.kept(bucket):
            if held.recording_id in vault.keystore:
                self._going_on()
                self._merge_one(staging, held)
        staging.lock(bucket)
        _empty(staging, bucket)

    def _merge_one(self, staging: BucketStore, held: Holding) -> None:
        vault, bucket, name = self._vault, held.bucket, held.recording_id
        lies = self._stands.lies(held)
        if lies and not self._stands.is_damaged(held):
            return
        marks = self._here(staging, bucket)
        places = [held.parked] if held.parked else []
        places += ["", *(mark.name for mark in reversed(marks) if mark.name != GUARD)]
        there = {mark.name for mark in marks} | {""}
        places = [
            one for one in places if one in there and staging.find(bucket, name, snapshot=one) is not None
        ]
        if not places:
            return  # it never came to the replica: `reconcile` tells
        if not self._mend(staging, held, places) and lies:
            return
        if vault.store.find(bucket, name) is None:
            carry(vault.layout, name, staging, bucket, places[0], vault.store, bucket)
            self._done.recordings += 1
        with vault.lock:
            if held.parked and vault.unchanged([held]):
                again = replace(held, parked="")
                vault.holdings.append([again])
                vault.moved(again)
        vault.fault("recording restored")

    def _mend(self, staging: BucketStore, held: Holding, places: list[str]) -> bool:
        """Puts the copy's sidecar into the bucket where the one that lies there is damaged or missing.

        Whether a whole one lies there now, as one does that was put there before something broke off. One that is whole
        stays: it may have grown since it was copied. A damaged one goes for a copy that has what the journal says, and for
        nothing less; where there is none at all, an older one is better than nothing.
        """
        vault, bucket, name = self._vault, held.bucket, held.recording_id
        raw, wrong = self._stands.sidecars.look(replace(held, parked=""))
        if raw and wrong is None:
            return True
        lacks = wrong is None or wrong.problem is SidecarProblem.MISSING
        best = b""
        for place in places:
            try:
                copied = read_raw(staging, bucket, name, place)
            except StoredFileCorruptError:
                log.error("the copy of a sidecar is damaged, too", recording=name)
                continue
            if copied and not self._stands.sidecars.findings(held, copied):
                best = copied
                break
            if lacks:
                best = best or copied
        if not best:
            return False
        put(vault, vault.store, bucket, name, best)
        vault.rearranged[bucket] += 1  # no entry in the journal tells copies elsewhere
        self._done.sidecars += 1
        vault.fault("sidecar restored")
        return True


def _goes_on(here: list[Mark], there: tuple[Mark, ...]) -> bool:
    """Whether what is here is where a bringing back broke off, or nothing."""
    return not here or tuple(here) == there[: len(here)]


def _empty(store: BucketStore, bucket: BucketId) -> None:
    """Destroys a bucket of the staging store, which is nobody's."""
    if store.state(bucket) is not BucketState.ABSENT:
        for one in list(store.snapshots(bucket)):
            if one.id.name != GUARD:
                for tag in one.holds:
                    store.release([one.id], tag)
                store.destroy_snapshots([one.id])
    store.destroy(bucket)
