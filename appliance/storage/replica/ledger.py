"""The deletion log as a replica has followed it: its own copy, and what follows from it.

An entry is in it when its effects are durable. The set of what is erased is this file: nothing else has to be believed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from appliance.storage.names import BucketId
from appliance.storage.replica.errors import (
    DeletionLogForkError,
    DeletionLogGapError,
    ReplicaSignatureError,
    ReplicaStateError,
)
from appliance.storage.vault.deletionlog import DELETION, MAX_LINE, Deletion, DeletionKind, parse_entry
from appliance.storage.vault.errors import JournalCorruptError
from appliance.storage.vault.linefile import LineFile


@dataclass(slots=True)
class _Case:
    """Where what an open case holds lies."""

    buckets: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)


class Ledger:
    """See the module. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, max_line=MAX_LINE)
        self._offsets: list[int] = []
        self._cases: dict[str, _Case] = {}
        self.digest = ""
        self.released: set[str] = set()
        self.expired: dict[str, int] = {}
        """Buckets, by the number of the entry that says so."""
        self.waiting: set[str] = set()
        """Buckets that expired and that a case kept then, and keeps still."""
        at = 0
        try:
            for body in self._file.bodies():
                entry = parse_entry(body)
                if entry.number != self.number + 1 or entry.previous != self.digest:
                    raise JournalCorruptError("it has a gap", what=path.name, offset=at)
                self._take(entry, at)
                at += len(body) + 10
        except JournalCorruptError as error:
            self._file.close()
            raise ReplicaStateError(
                f"the log that the replica has followed cannot be read: {error.message}", what=path.name
            ) from error

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    @property
    def number(self) -> int:
        """The last entry's; 0: none."""
        return len(self._offsets)

    def accept(self, entry: Deletion, device_public_key: str) -> bool:
        """Whether it is the next one; false where it was followed before.

        DeletionLogGapError, DeletionLogForkError, ReplicaSignatureError.
        """
        if not entry.holds(bytes.fromhex(device_public_key)):
            raise ReplicaSignatureError("an entry of the deletion log is not the box's", what="entry")
        if entry.number < 1 or entry.number > self.number + 1:
            raise DeletionLogGapError(
                "an entry of the deletion log is missing", number=entry.number, wanted=self.number + 1
            )
        if entry.number <= self.number:
            if self._entry(entry.number) != entry:
                raise DeletionLogForkError("another entry of this number was followed", number=entry.number)
            return False
        if entry.previous != self.digest:
            raise DeletionLogForkError(
                "an entry goes on from another one than was followed", number=entry.number
            )
        return True

    def _entry(self, number: int) -> Deletion:
        _, line = next(self._file.lines(self._offsets[number - 1]))
        return parse_entry(line[9:-1])

    def append(self, entry: Deletion) -> None:
        """It is followed; durable when this returns."""
        (offset,) = self._file.append([DELETION.dump_json(entry)])
        self._take(entry, offset)

    def _take(self, entry: Deletion, offset: int) -> None:
        self._offsets.append(offset)
        self.digest = entry.digest()
        match entry.kind:
            case DeletionKind.HELD:
                case = self._cases.setdefault(entry.case, _Case())
                case.buckets.update(entry.buckets)
                case.snapshots.update(entry.snapshots)
            case DeletionKind.RELEASED:
                self._cases.pop(entry.case, None)
                self.released.add(entry.case)
                self.waiting = {path for path in self.waiting if self.cases_at(path)}
            case DeletionKind.EXPIRED:
                for path in entry.buckets:
                    self.expired[path] = entry.number
                    if self.cases_at(path):
                        self.waiting.add(path)

    # What is held.

    def cases_in(self, bucket: str) -> list[str]:
        """Open cases that hold what lies in a bucket now."""
        return sorted(name for name, case in self._cases.items() if bucket in case.buckets)

    def cases_of(self, bucket: str, snapshot: str) -> list[str]:
        """Open cases that hold what lies in a snapshot."""
        place = f"{bucket}@{snapshot}"
        return sorted(name for name, case in self._cases.items() if place in case.snapshots)

    def cases_at(self, bucket: str) -> list[str]:
        """Open cases that hold anything of a bucket."""
        return sorted(name for name in self._cases if bucket in self.places_of(name))

    def places_of(self, case: str) -> set[str]:
        """Buckets of which an open case holds anything."""
        found = self._cases.get(case, _Case())
        return found.buckets | {place.partition("@")[0] for place in found.snapshots}

    # What is erased.

    def erased(self, recording_ids: Collection[str]) -> set[str]:
        """Which of these are. Reads the whole file: it is asked when something is brought back."""
        wanted, found = set(recording_ids), set()
        for _, line in self._file.lines():
            entry = parse_entry(line[9:-1])
            if entry.kind in (DeletionKind.ERASED, DeletionKind.EXPIRED):
                found |= wanted.intersection(entry.recordings)
        return found


def bucket_at(path: str) -> BucketId:
    """A bucket by its path. BucketNameError."""
    tenant_id, _, rest = path.partition("/")
    line_id, _, slice_ = rest.partition("/")
    return BucketId(tenant_id, line_id, slice_)
