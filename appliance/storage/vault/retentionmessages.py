"""Policies, plans, runs, legal holds and buckets as messages of internal/v1/retention.proto, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.model import InvalidError
from appliance.process.rpc import fitting
from appliance.storage.keystore.copies import CopyState
from appliance.storage.names import GUARD_TAG, BucketId, SliceUnit
from appliance.storage.retention.clock import ClockState, Frozen
from appliance.storage.retention.facts import BucketFacts, SnapshotFacts
from appliance.storage.retention.holds import FOREVER_NS, HoldScope, LegalHold
from appliance.storage.retention.outlook import Upcoming
from appliance.storage.retention.period import Period
from appliance.storage.retention.policy import PolicyBook
from appliance.storage.retention.terms import (
    DEFAULT_COOLING_DAYS,
    ChangePart,
    Effective,
    PendingChange,
    Policy,
    PolicyChange,
    PolicyField,
    PolicyScope,
)
from appliance.storage.vault.checking import Found, Totals
from appliance.storage.vault.core import GRACE_TAG
from appliance.storage.vault.impact import Impact
from appliance.storage.vault.keeping import Kept
from earwitness.internal.v1 import retention_pb2 as pb

MAX_BUCKETS = 10_000  # that an impact names
_FIELDS = {
    pb.POLICY_FIELD_RETENTION: PolicyField.RETENTION,
    pb.POLICY_FIELD_GRACE: PolicyField.GRACE,
    pb.POLICY_FIELD_UNIT: PolicyField.UNIT,
    pb.POLICY_FIELD_COOLING: PolicyField.COOLING,
}
_NUMBERS = {field: number for number, field in _FIELDS.items()}
_UNITS = {
    pb.SLICE_UNIT_DAY: SliceUnit.DAY,
    pb.SLICE_UNIT_WEEK: SliceUnit.WEEK,
    pb.SLICE_UNIT_MONTH: SliceUnit.MONTH,
}
_UNIT_NUMBERS = {unit: number for number, unit in _UNITS.items()}
_CASE_TAG = "ew.case."
_REPLICA_TAG = "ew.replica."


# Policies.


def scope_of(message: pb.PolicyScope) -> PolicyScope:
    """PolicyError where it is none."""
    return PolicyScope(message.tenant_id, message.line_id)


def scope_message(scope: PolicyScope | None) -> pb.PolicyScope | None:
    return pb.PolicyScope(tenant_id=scope.tenant_id, line_id=scope.line_id) if scope is not None else None


def field_of(number: int) -> PolicyField:
    """InvalidError where there is no such field."""
    try:
        return _FIELDS[number]  # type: ignore[index]
    except KeyError:
        raise InvalidError("no field of a policy", field="fields") from None


def change_of(
    scope: pb.PolicyScope, fields: Iterable[int], policy: pb.Policy, cooling_days: int = DEFAULT_COOLING_DAYS
) -> PolicyChange:
    """PeriodError, PolicyError. `cooling_days`: where the policy says nothing."""
    return PolicyChange(
        scope_of(scope),
        Policy(
            Period.parse(policy.retention) if policy.retention else None,
            policy.grace_days if policy.HasField("grace_days") else None,
            _UNITS.get(policy.unit),
        ),
        tuple(field_of(number) for number in fields),
        policy.cooling_days if policy.HasField("cooling_days") else cooling_days,
    )


def _effective(found: Effective) -> pb.EffectivePolicy:
    return pb.EffectivePolicy(
        retention=str(found.retention),
        retention_scope=scope_message(found.retention_scope),
        grace_days=found.grace_days,
        grace_scope=scope_message(found.grace_scope),
        unit=_UNIT_NUMBERS[found.unit],
        unit_scope=scope_message(found.unit_scope),
    )


def _text(field: PolicyField, policy: Policy, cooling_days: int) -> str:
    match field:
        case PolicyField.RETENTION:
            return str(policy.retention or "")
        case PolicyField.GRACE:
            return "" if policy.grace_days is None else f"{policy.grace_days} days"
        case PolicyField.UNIT:
            return str(policy.unit or "")
        case PolicyField.COOLING:
            return f"{cooling_days} days"


def _pending(change: PendingChange, said: Policy, cooling_days: int) -> pb.PendingChange:
    return pb.PendingChange(
        field=_NUMBERS[change.field],
        old=_text(change.field, said, cooling_days),
        new=_text(change.field, change.policy, change.cooling_days),
        made_ns=change.made_ns,
        effective_ns=change.effective_ns,
        who=change.who,
    )


def scoped_policy(book: PolicyBook, scope: PolicyScope, now: int) -> pb.ScopedPolicy:
    """What a scope says, what holds for it, what waits."""
    said = book.said(scope, now)
    box = scope == PolicyScope()
    return pb.ScopedPolicy(
        scope=scope_message(scope),
        said=pb.Policy(
            retention=str(said.retention or ""),
            grace_days=said.grace_days,
            unit=_UNIT_NUMBERS[said.unit] if said.unit else pb.SLICE_UNIT_UNSPECIFIED,
            cooling_days=book.cooling(now) if box else None,
        ),
        effective=_effective(book.effective(scope.tenant_id, scope.line_id, now)),
        pending=[
            _pending(change, said, book.cooling(now))
            for change in sorted(book.pending, key=lambda change: change.effective_ns)
            if change.scope == scope and change.effective_ns > now
        ],
    )


def _difference(part: ChangePart, said: Policy, cooling_days: int) -> pb.PolicyDifference:
    return pb.PolicyDifference(
        field=_NUMBERS[part.field],
        old=part.old,
        new=part.new,
        shortens=part.shortens,
        effective_ns=part.effective_ns,
        replaces=[_pending(each, said, cooling_days) for each in part.replaces],
    )


def impact_message(
    parts: Sequence[ChangePart],
    before: Effective,
    after: Effective,
    said: Policy,
    cooling: int,
    found: Impact,
) -> pb.PolicyImpact:
    """What a change does. `said` and `cooling`: what its scope, and the box, say before it."""
    return pb.PolicyImpact(
        differences=[_difference(part, said, cooling) for part in parts],
        before=_effective(before),
        after=_effective(after),
        recordings=found.recordings,
        bytes=found.bytes,
        deleted=found.deleted,
        held=found.held,
        buckets=map(upcoming_message, found.buckets[:MAX_BUCKETS]),
        bucket_count=len(found.buckets),
    )


# Where something lies, what is due, what stands against it.


def bucket_message(bucket: BucketId | None) -> pb.Bucket | None:
    if bucket is None:
        return None
    return pb.Bucket(tenant_id=bucket.tenant_id, line_id=bucket.line_id, slice=bucket.slice)


def frozen_message(frozen: Frozen | None) -> pb.Frozen | None:
    if frozen is None:
        return None
    return pb.Frozen(rule=frozen.rule.value, since_ns=frozen.since_ns, message=frozen.message)


def upcoming_message(each: Upcoming) -> pb.Upcoming:
    return pb.Upcoming(
        bucket=bucket_message(each.bucket),
        when_ns=each.when_ns,
        recordings=each.recordings,
        bytes=each.bytes,
        held=each.held,
    )


def keeping_message(kept: Kept) -> pb.Keeping:
    return pb.Keeping(
        recording_id=kept.recording_id, expire_ns=kept.expire_ns, purge_ns=kept.purge_ns, cases=kept.cases
    )


# Legal holds, the clock.


def hold_scopes(messages: Iterable[pb.HoldScope], tenant_id: str) -> tuple[HoldScope, ...]:
    """HoldInvalidError."""
    return tuple(
        HoldScope(tenant_id, each.line_id, each.from_ns, each.to_ns or FOREVER_NS) for each in messages
    )


def hold_message(hold: LegalHold) -> pb.Hold:
    return pb.Hold(
        case_id=hold.case_id,
        tenant_id=hold.tenant_id,
        title=hold.title,
        reason=hold.reason,
        owner=hold.owner,
        created_ns=hold.created_ns,
        scopes=[
            pb.HoldScope(
                line_id=each.line_id,
                from_ns=each.from_ns,
                to_ns=0 if each.to_ns == FOREVER_NS else each.to_ns,
            )
            for each in hold.scopes
        ],
        recordings=hold.recordings,
        released_ns=hold.released_ns,
        released_by=hold.released_by,
        release_reason=hold.release_reason,
    )


def clock_message(state: ClockState) -> pb.Clock:
    return pb.Clock(
        clock_ns=state.clock_ns,
        wall_ns=state.wall_ns,
        frozen=frozen_message(state.frozen),
        off_unknown=state.off_unknown,
    )


# Buckets, checks, copies.


def snapshot_message(found: SnapshotFacts, holds: dict[str, LegalHold]) -> pb.Snapshot:
    """`holds`: cases by id, for who they are of."""
    return pb.Snapshot(
        name=found.name, needed=found.needed, holds=[_snapshot_hold(tag, holds) for tag in found.tags]
    )


def _snapshot_hold(tag: str, holds: dict[str, LegalHold]) -> pb.SnapshotHold:
    if tag == GUARD_TAG:
        return pb.SnapshotHold(tag=tag, owner="vault", reason="no stray command destroys the bucket")
    if tag == GRACE_TAG:
        return pb.SnapshotHold(tag=tag, owner="vault", reason="deleted recordings can be undeleted")
    if tag.startswith(_REPLICA_TAG):
        reason = "a copy elsewhere goes on from it"
        return pb.SnapshotHold(tag=tag, owner=tag.removeprefix(_REPLICA_TAG), reason=reason)
    case = tag.removeprefix(_CASE_TAG)
    hold = holds.get(case) if tag.startswith(_CASE_TAG) else None
    if hold is None:
        return pb.SnapshotHold(tag=tag, reason="nobody knows what for: respected, and never released")
    return pb.SnapshotHold(tag=tag, owner=hold.owner, reason=hold.reason, case_id=case)


def bucket_details(found: BucketFacts, expire_ns: int, holds: dict[str, LegalHold]) -> pb.BucketDetails:
    return pb.BucketDetails(
        bucket=bucket_message(found.bucket),
        state=found.state.value,
        recordings=found.recordings,
        deleted=found.deleted,
        held=sum(bool(each.cases) for each in found.held),
        bytes=found.bytes,
        expire_ns=expire_ns,
        newest_write_ns=found.newest_write_ns,
        snapshots=fitting(snapshot_message(each, holds) for each in found.snapshots),
        snapshot_count=len(found.snapshots),
        unknown_files=found.unknown_files,
    )


def totals_message(totals: Totals) -> pb.VerifyTotals:
    return pb.VerifyTotals(
        checked=totals.checked,
        recordings=totals.recordings,
        bytes_checked=totals.bytes_checked,
        bytes=totals.bytes,
        damaged=totals.damaged,
        recovered=totals.recovered,
        gone=totals.gone,
    )


def finding_message(found: Found) -> pb.VerifyFinding:
    return pb.VerifyFinding(
        recording_id=found.recording_id,
        bucket=bucket_message(found.bucket),
        code=found.code,
        message=found.message,
        offset=found.offset,
        frame=found.frame,
    )


def copy_message(copy: CopyState) -> pb.KeystoreCopy:
    return pb.KeystoreCopy(
        copy_id=copy.id, directory=copy.directory, present=copy.present, epoch=copy.last_epoch
    )
