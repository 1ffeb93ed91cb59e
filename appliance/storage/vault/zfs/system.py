"""Mounting by system call, and what the kernel says is mounted: what the agent calls.

`mount(2)` rather than `mount(8)`: an error number instead of a sentence, and no three processes for each mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Any, Final

MAGIC: Final = 0x2FC12FC1
"""f_type of ZFS."""
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _NOATIME = 1, 2, 4, 8, 32, 1024
_NOFOLLOW: Final = 8  # of umount2
_FLAGS: Final = _NOSUID | _NODEV | _NOEXEC | _NOATIME
_OPTIONS: Final = "nosuid,nodev,noexec,noatime"  # ZFS reads them from here, the kernel from the flags
_OCTAL = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _mount(source: str, target: str, flags: int, readonly: bool) -> None:
    flags |= _FLAGS | (_RDONLY if readonly else 0)
    options = f"{'ro' if readonly else 'rw'},{_OPTIONS}"
    _check(_libc.mount(source.encode(), os.fsencode(target), b"zfs", flags, options.encode()), target)


def mount(source: str, target: str, readonly: bool) -> dict[str, Any]:
    """Mounts a dataset or a snapshot, or finds it mounted there: its device number, and whether it is read-only.

    EBUSY where another dataset is mounted there, ESTALE where something else is mounted over it.
    """
    there = _top(target)
    if there is None:
        os.makedirs(target, mode=0o700, exist_ok=True)
        _mount(source, target, 0, readonly)
        there = _top(target)
    return _checked(there, source, target)


def remount(source: str, target: str, readonly: bool) -> None:
    """Makes a mount read-only, or writable."""
    _checked(_top(target), source, target)
    _mount(source, target, _REMOUNT, readonly)


def _checked(there: dict[str, Any] | None, source: str, target: str) -> dict[str, Any]:
    if there is None or there["kind"] != "zfs":
        raise OSError(errno.ESTALE, "something else is mounted there", target)
    if there["source"] != source:
        raise OSError(errno.EBUSY, "another dataset is mounted there", target)
    return there


def _top(target: str) -> dict[str, Any] | None:
    """What was mounted last at a path, of whatever kind; None where it is no mount point."""
    found = [one for one in map(parse_mount, _mountinfo()) if one["target"] == target]
    return found[-1] if found else None


def unmount(target: str) -> None:
    """EBUSY where something uses it. Success where nothing is mounted there."""
    while True:
        try:
            _check(_libc.umount2(os.fsencode(target), _NOFOLLOW), target)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                break
            raise
    try:
        os.rmdir(target)
    except FileNotFoundError:
        pass


def mounts(under: str) -> list[dict[str, Any]]:
    """What of ZFS is mounted at a path or below, in order of mounting."""
    inside = under.rstrip("/") + "/"
    return [
        one
        for one in map(parse_mount, _mountinfo())
        if one["kind"] == "zfs" and (one["target"] == under or one["target"].startswith(inside))
    ]


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def parse_mount(line: str) -> dict[str, Any]:
    """One line of mountinfo. Device numbers are as in st_dev."""
    before, _, after = line.partition(" - ")
    kind, source, *_ = after.split(" ")
    fields = before.split(" ")
    major, _, minor = fields[2].partition(":")
    return {
        "kind": kind,
        "device": os.makedev(int(major), int(minor)),
        "target": _unescape(fields[4]),
        "readonly": "ro" in fields[5].split(","),
        "source": _unescape(source),
    }


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def magic(descriptor: int) -> int:
    """The kind of file system that an open file lies on."""
    room = (ctypes.c_long * 32)()  # struct statfs, 120 bytes; f_type comes first
    _check(_libc.fstatfs(descriptor, ctypes.byref(room)), "")
    return int(room[0]) & 0xFFFFFFFF
