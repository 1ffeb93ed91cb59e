"""How a bucket stands on this box, held against the journal: what a bringing back goes by."""

from __future__ import annotations

from appliance.storage.keystore.errors import BucketKeyAbsentError
from appliance.storage.names import BucketId
from appliance.storage.vault.core import Vault
from appliance.storage.vault.errors import SnapshotMissingError
from appliance.storage.vault.holding import KEPT, Holding, HoldingState
from appliance.storage.vault.sidecars import Sidecars


class Standing:
    """Of one vault. Errors of its store."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.sidecars = Sidecars(vault)

    def has_key(self, bucket: BucketId) -> bool:
        """Whether the bucket may be read: an expired one has no key any more."""
        try:
            self._vault.keystore.bucket_key(bucket.tenant_id, bucket.line_id, bucket.slice)
        except BucketKeyAbsentError:
            return False
        return True

    def kept(self, bucket: BucketId) -> list[Holding]:
        """Recordings of a bucket that should have a file."""
        return [held for held in self._vault.holdings.in_bucket(bucket) if held.state in KEPT]

    def erased(self, bucket: BucketId) -> int:
        """How many of its recordings are erased."""
        found = self._vault.holdings.in_bucket(bucket)
        return sum(held.state is HoldingState.ERASED for held in found)

    def lies(self, held: Holding) -> bool:
        """Whether a recording is where the journal says."""
        store = self._vault.store
        try:
            return store.find(held.bucket, held.recording_id, snapshot=held.parked) is not None
        except SnapshotMissingError:
            return False

    def is_damaged(self, held: Holding) -> bool:
        """Whether something is wrong with the sidecar of a recording, or it is missing."""
        return self.sidecars.look(held)[1] is not None

    def lacks(self, bucket: BucketId) -> bool:
        """Whether something of a bucket that is here is not, or a sidecar in it is damaged. It is open then."""
        self._vault.buckets.open(bucket)
        return any(not self.lies(held) or self.is_damaged(held) for held in self.kept(bucket))
