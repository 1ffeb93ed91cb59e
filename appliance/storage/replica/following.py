"""How a replica is brought up to the deletion log, and how what it says of itself is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from appliance.storage.replica.errors import (
    DeletionLogBackError,
    DeletionLogForkError,
    ReplicaForeignError,
    ReplicaSignatureError,
)
from appliance.storage.replica.papers import Receipt
from appliance.storage.replica.progress import Progress
from appliance.storage.replica.target import ReplicaTarget
from appliance.storage.vault.core import Vault

AT_ONCE: Final = 64  # entries

log = structlog.get_logger()


class Following:
    """The log's way to one replica. For one thread; who uses it is alone with the replica (`Progress.alone`)."""

    def __init__(self, vault: Vault, progress: Progress, replica: str) -> None:
        self._vault = vault
        self._progress = progress
        self._replica = replica

    def greet(self, target: ReplicaTarget) -> bool:
        """Learns how far the replica is; whether it is less far than it has said before: an older copy was put back.

        ReplicaForeignError, ReplicaSignatureError, DeletionLogBackError, DeletionLogForkError.
        """
        receipt = target.greet(self._vault.keystore.device_public_key.hex())
        before = self._progress.receipt
        self._check(receipt)
        stale = before is not None and receipt.number < before.number
        if stale:
            log.error(
                "a replica is older than it was",
                replica=self._replica,
                number=receipt.number,
                confirmed=before.number if before else 0,
            )
        self._note(receipt)
        return stale

    def bring(self, target: ReplicaTarget, going_on: Callable[[], None] = lambda: None) -> int:
        """Tells the replica what it does not know of the log; how many entries. `going_on` raises where it shall end.

        Errors of ReplicaTarget.apply and of `greet`.
        """
        told = 0
        while entries := self._vault.deletions.since(self.number, AT_ONCE):
            going_on()
            receipt = target.apply(entries)
            self._check(receipt)
            if receipt.number != entries[-1].number:
                raise ReplicaSignatureError("a receipt is not of what was told", what="receipt")
            self._note(receipt)
            self._vault.fault("receipt noted")
            told += len(entries)
        return told

    @property
    def number(self) -> int:
        """How far the replica has followed, as it has last said."""
        return self._progress.receipt.number if self._progress.receipt else 0

    def _note(self, receipt: Receipt) -> None:
        before = self._progress.receipt
        if before is None or before.number != receipt.number:
            self._progress.note(receipt)
        self._vault.confirmed[self._replica] = receipt.number

    def _check(self, receipt: Receipt) -> None:
        before, deletions = self._progress.receipt, self._vault.deletions
        if not receipt.holds() or receipt.device_public_key != self._vault.keystore.device_public_key.hex():
            raise ReplicaSignatureError("a receipt is not signed, or is of another box", what="receipt")
        known = before.replica_public_key if before else receipt.replica_public_key
        if (receipt.replica, receipt.replica_public_key) != (self._replica, known):
            raise ReplicaForeignError("another replica answers under this name", replica=self._replica)
        if receipt.number > deletions.number:
            raise DeletionLogBackError(
                "the deletion log ends before what the replica has followed: older data was put back here",
                number=receipt.number,
                end=deletions.number,
            )
        if receipt.digest != deletions.digest_at(receipt.number):
            raise DeletionLogForkError("the replica has followed another log", number=receipt.number)
