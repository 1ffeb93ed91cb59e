"""Buckets as directories: `buckets/<tenant>/<line>/<slice>/<recording>.ewr`, deleted ones in `deleted/` beside `buckets/`.

A name is always a whole file: files come by rename, or by link where file systems differ only in name. Every change of a
directory is synced before it is reported.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from appliance.model import is_id
from appliance.storage.keystore.files import make_directory, sync_directory
from appliance.storage.vault.contract import (
    Ailment,
    BucketId,
    BucketState,
    BucketStore,
    Space,
    Stored,
)
from appliance.storage.vault.errors import (
    BucketNameError,
    StoredFileCorruptError,
    StoredFileExistsError,
    StoredFileMissingError,
    StoreFullError,
    StoreUnavailableError,
)

SUFFIX = ".ewr"
_PIECE = 1 << 20
_LIVE, _PARKED = "buckets", "deleted"


@contextmanager
def _told() -> Iterator[None]:
    """OSError of the medium as an error of the contract."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError("no space is left where the buckets are") from error
        raise StoreUnavailableError(
            f"the store does not answer as it should: {error.strerror}", errno=error.errno or 0
        ) from error


class DirectoryStore(BucketStore):
    """See the module. `root` is Layout.vault."""

    backend = "directory"

    def __init__(self, root: Path) -> None:
        self._root = root

    def _folder(self, bucket: BucketId, area: str) -> Path:
        return self._root / area / bucket.tenant_id / bucket.line_id / bucket.slice

    def _path(self, bucket: BucketId, recording_id: str, area: str) -> Path:
        if not is_id(recording_id):
            raise BucketNameError("a file in a bucket is named by a recording id", field="recording_id")
        return self._folder(bucket, area) / f"{recording_id}{SUFFIX}"

    def state(self, bucket: BucketId) -> BucketState:
        """See BucketStore."""
        return BucketState.OPEN if self._folder(bucket, _LIVE).is_dir() else BucketState.ABSENT

    def open_bucket(self, bucket: BucketId) -> None:
        """See BucketStore."""
        with _told():
            make_directory(self._folder(bucket, _LIVE))

    def buckets(self) -> Iterator[BucketId]:
        """See BucketStore."""
        found: set[BucketId] = set()
        with _told():
            for area in (_LIVE, _PARKED):
                for path in self._root.glob(f"{area}/*/*/*"):
                    try:
                        found.add(BucketId(*path.parts[-3:]))
                    except BucketNameError:
                        continue  # `strangers` tells
        yield from sorted(found)

    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """See BucketStore."""
        target = self._path(bucket, recording_id, _LIVE)
        with _told():
            make_directory(target.parent)
            if target.exists():
                if source.exists() and not _same(source, target):
                    raise StoredFileExistsError(
                        "the bucket has another file of this recording", recording_id=recording_id
                    )
                sync_directory(target.parent)
            else:
                self._bring(source, target, recording_id)
            source.unlink(missing_ok=True)
            sync_directory(source.parent)
            return target.stat().st_size

    def _bring(self, source: Path, target: Path, recording_id: str) -> None:
        _sync_file(source)
        try:
            os.link(source, target)  # unlike rename, never over a file that is there
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            self._copy(source, target, recording_id)
        sync_directory(target.parent)

    def _copy(self, source: Path, target: Path, recording_id: str) -> None:
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(source, "rb") as reading, open(aside, "xb") as writing:
                while piece := reading.read(_PIECE):
                    writing.write(piece)
                writing.flush()
                os.fsync(writing.fileno())
                os.posix_fadvise(writing.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not _same(source, aside):
                raise StoredFileCorruptError(
                    "a copy into the bucket came out otherwise", recording_id=recording_id, offset=0
                )
            os.link(aside, target)
        finally:
            aside.unlink(missing_ok=True)

    def read(self, bucket: BucketId, recording_id: str, *, parked: bool = False) -> BinaryIO:
        """See BucketStore."""
        path = self._path(bucket, recording_id, _PARKED if parked else _LIVE)
        with _told():
            try:
                return open(path, "rb")
            except FileNotFoundError as error:
                raise StoredFileMissingError(
                    "the bucket has no file of this recording", recording_id=recording_id
                ) from error

    def park(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        self._shift(bucket, recording_ids, _LIVE, _PARKED)

    def unpark(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        self._shift(bucket, recording_ids, _PARKED, _LIVE)

    def _shift(self, bucket: BucketId, recording_ids: Sequence[str], area: str, to: str) -> None:
        with _told():
            make_directory(self._folder(bucket, to))
            for recording_id in recording_ids:
                source, target = self._path(bucket, recording_id, area), self._path(bucket, recording_id, to)
                try:
                    os.rename(source, target)
                except FileNotFoundError as error:
                    if not target.exists():
                        raise StoredFileMissingError(
                            "the bucket has no file of this recording", recording_id=recording_id
                        ) from error
            for place in (to, area):  # first where it came, so that a crash never leaves it nowhere
                folder = self._folder(bucket, place)
                if folder.is_dir():
                    sync_directory(folder)

    def erase(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """See BucketStore."""
        with _told():
            for area in (_LIVE, _PARKED):
                folder = self._folder(bucket, area)
                if not folder.is_dir():
                    continue
                for recording_id in recording_ids:
                    self._path(bucket, recording_id, area).unlink(missing_ok=True)
                sync_directory(folder)

    def files(self, bucket: BucketId) -> Iterator[Stored]:
        """See BucketStore."""
        for area in (_LIVE, _PARKED):
            folder = self._folder(bucket, area)
            if not folder.is_dir():
                continue
            with _told(), os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name.removesuffix(SUFFIX)
                    if name != entry.name and is_id(name) and entry.is_file(follow_symlinks=False):
                        size = entry.stat(follow_symlinks=False).st_size
                        yield Stored(bucket, name, size, area == _PARKED)

    def find(self, bucket: BucketId, recording_id: str) -> Stored | None:
        """See BucketStore."""
        with _told():
            for area in (_LIVE, _PARKED):
                try:
                    size = self._path(bucket, recording_id, area).stat().st_size
                except FileNotFoundError:
                    continue
                return Stored(bucket, recording_id, size, area == _PARKED)
        return None

    def strangers(self) -> Iterator[str]:
        """See BucketStore."""
        with _told():
            for area in (_LIVE, _PARKED):
                yield from self._strangers(self._root / area, ())

    def _strangers(self, folder: Path, above: tuple[str, ...]) -> Iterator[str]:
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_ours(entry, above):
                    yield os.path.relpath(entry.path, self._root)
                elif len(above) < 3:
                    yield from self._strangers(Path(entry.path), (*above, entry.name))

    def space(self) -> Space:
        """See BucketStore."""
        with _told():
            found = os.statvfs(self._root)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    def health(self) -> list[Ailment]:
        """See BucketStore."""
        try:
            with _told():
                make_directory(self._root / _LIVE)
                if not os.access(self._root / _LIVE, os.R_OK | os.W_OK | os.X_OK):
                    raise StoreUnavailableError("the buckets cannot be written", errno=errno.EACCES)
                os.scandir(self._root / _LIVE).close()
        except (StoreUnavailableError, StoreFullError) as error:
            return [
                Ailment("StoreUnavailable", f"{error.message}: recordings wait in the spool.", alarm=True)
            ]
        return []


def _is_ours(entry: os.DirEntry[str], above: tuple[str, ...]) -> bool:
    if len(above) < 3:
        return _part_of_bucket((*above, entry.name)) and entry.is_dir(follow_symlinks=False)
    name = entry.name.removesuffix(SUFFIX)
    return name != entry.name and is_id(name) and entry.is_file(follow_symlinks=False)


def _part_of_bucket(parts: tuple[str, ...]) -> bool:
    if len(parts) < 3:
        return all(is_id(part) for part in parts)
    try:
        BucketId(*parts)
    except BucketNameError:
        return False
    return True


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _same(first: Path, second: Path) -> bool:
    """Whether two files are one, or have the same bytes."""
    if os.path.samefile(first, second):
        return True
    with open(first, "rb") as one, open(second, "rb") as two:
        while True:
            a, b = one.read(_PIECE), two.read(_PIECE)
            if a != b:
                return False
            if not a:
                return True
