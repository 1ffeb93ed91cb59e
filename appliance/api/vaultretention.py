"""Control's side of the vault's RetentionService, and of its copies elsewhere: calls with errors of the house."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Final

from appliance.api.vault import answer, items
from appliance.config.layout import Layout
from appliance.model import EarwitnessError
from appliance.process import rpc
from earwitness.internal.v1 import replicas_pb2, replicas_pb2_grpc, retention_pb2_grpc
from earwitness.internal.v1 import retention_pb2 as pb

_GLANCE_S: Final = 3.0  # what a list waits for, which answers without it too
_QUICK_S: Final = 15.0
_SLOW_S: Final = 600.0  # what looks at everything that is stored
MAX_IDS: Final = 1000  # that the vault tells of at once
MAX_NAMED: Final = 10_000  # that a case takes at once


class VaultRetention:
    """See the module. For asyncio."""

    def __init__(self, layout: Layout) -> None:
        self._channel = rpc.aio_channel(layout, "vault")
        self._stub: retention_pb2_grpc.RetentionServiceAsyncStub = retention_pb2_grpc.RetentionServiceStub(
            self._channel
        )
        self._replicas: replicas_pb2_grpc.ReplicaServiceAsyncStub = replicas_pb2_grpc.ReplicaServiceStub(
            self._channel
        )

    async def close(self) -> None:
        await self._channel.close(None)

    # Policies.

    async def policies(self, scopes: Iterable[pb.PolicyScope] = ()) -> pb.GetPoliciesResponse:
        return await answer(self._stub.GetPolicies(pb.GetPoliciesRequest(scopes=scopes), timeout=_QUICK_S))

    async def set_policy(self, request: pb.SetPolicyRequest) -> pb.SetPolicyResponse:
        return await answer(self._stub.SetPolicy(request, timeout=_SLOW_S))

    async def begin_policy(self, request: pb.BeginPolicyRequest) -> None:
        await answer(self._stub.BeginPolicy(request, timeout=_QUICK_S))

    async def cancel_change(self, request: pb.CancelPolicyChangeRequest) -> pb.ScopedPolicy:
        return (await answer(self._stub.CancelPolicyChange(request, timeout=_QUICK_S))).policy

    # Plans and runs.

    async def plan(self, tenant_id: str) -> AsyncGenerator[pb.PlanRetentionResponse, None]:
        async for item in items(self._stub.PlanRetention(pb.PlanRetentionRequest(tenant_id=tenant_id))):
            yield item

    async def run(self, who: str, digest: str) -> AsyncGenerator[pb.RunRetentionResponse, None]:
        async for item in items(self._stub.RunRetention(pb.RunRetentionRequest(who=who, digest=digest))):
            yield item

    async def runs(self, limit: int, before: str) -> pb.ListRunsResponse:
        request = pb.ListRunsRequest(limit=limit, before=before)
        return await answer(self._stub.ListRuns(request, timeout=_QUICK_S))

    async def upcoming(self, request: pb.ListUpcomingRequest) -> AsyncGenerator[pb.Upcoming, None]:
        async for some in items(self._stub.ListUpcoming(request, timeout=_SLOW_S)):
            for one in some.upcoming:
                yield one

    async def expiring(self, request: pb.ListExpiringRequest) -> pb.ListExpiringResponse:
        return await answer(self._stub.ListExpiring(request, timeout=_SLOW_S))

    # Single recordings.

    async def keeping(self, recording_ids: Sequence[str]) -> pb.GetKeepingResponse:
        request = pb.GetKeepingRequest(recording_ids=recording_ids)
        return await answer(self._stub.GetKeeping(request, timeout=_GLANCE_S))

    async def keeping_if_told(self, recording_ids: Sequence[str]) -> pb.GetKeepingResponse | None:
        """None where the vault does not answer: what is known without it is told without it."""
        try:
            return await self.keeping(recording_ids)
        except EarwitnessError:
            return None

    async def explain(self, recording_id: str) -> pb.ExplainRecordingResponse:
        request = pb.ExplainRecordingRequest(recording_id=recording_id)
        return await answer(self._stub.ExplainRecording(request, timeout=_SLOW_S))

    # Legal holds.

    async def create_hold(self, request: pb.CreateHoldRequest) -> pb.Hold:
        return (await answer(self._stub.CreateHold(request, timeout=_SLOW_S))).hold

    async def add_to_hold(self, request: pb.AddToHoldRequest) -> pb.Hold:
        return (await answer(self._stub.AddToHold(request, timeout=_SLOW_S))).hold

    async def release_hold(self, request: pb.ReleaseHoldRequest) -> pb.Hold:
        return (await answer(self._stub.ReleaseHold(request, timeout=_SLOW_S))).hold

    async def hold(self, case_id: str) -> pb.Hold:
        return (await answer(self._stub.GetHold(pb.GetHoldRequest(case_id=case_id), timeout=_QUICK_S))).hold

    async def holds(self, tenant_id: str, *, released: bool) -> Sequence[pb.Hold]:
        request = pb.ListHoldsRequest(tenant_id=tenant_id, released=released)
        return [one.hold async for one in items(self._stub.ListHolds(request, timeout=_QUICK_S))]

    async def held(self, case_id: str, after: str, limit: int) -> pb.ListHoldRecordingsResponse:
        request = pb.ListHoldRecordingsRequest(case_id=case_id, after=after, limit=limit)
        return await answer(self._stub.ListHoldRecordings(request, timeout=_SLOW_S))

    # The clock.

    async def clock(self) -> pb.Clock:
        return (await answer(self._stub.GetClock(pb.GetClockRequest(), timeout=_QUICK_S))).clock

    async def accept_clock(self, who: str) -> pb.Clock:
        request = pb.AcceptClockRequest(who=who)
        return (await answer(self._stub.AcceptClock(request, timeout=_QUICK_S))).clock

    # Buckets, the medium, the keystore.

    async def overview(self) -> pb.GetOverviewResponse:
        return await answer(self._stub.GetOverview(pb.GetOverviewRequest(), timeout=_SLOW_S))

    async def buckets(self, tenant_id: str) -> AsyncGenerator[pb.BucketDetails, None]:
        async for item in items(self._stub.ListBuckets(pb.ListBucketsRequest(tenant_id=tenant_id))):
            yield item.bucket

    async def verify(self, sample: int, tenant_id: str) -> AsyncGenerator[pb.VerifyStoredResponse, None]:
        stream: Any = self._stub.VerifyStored(pb.VerifyStoredRequest(sample=sample, tenant_id=tenant_id))
        async for item in items(stream):
            yield item

    async def restore(
        self, request: replicas_pb2.RestoreBucketsRequest
    ) -> AsyncGenerator[replicas_pb2.RestoreBucketsResponse, None]:
        async for item in items(self._replicas.RestoreBuckets(request)):
            yield item

    async def copies(self) -> Sequence[pb.KeystoreCopy]:
        return (await answer(self._stub.ListCopies(pb.ListCopiesRequest(), timeout=_QUICK_S))).copies

    async def forget_copy(self, copy_id: str, *, validate_only: bool) -> None:
        request = pb.ForgetCopyRequest(copy_id=copy_id, validate_only=validate_only)
        await answer(self._stub.ForgetCopy(request, timeout=_SLOW_S))

    async def usage(self, tenant_id: str) -> pb.GetUsageResponse:
        return await answer(self._stub.GetUsage(pb.GetUsageRequest(tenant_id=tenant_id), timeout=_SLOW_S))

    async def set_quota(self, tenant_id: str, quota_bytes: int) -> None:
        request = pb.SetQuotaRequest(tenant_id=tenant_id, quota_bytes=quota_bytes)
        await answer(self._stub.SetQuota(request, timeout=_SLOW_S))
