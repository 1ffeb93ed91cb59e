"""Small steps on the medium: its errors as errors of the contract, whole-folder removal, comparing."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from appliance.storage.keystore.files import make_directory, sync_directory
from appliance.storage.vault.errors import StoreFullError, StoreUnavailableError

Fault = Callable[[str], None]
PIECE = 1 << 20


@contextmanager
def told() -> Iterator[None]:
    """OSError of the medium as an error of the contract."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError("no space is left where the buckets are") from error
        raise StoreUnavailableError(
            f"the store does not answer as it should: {error.strerror}", errno=error.errno or 0
        ) from error


def dispose(folder: Path, grave: Path) -> None:
    """Takes a folder away at once, by a rename; what it held is removed after that, now or by `sweep`."""
    make_directory(grave)
    aside = grave / secrets.token_hex(16)
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    sync_directory(folder.parent)
    sync_directory(grave)
    shutil.rmtree(aside)


def sweep(grave: Path) -> None:
    """Removes what a crash left of `dispose`."""
    if grave.is_dir():
        for path in grave.iterdir():
            shutil.rmtree(path)


def same(one: BinaryIO, two: BinaryIO) -> bool:
    """Whether both have the same bytes from here to their ends."""
    while True:
        a, b = one.read(PIECE), two.read(PIECE)
        if a != b:
            return False
        if not a:
            return True


def sync_tree(folder: Path) -> None:
    """Makes a flat folder of files durable, names and bytes."""
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(folder)
