"""From facts to a plan: what would be destroyed and what kept, and of each thing by which rule.

Every bucket, deleted recording, snapshot and unknown thing is in the plan once; a deleted recording or snapshot whose
bucket expires is in the bucket's item. A plan does not look at a clock or a disk: who carries it out asks again, before
each irreversible step, whether a hold has come since (`HoldBook.cases_of`) and whether it is still due, and stops there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from appliance.storage.names import BucketId, slice_end_ns
from appliance.storage.retention.facts import (
    FACTS,
    BucketFacts,
    BucketWord,
    DeletedFacts,
    Facts,
    HeldRecording,
    SnapshotFacts,
    UnknownFacts,
    UnknownKind,
)
from appliance.storage.retention.items import (
    PLAN,
    PLAN_ITEM,
    Evacuation,
    ItemKind,
    KindTotal,
    Plan,
    PlanItem,
    Rule,
    Why,
    in_order,
)
from appliance.storage.retention.outlook import RecordingFacts, Upcoming, upcoming, why_kept
from appliance.storage.retention.period import DAY_NS
from appliance.storage.retention.rules import QUIET_NS, Rules, is_guard

__all__ = [
    "FACTS",
    "PLAN",
    "PLAN_ITEM",
    "QUIET_NS",
    "BucketFacts",
    "BucketWord",
    "DeletedFacts",
    "Evacuation",
    "Facts",
    "HeldRecording",
    "ItemKind",
    "KindTotal",
    "Plan",
    "PlanItem",
    "RecordingFacts",
    "Rule",
    "SnapshotFacts",
    "UnknownFacts",
    "UnknownKind",
    "Upcoming",
    "Why",
    "make_plan",
    "upcoming",
    "why_kept",
]


def make_plan(facts: Facts) -> Plan:
    """The plan for these facts, at the time of their clock. While that is frozen nothing in it destroys."""
    planner = _Planner(facts)
    items = tuple(sorted(planner.items(), key=in_order))
    return Plan(facts.clock.clock_ns, facts.book.version, items, facts.clock.frozen)


class _Planner:
    def __init__(self, facts: Facts) -> None:
        self.rules = Rules(facts)
        self.facts = facts
        self.now = self.rules.now
        self._deleted: dict[BucketId, list[DeletedFacts]] = {}
        for each in facts.deleted:
            self._deleted.setdefault(each.bucket, []).append(each)

    def items(self) -> Iterator[PlanItem]:
        gone: set[BucketId] = set()
        for bucket in self.facts.buckets:
            items = list(self._hold_bucket(bucket) if bucket.bucket.of_hold else self._timed_bucket(bucket))
            if any(item.whole for item in items):
                gone.add(bucket.bucket)
            else:
                items += self._snapshots(bucket)
            yield from items
        yield from self._all_deleted(
            each for bucket, some in self._deleted.items() if bucket not in gone for each in some
        )
        for unknown in self.facts.unknown:
            if unknown.kind is UnknownKind.QUARANTINED:
                why = Why(Rule.QUARANTINED, "in quarantine: kept until somebody decides")
            elif unknown.kind is UnknownKind.KEYLESS:
                why = Why(
                    Rule.UNKNOWN_FILES, "deleted; its key is absent, and nothing says that it was erased"
                )
            else:
                why = Why(Rule.STRANGER, "lies among the buckets and is not the vault's: left alone")
            yield PlanItem(
                ItemKind.KEEP_UNKNOWN, why, None, unknown.recordings, unknown.bytes, name=unknown.name
            )

    # Buckets of a line and a slice.

    def _timed_bucket(self, bucket: BucketFacts) -> Iterator[PlanItem]:
        rules, name = self.rules, bucket.bucket
        held = self._held(bucket)
        unknown = rules.why_unknown(bucket, {case for each in held for case in each.cases})
        due = rules.due(name.tenant_id, name.line_id, name.slice)
        if unknown and (due <= self.now or bucket.state is BucketWord.ABSENT):
            yield self._bucket_item(ItemKind.KEEP_UNKNOWN, bucket, unknown)
            return
        if bucket.unknown_files and unknown:
            yield PlanItem(ItemKind.KEEP_UNKNOWN, unknown, name)
        why = rules.why_retained(name.tenant_id, name.line_id, name.slice)
        busy = rules.why_not_quiet(bucket)
        if due <= self.now:
            if against := busy or rules.why_frozen():
                yield self._bucket_item(ItemKind.KEEP_BUCKET, bucket, against)
            else:
                yield self._expire(bucket, why, held)
        elif bucket.state is BucketWord.OPEN and slice_end_ns(name.slice) <= self.now and not busy:
            why = replace(
                why, rule=Rule.SLICE_OVER, sentence=f"its slice is over: locked, and kept {why.sentence}"
            )
            yield self._bucket_item(ItemKind.LOCK_BUCKET, bucket, why)
        else:
            yield self._bucket_item(ItemKind.KEEP_BUCKET, bucket, why)

    def _bucket_item(self, kind: ItemKind, bucket: BucketFacts, why: Why) -> PlanItem:
        """The bucket with what is filed in it; its deleted recordings have items of their own."""
        size = max(0, bucket.bytes - sum(each.bytes for each in self._deleted.get(bucket.bucket, ())))
        return PlanItem(kind, why, bucket.bucket, bucket.recordings, size)

    def _expire(self, bucket: BucketFacts, why: Why, held: tuple[HeldRecording, ...]) -> PlanItem:
        return PlanItem(
            ItemKind.EXPIRE_BUCKET,
            replace(why, cases=tuple(sorted({case for each in held for case in each.cases}))),
            bucket.bucket,
            max(0, bucket.recordings + bucket.deleted - len(held)),
            max(0, bucket.bytes - sum(each.bytes for each in held)),
            evacuate=_evacuations(held),
            snapshots=tuple(sorted(each.name for each in bucket.snapshots)),
            whole=True,
        )

    def _held(self, bucket: BucketFacts) -> tuple[HeldRecording, ...]:
        """What open cases hold in a bucket, deleted recordings too, each once with all its cases."""
        found: dict[str, HeldRecording] = {}
        deleted = (
            HeldRecording(each.recording_id, each.cases, each.bytes)
            for each in self._deleted.get(bucket.bucket, ())
        )
        for each in (*bucket.held, *deleted):
            before = found.get(each.recording_id, each)
            if cases := self.rules.cases_in(bucket.bucket, (*before.cases, *each.cases)):
                found[each.recording_id] = replace(before, cases=cases, bytes=max(before.bytes, each.bytes))
        return tuple(found.values())

    # Buckets of a legal hold.

    def _hold_bucket(self, bucket: BucketFacts) -> Iterator[PlanItem]:
        rules, name = self.rules, bucket.bucket
        own = rules.case_is_open(name.slice)
        held = {case for each in self._held(bucket) for case in each.cases}
        unknown = rules.why_unknown(bucket, held | {name.slice} if own else held)
        if unknown and bucket.state is BucketWord.ABSENT:
            yield self._bucket_item(ItemKind.KEEP_UNKNOWN, bucket, unknown)
            return
        if unknown and bucket.unknown_files:
            yield PlanItem(ItemKind.KEEP_UNKNOWN, unknown, name)
        deleted = {each.recording_id for each in self._deleted.get(name, ())}
        filed = [each for each in bucket.held if each.recording_id not in deleted]
        groups: dict[tuple[ItemKind, Why], list[HeldRecording]] = {}
        for each in filed:
            groups.setdefault(self._of_hold(name, each), []).append(each)
        dropped: list[tuple[Why, list[HeldRecording]]] = []
        for (kind, why), some in groups.items():
            if kind is ItemKind.DROP_HOLD_RECORDINGS:
                dropped.append((why, some))
            else:
                yield _item_of(kind, name, why, some)
        unlisted = bucket.recordings - len(filed)
        if unlisted > 0:
            sentence = f"nothing tells what {unlisted} recordings in a legal hold's bucket were held for"
            yield PlanItem(ItemKind.KEEP_UNKNOWN, Why(Rule.HOLD_UNEXPLAINED, sentence), name, unlisted)
        left = unlisted > 0 or bucket.deleted or deleted or len(dropped) < len(groups)
        # An empty bucket of an open case stays for what is evacuated into it next.
        if own is False and not (left or unknown or rules.why_frozen()):
            yield self._drop_whole(bucket, [each for _, some in dropped for each in some])
            return
        for why, some in dropped:
            yield _item_of(ItemKind.DROP_HOLD_RECORDINGS, name, why, some)
        if not filed and unlisted <= 0 and not bucket.unknown_files:
            yield self._empty_hold_bucket(name, own, unknown)
        if bucket.state is BucketWord.OPEN and not dropped and not rules.why_not_quiet(bucket):
            why = Why(Rule.SLICE_OVER, "nothing was moved into the legal hold's bucket within the last hour")
            yield PlanItem(ItemKind.LOCK_BUCKET, why, name)

    def _of_hold(self, bucket: BucketId, each: HeldRecording) -> tuple[ItemKind, Why]:
        rules = self.rules
        if cases := rules.cases_in(bucket, each.cases):
            if rules.case_is_open(bucket.slice) is None:
                return ItemKind.KEEP_UNKNOWN, _stray(bucket)
            return ItemKind.KEEP_HELD, rules.why_held(cases)
        if not each.slice or not each.line_id:
            why = Why(Rule.HOLD_UNEXPLAINED, "nothing tells which line and slice it was of")
            return ItemKind.KEEP_UNKNOWN, why
        due = rules.due(bucket.tenant_id, each.line_id, each.slice)
        why = rules.why_retained(bucket.tenant_id, each.line_id, each.slice)
        if due > self.now:
            return ItemKind.KEEP_HELD, why
        if frozen := rules.why_frozen():
            return ItemKind.KEEP_HELD, frozen
        sentence = f"no legal hold is left on it; {why.sentence}"
        return ItemKind.DROP_HOLD_RECORDINGS, replace(why, rule=Rule.HOLD_RELEASED, sentence=sentence)

    def _drop_whole(self, bucket: BucketFacts, held: list[HeldRecording]) -> PlanItem:
        why = Why(
            Rule.HOLD_RELEASED,
            f"case {bucket.bucket.slice} is released, and no retention keeps what it held",
            cases=(bucket.bucket.slice,),
        )
        names = tuple(sorted(each.name for each in bucket.snapshots))
        item = _item_of(ItemKind.DROP_HOLD_RECORDINGS, bucket.bucket, why, held)
        return replace(item, snapshots=names, whole=True)

    def _empty_hold_bucket(self, name: BucketId, own: bool | None, unknown: Why | None) -> PlanItem:
        if own is None:
            return PlanItem(ItemKind.KEEP_UNKNOWN, _stray(name), name)
        if own:
            return PlanItem(ItemKind.KEEP_BUCKET, self.rules.why_held((name.slice,)), name)
        if unknown:
            return PlanItem(ItemKind.KEEP_UNKNOWN, unknown, name)
        deleted = Why(Rule.GRACE, "has deleted recordings not yet erased")
        return PlanItem(ItemKind.KEEP_BUCKET, self.rules.why_frozen() or deleted, name)

    # Snapshots of buckets that stay.

    def _snapshots(self, bucket: BucketFacts) -> Iterator[PlanItem]:
        drop: list[str] = []
        keep: dict[Why, list[str]] = {}
        frozen = self.rules.why_frozen()
        for snapshot in bucket.snapshots:
            if is_guard(snapshot):
                continue  # as the bucket
            if why := self.rules.why_foreign(snapshot):
                name = f"{bucket.bucket.path}@{snapshot.name}"
                yield PlanItem(ItemKind.KEEP_UNKNOWN, why, bucket.bucket, name=name)
            elif why := self.rules.why_snapshot(bucket.bucket, snapshot) or frozen:
                keep.setdefault(why, []).append(snapshot.name)
            else:
                drop.append(snapshot.name)
        for why, names in keep.items():
            yield PlanItem(ItemKind.KEEP_SNAPSHOT, why, bucket.bucket, snapshots=tuple(sorted(names)))
        if drop:
            why = Why(Rule.NOT_NEEDED, "no deleted recording, legal hold or copy needs it any more")
            yield PlanItem(ItemKind.DROP_SNAPSHOT, why, bucket.bucket, snapshots=tuple(sorted(drop)))

    # Deleted recordings of buckets that stay.

    def _all_deleted(self, deleted: Iterable[DeletedFacts]) -> Iterator[PlanItem]:
        groups: dict[tuple[BucketId, ItemKind, tuple[object, ...]], tuple[Why, list[DeletedFacts]]] = {}
        frozen = self.rules.why_frozen()
        for each in deleted:
            if cases := self.rules.cases_in(each.bucket, each.cases):
                kind, why = ItemKind.KEEP_HELD, self.rules.why_held(cases)
                like: tuple[object, ...] = cases
            else:
                over = self.rules.grace_over(each)
                kind = ItemKind.ERASE_DELETED if over <= self.now else ItemKind.KEEP_DELETED
                why = self.rules.why_grace(each)
                like = (over // DAY_NS, why.scope)
                if kind is ItemKind.ERASE_DELETED and frozen:
                    kind, why, like = ItemKind.KEEP_DELETED, frozen, ()
            was, some = groups.setdefault((each.bucket, kind, like), (why, []))
            some.append(each)
            if (why.until_ns or 0) > (was.until_ns or 0):
                groups[each.bucket, kind, like] = (why, some)  # the last of them speaks for all
        for (bucket, kind, _), (why, some) in groups.items():
            yield _item_of(kind, bucket, why, some)


def _stray(bucket: BucketId) -> Why:
    return Why(
        Rule.HOLD_UNEXPLAINED, "in the bucket of a legal hold that nobody knows", cases=(bucket.slice,)
    )


def _item_of(
    kind: ItemKind, bucket: BucketId, why: Why, some: list[HeldRecording] | list[DeletedFacts]
) -> PlanItem:
    ids = tuple(sorted(each.recording_id for each in some))
    return PlanItem(kind, why, bucket, len(ids), sum(each.bytes for each in some), ids)


def _evacuations(held: tuple[HeldRecording, ...]) -> tuple[Evacuation, ...]:
    by_case: dict[str, list[str]] = {}
    for each in held:
        by_case.setdefault(each.cases[0], []).append(each.recording_id)
    return tuple(Evacuation(case, tuple(sorted(ids))) for case, ids in sorted(by_case.items()))
