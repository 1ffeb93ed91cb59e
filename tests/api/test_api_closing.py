"""Closing a tenant or a line: notice, reminders, the step at the date, taking back, and empty at the end."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from appliance.api import closingwork
from appliance.catalog import alarms, exitpacks
from appliance.catalog.exitpacks import ExitPack, PackState
from appliance.model import new_id
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import events_pb2, recordings_pb2, tenants_pb2

DAY = 86400
ACTIVE, CLOSING = tenants_pb2.SERVICE_STATE_ACTIVE, tenants_pb2.SERVICE_STATE_CLOSING
CLOSED, EMPTY = tenants_pb2.SERVICE_STATE_CLOSED, tenants_pb2.SERVICE_STATE_EMPTY


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(closingwork, "LOOK_S", 0.05)
    monkeypatch.setattr(closingwork, "EMPTY_S", 0.0)


@pytest.fixture
def office(quick, make_box):
    box = make_box()
    tenant_id, line_id = box.default_line()
    return box, box.client(), f"tenants/{tenant_id}", f"tenants/{tenant_id}/lines/{line_id}"


def close_line(client, line: str, **more) -> pb.Closing:
    return client.closing.CloseLine(pb.CloseLineRequest(name=line, reason="contract ends", **more)).closing


def at(client, name: str) -> pb.Closing:
    return client.closing.GetClosing(pb.GetClosingRequest(name=name)).closing


def routed(box, line: str) -> bool:
    """Whether the routing table that signaling reads says that the line is closed."""
    table = json.loads(box.layout.routing.read_text())
    return next(one["closed"] for one in table["lines"] if line.endswith(one["line_id"]))


def reminders(box, *, standing: bool = True) -> list[str]:
    return [one.subject for one in _alarms(box) if one.open or not standing]


def _alarms(box) -> list:
    tenant_id, _ = box.default_line()
    read = box.control.parts.store.read(lambda connection: alarms.stood(connection, tenant_id, 0, 2**62))
    return [one for one in box.run(read) if one.kind == closingwork.DUE]


def test_notice_is_given_for_as_long_as_the_contract_says(office):
    box, client, tenant, line = office
    soon = Timestamp(seconds=int(box.clock() / 1e9) + 10 * DAY)
    wrong = refused(lambda: close_line(client, line, notice_time=soon))
    assert (wrong.reason, wrong.data["days"]) == ("NOTICE_TOO_SHORT", "30")
    shown = close_line(client, line, validate_only=True)
    assert shown.state == CLOSING and shown.left.seconds == 30 * DAY
    assert at(client, line).state == ACTIVE and not at(client, line).HasField("notice_time")
    made = close_line(client, line, request_id="once")
    assert (made.state, made.reason, made.creator) == (CLOSING, "contract ends", "admin")
    assert close_line(client, line, request_id="once").notice_time == made.notice_time
    assert refused(lambda: close_line(client, line)).reason == "CLOSING_STATE"
    assert client.tenants.GetLine(tenants_pb2.GetLineRequest(name=line)).line.state == CLOSING
    assert not routed(box, line)
    cancelled = client.closing.CancelClosing(pb.CancelClosingRequest(name=line, validate_only=True)).closing
    assert cancelled.state == ACTIVE and at(client, line).state == CLOSING
    client.closing.CancelClosing(pb.CancelClosingRequest(name=line))
    assert at(client, line).state == ACTIVE
    assert refused(lambda: client.closing.CancelClosing(pb.CancelClosingRequest(name=line))).reason == (
        "CLOSING_NOT_FOUND"
    )
    officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant.split("/")[1])
    assert refused(lambda: close_line(officer, line)).reason == "METHOD_DENIED"
    assert at(officer, line).state == ACTIVE


def test_at_the_date_it_closes_over_restarts_and_is_read_on(office, sealing):
    box, client, tenant, line = office
    ids = [box.vault.file(sealing(*box.default_line())) for _ in range(2)]
    for one in ids:
        box.filed(one)
    close_line(client, line)
    assert client.closing.ListClosings(pb.ListClosingsRequest(parent=tenant)).closings[0].name == line
    box.stop()
    _later(box, 31 * DAY)
    box.start()
    client = box.client()
    box.wait(lambda: at(client, line).state == CLOSED)
    box.wait(lambda: routed(box, line))
    found = at(client, line)
    assert found.HasField("close_time") and not found.HasField("left") and found.recording_count == 2
    request = recordings_pb2.ListRecordingsRequest(parent=tenant)
    assert len(client.recordings.ListRecordings(request).recordings) == 2
    assert [one["outcome"] for one in box.audited() if one["what"] == "closing"] == ["closed"]
    cancelling = pb.CancelClosingRequest(name=line)
    assert refused(lambda: client.closing.CancelClosing(cancelling)).reason == "CLOSING_STATE"
    for one in ids:
        erase = recordings_pb2.EraseRecordingRequest(
            name=f"{tenant}/recordings/{one}", reason="over", force=True
        )
        client.recordings.EraseRecording(erase)
    box.wait(lambda: at(client, line).state == EMPTY)
    assert at(client, line).HasField("empty_time")
    late = box.vault.file(sealing(*box.default_line()))  # what had waited in the spool
    box.filed(late)
    box.wait(lambda: at(client, line).state == CLOSED)
    client.closing.ReopenLine(pb.ReopenLineRequest(name=line))
    assert at(client, line).state == ACTIVE and not routed(box, line)
    told = events(client)
    # That notice was given is a month ago, and events are kept for a week.
    kinds = ("SERVICE_CLOSED", "SERVICE_EMPTY", "SERVICE_CLOSED", "SERVICE_REOPENED")
    assert [one.type for one in told] == [events_pb2.EventType.Value(f"EVENT_TYPE_{one}") for one in kinds]
    assert {one.subject for one in told} == {line}


def events(client) -> list[events_pb2.Event]:
    """Those of closings."""
    request = events_pb2.WatchEventsRequest(parent="tenants/-", from_oldest=True)
    found = []
    with pytest.raises(grpc.RpcError):
        for one in client.events.WatchEvents(request, timeout=1):
            if one.HasField("event") and 40 <= one.event.type <= 44:
                found.append(one.event)
    return found


def test_a_closed_tenant_closes_all_its_lines_and_gets_none(office):
    box, client, tenant, line = office
    request = pb.CloseTenantRequest(name=tenant, reason="moves to another provider")
    assert client.closing.CloseTenant(request).closing.name == tenant
    assert at(client, line).state == CLOSING
    _later(box, 31 * DAY)
    box.wait(lambda: at(client, tenant).state != CLOSING)
    assert at(client, tenant).state in (CLOSED, EMPTY)  # nothing was ever recorded
    box.wait(lambda: routed(box, line))
    assert (
        refused(lambda: client.closing.ReopenLine(pb.ReopenLineRequest(name=line))).reason == "CLOSING_STATE"
    )
    fresh = tenants_pb2.CreateLineRequest(
        parent=tenant, line=tenants_pb2.Line(display_name="New", numbers=["4711"])
    )
    assert refused(lambda: client.tenants.CreateLine(fresh)).reason == "TENANT_CLOSED"
    shown = client.tenants.GetTenant(tenants_pb2.GetTenantRequest(name=tenant)).tenant
    assert shown.state in (CLOSED, EMPTY) and shown.HasField("notice_time")


def test_reminders_count_down_and_say_whether_an_exit_pack_was_made(office):
    box, client, tenant, line = office
    line_id = line.split("/")[-1]
    close_line(client, line)
    box.wait(lambda: reminders(box) == [f"{line_id}:30"])
    _later(box, 17 * DAY)
    box.wait(lambda: reminders(box) == [f"{line_id}:14"])
    data = _reminder(box)
    assert data == {"days": 14, "exit_pack": "none"}
    spec = {"target": "folder", "path": "/x", "sound": "wav", "sealed": False, "vcon": False, "remove": False}
    pack = ExitPack(
        new_id(), tenant.split("/")[1], "", PackState.SUCCEEDED, True, "admin", box.clock(), spec=spec
    )
    box.write(lambda connection: exitpacks.add(connection, pack))
    assert at(client, line).exit_pack == f"{tenant}/exitPacks/{pack.id}"
    _later(box, 11 * DAY)  # at once from 14 to 3: one reminder, not two
    box.wait(lambda: reminders(box) == [f"{line_id}:3"])
    assert _reminder(box) == {"days": 3, "exit_pack": pack.id}
    client.closing.CancelClosing(pb.CancelClosingRequest(name=line))
    assert reminders(box) == [] and len(reminders(box, standing=False)) == 3


def _reminder(box) -> dict:
    return next(dict(one.data) for one in _alarms(box) if one.open)


def _later(box, seconds: int) -> None:
    box.clock.ahead_ns += seconds * 10**9
