"""Keeps the retention clock: reads the machine's clocks, persists what `retention.clock` decides, tells what is wrong.

The clock's last word is also in the journal of runs; where its own file is lost or put back, that is its floor.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from appliance.process.status import ALARM, INFO, WARNING, Status
from appliance.storage.keystore.files import write_durably
from appliance.storage.retention.clock import (
    ClockFinding,
    ClockState,
    Reading,
    Severity,
    Witness,
    accept,
    plausible,
    tick,
)
from appliance.storage.vault.bootclock import booted_ns

PERSIST_EVERY_NS: Final = 60 * 1_000_000_000
_STATE = TypeAdapter(ClockState)
_SEVERITIES: Final = {Severity.INFO: INFO, Severity.WARNING: WARNING, Severity.ALARM: ALARM}
_TIME_ERROR: Final = 5  # adjtimex: the clock is not synchronised
_RTC: Final = Path("/sys/class/rtc/rtc0/since_epoch")
HARDWARE_CLOCK_NS: Final = 3_600 * 1_000_000_000
"""How long after the boot it may be read: the kernel does not forget so soon that there was a time server."""

log = structlog.get_logger()


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as its size matters."""

    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_char * 252)]


def _synchronised() -> bool:
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex()))
    return 0 <= state < _TIME_ERROR


class Machine:
    """The clocks of this machine. Witnesses: the kernel where a time server disciplines it, and the hardware clock.

    The two must not be one: as soon as a time server is there the kernel sets the hardware clock by it. So what counts is
    what the kernel read when it was booted, or else what it says now, where no time server has been there yet; from then
    on it is what it was, gone on by the monotonic clock.
    """

    def __init__(
        self,
        *,
        rtc: Path = _RTC,
        kernel: Callable[[], int | None] = booted_ns,
        synchronised: Callable[[], bool] = _synchronised,
        boottime: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._rtc = rtc
        self._kernel = kernel
        self._synchronised = synchronised
        self._boottime = boottime
        self._read_rtc = False
        self._booted_ns: int | None = None  # when this machine was booted, by the hardware clock

    def read(self) -> Reading:
        """The clocks as they are now. OSError."""
        if not self._read_rtc:
            self._read_rtc = True
            self._booted_ns = self._kernel()
            if self._booted_ns is None:
                self._booted_ns = self._booted_now()
        wall, boottime = time.time_ns(), self._boottime()
        witnesses = []
        if self._synchronised():
            witnesses.append(Witness("time server", wall))
        if self._booted_ns is not None:
            witnesses.append(Witness("hardware clock", self._booted_ns + boottime))
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return Reading(wall, boot_id, boottime, tuple(witnesses))

    def _booted_now(self) -> int | None:
        """By what the hardware clock says now: None where a time server may have set it."""
        up_ns = self._boottime()
        hardware_ns = self._hardware_ns() if up_ns <= HARDWARE_CLOCK_NS else None
        # Asked after it was read: a time server may have come in between.
        return None if hardware_ns is None or self._synchronised() else hardware_ns - up_ns

    def _hardware_ns(self) -> int | None:
        try:
            return int(self._rtc.read_text()) * 1_000_000_000
        except (OSError, ValueError):
            return None  # there is none: one witness less


class Timekeeper:
    """See the module. Safe to use from any thread.

    `history`: None where this vault is new; else the newest time that is known to have passed, for a vault whose clock's
    file is gone. `floor`: what the clock is known to have given.
    """

    def __init__(
        self,
        path: Path,
        status: Status,
        *,
        floor: Callable[[], int] = lambda: 0,
        history: int | None = None,
        read: Callable[[], Reading] | None = None,
    ) -> None:
        self._path = path
        self._status = status
        self._floor = floor
        self._read = read or Machine().read
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._persisted_ns = 0
        self._state = self._load(history)
        self.tick()

    def _load(self, history: int | None) -> ClockState | None:
        try:
            return _STATE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            if history is None:
                return None
        except ValidationError:
            log.error("the retention clock's file is damaged")
            history = history or 0
        # As after a time without power: the wall is believed where witnesses confirm it, or little time has passed.
        return ClockState(max(history, self._floor()), 0, "", 0)

    @property
    def state(self) -> ClockState:
        """The clock as of the last tick."""
        if self._state is None:
            raise AssertionError("it ticks when it is made")
        return self._state

    def tick(self) -> ClockState:
        """Reads the clocks; the state, persisted where a minute has passed or something changed. OSError."""
        with self._lock:
            before = self._state
            state, findings = tick(before, self._read(), floor_ns=self._floor())
            self._keep(before, state)
            self._tell(findings)
            return state

    def accept(self, who: str) -> ClockState:
        """An administrator says that the wall clock is right. ClockFloorError."""
        with self._lock:
            before = self.state
            state, findings = accept(before, self._read(), who, floor_ns=self._floor())
            self._keep(None, state)
            self._tell(findings)
            return state

    def _keep(self, before: ClockState | None, state: ClockState) -> None:
        changed = before is None or before.frozen != state.frozen or before.boot_id != state.boot_id
        if changed or abs(state.clock_ns - self._persisted_ns) >= PERSIST_EVERY_NS:
            write_durably(self._path, _STATE.dump_json(state))
            self._persisted_ns = state.clock_ns
        self._state = state

    def _tell(self, findings: tuple[ClockFinding, ...]) -> None:
        present = set()
        for found in findings:
            if found.severity is Severity.INFO:
                log.info("retention clock", finding=found.name, message=found.message)
                continue
            present.add(found.name)
            self._status.raise_condition(
                found.name, _SEVERITIES[found.severity], f"The retention clock {found.message}."
            )
        for name in self._told - present:
            self._status.clear_condition(name)
        self._told = present

    def kept_from(self, created_ns: int) -> int:
        """From when on a recording that is filed now is kept."""
        return plausible(created_ns, self.state)
