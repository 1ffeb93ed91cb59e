"""The contract between the vault and what keeps its buckets: a directory tree today, ZFS datasets next.

A **bucket** is the recordings of one line in one time slice. The vault says what shall be so, in ids and states; a backend
makes it so on its medium. Rules that every backend keeps:

- Each method is durable when it returns, and doing it twice is success. A crash in its midst leaves the state before or
  after, or one that doing it again completes.
- Names are opaque ids and slices, nothing else. What a backend does not know it leaves alone and reports (`strangers`).
- Methods that change take many recordings of one bucket, because a backend may pay for each step by the bucket (a
  snapshot, a mount), not by the recording.
- A call may block as long as the medium does. The vault runs them where that stops nothing else.
- Errors: those of `appliance.storage.vault.errors`, and no other.

What comes next joins without changing what is here: snapshots and holds (ZFS parks by snapshot, hold, unlink), `lock` and
`unlock` of a bucket (`BucketState.LOCKED` is foreseen), and `destroy` of a whole bucket after its keys are shredded.
"""

from __future__ import annotations

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from appliance.model import is_id
from appliance.storage.vault.errors import BucketNameError

_SLICE = re.compile(r"[0-9]{4}-(?:[0-9]{2}(?:-[0-9]{2})?|W[0-9]{2})")


class SliceUnit(enum.StrEnum):
    """How long a bucket's time slice is: about a thirtieth of the retention."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def slice_of(created_ns: int, unit: SliceUnit = SliceUnit.DAY) -> str:
    """The slice of a time (UTC): 2026-11-25, 2026-W48 (ISO 8601 week) or 2026-11."""
    when = datetime.fromtimestamp(created_ns // 1_000_000_000, UTC)
    if unit is SliceUnit.DAY:
        return when.strftime("%Y-%m-%d")
    if unit is SliceUnit.MONTH:
        return when.strftime("%Y-%m")
    year, week, _ = when.isocalendar()
    return f"{year:04d}-W{week:02d}"


@dataclass(frozen=True, slots=True, order=True)
class BucketId:
    """Which bucket. BucketNameError where a part is malformed, so that a bucket's name is always safe in a path."""

    tenant_id: str
    line_id: str
    slice: str

    def __post_init__(self) -> None:
        if not (is_id(self.tenant_id) and is_id(self.line_id) and _SLICE.fullmatch(self.slice)):
            raise BucketNameError("a bucket is named by tenant id, line id and slice", field="bucket")


class BucketState(enum.StrEnum):
    """Whether a bucket's files can be got at."""

    ABSENT = "absent"
    OPEN = "open"
    LOCKED = "locked"  # there, and its key is not loaded


@dataclass(frozen=True, slots=True)
class Stored:
    """One file in a bucket. `parked`: deleted, and kept so that it can be brought back. `size` in bytes."""

    bucket: BucketId
    recording_id: str
    size: int
    parked: bool


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the medium that keeps the buckets, as an ordinary user may use them."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something wrong with the medium or what lies on it. `alarm`: recordings are in danger now."""

    name: str  # CamelCase, as in conditions
    message: str
    alarm: bool = False


class BucketStore(ABC):
    """See the module."""

    backend: str
    """directory or zfs."""

    @abstractmethod
    def state(self, bucket: BucketId) -> BucketState:
        """Whether the bucket is there and open."""

    @abstractmethod
    def open_bucket(self, bucket: BucketId) -> None:
        """Makes the bucket if it is absent, and ready to be read and written."""

    @abstractmethod
    def buckets(self) -> Iterator[BucketId]:
        """Every bucket, open or not, in order."""

    @abstractmethod
    def write(self, bucket: BucketId, recording_id: str, source: Path) -> int:
        """Moves a finished sealed file into an open bucket; its size. `source` is gone afterwards.

        Where the file is in the bucket already, with the same bytes, only `source` goes; with other bytes
        StoredFileExistsError, and nothing changes.
        """

    @abstractmethod
    def read(self, bucket: BucketId, recording_id: str, *, parked: bool = False) -> BinaryIO:
        """The file, open for reading at its beginning; StoredFileMissingError. The caller closes it.

        An open file stays readable while it is parked or erased.
        """

    @abstractmethod
    def park(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """Takes files out of sight, so that they can be brought back (delete)."""

    @abstractmethod
    def unpark(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """Brings parked files back (undelete)."""

    @abstractmethod
    def erase(self, bucket: BucketId, recording_ids: Sequence[str]) -> None:
        """Removes files, parked or not. Their keys are destroyed already: this only gives the space back."""

    @abstractmethod
    def files(self, bucket: BucketId) -> Iterator[Stored]:
        """Every file of an open bucket, parked ones too."""

    @abstractmethod
    def find(self, bucket: BucketId, recording_id: str) -> Stored | None:
        """One file, wherever in the bucket it is."""

    @abstractmethod
    def strangers(self) -> Iterator[str]:
        """What lies among the buckets and is not ours, as paths below the store. It is left alone."""

    @abstractmethod
    def space(self) -> Space:
        """How much there is."""

    @abstractmethod
    def health(self) -> list[Ailment]:
        """What is wrong; empty where nothing is."""
