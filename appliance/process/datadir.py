"""The data directory: made, checked and locked before anything runs on it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.config.layout import Layout
from appliance.model import EarwitnessError, Kind


class DataDirectoryError(EarwitnessError):
    """The data directory cannot be used; `data['path']` names it."""

    reason = "DATA_DIRECTORY_UNUSABLE"
    kind = Kind.PRECONDITION


class DataDirectoryInUseError(DataDirectoryError):
    """Another server runs on it; `data['pid']` is its process id."""

    reason = "DATA_DIRECTORY_IN_USE"


def prepare(layout: Layout) -> None:
    """Makes the directory and its parts, readable by this user alone."""
    root = layout.root
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        for part in (
            layout.run,
            layout.incidents.parent,
            layout.pki,
            *layout.keystores,
            layout.vault,
            layout.spool_keys,
            layout.spool_recordings,
            layout.control,
            layout.prompts,
            layout.capture,
            log_directory(layout),
        ):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        where = error.filename or str(root)
        raise DataDirectoryError(
            f"cannot use the data directory {root}: {where}: {error.strerror}", path=str(root)
        ) from error


def log_directory(layout: Layout) -> Path:
    """Where the processes' logs are."""
    return layout.root / "log"


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[bool]:
    """Holds the lock on the data directory; gives whether the last server on it stopped cleanly."""
    try:
        fd = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot lock {layout.lock}: {error.strerror}", path=str(layout.lock)
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = _note(fd).get("pid", 0)
            raise DataDirectoryInUseError(
                f"another server (process {pid}) runs on {layout.root}", path=str(layout.root), pid=pid
            ) from error
        clean = bool(_note(fd).get("clean", True))
        _write(fd, clean=False)
        yield clean
        _write(fd, clean=True)
    finally:
        os.close(fd)


def _note(fd: int) -> dict[str, int | bool]:
    try:
        note = json.loads(os.pread(fd, 4096, 0) or b"{}")
    except ValueError:
        return {"clean": False}
    return note if isinstance(note, dict) else {"clean": False}


def _write(fd: int, *, clean: bool) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps({"pid": os.getpid(), "clean": clean}).encode(), 0)
    os.fsync(fd)
