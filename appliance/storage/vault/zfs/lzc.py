"""libzfs_core behind plain values: what the agent calls. It is imported when it is first needed, and in the agent alone.

All names are bytes there and text here. Traps that are met here (OpenZFS 2.3.9):
- where more errors came than there is room for, their count is taken for an error of a name `N_MORE_ERRORS`, and
  translating it may even raise KeyError: then only the medium knows what happened, and the caller asks it;
- `ZFSGenericError` has its name and its message swapped: the number is taken from it, and the name from where the
  message should be;
- every EBUSY of a destroy is called SnapshotIsHeld: the caller asks for the holds.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MODULE: Final = "libzfs_core"
INSTRUCTIONS: Final = 100_000_000  # the most the kernel allows
MEMORY: Final = 64 << 20  # bytes that one channel program may take
WANTED: Final = (
    "lzc_bookmark",
    "lzc_channel_program",
    "lzc_channel_program_nosync",
    "lzc_create",
    "lzc_destroy",
    "lzc_destroy_bookmarks",
    "lzc_destroy_snaps",
    "lzc_get_bookmarks",
    "lzc_get_holds",
    "lzc_hold",
    "lzc_load_key",
    "lzc_release",
    "lzc_snapshot",
    "lzc_unload_key",
    "zfs_keyformat",
    "zio_encrypt",
)
"""What the store uses of it; that of 2016 on PyPI has neither keys nor channel programs."""
_MORE: Final = "N_MORE_ERRORS"


def _library() -> ModuleType:
    return importlib.import_module(MODULE)


def found() -> dict[str, Any]:
    """Where the library is, its version, and which of WANTED it lacks; an empty path where there is none."""
    try:
        library = _library()
    except (ImportError, OSError) as error:
        return {"path": "", "version": "", "lacks": list(WANTED), "why": f"{type(error).__name__}: {error}"}
    path = Path(library.__file__ or "")
    version = ""
    for item in importlib.metadata.distributions(name="pyzfs", path=[str(path.parent.parent)]):
        version = item.version
    lacks = [name for name in WANTED if not hasattr(library, name)]
    return {"path": str(path), "version": version, "lacks": lacks, "why": ""}


def said(error: Exception) -> dict[str, Any] | None:
    """An exception of the library as numbers; None where it is none of its own."""
    if not type(error).__module__.startswith(MODULE):
        return None
    names: dict[str, int] = {}
    for one in getattr(error, "errors", ()):
        name = one.message if type(one).__name__ == "ZFSGenericError" else getattr(one, "name", None)
        if isinstance(name, bytes) and name.decode() != _MORE:
            names[name.decode()] = int(one.errno or 0)
    number = int(getattr(error, "errno", 0) or 0)
    if names and number not in names.values():
        number = next(iter(names.values()))  # the first error was the count of those left out
    kind = type(error).__name__
    return {"errno": number or errno.EPROTO, "kind": kind, "names": names, "said": _details(error)}


def _details(error: Exception) -> str:
    """What a channel program said when it failed; dataset names are all it can hold."""
    details = getattr(error, "details", None)
    return details.decode(errors="replace") if isinstance(details, bytes) else ""


def create(name: str, properties: dict[str, str | int], key: bytes) -> None:
    """A file system, under a raw key where one is given; its properties come in a second transaction."""
    library = _library()
    values: dict[bytes, Any] = {
        prop.encode(): value.encode() if isinstance(value, str) else value
        for prop, value in properties.items()
    }
    if key:
        values |= {
            b"encryption": library.zio_encrypt.ZIO_CRYPT_AES_256_GCM,
            b"keyformat": library.zfs_keyformat.ZFS_KEYFORMAT_RAW,
            b"keylocation": b"prompt",
        }
    library.lzc_create(name.encode(), "zfs", values, key or None)


def destroy(name: str) -> None:
    """A file system without children and snapshots."""
    _library().lzc_destroy(name.encode())


def load_key(name: str, key: bytes, check_only: bool) -> None:
    """EncryptionKeyInvalid (EACCES), EncryptionKeyAlreadyLoaded (EEXIST)."""
    _library().lzc_load_key(name.encode(), check_only, key)


def unload_key(name: str) -> None:
    """DatasetBusy (EBUSY) while it is mounted, EncryptionKeyNotLoaded (EACCES)."""
    _library().lzc_unload_key(name.encode())


def snapshot(names: list[str], properties: dict[str, str]) -> None:
    """All at one instant, or none."""
    _library().lzc_snapshot(
        [name.encode() for name in names],
        {prop.encode(): value.encode() for prop, value in properties.items()},
    )


def hold(names: list[str], tag: str) -> list[str]:
    """Those that are not there; the others are held, or none of them where it raises."""
    return [name.decode() for name in _library().lzc_hold({name.encode(): tag.encode() for name in names})]


def release(names: list[str], tag: str) -> list[str]:
    """Those that are not there or not held, the latter as `name#tag`."""
    found = _library().lzc_release({name.encode(): [tag.encode()] for name in names})
    return [name.decode() for name in found]


def holds(name: str) -> list[str]:
    """Tags on one snapshot."""
    return [tag.decode() for tag in _library().lzc_get_holds(name.encode())]


def destroy_snapshots(names: list[str]) -> None:
    """All or none; absent ones are success. Never deferred: that would fire on some later release."""
    _library().lzc_destroy_snaps([name.encode() for name in names], defer=False)


def bookmark(marks: dict[str, str]) -> None:
    """Bookmarks of snapshots, by name."""
    _library().lzc_bookmark({mark.encode(): source.encode() for mark, source in marks.items()})


def bookmarks(name: str) -> list[str]:
    """Short names of a file system's bookmarks."""
    return [mark.decode() for mark in _library().lzc_get_bookmarks(name.encode())]


def destroy_bookmarks(names: list[str]) -> None:
    """Absent ones are success."""
    _library().lzc_destroy_bookmarks([name.encode() for name in names])


def program(pool: str, text: str, arguments: list[str], writes: bool) -> bytes:
    """Runs a channel program that returns a string; one that writes waits for a transaction group."""
    library = _library()
    run = library.lzc_channel_program if writes else library.lzc_channel_program_nosync
    result = run(
        pool.encode(),
        text.encode(),
        instrlimit=INSTRUCTIONS,
        memlimit=MEMORY,
        params=[argument.encode() for argument in arguments],
    )
    return result if isinstance(result, bytes) else b""
