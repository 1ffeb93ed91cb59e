"""What a plan consists of: items, each with its reason, for people and as data."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Final

from pydantic import TypeAdapter

from appliance.storage.names import BucketId
from appliance.storage.retention.clock import Frozen
from appliance.storage.retention.period import Period
from appliance.storage.retention.terms import PolicyScope


class ItemKind(enum.StrEnum):
    """What becomes of something. In this order a plan is carried out, and shown."""

    ERASE_DELETED = "erase-deleted"
    EXPIRE_BUCKET = "expire-bucket"
    DROP_HOLD_RECORDINGS = "drop-hold-recordings"
    DROP_SNAPSHOT = "drop-snapshot"
    LOCK_BUCKET = "lock-bucket"
    KEEP_HELD = "keep-held"
    KEEP_DELETED = "keep-deleted"
    KEEP_BUCKET = "keep-bucket"
    KEEP_SNAPSHOT = "keep-snapshot"
    KEEP_UNKNOWN = "keep-unknown"

    @property
    def destroys(self) -> bool:
        """Whether it cannot be taken back."""
        return self in _DESTROYING


_DESTROYING: Final = frozenset(
    {ItemKind.ERASE_DELETED, ItemKind.EXPIRE_BUCKET, ItemKind.DROP_HOLD_RECORDINGS, ItemKind.DROP_SNAPSHOT}
)
_ORDER: Final = {kind: place for place, kind in enumerate(ItemKind)}


class Rule(enum.StrEnum):
    """The rule by which something is kept or goes."""

    RETENTION = "retention"
    GRACE = "grace"
    LEGAL_HOLD = "legal-hold"
    HOLD_RELEASED = "hold-released"
    SLICE_OVER = "slice-over"
    WRITTEN_LATELY = "written-lately"
    NOT_NEEDED = "not-needed"
    REPLICA = "replica"
    CLOCK_FROZEN = "clock-frozen"
    FOREIGN_SNAPSHOT = "foreign-snapshot"
    FOREIGN_HOLD = "foreign-hold"
    HOLD_UNEXPLAINED = "hold-unexplained"
    UNKNOWN_FILES = "unknown-files"
    BUCKET_MISSING = "bucket-missing"
    STRANGER = "stranger"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Why:
    """A reason. `sentence` is for people, the rest for programs; times in nanoseconds since the Unix epoch.

    `scope` says whose policy it is; `from_ns` from when a time is counted, `until_ns` when it is over (None: nobody
    knows); `cases` are legal holds.
    """

    rule: Rule
    sentence: str
    scope: PolicyScope | None = None
    retention: Period | None = None
    grace_days: int | None = None
    from_ns: int | None = None
    until_ns: int | None = None
    cases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evacuation:
    """Recordings that move into the bucket of a legal hold. One that several cases hold moves to the first of them."""

    case_id: str
    recording_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing that is done, or kept. `recordings` and `bytes`: how much is destroyed, or kept.

    `recording_ids`: which ones, where they are named one by one; `whole`: the bucket itself goes too; `name`: of
    something unknown.
    """

    kind: ItemKind
    why: Why
    bucket: BucketId | None = None
    recordings: int = 0
    bytes: int = 0
    recording_ids: tuple[str, ...] = ()
    evacuate: tuple[Evacuation, ...] = ()
    snapshots: tuple[str, ...] = ()
    whole: bool = False
    name: str = ""

    @property
    def key(self) -> str:
        """Names the item among those of its plan, the same whenever the plan is made of the same facts."""
        parts = (self.name, *self.why.cases, *self.recording_ids, *self.snapshots)
        ids = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        where = self.bucket.path if self.bucket else ""
        return f"{self.kind.value}:{where}:{self.why.rule.value}:{ids}"

    @property
    def evacuated(self) -> int:
        """How many recordings move to a legal hold's bucket."""
        return sum(len(each.recording_ids) for each in self.evacuate)

    @property
    def named(self) -> int:
        """How many recordings and snapshots it names."""
        return len(self.recording_ids) + self.evacuated + len(self.snapshots)


@dataclass(frozen=True, slots=True)
class Named:
    """Some of what an item names."""

    recording_ids: tuple[str, ...] = ()
    evacuate: tuple[Evacuation, ...] = ()
    snapshots: tuple[str, ...] = ()


def pieces(item: PlanItem, most: int) -> Iterator[Named]:
    """What an item names, in its order, no more than `most` at once. Nothing where it names nothing."""
    for first in range(0, len(item.recording_ids), most):
        yield Named(recording_ids=item.recording_ids[first : first + most])
    moved = [(each.case_id, name) for each in item.evacuate for name in each.recording_ids]
    for first in range(0, len(moved), most):
        by_case = groupby(moved[first : first + most], key=lambda pair: pair[0])
        yield Named(
            evacuate=tuple(Evacuation(case, tuple(name for _, name in some)) for case, some in by_case)
        )
    for first in range(0, len(item.snapshots), most):
        yield Named(snapshots=item.snapshots[first : first + most])


@dataclass(frozen=True, slots=True)
class KindTotal:
    """How much there is of one kind of item."""

    kind: ItemKind
    items: int
    recordings: int
    bytes: int


@dataclass(frozen=True)
class Plan:
    """What would happen, and why: items in the order in which they are carried out. `made_ns`: by the retention clock."""

    made_ns: int
    book_version: int
    items: tuple[PlanItem, ...]
    frozen: Frozen | None = None

    @property
    def destroying(self) -> tuple[PlanItem, ...]:
        """Items that cannot be taken back."""
        return tuple(item for item in self.items if item.kind.destroys)

    @property
    def totals(self) -> tuple[KindTotal, ...]:
        """By kind; kinds of which there is nothing are not in it."""
        by_kind: dict[ItemKind, list[PlanItem]] = {}
        for item in self.items:
            by_kind.setdefault(item.kind, []).append(item)
        return tuple(
            KindTotal(
                kind, len(some), sum(item.recordings for item in some), sum(item.bytes for item in some)
            )
            for kind, some in sorted(by_kind.items(), key=lambda pair: _ORDER[pair[0]])
        )

    @cached_property
    def digest(self) -> str:
        """Names what this plan would destroy: a confirmation is good for as long as it stays the same.

        SHA-256, hexadecimal, of the JSON of the destroying items without their sentences, keys sorted, no spaces. What
        is kept, and when the plan was made, does not count.
        """
        items = _ITEMS.dump_python(self.destroying, mode="json")
        for item in items:
            del item["why"]["sentence"]
        return hashlib.sha256(json.dumps(items, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def in_order(item: PlanItem) -> tuple[int, int, str, str, str]:
    """Sorts items: by kind, then what is due longest, then by name."""
    where = item.bucket.path if item.bucket else ""
    return _ORDER[item.kind], item.why.until_ns or 0, where, item.name, item.key


_ITEMS = TypeAdapter(tuple[PlanItem, ...])
PLAN = TypeAdapter(Plan)
PLAN_ITEM = TypeAdapter(PlanItem)
