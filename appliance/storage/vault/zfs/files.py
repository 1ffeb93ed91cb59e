"""What the agent does with files in buckets. Each step is durable when it returns.

A place is a mounted bucket or snapshot: its path, the device number it had when it was mounted and, where it shall be
written, what its file `.bucket` says. All three are compared before each step, on the descriptor that the step then works
with: writing into a mount point that nothing is mounted on would put bytes on the file system beneath.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from appliance.storage.vault.zfs import system

STAMP: Final = ".bucket"
ASIDE: Final = ".tmp"
PIECE: Final = 1 << 20


class Astray(Exception):
    """The place is not what it was."""


@contextmanager
def _inside(place: dict[str, Any]) -> Iterator[int]:
    try:
        folder = os.open(place["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Astray("there is no such place") from error
    try:
        if os.fstat(folder).st_dev != place["device"] or system.magic(folder) != system.MAGIC:
            raise Astray("another file system is there")
        if place.get("stamp") and _said(folder) != place["stamp"]:
            raise Astray("another bucket is there")
        yield folder
    finally:
        os.close(folder)


def _said(folder: int) -> str:
    try:
        with _open(folder, STAMP) as file:
            return file.read(1024).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _open(folder: int, name: str, flags: int = os.O_RDONLY) -> BinaryIO:
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    return os.fdopen(descriptor, "wb") if flags & os.O_WRONLY else os.fdopen(descriptor, "rb")


def stamp(place: dict[str, Any], text: str, adopted: bool = False) -> str:
    """What `.bucket` says; it is written where it is missing.

    `adopted`: the bucket came from elsewhere as a whole, where its dataset had another number.
    """
    with _inside(place) as folder:
        found = _said(folder)
        if found and not (adopted and found.partition(" ")[0] == text.partition(" ")[0]):
            return found
        aside = f"{STAMP}{ASIDE}"
        with _open(folder, aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, STAMP, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        return text


def sweep(place: dict[str, Any]) -> None:
    """Removes what a crash left of copies that had no name yet."""
    with _inside(place) as folder:
        for name in os.listdir(folder):
            if name.startswith(".") and name.endswith(ASIDE):
                os.unlink(name, dir_fd=folder)


def copy_in(place: dict[str, Any], source: str, name: str, aside: str) -> dict[str, Any]:
    """Copies a file in under the name `aside`, or finds `name` there and compares: `there`, `same`, `size` (bytes)."""
    with _inside(place) as folder:
        try:
            size = _size(folder, name)
        except FileNotFoundError:
            with open(source, "rb") as reading:
                return {"there": False, "same": True, "size": _copy(reading, folder, aside)}
        try:
            with open(source, "rb") as one, _open(folder, name) as two:
                return {"there": True, "same": _same(one, two), "size": size}
        except FileNotFoundError:
            return {"there": True, "same": True, "size": size}  # moved before


def copy_aside(place: dict[str, Any], source: str, aside: str) -> int:
    """Copies a file in under the name `aside`; its size."""
    with _inside(place) as folder, open(source, "rb") as reading:
        return _copy(reading, folder, aside)


def bring_back(place: dict[str, Any], snapshot: dict[str, Any], name: str, aside: str) -> int:
    """Copies a file of a snapshot under the name `aside`; its size."""
    with _inside(place) as folder, _inside(snapshot) as before, _open(before, name) as reading:
        return _copy(reading, folder, aside)


def _copy(reading: BinaryIO, folder: int, aside: str) -> int:
    digest, size = hashlib.sha256(), 0
    try:
        with _open(folder, aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as writing:
            while piece := reading.read(PIECE):
                digest.update(piece)
                size += len(piece)
                writing.write(piece)
            writing.flush()
            os.fsync(writing.fileno())
        # This reads memory, not disks: it catches what went wrong on the way there. ZFS checks the rest at each read.
        again = hashlib.sha256()
        with _open(folder, aside) as file:
            while piece := file.read(PIECE):
                again.update(piece)
        if again.digest() != digest.digest():
            raise OSError(errno.EILSEQ, "a copy came out otherwise")
    except BaseException:
        try:
            os.unlink(aside, dir_fd=folder)
        except FileNotFoundError:
            pass
        raise
    return size


def give_name(place: dict[str, Any], aside: str, name: str) -> None:
    """What was copied gets its name, unless another file has it (EEXIST): unlike a rename, never over one."""
    with _inside(place) as folder:
        try:
            os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.unlink(aside, dir_fd=folder)
        os.fsync(folder)


def replace(place: dict[str, Any], aside: str, name: str) -> None:
    """What was copied gets its name, in the place of what had it."""
    with _inside(place) as folder:
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def drop(path: str) -> None:
    """Removes a file that lies anywhere; success where it is gone."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(place: dict[str, Any], names: list[str]) -> None:
    """Unlinks files; success where they are gone."""
    with _inside(place) as folder:
        for name in names:
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
        os.fsync(folder)


def compare(place: dict[str, Any], snapshot: dict[str, Any], names: list[str]) -> dict[str, list[str]]:
    """Of these names those that the snapshot has not, and those that are there now: with the same bytes, with others."""
    found: dict[str, list[str]] = {"missing": [], "same": [], "other": []}
    with _inside(place) as folder, _inside(snapshot) as before:
        for name in names:
            try:
                one = _open(before, name)
            except FileNotFoundError:
                found["missing"].append(name)
                continue
            with one:
                try:
                    two = _open(folder, name)
                except FileNotFoundError:
                    continue
                with two:
                    found["same" if _same(one, two) else "other"].append(name)
    return found


def _same(one: BinaryIO, two: BinaryIO) -> bool:
    if os.fstat(one.fileno()).st_size != os.fstat(two.fileno()).st_size:
        return False
    while True:
        a, b = one.read(PIECE), two.read(PIECE)
        if a != b:
            return False
        if not a:
            return True


def _size(folder: int, name: str) -> int:
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size


def listing(place: dict[str, Any]) -> list[tuple[str, int]]:
    """Every name but our own temporary ones; sizes in bytes, -1 of what is no plain file."""
    with _inside(place) as folder, os.scandir(folder) as entries:
        return [
            (
                entry.name,
                entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else -1,
            )
            for entry in entries
            if entry.name != STAMP and not (entry.name.startswith(".") and entry.name.endswith(ASIDE))
        ]


def find(place: dict[str, Any], name: str) -> int:
    """Size of a file in bytes; -1 where there is none."""
    with _inside(place) as folder:
        try:
            return _size(folder, name)
        except FileNotFoundError:
            return -1


class Handles:
    """Files that are open for reading, by number."""

    def __init__(self) -> None:
        self._files: dict[int, BinaryIO] = {}
        self._lock = threading.Lock()

    def open(self, place: dict[str, Any], name: str) -> dict[str, int]:
        """A number, and the size in bytes. FileNotFoundError."""
        with _inside(place) as folder:
            file = _open(folder, name)
        handle = secrets.randbits(62)  # no agent that comes after this one takes it for one of its own
        with self._lock:
            self._files[handle] = file
        return {"handle": handle, "size": os.fstat(file.fileno()).st_size}

    def pread(self, handle: int, size: int, at: int) -> bytes:
        """Bytes at a position; fewer at the end."""
        with self._lock:
            file = self._files.get(handle)
        if file is None:
            raise OSError(errno.EBADF, "no such handle")
        return os.pread(file.fileno(), size, at)

    def close(self, handle: int) -> None:
        """Success where it is closed."""
        with self._lock:
            file = self._files.pop(handle, None)
        if file is not None:
            file.close()
