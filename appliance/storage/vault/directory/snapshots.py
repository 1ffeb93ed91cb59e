"""Snapshots as folders of hard links, of many buckets at one instant.

The folders are built aside in every bucket; then one file that names them all, `pending`, is renamed into place: that is
the instant. What is left is to give the folders their names, and a crash leaves that to the next start.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from appliance.storage.keystore.files import remove_durably, sync_directory, write_durably
from appliance.storage.names import BucketId, SnapshotId
from appliance.storage.vault.directory.medium import Fault, dispose
from appliance.storage.vault.directory.place import ABOUT, About, Place, objects, pack_about
from appliance.storage.vault.errors import SnapshotHeldError, SnapshotMissingError, StoredFileCorruptError

_ASIDE: Final = ".aside-"


@dataclass(frozen=True, slots=True)
class _Pending:
    name: str
    buckets: tuple[tuple[str, str, str], ...]


_PENDING = TypeAdapter(_Pending)


class Snapshots:
    """See the module. The caller holds the locks of the buckets."""

    def __init__(self, root: Path, fault: Fault, clock: Callable[[], int] = time.time_ns) -> None:
        self._root = root
        self._fault = fault
        self._clock = clock
        self._pending = root / "pending"
        self._one_list = threading.Lock()
        self._grave = root / "removed"

    def take(self, buckets: Sequence[BucketId], name: str, properties: Mapping[str, str]) -> None:
        """All or none; buckets that have one of that name keep it."""
        places = [Place(self._root, bucket) for bucket in buckets]
        fresh = [place for place in places if not place.snapshot(name).is_dir()]
        created = self._clock()
        for place in fresh:
            self._build(place, name, properties, created)
        self._fault("snapshots built")
        if not fresh:
            return
        names = tuple((item.bucket.tenant_id, item.bucket.line_id, item.bucket.slice) for item in fresh)
        with self._one_list:
            if len(names) > 1:  # of one alone, its rename is the instant
                write_durably(self._pending, _PENDING.dump_json(_Pending(name, names)))
                self._fault("snapshots taken")
            self._name_all(_Pending(name, names))

    def _build(self, place: Place, name: str, properties: Mapping[str, str], created_ns: int) -> None:
        aside = place.snapshots / f"{_ASIDE}{name}"
        if aside.exists():
            shutil.rmtree(aside)  # of a crash before the instant
        aside.mkdir(mode=0o700)
        for _, path in objects(place.files):
            os.link(path, aside / path.name)
        orders = [place.about(item).order for item in place.snapshot_names()]
        write_durably(
            aside / ABOUT, pack_about(About(dict(properties), created_ns, max(orders, default=0) + 1))
        )
        sync_directory(place.snapshots)

    def _name_all(self, pending: _Pending) -> None:
        for parts in pending.buckets:
            place = Place(self._root, BucketId(*parts))
            try:
                os.rename(place.snapshots / f"{_ASIDE}{pending.name}", place.snapshots / pending.name)
            except FileNotFoundError:
                continue  # done before the crash
            sync_directory(place.snapshots)
            self._fault("snapshot named")
        if len(pending.buckets) > 1:
            remove_durably(self._pending)

    def recover(self, buckets: Iterable[BucketId]) -> None:
        """Completes what was taken, and removes what was not."""
        if self._pending.exists():
            try:
                self._name_all(_PENDING.validate_json(self._pending.read_bytes()))
            except ValidationError as error:
                raise StoredFileCorruptError(
                    "the list of snapshots being taken is damaged", what="pending"
                ) from error
        for bucket in buckets:
            place = Place(self._root, bucket)
            if place.snapshots.is_dir():
                for entry in list(os.scandir(place.snapshots)):
                    if entry.name.startswith(_ASIDE):
                        shutil.rmtree(entry.path)

    def hold(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """One empty file each."""
        missing = []
        for item in snapshots:
            place = Place(self._root, item.bucket)
            if not place.snapshot(item.name).is_dir():
                missing.append(said(item))
                continue
            fd = os.open(place.holds / f"{item.name}@{tag}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fsync(fd)
            os.close(fd)
            sync_directory(place.holds)
            self._fault("held")
        if missing:
            raise SnapshotMissingError("there is no such snapshot", snapshots=missing)

    def release(self, snapshots: Iterable[SnapshotId], tag: str) -> None:
        """Its file goes."""
        for item in snapshots:
            place = Place(self._root, item.bucket)
            if place.holds.is_dir():
                remove_durably(place.holds / f"{item.name}@{tag}")
                self._fault("released")

    def refuse_held(self, snapshots: Sequence[SnapshotId]) -> None:
        """SnapshotHeldError naming what is held, and by what."""
        held = {item: Place(self._root, item.bucket).tags(item.name) for item in snapshots}
        held = {item: tags for item, tags in held.items() if tags}
        if held:
            raise SnapshotHeldError(
                "held snapshots are not destroyed",
                snapshots=[said(item) for item in held],
                tags=sorted(set().union(*held.values())),
            )

    def destroy(self, snapshots: Sequence[SnapshotId]) -> None:
        """All, unless one is held."""
        self.refuse_held(snapshots)
        for item in snapshots:
            dispose(Place(self._root, item.bucket).snapshot(item.name), self._grave)
            self._fault("snapshot destroyed")


def said(item: SnapshotId) -> str:
    """bucket@name."""
    return f"{item.bucket.path}@{item.name}"
