"""The vault at a glance, its buckets, checks of what is stored, copies of the keystore, quotas."""

from __future__ import annotations

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.model import new_id
from earwitness.internal.v1 import replicas_pb2
from earwitness.internal.v1 import retention_pb2 as vault_pb2
from earwitness.v1 import audit_pb2, retention_pb2
from earwitness.v1 import box_pb2 as pb


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def filed(box, sealing):
    """Names of three recordings in three buckets."""
    tenant, line = box.default_line()
    ids = [box.vault.file(sealing(tenant, line, seconds=0), slice=f"2025-11-2{day}") for day in range(4, 7)]
    for one in ids:
        box.filed(one)
    return [f"tenants/{tenant}/recordings/{one}" for one in ids]


def test_the_vault_at_a_glance(box, filed):
    client = box.client()
    hold = retention_pb2.LegalHold(title="inquiry", reason="asked for", owner="records office")
    request = retention_pb2.CreateLegalHoldRequest(parent=filed[0][:34], legal_hold=hold)
    client.retention.CreateLegalHold(request)
    vault = client.box.GetVault(pb.GetVaultRequest()).vault
    assert (vault.backend, vault.free_bytes, vault.total_bytes, vault.filed_count) == (
        "directory",
        300,
        1000,
        3,
    )
    assert vault.forecast.days_until_full == 40 and vault.buckets.open_count == 3
    assert [(one.owner, one.reason) for one in vault.legal_holds] == [("records office", "asked for")]
    assert [one.present for one in vault.keystore_copies] == [True, False]
    assert vault.retention_clock.time.seconds and not vault.HasField("last_run")
    assert not vault.HasField("last_shred_time") and not vault.ailments
    list(client.retention.RunRetention(retention_pb2.RunRetentionRequest()))
    assert client.box.GetVault(pb.GetVaultRequest()).vault.last_run.name.startswith("retentionRuns/")


def test_buckets(box, filed):
    client = box.client()
    tenant = filed[0].split("/")[1]
    request, found = pb.ListBucketsRequest(parent="tenants/-", page_size=2), []
    while True:
        answer = client.box.ListBuckets(request)
        found += answer.buckets
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert [one.name[-10:] for one in found] == ["2025-11-24", "2025-11-25", "2025-11-26"]
    assert all(one.state == pb.BUCKET_STATE_OPEN and one.filed_count == 1 for one in found)
    assert found[0].expire_time.ToDatetime().date().isoformat() == "2028-11-25"
    assert found[0].snapshots[0].holds[0].owner == "vault"
    assert len(client.box.ListBuckets(pb.ListBucketsRequest(parent=f"tenants/{tenant}")).buckets) == 3
    assert not client.box.ListBuckets(pb.ListBucketsRequest(parent=f"tenants/{new_id()}")).buckets
    assert refused(lambda: client.box.ListBuckets(pb.ListBucketsRequest(parent="x"))).reason == "NAME_INVALID"


def test_everything_stored_is_checked(box, filed):
    client = box.client()

    def verify(**how) -> list[pb.VerifyVaultResponse]:
        return list(client.box.VerifyVault(pb.VerifyVaultRequest(**{"parent": "tenants/-", **how})))

    assert verify()[-1].totals.checked_count == verify()[-1].totals.recording_count == 3
    assert verify()[0].progress.recording_count == 3
    box.vault.retention.findings[filed[1][-26:]] = "FRAME_DAMAGED"
    finding = next(one.finding for one in verify() if one.HasField("finding"))
    assert (finding.recording, finding.code, finding.offset, finding.frame) == (
        filed[1],
        "FRAME_DAMAGED",
        4711,
        3,
    )
    assert finding.bucket.endswith("/buckets/2025-11-25") and verify()[-1].totals.damaged_count == 1
    assert verify(sample_size=2)[-1].totals.checked_count == 2
    assert verify(parent=f"tenants/{new_id()}")[-1].totals.recording_count == 0
    assert refused(lambda: verify(sample_size=-1)).fields.keys() == {"sample_size"}


