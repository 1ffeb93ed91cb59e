"""The disk's side of the group commit: one thread that deposits keys, appends frames, syncs once, names files.

The loop hands over a `Cycle` and goes on draining; it hears of the outcome when everything in it is durable
or has failed. A key's deposit is durable before the first byte of what it opens is written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

log = structlog.get_logger()
_libc = ctypes.CDLL(None, use_errno=True)  # gives the interpreter's lock away: a sync may take long


def syncfs(fd: int) -> None:
    """Makes the file system of `fd` durable: data and names.

    OSError where it cannot (since Linux 5.8 lost writes count).
    """
    if _libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class PartFile:
    """A recording on disk: `<id>.part`, locked while it is written, then `<id>.sealed`."""

    def __init__(self, folder: Path, recording_id: str) -> None:
        self._folder = folder
        self._name = recording_id
        self._fd: int | None = None

    @property
    def part(self) -> Path:
        return self._folder / f"{self._name}.part"

    @property
    def sealed(self) -> Path:
        return self._folder / f"{self._name}.sealed"

    def _open(self) -> int:
        if self._fd is not None:
            return self._fd
        # Locked before it has its name: whoever finds a .part without a lock may take it for an orphan.
        new = self._folder / f"{self._name}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.part.exists() or self.sealed.exists():
                raise FileExistsError(errno.EEXIST, "a recording of this id exists")
            os.rename(new, self.part)
        except OSError:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        self._fd = fd
        return fd

    def append(self, offset: int, data: bytes) -> None:
        """Writes all of `data` at `offset`, which is the file's length. On OSError the file is cut back to that length."""
        fd = self._open()
        try:
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError:
            os.ftruncate(fd, offset)
            raise

    def finish(self) -> None:
        """Gives the whole file its last name; doing it twice is success."""
        if self.part.exists():
            os.rename(self.part, self.sealed)

    def close(self) -> None:
        """Lets go of the file and its lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Deposits(Protocol):
    """Where data keys go before anything is written under them."""

    def deposit(self, tickets: Sequence[Ticket]) -> None:
        """Makes these keys' deposits durable and sets `deposited`; those that fail keep `error`."""

    def renew(self) -> None:
        """Deposits again what the vault has not taken yet and could not open any more."""


@dataclass(slots=True)
class Ticket:
    """A data key on its way into the vault."""

    recording_id: str
    tenant_id: str
    tenant_public_key: bytes
    data_key: bytes = field(repr=False)
    created_ns: int
    deposited: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class Write:
    """Bytes of one recording. `final`: with them the file is whole. `error`: they are not durable."""

    file: PartFile
    ticket: Ticket
    offset: int
    data: bytes
    final: bool
    owner: object
    error: Exception | None = None


@dataclass(slots=True)
class Cycle:
    """One group commit."""

    writes: list[Write]
    arrivals: list[NDArray[np.int64]]
    started_ns: int
    write_ns: int = 0
    sync_ns: int = 0
    durable_ns: int = 0
    error: Exception | None = None


class NotDepositedError(Exception):
    """The key's deposit is not durable yet, so nothing was written."""


class Disk:
    """The thread. `done` is called in it with each cycle when it is over."""

    def __init__(
        self,
        folder: Path,
        deposits: Deposits,
        done: Callable[[Cycle], None],
        *,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._deposits = deposits
        self._done = done
        self._wall = wall
        self._queue: queue.SimpleQueue[Cycle | None] = queue.SimpleQueue()
        self._dir = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, cycle: Cycle) -> None:
        self._queue.put(cycle)

    def stop(self) -> None:
        """Ends the thread after what was submitted."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._dir)

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException:  # noqa: BLE001 - it ends the process
            # Without this thread nothing becomes durable: a worker started anew is better than a deaf one.
            try:
                log.exception("the disk's thread ended")
            finally:
                os._exit(70)

    def _serve(self) -> None:
        while True:
            try:
                cycle = self._queue.get(timeout=1.0)
            except queue.Empty:
                self._deposits.renew()  # an idle worker may still have deposits in the spool
                continue
            if cycle is None:
                return
            self.run(cycle)
            self._done(cycle)

    def run(self, cycle: Cycle) -> None:
        """One group commit, in the caller's thread. Errors are noted in the cycle, never raised."""
        tickets = {id(write.ticket): write.ticket for write in cycle.writes if not write.ticket.deposited}
        if tickets:
            self._deposits.deposit(list(tickets.values()))
        self._deposits.renew()
        begin = time.monotonic_ns()
        for write in cycle.writes:
            write.error = None
            if not write.ticket.deposited:
                write.error = write.ticket.error or NotDepositedError("the key is not deposited")
                continue
            try:
                write.file.append(write.offset, write.data)
            except OSError as error:
                write.error = error
        written = time.monotonic_ns()
        cycle.write_ns = written - begin
        good = [write for write in cycle.writes if write.error is None]
        if good:
            try:
                self._make_durable(good)
            except OSError as error:
                cycle.error = error
                for write in good:
                    write.error = error
        cycle.sync_ns = time.monotonic_ns() - written
        cycle.durable_ns = self._wall()

    def _make_durable(self, writes: list[Write]) -> None:
        syncfs(self._dir)
        finals = [write for write in writes if write.final]
        if finals:
            # Only what is durable gets the name that says it is whole.
            for write in finals:
                write.file.finish()
            os.fsync(self._dir)
            for write in finals:
                write.file.close()
