"""Files that are there as a whole, or as they were before."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """The file with this content, or as it was: on disk before this returns."""
    write_together((path, content, mode))


def write_together(*files: tuple[Path, bytes, int]) -> None:
    """Files of one folder with their contents and modes, put in place in this order once all are on disk beside their
    places: where there is no space for one of them, all are as they were."""
    scratches = [path.with_name(f".{path.name}.new") for path, _, _ in files]
    for scratch, (_, content, mode) in zip(scratches, files, strict=True):
        scratch.unlink(missing_ok=True)
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    for scratch, (path, _, _) in zip(scratches, files, strict=True):
        os.replace(scratch, path)
    sync_directory(files[0][0].parent)


def sync_directory(path: Path) -> None:
    """Names in it that came or went are on disk when this returns. OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def set_aside(path: Path, aside: Path) -> None:
    """Another name for a file that is about to be written anew; nothing where it has that already. OSError."""
    with contextlib.suppress(FileExistsError):
        os.link(path, aside)