def test_a_copy_of_the_keystore_is_forgotten_once_it_is_gone(box):
    client = box.client()
    there, gone = (one.id for one in box.vault.retention.copies)

    def forget(copy_id, **how) -> list[str]:
        request = pb.ForgetKeystoreCopyRequest(copy_id=copy_id, **how)
        return [one.copy_id for one in client.box.ForgetKeystoreCopy(request).keystore_copies]

    for dry in (True, False):
        found = refused(lambda dry=dry: forget(there, validate_only=dry))
        assert (found.code, found.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "KEYSTORE_COPY_PRESENT",
        )
        assert refused(lambda dry=dry: forget(new_id(), validate_only=dry)).reason == "KEYSTORE_COPY_UNKNOWN"
    assert forget(gone, validate_only=True) == [there, gone]
    assert forget(gone, request_id="f") == [there] == forget(gone, request_id="f")
    assert refused(lambda: forget("x")).fields.keys() == {"copy_id"}
    assert refused(
        lambda: box.enroll("desk", Role.SUPPORT).box.ForgetKeystoreCopy(
            pb.ForgetKeystoreCopyRequest(copy_id=there)
        )
    ).reason == ("METHOD_DENIED")


def test_recordings_are_brought_back_from_a_replica(box, filed):
    client = box.client()
    tenant = filed[0].split("/")[1]
    (first, *_) = client.box.ListBuckets(pb.ListBucketsRequest(parent="tenants/-")).buckets
    lost = vault_pb2.Bucket(tenant_id=tenant, line_id=first.name.split("/")[3], slice="2025-11-24")
    box.vault.replicas.totals = replicas_pb2.RestoreTotals(
        whole=1,
        merged=2,
        recordings=3,
        sidecars=4,
        erased=5,
        expired=6,
        failures=[
            replicas_pb2.RestoreFailure(bucket=lost, reason="REPLICA_DIVERGED", message="it is another")
        ]
        * 101,
        failed=101,
        missing=8,
    )

    def restore(**how) -> list[pb.RestoreFromReplicaResponse]:
        request = pb.RestoreFromReplicaRequest(**{"replica": "north", **how})
        return list(client.box.RestoreFromReplica(request))

    case = new_id()
    progress, last = restore(
        buckets=[first.name, f"tenants/{tenant}/legalHolds/{case}/bucket"], validate_only=True
    )
    assert (
        progress.progress.done_count,
        progress.progress.bucket_count,
        progress.progress.received_bytes,
    ) == (1, 2, 7)
    totals = last.totals
    assert (totals.whole_count, totals.merged_count, totals.recording_count) == (1, 2, 3)
    assert (totals.sidecar_count, totals.erased_count, totals.expired_count) == (4, 5, 6)
    assert (totals.failure_count, len(totals.failures), totals.missing_count) == (101, 100, 8)
    assert (totals.failures[0].bucket, totals.failures[0].code) == (first.name, "REPLICA_DIVERGED")
    (asked,) = box.vault.replicas.asked
    assert asked.replica == "north" and asked.validate_only
    assert list(asked.buckets) == [lost, vault_pb2.Bucket(tenant_id=tenant, line_id="hold", slice=case)]
    restore()
    assert not box.vault.replicas.asked[-1].validate_only and not box.vault.replicas.asked[-1].buckets
    entries = client.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(parent="tenants/-")
    ).audit_entries
    assert any("RestoreFromReplica" in str(one) for one in entries)
    assert refused(lambda: restore(replica="south")).reason == "REPLICA_UNKNOWN"
    assert refused(lambda: restore(replica="../x")).fields.keys() == {"replica"}
    assert refused(lambda: restore(buckets=[first.name] * 1001)).fields.keys() == {"buckets"}
    for wrong in ("", "tenants/-/lines/x/buckets/2025", first.name + "-9", f"tenants/{tenant}"):
        assert refused(lambda wrong=wrong: restore(buckets=[wrong])).fields.keys() == {"buckets"}
    support = box.enroll("desk", Role.SUPPORT).box
    asks = pb.RestoreFromReplicaRequest(replica="north")
    assert refused(lambda: list(support.RestoreFromReplica(asks))).reason == "METHOD_DENIED"


def test_quotas(box, filed):
    client = box.client()
    name = filed[0][:34]
    before = client.box.GetTenantStorage(pb.GetTenantStorageRequest(name=name)).storage
    assert before.used_bytes > 0 and before.quota_bytes == 0
    request = pb.SetTenantQuotaRequest(name=name, quota_bytes=1 << 30, validate_only=True)
    assert client.box.SetTenantQuota(request).storage == before
    request.validate_only = False
    assert client.box.SetTenantQuota(request).storage.quota_bytes == 1 << 30
    request.quota_bytes = -1
    assert refused(lambda: client.box.SetTenantQuota(request)).fields.keys() == {"quota_bytes"}
    unknown = pb.GetTenantStorageRequest(name=f"tenants/{new_id()}")
    assert refused(lambda: client.box.GetTenantStorage(unknown)).reason == "TENANT_NOT_FOUND"
