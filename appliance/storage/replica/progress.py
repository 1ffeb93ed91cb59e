"""What a box remembers of a replica: its key and last receipt, how far the journal was read, which buckets are to be sent.

Where it is lost every bucket is looked at again: that costs time, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from appliance.storage.keystore.files import make_directory, remove_durably, write_durably
from appliance.storage.names import BucketId, BucketNameError
from appliance.storage.replica.identity import lock_file
from appliance.storage.replica.ledger import bucket_at
from appliance.storage.replica.papers import RECEIPT, Receipt
from appliance.storage.vault.core import Vault
from appliance.storage.vault.holding import HoldingState

FOLDER: Final = "replicas"
_SUFFIX: Final = ".json"
_RECEIPT: Final = ".receipt"

log = structlog.get_logger()


@dataclass(slots=True)
class Dirt:
    """What is to be done of a bucket: `position` of the last journal entry of it, `bytes` that came since, since when.

    `changed`: it wants a new snapshot; else only snapshots and holds are to be arranged. `forced`: what changed is not in
    the journal, so that no older snapshot is known to have it.
    """

    position: int
    bytes: int
    since_ns: int
    changed: bool = True
    forced: bool = False


@dataclass(slots=True)
class _Kept:
    position: int = -1
    receipt: Receipt | None = None
    dirty: dict[str, Dirt] = field(default_factory=dict)


_KEPT = TypeAdapter(_Kept)


class Progress:
    """See the module. For one thread."""

    def __init__(self, vault: Vault, replica: str) -> None:
        self._vault = vault
        self._path = folder_of(vault) / f"{replica}{_SUFFIX}"
        self._replica = replica
        self._kept = _Kept()
        self.load()

    def load(self) -> None:
        """As another one may have left it."""
        try:
            self._kept = _KEPT.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            self._kept = _Kept()
        except ValidationError:
            log.error(
                "what was known of a replica cannot be read: it is found out again", replica=self._replica
            )
            self._kept = _Kept()

    def save(self) -> None:
        """Durable when it returns. OSError."""
        make_directory(self._path.parent)
        write_durably(self._path, _KEPT.dump_json(self._kept))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One alone works with a replica. ReplicaBusyError."""
        make_directory(self._path.parent)
        fd = lock_file(self._path.with_suffix(".lock"), self._replica)
        try:
            self.load()
            yield
        finally:
            os.close(fd)

    @property
    def receipt(self) -> Receipt | None:
        """The last that was checked."""
        return self._kept.receipt

    def note(self, receipt: Receipt) -> None:
        """Durable when it returns. OSError."""
        self._kept.receipt = receipt
        self.save()

    # What is to be sent.

    @property
    def dirty(self) -> dict[BucketId, Dirt]:
        """By bucket."""
        return {bucket_at(path): dirt for path, dirt in self._kept.dirty.items()}

    def mark(
        self, bucket: BucketId, *, changed: bool, forced: bool = False, position: int = 0, size: int = 0
    ) -> None:
        """There is something to be done of it."""
        found = self._kept.dirty.setdefault(bucket.path, Dirt(0, 0, self._vault.clock(), False))
        found.position = max(found.position, position)
        found.bytes += size
        found.changed = found.changed or changed
        found.forced = found.forced or forced

    def clean(self, bucket: BucketId) -> None:
        """Nothing is to be done of it."""
        self._kept.dirty.pop(bucket.path, None)

    def absorb(self) -> None:
        """Reads the journal on, and marks what changed; durable. Errors of the journal, OSError."""
        holdings, kept = self._vault.holdings, self._kept
        end = holdings.position
        before = kept.position
        if not 0 <= kept.position <= end:
            self._mark_all(end)
            kept.position = end
        while entries := holdings.since(kept.position):
            for entry in entries:
                held = entry.holding
                filed = held.state is HoldingState.FILED
                for bucket in _places(held.tenant_id, held.line_id, held.slice, held.case):
                    self.mark(bucket, changed=True, position=entry.position, size=held.size if filed else 0)
                kept.position = entry.position
        if kept.position != before:
            self.save()

    def _mark_all(self, position: int) -> None:
        rows = self._vault.holdings.rows(
            "SELECT tenant, line, slice, held_in, SUM(size) FROM holdings WHERE state IN ('filed', 'deleted')"
            " GROUP BY tenant, line, slice, held_in"
        )
        for tenant, line, slice_, case, size in rows:
            bucket = next(iter(_places(tenant, line, slice_, case)))
            self.mark(bucket, changed=True, position=position, size=size)


def _places(tenant_id: str, line_id: str, slice_: str, case: str) -> Iterator[BucketId]:
    """Where a recording lies, and where it lay before it was evacuated; none of one in quarantine."""
    try:
        if case:
            yield BucketId(tenant_id, "hold", case)
        yield BucketId(tenant_id, line_id, slice_)
    except BucketNameError:
        return


def folder_of(vault: Vault) -> Path:
    """Where this is kept."""
    return vault.layout.vault / FOLDER


def remembered(vault: Vault) -> set[str]:
    """Replicas of which there is anything."""
    return {path.stem for path in folder_of(vault).glob(f"*{_SUFFIX}") if not path.name.startswith(".")}


def forget(vault: Vault, replica: str) -> None:
    """Of it only its last receipt is kept: what it has confirmed it has confirmed."""
    receipt = Progress(vault, replica).receipt
    if receipt is not None:
        write_durably(folder_of(vault) / f"{replica}{_RECEIPT}", RECEIPT.dump_json(receipt))
    for suffix in (_SUFFIX, ".lock"):
        path = folder_of(vault) / f"{replica}{suffix}"
        if path.exists():
            remove_durably(path)


def confirmed(vault: Vault) -> dict[str, int]:
    """What replicas that were here at some time have confirmed, by their last receipts."""
    found = {}
    for path in folder_of(vault).glob(f"*{_RECEIPT}"):
        try:
            found[path.stem] = RECEIPT.validate_json(path.read_bytes()).number
        except ValidationError:
            log.error("a receipt cannot be read", replica=path.stem)
    for name in remembered(vault):
        receipt = Progress(vault, name).receipt
        if receipt is not None:
            found[name] = receipt.number
    return found
