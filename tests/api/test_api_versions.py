"""Versions of tenants and lines: who changed what, undone, shown before it is done, and numbers taken out of old ones."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.api import differences
from appliance.model import new_id
from appliance.model.routing import RoutingTable
from earwitness.v1 import tenants_pb2 as pb

PATIENT = "+441632960777"
STAFF = "+441632960778"


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


@pytest.fixture
def line(client, home) -> pb.Line:
    return create(client, home, numbers=["200"])


def create(client, parent, how=None, **fields) -> pb.Line:
    said = pb.Line(**{"display_name": "Reception", **fields})
    return client.tenants.CreateLine(pb.CreateLineRequest(parent=parent, line=said, **(how or {}))).line


def update(client, name, how=None, paths=(), **fields) -> pb.UpdateLineResponse:
    request = pb.UpdateLineRequest(
        line=pb.Line(name=name, **fields), update_mask=FieldMask(paths=paths), **(how or {})
    )
    return client.tenants.UpdateLine(request)


def restore(client, name, version, **how) -> pb.RestoreLineResponse:
    return client.tenants.RestoreLine(pb.RestoreLineRequest(name=name, version=version, **how))


def versions(client, name, **how) -> list[pb.Version]:
    return list(client.tenants.ListLineVersions(pb.ListLineVersionsRequest(parent=name, **how)).versions)


def told(changes) -> list[tuple[str, str, str]]:
    return [(one.path, one.before, one.after) for one in changes]


def test_each_change_is_a_version_with_who_when_and_what(box, client, home, line):
    administrator = box.enroll("administrator", Role.TENANT_ADMINISTRATOR, tenant_id=home.split("/")[1])
    request = pb.UpdateLineRequest(
        line=pb.Line(
            name=line.name,
            numbers=["200", "201"],
            rights=pb.RIGHTS_PAUSE,
            agents=[pb.AgentRights(number="20*", may=pb.RIGHTS_END)],
            inline=pb.InlineRules(inbound=[pb.Target(uri="sip:pbx.example", srtp=True)]),
        )
    )
    answer, call = administrator.tenants.UpdateLine.with_call(
        request, metadata=[("x-request-id", "change-17")]
    )
    assert call.code() is grpc.StatusCode.OK
    newest, first = versions(client, line.name)
    assert (first.version, first.actor) == (1, "admin")
    assert ("numbers", "", "200") in told(first.changes)
    who = f"{home.split('/')[1]}/administrator"
    assert (newest.version, newest.actor, newest.request) == (2, who, "change-17")
    assert newest.create_time.ToNanoseconds() > first.create_time.ToNanoseconds()
    assert newest.changes == answer.changes
    assert told(newest.changes) == [
        ("numbers", "", "201"),
        ("inline.inbound", "", "sip:pbx.example, srtp"),
        ("inline.ring_time", "", "30s"),
        ("inline.tone_interval", "", "0s"),
        ("rights", "NONE", "PAUSE"),
        ("agents[20*]", "", "END"),
    ]
    assert not update(client, line.name, rights=pb.RIGHTS_PAUSE).changes
    assert len(versions(client, line.name)) == 2, "what changes nothing is no version"


def test_validate_only_shows_the_difference_and_changes_nothing(client, home, line):
    dry = update(client, line.name, {"validate_only": True}, display_name="Front desk", do_not_record=["999"])
    assert told(dry.changes) == [
        ("display_name", "Reception", "Front desk"),
        ("do_not_record", "", "999"),
    ]
    assert client.tenants.GetLine(pb.GetLineRequest(name=line.name)).line == line
    assert len(versions(client, line.name)) == 1
    made = client.tenants.CreateLine(
        pb.CreateLineRequest(parent=home, line=pb.Line(display_name="y"), validate_only=True)
    )
    assert ("display_name", "", "y") in told(made.changes)


def test_an_undo_is_a_new_version_and_can_be_undone(box, client, line):
    update(client, line.name, display_name="Wrong", numbers=["300"], catch_all=False)
    dry = restore(client, line.name, 1, validate_only=True)
    assert told(dry.changes) == [
        ("display_name", "Wrong", "Reception"),
        ("numbers", "300", ""),
        ("numbers", "", "200"),
    ]
    done = restore(client, line.name, 1)
    assert done.changes == dry.changes and done.line == line
    newest = versions(client, line.name)[0]
    assert (newest.version, newest.restored_version) == (3, 1)
    routed = RoutingTable.model_validate_json(box.layout.routing.read_bytes())
    assert next(one for one in routed.lines if one.line_id == line.name[-26:]).numbers == ("200",)
    assert restore(client, line.name, 2).line.display_name == "Wrong"


def test_an_undo_is_checked_as_any_change(client, home, line):
    update(client, line.name, numbers=["300"])
    create(client, home, numbers=["200"])
    error = refused(lambda: restore(client, line.name, 1))
    assert (error.reason, error.data["field"]) == ("NUMBER_TAKEN", "line.numbers[0]")
    for version in (0, -1, 9, 2**62):
        assert (
            refused(lambda version=version: restore(client, line.name, version)).reason == "VERSION_NOT_FOUND"
        )
    assert refused(lambda: restore(client, line.name, 1, etag="stale")).reason == "ETAG_MISMATCH"


def test_a_request_id_makes_an_undo_happen_once(client, line):
    update(client, line.name, display_name="Wrong")
    first = restore(client, line.name, 1, request_id="u1")
    again = restore(client, line.name, 1, request_id="u1")
    assert again.line == first.line and not again.changes
    assert len(versions(client, line.name)) == 3


def test_pages_newest_first_stay_the_same_under_changes(client, line):
    for number in range(5):
        update(client, line.name, display_name=f"Line {number}")
    request = pb.ListLineVersionsRequest(parent=line.name, page_size=2)
    page = client.tenants.ListLineVersions(request)
    assert [one.version for one in page.versions] == [6, 5]
    update(client, line.name, display_name="later")
    request.page_token = page.next_page_token
    page = client.tenants.ListLineVersions(request)
    assert [one.version for one in page.versions] == [4, 3]
    request.page_token = "x" + page.next_page_token
    assert refused(lambda: client.tenants.ListLineVersions(request)).reason == "PAGE_TOKEN_INVALID"


def test_numbers_that_are_forgotten_are_in_no_old_version(box, client, line):
    update(client, line.name, do_not_record=[PATIENT, STAFF])
    update(client, line.name, display_name="Other")
    update(client, line.name, paths=["do_not_record"], do_not_record=[STAFF])
    assert PATIENT in str(versions(client, line.name)), "it is kept until it is to be forgotten"
    before = len(versions(client, line.name))
    update(client, line.name, {"forget": True})
    found = versions(client, line.name)
    assert len(found) == before and PATIENT not in str(found) and STAFF in str(found)
    assert [one.redacted for one in found] == [False, True, True, False]
    assert restore(client, line.name, 2).line.do_not_record == [STAFF]
    update(client, line.name, {"forget": True}, paths=["do_not_record"])
    assert STAFF not in str(versions(client, line.name))
    for number in (PATIENT, STAFF):
        assert not _in_files(box, number), number


def _in_files(box, number: str) -> bool:
    box.run(box.control.parts.store.scrub())
    return any(
        number.encode() in path.read_bytes()
        for path in [*box.layout.control.rglob("*"), box.layout.routing]
        if path.is_file()
    )


def test_a_tenant_has_versions_too(box, client, home):
    def change(**fields) -> pb.UpdateTenantResponse:
        return client.tenants.UpdateTenant(pb.UpdateTenantRequest(tenant=pb.Tenant(name=home, **fields)))

    done = change(
        records_officer_contact="records@surgery.example", language="EN-gb", time_zone="Europe/London"
    )
    assert told(done.changes) == [
        ("records_officer_contact", "", "records@surgery.example"),
        ("language", "", "en-GB"),
        ("time_zone", "", "Europe/London"),
    ]
    assert client.tenants.GetTenant(pb.GetTenantRequest(name=home)).tenant == done.tenant
    assert refused(lambda: change(display_name="x", etag="stale")).reason == "ETAG_MISMATCH"
    for fields, field in (
        ({"display_name": "x" * 101}, "tenant.display_name"),
        ({"records_officer_contact": "x" * 201}, "tenant.records_officer_contact"),
        ({"records_officer_contact": "a\nb"}, "tenant.records_officer_contact"),
        ({"language": "klingon!"}, "tenant.language"),
        ({"time_zone": "Mars/Olympus"}, "tenant.time_zone"),
        ({"time_zone": "../../etc/passwd"}, "tenant.time_zone"),
    ):
        assert field in refused(lambda fields=fields: change(**fields)).fields
    listed = client.tenants.ListTenantVersions(pb.ListTenantVersionsRequest(parent=home)).versions
    assert [(one.version, one.actor) for one in listed] == [(2, "admin"), (1, "")]
    back = client.tenants.RestoreTenant(pb.RestoreTenantRequest(name=home, version=1))
    assert (back.tenant.time_zone, back.tenant.records_officer_contact) == ("", "")
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    box.wait(lambda: box.control.provisioned.is_set())
    assert box.client().tenants.GetTenant(pb.GetTenantRequest(name=home)).tenant == back.tenant


def test_another_tenants_versions_are_as_none(box, client, home, line):
    other = client.tenants.CreateTenant(
        pb.CreateTenantRequest(tenant=pb.Tenant(display_name="Other"))
    ).tenant.name
    stranger = box.enroll("stranger", Role.TENANT_ADMINISTRATOR, tenant_id=other.split("/")[1])
    nothing = f"tenants/{new_id()}/lines/{new_id()}"
    for name in (line.name, nothing):
        assert refused(lambda name=name: versions(stranger, name)).reason == "LINE_NOT_FOUND"
        assert refused(lambda name=name: restore(stranger, name, 1)).reason == "LINE_NOT_FOUND"
    for call in (
        lambda: stranger.tenants.ListTenantVersions(pb.ListTenantVersionsRequest(parent=home)),
        lambda: stranger.tenants.RestoreTenant(pb.RestoreTenantRequest(name=home, version=1)),
        lambda: stranger.tenants.UpdateTenant(
            pb.UpdateTenantRequest(tenant=pb.Tenant(name=home, display_name="mine"))
        ),
    ):
        assert refused(call).reason == "TENANT_NOT_FOUND"


def test_a_change_of_many_things_is_told_within_bounds(client, line):
    agents = [pb.AgentRights(number=str(10000 + n), may=pb.RIGHTS_END) for n in range(300)]
    answer = update(client, line.name, agents=agents)
    assert len(answer.changes) == differences.MAX_CHANGES
    newest = versions(client, line.name)[0]
    assert (len(newest.changes), newest.more_changes) == (200, 100)


def test_another_order_is_a_difference():
    before, after = pb.Line(trunks=["192.0.2.1", "192.0.2.2"]), pb.Line(trunks=["192.0.2.2", "192.0.2.1"])
    found, more = differences.between(before, after)
    assert (told(found), more) == ([("trunks", "192.0.2.1, 192.0.2.2", "192.0.2.2, 192.0.2.1")], 0)
