"""How the box is, gathered from its processes."""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.api import processes
from appliance.process import rpc
from appliance.process.incidents import Incidents
from appliance.process.status import ALARM, ProcessServicer, Status
from earwitness.internal.v1 import process_pb2_grpc
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


def test_a_negative_limit(box):
    with pytest.raises(grpc.RpcError) as caught:
        look(box, incident_limit=-1)
    assert earwitness.details(caught.value).fields.keys() == {"incident_limit"}
