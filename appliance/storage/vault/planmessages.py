"""Plans and runs as messages of internal/v1/retention.proto."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.storage.retention.brake import Brake
from appliance.storage.retention.items import Named, Plan, PlanItem, Why, pieces
from appliance.storage.retention.run import RunRecord
from appliance.storage.vault.retentionmessages import bucket_message, frozen_message, scope_message
from earwitness.internal.v1 import retention_pb2 as pb

MAX_NAMED: Final = 10_000
"""Recordings and snapshots in one message of a plan: with their full names, well below the 4 MiB that a client takes."""


def header_message(plan: Plan, digest: str, brake: Brake | None) -> pb.PlanHeader:
    """`plan`: the items that follow; `digest` and `brake`: of the whole plan."""
    return pb.PlanHeader(
        made_ns=plan.made_ns,
        digest=digest,
        totals=[
            pb.KindTotal(kind=one.kind.value, items=one.items, recordings=one.recordings, bytes=one.bytes)
            for one in plan.totals
        ],
        brake=pb.Brake(
            message=brake.message,
            recordings=brake.recordings,
            bytes=brake.bytes,
            expected_recordings=brake.expected_recordings,
            expected_bytes=brake.expected_bytes,
            allowed_recordings=brake.allowed_recordings,
            allowed_bytes=brake.allowed_bytes,
            foreseen=brake.foreseen,
        )
        if brake is not None
        else None,
        frozen=frozen_message(plan.frozen),
    )


def item_messages(item: PlanItem) -> Iterator[pb.PlanItem]:
    """An item; where it names more than MAX_NAMED, the rest of these in further messages."""
    first, *rest = [_named(item)] if item.named <= MAX_NAMED else pieces(item, MAX_NAMED)
    what = pb.PlanItem(
        key=item.key,
        kind=item.kind.value,
        destroys=item.kind.destroys,
        why=why_message(item.why),
        bucket=bucket_message(item.bucket),
        name=item.name,
    )
    much = pb.PlanItem(
        recordings=item.recordings, bytes=item.bytes, whole=item.whole, evacuated=item.evacuated
    )
    yield _naming(what, much, first)
    for some in rest:
        yield _naming(what, pb.PlanItem(continuation=True), some)


def _named(item: PlanItem) -> Named:
    return Named(item.recording_ids, item.evacuate, item.snapshots)


def _naming(what: pb.PlanItem, made: pb.PlanItem, some: Named) -> pb.PlanItem:
    made.MergeFrom(what)
    made.recording_ids.extend(some.recording_ids)
    made.evacuations.extend(
        pb.Evacuation(case_id=each.case_id, recording_ids=each.recording_ids) for each in some.evacuate
    )
    made.snapshots.extend(some.snapshots)
    return made


def why_message(why: Why) -> pb.Why:
    return pb.Why(
        rule=why.rule.value,
        sentence=why.sentence,
        scope=scope_message(why.scope),
        retention=str(why.retention or ""),
        grace_days=why.grace_days,
        from_ns=why.from_ns,
        until_ns=why.until_ns,
        cases=why.cases,
    )


def run_message(record: RunRecord) -> pb.Run:
    return pb.Run(
        run_id=record.run_id,
        digest=record.plan_digest,
        started_ns=record.started_ns,
        ended_ns=record.ended_ns,
        outcome=record.outcome.value,
        erased=record.erased,
        expired_buckets=record.expired_buckets,
        destroyed_recordings=record.destroyed_recordings,
        destroyed_bytes=record.destroyed_bytes,
        evacuated=record.evacuated,
        failures=[
            pb.RunFailure(item=one.item, step=one.step, reason=one.reason, message=one.message)
            for one in record.failed
        ],
        confirmed_by=record.confirmed_by,
        message=record.message,
    )
