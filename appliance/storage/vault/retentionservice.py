"""RetentionService: policies, plans, runs, the clock over gRPC on the vault's socket. No rule of the vault lives here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc

from appliance.model import InvalidError, id_bytes
from appliance.process.rpc import fitting
from appliance.storage.retention.outlook import Upcoming
from appliance.storage.retention.rules import Rules
from appliance.storage.retention.run import RunRecord, steps_of
from appliance.storage.retention.terms import PolicyScope
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.bucketservice import PROGRESS_EVERY_S, BucketMethods
from appliance.storage.vault.contract import BucketId
from appliance.storage.vault.holding import Holding, HoldingState
from appliance.storage.vault.holdservice import HoldMethods
from appliance.storage.vault.impact import Impact, impact, shortens
from appliance.storage.vault.keeping import Keeper
from appliance.storage.vault.planmessages import header_message, item_messages, run_message, why_message
from appliance.storage.vault.retentionmessages import (
    bucket_message,
    change_of,
    clock_message,
    field_of,
    impact_message,
    keeping_message,
    scope_of,
    scoped_policy,
    upcoming_message,
)
from earwitness.internal.v1 import retention_pb2 as pb
from earwitness.internal.v1 import retention_pb2_grpc

MAX_ASKED = 1000  # recordings at once
MAX_DAYS = 36_525


class RetentionServicer(HoldMethods, BucketMethods, retention_pb2_grpc.RetentionServiceServicer):
    """See retention.proto."""

    def __init__(self, parts: Assembly) -> None:
        HoldMethods.__init__(self, parts)
        BucketMethods.__init__(self, parts)
        self._policies = parts.policies
        self._keeper = Keeper(parts)

    def _now(self) -> int:
        return self._parts.timekeeper.state.clock_ns

    # Policies.

    def GetPolicies(
        self, request: pb.GetPoliciesRequest, context: grpc.ServicerContext
    ) -> pb.GetPoliciesResponse:
        """See retention.proto."""
        book, now = self._policies.book, self._now()
        scopes = [scope_of(one) for one in request.scopes]
        if not scopes:
            said = {row.scope for row in book.policies} | {change.scope for change in book.pending}
            scopes = sorted(said | {PolicyScope()})
        return pb.GetPoliciesResponse(
            policies=[scoped_policy(book, scope, now) for scope in scopes],
            version=book.version,
            cooling_days=book.cooling(now),
        )

    def SetPolicy(self, request: pb.SetPolicyRequest, context: grpc.ServicerContext) -> pb.SetPolicyResponse:
        """See retention.proto."""
        book, now = self._policies.book, self._now()
        change = change_of(request.scope, request.fields, request.policy)
        found = self._policies.preview(change)
        facts = replace(self._parts.expiry.facts(snapshots=False), book=book) if shortens(found) else None
        if not request.validate_only:
            version = request.version if request.HasField("version") else None
            found = self._policies.set(change, request.who, version)
        doomed = impact(facts, change, found) if facts is not None else Impact()
        said, cooling = book.said(change.scope, now), book.cooling(now)
        return pb.SetPolicyResponse(
            impact=impact_message(found.parts, found.before, found.after, said, cooling, doomed),
            policy=scoped_policy(self._policies.book, change.scope, now),
        )

    def BeginPolicy(
        self, request: pb.BeginPolicyRequest, context: grpc.ServicerContext
    ) -> pb.BeginPolicyResponse:
        """See retention.proto."""
        fields = [pb.POLICY_FIELD_RETENTION, pb.POLICY_FIELD_GRACE, pb.POLICY_FIELD_UNIT]
        change = change_of(request.scope, fields, request.policy)
        recorded = self._vault.holdings.rows(
            "SELECT 1 FROM holdings WHERE tenant = ? AND line = ? LIMIT 1",
            (change.scope.tenant_id, change.scope.line_id),
        )
        self._policies.begin(change, request.who, at_once=not recorded)
        return pb.BeginPolicyResponse(policy=scoped_policy(self._policies.book, change.scope, self._now()))

    def CancelPolicyChange(
        self, request: pb.CancelPolicyChangeRequest, context: grpc.ServicerContext
    ) -> pb.CancelPolicyChangeResponse:
        """See retention.proto."""
        scope, field = scope_of(request.scope), field_of(request.field)
        if request.validate_only:
            book = self._policies.book.cancel(scope, field, self._now(), request.who)
        else:
            self._policies.cancel(scope, field, request.who)
            book = self._policies.book
        return pb.CancelPolicyChangeResponse(policy=scoped_policy(book, scope, self._now()))

    # Plans and runs.

    def PlanRetention(
        self, request: pb.PlanRetentionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PlanRetentionResponse]:
        """See retention.proto."""
        plan, brake = self._parts.expiry.plan()
        digest = plan.digest
        if request.tenant_id:
            mine = (item for item in plan.items if item.bucket and item.bucket.tenant_id == request.tenant_id)
            plan = replace(plan, items=tuple(mine))
        yield pb.PlanRetentionResponse(header=header_message(plan, digest, brake))
        for item in plan.items:
            for message in item_messages(item):
                yield pb.PlanRetentionResponse(plan_item=message)

    def RunRetention(
        self, request: pb.RunRetentionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RunRetentionResponse]:
        """See retention.proto."""
        running = _Running(self._parts, request.who, request.digest)
        while not running.ended.wait(PROGRESS_EVERY_S):
            yield pb.RunRetentionResponse(progress=running.progress())
        yield pb.RunRetentionResponse(run=run_message(running.result()))

    def ListRuns(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:
        """See retention.proto."""
        found = list(self._parts.runs.records)[::-1]
        if request.before:
            ids = [record.run_id for record in found]
            found = found[ids.index(request.before) + 1 :] if request.before in ids else []
        some = fitting(map(run_message, found), max(1, min(request.limit, MAX_ASKED)))
        return pb.ListRunsResponse(runs=some, more=len(found) > len(some))

    def _upcoming(self, request: pb.ListUpcomingRequest | pb.ListExpiringRequest) -> list[Upcoming]:
        if not 0 <= request.days <= MAX_DAYS:
            raise InvalidError(f"should be 0 to {MAX_DAYS}", field="days")
        return [
            each
            for each in self._parts.expiry.upcoming(request.days)
            if request.tenant_id in ("", each.bucket.tenant_id)
            and request.line_id in ("", each.bucket.line_id)
        ]

    def ListUpcoming(
        self, request: pb.ListUpcomingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListUpcomingResponse]:
        """See retention.proto."""
        found, place = self._upcoming(request), _place_of(request)
        if place is not None:
            found = [each for each in found if (each.when_ns, each.bucket) > place]
        for first in range(0, len(found), MAX_ASKED):
            some = found[first : first + MAX_ASKED]
            yield pb.ListUpcomingResponse(upcoming=map(upcoming_message, some))

    def ListExpiring(
        self, request: pb.ListExpiringRequest, context: grpc.ServicerContext
    ) -> pb.ListExpiringResponse:
        """See retention.proto."""
        limit = max(1, min(request.limit, MAX_ASKED))
        place = _place_of(request)
        found: list[pb.Expiring] = []
        for each in self._upcoming(request):
            here = (each.when_ns, each.bucket)
            if place is not None and here < place:
                continue
            for held in self._going(each, request.after.recording_id if here == place else ""):
                if len(found) == limit:
                    return pb.ListExpiringResponse(expiring=found, more=True)
                found.append(
                    pb.Expiring(
                        recording_id=held.recording_id,
                        tenant_id=held.tenant_id,
                        line_id=held.line_id,
                        when_ns=each.when_ns,
                        bytes=held.size,
                        bucket=bucket_message(each.bucket),
                    )
                )
        return pb.ListExpiringResponse(expiring=found)

    def _going(self, each: Upcoming, after: str) -> Iterator[Holding]:
        """What is filed in a bucket and goes with it, after that recording; of a legal hold's bucket, at that time."""
        rules, bucket = self._keeper.rules(), each.bucket
        where = "tenant = ? AND line = ? AND slice = ? AND held_in = ''"
        values: tuple[object, ...] = (bucket.tenant_id, bucket.line_id, bucket.slice)
        if bucket.of_hold:
            where, values = "tenant = ? AND held_in = ?", (bucket.tenant_id, bucket.slice)
        if after:
            where, values = f"{where} AND recording > ?", (*values, id_bytes(after))
        for held in self._vault.holdings.where(f"{where} AND state = 'filed'", values):
            if self._vault.rules.cases_of(held):
                continue
            if not bucket.of_hold or each.when_ns == _due(rules, held):
                yield held

    # Single recordings.

    def GetKeeping(
        self, request: pb.GetKeepingRequest, context: grpc.ServicerContext
    ) -> pb.GetKeepingResponse:
        """See retention.proto."""
        if len(request.recording_ids) > MAX_ASKED:
            raise InvalidError(f"at most {MAX_ASKED} at once", field="recording_ids")
        found = self._keeper.of(request.recording_ids)
        return pb.GetKeepingResponse(keeping=map(keeping_message, found), replicas=self.replicas())

    def ExplainRecording(
        self, request: pb.ExplainRecordingRequest, context: grpc.ServicerContext
    ) -> pb.ExplainRecordingResponse:
        """See retention.proto."""
        held, kept, reasons = self._keeper.explain(request.recording_id)
        quarantined = held.state is HoldingState.QUARANTINED
        return pb.ExplainRecordingResponse(
            reasons=map(why_message, reasons),
            keeping=keeping_message(kept),
            bucket=None if quarantined else bucket_message(held.bucket),
        )

    # The clock.

    def GetClock(self, request: pb.GetClockRequest, context: grpc.ServicerContext) -> pb.GetClockResponse:
        """See retention.proto."""
        return pb.GetClockResponse(clock=clock_message(self._parts.timekeeper.tick()))

    def AcceptClock(
        self, request: pb.AcceptClockRequest, context: grpc.ServicerContext
    ) -> pb.AcceptClockResponse:
        """See retention.proto."""
        return pb.AcceptClockResponse(clock=clock_message(self._parts.timekeeper.accept(request.who)))


