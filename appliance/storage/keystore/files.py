"""Durable small-file steps: what is said to be done survives a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Makes names made, renamed or removed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Makes a directory with its parents, durably; success where it is there."""
    missing = []
    place = path
    while not place.is_dir():
        missing.append(place)
        place = place.parent
    for place in reversed(missing):
        place.mkdir(mode=mode, exist_ok=True)
        sync_directory(place.parent)


def write_durably(path: Path, pieces: bytes | Iterable[bytes], mode: int = 0o600) -> int:
    """Writes a file beside its place, syncs it, renames it over, syncs the directory; how many bytes it has."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    total = 0
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            for piece in (pieces,) if isinstance(pieces, bytes) else pieces:
                file.write(piece)
                total += len(piece)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return total


def remove_durably(path: Path) -> None:
    """Unlinks a file and makes that durable; success where it is gone."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
