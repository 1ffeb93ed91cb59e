"""BoxService: the vault at a glance, its buckets, a check of what is stored, copies of the keystore, quotas."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from google.protobuf.message import Message

from appliance.access.identities import Role
from appliance.api import names, retentionconvert
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.catalog import tenants
from appliance.model import is_id
from appliance.process.rpc import ANSWER_LIMIT
from earwitness.internal.v1 import replicas_pb2 as replicas
from earwitness.internal.v1 import retention_pb2 as vault
from earwitness.v1 import box_pb2 as pb

MOST_BUCKETS: Final = 1000
_REPLICA = re.compile(r"[a-z0-9]{1,32}")


class VaultView:
    """The vault's half of BoxService."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def GetVault(self, request: pb.GetVaultRequest, context: Any) -> pb.GetVaultResponse:
        vault_ = _vault(await self.parts.retention.overview())
        for hold in vault_.legal_holds:
            _veil(hold, "title", "reason", "owner", "releaser", "release_reason")
        return pb.GetVaultResponse(vault=vault_)

    async def ListBuckets(self, request: pb.ListBucketsRequest, context: Any) -> pb.ListBucketsResponse:
        tenant_id = names.parent(request.parent)
        page = Page(self.parts, "ListBuckets", request, (str, str, str))
        size = page.size
        after: tuple[str, ...] = page.after or ()
        answer = pb.ListBucketsResponse()
        last: tuple[str, ...] = ()
        left = ANSWER_LIMIT
        async with aclosing(self.parts.retention.buckets(tenant_id or "")) as buckets:
            async for found in buckets:
                place = (found.bucket.tenant_id, found.bucket.line_id, found.bucket.slice)
                if place <= after:
                    continue
                made = retentionconvert.bucket(found)
                for hold in (one for snapshot in made.snapshots for one in snapshot.holds if one.legal_hold):
                    _veil(hold, "owner", "reason")
                left -= made.ByteSize()
                if len(answer.buckets) == size or (answer.buckets and left < 0):
                    answer.next_page_token = page.token(*last)
                    break
                answer.buckets.append(made)
                last = place
        return answer

    async def VerifyVault(
        self, request: pb.VerifyVaultRequest, context: Any
    ) -> AsyncIterator[pb.VerifyVaultResponse]:
        tenant_id = names.parent(request.parent)
        if request.sample_size < 0:
            raise FieldInvalidError("should not be negative", field="sample_size")
        async with aclosing(self.parts.retention.verify(request.sample_size, tenant_id or "")) as steps:
            async for step in steps:
                match step.WhichOneof("item"):
                    case "finding":
                        yield pb.VerifyVaultResponse(finding=retentionconvert.finding(step.finding))
                    case "progress":
                        yield pb.VerifyVaultResponse(progress=retentionconvert.verification(step.progress))
                    case _:
                        yield pb.VerifyVaultResponse(totals=retentionconvert.verification(step.totals))

    async def RestoreFromReplica(
        self, request: pb.RestoreFromReplicaRequest, context: Any
    ) -> AsyncIterator[pb.RestoreFromReplicaResponse]:
        if not _REPLICA.fullmatch(request.replica):
            raise FieldInvalidError("should be 1 to 32 lower-case letters and digits", field="replica")
        if len(request.buckets) > MOST_BUCKETS:
            raise FieldInvalidError(f"at most {MOST_BUCKETS} at once", field="buckets")
        buckets = [names.bucket_parts(one, "buckets") for one in request.buckets]
        asked = replicas.RestoreBucketsRequest(
            replica=request.replica,
            buckets=[
                vault.Bucket(tenant_id=one.tenant_id, line_id=one.line_id, slice=one.slice) for one in buckets
            ],
            validate_only=request.validate_only,
        )
        async with aclosing(self.parts.retention.restore(asked)) as steps:
            async for step in steps:
                if step.HasField("progress"):
                    progress = retentionconvert.restoration_progress(step.progress)
                    yield pb.RestoreFromReplicaResponse(progress=progress)
                else:
                    yield pb.RestoreFromReplicaResponse(totals=retentionconvert.restoration(step.totals))

    async def ForgetKeystoreCopy(
        self, request: pb.ForgetKeystoreCopyRequest, context: Any
    ) -> pb.ForgetKeystoreCopyResponse:
        if not is_id(request.copy_id):
            raise FieldInvalidError("should be the id of a copy", field="copy_id")

        async def act(note: Note) -> str:
            await self.parts.retention.forget_copy(request.copy_id, validate_only=request.validate_only)
            if not request.validate_only:
                await self.parts.store.write(lambda connection: note(connection, request.copy_id))
            return request.copy_id

        await self.parts.once("ForgetKeystoreCopy", request, act)
        left = retentionconvert.copies(await self.parts.retention.copies())
        return pb.ForgetKeystoreCopyResponse(keystore_copies=left)

    async def GetTenantStorage(
        self, request: pb.GetTenantStorageRequest, context: Any
    ) -> pb.GetTenantStorageResponse:
        return pb.GetTenantStorageResponse(storage=await self._storage(await self._tenant(request.name)))

    async def SetTenantQuota(
        self, request: pb.SetTenantQuotaRequest, context: Any
    ) -> pb.SetTenantQuotaResponse:
        tenant_id = await self._tenant(request.name)
        if request.quota_bytes < 0:
            raise FieldInvalidError("should not be negative", field="quota_bytes")

        async def act(note: Note) -> str:
            if not request.validate_only:
                await self.parts.retention.set_quota(tenant_id, request.quota_bytes)
                await self.parts.store.write(lambda connection: note(connection, tenant_id))
            return tenant_id

        await self.parts.once("SetTenantQuota", request, act)
        return pb.SetTenantQuotaResponse(storage=await self._storage(tenant_id))

    async def _tenant(self, name: str) -> str:
        tenant_id = names.one_tenant(name)
        await self.parts.store.read(lambda connection: tenants.get_tenant(connection, tenant_id))
        return tenant_id

    async def _storage(self, tenant_id: str) -> pb.TenantStorage:
        found = await self.parts.retention.usage(tenant_id)
        return pb.TenantStorage(used_bytes=found.used_bytes, quota_bytes=found.quota_bytes)


