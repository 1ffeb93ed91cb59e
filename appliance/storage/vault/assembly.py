"""The parts of a vault put together, as its process and its tests use them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from appliance.config.layout import Layout
from appliance.process.status import Status
from appliance.storage.keystore.rootslot import Fault, RootSlot, no_fault
from appliance.storage.retention.clock import Reading
from appliance.storage.vault.attendance import Attendance
from appliance.storage.vault.contract import BucketStore
from appliance.storage.vault.core import Vault
from appliance.storage.vault.erasure import Eraser
from appliance.storage.vault.expiry import Expiry
from appliance.storage.vault.filing import ORPHAN_AGE_S, Filer
from appliance.storage.vault.intake import Intake
from appliance.storage.vault.legal import LegalHolds
from appliance.storage.vault.parking import Parker
from appliance.storage.vault.policies import Policies
from appliance.storage.vault.reconcile import reconcile
from appliance.storage.vault.reconciled import Reconciled
from appliance.storage.vault.rulebook import Rulebook
from appliance.storage.vault.runs import Runs
from appliance.storage.vault.timekeeper import Timekeeper


class Assembly:
    """See the module."""

    def __init__(
        self,
        vault: Vault,
        *,
        read: Callable[[], Reading] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        orphan_age_s: float = ORPHAN_AGE_S,
    ) -> None:
        folder = vault.layout.vault
        self.vault = vault
        self.runs = Runs(folder / "runs")
        self.timekeeper = Timekeeper(
            folder / "clock.json",
            vault.status,
            floor=lambda: self.runs.floor_ns,
            history=vault.holdings.newest_created_ns() if vault.holdings.position else None,
            read=read,
        )
        self.policies = Policies(folder / "policies.json", lambda: self.timekeeper.state.clock_ns)
        self.legal = LegalHolds(vault, folder / "holds", monotonic=monotonic)
        vault.rules = Rulebook(self.timekeeper, self.policies, self.legal)
        self.attendance = Attendance(vault, monotonic=monotonic)
        self.intake = Intake(vault, monotonic=monotonic)
        self.filer = Filer(vault, orphan_age_s=orphan_age_s, monotonic=monotonic)
        self.parker = Parker(vault)
        self.eraser = Eraser(vault, self.intake)
        self.expiry = Expiry(vault, self.eraser, self.timekeeper, self.policies, self.legal, self.runs)
        self._settling = threading.Lock()
        self.eraser.load()

    @classmethod
    def open(
        cls,
        layout: Layout,
        status: Status,
        *,
        store: BucketStore | None = None,
        slots: RootSlot | None = None,
        fault: Fault = no_fault,
        clock: Callable[[], int] = time.time_ns,
        read: Callable[[], Reading] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        orphan_age_s: float = ORPHAN_AGE_S,
    ) -> Self:
        """A vault with everything. Errors as Vault.open; JournalCorruptError where policies, holds or runs are damaged."""
        vault = Vault.open(layout, status, store=store, slots=slots, fault=fault, clock=clock)
        try:
            return cls(vault, read=read, monotonic=monotonic, orphan_age_s=orphan_age_s)
        except BaseException:
            vault.close()
            raise

    def settle(self) -> Reconciled:
        """Completes what was begun before this start, then compares everything. Errors as the parts'."""
        with self._settling:
            self.eraser.resume()
            self.expiry.resume()
            self.parker.poll()
            self.legal.settle()
            found = reconcile(self.vault)
            if found.filed:
                self.legal.settle()  # a hold's scope may name what the journal has only known since
            return found

    def close(self) -> None:
        """Lets another process open it."""
        self.legal.close()
        self.runs.close()
        self.vault.close()
