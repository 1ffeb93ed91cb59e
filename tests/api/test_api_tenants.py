"""Tenants, lines and the routing table."""

from __future__ import annotations

import os
import stat

import grpc
import pytest

import earwitness
from appliance.catalog import linepolicies
from appliance.model import new_id
from appliance.model.routing import RoutingTable
from earwitness.v1 import party_pb2, retention_pb2
from earwitness.v1 import tenants_pb2 as pb


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def routing(box) -> RoutingTable:
    return RoutingTable.model_validate_json(box.layout.routing.read_bytes())


def create(client, **how) -> pb.Tenant:
    request = pb.CreateTenantRequest(**{"tenant": pb.Tenant(display_name="St Mary"), **how})
    return client.tenants.CreateTenant(request).tenant


def line(client, parent, how=None, **fields) -> pb.Line:
    request = pb.CreateLineRequest(
        parent=parent, line=pb.Line(**{"display_name": "x", **fields}), **(how or {})
    )
    return client.tenants.CreateLine(request).line


def test_the_first_start_takes_every_call(box):
    tenant, line_id = box.default_line()
    table = routing(box)
    assert [one.tenant_id for one in table.tenants] == [tenant] and table.lines[0].line_id == line_id
    assert table.lines[0].catch_all and set(table.lines[0].directions)
    assert table.tenants[0].public_key == box.vault.tenant_keys[tenant]
    assert stat.S_IMODE(box.layout.routing.stat().st_mode) == 0o640
    client = box.client()
    tenants = client.tenants.ListTenants(pb.ListTenantsRequest()).tenants
    assert [one.name for one in tenants] == [f"tenants/{tenant}"]


def test_the_first_start_waits_for_the_vault(make_box):
    box = make_box(vault=False)
    assert not box.layout.routing.exists()
    assert not box.client().tenants.ListTenants(pb.ListTenantsRequest()).tenants
    box.vault.start()
    box.default_line()
    assert routing(box).tenants


def test_a_change_is_in_the_routing_table_before_the_answer(box):
    box.default_line()
    client = box.client()
    version = routing(box).version
    tenant = create(client)
    table = routing(box)
    assert table.version > version and table.tenants[-1].display_name == "St Mary"
    assert table.tenants[-1].public_key == box.vault.tenant_keys[tenant.name[-26:]]
    made = line(
        client,
        tenant.name,
        numbers=["+441632960*", "200"],
        trunks=["192.0.2.0/24", "sbc.example"],
        directions=[party_pb2.DIRECTION_INBOUND],
        do_not_record=["999"],
        grain=pb.GRAIN_WEEK,
        grace_days=0,
    )
    known = routing(box).lines[-1]
    assert f"{tenant.name}/lines/{known.line_id}" == made.name
    assert known.numbers == ("+441632960*", "200") and known.trunks == ("192.0.2.0/24", "sbc.example")
    assert [d.value for d in known.directions] == ["inbound"]
    assert (made.grain, made.grace_days) == (pb.GRAIN_WEEK, 0)
    assert client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line == made
    assert client.tenants.GetLine(pb.GetLineRequest(name=f"tenants/-/lines/{made.name[-26:]}")).line == made
    assert client.tenants.GetTenant(pb.GetTenantRequest(name=tenant.name)).tenant == tenant


def test_request_ids_and_validate_only(box):
    box.default_line()
    client = box.client()
    first = create(client, request_id="t-1")
    assert create(client, request_id="t-1") == first
    assert refused(lambda: create(client, request_id="t-1", tenant=pb.Tenant(display_name="b"))).reason == (
        "REQUEST_ID_REUSED"
    )
    create(client, validate_only=True)
    made = line(client, first.name, {"request_id": "l-1"})
    assert line(client, first.name, {"request_id": "l-1"}) == made
    assert line(client, first.name, {"validate_only": True}).name == ""
    assert len(client.tenants.ListTenants(pb.ListTenantsRequest()).tenants) == 2
    assert len(client.tenants.ListLines(pb.ListLinesRequest(parent="tenants/-")).lines) == 2


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": ""}, "line.display_name"),
        ({"display_name": "x" * 101}, "line.display_name"),
        ({"display_name": "a\nb"}, "line.display_name"),
        ({"numbers": ["200", "2 00"]}, "line.numbers[1]"),
        ({"numbers": ["*2"]}, "line.numbers[0]"),
        ({"numbers": ["1"] * 1001}, "line.numbers"),
        ({"do_not_record": ["x"]}, "line.do_not_record[0]"),
        ({"trunks": ["192.0.2.0/33"]}, "line.trunks[0]"),
        ({"trunks": ["bad name"]}, "line.trunks[0]"),
        ({"directions": [0]}, "line.directions"),
        ({"grain": 9}, "line.grain"),
        ({"grace_days": -1}, "line.grace_days"),
    ],
)
def test_bad_lines_name_the_field(box, fields, field):
    tenant, _ = box.default_line()
    found = refused(lambda: line(box.client(), f"tenants/{tenant}", **fields))
    assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_what_a_line_is_made_with_is_its_policy_in_the_vault(box):
    tenant, _ = box.default_line()
    client = box.client()
    name = f"tenants/{tenant}"
    made = line(client, name, {"request_id": "l"}, grace_days=0, grain=pb.GRAIN_WEEK)
    assert (made.grace_days, made.grain) == (0, pb.GRAIN_WEEK), "at once: nothing was recorded on it"
    assert line(client, name, {"request_id": "l"}, grace_days=0, grain=pb.GRAIN_WEEK) == made
    assert [one.who for one in box.vault.retention.began] == ["admin"], "once"
    follows = line(client, name)
    assert (follows.grace_days, follows.grain) == (30, pb.GRAIN_MONTH), "as the box says"
    assert len(box.vault.retention.began) == 1
    shown = line(client, name, {"validate_only": True}, grace_days=5)
    assert (shown.grace_days, shown.grain, shown.name) == (5, pb.GRAIN_MONTH, "")
    policy = retention_pb2.RetentionPolicy(name="retentionPolicy", grace_days=60)
    client.retention.UpdateRetentionPolicy(
        retention_pb2.UpdateRetentionPolicyRequest(retention_policy=policy)
    )
    listed = client.tenants.ListLines(pb.ListLinesRequest(parent=name)).lines
    assert [one.grace_days for one in listed] == [60, 0, 60]
    box.vault.stop()
    silent = client.tenants.GetLine(pb.GetLineRequest(name=made.name)).line
    assert not silent.HasField("grace_days") and not silent.grain and silent.display_name == "x"


