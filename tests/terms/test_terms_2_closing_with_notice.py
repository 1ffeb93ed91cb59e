"""Clause 2: the provider may cancel the service, with notice, so that any or all recordings can be downloaded first.

The promise: closing sets a date no sooner than the notice; until then and afterwards everything stays downloadable; an exit
pack has it all, and goes on where it broke off; reminders count down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.api import closingwork, exitpack, worker
from appliance.catalog import alarms
from appliance.config.exits import ExitFolder, ExitSettings
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import operations_pb2, recordings_pb2, tenants_pb2

DAY_NS = 86400 * 10**9
COUNT = 30


@pytest.fixture
def place(make_box, sealing, tmp_path, monkeypatch):
    """A box with some recordings, whose provider has just given notice; its folder for exit packs."""
    monkeypatch.setattr(closingwork, "LOOK_S", 0.05)
    monkeypatch.setattr(worker, "BACKOFF_S", 0.2)
    monkeypatch.setattr(exitpack, "KEEP_EVERY_S", 0.0)
    folder = tmp_path / "exit"
    folder.mkdir()
    box = make_box()
    box.stop()
    allow = ExitSettings(folders=(ExitFolder(path=folder),))
    box.settings = box.settings.model_copy(update={"exit": allow})
    box.start()
    tenant_id, line_id = box.default_line()
    for _ in range(COUNT):
        box.vault.file(sealing(tenant_id, line_id))
    client = box.client()
    listed = recordings_pb2.ListRecordingsRequest(parent=f"tenants/{tenant_id}", page_size=100)
    box.wait(lambda: len(client.recordings.ListRecordings(listed).recordings) == COUNT)
    operator = box.enroll("provider", Role.OPERATOR)
    request = pb.CloseTenantRequest(name=f"tenants/{tenant_id}", reason="the contract was ended")
    operator.closing.CloseTenant(request)
    return box, f"tenants/{tenant_id}", folder


def closing(client, tenant: str) -> pb.Closing:
    return client.closing.GetClosing(pb.GetClosingRequest(name=tenant)).closing


def download(client, tenant: str) -> bytes:
    listed = recordings_pb2.ListRecordingsRequest(parent=tenant)
    name = client.recordings.ListRecordings(listed).recordings[0].name
    request = recordings_pb2.DownloadRecordingRequest(name=name, format=earwitness.WAV, purpose="quality")
    return b"".join(item.chunk.data for item in client.recordings.DownloadRecording(request))


def test_the_date_is_not_sooner_than_the_notice(place):
    box, tenant, _ = place
    found = closing(box.client(), tenant)
    assert found.state == tenants_pb2.SERVICE_STATE_CLOSING
    assert 29 * 86400 < found.left.seconds <= 30 * 86400 and found.recording_count == COUNT


def test_reminders_count_down(place):
    box, tenant, _ = place

    def days() -> list[int]:
        read = box.control.parts.store.read(lambda c: alarms.stood(c, tenant.split("/")[1], 0, 2**62))
        return [one.data["days"] for one in box.run(read) if one.kind == closingwork.DUE and one.open]

    for left in (30, 14, 7, 3, 1):
        box.clock.ahead_ns = (30 - left) * DAY_NS + 10**9
        box.wait(lambda left=left: days() == [left])


def test_everything_can_be_taken_along_and_goes_on_where_it_broke_off(place):
    box, tenant, folder = place
    officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant.split("/")[1])
    asked = pb.ExitPack(folder=pb.ExitPackFolder(path=str(folder)))
    made = officer.closing.CreateExitPack(pb.CreateExitPackRequest(parent=tenant, exit_pack=asked))
    name = operations_pb2.GetOperationRequest(name=made.operation.name)
    box.wait(lambda: officer.operations.GetOperation(name).operation.done_count >= 5)
    writer = box.control._exit_packs.writer
    if writer is not None:
        os.kill(writer.pid, signal.SIGKILL)
    watch = operations_pb2.WatchOperationRequest(name=made.operation.name)
    last = [one.operation for one in officer.operations.WatchOperation(watch, timeout=60)][-1]
    assert last.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    (pack,) = folder.iterdir()
    # By a Python that has nothing of ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(pack / "verify.py"), "--json"], capture_output=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["whole"], found["complete"], found["recordings"]) == (True, True, COUNT)
    assert closing(officer, tenant).exit_pack == made.exit_pack.name


def test_until_the_date_and_afterwards_recordings_are_downloaded(place):
    box, tenant, _ = place
    client = box.client()
    assert download(client, tenant)[:4] == b"RIFF"
    box.clock.ahead_ns = 31 * DAY_NS
    box.wait(lambda: closing(client, tenant).state == tenants_pb2.SERVICE_STATE_CLOSED)
    assert download(client, tenant)[:4] == b"RIFF"
    with pytest.raises(grpc.RpcError):  # what was given notice of has happened
        client.closing.CancelClosing(pb.CancelClosingRequest(name=tenant))
