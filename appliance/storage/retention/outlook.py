"""What will be due in the days to come, and why one recording is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from appliance.storage.names import BucketId
from appliance.storage.retention.facts import BucketFacts, BucketWord, DeletedFacts, Facts
from appliance.storage.retention.items import Rule, Why
from appliance.storage.retention.period import DAY_NS
from appliance.storage.retention.rules import Rules


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A bucket whose time comes: how much will be destroyed, and how much legal holds keep. `when_ns`: not before."""

    when_ns: int
    bucket: BucketId
    recordings: int
    bytes: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """One recording to be explained. `cases`: open ones that hold it; `deleted`: where it is deleted.

    `line_id` and `slice`: what it was of, where `bucket` is a legal hold's. `bucket` None: in quarantine.
    """

    recording_id: str
    bucket: BucketId | None
    cases: tuple[str, ...] = ()
    line_id: str = ""
    slice: str = ""
    deleted: DeletedFacts | None = None


def upcoming(facts: Facts, days: int) -> list[Upcoming]:
    """Buckets that expire within so many days from the clock, soonest first; those that are due already too.

    Under the policies of now, and those that wait to take effect then.
    """
    return sorted(_upcoming(facts, days), key=lambda each: (each.when_ns, each.bucket))


def _upcoming(facts: Facts, days: int) -> Iterator[Upcoming]:
    rules = Rules(facts)
    last = rules.now + days * DAY_NS
    for bucket in facts.buckets:
        name = bucket.bucket
        if name.of_hold:
            yield from _upcoming_of_hold(rules, bucket, last)
            continue
        due = rules.due(name.tenant_id, name.line_id, name.slice)
        if due <= last:
            held = [each for each in bucket.held if rules.cases(each.cases)]
            yield Upcoming(
                due,
                name,
                max(0, bucket.recordings + bucket.deleted - len(held)),
                max(0, bucket.bytes - sum(each.bytes for each in held)),
                len(held),
            )


def _upcoming_of_hold(rules: Rules, bucket: BucketFacts, last: int) -> Iterator[Upcoming]:
    """Recordings that were held and are no longer, by when the retention that they had before is over."""
    by_due: dict[int, tuple[int, int]] = {}
    for each in bucket.held:
        if rules.cases_in(bucket.bucket, each.cases) or not each.line_id or not each.slice:
            continue
        due = rules.due(bucket.bucket.tenant_id, each.line_id, each.slice)
        if due <= last:
            count, size = by_due.get(due, (0, 0))
            by_due[due] = (count + 1, size + each.bytes)
    for due, (count, size) in by_due.items():
        yield Upcoming(due, bucket.bucket, count, size)


def why_kept(recording: RecordingFacts, facts: Facts) -> tuple[Why, ...]:
    """Every reason that keeps a recording, the strongest first. Empty: the next run destroys it."""
    rules = Rules(facts)
    bucket = recording.bucket
    if bucket is None:
        return (Why(Rule.QUARANTINED, "in quarantine: kept until somebody decides"),)
    reasons: list[Why] = []
    if cases := rules.cases_in(bucket, recording.cases):
        reasons.append(rules.why_held(cases))
    line = recording.line_id if bucket.of_hold else bucket.line_id
    slice_ = recording.slice if bucket.of_hold else bucket.slice
    frozen = [why for why in (rules.why_frozen(),) if why]
    if recording.deleted is not None and rules.grace_over(recording.deleted) <= rules.now:
        return tuple(reasons or frozen)
    if not line or not slice_:
        return (*reasons, Why(Rule.HOLD_UNEXPLAINED, "nothing tells which line and slice it was of"))
    retained = rules.due(bucket.tenant_id, line, slice_) > rules.now
    against = [] if retained or reasons else _obstacles(rules, bucket)
    if recording.deleted is None:
        reasons += [rules.why_retained(bucket.tenant_id, line, slice_)] if retained else against
    # A deleted one goes with its bucket, or when its grace is over.
    elif retained or against or bucket.of_hold:
        reasons += [rules.why_grace(recording.deleted), *against]
    return tuple(reasons)


def _obstacles(rules: Rules, bucket: BucketId) -> list[Why]:
    """What stands against the destruction of what is in a bucket when its time is over."""
    found = [rules.why_frozen()]
    facts = next((each for each in rules.facts.buckets if each.bucket == bucket), None)
    # From a legal hold's bucket recordings go one by one.
    if facts is not None and (facts.state is BucketWord.ABSENT or not bucket.of_hold):
        named = [each.cases for each in facts.held]
        named += [each.cases for each in rules.facts.deleted if each.bucket == bucket]
        held = {case for cases in named for case in rules.cases_in(bucket, cases)}
        found += [rules.why_unknown(facts, held), rules.why_not_quiet(facts)]
    return [why for why in found if why]


UPCOMING = TypeAdapter(list[Upcoming])