def test_a_policy_that_the_vault_could_not_take_is_pushed_again(box):
    tenant, _ = box.default_line()
    client = box.client()
    name = f"tenants/{tenant}"
    lines = len(routing(box).lines)
    box.vault.stop()
    found = refused(lambda: line(client, name, {"request_id": "l"}, grace_days=3))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "VAULT_UNAVAILABLE")
    assert len(routing(box).lines) == lines + 1, "recording waits for nobody"
    assert line(client, name, {"request_id": "other"}).name, "nor do other lines"
    box.stop()
    box.vault.start()
    box.start()
    client = box.client()
    box.wait(lambda: not box.run(box.control.parts.store.read(linepolicies.waiting)))
    made = line(client, name, {"request_id": "l"}, grace_days=3)
    assert made.grace_days == 3 and len(box.vault.retention.began) == 1
    # Crashed after the vault took it and before that was noted: what was changed since stays.
    policy = retention_pb2.RetentionPolicy(name=f"{made.name}/retentionPolicy", grace_days=9)
    client.retention.UpdateRetentionPolicy(
        retention_pb2.UpdateRetentionPolicyRequest(retention_policy=policy)
    )
    box.write(
        lambda connection: linepolicies.add(
            connection, linepolicies.LinePolicy(made.name[-26:], tenant, "", 3, "admin")
        )
    )
    box.stop()
    box.start()
    box.wait(lambda: not box.run(box.control.parts.store.read(linepolicies.waiting)))
    assert box.client().tenants.GetLine(pb.GetLineRequest(name=made.name)).line.grace_days == 9


def test_one_line_takes_the_rest(box):
    tenant, first = box.default_line()
    client = box.client()
    for how in ({}, {"validate_only": True}):
        found = refused(lambda how=how: line(client, f"tenants/{tenant}", how, catch_all=True))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CATCH_ALL_TAKEN")
        assert found.data["line"].endswith(first)


def test_what_is_not_there(box):
    box.default_line()
    client = box.client()
    nobody = f"tenants/{new_id()}"
    for call, reason in (
        (lambda: client.tenants.GetTenant(pb.GetTenantRequest(name=nobody)), "TENANT_NOT_FOUND"),
        (lambda: client.tenants.ListLines(pb.ListLinesRequest(parent=nobody)), "TENANT_NOT_FOUND"),
        (lambda: line(client, nobody), "TENANT_NOT_FOUND"),
        (
            lambda: client.tenants.GetLine(pb.GetLineRequest(name=f"{nobody}/lines/{new_id()}")),
            "LINE_NOT_FOUND",
        ),
        (lambda: client.tenants.GetTenant(pb.GetTenantRequest(name="tenants/-")), "NAME_INVALID"),
        (lambda: line(client, "tenants/-"), "NAME_INVALID"),
    ):
        assert refused(call).reason == reason


def test_pages_of_lines(box):
    tenant, first = box.default_line()
    client = box.client()
    ids = [first, *(line(client, f"tenants/{tenant}").name[-26:] for _ in range(4))]
    found, token = [], ""
    while True:
        answer = client.tenants.ListLines(
            pb.ListLinesRequest(parent=f"tenants/{tenant}", page_size=2, page_token=token)
        )
        found += [one.name[-26:] for one in answer.lines]
        token = answer.next_page_token
        if not token:
            break
    assert found == ids


def test_a_table_that_cannot_be_written_is_said(box):
    tenant, _ = box.default_line()
    client = box.client()
    state = box.layout.routing.parent
    kept = box.layout.routing.read_bytes()
    # A folder in the way of the scratch file: also root cannot write there.
    scratch = state / ".routing.json.new"
    scratch.mkdir()
    found = refused(lambda: line(client, f"tenants/{tenant}", {"request_id": "r"}))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "ROUTING_UNWRITTEN")
    assert box.layout.routing.read_bytes() == kept
    os.rmdir(scratch)
    made = line(client, f"tenants/{tenant}", {"request_id": "r"})
    assert [one.line_id for one in routing(box).lines][1:] == [made.name[-26:]]
