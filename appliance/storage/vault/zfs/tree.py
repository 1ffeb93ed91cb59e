"""Names of datasets below the root, and what belongs there by its name."""

from __future__ import annotations

from appliance.model import is_id
from appliance.storage.names import HOLD_LINE, BucketId, BucketNameError, SnapshotId
from appliance.storage.vault.errors import StoreRefusedError


class Tree:
    """Names of datasets below the root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.pool = root.partition("/")[0]
        parent, _, last = root.rpartition("/")
        if not parent or not last:
            raise StoreRefusedError(
                "the root of the buckets is a dataset within a pool", found=root, wanted="pool/name"
            )
        self.reserve = f"{parent}/ew-reserve"

    def dataset(self, bucket: BucketId) -> str:
        """A bucket's."""
        return f"{self.root}/{bucket.path}"

    def tenant(self, tenant_id: str) -> str:
        """A tenant's; BucketNameError."""
        if not is_id(tenant_id):
            raise BucketNameError("a tenant is named by an id", field="tenant_id")
        return f"{self.root}/{tenant_id}"

    def line(self, bucket: BucketId) -> str:
        """Of the line, or of the tenant's legal holds."""
        return f"{self.root}/{bucket.tenant_id}/{bucket.line_id}"

    def snapshot(self, snapshot: SnapshotId) -> str:
        """A snapshot's."""
        return f"{self.dataset(snapshot.bucket)}@{snapshot.name}"

    def below(self, name: str) -> str:
        """A name without the root."""
        return name.removeprefix(f"{self.root}/")

    def bucket(self, name: str) -> BucketId | None:
        """Which bucket a dataset would be, by its name alone."""
        try:
            tenant, line, slice_ = self.below(name).split("/")
            return BucketId(tenant, line, slice_)
        except (ValueError, BucketNameError):
            return None

    def expected(self, name: str, kind: str, depth: int) -> bool:
        """Whether a dataset at this depth below the root is, by name and kind, what we would have made there."""
        if depth < 3:
            parts = self.below(name).split("/")[:depth]
            named = all(is_id(part) or (place == 1 and part == HOLD_LINE) for place, part in enumerate(parts))
            return named and kind == ("root", "tenant", "line")[depth]
        return depth == 3 and kind == "bucket" and self.bucket(name) is not None
