"""Where an exit pack goes: a folder of the box, such as one on a disk that was plugged in. A small shell around the system.

Every step goes by the descriptor of the folder above it and follows no link, so that nobody who can write there can lead
the pack elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.config.exits import ExitFolder, ExitSettings
from appliance.packs.errors import (
    ExitTargetAwayError,
    ExitTargetInvalidError,
    ExitTargetTakenError,
    of_os,
)

MAX_PATH: Final = 500  # characters
MAX_DEPTH: Final = 32
PARTIAL: Final = ".partial"
MARKER: Final = "THIS-PACK-IS-NOT-WHOLE-YET.txt"
_MARKER_TEXT: Final = (
    b"This exit pack is being written. When it is whole, its folder loses the ending .partial.\n"
)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Written:
    """A file that is whole and durable where it goes. `sha256`: lower-case hexadecimal."""

    path: str
    size: int
    sha256: str


class Target(Protocol):
    """What puts the files of one pack somewhere. Paths are relative, with slashes, of plain ASCII.

    ExitSpaceError and ExitTargetAwayError from all of it. `begun`: something of the pack was put there before.
    """

    def enter(self) -> None:
        """Look whether it may go there, and is there. ExitTargetInvalidError."""

    def open(self, *, begun: bool) -> bool:
        """Make ready; True where the pack is whole there already."""

    def put(self, path: str, pieces: Iterable[bytes]) -> Written:
        """Write a file, from its first byte on, whatever was there of it; durable when this returns."""

    def drop(self, path: str) -> None:
        """Take away what was put there, a file or a folder; nothing is there: success."""

    def finish(self, ending: str = "") -> str:
        """All is there: give it its name, with an ending; says where it is, for people."""

    def remove(self) -> None:
        """As if it had never been begun."""

    def free(self) -> int | None:
        """Bytes that are free there; None: that is not known."""

    def close(self) -> None: ...


def allowed(settings: ExitSettings, path: str, field: str = "path") -> tuple[ExitFolder, tuple[str, ...]]:
    """The folder of the site that a path lies in, and the steps from there; ExitTargetInvalidError. Looks at no disk."""
    steps = path.split("/")
    plain = 0 < len(path) <= MAX_PATH and path.isprintable() and path.startswith("/")
    if not plain or ".." in steps or "." in steps or len(steps) > MAX_DEPTH:
        raise ExitTargetInvalidError("should be an absolute path without . and ..", field=field)
    named = [step for step in steps if step]
    for folder in settings.folders:
        root = [step for step in folder.path.parts if step != "/"]
        if named[: len(root)] == root:
            return folder, tuple(named[len(root) :])
    raise ExitTargetInvalidError("is below none of the folders that the site file allows", field=field)


class FolderTarget:
    """See Target. The pack is the folder `name` below `steps` in one of the site's folders."""

    def __init__(self, folder: ExitFolder, steps: tuple[str, ...], name: str) -> None:
        self._folder = folder
        self._steps = steps
        self._name = name
        self._base = -1
        self._root = (0, 0)  # device and inode of the site's folder
        self._made: set[str] = set()

    @property
    def place(self) -> str:
        """Where the pack will be."""
        return "/".join((str(self._folder.path), *self._steps, self._name))

    def enter(self) -> None:
        """Open the folder that is to hold the pack; ExitTargetInvalidError where it is none, or leads elsewhere."""
        base = -1
        try:
            base = os.open(self._folder.path, _FOLDER)
            found = os.fstat(base)
            # By the descriptor: a disk pulled between a look and the opening would leave the empty mount point.
            if self._folder.disk and found.st_dev == os.stat("..", dir_fd=base).st_dev:
                os.close(base)
                raise ExitTargetAwayError("no disk is mounted there", code="NOT_MOUNTED")
            self._root = (found.st_dev, found.st_ino)
            for step in self._steps:
                inner = os.open(step, _FOLDER, dir_fd=base)
                os.close(base)
                base = inner
        except OSError as error:
            if base >= 0:
                os.close(base)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ExitTargetInvalidError("is no folder, or a link", field="path") from error
            raise of_os(error) from error
        self._base = base

    def open(self, *, begun: bool) -> bool:
        """See Target. Where it was begun and is not there, the disk is another one: nothing is begun anew on that."""
        self.enter()
        with self._told():
            if self._there(self._name):
                if begun:
                    return True
                raise ExitTargetTakenError("there is a folder of that name already")
            partial = self._name + PARTIAL
            if self._there(partial):
                if begun or self._there(f"{partial}/{MARKER}"):
                    return False
                if self._empty(partial):  # it broke off between the folder and its marker
                    self.put(MARKER, [_MARKER_TEXT])
                    return False
                raise ExitTargetTakenError("there is a folder of that name already")
            if begun:
                raise ExitTargetAwayError("what was written of the pack is not there", code="PACK_AWAY")
            os.mkdir(partial, 0o700, dir_fd=self._base)
            self.put(MARKER, [_MARKER_TEXT])
        return False

    def put(self, path: str, pieces: Iterable[bytes]) -> Written:
        """See Target."""
        digest, size = hashlib.sha256(), 0
        try:
            self._still_there()
            with self._parent(path) as (folder, name):
                fd = os.open(name, _FILE, 0o600, dir_fd=folder)
                try:
                    for piece in pieces:
                        digest.update(piece)
                        size += len(piece)
                        _write(fd, piece)
                    os.fsync(fd)
                finally:
                    os.close(fd)
        except OSError as error:
            raise of_os(error, size, self.free() or 0) from error
        return Written(path, size, digest.hexdigest())

    def drop(self, path: str) -> None:
        """See Target."""
        with self._told():
            self._still_there()
            with contextlib.suppress(FileNotFoundError), self._parent(path) as (fd, name):
                try:
                    os.unlink(name, dir_fd=fd)
                except IsADirectoryError:
                    shutil.rmtree(name, dir_fd=fd)

    def finish(self, ending: str = "") -> str:
        """See Target."""
        partial = self._name + PARTIAL
        with self._told():
            self._still_there()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{partial}/{MARKER}", dir_fd=self._base)
            folder = os.open(partial, _FOLDER, dir_fd=self._base)
            try:
                for path, _, _, fd in os.fwalk(".", dir_fd=folder):
                    _settle(fd, path)
            finally:
                os.close(folder)
            os.rename(partial, self._name + ending, src_dir_fd=self._base, dst_dir_fd=self._base)
            _settle(self._base, self._name)
        return self.place + ending

    def remove(self) -> None:
        """See Target."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._still_there()
            # Follows no links, and goes by descriptors where the system can.
            shutil.rmtree(self._name + PARTIAL, dir_fd=self._base)
            _settle(self._base, self._name)

    def free(self) -> int | None:
        """See Target."""
        with self._told():
            found = os.fstatvfs(self._base)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        if self._base >= 0:
            os.close(self._base)
            self._base = -1

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The folder of a file of the pack, made where it is not there, and the file's name."""
        *folders, name = path.split("/")
        fd = os.open(self._name + PARTIAL, _FOLDER, dir_fd=self._base)
        try:
            for depth, step in enumerate(folders, 1):
                key = "/".join(folders[:depth])
                if key not in self._made:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(step, 0o700, dir_fd=fd)
                    _settle(fd, key)
                    self._made.add(key)
                inner = os.open(step, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd, name
        finally:
            os.close(fd)

    def _still_there(self) -> None:
        """A disk that was unmounted while files of it were open takes what is written, and nobody finds it."""
        if not self._folder.disk:
            return
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._folder.path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._root:
                return
        raise ExitTargetAwayError("the disk was taken away", code="NOT_MOUNTED")

    def _there(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._base, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _empty(self, name: str) -> bool:
        fd = os.open(name, _FOLDER, dir_fd=self._base)
        try:
            return not os.listdir(fd)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise of_os(error) from error


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _settle(fd: int, path: str) -> None:
    """Make a folder's entries durable, where its file system can do that."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
