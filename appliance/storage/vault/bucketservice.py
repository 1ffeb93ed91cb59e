"""Buckets, checks of what is stored, copies of the keystore over gRPC: a part of RetentionService. No rule lives here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import grpc

from appliance.model import EarwitnessError, InvalidError
from appliance.process.rpc import fitting
from appliance.storage.keystore.errors import KeystoreCopyPresentError, KeystoreCopyUnknownError
from appliance.storage.retention.facts import BucketFacts, Facts
from appliance.storage.retention.outlook import upcoming
from appliance.storage.retention.rules import Rules
from appliance.storage.vault.assembly import Assembly
from appliance.storage.vault.checking import Checker, Found
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.planmessages import run_message
from appliance.storage.vault.retentionmessages import (
    bucket_details,
    clock_message,
    copy_message,
    finding_message,
    hold_message,
    totals_message,
)
from appliance.storage.vault.spaceforecast import MEASURED_DAYS, forecast
from earwitness.internal.v1 import retention_pb2 as pb

PROGRESS_EVERY_S = 0.5


class BucketMethods:
    """See retention.proto."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts
        self._vault = parts.vault

    def ListBuckets(
        self, request: pb.ListBucketsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListBucketsResponse]:
        """See retention.proto."""
        facts = self._parts.expiry.facts()
        rules, holds = Rules(facts), {hold.case_id: hold for hold in facts.holds}
        for found in facts.buckets:
            if request.tenant_id in ("", found.bucket.tenant_id):
                yield pb.ListBucketsResponse(bucket=bucket_details(found, _due(rules, found), holds))

    def VerifyStored(
        self, request: pb.VerifyStoredRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.VerifyStoredResponse]:
        """See retention.proto."""
        if request.sample < 0:
            raise InvalidError("a number of recordings is not negative", field="sample")
        checker = Checker(self._vault, sample=request.sample, tenant_id=request.tenant_id)
        yield pb.VerifyStoredResponse(progress=totals_message(checker.totals))
        told = time.monotonic()
        for step in checker.run():
            if not context.is_active():
                return
            if isinstance(step, Found):
                yield pb.VerifyStoredResponse(finding=finding_message(step))
            elif time.monotonic() - told >= PROGRESS_EVERY_S:
                yield pb.VerifyStoredResponse(progress=totals_message(step))
                told = time.monotonic()
        yield pb.VerifyStoredResponse(totals=totals_message(checker.totals))

    def GetOverview(
        self, request: pb.GetOverviewRequest, context: grpc.ServicerContext
    ) -> pb.GetOverviewResponse:
        """See retention.proto."""
        parts, vault = self._parts, self._vault
        counts = vault.holdings.counts()
        runs, cases = list(parts.runs.records), [hold for hold in parts.legal.book.all() if hold.open]
        answer = pb.GetOverviewResponse(
            backend=vault.store.backend,
            ailments=[
                pb.Ailment(name=one.name, message=one.message, alarm=one.alarm)
                for one in vault.store.health()
            ],
            stored_bytes=counts.stored_bytes,
            holds=fitting(map(hold_message, cases)),
            hold_count=len(cases),
            last_shred_ns=vault.last_erasure_ns,
            epoch=vault.keystore.epoch,
            clock=clock_message(parts.timekeeper.state),
            copies=map(copy_message, vault.keystore.copies()),
            last_run=run_message(runs[-1]) if runs else None,
            filed=counts.by_state[HoldingState.FILED],
            deleted=counts.by_state[HoldingState.DELETED],
            quarantined=vault.quarantined(),
            pending_changes=len(parts.policies.book.pending),
            replicas=self.replicas(),
        )
        try:
            space, facts = vault.store.space(), parts.expiry.facts(snapshots=False)
        except EarwitnessError as error:  # absent says so, and with it this
            if not answer.ailments:
                answer.ailments.add(name=error.reason, message=error.message, alarm=True)
            return answer
        answer.free_bytes, answer.total_bytes = space.free, space.total
        found = forecast(vault, facts, space.free)
        answer.forecast.CopyFrom(
            pb.Forecast(
                daily_bytes=found.daily_bytes,
                days_measured=found.days_measured,
                expiring_bytes=found.expiring_bytes,
                days_until_full=found.days_until_full,
            )
        )
        answer.buckets.CopyFrom(_counts(facts))
        return answer

    def replicas(self) -> list[pb.Replica]:
        """Copies elsewhere, and how far they have followed."""
        vault = self._vault
        return [pb.Replica(name=name, confirmed=vault.confirmed.get(name, 0)) for name in vault.replicas]

    def ListCopies(
        self, request: pb.ListCopiesRequest, context: grpc.ServicerContext
    ) -> pb.ListCopiesResponse:
        """See retention.proto."""
        return pb.ListCopiesResponse(copies=map(copy_message, self._vault.keystore.copies()))

    def ForgetCopy(
        self, request: pb.ForgetCopyRequest, context: grpc.ServicerContext
    ) -> pb.ForgetCopyResponse:
        """See retention.proto."""
        keystore = self._vault.keystore
        if request.validate_only:
            known = {copy.id: copy for copy in keystore.copies()}
            if request.copy_id not in known:
                raise KeystoreCopyUnknownError("the keystore lists no such copy", copy=request.copy_id)
            if known[request.copy_id].present:
                raise KeystoreCopyPresentError("this copy is there", copy=request.copy_id)
        else:
            keystore.forget_copy(request.copy_id)
        return pb.ForgetCopyResponse(copies=map(copy_message, keystore.copies()))

    def GetUsage(self, request: pb.GetUsageRequest, context: grpc.ServicerContext) -> pb.GetUsageResponse:
        """See retention.proto."""
        found = self._vault.store.usage(request.tenant_id)
        return pb.GetUsageResponse(used_bytes=found.used, quota_bytes=found.quota)

    def SetQuota(self, request: pb.SetQuotaRequest, context: grpc.ServicerContext) -> pb.SetQuotaResponse:
        """See retention.proto."""
        if request.quota_bytes < 0:
            raise InvalidError("a quota is not negative", field="quota_bytes")
        self._vault.store.set_quota(request.tenant_id, request.quota_bytes)
        found = self._vault.store.usage(request.tenant_id)
        return pb.SetQuotaResponse(used_bytes=found.used, quota_bytes=found.quota)


def _due(rules: Rules, found: BucketFacts) -> int:
    name = found.bucket
    return 0 if name.of_hold else rules.due(name.tenant_id, name.line_id, name.slice)


def _counts(facts: Facts) -> pb.BucketCounts:
    states = Counter(found.state.value for found in facts.buckets)
    return pb.BucketCounts(
        open=states["open"],
        locked=states["locked"],
        absent=states["absent"],
        of_holds=sum(found.bucket.of_hold for found in facts.buckets),
        expiring=len({each.bucket for each in upcoming(facts, MEASURED_DAYS)}),
    )
