"""What a store of buckets tells of itself."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from appliance.storage.names import BucketId, SnapshotId


class BucketState(enum.StrEnum):
    """Whether a bucket's files can be got at."""

    ABSENT = "absent"
    OPEN = "open"
    LOCKED = "locked"  # there, and its key is not loaded


@dataclass(frozen=True, slots=True)
class Stored:
    """One file in a bucket. `size`: bytes of the sealed file."""

    bucket: BucketId
    recording_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as it is. `holds` are tags; one that is not ours counts all the same. `order` grows with age's end."""

    id: SnapshotId
    properties: Mapping[str, str] = field(default_factory=dict)
    holds: frozenset[str] = frozenset()
    created_ns: int = 0
    order: int = 0
    """Grows from snapshot to snapshot of one bucket; on ZFS the transaction group, which no administrator can set."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """One bucket in a survey. `tags`: of its snapshots those whose names are ours, in no order, and what holds them.

    `mark`: what `BucketStore.mark` last noted of its files; empty where they may have changed since.
    """

    state: BucketState
    mark: str = ""
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything among the buckets at one look. `strangers`: what lies there and is not ours, as paths or dataset names
    below the store. It is left alone."""

    buckets: Mapping[BucketId, Surveyed]
    strangers: tuple[str, ...] = ()

    def snapshots(self) -> dict[SnapshotId, frozenset[str]]:
        """Every snapshot and what holds it."""
        return {
            SnapshotId(bucket, name): tags
            for bucket, found in self.buckets.items()
            for name, tags in found.tags.items()
        }


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the medium that keeps the buckets, as an ordinary user may use them."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that a tenant's buckets take up, and may take up (0: no limit)."""

    used: int
    quota: int


@dataclass(frozen=True, slots=True)
class Ailment:
    """Something wrong with the medium or what lies on it. `alarm`: recordings are in danger now."""

    name: str  # CamelCase, as in conditions
    message: str
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """A bucket on its way to another store. `pieces` can be taken once; closing the iterator ends the sending."""

    bucket: BucketId
    snapshot: str
    base: str
    pieces: Iterator[bytes]
