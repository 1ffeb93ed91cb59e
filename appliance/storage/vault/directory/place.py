"""Where a bucket's things are in its folder, and the check that tells its key from another.

```
buckets/<tenant>/<line>/<slice>/bucket               the key's check
                                mark                 what was noted of its files, and when they had last changed
                                files/<id>.ewr       encrypted under the bucket's key
                                files/<id>.ewn       its sidecar, likewise; another file in its place where it grew
                                snapshots/<name>/    hard links, and `.about`: properties, time, order
                                holds/<name>@<tag>   an empty file for each hold
```
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter, ValidationError

from appliance.model import is_id
from appliance.storage.keystore.files import make_directory, remove_durably, write_durably
from appliance.storage.names import BucketId, BucketNameError, check_properties, check_snapshot_name
from appliance.storage.vault.errors import BucketKeyError, BucketMissingError, StoredFileCorruptError

SUFFIX: Final = ".ewr"
SIDECAR: Final = ".ewn"
ABOUT: Final = ".about"
_CHECK = struct.Struct("<8s16s12s16s")
CHECK_BYTES: Final = _CHECK.size
_MAGIC: Final = b"\x89EWBK\r\n\x1a"
_CONTEXT: Final = b"earwitness bucket key v1\0"


@dataclass(frozen=True, slots=True)
class About:
    """What a snapshot says of itself."""

    properties: Mapping[str, str]
    created_ns: int
    order: int


_ABOUT = TypeAdapter(About)


class Place:
    """The folder of one bucket."""

    def __init__(self, root: Path, bucket: BucketId) -> None:
        self.bucket = bucket
        self.folder = root / "buckets" / bucket.tenant_id / bucket.line_id / bucket.slice
        self.check = self.folder / "bucket"
        self._mark = self.folder / "mark"
        self.files = self.folder / "files"
        self.snapshots = self.folder / "snapshots"
        self.holds = self.folder / "holds"

    def exists(self) -> bool:
        """A bucket is there when its key's check is: the last thing that is made."""
        return self.check.is_file()

    def require(self) -> None:
        """BucketMissingError where it is not there."""
        if not self.exists():
            raise BucketMissingError("there is no such bucket", bucket=self.bucket.path)

    def make(self) -> None:
        """The folders, durably."""
        for folder in (self.files, self.snapshots, self.holds):
            make_directory(folder)

    def write_check(self, key: bytes) -> None:
        """What tells this key from another, with a fresh id of the bucket."""
        guid, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        tag = AESGCM(key).encrypt(nonce, b"", self._context(guid))
        write_durably(self.check, _CHECK.pack(_MAGIC, guid, nonce, tag))

    def check_key(self, key: bytes) -> None:
        """BucketKeyError where it is another bucket's key, or the check is damaged."""
        raw = self.check.read_bytes()
        try:
            magic, guid, nonce, tag = _CHECK.unpack(raw)
            if magic != _MAGIC:
                raise InvalidTag
            AESGCM(key).decrypt(nonce, tag, self._context(guid))
        except (InvalidTag, ValueError, struct.error) as error:
            raise BucketKeyError("this is not the bucket's key", bucket=self.bucket.path) from error

    def _context(self, guid: bytes) -> bytes:
        return _CONTEXT + guid + self.bucket.path.encode()

    def file(self, recording_id: str, snapshot: str = "") -> Path:
        """One file, now or in a snapshot; BucketNameError, SnapshotNameError."""
        if not is_id(recording_id):
            raise BucketNameError("a file in a bucket is named by a recording id", field="recording_id")
        return (self.snapshot(snapshot) if snapshot else self.files) / f"{recording_id}{SUFFIX}"

    def sidecar(self, recording_id: str, snapshot: str = "") -> Path:
        """As `file`, of the recording's sidecar."""
        return self.file(recording_id, snapshot).with_suffix(SIDECAR)

    def mark(self) -> str:
        """What was noted of the files as they are; empty where they may have changed since."""
        try:
            word, _, changed = self._mark.read_text().partition(" ")
        except FileNotFoundError:
            return ""
        return word if changed == self._changed() else ""

    def set_mark(self, word: str) -> None:
        """Notes it, durably."""
        write_durably(self._mark, f"{word} {self._changed()}".encode())

    def drop_mark(self) -> None:
        """Files are about to change, so soon after the last change perhaps that their folder's time does not tell."""
        if self._mark.exists():
            remove_durably(self._mark)

    def _changed(self) -> str:
        """Of the folder of files: a name that comes or goes, by whatever hand, changes its time."""
        return str(self.files.stat().st_mtime_ns)

    def snapshot(self, name: str) -> Path:
        """A snapshot's folder."""
        check_snapshot_name(name)
        return self.snapshots / name

    def snapshot_names(self) -> list[str]:
        """Of those that are whole."""
        if not self.snapshots.is_dir():
            return []
        return [entry.name for entry in os.scandir(self.snapshots) if not entry.name.startswith(".")]

    def about(self, name: str) -> About:
        """What a snapshot says of itself; StoredFileCorruptError."""
        try:
            return _ABOUT.validate_json((self.snapshots / name / ABOUT).read_bytes())
        except (ValidationError, FileNotFoundError) as error:
            raise StoredFileCorruptError(
                "a snapshot's description is damaged", bucket=self.bucket.path
            ) from error

    def tags(self, name: str) -> frozenset[str]:
        """Tags that hold a snapshot, whoever put them there."""
        return self.all_tags().get(name, frozenset())

    def all_tags(self) -> dict[str, frozenset[str]]:
        """The same of all that are held."""
        found: dict[str, set[str]] = {}
        for entry in os.scandir(self.holds) if self.holds.is_dir() else ():
            name, at, tag = entry.name.partition("@")
            if at:
                found.setdefault(name, set()).add(tag)
        return {name: frozenset(tags) for name, tags in found.items()}


def pack_about(about: About) -> bytes:
    """As it is written."""
    return _ABOUT.dump_json(about)


def check_about(raw: bytes) -> None:
    """ValueError, SnapshotNameError where these bytes are no description of a snapshot."""
    check_properties(_ABOUT.validate_json(raw).properties)


def listing(folder: Path, suffix: str = SUFFIX) -> Iterator[tuple[str, Path]]:
    """Recording ids and paths of the files in a folder, or of their sidecars."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.removesuffix(suffix)
            if name != entry.name and is_id(name) and entry.is_file(follow_symlinks=False):
                yield name, Path(entry.path)


def objects(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files of recordings, by the name of `object_file`: an id, and for a sidecar `<id>.ewn`."""
    yield from listing(folder)
    for name, path in listing(folder, SIDECAR):
        yield f"{name}{SIDECAR}", path


def object_file(name: str) -> str:
    """The file name of what `objects` and streams name so."""
    return name if name.endswith(SIDECAR) else f"{name}{SUFFIX}"


def is_object(name: str) -> bool:
    """Whether `objects` may name something so."""
    return is_id(name.removesuffix(SIDECAR))
