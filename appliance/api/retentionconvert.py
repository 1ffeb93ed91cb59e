"""From the vault's messages about retention to the public ones, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from appliance.api import convert, names
from appliance.catalog.records import etag_of
from appliance.storage.names import HOLD_LINE
from earwitness.internal.v1 import replicas_pb2 as replicas
from earwitness.internal.v1 import retention_pb2 as vault
from earwitness.v1 import box_pb2, tenants_pb2
from earwitness.v1 import retention_pb2 as pb

MOST_FAILURES: Final = 100  # that are named of a bringing back

FIELDS = {
    "retention": vault.POLICY_FIELD_RETENTION,
    "grace_days": vault.POLICY_FIELD_GRACE,
    "grain": vault.POLICY_FIELD_UNIT,
    "cooling_days": vault.POLICY_FIELD_COOLING,
}
_FIELD_NAMES = {number: name for name, number in FIELDS.items()}


def time(ns: int) -> Timestamp | None:
    """None where there is none."""
    return convert.timestamp(ns) if ns else None


def grain(unit: vault.SliceUnit.ValueType) -> tenants_pb2.Grain.ValueType:
    return tenants_pb2.Grain.Value(vault.SliceUnit.Name(unit).replace("SLICE_UNIT", "GRAIN"))


def unit(value: tenants_pb2.Grain.ValueType) -> vault.SliceUnit.ValueType:
    """`value`: a known one."""
    return vault.SliceUnit.Value(tenants_pb2.Grain.Name(value).replace("GRAIN", "SLICE_UNIT"))


# Policies.


def policy_name(scope: vault.PolicyScope) -> str:
    return names.policy(scope.tenant_id, scope.line_id)


def effective(found: vault.EffectivePolicy) -> pb.EffectiveRetention:
    return pb.EffectiveRetention(
        retention=found.retention,
        retention_policy=policy_name(found.retention_scope),
        grace_days=found.grace_days,
        grace_policy=policy_name(found.grace_scope),
        grain=grain(found.unit),
        grain_policy=policy_name(found.unit_scope) if found.HasField("unit_scope") else "",
    )


def pending(change: vault.PendingChange) -> pb.PendingPolicyChange:
    return pb.PendingPolicyChange(
        field=_FIELD_NAMES[change.field],
        old_value=change.old,
        new_value=change.new,
        make_time=convert.timestamp(change.made_ns),
        effective_time=convert.timestamp(change.effective_ns),
        actor=change.who,
    )


def policy(found: vault.ScopedPolicy) -> pb.RetentionPolicy:
    said = found.said
    made = pb.RetentionPolicy(
        name=policy_name(found.scope),
        retention=said.retention,
        grace_days=said.grace_days if said.HasField("grace_days") else None,
        grain=grain(said.unit),
        cooling_days=said.cooling_days if said.HasField("cooling_days") else None,
        effective=effective(found.effective),
        pending_changes=map(pending, found.pending),
    )
    made.etag = etag_of(made.SerializeToString(deterministic=True).hex())
    return made


def impact(found: vault.PolicyImpact) -> pb.PolicyImpact:
    return pb.PolicyImpact(
        differences=[
            pb.PolicyDifference(
                field=_FIELD_NAMES[part.field],
                old_value=part.old,
                new_value=part.new,
                shortens=part.shortens,
                effective_time=convert.timestamp(part.effective_ns),
                replaced_changes=map(pending, part.replaces),
            )
            for part in found.differences
        ],
        before=effective(found.before),
        after=effective(found.after),
        recording_count=found.recordings,
        size_bytes=found.bytes,
        deleted_count=found.deleted,
        held_count=found.held,
        expirations=map(upcoming, found.buckets),
        bucket_count=found.bucket_count,
    )


# Plans and runs.


def bucket_name(bucket: vault.Bucket) -> str:
    return names.bucket(bucket.tenant_id, bucket.line_id, bucket.slice) if bucket.tenant_id else ""


def upcoming(each: vault.Upcoming) -> pb.UpcomingExpiration:
    of_hold = each.bucket.line_id == HOLD_LINE
    return pb.UpcomingExpiration(
        bucket=bucket_name(each.bucket),
        line="" if of_hold else names.line(each.bucket.tenant_id, each.bucket.line_id),
        expire_time=convert.timestamp(each.when_ns),
        recording_count=each.recordings,
        size_bytes=each.bytes,
        held_count=each.held,
    )


def kind(word: str) -> pb.PlanItemKind.ValueType:
    return pb.PlanItemKind.Value(f"PLAN_ITEM_KIND_{_upper(word)}")


def _upper(word: str) -> str:
    return word.upper().replace("-", "_")


def reason(why: vault.Why, tenant_id: str) -> pb.RetentionReason:
    """`tenant_id`: whose the legal holds are; empty: not known."""
    return pb.RetentionReason(
        rule=pb.RetentionRule.Value(f"RETENTION_RULE_{_upper(why.rule)}"),
        sentence=why.sentence,
        policy=policy_name(why.scope) if why.HasField("scope") else "",
        retention=why.retention,
        grace_days=why.grace_days if why.HasField("grace_days") else None,
        from_time=convert.timestamp(why.from_ns) if why.HasField("from_ns") else None,
        until_time=convert.timestamp(why.until_ns) if why.HasField("until_ns") else None,
        legal_holds=[names.legal_hold(tenant_id, case) for case in why.cases],
    )


def recordings(tenant_id: str, ids: Iterable[str]) -> list[str]:
    return [names.recording(tenant_id, one) for one in ids]


def plan_item(item: vault.PlanItem) -> pb.PlanItem:
    tenant_id = item.bucket.tenant_id
    return pb.PlanItem(
        key=item.key,
        kind=kind(item.kind),
        destroys=item.destroys,
        reason=reason(item.why, tenant_id),
        bucket=bucket_name(item.bucket),
        recording_count=item.recordings,
        size_bytes=item.bytes,
        recordings=recordings(tenant_id, item.recording_ids),
        evacuations=[
            pb.Evacuation(
                legal_hold=names.legal_hold(tenant_id, each.case_id),
                recordings=recordings(tenant_id, each.recording_ids),
            )
            for each in item.evacuations
        ],
        snapshots=item.snapshots,
        whole=item.whole,
        unknown_name=item.name,
        evacuated_count=item.evacuated,
        continuation=item.continuation,
    )


def freeze(found: vault.Frozen) -> pb.ClockFreeze:
    return pb.ClockFreeze(
        rule=found.rule, since_time=convert.timestamp(found.since_ns), message=found.message
    )


def plan_header(header: vault.PlanHeader) -> pb.PlanHeader:
    made = pb.PlanHeader(
        make_time=convert.timestamp(header.made_ns),
        digest=header.digest,
        totals=[
            pb.PlanTotal(
                kind=kind(one.kind),
                item_count=one.items,
                recording_count=one.recordings,
                size_bytes=one.bytes,
            )
            for one in header.totals
        ],
        freeze=freeze(header.frozen) if header.HasField("frozen") else None,
    )
    if header.HasField("brake"):
        brake = header.brake
        made.brake.CopyFrom(
            pb.VolumeBrake(
                message=brake.message,
                recording_count=brake.recordings,
                size_bytes=brake.bytes,
                expected_recording_count=brake.expected_recordings,
                expected_size_bytes=brake.expected_bytes,
                allowed_recording_count=brake.allowed_recordings,
                allowed_size_bytes=brake.allowed_bytes,
            )
        )
    return made


def run(found: vault.Run) -> pb.RetentionRun:
    return pb.RetentionRun(
        name=f"retentionRuns/{found.run_id}",
        digest=found.digest,
        start_time=convert.timestamp(found.started_ns),
        end_time=convert.timestamp(found.ended_ns),
        outcome=pb.RunOutcome.Value(f"RUN_OUTCOME_{_upper(found.outcome)}"),
        erased_count=found.erased,
        bucket_count=found.expired_buckets,
        recording_count=found.destroyed_recordings,
        size_bytes=found.destroyed_bytes,
        evacuated_count=found.evacuated,
        failures=[
            pb.RunFailure(item=one.item, step=one.step, reason=one.reason, message=one.message)
            for one in found.failures
        ],
        confirmer=found.confirmed_by,
        message=found.message,
    )


# The clock, legal holds.


def clock(found: vault.Clock) -> pb.RetentionClock:
    return pb.RetentionClock(
        time=convert.timestamp(found.clock_ns),
        wall_time=convert.timestamp(found.wall_ns),
        freeze=freeze(found.frozen) if found.HasField("frozen") else None,
    )


def hold(found: vault.Hold) -> pb.LegalHold:
    return pb.LegalHold(
        name=names.legal_hold(found.tenant_id, found.case_id),
        title=found.title,
        reason=found.reason,
        owner=found.owner,
        scopes=[
            pb.LegalHoldScope(
                line=names.line(found.tenant_id, scope.line_id),
                from_time=time(scope.from_ns),
                to_time=time(scope.to_ns),
            )
            for scope in found.scopes
        ],
        named_recording_count=found.recordings,
        create_time=time(found.created_ns),
        release_time=time(found.released_ns),
        releaser=found.released_by,
        release_reason=found.release_reason,
    )


# Buckets, copies, checks.


def bucket(found: vault.BucketDetails) -> box_pb2.Bucket:
    tenant_id = found.bucket.tenant_id
    return box_pb2.Bucket(
        name=bucket_name(found.bucket),
        state=box_pb2.BucketState.Value(f"BUCKET_STATE_{_upper(found.state)}"),
        filed_count=found.recordings,
        deleted_count=found.deleted,
        held_count=found.held,
        size_bytes=found.bytes,
        expire_time=time(found.expire_ns),
        snapshots=[
            box_pb2.BucketSnapshot(
                snapshot=one.name,
                needed_count=one.needed,
                holds=[
                    box_pb2.SnapshotHold(
                        tag=held.tag,
                        owner=held.owner,
                        reason=held.reason,
                        legal_hold=names.legal_hold(tenant_id, held.case_id) if held.case_id else "",
                    )
                    for held in one.holds
                ],
            )
            for one in found.snapshots
        ],
        snapshot_count=found.snapshot_count,
        unknown_file_count=found.unknown_files,
    )


def copies(some: Iterable[vault.KeystoreCopy]) -> list[box_pb2.KeystoreCopy]:
    return [
        box_pb2.KeystoreCopy(
            copy_id=one.copy_id, directory=one.directory, present=one.present, epoch=one.epoch
        )
        for one in some
    ]


def verification(totals: vault.VerifyTotals) -> box_pb2.VaultVerification:
    return box_pb2.VaultVerification(
        checked_count=totals.checked,
        recording_count=totals.recordings,
        checked_bytes=totals.bytes_checked,
        size_bytes=totals.bytes,
        damaged_count=totals.damaged,
        recovered_count=totals.recovered,
        gone_count=totals.gone,
    )


def restoration_progress(found: replicas.RestoreProgress) -> box_pb2.RestorationProgress:
    return box_pb2.RestorationProgress(
        done_count=found.done, bucket_count=found.buckets, received_bytes=found.bytes
    )


def restoration(found: replicas.RestoreTotals) -> box_pb2.Restoration:
    return box_pb2.Restoration(
        whole_count=found.whole,
        merged_count=found.merged,
        recording_count=found.recordings,
        sidecar_count=found.sidecars,
        erased_count=found.erased,
        expired_count=found.expired,
        failures=[
            box_pb2.RestorationFailure(bucket=bucket_name(one.bucket), code=one.reason, message=one.message)
            for one in found.failures[:MOST_FAILURES]
        ],
        failure_count=found.failed,
        missing_count=found.missing,
    )


def finding(found: vault.VerifyFinding) -> box_pb2.VaultFinding:
    return box_pb2.VaultFinding(
        recording=names.recording(found.bucket.tenant_id, found.recording_id),
        bucket=bucket_name(found.bucket),
        code=found.code,
        message=found.message,
        offset=found.offset,
        frame=found.frame,
    )
