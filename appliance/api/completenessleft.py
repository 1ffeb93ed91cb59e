"""Folders of the watched folder whose source is gone: what lies there is full of numbers, and goes by its age, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from appliance.model import is_id

log = structlog.get_logger()

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LEAST_S: Final = 86400.0  # that nobody took it is seen for a day at least
_DAY_S: Final = 86400.0
_NONE: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENOENT})  # a link, a file; gone


def age(folder: Path, known: Collection[str], keep_days: int, parts: Collection[str], now_s: float) -> None:
    """Remove files of folders named by an id that is none of `known`, and those folders once they are empty.

    `parts`: folders in each, of what was put away: its files go as those of a source that is there. Files that nobody
    took go after as many days, and a day at least. No link is followed; folders of other names are left alone.
    """
    try:
        with _opened(str(folder), None) as top:
            left = [one.name for one in os.scandir(top) if is_id(one.name) and one.name not in known]
            for name in left:
                try:
                    _age_one(top, name, keep_days * _DAY_S, parts, now_s)
                except OSError as error:
                    if error.errno not in _NONE:
                        log.warning("files of a removed source stay", source=name, errno=error.errno or 0)
    except FileNotFoundError:
        pass  # no source ever had files
    except OSError as error:
        log.warning("watched folder cannot be read", errno=error.errno or 0)


def _age_one(top: int, name: str, keep_s: float, parts: Collection[str], now_s: float) -> None:
    with _opened(name, top) as own:
        for part in parts:
            try:
                with _opened(part, own) as inner:
                    _remove_older(inner, now_s - keep_s, moved=False)
            except OSError as error:
                if error.errno not in _NONE:
                    raise
            _rmdir(part, own)
        _remove_older(own, now_s - max(keep_s, _LEAST_S), moved=True)
    if _rmdir(name, top):
        log.info("folder of a removed source removed", source=name)


def _remove_older(folder: int, before_s: float, *, moved: bool) -> None:
    """`moved`: a file that was moved there brought its own time along: when it came counts, too."""
    for one in list(os.scandir(folder)):
        if one.is_file(follow_symlinks=False):
            found = one.stat(follow_symlinks=False)
            if max(found.st_mtime, found.st_ctime if moved else 0.0) < before_s:
                os.unlink(one.name, dir_fd=folder)


def _rmdir(name: str, folder: int) -> bool:
    """Whether it went: one that is not empty, or no folder, stays."""
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
            raise
        return False
    return True


@contextmanager
def _opened(name: str, within: int | None) -> Iterator[int]:
    fd = os.open(name, _FOLDER, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)
