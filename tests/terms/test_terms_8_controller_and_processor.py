"""Clause 8: the client is controller, the provider processor; loss, damage, destruction, unlawful use are guarded against.

The promise: per-client keys; sealed, signed recordings; tamper-evident audit; a read that cannot be audited does not
happen; a processing record and a data-protection annex from the actual configuration.
"""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.audit.errors import AuditUnavailableError
from earwitness.v1 import audit_pb2, documents_pb2, evidence_pb2, keys_pb2, recordings_pb2, tenants_pb2
from earwitness.verify import BoxKeys, Evidence, verify_file
from earwitness.verify.notes import VerifierKey, open_checkpoint
from earwitness.verify.proofs import consistent, included, leaf_hash

PURPOSE = "quality"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def home(box) -> str:
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def name(box, sealing, home) -> str:
    made = sealing(*box.default_line())
    box.filed(box.vault.file(made))
    return f"{home}/recordings/{made.info.recording_id}"


def read(client, name: str) -> bytes:
    request = recordings_pb2.DownloadRecordingRequest(name=name, format=earwitness.SEALED, purpose=PURPOSE)
    return b"".join(item.chunk.data for item in client.recordings.DownloadRecording(request))


def entries(client, home: str, filter: str = "") -> list[dict]:
    request = audit_pb2.ListAuditEntriesRequest(parent=home, filter=filter, page_size=1000)
    return [json.loads(one.line) for one in client.audit.ListAuditEntries(request).audit_entries]


def test_each_client_has_keys_of_its_own(box, home):
    client = box.client()
    made = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Another"))
    ).tenant
    routing = json.loads(box.layout.routing.read_text("utf-8"))
    keys = {one["tenant_id"]: one["public_key"] for one in routing["tenants"]}
    assert keys[home[8:]] != keys[made.name[8:]]


def test_a_read_stands_in_the_log_before_the_first_byte(box, name, home, monkeypatch):
    client = box.client()
    read(client, name)
    auditor = box.enroll("auditor", Role.AUDITOR, tenant_id=home[8:])

    def found() -> list[dict]:
        return [one for one in entries(auditor, home, "method:DownloadRecording") if one["subject"] == name]

    (asked,) = (one for one in box.wait(found) if one["what"] == "asked")
    assert (asked["who"], asked["purpose"], asked["tenant"]) == ("admin", PURPOSE, home[8:])


def test_a_read_that_cannot_be_audited_does_not_happen(box, name, monkeypatch):
    client = box.client()
    assert read(client, name)
    leased = len(box.vault.leases)

    def full(*args, **kwargs):
        raise AuditUnavailableError("the audit log cannot be written")

    monkeypatch.setattr(box.control.trail.log, "submit", full)
    assert refused(lambda: read(client, name)).reason == "AUDIT_UNAVAILABLE"
    listing = recordings_pb2.ListRecordingsRequest(parent="tenants/-")
    assert refused(lambda: client.recordings.ListRecordings(listing)).reason == "AUDIT_UNAVAILABLE"
    assert len(box.vault.leases) == leased, "no key was given out"


def test_the_log_proves_itself_to_an_outsider(box, name, home):
    client = box.client()
    first = client.audit.GetCheckpoint(audit_pb2.GetCheckpointRequest())
    key = VerifierKey.parse(first.verifier_key)
    before = open_checkpoint(first.checkpoint.note, key)
    read(client, name)
    after = open_checkpoint(client.audit.GetCheckpoint(audit_pb2.GetCheckpointRequest()).checkpoint.note, key)
    assert after.size > before.size
    grown = client.audit.GetConsistencyProof(
        audit_pb2.GetConsistencyProofRequest(first_size=before.size, second_size=after.size)
    )
    assert consistent(before.size, before.root, after.size, after.root, list(grown.hashes))
    request = audit_pb2.ListAuditEntriesRequest(parent=home, filter="method:DownloadRecording")
    entry = box.wait(lambda: client.audit.ListAuditEntries(request).audit_entries)[-1]
    proof = client.audit.GetInclusionProof(
        audit_pb2.GetInclusionProofRequest(index=entry.index, tree_size=after.size)
    )
    assert included(leaf_hash(entry.line), entry.index, after.size, list(proof.hashes), after.root)
    assert not included(
        leaf_hash(entry.line.replace(b"admin", b"nobody")),
        entry.index,
        after.size,
        list(proof.hashes),
        after.root,
    )


def test_a_recording_is_sealed_signed_and_verified_without_the_box(box, name, tmp_path):
    client = box.client()
    path = tmp_path / "one.sealed"
    path.write_bytes(read(client, name))

    def evidence() -> str:
        try:
            return client.evidence.GetEvidence(evidence_pb2.GetEvidenceRequest(name=name)).evidence
        except grpc.RpcError:
            return ""

    found = Evidence.parse(box.wait(evidence))
    keys = BoxKeys.parse(client.evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest()).keys)
    assert verify_file(path, keys, found).word == "INTACT"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert verify_file(path, keys, found).word == "DAMAGED"


def test_the_auditor_sees_the_own_tenant_and_hears_nothing(box, name, home):
    box.client()
    auditor = box.enroll("auditor", Role.AUDITOR, tenant_id=home[8:])
    other = (
        box.client()
        .tenants.CreateTenant(
            tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Another"))
        )
        .tenant.name
    )
    box.client().tenants.GetTenant(tenants_pb2.GetTenantRequest(name=other))
    assert refused(lambda: read(auditor, name)).reason == "METHOD_DENIED"
    box.wait(lambda: entries(auditor, home))
    assert {one["tenant"] for one in entries(auditor, "tenants/-")} <= {home[8:], "-"}


@pytest.mark.parametrize(
    "kind", [documents_pb2.DOCUMENT_KIND_PROCESSING_RECORD, documents_pb2.DOCUMENT_KIND_PROTECTION_ANNEX]
)
def test_record_and_annex_say_what_is_in_force(box, home, kind):
    """They follow the configuration; what the box does not know they do not invent."""
    client = box.client()

    def made() -> str:
        request = documents_pb2.GenerateDocumentRequest(
            parent=home, kind=kind, format=documents_pb2.DOCUMENT_FORMAT_MARKDOWN
        )
        return b"".join(one.data for one in client.documents.GenerateDocument(request)).decode()

    before = made()
    assert "automatic: the box opens them by itself" in before and "to be filled in by hand" in before
    client.keys.SetKeyMode(
        keys_pb2.SetKeyModeRequest(
            name=f"{home}/keys", mode=keys_pb2.KEY_MODE_ATTENDED, passphrase="correct horse battery staple"
        )
    )
    line = tenants_pb2.Line(display_name="Ward 7 intake", numbers=["+441632960555"])
    client.tenants.CreateLine(tenants_pb2.CreateLineRequest(parent=home, line=line))
    after = made()
    assert "attended: under a passphrase of the tenant's own" in after
    assert "Ward 7 intake" in after and "Ward 7 intake" not in before
    assert "1632960555" not in after, "numbers are counted, not listed"