def _place_of(request: pb.ListUpcomingRequest | pb.ListExpiringRequest) -> tuple[int, BucketId] | None:
    """Where the answer before ended."""
    if not request.HasField("after"):
        return None
    at = request.after.bucket
    return request.after.when_ns, BucketId(at.tenant_id, at.line_id, at.slice)


def _due(rules: Rules, held: Holding) -> int:
    return rules.due(held.tenant_id, held.line_id, held.slice)


class _Running:
    """A run in a thread of its own: who asked may go away, and it goes on."""

    def __init__(self, parts: Assembly, who: str, digest: str) -> None:
        self._parts = parts
        self._record: RunRecord | None = None
        self._error: BaseException | None = None
        self.ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(who, digest), name="retention", daemon=True)
        thread.start()

    def _run(self, who: str, digest: str) -> None:
        try:
            self._record = self._parts.expiry.run(who, digest)
        except Exception as error:  # noqa: BLE001 - raised again by `result`
            self._error = error
        finally:
            self.ended.set()

    def progress(self) -> pb.RunProgress:
        """As the journal of runs has it."""
        current = self._parts.runs.open
        if current is None or not current.whole:
            return pb.RunProgress()
        steps = sum(len(steps_of(item)) for item in list(current.items))
        return pb.RunProgress(done=len(current.done), steps=steps)

    def result(self) -> RunRecord:
        """What it came to, or what it raised."""
        if self._error is not None:
            raise self._error
        assert self._record is not None
        return self._record
