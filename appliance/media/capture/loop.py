"""The loop of one worker: a tick drains all sockets, a commit hands what came to the disk, commands come in between.

No asyncio here: one thread owns all recordings, others ask it by `call`. It never waits for the disk.
"""

from __future__ import annotations

import collections
import errno
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

from appliance.media.capture.clock import StepClock
from appliance.media.capture.commands import Close, Closed, Open, Ports, ShuttingDownError, Update
from appliance.media.capture.delays import Delays
from appliance.media.capture.disk import Cycle, NotDepositedError
from appliance.media.capture.recorder import Recorder
from appliance.media.rtp.ports import PortsExhaustedError
from appliance.process.status import ALARM, INFO, WARNING, Status

TICK_NS = 200_000_000
COMMIT_TICKS = 4
"""A commit every 0.8 s: with the drain before it and the sync after it, a second is what a power cut may take."""
STORED_NS = 30_000_000_000
"""How long sockets that outlived a crash are kept for a call that takes them up again."""
STALL_NS = 5_000_000_000
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

T = TypeVar("T")
log = structlog.get_logger()


class CaptureLoop:
    """Runs a recorder. `submit` takes cycles for the disk, whose outcome comes back through `finished`."""

    def __init__(
        self,
        recorder: Recorder,
        submit: Callable[[Cycle], None],
        status: Status,
        clock: StepClock,
        *,
        release_stored: Callable[[], int] = lambda: 0,
        stop_ns: int = 10_000_000_000,
    ) -> None:
        self._recorder = recorder
        self._submit = submit
        self._status = status
        self._clock = clock
        self._release_stored = release_stored
        self._stop_ns = stop_ns
        self._lock = threading.Lock()
        self._commands: collections.deque[Callable[[], None]] = collections.deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._cycle: Cycle | None = None
        self._cycle_since = 0
        self._stopping = False
        self._overdue = False
        self._delays = Delays()
        self._overflowed = 0
        self._overflow_ns = 0

    # from other threads

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Runs `function` in the loop's thread, soon; the future has its result or error."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - the caller's, who waits for it
                future.set_exception(error)

        self._post(run)
        return future

    def open(self, command: Open) -> Future[list[Ports]]:
        """Opens a session, unless this worker is being stopped."""

        def run() -> list[Ports]:
            if self._stopping:
                raise ShuttingDownError("this worker is being stopped")
            return self._recorder.open(command)

        return self.call(lambda: self._with_ports(run))

    def update(self, command: Update) -> Future[list[Ports]]:
        """Changes a session."""
        return self.call(lambda: self._with_ports(lambda: self._recorder.update(command)))

    def _with_ports(self, function: Callable[[], T]) -> T:
        try:
            return function()
        except PortsExhaustedError:
            self._status.raise_condition(
                "PortsExhausted",
                ALARM,
                "A call could not be recorded: no media port is free. Widen the range.",
            )
            raise

    def close(self, command: Close) -> Future[Closed]:
        """Ends a session; the future is done when its file is whole and durable."""
        future: Future[Closed] = Future()

        def run() -> None:
            try:
                self._recorder.close(command, future.set_result)
            except Exception as error:  # noqa: BLE001 - the caller's, who waits for it
                future.set_exception(error)

        self._post(run)
        return future

    def finished(self, cycle: Cycle) -> None:
        """The disk is done with a cycle."""
        self._post(lambda: self._take(cycle))

    def stop(self) -> None:
        """Closes all sessions and ends `run`."""
        self._post(self._begin_stop)

    def _post(self, command: Callable[[], None]) -> None:
        with self._lock:
            self._commands.append(command)
        os.eventfd_write(self._wake, 1)

    # the loop's thread

    def run(self) -> None:
        """Until stopped.

        An error that is not a command's ends it: what is on disk is safe, and the supervisor starts anew.
        """
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        monotonic = self._clock.monotonic
        started = next_tick = monotonic()
        ticks = 0
        stored = True
        deadline = 0
        while True:
            fast = self._recorder.fast_due_ns
            wait = (next_tick if fast is None else min(fast, next_tick)) - monotonic()
            if wait > 0 and poll.poll(wait / 1e6):
                os.eventfd_read(self._wake)
            self._run_commands()
            now = monotonic()
            due = False
            if now >= next_tick:
                self._recorder.tick()
                ticks += 1
                due = ticks % COMMIT_TICKS == 0
                # Ticks that were missed are not made up for: one drain takes all that waits.
                next_tick = max(next_tick + TICK_NS, now)
                if ticks % 5 == 0:
                    self._recorder.receiving.tidy()
                    self._publish(now)
                if stored and now - started > STORED_NS:
                    stored = False
                    self._release_stored()
            else:
                self._recorder.breathe()
            if self._cycle is None and (due or self._overdue or self._recorder.commits.ending):
                self._commit(everything=due or self._overdue)
            elif due:
                self._overdue = True
                self._relieve()
            if self._stopping:
                deadline = deadline or now + self._stop_ns
                if self._cycle is None and not self._recorder.unfinished:
                    return
                if now > deadline:
                    log.error("stopped with recordings unfinished; the vault will recover them")
                    return

    def _relieve(self) -> None:
        """The disk is busy: what has arrived moves out of the arena before it is full."""
        if self._recorder.intake.pressed:
            self._recorder.commits.spill()

    def _run_commands(self) -> None:
        while True:
            with self._lock:
                if not self._commands:
                    return
                command = self._commands.popleft()
            command()

    def _commit(self, *, everything: bool) -> None:
        if everything:
            self._overdue = False
        cycle = self._recorder.commits.commit(everything=everything)
        if cycle is not None:
            self._cycle = cycle
            self._cycle_since = self._clock.monotonic()
            self._submit(cycle)

    def _take(self, cycle: Cycle) -> None:
        self._cycle = None
        self._report(self._recorder.commits.finished(cycle))
        self._delays.add(cycle.arrivals, cycle.durable_ns)
        self._status.gauge("write_us", cycle.write_ns // 1000)
        self._status.gauge("sync_us", cycle.sync_ns // 1000)

    def _begin_stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for session_id in self._recorder.session_ids():
            self._recorder.close(Close(session_id, "shutdown"), lambda closed: None)

    def _report(self, errors: list[Exception]) -> None:
        full = [error for error in errors if isinstance(error, OSError) and error.errno in _FULL]
        keys = [error for error in errors if isinstance(error, NotDepositedError)]
        other = [error for error in errors if error not in full and error not in keys]
        for type_, found, message in (
            ("DiskFull", full, "The disk is full: recordings wait in memory. Free space at once."),
            ("DiskError", other, "The disk refuses writes: recordings wait in memory. Look at the disk."),
            (
                "KeysNotDeposited",
                keys,
                "Keys cannot be deposited: recordings wait in memory. Look at vault and disk.",
            ),
        ):
            if found:
                known = any(condition.type == type_ for condition in self._status.conditions())
                self._status.raise_condition(type_, ALARM, message)
                if not known:
                    log.error(
                        "frames not durable", condition=type_, count=len(found), error=type(found[0]).__name__
                    )
            else:
                self._status.clear_condition(type_)

    def _publish(self, now: int) -> None:
        """Figures, once a second."""
        status = self._status
        figures = self._recorder.counters()
        for name, value in figures.items():
            status.gauge(name, value)
        status.gauge("durable_p50_ms", self._delays.percentile(0.5))
        status.gauge("durable_p99_ms", self._delays.percentile(0.99))
        if figures["packets_overflowed"] > self._overflowed:
            self._overflowed = figures["packets_overflowed"]
            self._overflow_ns = now
            status.raise_condition(
                "PacketsOverflowed",
                WARNING,
                "The kernel dropped packets before they could be read; the timeline has a mark for each loss.",
            )
        elif self._overflow_ns and now - self._overflow_ns > 60_000_000_000:
            self._overflow_ns = 0
            status.clear_condition("PacketsOverflowed")
        if figures["ports_free"]:
            self._status.clear_condition("PortsExhausted")
        if figures["clock_steps"]:
            status.raise_condition("ClockStepped", INFO, "The wall clock was set while calls were recorded.")
        if self._cycle is not None and now - self._cycle_since > STALL_NS:
            status.raise_condition(
                "DiskStalled", ALARM, "The disk has not answered for seconds: recordings wait in memory."
            )
        else:
            status.clear_condition("DiskStalled")
        failures = self._recorder.intake.arena.failures
        if failures:
            status.count("receive_failures", len(failures))
            log.warning("sockets that cannot be read", count=len(failures), error=os.strerror(failures[0][1]))
            failures.clear()
