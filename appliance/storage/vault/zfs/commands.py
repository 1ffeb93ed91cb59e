"""Commands of OpenZFS with a deadline, for what libzfs_core cannot do. Never through a shell; JSON where there is JSON.

Commands tell their errors in sentences only. Those that are told apart are in one table (`SENTENCES`); where a fact can be
asked for beforehand, or afterwards, it is asked for instead.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.zfs.pool import Pool
from appliance.storage.vault.zfs.trouble import Trouble

PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
MAX_STUCK: Final = 4
SENTENCES: Final = (
    ("out of space", errno.ENOSPC),
    ("no space left", errno.ENOSPC),
    ("quota exceeded", errno.EDQUOT),
    ("size is less than current used or reserved space", errno.EDQUOT),  # a quota below what is used
    ("dataset does not exist", errno.ENOENT),
    ("no such pool", errno.ENOENT),
    ("pool or dataset is busy", errno.EBUSY),
    ("dataset is busy", errno.EBUSY),
    ("i/o is currently suspended", errno.EAGAIN),
    ("permission denied", errno.EPERM),
    ("i/o error", errno.EIO),
)
"""What a sentence holds, in lower case, and the number it stands for; the first that fits."""


def number_of(sentence: str) -> int:
    """EPROTO where no sentence of the table fits."""
    lower = sentence.lower()
    return next((number for part, number in SENTENCES if part in lower), errno.EPROTO)


def environment() -> dict[str, str]:
    """What a command gets of ours. In the locale C its JSON would end at the first letter beyond ASCII."""
    return {"LC_ALL": "C.UTF-8", "PATH": PATH}


@dataclass(frozen=True, slots=True)
class _Stuck:
    command: str
    process: subprocess.Popen[bytes]
    since: float


class Commands:
    """Runs them. Safe to use from any thread."""

    def __init__(self, pool: Pool, deadline_s: float) -> None:
        self._pool = pool
        self._deadline_s = deadline_s
        self._stuck: list[_Stuck] = []
        self._lock = threading.Lock()

    def run(self, *command: str, deadline_s: float | None = None) -> str:
        """What it printed. Trouble where it fails; StoreUnavailableError, StoreSuspendedError where it takes too long."""
        if len(self.stuck()) >= MAX_STUCK:
            self._pool.refuse_hopeless()
            raise _late(command)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
        except FileNotFoundError as error:
            raise StoreUnavailableError("a command of OpenZFS is not there", errno=errno.ENOENT) from error
        try:
            out, err = process.communicate(timeout=self._deadline_s if deadline_s is None else deadline_s)
        except subprocess.TimeoutExpired as error:
            self.abandon(process, command)
            self._pool.refuse_hopeless()
            raise _late(command) from error
        if process.returncode != 0:
            raise Trouble(number_of(err.decode(errors="replace")), "Command", said=" ".join(command[:2]))
        return out.decode()

    def json(self, *command: str, deadline_s: float | None = None) -> dict[str, Any]:
        """What it printed, as JSON. The command's own `-j` is the caller's to give."""
        try:
            found = json.loads(self.run(*command, deadline_s=deadline_s))
        except ValueError as error:
            raise StoreUnavailableError(
                "a command of OpenZFS did not answer in JSON", errno=errno.EPROTO
            ) from error
        return dict(found)

    def abandon(self, process: subprocess.Popen[bytes], command: Sequence[str]) -> None:
        """Ends a process if it can be ended now; else it is counted until the kernel lets go of it."""
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass  # what was not written any more is lost with the process
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            with self._lock:
                self._stuck.append(_Stuck(" ".join(command[:2]), process, time.monotonic()))

    def stuck(self) -> list[str]:
        """Commands that were given up and are still in the kernel."""
        with self._lock:
            self._stuck = [one for one in self._stuck if one.process.poll() is None]
            return [one.command for one in self._stuck]


def _late(command: Sequence[str]) -> StoreUnavailableError:
    name = os.path.basename(command[0])
    return StoreUnavailableError(f"the command {name} does not end in time", errno=errno.ETIMEDOUT)
