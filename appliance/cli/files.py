"""Files that commands write: for their owner alone, whole or not at all, and where the user said.

They hold what patients said, keys and reports, so nobody else on the machine may read them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from appliance.cli.exits import Exit, Failure


def named(folder: Path, name: str) -> Path:
    """Where a file goes whose name the box says; Failure where that would be elsewhere, hidden, or no name at all."""
    if not name or name.startswith(".") or not name.isprintable() or "/" in name or "\\" in name:
        raise Failure(Exit.FAILED, "the box gives a name that no file shall have", "FILE_NAME_REFUSED")
    return folder / name


@contextlib.contextmanager
def written(path: Path, *, in_part: bool = False) -> Iterator[BinaryIO]:
    """A file (mode 0600) that takes the place of `path` when all is in it; Failure where it cannot be written.

    `in_part`: at once, since what is in it so far is worth keeping, however it ends.
    """
    try:
        with _aside(path) as (aside, file):
            if in_part:
                os.replace(aside, path)
            yield file
            _sync(file)
            if not in_part:
                os.replace(aside, path)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot write {path}: {error.strerror}", "FILE_UNWRITABLE") from error


def write(path: Path, data: bytes) -> None:
    """The same, of what is there already."""
    with written(path) as file:
        file.write(data)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A file that was not there, whole or not at all; Failure where it was, or cannot be written."""
    try:
        with _aside(path) as (aside, file):
            os.fchmod(file.fileno(), mode)
            file.write(content)
            _sync(file)
            os.link(aside, path)
    except FileExistsError:
        raise Failure(Exit.CONFLICT, f"{path} is there already; it was not changed", "FILE_EXISTS") from None
    except OSError as error:
        raise Failure(Exit.USAGE, f"cannot write {path}: {error.strerror}", "FILE_UNWRITABLE") from error


def make_folder(folder: Path) -> None:
    """A directory to write into, where it is not there yet; Failure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(Exit.FAILED, f"cannot make {folder}: {error.strerror}", "FILE_UNWRITABLE") from error


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """A file beside `path`, by a name that nobody else can have laid a link under; afterwards it has that no more."""
    fd, aside = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            yield aside, file
    finally:
        Path(aside).unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
