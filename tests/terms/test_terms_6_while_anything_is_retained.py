"""Clause 6: the terms hold while the account is active and thereafter while anything is retained.

The promise: a tenant is active, closing, closed or empty; policy, audit, access and legal holds apply until its last
recording is gone; no call is recorded once it is closed.
"""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.api import closingwork
from appliance.media.signaling import routing
from appliance.model import Direction
from appliance.model.routing import RoutingTable
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import recordings_pb2, retention_pb2, tenants_pb2

CLOSED = tenants_pb2.SERVICE_STATE_CLOSED


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def closed(make_box, sealing, monkeypatch):
    """A box whose tenant is closed and has two recordings."""
    monkeypatch.setattr(closingwork, "LOOK_S", 0.05)
    monkeypatch.setattr(closingwork, "EMPTY_S", 0.0)
    box = make_box()
    tenant_id, line_id = box.default_line()
    client, tenant = box.client(), f"tenants/{tenant_id}"
    names = []
    for _ in range(2):
        names.append(f"{tenant}/recordings/{box.vault.file(sealing(tenant_id, line_id))}")
        box.filed(names[-1][-26:])
    client.closing.CloseTenant(pb.CloseTenantRequest(name=tenant, reason="the contract was ended"))
    box.clock.ahead_ns = 31 * 86400 * 10**9
    box.wait(lambda: state(client, tenant) == CLOSED)
    return box, client, tenant, names


def state(client, tenant: str) -> int:
    return client.closing.GetClosing(pb.GetClosingRequest(name=tenant)).closing.state


def test_no_call_is_recorded_once_it_is_closed(closed):
    box, _, _, _ = closed
    box.wait(lambda: all(one["closed"] for one in json.loads(box.layout.routing.read_text())["lines"]))
    table = RoutingTable.model_validate_json(box.layout.routing.read_bytes())
    line = routing.decide(table, routing.Facts(numbers=("+441632960001",))).line
    assert routing.withheld(line, ("+441632960001",), Direction.INBOUND) == routing.LINE_CLOSED


def test_purposes_and_audit_apply_to_what_is_retained(closed):
    box, _, tenant, names = closed
    supervisor = box.enroll("supervisor", Role.SUPERVISOR, tenant_id=tenant.split("/")[1])

    def read(purpose: str) -> None:
        request = recordings_pb2.DownloadRecordingRequest(
            name=names[0], format=earwitness.WAV, purpose=purpose
        )
        for _ in supervisor.recordings.DownloadRecording(request):
            pass

    assert refused(lambda: read("")).reason == "PURPOSE_NEEDED"
    read("quality")
    assert [one["who"].split("/")[-1] for one in box.audited() if one["what"] == "read"] == ["supervisor"]
    operator = box.enroll("provider", Role.OPERATOR)
    request = recordings_pb2.DownloadRecordingRequest(name=names[0], format=earwitness.WAV, purpose="quality")
    assert refused(lambda: list(operator.recordings.DownloadRecording(request))).reason == "METHOD_DENIED"


def test_a_legal_hold_beats_the_closing(closed):
    _, client, tenant, names = closed
    hold = retention_pb2.LegalHold(
        title="Inquest", reason="The coroner asks", owner="Legal", scopes=[retention_pb2.LegalHoldScope()]
    )
    client.retention.CreateLegalHold(retention_pb2.CreateLegalHoldRequest(parent=tenant, legal_hold=hold))
    erase = recordings_pb2.EraseRecordingRequest(name=names[0], reason="closed", force=True)
    assert refused(lambda: client.recordings.EraseRecording(erase)).reason
    assert state(client, tenant) == CLOSED


def test_with_the_last_recording_it_is_empty(closed):
    box, client, tenant, names = closed
    for name in names:
        assert state(client, tenant) == CLOSED
        client.recordings.EraseRecording(
            recordings_pb2.EraseRecordingRequest(name=name, reason="its time is over", force=True)
        )
    box.wait(lambda: state(client, tenant) == tenants_pb2.SERVICE_STATE_EMPTY)
    assert [one["outcome"] for one in box.audited() if one["what"] == "closing"] == ["closed", "empty"]
