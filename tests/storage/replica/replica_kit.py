"""A vault with a replica, which can crash, be away, be looked into, and be put back as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from conftest_vault import Faults, House
from ground import Ground, calm

from appliance.storage.replica.local import LocalTarget
from appliance.storage.replica.replication import Replication
from appliance.storage.replica.replicator import Replicator
from appliance.storage.replica.rounds import Round
from appliance.storage.vault.contract import BucketId, BucketState, BucketStore, SnapshotId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.directory import DirectoryStore
from appliance.storage.vault.errors import StoreUnavailableError

NAME = "north"
TAG = f"ew.replica.{NAME}"

Fault = Callable[[str], None]


class Pair:
    """See the module."""

    def __init__(self, house: House, state: Path) -> None:
        self.house = house
        self.state = state
        self.away = False
        self.replication: Replication | None = None
        self.fault: Fault = calm
        self.targets: list[LocalTarget] = []

    @property
    def ground(self) -> Ground:
        return self.house.ground

    @property
    def vault(self) -> Vault:
        assert self.house.vault is not None
        return self.house.vault

    def open(self, fault: Fault = calm, replicas: tuple[str, ...] = (NAME,)) -> Vault:
        """As the process starts."""
        self.close()
        self.fault = fault
        vault = self.house.open(fault)
        if isinstance(vault.store, DirectoryStore):
            # A snapshot is told from another of its name by its second: here the tests' seconds pass, not the machine's.
            vault.store._snapshots._clock = lambda: self.house.clocks.wall_ns
        self.replication = Replication(
            vault, dict.fromkeys(replicas, self.connect), monotonic=self.house.clock
        )
        return vault

    def connect(self) -> LocalTarget:
        if self.away:
            raise StoreUnavailableError("the replica is away", errno=5)
        target = LocalTarget(
            self.ground.second(self.fault),
            self.state,
            NAME,
            fault=self.fault,
            clock=lambda: self.house.clocks.wall_ns,
        )
        self.targets.append(target)
        return target

    def close(self) -> None:
        if self.replication is not None:
            self.replication.close()
            self.replication = None
        self.targets.clear()
        self.house.close()

    @property
    def replicator(self) -> Replicator:
        assert self.replication is not None
        return self.replication._replicators[NAME]

    @property
    def target(self) -> LocalTarget:
        found = self.replicator.target
        assert isinstance(found, LocalTarget)
        return found

    @property
    def far(self) -> BucketStore:
        """The replica's store."""
        return self.target._store

    def look(self, minutes: float = 1) -> Round:
        """The next round, whatever it comes to."""
        assert self.replication is not None
        self.house.clocks.pass_(int(minutes * 60 * 10**9))
        self.house.clock.now += minutes * 60
        return self.replication.look()[NAME]

    def go(self) -> Round:
        """The next round, which brings everything up to date."""
        done = self.look()
        assert done.complete, done
        assert self.vault.confirmed[NAME] == self.vault.deletions.number
        return done

    def sweep(self) -> Round:
        """The next round in which everything is compared."""
        self.replicator._swept = float("-inf")
        return self.go()

    # What is there.

    def conditions(self) -> set[str]:
        return {item.type for item in self.house.status.conditions() if item.type.startswith("Replica")}

    def there(self, bucket: BucketId) -> list[str]:
        """Names of the copy's snapshots, without the guard."""
        if self.far.state(bucket) is BucketState.ABSENT:
            return []
        return [item.id.name for item in self.far.snapshots(bucket) if item.id.name != "guard"]

    def tags_there(self, bucket: BucketId) -> dict[str, set[str]]:
        return {
            item.id.name: set(item.holds)
            for item in self.far.snapshots(bucket)
            if item.holds and item.id.name != "guard"
        }

    def kept_here(self, bucket: BucketId) -> dict[str, set[str]]:
        """What the box keeps for the replica."""
        return {
            item.id.name: set(item.holds) for item in self.vault.store.snapshots(bucket) if TAG in item.holds
        }

    def check_same(self) -> None:
        """Each recording that is filed is in the newest snapshot there, byte for byte, and nothing more is."""
        vault, by_bucket = self.vault, {}
        for held in vault.holdings.where("state = 'filed'"):
            by_bucket.setdefault(held.bucket, set()).add(held.recording_id)
        for bucket in vault.store.buckets():
            by_bucket.setdefault(bucket, set())
        assert set(by_bucket) <= set(self.far.buckets())
        for bucket, names in by_bucket.items():
            newest = self.there(bucket)[-1]
            assert newest.startswith(f"r-{NAME}-")
            assert self.far.state(bucket) is BucketState.LOCKED
            self.unlock_there(bucket)
            assert {item.recording_id for item in self.far.files(bucket, snapshot=newest)} == names
            for name in names:
                with self.far.read(bucket, name, snapshot=newest) as file:
                    assert file.read() == self.house.stored(name)
            self.far.lock(bucket)

    def names_there(self, bucket: BucketId, snapshot: str) -> set[str]:
        """What the test, which has the key, finds in a snapshot there."""
        self.unlock_there(bucket)
        found = {item.recording_id for item in self.far.files(bucket, snapshot=snapshot)}
        self.far.lock(bucket)
        return found

    def unlock_there(self, bucket: BucketId) -> None:
        key = self.vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)
        self.far.unlock(bucket, key)


def wipe(store: BucketStore) -> None:
    """A medium is lost with all that is on it."""
    for bucket in list(store.buckets()):
        for item in list(store.snapshots(bucket)):
            if item.id.name == "guard":
                continue
            for tag in item.holds:
                store.release([item.id], tag)
            store.destroy_snapshots([SnapshotId(bucket, item.id.name)])
        with suppress(FileNotFoundError):
            store.destroy(bucket)


__all__ = ["NAME", "TAG", "Faults", "Pair", "wipe"]
