"""AuditService from outside: who sees which entries, proofs that hold, an export that verifies offline."""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.access import identities, pki
from appliance.access.identities import Role
from appliance.audit import tree
from appliance.audit.note import Verifier, open_note
from appliance.model import new_id
from earwitness.v1 import audit_pb2 as pb
from earwitness.v1 import tenants_pb2
from earwitness.verify.log import VerifierKey, verify

LIST = tenants_pb2.ListTenantsRequest()


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def listed(client, parent: str = "tenants/-", **fields) -> list[pb.AuditEntry]:
    return list(
        client.audit.ListAuditEntries(pb.ListAuditEntriesRequest(parent=parent, **fields)).audit_entries
    )


def of_tenant(box, name: str, tenant_id: str, *roles: Role) -> earwitness.Client:
    """A client of one tenant."""
    issued = pki.issue(box.layout, name)
    box.write(lambda connection: identities.enroll(connection, issued, roles, 1, tenant_id=tenant_id))
    return box.client(name)


@pytest.fixture
def two(box) -> tuple[str, str]:
    """Two tenants, the admin having looked at each."""
    client = box.client()
    first, _ = box.default_line()
    made = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    )
    second = made.tenant.name.rpartition("/")[2]
    for one in (first, second):
        client.tenants.GetTenant(tenants_pb2.GetTenantRequest(name=f"tenants/{one}"))
    return first, second


def test_entries_newest_first_in_stable_pages(box, two):
    client = box.client()
    request = pb.ListAuditEntriesRequest(parent="tenants/-", page_size=3)
    found: list[pb.AuditEntry] = []
    while True:
        answer = client.audit.ListAuditEntries(request)
        found += answer.audit_entries
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
        client.tenants.ListTenants(LIST)  # more come meanwhile
    numbers = [one.index for one in found]
    assert numbers == list(range(numbers[0], -1, -1)), "each once, none that came later"
    entry = next(one for one in found if one.method.endswith("CreateTenant") and one.what == "asked")
    assert json.loads(entry.line)["who"] == entry.who == "admin" and "operator" in entry.roles
    assert entry.leaf_hash == tree.leaf_hash(entry.line)
    wrong = pb.ListAuditEntriesRequest(parent="tenants/-", page_token=request.page_token, filter="who=x")
    assert refused(lambda: client.audit.ListAuditEntries(wrong)).reason == "PAGE_TOKEN_INVALID"


def test_filters(box, two):
    client = box.client()
    _, second = two

    end = client.audit.GetCheckpoint(pb.GetCheckpointRequest()).checkpoint.size

    def count(text: str) -> int:
        return len(listed(client, filter=f"({text}) index < {end}", page_size=1000))

    assert count("method:GetTenant what=asked") == count(
        "method=/earwitness.v1.TenantsService/GetTenant what=asked"
    )
    assert count(f"subject=tenants/{second} what=asked") == count(f"subject:tenants/{second} what=asked") == 1
    assert count("who=admin") == count("role:OPERATOR") > 4 and count("role:AUDITOR") == 0
    assert count("who!=admin method:CreateTenant") == 0
    assert count("time >= 2020-01-01 index < 2") == 2 and count("time < 2020-01-01") == 0
    assert count("outcome=OK NOT what=done") == 0
    assert refused(lambda: listed(client, filter="party.number=5")).reason == "FILTER_INVALID"
    assert refused(lambda: listed(client, filter="who>x")).reason == "FILTER_INVALID"
    assert refused(lambda: listed(client, page_size=-1)).reason == "FIELD_INVALID"


def test_a_tenants_auditor_sees_what_concerns_the_tenant(box, two):
    first, second = two
    auditor = of_tenant(box, "auditor", first, Role.AUDITOR)
    box.client().tenants.ListTenants(LIST)
    for parent in ("tenants/-", f"tenants/{first}"):
        found = listed(auditor, parent)
        assert {one.tenant for one in found} <= {f"tenants/{first}", "tenants/-"}
        assert any(one.who == "admin" and one.subject == f"tenants/{first}" for one in found)
        assert not any(second in str(one.line) for one in found)
    assert refused(lambda: auditor.audit.GetAuditStatus(pb.GetAuditStatusRequest())).reason == "METHOD_DENIED"
    foreign = listed(auditor, f"tenants/{second}"), listed(auditor, f"tenants/{new_id()}")
    assert foreign[0] == foreign[1] or all(not one.tenant.endswith(second) for one in foreign[0])
    # Who is of a tenant and names another's thing stands in the own tenant's audit alone.
    refused(lambda: auditor.tenants.GetTenant(tenants_pb2.GetTenantRequest(name=f"tenants/{second}")))
    other = of_tenant(box, "elsewhere", second, Role.AUDITOR)
    assert not any(one.who.endswith("auditor") for one in listed(other))
    assert any(
        one.who == f"{first}/auditor" and one.subject == f"tenants/{second}" for one in listed(auditor)
    )


