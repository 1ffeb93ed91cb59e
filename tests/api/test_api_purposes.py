"""Purposes of tenants: what every tenant begins with, what can be changed, and what prompts and lines may state."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.api.purposes import month_ns
from appliance.media.audio.encode import wav_header
from appliance.model import new_id
from appliance.model.purpose import SEEDS
from appliance.model.routing import RoutingTable
from earwitness.v1 import prompts_pb2, tenants_pb2
from earwitness.v1 import purposes_pb2 as pb


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def home(box):
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def client(box, home):
    return box.client()


def listed(client, parent, **how) -> list[pb.Purpose]:
    return list(client.purposes.ListPurposes(pb.ListPurposesRequest(parent=parent, **how)).purposes)


def ids(some) -> list[str]:
    return [one.name.rsplit("/", 1)[1] for one in some]


def create(client, parent, purpose_id="research", how=None, **fields) -> pb.Purpose:
    purpose = pb.Purpose(**{"display_name": "Research", "legal_basis": "UK GDPR Art. 9(2)(j)", **fields})
    request = pb.CreatePurposeRequest(parent=parent, purpose_id=purpose_id, purpose=purpose, **(how or {}))
    return client.purposes.CreatePurpose(request).purpose


def archive(client, name, **how) -> pb.Purpose:
    return client.purposes.ArchivePurpose(pb.ArchivePurposeRequest(name=name, **how)).purpose


def test_every_tenant_begins_with_the_regulations_purposes(box, home, client):
    request = tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="New"))
    new = client.tenants.CreateTenant(request).tenant.name
    for parent in (home, new):
        found = listed(client, parent)
        assert ids(found) == [one[0] for one in SEEDS]
        assert all(one.seeded and one.legal_basis for one in found)
    evidence = listed(client, home)[0]
    assert "SI 2018/356 reg. 3(2)(a)" in evidence.legal_basis
    samples = client.prompts.ListPrompts(prompts_pb2.ListPromptsRequest()).prompts
    assert {purpose for one in samples for purpose in one.purposes} <= {one[0] for one in SEEDS}


def test_pages(client, home):
    some, request = [], pb.ListPurposesRequest(parent=home, page_size=4)
    while True:
        answer = client.purposes.ListPurposes(request)
        some += answer.purposes
        if not answer.next_page_token:
            break
        assert len(answer.purposes) == 4
        request.page_token = answer.next_page_token
    assert some == listed(client, home)


def test_a_purpose_is_made_changed_and_archived_with_its_versions(box, home, client):
    made = create(client, home)
    assert made.name == f"{home}/purposes/research" and not made.seeded
    update = pb.UpdatePurposeRequest(
        purpose=pb.Purpose(name=made.name, display_name="Clinical research", etag=made.etag)
    )
    dry = pb.UpdatePurposeRequest(validate_only=True)
    dry.MergeFrom(update)
    told = client.purposes.UpdatePurpose(dry)
    assert [(one.path, one.before, one.after) for one in told.changes] == [
        ("display_name", "Research", "Clinical research")
    ]
    assert made in listed(client, home), "nothing changed"
    changed = client.purposes.UpdatePurpose(update)
    assert changed.changes == told.changes and changed.purpose.display_name == "Clinical research"
    assert refused(lambda: client.purposes.UpdatePurpose(update)).reason == "ETAG_MISMATCH"

    archived = archive(client, made.name)
    assert archived.HasField("archive_time") and archive(client, made.name) == archived
    assert "research" not in ids(listed(client, home))
    assert "research" in ids(listed(client, home, show_archived=True))
    assert refused(lambda: create(client, home)).reason == "PURPOSE_EXISTS"

    versions = client.purposes.ListPurposeVersions(pb.ListPurposeVersionsRequest(parent=made.name)).versions
    assert [one.version for one in versions] == [3, 2, 1]
    assert {one.actor for one in versions} == {"admin"}
    assert [change.path for change in versions[0].changes] == ["archive_time"]
    assert [change.after for change in versions[1].changes] == ["Clinical research"]
    entry = next(one for one in box.audited() if str(one.get("method")).endswith("/ArchivePurpose"))
    assert entry["subject"] == made.name


def test_request_ids_and_validate_only(client, home):
    first = create(client, home, how={"request_id": "r1"})
    assert create(client, home, how={"request_id": "r1"}) == first
    assert refused(lambda: create(client, home, "other", how={"request_id": "r1"})).reason == (
        "REQUEST_ID_REUSED"
    )
    dry = create(client, home, "dry", how={"validate_only": True})
    assert dry.display_name == "Research" and not dry.etag
    assert "dry" not in ids(listed(client, home))
    archive(client, first.name, validate_only=True)
    assert "research" in ids(listed(client, home))


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("purpose_id", "fields", "field"),
    [
        ("", {}, "purpose_id"),
        ("Upper", {}, "purpose_id"),
        ("-x", {}, "purpose_id"),
        ("x" * 41, {}, "purpose_id"),
        ("ok", {"display_name": ""}, "purpose.display_name"),
        ("ok", {"display_name": "x" * 101}, "purpose.display_name"),
        ("ok", {"display_name": "a\nb"}, "purpose.display_name"),
        ("ok", {"legal_basis": "x" * 301}, "purpose.legal_basis"),
    ],
)
def test_bad_purposes_name_the_field(client, home, purpose_id, fields, field):
    assert field in refused(lambda: create(client, home, purpose_id, **fields)).fields


def test_a_mask_names_what_can_change(client, home):
    made = create(client, home)
    request = pb.UpdatePurposeRequest(purpose=made, update_mask=FieldMask(paths=["seeded"]))
    assert "update_mask" in refused(lambda: client.purposes.UpdatePurpose(request)).fields


def test_another_tenants_purposes_are_as_none(box, home, client):
    made = create(client, home)
    other = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    ).tenant.name
    stranger = box.enroll("stranger", Role.TENANT_ADMINISTRATOR, tenant_id=other.split("/")[1])
    nothing = f"tenants/{new_id()}/purposes/research"
    for name in (made.name, nothing):
        assert refused(lambda name=name: archive(stranger, name)).reason == "PURPOSE_NOT_FOUND"
    assert refused(lambda: listed(stranger, home)).reason == "TENANT_NOT_FOUND"
    assert refused(lambda: create(stranger, home)).reason == "TENANT_NOT_FOUND"


def prompt(client, parent, purposes) -> prompts_pb2.Prompt:
    pcm = np.random.default_rng(3).standard_normal(8000) * 3000
    audio = wav_header(8000, 1, 8000) + pcm.astype("<i2").tobytes()
    said = prompts_pb2.Prompt(display_name="p", language="cy", text="Recorded.", purposes=purposes)
    request = prompts_pb2.CreatePromptRequest(parent=parent, prompt=said, audio=audio)
    return client.prompts.CreatePrompt(iter([request])).prompt


def test_prompts_and_lines_state_purposes_of_their_tenant_alone(box, home, client):
    unknown = refused(lambda: prompt(client, home, ["training", "marketing"]))
    assert (unknown.reason, [*unknown.fields]) == ("PURPOSE_UNKNOWN", ["prompt.purposes[1]"])
    made = create(client, home)
    line = client.tenants.CreateLine(
        tenants_pb2.CreateLineRequest(
            parent=home, line=tenants_pb2.Line(display_name="x", numbers=["7"], purposes=["research"])
        )
    ).line
    assert list(line.purposes) == ["research"]
    announcing = prompt(client, home, ["research"])
    archive(client, made.name)
    late = refused(lambda: prompt(client, home, ["research"]))
    assert (late.reason, late.data["field"]) == ("PURPOSE_ARCHIVED", "prompt.purposes[0]")
    # What stated it goes on to state it.
    request = tenants_pb2.UpdateLineRequest(line=tenants_pb2.Line(name=line.name, display_name="y"))
    assert list(client.tenants.UpdateLine(request).line.purposes) == ["research"]
    assert list(announcing.purposes) == ["research"]
    for wanted, reason in ((["marketing"], "PURPOSE_UNKNOWN"), (["No Form"], "FIELD_INVALID")):
        bad = tenants_pb2.UpdateLineRequest(line=tenants_pb2.Line(name=line.name, purposes=wanted))
        found = refused(lambda bad=bad: client.tenants.UpdateLine(bad))
        assert (found.reason, [*found.fields]) == (reason, ["line.purposes[0]"])


def test_a_lost_catalogue_gets_its_purposes_back(box, home, client):
    create(client, home)
    archive(client, f"{home}/purposes/crime-prevention")
    before = listed(client, home, show_archived=True)
    table = RoutingTable.model_validate_json(box.layout.routing.read_bytes())
    assert "research" in {one.purpose_id for one in table.purposes}
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    box.wait(lambda: box.control.provisioned.is_set())
    assert listed(box.client(), home, show_archived=True) == before


def test_months_begin_where_the_tenant_is():
    first, after = month_ns(2026, 3, "Europe/London")
    assert (after - first) // (3600 * 10**9) == 31 * 24 - 1, "summer time begins"
    assert month_ns(2026, 12, "")[1] == month_ns(2027, 1, "UTC")[0]
