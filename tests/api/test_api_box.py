"""How the box is, gathered from its processes."""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.alarms import life
from appliance.api import processes
from appliance.process import rpc
from appliance.process.incidents import Incidents
from appliance.process.status import ALARM, WARNING, ProcessServicer, Status
from earwitness.internal.v1 import process_pb2, process_pb2_grpc
from earwitness.v1 import alarms_pb2
from earwitness.v1 import box_pb2 as pb


@pytest.fixture
def capture(box):
    """A capture worker's ProcessService."""
    from concurrent.futures import ThreadPoolExecutor

    status = Status()
    server = grpc.server(ThreadPoolExecutor(2))
    process_pb2_grpc.add_ProcessServiceServicer_to_server(ProcessServicer("capture-0", 4711, status), server)
    server.add_insecure_port(rpc.target(box.layout, "capture-0"))
    server.start()
    yield status
    server.stop(0).wait()


def look(box, **how) -> pb.GetBoxStatusResponse:
    return box.client().box.GetBoxStatus(pb.GetBoxStatusRequest(**how))


def test_status_gathers_everything(box, capture, sealing):
    box.filed(box.vault.file(sealing(*box.default_line())))
    capture.count("packets_received", 7)
    capture.raise_condition("DiskSlow", ALARM, "The disk is slow.")
    incidents = Incidents(box.layout.incidents)
    for number in range(3):
        incidents.add("capture-0", "killed", f"killed {number}", restarts=number)
    (box.layout.run / "supervisor.json").write_text(
        json.dumps({"processes": [{"name": "capture-0", "restarts": 2, "pid": 1, "state": "ready"}]})
    )
    box.wait(lambda: any(one.up for one in look(box).processes if one.process == "capture-0"))
    found = look(box, incident_limit=2)
    assert [one.message for one in found.incidents] == ["killed 2", "killed 1"]
    by_name = {one.process: one for one in found.processes}
    assert set(by_name) == {"signaling", "capture-0", "vault", "control"}
    assert (by_name["capture-0"].pid, by_name["capture-0"].restarts, by_name["capture-0"].up) == (
        4711,
        2,
        True,
    )
    assert not by_name["vault"].up
    assert found.capture_counters == {"packets_received": 7}
    odd = next(one for one in found.conditions if one.type == "DiskSlow")
    assert (odd.process, odd.severity, odd.message) == ("capture-0", pb.SEVERITY_ALARM, "The disk is slow.")
    box.wait(lambda: look(box).vault.catalogue_lag == 0)
    box.wait(lambda: look(box).live_call_count == 0)
    assert found.vault.filed_count == 1 and found.library_versions["grpcio"]


def test_a_silent_process_is_an_alarm_after_a_while(box, capture, monkeypatch):
    box.wait(lambda: any(one.up for one in look(box).processes if one.process == "capture-0"))
    assert "ProcessDown" not in [one.type for one in look(box).conditions], "a start takes a moment"
    monkeypatch.setattr(processes, "SILENCE_S", 0.0)
    down = [one for one in look(box).conditions if one.type == "ProcessDown"]
    assert {one.process for one in down} == {"signaling", "vault"}
    assert all(one.severity == pb.SEVERITY_ALARM and one.since_time.seconds for one in down)


def test_what_a_start_has_not_yet_is_no_alarm_for_a_moment(box, capture, monkeypatch):
    def found(type_: str) -> pb.Condition:
        return next(one for one in look(box).conditions if one.type == type_)

    def alarmed() -> set[str]:
        asked = alarms_pb2.ListAlarmsRequest(parent="tenants/-")
        return {
            one.kind for one in box.client().alarms.ListAlarms(asked).alarms if one.subject == "capture-0"
        }

    capture.raise_condition("RoutingTableMissing", WARNING, "No table yet.")
    capture.raise_condition("DiskSlow", ALARM, "The disk is slow.")
    capture.raise_condition("DiskFull", ALARM, "The disk is full.")
    box.wait(lambda: "DiskFull" in alarmed())
    yet = found("RoutingTableMissing")
    assert yet.starting and yet.severity == pb.SEVERITY_INFO
    assert not found("DiskFull").starting and not found("DiskSlow").starting
    assert "RoutingTableMissing" not in alarmed()
    monkeypatch.setattr(life, "START_NS", 0)
    box.wait(lambda: "RoutingTableMissing" in alarmed())
    stays = found("RoutingTableMissing")
    assert not stays.starting and stays.severity == pb.SEVERITY_WARNING


def test_a_process_that_starts_again_and_again_hides_nothing(monkeypatch):
    seen = processes.Seen("signaling")
    missing = process_pb2.Condition(type="RoutingTableMissing", severity=WARNING)
    passed_ns = iter(range(0, 10**12, 11 * 10**9))
    monkeypatch.setattr(processes.time, "monotonic_ns", lambda: next(passed_ns))
    whether = []
    for _ in range(3):
        seen.take(process_pb2.GetProcessStatusResponse(conditions=[missing]))
        whether.append(seen.is_starting("RoutingTableMissing"))
    assert whether == [True, False, False]
    seen.take(process_pb2.GetProcessStatusResponse())
    seen.take(process_pb2.GetProcessStatusResponse(conditions=[missing]))
    assert seen.is_starting("RoutingTableMissing"), "it was over meanwhile"


def test_a_negative_limit(box):
    with pytest.raises(grpc.RpcError) as caught:
        look(box, incident_limit=-1)
    assert earwitness.details(caught.value).fields.keys() == {"incident_limit"}