def test_who_may(box, two):
    first, _ = two
    agent = of_tenant(box, "agent", first, Role.AGENT)
    officer = of_tenant(box, "officer", first, Role.RECORDS_OFFICER)
    integration = box.enroll("ris", Role.INTEGRATION)
    assert refused(lambda: listed(agent)).reason == "METHOD_DENIED"
    assert listed(officer)
    assert refused(
        lambda: list(officer.audit.ExportAudit(pb.ExportAuditRequest(parent="tenants/-")))
    ).reason == ("METHOD_DENIED")
    assert refused(lambda: listed(integration)).reason == "METHOD_DENIED"
    assert integration.audit.GetCheckpoint(pb.GetCheckpointRequest()).checkpoint.size > 0


def test_what_is_named_without_its_tenant_concerns_its_owner(box, two):
    tenant, line = box.default_line()
    box.client().tenants.GetLine(tenants_pb2.GetLineRequest(name=f"tenants/-/lines/{line}"))
    box.client().tenants.ListLines(tenants_pb2.ListLinesRequest(parent="tenants/-"))
    box.client().tenants.ListTenants(LIST)
    found = {
        (one.method.rpartition("/")[2], one.tenant) for one in listed(box.client()) if one.what == "asked"
    }
    assert {("GetLine", f"tenants/{tenant}"), ("ListLines", "tenants/-"), ("ListTenants", "")} <= found


def test_proofs_hold_under_the_checkpoint(box, two):
    client = box.client()
    first = client.audit.GetCheckpoint(pb.GetCheckpointRequest())
    text, _ = open_note(first.checkpoint.note, [Verifier.parse(first.verifier_key)])
    assert text.split("\n")[0] == first.checkpoint.origin
    client.tenants.ListTenants(LIST)
    second = client.audit.GetCheckpoint(pb.GetCheckpointRequest()).checkpoint
    assert second.size > first.checkpoint.size
    entry = listed(client)[-1]
    proof = client.audit.GetInclusionProof(
        pb.GetInclusionProofRequest(index=entry.index, tree_size=second.size)
    )
    tree.verify_inclusion(entry.index, second.size, entry.leaf_hash, proof.hashes, second.root_hash)
    chain = client.audit.GetConsistencyProof(
        pb.GetConsistencyProofRequest(first_size=first.checkpoint.size, second_size=second.size)
    )
    tree.verify_consistency(
        first.checkpoint.size, second.size, chain.hashes, first.checkpoint.root_hash, second.root_hash
    )
    kept = client.audit.ListCheckpoints(pb.ListCheckpointsRequest(page_size=2))
    assert kept.checkpoints[0] == second and kept.next_page_token
    rest = client.audit.ListCheckpoints(
        pb.ListCheckpointsRequest(page_size=2, page_token=kept.next_page_token)
    )
    assert rest.checkpoints and rest.checkpoints[-1].size == 0 and not rest.next_page_token
    for request in (
        pb.GetInclusionProofRequest(index=-1),
        pb.GetInclusionProofRequest(index=2**62),
        pb.GetInclusionProofRequest(tree_size=2**62),
        pb.GetInclusionProofRequest(tree_size=-5),
    ):
        found = refused(lambda request=request: client.audit.GetInclusionProof(request))
        assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "AUDIT_TREE_SIZE_INVALID")
    for sizes in ((-1, 5), (5, 4), (1, 2**62)):
        request = pb.GetConsistencyProofRequest(first_size=sizes[0], second_size=sizes[1])
        found = refused(lambda request=request: client.audit.GetConsistencyProof(request))
        assert found.reason == "AUDIT_TREE_SIZE_INVALID"


