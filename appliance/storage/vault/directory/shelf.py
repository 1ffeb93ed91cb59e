"""Files in a bucket's folder: brought in, found, brought back. The caller holds the bucket's lock and has its key."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from appliance.storage.keystore.files import sync_directory
from appliance.storage.names import SnapshotId
from appliance.storage.vault.directory.cipherfile import encrypt, open_plain
from appliance.storage.vault.directory.medium import Fault, same
from appliance.storage.vault.directory.place import Place
from appliance.storage.vault.directory.snapshots import said
from appliance.storage.vault.errors import (
    SnapshotMissingError,
    StoredFileCorruptError,
    StoredFileExistsError,
    StoredFileMissingError,
)


def has(target: Path, key: bytes, recording_id: str, source: Path) -> bool:
    """Whether a file in the bucket has the bytes of one outside."""
    with open_plain(target, key, recording_id) as one, open(source, "rb") as two:
        return same(one, two)


def bring(source: Path, target: Path, key: bytes, recording_id: str, fault: Fault) -> None:
    """Encrypts a file into the bucket, compares, then gives it its name. StoredFileCorruptError."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(source, "rb") as reading, open(aside, "xb") as writing:
            encrypt(reading, writing, key, recording_id)
            writing.flush()
            os.fsync(writing.fileno())
            os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if not has(aside, key, recording_id, source):
            raise StoredFileCorruptError(
                "a copy into the bucket came out otherwise", recording_id=recording_id, offset=0
            )
        fault("file copied")
        os.link(aside, target)  # unlike rename, never over a file that is there
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(target.parent)


def replace(source: Path, target: Path, key: bytes, recording_id: str, fault: Fault) -> None:
    """As `bring`, in the place of what has that name."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(source, "rb") as reading, open(aside, "xb") as writing:
            encrypt(reading, writing, key, recording_id)
            writing.flush()
            os.fsync(writing.fileno())
        if not has(aside, key, recording_id, source):
            raise StoredFileCorruptError(
                "a copy into the bucket came out otherwise", recording_id=recording_id, offset=0
            )
        fault("sidecar copied")
        os.rename(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(target.parent)


def find(place: Place, recording_id: str, snapshot: str, *, sidecar: bool = False) -> Path:
    """Where it is now, or in a snapshot. SnapshotMissingError, StoredFileMissingError."""
    path = place.sidecar(recording_id, snapshot) if sidecar else place.file(recording_id, snapshot)
    if snapshot and not path.parent.is_dir():
        raise SnapshotMissingError(
            "there is no such snapshot", snapshots=[said(SnapshotId(place.bucket, snapshot))]
        )
    if not path.is_file():
        raise StoredFileMissingError("the bucket has no file of this recording", recording_id=recording_id)
    return path


def restore(place: Place, key: bytes, snapshot: str, recording_ids: Sequence[str], fault: Fault) -> None:
    """See BucketStore.restore."""
    pairs = []
    for recording_id in recording_ids:
        source, target = find(place, recording_id, snapshot), place.file(recording_id)
        beside = place.sidecar(recording_id, snapshot), place.sidecar(recording_id)
        if beside[0].exists() and not beside[1].exists():
            with open_plain(beside[0], key, recording_id) as plain:
                while plain.read(1 << 20):
                    pass
            pairs.append(beside)
        with open_plain(source, key, recording_id) as plain:
            if target.exists():
                with open_plain(target, key, recording_id) as there:
                    if not same(plain, there):
                        raise StoredFileExistsError(
                            "the bucket has another file of this recording", recording_id=recording_id
                        )
            else:
                while plain.read(1 << 20):
                    pass  # every chunk is authentic, or this raises
                pairs.append((source, target))
    for source, target in pairs:
        os.link(source, target)
        fault("file restored")
    sync_directory(place.files)
