"""Drives one replica: the log first, then the buckets that changed, each from the last snapshot both have.

A bucket's round: snapshot `r-<replica>-<n>`, its hold, the streams that the copy lacks, holds and snapshots there
arranged, then the older snapshots here are let go. Each step is done if it is not done; a crash leaves what the next round
goes on from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

import structlog

from appliance.model import EarwitnessError, UnavailableError
from appliance.storage.replica.errors import ReplicationStoppedError
from appliance.storage.replica.following import Following
from appliance.storage.replica.papers import Notice, check_name, mark_of, notice_of, number_in, tag_of
from appliance.storage.replica.progress import Dirt, Progress
from appliance.storage.replica.rounds import Failure, Round
from appliance.storage.replica.route import Leg, route
from appliance.storage.replica.sweep import sweep
from appliance.storage.replica.target import ReplicaTarget
from appliance.storage.vault.contract import BucketId, BucketState, Snapshot, SnapshotId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import (
    BucketBusyError,
    BucketLockedError,
    BucketMissingError,
    ReplicaDivergedError,
    SnapshotMissingError,
)

TRIES: Final = 3
"""Of a stream, and of taking hold of what it needs, in one round."""
GIVE_UP: Final = 3
"""Buckets in a row that failed because something does not answer: the round ends."""
LOG_WAITS_S: Final = 30.0
"""How long an entry of the log waits for a stream: then the stream breaks off, and goes on when the entry is told."""
POSITION: Final = "ew:position"
_AT_ONCE: Final = 500

log = structlog.get_logger()


class _LogWaits(Exception):
    """A stream is broken off for the log."""


class Replicator:
    """See the module. One round at a time, over all processes: ReplicaBusyError."""

    def __init__(
        self,
        vault: Vault,
        name: str,
        connect: Callable[[], ReplicaTarget],
        *,
        stopping: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        check_name(name)
        self.name = name
        self._vault = vault
        self._connect = connect
        self._stopping = stopping
        self._monotonic = monotonic
        self._target: ReplicaTarget | None = None
        self._swept = float("-inf")
        self._leftovers = 0
        self._rearranged: Counter[BucketId] = Counter()
        self.progress = Progress(vault, name)
        self._following = Following(vault, self.progress, name)
        vault.confirmed[name] = self._following.number

    def close(self) -> None:
        """Lets go of the replica."""
        if self._target is not None:
            self._target.close()
            self._target = None

    @property
    def target(self) -> ReplicaTarget:
        """The replica, connected to. Errors of who connects."""
        if self._target is None:
            self._target = self._connect()
        return self._target

    def _go_on(self) -> None:
        if self._stopping():
            raise ReplicationStoppedError("the process is about to stop")

    # A round.

    def round(self, *, buckets: bool = True, sweep_after_s: float = 0.0) -> Round:
        """Brings the replica up to date as far as that can be done; failures are in what it gives.

        Not `buckets`: the log alone.
        `sweep_after_s`: everything is compared again where that was not done for so long. ReplicaBusyError, OSError;
        ReplicationStoppedError.
        """
        done = Round()
        with self.progress.alone():
            try:
                self._absorb()
                self._follow(done)
                done.ailments += self.target.health()
                if not buckets:
                    return done
                if self._monotonic() - self._swept >= sweep_after_s:
                    self._leftovers = sweep(self._vault, self.name, self.target.copies(), self.progress)
                    self._swept = self._monotonic()
                self._buckets(done)
            except ReplicationStoppedError:
                raise
            except (EarwitnessError, OSError) as error:
                self._failed(done, "", error)
            finally:
                self._sum_up(done)
                self.progress.save()
        return done

    def _absorb(self) -> None:
        """What changed since the last round."""
        self.progress.absorb()
        for bucket, count in self._vault.rearranged.copy().items():
            if count != self._rearranged[bucket]:
                self.progress.mark(bucket, changed=True, forced=True)
                self._rearranged[bucket] = count

    def _follow(self, done: Round) -> None:
        try:
            done.stale = self._following.greet(self.target)
            done.entries += self._following.bring(self.target, self._go_on)
        except BaseException:
            self.close()  # the next round looks at it as if for the first time
            raise

    def _sum_up(self, done: Round) -> None:
        dirty = self.progress.dirty
        done.left = len(dirty)
        done.left_bytes = sum(dirt.bytes for dirt in dirty.values())
        done.left_since_ns = min((dirt.since_ns for dirt in dirty.values()), default=0)
        done.leftovers = self._leftovers

    def _failed(self, done: Round, bucket: str, error: EarwitnessError | OSError) -> None:
        if isinstance(error, EarwitnessError):
            done.failures.append(Failure(bucket, error.reason, error.message))
        else:
            done.failures.append(Failure(bucket, "IO", error.strerror or type(error).__name__))
        log.warning("not replicated", replica=self.name, bucket=bucket, reason=done.failures[-1].reason)

    def _buckets(self, done: Round) -> None:
        """Legal holds' first, then what waits for longest."""
        unanswered = 0
        dirty = self.progress.dirty
        for bucket in sorted(dirty, key=lambda one: (not one.of_hold, dirty[one].since_ns, one)):
            self._go_on()
            try:
                done.entries += self._following.bring(self.target, self._go_on)
                if self._one(bucket, dirty[bucket], done):
                    self.progress.clean(bucket)
                    done.buckets += 1
                else:
                    done.gave_way += 1
                unanswered = 0
            except ReplicationStoppedError:
                raise
            except EarwitnessError as error:
                self._failed(done, bucket.path, error)
                unanswered = unanswered + 1 if isinstance(error, UnavailableError) else 0
                if unanswered == GIVE_UP:
                    return

    # A bucket.

    def _one(self, bucket: BucketId, dirt: Dirt, done: Round) -> bool:
        """Brings one copy up to date; false where somebody else wants the bucket. Errors of vault, stores, target."""
        try:
            for _ in range(2):  # once more where a snapshot of before a crash had to go first
                if self._vault.is_shut(bucket):
                    return False
                if self._vault.store.state(bucket) is BucketState.ABSENT:
                    return True  # it expired: the log tells
                newest, fresh = self._newest(bucket, dirt)
                self._bring_up_to(bucket, newest.id.name, done)
                if fresh or (not dirt.forced and _position(newest) >= dirt.position):
                    break
            return True
        except BucketBusyError:
            if not self._vault.is_shut(bucket):
                raise
            return False
        except (BucketMissingError, SnapshotMissingError):
            if self._vault.store.state(bucket) is not BucketState.ABSENT:
                raise
            return True

    def _newest(self, bucket: BucketId, dirt: Dirt) -> tuple[Snapshot, bool]:
        """The snapshot that the copy shall have: one that is not there yet, or has all that is to be sent; or a new one."""
        store, position = self._vault.store, self._vault.holdings.position
        own = self._own(list(store.snapshots(bucket)))
        there = self.target.copy(bucket).snapshots
        if own and (mark_of(own[-1]) not in there or not dirt.changed or _has_all(own[-1], dirt)):
            store.hold([own[-1].id], tag_of(self.name))
            return own[-1], False
        numbers = [number_in(self.name, mark.name) for mark in there]
        numbers += [number_in(self.name, one.id.name) for one in own]
        taken = SnapshotId(bucket, f"r-{self.name}-{max(numbers, default=0) + 1}")
        self._take(taken, position)
        self._vault.fault("replica snapshot taken")
        store.hold([taken], tag_of(self.name))
        self._vault.fault("replica snapshot held")
        (found,) = [one for one in store.snapshots(bucket) if one.id == taken]
        return found, True

    def _take(self, taken: SnapshotId, position: int) -> None:
        properties = {"ew:kind": "replica", POSITION: str(position)}
        try:
            self._vault.store.snapshot([taken.bucket], taken.name, properties)
        except BucketLockedError:
            # It was not closed in good order: it has to be opened once.
            self._vault.buckets.open(taken.bucket)
            self._vault.store.snapshot([taken.bucket], taken.name, properties)

    def _own(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        found = [one for one in snapshots if number_in(self.name, one.id.name)]
        return sorted(found, key=lambda one: number_in(self.name, one.id.name))

    def _bring_up_to(self, bucket: BucketId, newest: str, done: Round) -> None:
        store, target = self._vault.store, self.target
        here, legs = self._legs(bucket, newest)
        older = [one for one in here if number_in(self.name, one.id.name) and one.id.name != newest]
        sent = [one for one in here if one.id.name not in {item.id.name for item in older}]
        notice = notice_of(self.name, bucket, self._following.number, sent, self._vault.keystore.device_key)
        there = {mark.name for mark in target.copy(bucket).snapshots}
        if any(leg.snapshot in there for leg in legs):
            target.arrange(notice)  # one was let go here since, and another has its name
        for leg in legs:
            self._send(bucket, leg, notice, done)
            self._vault.fault("snapshot replicated")
        target.arrange(notice)
        self._vault.fault("copy arranged")
        tag = tag_of(self.name)
        free = [one.id for one in store.snapshots(bucket) if tag in one.holds and one.id.name != newest]
        store.release(free, tag)
        self._vault.fault("replica snapshots released")
        older = [one for one in older if one.holds <= {tag}]  # what somebody else holds stays
        for first in range(0, len(older), _AT_ONCE):
            store.destroy_snapshots([one.id for one in older[first : first + _AT_ONCE]])
        self._vault.fault("replica snapshots destroyed")

    def _legs(self, bucket: BucketId, newest: str) -> tuple[list[Snapshot], tuple[Leg, ...]]:
        """What is here, and what is to be sent, held so that nobody takes it away meanwhile."""
        store = self._vault.store
        there = self.target.copy(bucket).snapshots
        tries = TRIES
        while True:
            here = list(store.snapshots(bucket))
            legs = route(self.name, [mark_of(one) for one in here], there, newest)
            if legs is None:
                raise ReplicaDivergedError(
                    "the copy's last snapshot is not one of the box's: it has to come anew",
                    bucket=bucket.path,
                )
            needed = {name for leg in legs for name in (leg.snapshot, leg.base) if name}
            late = [
                one.id
                for one in here
                if one.id.name in needed and tag_of(self.name) not in one.holds and one.id.name != "guard"
            ]
            try:
                store.hold(late, tag_of(self.name))
            except SnapshotMissingError:  # one was let go since it was listed
                tries -= 1
                if not tries:
                    raise
            else:
                self._vault.fault("snapshots to send held")
                return here, legs

    def _send(self, bucket: BucketId, leg: Leg, notice: Notice, done: Round) -> None:
        """One stream; gone on with where it broke off, or begun anew where that does not work."""
        used, tries = False, TRIES
        while True:
            resume = "" if used else self.target.copy(bucket).resume
            used = bool(resume)
            try:
                stream = self._vault.store.send(bucket, leg.snapshot, base=leg.base, resume=resume)
                pieces = self._counted(bucket, iter(stream.pieces), done)
                with closing(pieces):
                    self.target.receive(replace(stream, pieces=pieces), notice)
                return
            except _LogWaits:
                used = False
                done.entries += self._following.bring(self.target, self._go_on)
            except (ReplicationStoppedError, BucketBusyError, BucketMissingError):
                raise
            except EarwitnessError as error:
                tries -= 1
                if not tries or (isinstance(error, ReplicaDivergedError) and not used):
                    raise
                log.warning("a stream broke off", replica=self.name, bucket=bucket.path, reason=error.reason)

    def _counted(
        self, bucket: BucketId, pieces: Iterator[bytes], done: Round
    ) -> Generator[bytes, None, None]:
        """Ends where the process stops, somebody wants the bucket, or the log has waited for long enough."""
        waits_from = self._monotonic()
        try:
            for piece in pieces:
                self._go_on()
                if self._vault.deletions.number == self._following.number:
                    waits_from = self._monotonic()
                elif self._monotonic() - waits_from >= LOG_WAITS_S:
                    raise _LogWaits
                if self._vault.is_shut(bucket):
                    raise BucketBusyError("the bucket is wanted by somebody else", bucket=bucket.path)
                done.bytes += len(piece)
                yield piece
        finally:
            close = getattr(pieces, "close", None)
            if close:
                close()

    # What somebody asks for.

    def start_over(self, buckets: Sequence[BucketId] = ()) -> list[BucketId]:
        """Destroys copies that do not go on from what is here, or those named, to send them anew; which.

        Only of buckets that are here: what is a copy's alone is never destroyed. ReplicaBusyError; errors of the target.
        """
        begun = []
        with self.progress.alone():
            self._following.greet(self.target)
            self._following.bring(self.target, self._go_on)
            copies = self.target.copies()
            for bucket in buckets or sorted(copies):
                if self._vault.store.state(bucket) is BucketState.ABSENT or not (
                    buckets or self._astray(bucket, copies[bucket].snapshots)
                ):
                    continue
                here = list(self._vault.store.snapshots(bucket))
                key = self._vault.keystore.device_key
                notice = notice_of(self.name, bucket, self._following.number, here, key)
                self.target.discard(replace(notice, anew=True).sign(key))
                self.progress.mark(bucket, changed=True)
                self.progress.save()
                begun.append(bucket)
        return begun

    def _astray(self, bucket: BucketId, there: Sequence[object]) -> bool:
        here = [mark_of(one) for one in self._vault.store.snapshots(bucket)]
        return bool(there) and there[-1] not in here


def _has_all(snapshot: Snapshot, dirt: Dirt) -> bool:
    return not dirt.forced and _position(snapshot) >= dirt.position > 0


def _position(snapshot: Snapshot) -> int:
    found = snapshot.properties.get(POSITION, "")
    return int(found) if found.isdigit() else 0
