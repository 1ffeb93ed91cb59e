"""All replicas of a box: a round with each every minute; the log at once when something is erased or held; the report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import structlog

from appliance.model import EarwitnessError
from appliance.process.status import WARNING
from appliance.storage.names import SnapshotId
from appliance.storage.replica.errors import (
    ReplicaBusyError,
    ReplicaConfiguredError,
    ReplicationStoppedError,
    ReplicaUnknownError,
)
from appliance.storage.replica.papers import Receipt, number_in, tag_of
from appliance.storage.replica.progress import Progress, confirmed, forget, remembered
from appliance.storage.replica.replicator import Replicator
from appliance.storage.replica.report import Standing, tell
from appliance.storage.replica.rounds import Round
from appliance.storage.replica.target import ReplicaTarget
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.core import Vault

EVERY_S: Final = 60.0
SWEEP_S: Final = 6 * 3600.0
_TAG: Final = "ew.replica."
_AT_ONCE: Final = 500

Connect = Callable[[], ReplicaTarget]

log = structlog.get_logger()


class Replication:
    """See the module. `replicas`: by name, how each is connected to; it may be away, now or always."""

    def __init__(
        self,
        vault: Vault,
        replicas: Mapping[str, Connect],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._telling = threading.Lock()
        self._looked = float("-inf")
        self._wakes = {name: threading.Event() for name in replicas}
        self._rounded = dict.fromkeys(replicas, float("-inf"))
        self._broken: BaseException | None = None
        vault.confirmed.update(confirmed(vault))
        self._replicators = {
            name: Replicator(vault, name, connect, stopping=self._stopping.is_set, monotonic=monotonic)
            for name, connect in replicas.items()
        }
        self._standings = {name: Standing(name) for name in replicas}
        vault.replicas = tuple(replicas)
        vault.deletions.woken = self._wake

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()

    # In a thread of its own, with one for each replica: none waits for another.

    def run(self) -> None:
        """Until `stop`. What fails is told and tried again; what nobody foresaw is raised."""
        threads = [
            threading.Thread(target=self._follow, args=(name,), name=f"replica {name}", daemon=True)
            for name in self._replicators
        ]
        for thread in threads:
            thread.start()
        while not self._stopping.is_set():
            self._look_for_strays()
            self._stopping.wait(EVERY_S)
        for thread in threads:
            thread.join()
        if self._broken is not None:
            raise self._broken

    def _follow(self, name: str) -> None:
        wake = self._wakes[name]
        try:
            while not self._stopping.is_set():
                wake.clear()
                self._round(name, buckets=self._monotonic() - self._rounded[name] >= EVERY_S)
                wake.wait(max(0.0, EVERY_S - (self._monotonic() - self._rounded[name])))
        except ReplicationStoppedError:
            return
        except BaseException as error:
            self._broken = error
            self.stop()
            raise

    def stop(self) -> None:
        """Ends `run` soon: what is being sent breaks off, and goes on at the next start."""
        self._stopping.set()
        self._wake()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    def close(self) -> None:
        """Lets go of the replicas."""
        self._vault.deletions.woken = lambda: None
        for replicator in self._replicators.values():
            replicator.close()

    def look(self, *, buckets: bool = True) -> dict[str, Round]:
        """One round with each, of the log and the buckets or of the log alone.

        Replicas that another one works with, and what fails, are left to the next.
        """
        found = {name: self._round(name, buckets=buckets) for name in self._replicators}
        self._look_for_strays()
        return {name: done for name, done in found.items() if done is not None}

    def _round(self, name: str, *, buckets: bool) -> Round | None:
        """ReplicationStoppedError."""
        if buckets:
            self._rounded[name] = self._monotonic()
        try:
            done = self._replicators[name].round(buckets=buckets, sweep_after_s=SWEEP_S)
        except ReplicaBusyError as error:
            log.info("another one is at work", replica=name, reason=error.reason)
            return None
        except OSError as error:
            log.error("replication cannot be noted", replica=name, error=type(error).__name__)
            return None
        vault = self._vault
        behind = vault.deletions.number - vault.confirmed.get(name, 0)
        with self._telling:
            self._standings[name].take(done, behind, vault.clock(), whole=buckets)
            self._count(name, done)
            tell(vault.status, list(self._standings.values()), vault.clock())
        return done

    def _count(self, name: str, done: Round) -> None:
        status = self._vault.status
        status.count(f"replica_{name}_bytes_sent", done.bytes)
        status.count(f"replica_{name}_entries_told", done.entries)
        if done.stale:
            status.count(f"replica_{name}_put_back")

    def _look_for_strays(self) -> None:
        if self._monotonic() - self._looked < SWEEP_S:
            return
        try:
            strays = self.strays()
        except EarwitnessError as error:
            log.warning("snapshots cannot be looked through", reason=error.reason)
            return
        self._looked = self._monotonic()
        if strays:
            self._vault.status.raise_condition(
                "ReplicaUnconfigured",
                WARNING,
                f"Snapshots are kept for replicas that are not in the settings: {', '.join(strays)}. Put them back into "
                "the settings, or forget them.",
            )
        else:
            self._vault.status.clear_condition("ReplicaUnconfigured")

    # What somebody asks for.

    def receipt(self, name: str) -> Receipt | None:
        """The last of a replica. ReplicaUnknownError."""
        return self._replicator(name).progress.receipt

    def start_over(self, name: str, buckets: tuple[BucketId, ...] = ()) -> list[BucketId]:
        """Copies that do not go on from what is here, or those named, come anew; which. ReplicaUnknownError."""
        begun = self._replicator(name).start_over(buckets)
        self._rounded[name] = float("-inf")
        self._wakes[name].set()
        return begun

    @contextmanager
    def target(self, name: str) -> Iterator[ReplicaTarget]:
        """A replica for somebody who brings copies back, alone with it. ReplicaUnknownError, ReplicaBusyError."""
        replicator = self._replicator(name)
        with replicator.progress.alone():
            yield replicator.target

    def _replicator(self, name: str) -> Replicator:
        if name not in self._replicators:
            raise ReplicaUnknownError("there is no replica of this name", replica=name)
        return self._replicators[name]

    def strays(self) -> list[str]:
        """Replicas that are not in the settings, and for which snapshots are kept, or of which something is noted."""
        found = remembered(self._vault)
        for one, tags in self._vault.store.survey().snapshots().items():
            found |= {tag.removeprefix(_TAG) for tag in tags if tag.startswith(_TAG)}
            if one.name.startswith("r-"):
                found.add(one.name.split("-")[1])
        return sorted(found - set(self._replicators))

    def forget(self, name: str) -> int:
        """Lets go everything that is kept for a replica that is no more; how many snapshots were destroyed.

        ReplicaConfiguredError where it is in the settings, ReplicaUnknownError where there is nothing of it. Errors of the
        store: ask again.
        """
        if name in self._replicators:
            raise ReplicaConfiguredError("the replica is in the settings: take it out first", replica=name)
        if name not in self.strays():
            raise ReplicaUnknownError("there is nothing of such a replica", replica=name)
        vault, tag = self._vault, tag_of(name)
        with Progress(vault, name).alone():
            found = vault.store.survey().snapshots()
            vault.store.release([one for one, tags in found.items() if tag in tags], tag)
            vault.fault("replica's holds released")
            own = _unheld(name, found)
            for first in range(0, len(own), _AT_ONCE):
                vault.store.destroy_snapshots(own[first : first + _AT_ONCE])
                vault.fault("replica's snapshots destroyed")
            forget(vault, name)
        self._looked = float("-inf")
        log.info("replica forgotten", replica=name, snapshots=len(own))
        return len(own)


def _unheld(name: str, snapshots: Mapping[SnapshotId, frozenset[str]]) -> list[SnapshotId]:
    """Its own; what somebody else holds stays, and is told by the retention plan."""
    return [one for one, tags in snapshots.items() if number_in(name, one.name) and tags <= {tag_of(name)}]
