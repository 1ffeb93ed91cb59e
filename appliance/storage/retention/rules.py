"""The rules, one by one: when something is due, what stands against it, and how that is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance.storage.names import (
    GUARD,
    GUARD_TAG,
    BucketId,
    SnapshotNameError,
    check_snapshot_name,
    check_tag,
    slice_end_ns,
    slice_start_ns,
)
from appliance.storage.retention.clock import HOUR_NS
from appliance.storage.retention.facts import BucketFacts, BucketWord, DeletedFacts, Facts, SnapshotFacts
from appliance.storage.retention.items import Rule, Why
from appliance.storage.retention.period import DAY_NS, day_text
from appliance.storage.retention.policy import Effective

QUIET_NS: Final = HOUR_NS
"""How long nothing may have been written into a bucket before it is locked or destroyed."""
_CASE_TAG: Final = "ew.case."
_REPLICA_TAG: Final = "ew.replica."


class Rules:
    """The rules over one set of facts. What it computes it keeps: use it for one plan."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.now = facts.clock.clock_ns
        self._open = {hold.case_id for hold in facts.holds if hold.open}
        self._released = {hold.case_id: hold.released_ns for hold in facts.holds if not hold.open}
        self._effective: dict[tuple[str, str], Effective] = {}
        self._due: dict[tuple[str, str, int], int] = {}
        self.parked: dict[tuple[BucketId, str], int] = {}
        """How many deleted recordings each snapshot has."""
        self._parking = {each.bucket for each in facts.deleted if not each.parked}
        for each in facts.deleted:
            if each.parked:
                place = (each.bucket, each.parked)
                self.parked[place] = self.parked.get(place, 0) + 1

    def effective(self, tenant_id: str, line_id: str) -> Effective:
        """The policy of a line now."""
        key = (tenant_id, line_id)
        if key not in self._effective:
            self._effective[key] = self.facts.book.effective(tenant_id, line_id, self.now)
        return self._effective[key]

    # Legal holds.

    def cases(self, cases: tuple[str, ...]) -> tuple[str, ...]:
        """Those that hold: all but the ones known to be released. A case that nobody knows holds, too."""
        return tuple(sorted(case for case in set(cases) if case not in self._released))

    def cases_in(self, bucket: BucketId, cases: tuple[str, ...]) -> tuple[str, ...]:
        """The same of something in a bucket: what lies in the bucket of a legal hold its case holds, if not released."""
        return self.cases((*cases, bucket.slice) if bucket.of_hold else cases)

    def unknown_cases(self, cases: tuple[str, ...]) -> tuple[str, ...]:
        """Those that are in no book."""
        return tuple(case for case in self.cases(cases) if case not in self._open)

    def case_is_open(self, case_id: str) -> bool | None:
        """None: nobody knows the case."""
        return True if case_id in self._open else False if case_id in self._released else None

    def why_held(self, cases: tuple[str, ...]) -> Why:
        """`cases` hold it."""
        words = "case" if len(cases) == 1 else "cases"
        return Why(Rule.LEGAL_HOLD, f"held by {words} {', '.join(cases)} until released", cases=cases)

    # Retention.

    def due(self, tenant_id: str, line_id: str, slice_: str) -> int:
        """When the retention of a slice is over: now or before, or else when it will be, changes that wait included."""
        end = slice_end_ns(slice_)
        key = (tenant_id, line_id, end)
        if key not in self._due:
            over = self.effective(tenant_id, line_id).retention.ends(end)
            self._due[key] = (
                over
                if over <= self.now
                else self.facts.book.until(
                    tenant_id, line_id, self.now, lambda policy: policy.retention.ends(end)
                )
            )
        return self._due[key]

    def why_retained(self, tenant_id: str, line_id: str, slice_: str, rule: Rule = Rule.RETENTION) -> Why:
        """The retention of a slice, over or not."""
        due = self.due(tenant_id, line_id, slice_)
        # Where a change that waits makes it end sooner, that is the policy to name.
        at = due if due > self.now else self.now
        policy = self.facts.book.effective(tenant_id, line_id, at) if due > self.now else None
        policy = policy or self.effective(tenant_id, line_id)
        said = f"{policy.retention} from the end of {slice_}, as the {policy.retention_scope} says"
        sentence = (
            f"{said}, were over on {day_text(due)}" if due <= self.now else f"{said}: until {day_text(due)}"
        )
        return Why(
            rule,
            sentence,
            scope=policy.retention_scope,
            retention=policy.retention,
            from_ns=slice_end_ns(slice_),
            until_ns=due,
        )

    # Grace.

    def grace_over(self, deleted: DeletedFacts) -> int:
        """When a deleted recording may be erased: now or before, or else when it may be."""
        since = self._since(deleted)
        tenant_id, line_id = self._line(deleted)
        over = since + self.effective(tenant_id, line_id).grace_days * DAY_NS
        if over <= self.now:
            return over
        book = self.facts.book
        return book.until(tenant_id, line_id, self.now, lambda policy: since + policy.grace_days * DAY_NS)

    def why_grace(self, deleted: DeletedFacts) -> Why:
        """The grace of a deleted recording, over or not."""
        over = self.grace_over(deleted)
        tenant_id, line_id = self._line(deleted)
        policy = self.facts.book.effective(tenant_id, line_id, max(over, self.now))
        if over <= self.now:
            policy = self.effective(tenant_id, line_id)
        said = f"deleted; the grace of {policy.grace_days} days, as the {policy.grace_scope} says,"
        sentence = (
            f"{said} was over by {day_text(over)}" if over <= self.now else f"{said} ends on {day_text(over)}"
        )
        return Why(
            Rule.GRACE,
            sentence,
            scope=policy.grace_scope,
            grace_days=policy.grace_days,
            from_ns=self._since(deleted),
            until_ns=over,
        )

    def _since(self, deleted: DeletedFacts) -> int:
        # Nothing is deleted before it was recorded: such a time is a wrong clock's.
        bucket = deleted.bucket
        return deleted.since_ns if bucket.of_hold else max(deleted.since_ns, slice_start_ns(bucket.slice))

    def _line(self, deleted: DeletedFacts) -> tuple[str, str]:
        line = deleted.line_id if deleted.bucket.of_hold else deleted.bucket.line_id
        return deleted.bucket.tenant_id, line

    # What stands against it.

    def why_frozen(self) -> Why | None:
        """Where the clock is frozen."""
        frozen = self.facts.clock.frozen
        if frozen is None:
            return None
        return Why(
            Rule.CLOCK_FROZEN, f"the retention clock is frozen: {frozen.message}", from_ns=frozen.since_ns
        )

    def why_not_quiet(self, bucket: BucketFacts) -> Why | None:
        """Where something was written into the bucket within the last hour."""
        quiet = bucket.newest_write_ns + QUIET_NS
        # A time that has not come yet is a wrong clock's, and would keep the bucket open for as long as that was wrong.
        if quiet <= self.now or bucket.newest_write_ns > self.facts.clock.latest_ns + QUIET_NS:
            return None
        return Why(
            Rule.WRITTEN_LATELY,
            "something was filed into it within the last hour",
            from_ns=bucket.newest_write_ns,
            until_ns=quiet,
        )

    def why_unknown(self, bucket: BucketFacts, held: set[str]) -> Why | None:
        """Where there is something about a bucket that nobody can account for; it is then not destroyed.

        `held`: the cases that hold recordings in it.
        """
        if bucket.state is BucketWord.ABSENT:
            return Why(Rule.BUCKET_MISSING, "there are recordings of it, and it is not on the medium")
        if bucket.unknown_files:
            files = f"{bucket.unknown_files} file{'s' if bucket.unknown_files > 1 else ''}"
            return Why(Rule.UNKNOWN_FILES, f"{files} in it without a holding, or without a key")
        if unknown := self.unknown_cases(tuple(held)):
            return Why(
                Rule.HOLD_UNEXPLAINED, "recordings in it are held by a case nobody knows", cases=unknown
            )
        for snapshot in bucket.snapshots:
            if why := self.why_foreign(snapshot):
                return why
            tagged = self.cases(_cases_in(snapshot))
            if stray := tuple(case for case in tagged if case not in held):
                sentence = f"{snapshot.name} is held by a case that holds no recording in the bucket"
                return Why(Rule.HOLD_UNEXPLAINED, sentence, cases=stray)
        return None

    def why_foreign(self, snapshot: SnapshotFacts) -> Why | None:
        """Where a snapshot, a hold on it, or the case it is for is none of ours."""
        if not _ours(check_snapshot_name, snapshot.name):
            return Why(Rule.FOREIGN_SNAPSHOT, f"the snapshot {snapshot.name} was not made by the vault")
        for tag in snapshot.tags:
            if not _ours(check_tag, tag):
                return Why(
                    Rule.FOREIGN_HOLD, f"{snapshot.name} has a hold that the vault did not put on: {tag}"
                )
        for case in _cases_in(snapshot):
            if self.case_is_open(case) is None:
                return Why(
                    Rule.HOLD_UNEXPLAINED, f"{snapshot.name} is for a case nobody knows", cases=(case,)
                )
        return None

    def why_snapshot(self, bucket: BucketId, snapshot: SnapshotFacts) -> Why | None:
        """Why one of our own snapshots is kept; None where nothing needs it."""
        if cases := self.cases(_cases_in(snapshot)):
            return self.why_held(cases)
        if snapshot.name.startswith("r-") or any(tag.startswith(_REPLICA_TAG) for tag in snapshot.tags):
            return Why(Rule.REPLICA, "a copy elsewhere goes on from it")
        count = max(snapshot.needed, self.parked.get((bucket, snapshot.name), 0))
        if count:
            return Why(Rule.GRACE, f"has {count} deleted recording{'s' if count > 1 else ''} not yet erased")
        if bucket in self._parking and snapshot.name.startswith("g-"):
            return Why(Rule.GRACE, "may be the one that what was deleted just now goes into")
        return None


def is_guard(snapshot: SnapshotFacts) -> bool:
    """The snapshot that belongs to its bucket."""
    return snapshot.name == GUARD and set(snapshot.tags) <= {GUARD_TAG}


def _ours(check: Callable[[str], None], name: str) -> bool:
    try:
        check(name)
    except SnapshotNameError:
        return False
    return True


def _cases_in(snapshot: SnapshotFacts) -> tuple[str, ...]:
    named = {snapshot.name.split("-")[1]} if snapshot.name.startswith("h-") else set()
    tagged = {tag.removeprefix(_CASE_TAG) for tag in snapshot.tags if tag.startswith(_CASE_TAG)}
    return tuple(sorted(named | tagged))