def written(client, folder, parent: str = "tenants/-", start: int = 0) -> pb.AuditExportHeader:
    """An export as files, as docs/audit.md has them."""
    folder.mkdir()
    header = None
    lines, leaves, notes = [], b"", []
    for part in client.audit.ExportAudit(pb.ExportAuditRequest(parent=parent, start_index=start)):
        if part.HasField("header"):
            header = part.header
        lines += part.batch.lines
        leaves += part.batch.leaf_hashes
        notes += [json.dumps({"time_ns": 0, "note": one.note}) for one in part.checkpoints.checkpoints]
    (folder / "entries-000001.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "leaves-1").write_bytes(leaves)
    (folder / "checkpoints.jsonl").write_text("".join(note + "\n" for note in notes))
    about = {"origin": header.origin, "tenant": header.tenant, "size": header.size, "start_index": start}
    (folder / "export.json").write_text(json.dumps(about))
    assert len(lines) == header.size and len(leaves) == 32 * header.size
    return header


def test_an_export_verifies_offline(box, two, tmp_path):
    first, second = two
    header = written(box.client(), tmp_path / "all")
    key = VerifierKey.parse(header.verifier_key)
    report = verify(tmp_path / "all", [key])
    assert report.whole and (report.size, report.newest, report.withheld) == (header.size, header.size, 0)
    auditor = of_tenant(box, "auditor", first, Role.AUDITOR)
    written(auditor, tmp_path / "own")
    report = verify(tmp_path / "own", [key])
    assert report.whole and report.withheld > 0
    text = (tmp_path / "own" / "entries-000001.jsonl").read_text()
    assert f"tenants/{first}" in text and second not in text
    written(box.client(), tmp_path / "late", start=5)
    report = verify(tmp_path / "late", [key])
    assert report.whole and report.withheld == 5
    path = tmp_path / "own" / "entries-000001.jsonl"
    path.write_text(text.replace('"who":"admin"', '"who":"nobody"', 1))
    assert {one.kind for one in verify(tmp_path / "own", [key]).findings} == {"changed"}
    wrong = pb.ExportAuditRequest(parent="tenants/-", start_index=10**9)
    assert refused(lambda: list(box.client().audit.ExportAudit(wrong))).reason == "FIELD_INVALID"


def test_a_watch_goes_on_where_it_was(box, two):
    client = box.client()
    stream = client.audit.WatchAuditEntries(
        pb.WatchAuditEntriesRequest(parent="tenants/-", filter="method:GetTenant what=asked")
    )
    token = next(stream).resume_token
    names = [f"tenants/{one}" for one in two]
    for name in names:
        client.tenants.GetTenant(tenants_pb2.GetTenantRequest(name=name))
    seen = []
    for message in stream:
        if message.HasField("audit_entry"):
            seen.append(message)
            if len(seen) == 2:
                break
    stream.cancel()
    assert [one.audit_entry.subject for one in seen] == names
    for given, want in ((seen[0].resume_token, names[1:]), (token, names)):
        again = client.audit.WatchAuditEntries(
            pb.WatchAuditEntriesRequest(
                parent="tenants/-", filter="method:GetTenant what=asked", resume_token=given
            )
        )
        found = []
        for message in again:
            if message.HasField("audit_entry"):
                found.append(message.audit_entry.subject)
                if len(found) == len(want):
                    break
        again.cancel()
        assert found == want
    both = pb.WatchAuditEntriesRequest(parent="tenants/-", resume_token=token, from_oldest=True)
    assert refused(lambda: list(client.audit.WatchAuditEntries(both))).reason == "FIELD_INVALID"
    wrong = pb.WatchAuditEntriesRequest(parent="tenants/-", resume_token="x")
    assert refused(lambda: list(client.audit.WatchAuditEntries(wrong))).reason == "RESUME_TOKEN_INVALID"


def test_watches_of_the_audit_end_when_the_box_stops(box):
    stream = box.client().audit.WatchAuditEntries(
        pb.WatchAuditEntriesRequest(parent="tenants/-", from_oldest=True)
    )
    next(stream)
    box.run(box.control.stop())
    assert refused(lambda: list(stream)).reason == "SHUTTING_DOWN"
    box.control = None


def test_refused_calls_are_written_up_to_a_rate_and_then_counted(box):
    refusals = box.control._refusals
    refusals._per_second = 0.0
    pki.issue(box.layout, "stranger")
    stranger = box.client("stranger")
    for _ in range(150):
        assert refused(lambda: stranger.tenants.ListTenants(LIST)).reason == "CERTIFICATE_UNKNOWN"

    def known() -> list[dict]:
        return [one for one in box.audited() if one.get("outcome") == "CERTIFICATE_UNKNOWN"]

    # A refusal is written down, or counted, after its answer.
    box.wait(lambda: len(known()) + refusals.total_unwritten == 150)
    assert len(known()) == 100 and all(one["who"] == "" for one in known())
    box.run(box.control.trail.tell(refusals))
    said = [one["count"] for one in box.audited() if one["what"] == "refused"]
    assert sum(said) == refusals.total_unwritten
    status = box.client().audit.GetAuditStatus(pb.GetAuditStatusRequest())
    assert status.unwritten_refusals == sum(said) and status.generation == 1
    assert status.size >= status.signed_size and status.size_bytes > 0


def test_the_index_is_made_anew(box, two):
    before = [one.index for one in listed(box.client(), page_size=1000)]
    box.stop()
    for one in (box.layout.control / "audit").glob("index.db*"):
        one.unlink()
    (box.layout.control / "audit" / "index.db").write_bytes(b"no database at all" * 100)
    box.start()
    assert [one.index for one in listed(box.client(), page_size=1000)][-len(before) :] == before


def test_an_entry_that_was_changed_on_disk_is_not_shown_as_true(box, two):
    client = box.client()
    listed(client)
    path = box.layout.control / "audit" / "entries-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"who":"admin"', b'"who":"nobod"', 1))
    found = refused(lambda: listed(client, page_size=1000))
    assert (found.code, found.reason) == (grpc.StatusCode.DATA_LOSS, "AUDIT_ENTRY_DAMAGED")
