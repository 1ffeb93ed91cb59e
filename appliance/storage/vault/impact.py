"""What a change of policy would destroy: due when it takes effect, and not due then without it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.storage.names import BucketId
from appliance.storage.retention.facts import Facts
from appliance.storage.retention.outlook import Upcoming, upcoming
from appliance.storage.retention.policy import PolicyBook
from appliance.storage.retention.rules import Rules
from appliance.storage.retention.terms import Change, PolicyChange, PolicyField

_SHORTENING = (PolicyField.RETENTION, PolicyField.GRACE)


@dataclass(frozen=True, slots=True)
class Impact:
    """`recordings` and `bytes` would be destroyed, `deleted` of them because their grace ends; `held` would be due and
    stay, under legal hold. `buckets`: those that would be due, the most overdue first."""

    recordings: int = 0
    bytes: int = 0
    deleted: int = 0
    held: int = 0
    buckets: tuple[Upcoming, ...] = ()


def shortens(found: Change) -> bool:
    """Whether the change could destroy anything: else nobody needs to gather the facts."""
    return any(part.shortens and part.field in _SHORTENING for part in found.parts)


def impact(facts: Facts, change: PolicyChange, found: Change) -> Impact:
    """See the module. `found`: what the change is, by the same book."""
    if not shortens(found):
        return Impact()
    at = max(part.effective_ns for part in found.parts)
    without = _book_without(facts.book, change).settled(at)
    before, after = _at(facts, without, at), _at(facts, without.as_if(change), at)
    buckets = _newly_due(_due(before), _due(after))
    recordings = sum(each.recordings for each in buckets)
    size = sum(each.bytes for each in buckets)
    held = sum(each.held for each in buckets)
    going = {each.bucket for each in buckets}
    old, new = Rules(before), Rules(after)
    deleted = 0
    for one in facts.deleted:
        if one.bucket in going or not new.grace_over(one) <= at < old.grace_over(one):
            continue
        if new.cases_in(one.bucket, one.cases):
            held += 1
        else:
            deleted += 1
            size += one.bytes
    return Impact(recordings + deleted, size, deleted, held, tuple(buckets))


def _book_without(book: PolicyBook, change: PolicyChange) -> PolicyBook:
    """Without what waits and would be replaced: compared is with what holds."""
    left = tuple(
        each for each in book.pending if each.scope != change.scope or each.field not in change.fields
    )
    return replace(book, pending=left)


def _at(facts: Facts, book: PolicyBook, at: int) -> Facts:
    clock = replace(facts.clock, clock_ns=at, frozen=None, owed_ns=0)
    return replace(facts, book=book, clock=clock)


def _due(facts: Facts) -> dict[BucketId, Upcoming]:
    found: dict[BucketId, Upcoming] = {}
    for each in upcoming(facts, 0):
        was = found.get(each.bucket)
        if was is not None:  # of a legal hold's bucket, recordings fall due one after the other
            each = replace(
                was,
                recordings=was.recordings + each.recordings,
                bytes=was.bytes + each.bytes,
                held=was.held + each.held,
            )
        found[each.bucket] = each
    return found


def _newly_due(before: dict[BucketId, Upcoming], after: dict[BucketId, Upcoming]) -> list[Upcoming]:
    fresh = []
    for bucket, each in after.items():
        was = before.get(bucket)
        if was is not None:
            each = replace(
                each,
                recordings=max(0, each.recordings - was.recordings),
                bytes=max(0, each.bytes - was.bytes),
                held=max(0, each.held - was.held),
            )
        if each.recordings or each.held:
            fresh.append(each)
    return sorted(fresh, key=lambda each: (each.when_ns, each.bucket))
