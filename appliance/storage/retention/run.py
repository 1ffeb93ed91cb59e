"""How a plan is carried out: its items as steps that a journal can name, and what a run came to.

Whoever carries it out writes a step's key down before an irreversible step and after any other, does each that is not
written down as done, in order, and may do one twice. Once an irreversible step is done (`committed`), the item is
carried to its end whatever comes: a legal hold that arrives then is told that it is too late.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from appliance.storage.retention.items import ItemKind, PlanItem

DESTROY_AT_ONCE: Final = 500
"""Snapshots that the store destroys in one call."""


class Outcome(enum.StrEnum):
    """What a run came to."""

    DONE = "done"
    PARTIAL = "partial"  # some items failed, and are tried again by the next run
    BRAKED = "braked"  # far more than forecast: nothing is destroyed until somebody confirms it
    FROZEN = "frozen"  # the retention clock does not allow it
    NOTHING = "nothing"  # there was nothing to destroy


class StepKind(enum.StrEnum):
    """What a step does. Doing one twice is success."""

    CLOSE = "close"  # nothing more is filed into the bucket; what comes for it waits or goes elsewhere
    EVACUATE = (
        "evacuate"  # recordings are copied into the legal hold's bucket, compared, journalled; same data keys
    )
    RECHECK = "recheck"  # no hold has come since for what is destroyed, nothing unknown is there: else the item fails
    SHRED = "shred"  # the data keys, and the bucket's key where it goes: the point of no return
    CERTIFY = "certify"  # certificates signed, holdings journalled as erased
    REMOVE = "remove"  # files of shredded recordings are unlinked
    RELEASE = "release"  # our own holds are taken off these snapshots; a tag that is not ours fails the item
    DESTROY_SNAPSHOTS = "destroy-snapshots"
    DESTROY_BUCKET = "destroy-bucket"
    SPACE = "space"  # waits until the medium has given the space back
    LOCK = "lock"

    @property
    def irreversible(self) -> bool:
        """Whether nothing brings back what was there before it."""
        return self in _IRREVERSIBLE


_IRREVERSIBLE: Final = frozenset({StepKind.SHRED, StepKind.DESTROY_SNAPSHOTS, StepKind.DESTROY_BUCKET})


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an item. `key` names it in a journal: an item's key, the step's place, its kind.

    `case_id`: whose bucket an evacuation goes to; `recording_ids`: which (empty with SHRED, CERTIFY of a whole
    bucket: all that is left in it); `snapshots`: which, at most 500.
    """

    key: str
    kind: StepKind
    case_id: str = ""
    recording_ids: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()

    @property
    def irreversible(self) -> bool:
        """Whether it must be journalled before it is done."""
        return self.kind.irreversible


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that was not carried out to its end: at which step, and what was wrong."""

    item: str
    step: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, for the report. Times by the retention clock, nanoseconds since the Unix epoch."""

    run_id: str
    plan_digest: str
    started_ns: int
    ended_ns: int
    outcome: Outcome
    erased: int = 0
    expired_buckets: int = 0
    destroyed_recordings: int = 0
    destroyed_bytes: int = 0
    evacuated: int = 0
    failed: tuple[Failure, ...] = ()
    confirmed_by: str = ""
    message: str = ""


_Draft = tuple[StepKind, str, tuple[str, ...], tuple[str, ...]]


def steps_of(item: PlanItem) -> tuple[Step, ...]:
    """The steps of an item, in order; none for what is kept."""
    return tuple(
        Step(f"{item.key}/{place:03d}-{draft[0].value}", *draft) for place, draft in enumerate(_drafts(item))
    )


def _drafts(item: PlanItem) -> Iterator[_Draft]:
    ids = item.recording_ids
    match item.kind:
        case ItemKind.ERASE_DELETED:
            yield from _erasing(ids)
        case ItemKind.EXPIRE_BUCKET:
            yield StepKind.CLOSE, "", (), ()
            for each in item.evacuate:
                yield StepKind.EVACUATE, each.case_id, each.recording_ids, ()
            yield StepKind.LOCK, "", (), ()
            yield from _erasing(())
            yield from _destroying(item)
        case ItemKind.DROP_HOLD_RECORDINGS if item.whole:
            yield StepKind.CLOSE, "", (), ()
            yield StepKind.LOCK, "", (), ()
            yield from _erasing(ids)
            yield from _destroying(item)
        case ItemKind.DROP_HOLD_RECORDINGS:
            yield from _erasing(ids)
            yield StepKind.REMOVE, "", ids, ()
        case ItemKind.DROP_SNAPSHOT:
            yield StepKind.RECHECK, "", (), item.snapshots
            yield from _destroying(item)
        case ItemKind.LOCK_BUCKET:
            yield StepKind.LOCK, "", (), ()


def _erasing(ids: tuple[str, ...]) -> Iterator[_Draft]:
    for kind in (StepKind.RECHECK, StepKind.SHRED, StepKind.CERTIFY):
        yield kind, "", ids, ()


def _destroying(item: PlanItem) -> Iterator[_Draft]:
    """Snapshots, and the bucket itself where it goes as a whole."""
    batches = [
        item.snapshots[start : start + DESTROY_AT_ONCE]
        for start in range(0, len(item.snapshots), DESTROY_AT_ONCE)
    ]
    for some in batches:
        yield StepKind.RELEASE, "", (), some
        yield StepKind.DESTROY_SNAPSHOTS, "", (), some
    if item.whole:
        yield StepKind.DESTROY_BUCKET, "", (), ()
        yield StepKind.SPACE, "", (), ()


def remaining(steps: tuple[Step, ...], done: Collection[str]) -> tuple[Step, ...]:
    """What is still to do: everything from the first step whose key is not among those done."""
    first = next((place for place, step in enumerate(steps) if step.key not in done), len(steps))
    return steps[first:]


def committed(steps: tuple[Step, ...], begun: Collection[str]) -> bool:
    """Whether an irreversible step is among those begun: then the item is carried to its end."""
    return any(step.irreversible and step.key in begun for step in steps)


RUN_RECORD = TypeAdapter(RunRecord)
STEP = TypeAdapter(Step)
