"""How far a keystore is known to have gone: its owner writes it down elsewhere, so that an older one put back is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.storage.keystore.epochfile import derive
from appliance.storage.keystore.errors import KeystoreRolledBackError
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.rootslot import RootKey


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """An epoch, and how many records its journal has, at least, in every copy."""

    epoch: int = 0
    records: int = 0

    def refuse_older_epoch(self, epoch: int) -> None:
        """KeystoreRolledBackError where that is the highest epoch of any copy, and it is below this."""
        if epoch < self.epoch:
            raise KeystoreRolledBackError(
                "every copy of the keystore is older than one that was there before",
                epoch=epoch,
                floor=self.epoch,
            )

    def refuse_older_journal(self, root: RootKey, paths: Sequence[Path]) -> None:
        """KeystoreRolledBackError where no copy of the journal of the present epoch goes this far; changes nothing.

        KeystoreCorruptError as at the opening.
        """
        if root.epoch != self.epoch or not self.records:
            return
        key = derive(root.key, root.epoch, b"journal")
        records = KeyJournal(paths, key, root.epoch, [], mends=False).end.number
        if records < self.records:
            raise KeystoreRolledBackError(
                "every copy of the keystore is older than one that was there before: keys that were in it are not there",
                epoch=root.epoch,
                floor=self.epoch,
                records=records,
                floor_records=self.records,
            )


UNKNOWN = Reach()
"""Nothing is known: no keystore is below it."""