def _veil(hold: Message, *fields: str) -> None:
    """That there is a legal hold is seen by those who run the box; what it is about is the tenant's."""
    if Role.RECORDS_OFFICER not in caller().roles:
        for field in fields:
            hold.ClearField(field)


def _vault(found: vault.GetOverviewResponse) -> pb.Vault:
    made = pb.Vault(
        backend=found.backend,
        ailments=[
            pb.Ailment(
                type=one.name,
                severity=pb.SEVERITY_ALARM if one.alarm else pb.SEVERITY_WARNING,
                message=one.message,
            )
            for one in found.ailments
        ],
        free_bytes=found.free_bytes if found.HasField("free_bytes") else None,
        total_bytes=found.total_bytes if found.HasField("total_bytes") else None,
        stored_bytes=found.stored_bytes,
        filed_count=found.filed,
        deleted_count=found.deleted,
        quarantined_count=found.quarantined,
        legal_holds=map(retentionconvert.hold, found.holds),
        legal_hold_count=found.hold_count,
        last_shred_time=retentionconvert.time(found.last_shred_ns),
        epoch=found.epoch,
        keystore_copies=retentionconvert.copies(found.copies),
        retention_clock=retentionconvert.clock(found.clock),
        last_run=retentionconvert.run(found.last_run) if found.HasField("last_run") else None,
        pending_change_count=found.pending_changes,
        replicas=[
            pb.ReplicaStatus(replica=one.name, confirmed_number=one.confirmed) for one in found.replicas
        ],
    )
    if found.HasField("forecast"):
        forecast = found.forecast
        made.forecast.CopyFrom(
            pb.SpaceForecast(
                daily_bytes=forecast.daily_bytes,
                measured_days=forecast.days_measured,
                expiring_bytes=forecast.expiring_bytes,
                days_until_full=forecast.days_until_full if forecast.HasField("days_until_full") else None,
            )
        )
    if found.HasField("buckets"):
        counts = found.buckets
        made.buckets.CopyFrom(
            pb.BucketCounts(
                open_count=counts.open,
                locked_count=counts.locked,
                absent_count=counts.absent,
                hold_count=counts.of_holds,
                expiring_count=counts.expiring,
            )
        )
    return made
