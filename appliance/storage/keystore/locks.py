"""One process at a time: a lock in each directory of a keystore, held as long as it is open."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from appliance.storage.keystore.errors import KeystoreBusyError
from appliance.storage.keystore.files import make_directory


def lock(directories: Sequence[Path]) -> list[int]:
    """Locks every directory that can be; the descriptors. KeystoreBusyError where another process holds one."""
    locks: list[int] = []
    for directory in directories:
        try:
            make_directory(directory)
            fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue  # Epochs tells what is wrong with it
        locks.append(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            unlock(locks)
            raise KeystoreBusyError("another process has the keystore open") from error
    return locks


def unlock(locks: list[int]) -> None:
    """Lets go of all; success where nothing is held."""
    while locks:
        os.close(locks.pop())
