"""When the vault does what takes its time: at the start, every minute, and nightly by the retention clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from appliance.model import EarwitnessError
from appliance.process.status import ALARM
from appliance.storage.retention.period import DAY_NS
from appliance.storage.vault.assembly import Assembly

MINUTE_S: Final = 60.0
NIGHT_NS: Final = 2 * DAY_NS // 24
"""Retention runs after two in the morning (UTC)."""

log = structlog.get_logger()


class Calendar:
    """See the module. For one thread; `look` returns when what is due is done."""

    def __init__(self, parts: Assembly, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._monotonic = monotonic
        self._settled = False
        self._minute = -MINUTE_S
        self._night: int | None = None

    def look(self) -> None:
        """Does what is due. What fails is told and tried again."""
        parts = self._parts
        parts.eraser.resume()
        if not self._settled:
            self._settled = self._told(
                "NotReconciled", "Buckets and journal cannot be compared", parts.settle
            )
        if self._monotonic() - self._minute < MINUTE_S:
            return
        self._minute = self._monotonic()
        self._told("ClockNotKept", "The retention clock cannot be kept", parts.timekeeper.tick)
        if self._settled:
            self._told(
                "HoldsUncovered", "Snapshots of legal holds cannot be taken or let go", parts.legal.cover
            )
        self._told("BucketsNotLocked", "Quiet buckets cannot be locked", self._lock_quiet)
        if self._settled and self._is_night():
            if not self._told("NotReconciled", "Buckets and journal cannot be compared", parts.settle):
                return
            if self._told("RetentionNotRun", "Nothing expires: the retention run failed", parts.expiry.run):
                self._night = self._day()

    def _lock_quiet(self) -> None:
        self._parts.vault.buckets.lock_quiet(self._parts.timekeeper.state.clock_ns)

    def _day(self) -> int:
        return (self._parts.timekeeper.state.clock_ns - NIGHT_NS) // DAY_NS

    def _is_night(self) -> bool:
        """Whether this day's run is still to be done; the day of the last run is in the journal of runs."""
        last = self._night if self._night is not None else (self._parts.runs.floor_ns - NIGHT_NS) // DAY_NS
        return self._day() > last

    def _told(self, condition: str, what: str, do: Callable[[], object]) -> bool:
        status = self._parts.vault.status
        try:
            do()
        except (EarwitnessError, OSError) as error:
            why = error.message if isinstance(error, EarwitnessError) else error.strerror
            log.error("tried again", what=condition, error=type(error).__name__)
            status.raise_condition(condition, ALARM, f"{what}: {why}.")
            return False
        status.clear_condition(condition)
        return True
