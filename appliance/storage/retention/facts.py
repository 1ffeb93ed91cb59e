"""What a plan is made from: summaries, so that it costs what there are buckets, deleted and held recordings.

The vault counts; nothing here is read from anywhere. All times are the **retention clock's**, nanoseconds since the
Unix epoch: a time of the wall clock in their place would let a wrong wall clock destroy.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pydantic import TypeAdapter

from appliance.storage.names import BucketId
from appliance.storage.retention.clock import ClockState
from appliance.storage.retention.holds import LegalHold
from appliance.storage.retention.policy import PolicyBook


class BucketWord(enum.StrEnum):
    """Whether a bucket's files can be got at: the words of the store."""

    OPEN = "open"
    LOCKED = "locked"
    ABSENT = "absent"  # there are recordings or a key of it, and it is not on the medium


class UnknownKind(enum.StrEnum):
    """What sort of thing nobody can account for."""

    STRANGER = "stranger"  # lies among the buckets and is not ours
    QUARANTINED = "quarantined"  # a recording that is kept and not served
    KEYLESS = "keyless"  # a deleted recording without a key that nobody erased


@dataclass(frozen=True, slots=True)
class HeldRecording:
    """A recording under legal hold, or one that lies in a hold's bucket. `cases`: open ones that hold it.

    In a hold's bucket `line_id` and `slice` are those that it had before: its retention goes by them.
    """

    recording_id: str
    cases: tuple[str, ...] = ()
    bytes: int = 0
    line_id: str = ""
    slice: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A snapshot by its name, ours or not, with the tags of its holds. `needed`: recordings only it has."""

    name: str
    tags: tuple[str, ...] = ()
    needed: int = 0


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """One bucket. `recordings`: filed in it; `deleted`: deleted, not yet erased; `bytes`: of both.

    `held`: those under an open hold, deleted ones too; of a hold's bucket every recording in it.
    `newest_write_ns`: when something was last filed, undeleted or evacuated into it. `unknown_files`: files in it that
    no holding tells of, and recordings without a key that nobody erased.
    """

    bucket: BucketId
    state: BucketWord
    recordings: int = 0
    deleted: int = 0
    bytes: int = 0
    newest_write_ns: int = 0
    held: tuple[HeldRecording, ...] = ()
    snapshots: tuple[SnapshotFacts, ...] = ()
    unknown_files: int = 0


@dataclass(frozen=True, slots=True)
class DeletedFacts:
    """A deleted recording that is not erased. `parked`: the snapshot that has its file, empty where none yet.

    `line_id`: its line where `bucket` is a hold's.
    """

    recording_id: str
    bucket: BucketId
    since_ns: int
    parked: str = ""
    cases: tuple[str, ...] = ()
    bytes: int = 0
    line_id: str = ""


@dataclass(frozen=True, slots=True)
class UnknownFacts:
    """Something that nobody can account for. `name`: a path below the store, a data set's name, a recording's id."""

    name: str
    kind: UnknownKind
    recordings: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Facts:
    """Everything that a plan is made from, at one instant."""

    clock: ClockState
    book: PolicyBook
    holds: tuple[LegalHold, ...] = ()
    buckets: tuple[BucketFacts, ...] = ()
    deleted: tuple[DeletedFacts, ...] = ()
    unknown: tuple[UnknownFacts, ...] = ()


FACTS = TypeAdapter(Facts)
