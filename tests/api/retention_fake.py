"""The vault's RetentionService over what the fake vault holds: the real rules (pure), nothing of the vault's insides."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace

from appliance.model import NotFoundError, new_id
from appliance.process.rpc import fitting
from appliance.storage.keystore.copies import CopyState
from appliance.storage.keystore.errors import KeystoreCopyPresentError, KeystoreCopyUnknownError
from appliance.storage.names import BucketId
from appliance.storage.replica.errors import ReplicaUnknownError
from appliance.storage.retention.brake import Limits, check
from appliance.storage.retention.clock import ClockState, FreezeRule, Frozen
from appliance.storage.retention.errors import RecordingHeldError
from appliance.storage.retention.facts import (
    BucketFacts,
    BucketWord,
    DeletedFacts,
    Facts,
    HeldRecording,
    SnapshotFacts,
)
from appliance.storage.retention.holds import HoldAdded, HoldBook, HoldCreated, HoldReleased
from appliance.storage.retention.items import ItemKind
from appliance.storage.retention.outlook import RecordingFacts, upcoming, why_kept
from appliance.storage.retention.plan import make_plan
from appliance.storage.retention.policy import preview
from appliance.storage.retention.rules import Rules
from appliance.storage.retention.run import Outcome, RunRecord
from appliance.storage.retention.terms import PolicyScope
from appliance.storage.vault import planmessages as plans
from appliance.storage.vault import retentionmessages as messages
from appliance.storage.vault.checking import Found, Totals
from appliance.storage.vault.errors import GraceOverError, PlanChangedError, RecordingErasedError
from appliance.storage.vault.impact import impact
from appliance.storage.vault.keeping import Kept
from appliance.storage.vault.policies import Policies
from earwitness.internal.v1 import replicas_pb2, replicas_pb2_grpc, retention_pb2_grpc, vault_pb2
from earwitness.internal.v1 import retention_pb2 as pb

DAY_NS = 86_400 * 10**9
FILED, DELETED, ERASED = (
    vault_pb2.HOLDING_STATE_FILED,
    vault_pb2.HOLDING_STATE_DELETED,
    vault_pb2.HOLDING_STATE_ERASED,
)


class ReplicaServer(replicas_pb2_grpc.ReplicaServiceServicer):
    """Copies elsewhere: of one replica, `north`, which has what a test puts into `totals`."""

    def __init__(self) -> None:
        self.totals = replicas_pb2.RestoreTotals()
        self.asked: list[replicas_pb2.RestoreBucketsRequest] = []

    def RestoreBuckets(self, request, context):
        self.asked.append(request)
        if request.replica != "north":
            raise ReplicaUnknownError("there is no replica of this name", replica=request.replica)
        yield replicas_pb2.RestoreBucketsResponse(
            progress=replicas_pb2.RestoreProgress(done=1, buckets=2, bytes=7)
        )
        yield replicas_pb2.RestoreBucketsResponse(totals=self.totals)


class RetentionServer(retention_pb2_grpc.RetentionServiceServicer):
    """See the module. `holdings` are the fake vault's; `erase` erases one of them."""

    def __init__(self, folder, holdings, erase) -> None:
        self.holdings = holdings
        self.erase = erase
        self.ahead_ns = 0
        """How far the retention clock is ahead of the real one: a test moves it."""
        self.frozen: Frozen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.policies = Policies(folder / "policies.json", self.now)
        self.holds = HoldBook()
        self.runs: list[RunRecord] = []
        self.limits = Limits()
        self.replicas: dict[str, int] = {}
        self.copies = [CopyState(new_id(), "a", True, 4), CopyState(new_id(), "b", False, 3)]
        self.quotas: dict[str, int] = {}
        self.findings: dict[str, str] = {}
        self.began: list[pb.BeginPolicyRequest] = []

    def now(self) -> int:
        return time.time_ns() + self.ahead_ns

    # Facts.

    def cases_of(self, holding) -> tuple[str, ...]:
        return self.holds.cases_of(
            holding.recording_id, holding.tenant_id, holding.line_id, holding.created_ns
        )

    def facts(self) -> Facts:
        buckets = defaultdict(list)
        for one in self.holdings.values():
            if one.state in (FILED, DELETED):
                buckets[BucketId(one.tenant_id, one.line_id, one.slice)].append(one)
        return Facts(
            ClockState(self.now(), self.now(), "boot", 1, frozen=self.frozen),
            self.policies.book,
            self.holds.all(),
            tuple(self._bucket(name, some) for name, some in sorted(buckets.items())),
            tuple(self._deleted(one) for some in buckets.values() for one in some if one.state == DELETED),
        )

    def _bucket(self, name, some) -> BucketFacts:
        held = tuple(
            HeldRecording(one.recording_id, self.cases_of(one), one.size, one.line_id, one.slice)
            for one in some
            if self.cases_of(one)
        )
        tags = tuple(sorted({f"ew.case.{case}" for one in held for case in one.cases}))
        snapshots = [SnapshotFacts("guard", ("ew.guard",))]
        if tags:
            snapshots.append(SnapshotFacts(f"h-{tags[0][8:]}-1", tags))
        return BucketFacts(
            name,
            BucketWord.OPEN,
            sum(one.state == FILED for one in some),
            sum(one.state == DELETED for one in some),
            sum(one.size for one in some),
            1,
            held,
            tuple(snapshots),
        )

    def _deleted(self, one) -> DeletedFacts:
        bucket = BucketId(one.tenant_id, one.line_id, one.slice)
        return DeletedFacts(one.recording_id, bucket, one.since_ns, "", self.cases_of(one), one.size)

    # What the vault's other service asks.

    def refuse_held(self, holding) -> None:
        if cases := self.cases_of(holding):
            raise RecordingHeldError("a legal hold forbids it", cases=cases)

    def refuse_late(self, holding) -> None:
        if holding.state == DELETED and not self.cases_of(holding):
            over = Rules(self.facts()).grace_over(self._deleted(holding))
            if over <= self.now():
                raise GraceOverError("the time to bring it back is over", recording_id=holding.recording_id)

    # Policies.

    def GetPolicies(self, request, context):
        book, now = self.policies.book, self.now()
        scopes = [messages.scope_of(one) for one in request.scopes]
        said = {row.scope for row in book.policies} | {one.scope for one in book.pending}
        scopes = scopes or sorted(said | {PolicyScope()})
        found = [messages.scoped_policy(book, scope, now) for scope in scopes]
        return pb.GetPoliciesResponse(policies=found, version=book.version, cooling_days=book.cooling(now))

    def SetPolicy(self, request, context):
        book, now = self.policies.book, self.now()
        change = messages.change_of(request.scope, request.fields, request.policy)
        found = preview(book, change, now)
        doomed = impact(self.facts(), change, found)
        if not request.validate_only:
            version = request.version if request.HasField("version") else None
            found = self.policies.set(change, request.who, version)
        said = book.said(change.scope, now)
        return pb.SetPolicyResponse(
            impact=messages.impact_message(
                found.parts, found.before, found.after, said, book.cooling(now), doomed
            ),
            policy=messages.scoped_policy(self.policies.book, change.scope, now),
        )

    def BeginPolicy(self, request, context):
        self.began.append(request)
        fields = [pb.POLICY_FIELD_RETENTION, pb.POLICY_FIELD_GRACE, pb.POLICY_FIELD_UNIT]
        change = messages.change_of(request.scope, fields, request.policy)
        recorded = any(one.line_id == change.scope.line_id for one in self.holdings.values())
        self.policies.begin(change, request.who, at_once=not recorded)
        policy = messages.scoped_policy(self.policies.book, change.scope, self.now())
        return pb.BeginPolicyResponse(policy=policy)

    def CancelPolicyChange(self, request, context):
        scope, field = messages.scope_of(request.scope), messages.field_of(request.field)
        book = self.policies.book.cancel(scope, field, self.now(), request.who)
        if not request.validate_only:
            self.policies.cancel(scope, field, request.who)
        return pb.CancelPolicyChangeResponse(policy=messages.scoped_policy(book, scope, self.now()))

    # Plans and runs.

    def _plan(self):
        plan = make_plan(self.facts())
        return plan, check(plan, None, self.now(), self.limits)

    def PlanRetention(self, request, context):
        plan, brake = self._plan()
        digest = plan.digest
        if request.tenant_id:
            mine = [item for item in plan.items if item.bucket and item.bucket.tenant_id == request.tenant_id]
            plan = replace(plan, items=tuple(mine))
        yield pb.PlanRetentionResponse(header=plans.header_message(plan, digest, brake))
        for item in plan.items:
            for message in plans.item_messages(item):
                yield pb.PlanRetentionResponse(plan_item=message)

    def RunRetention(self, request, context):
        plan, brake = self._plan()
        if request.digest and request.digest != plan.digest:
            raise PlanChangedError("it has changed", digest=plan.digest)
        yield pb.RunRetentionResponse(progress=pb.RunProgress(done=1, steps=2))
        now = self.now()
        record = RunRecord(new_id(), plan.digest, now, now, Outcome.NOTHING)
        if self.frozen:
            record = replace(record, outcome=Outcome.FROZEN, message=self.frozen.message)
        elif brake and not request.digest:
            record = replace(record, outcome=Outcome.BRAKED, message=brake.message)
        elif plan.destroying:
            self._carry_out(plan)
            record = replace(
                record,
                outcome=Outcome.DONE,
                destroyed_recordings=sum(item.recordings for item in plan.destroying),
                expired_buckets=sum(item.whole for item in plan.destroying),
                confirmed_by=request.who if request.digest else "",
            )
        self.runs.append(record)
        yield pb.RunRetentionResponse(run=plans.run_message(record))

    def _carry_out(self, plan) -> None:
        for item in plan.destroying:
            for one in list(self.holdings.values()):
                if one.state not in (FILED, DELETED) or self.cases_of(one):
                    continue
                bucket = BucketId(one.tenant_id, one.line_id, one.slice)
                whole = item.kind is ItemKind.EXPIRE_BUCKET and bucket == item.bucket
                if whole or one.recording_id in item.recording_ids:
                    self.erase(one.recording_id, item.kind.value)

    def ListRuns(self, request, context):
        found = self.runs[::-1]
        if request.before:
            ids = [one.run_id for one in found]
            found = found[ids.index(request.before) + 1 :]
        some = fitting(map(plans.run_message, found), request.limit)
        return pb.ListRunsResponse(runs=some, more=len(found) > len(some))

    def _upcoming(self, request):
        return [
            each
            for each in upcoming(self.facts(), request.days)
            if request.tenant_id in ("", each.bucket.tenant_id)
            and request.line_id in ("", each.bucket.line_id)
        ]

    def ListUpcoming(self, request, context):
        found = list(map(messages.upcoming_message, self._upcoming(request)))
        if request.HasField("after"):
            places = [(one.when_ns, one.bucket) for one in found]
            found = found[places.index((request.after.when_ns, request.after.bucket)) + 1 :]
        for each in found:
            yield pb.ListUpcomingResponse(upcoming=[each])

    def ListExpiring(self, request, context):
        found = [
            pb.Expiring(
                recording_id=one.recording_id,
                tenant_id=one.tenant_id,
                line_id=one.line_id,
                when_ns=each.when_ns,
                bytes=one.size,
                bucket=messages.bucket_message(each.bucket),
            )
            for each in self._upcoming(request)
            for one in sorted(self.holdings.values(), key=lambda one: one.recording_id)
            if BucketId(one.tenant_id, one.line_id, one.slice) == each.bucket
            and one.state == FILED
            and not self.cases_of(one)
        ]
        if request.HasField("after"):
            last = [one.recording_id for one in found].index(request.after.recording_id)
            assert found[last].bucket == request.after.bucket
            found = found[last + 1 :]
        return pb.ListExpiringResponse(expiring=found[: request.limit], more=len(found) > request.limit)

    # Single recordings.

    def _kept(self, one) -> Kept:
        if one.state == ERASED:
            return Kept(one.recording_id, 0, 0, ())
        rules = Rules(self.facts())
        expire = purge = 0
        if one.state in (FILED, DELETED):
            expire = rules.due(one.tenant_id, one.line_id, one.slice)
        if one.state == DELETED:
            purge = rules.grace_over(self._deleted(one))
        return Kept(one.recording_id, expire, purge, self.cases_of(one) if one.tenant_id else ())

    def GetKeeping(self, request, context):
        found = [self._kept(self.holdings[one]) for one in request.recording_ids if one in self.holdings]
        return pb.GetKeepingResponse(
            keeping=map(messages.keeping_message, found),
            replicas=[pb.Replica(name=name, confirmed=number) for name, number in self.replicas.items()],
        )

    def ExplainRecording(self, request, context):
        one = self._get(request.recording_id)
        deleted = self._deleted(one) if one.state == DELETED else None
        bucket = BucketId(one.tenant_id, one.line_id, one.slice)
        about = RecordingFacts(one.recording_id, bucket, self.cases_of(one), one.line_id, one.slice, deleted)
        return pb.ExplainRecordingResponse(
            reasons=map(plans.why_message, why_kept(about, self.facts())),
            keeping=messages.keeping_message(self._kept(one)),
            bucket=messages.bucket_message(bucket),
        )

    def _get(self, recording_id):
        if recording_id not in self.holdings:
            raise NotFoundError("no such recording")
        return self.holdings[recording_id]

    # Legal holds.

    def _enter(self, event, dry: bool) -> None:
        self.holds.check(event)
        if not dry:
            self.holds.apply(event)

    def CreateHold(self, request, context):
        scopes = messages.hold_scopes(request.scopes, request.tenant_id)
        words = (request.tenant_id, request.title, request.reason, request.owner)
        self._enter(HoldCreated(request.case_id, *words, time.time_ns(), scopes), request.validate_only)
        if request.validate_only:
            return pb.CreateHoldResponse()
        return pb.CreateHoldResponse(hold=messages.hold_message(self.holds.get(request.case_id)))

    def AddToHold(self, request, context):
        hold = self.holds.get(request.case_id)
        found = [self._get(one) for one in request.recording_ids]
        if gone := [one.recording_id for one in found if one.state == ERASED]:
            raise RecordingErasedError("too late: a recording is erased", recording_ids=gone[:20])
        tenant = next((one.tenant_id for one in found if one.tenant_id != hold.tenant_id), hold.tenant_id)
        scopes = messages.hold_scopes(request.scopes, hold.tenant_id)
        event = HoldAdded(
            hold.case_id, tenant, time.time_ns(), request.who, tuple(request.recording_ids), scopes
        )
        self._enter(event, request.validate_only)
        return pb.AddToHoldResponse(hold=messages.hold_message(self.holds.get(hold.case_id)))

    def ReleaseHold(self, request, context):
        event = HoldReleased(request.case_id, time.time_ns(), request.who, request.reason)
        self._enter(event, request.validate_only)
        return pb.ReleaseHoldResponse(hold=messages.hold_message(self.holds.get(request.case_id)))

    def GetHold(self, request, context):
        return pb.GetHoldResponse(hold=messages.hold_message(self.holds.get(request.case_id)))

    def ListHolds(self, request, context):
        for one in self.holds.all():
            if request.tenant_id in ("", one.tenant_id) and (one.open or request.released):
                yield pb.ListHoldsResponse(hold=messages.hold_message(one))

    def ListHoldRecordings(self, request, context):
        found = sorted(
            one.recording_id
            for one in self.holdings.values()
            if one.state in (FILED, DELETED)
            and request.case_id in self.cases_of(one)
            and one.recording_id > request.after
        )
        return pb.ListHoldRecordingsResponse(
            recording_ids=found[: request.limit], more=len(found) > request.limit
        )

    # The clock.

    def freeze(self) -> None:
        self.frozen = Frozen(FreezeRule.WALL_AHEAD, self.now(), "the wall clock is 3 days ahead")

    def _clock(self):
        state = ClockState(self.now(), time.time_ns(), "boot", 1, frozen=self.frozen)
        return messages.clock_message(state)

    def GetClock(self, request, context):
        return pb.GetClockResponse(clock=self._clock())

    def AcceptClock(self, request, context):
        self.frozen = None
        return pb.AcceptClockResponse(clock=self._clock())

    # Buckets, copies, quotas.

    def ListBuckets(self, request, context):
        facts = self.facts()
        rules, holds = Rules(facts), {one.case_id: one for one in facts.holds}
        for found in facts.buckets:
            name = found.bucket
            if request.tenant_id in ("", name.tenant_id):
                due = rules.due(name.tenant_id, name.line_id, name.slice)
                yield pb.ListBucketsResponse(bucket=messages.bucket_details(found, due, holds))

    def VerifyStored(self, request, context):
        chosen = [
            one
            for one in self.holdings.values()
            if one.state in (FILED, DELETED) and request.tenant_id in ("", one.tenant_id)
        ][: request.sample or None]
        totals = Totals(len(chosen), sum(one.size for one in chosen))
        yield pb.VerifyStoredResponse(progress=messages.totals_message(totals))
        for one in chosen:
            totals = replace(
                totals, checked=totals.checked + 1, bytes_checked=totals.bytes_checked + one.size
            )
            if code := self.findings.get(one.recording_id):
                totals = replace(totals, damaged=totals.damaged + 1)
                bucket = BucketId(one.tenant_id, one.line_id, one.slice)
                found = Found(one.recording_id, bucket, code, "frame 3 is damaged", 4711, 3)
                yield pb.VerifyStoredResponse(finding=messages.finding_message(found))
        yield pb.VerifyStoredResponse(totals=messages.totals_message(totals))

    def GetOverview(self, request, context):
        facts = self.facts()
        return pb.GetOverviewResponse(
            backend="directory",
            free_bytes=300,
            total_bytes=1000,
            stored_bytes=sum(one.size for one in self.holdings.values()),
            forecast=pb.Forecast(daily_bytes=10, days_measured=30, expiring_bytes=20, days_until_full=40),
            buckets=pb.BucketCounts(open=len(facts.buckets)),
            holds=[messages.hold_message(one) for one in self.holds.all() if one.open],
            hold_count=sum(one.open for one in self.holds.all()),
            clock=self._clock(),
            copies=map(messages.copy_message, self.copies),
            last_run=plans.run_message(self.runs[-1]) if self.runs else None,
            filed=sum(one.state == FILED for one in self.holdings.values()),
            pending_changes=len(self.policies.book.pending),
        )

    def ListCopies(self, request, context):
        return pb.ListCopiesResponse(copies=map(messages.copy_message, self.copies))

    def ForgetCopy(self, request, context):
        known = {one.id: one for one in self.copies}
        if request.copy_id not in known:
            raise KeystoreCopyUnknownError("no such copy", copy=request.copy_id)
        if known[request.copy_id].present:
            raise KeystoreCopyPresentError("this copy is there", copy=request.copy_id)
        if not request.validate_only:
            self.copies.remove(known[request.copy_id])
        return pb.ForgetCopyResponse(copies=map(messages.copy_message, self.copies))

    def GetUsage(self, request, context):
        used = sum(one.size for one in self.holdings.values() if one.tenant_id == request.tenant_id)
        return pb.GetUsageResponse(used_bytes=used, quota_bytes=self.quotas.get(request.tenant_id, 0))

    def SetQuota(self, request, context):
        self.quotas[request.tenant_id] = request.quota_bytes
        return pb.SetQuotaResponse(quota_bytes=request.quota_bytes)
