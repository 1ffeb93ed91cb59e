"""Marks of buckets whose files and journal were compared and found in order, so that they need not be opened again."""

from __future__ import annotations

import hashlib
from typing import Final

from appliance.storage.vault.contract import BucketId, Surveyed
from appliance.storage.vault.core import Vault

AT_ONCE: Final = 50  # each time costs a sync
VERSION: Final = "1"
"""Another one where a comparison looks for more than it did: then every bucket is looked into once more."""


class InOrder:
    """See the module. For one comparison."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._waiting: dict[BucketId, tuple[str, int]] = {}

    def word(self, bucket: BucketId, found: Surveyed) -> str:
        """What a bucket is marked with: of the journal's holdings in it, and of the snapshots that have deleted ones."""
        grace = ",".join(sorted(name for name in found.tags if name.startswith("g-")))
        said = f"{self._vault.holdings.fingerprint(bucket)} {grace}"
        return f"{VERSION}:{hashlib.sha256(said.encode()).hexdigest()[:32]}"

    def add(self, bucket: BucketId, word: str, times: int) -> None:
        """One that is in order and locked. `times`: how often it had been opened when it was looked into."""
        self._waiting[bucket] = (word, times)
        if len(self._waiting) >= AT_ONCE:
            self.mark()

    def mark(self) -> None:
        """Marks those that wait, but what somebody has opened since."""
        opened = self._vault.buckets.opened
        still = {one: word for one, (word, times) in self._waiting.items() if opened(one) == times}
        self._waiting.clear()
        if still:
            self._vault.fault("about to mark buckets")
            self._vault.store.mark(still)
