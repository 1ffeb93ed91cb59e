"""What lies among the buckets and is not ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from appliance.model import is_id
from appliance.storage.names import (
    HOLD_LINE,
    BucketId,
    BucketNameError,
    SnapshotNameError,
    check_snapshot_name,
    check_tag,
)
from appliance.storage.vault.directory.place import ABOUT, SIDECAR, SUFFIX

_COMING = re.compile(r"\.[a-z2-7]{26}\.ew[rn]\.[0-9a-f]{8}\.tmp")  # a file on its way in
_PART_COMING = re.compile(r"\.(?:bucket|mark)\.[0-9]+\.tmp")
_FILES = frozenset({"bucket", "mark"})
_FOLDERS = frozenset({"files", "snapshots", "holds"})


def strangers(root: Path) -> Iterator[str]:
    """Paths below the root, of the uppermost thing that no rule names."""
    for path in _unknown(root / "buckets", ()):
        yield os.path.relpath(path, root)


def _unknown(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            parts = (*above, entry.name)
            if not _is_ours(entry, parts):
                yield Path(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _unknown(Path(entry.path), parts)


def _is_ours(entry: os.DirEntry[str], parts: tuple[str, ...]) -> bool:
    is_file, is_folder = entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False)
    match parts:
        case (tenant,):
            return is_folder and is_id(tenant)
        case (_, line):
            return is_folder and (is_id(line) or line == HOLD_LINE)
        case (_, _, _):
            return is_folder and _bucket(parts)
        case (_, _, _, name):
            if name in _FILES or _PART_COMING.fullmatch(name):
                return is_file
            return name in _FOLDERS and is_folder
        case (_, _, _, "files", name):
            return is_file and (_recording(name) or _COMING.fullmatch(name) is not None)
        case (_, _, _, "snapshots", name):
            return is_folder and (name.startswith(".") or _snapshot(name))  # one that is being made
        case (_, _, _, "snapshots", made, name):
            return is_file and (made.startswith(".") or name == ABOUT or _recording(name))
        case (_, _, _, "holds", name):
            return is_file and _hold(name)
    return False


def _bucket(parts: tuple[str, ...]) -> bool:
    try:
        BucketId(*parts)
    except BucketNameError:
        return False
    return True


def _recording(name: str) -> bool:
    return name.endswith((SUFFIX, SIDECAR)) and is_id(name[: -len(SUFFIX)])


def _snapshot(name: str) -> bool:
    try:
        check_snapshot_name(name)
    except SnapshotNameError:
        return False
    return True


def _hold(name: str) -> bool:
    snapshot, _, tag = name.partition("@")
    try:
        check_tag(tag)
    except SnapshotNameError:
        return False
    return _snapshot(snapshot)
