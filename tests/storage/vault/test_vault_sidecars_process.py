"""Sidecars over the vault's socket: what was answered is there after kill -9, and the journal tells it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest_process import Process, refused

from appliance.model import new_id
from appliance.process import rpc
from appliance.storage.sealed.sidecar import pack_content, parse, read
from earwitness.internal.v1 import sidecars_pb2 as pb
from earwitness.internal.v1 import sidecars_pb2_grpc


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path / "data")
    made.start()
    yield made
    made.stop()
    made.house.let_go()


def test_what_was_answered_survives_a_kill(process: Process) -> None:
    house = process.house
    name = house.record()
    process.watch(0, 1)
    entry = pack_content({"id": new_id(), "what": "note-created", "by": "ada", "at_ns": 1, "text": "one"})
    with rpc.channel(house.layout, "vault") as channel:
        stub = sidecars_pb2_grpc.SidecarServiceStub(channel)
        answer = stub.AnnotateRecording(
            pb.AnnotateRecordingRequest(recording_id=name, contents=[entry]), timeout=20
        )
        assert list(answer.places) == [0] and list(answer.contents) == [entry]
        wrong = pb.AnnotateRecordingRequest(recording_id=name, contents=[b"{}"])
        assert refused(stub.AnnotateRecording, wrong) == ("INVALID_ARGUMENT", "SIDECAR_ENTRY")
    process.end(signal.SIGKILL)
    process.start()
    assert process.holding(name).sidecar == answer.head
    assert [one.holding.sidecar.entries for one in process.watch(0, 2)] == [0, 1]
    with rpc.channel(house.layout, "vault") as channel:
        stub = sidecars_pb2_grpc.SidecarServiceStub(channel)
        pieces = stub.ReadSidecar(pb.ReadSidecarRequest(recording_id=name), timeout=20)
        raw = b"".join(one.data for one in pieces)
        assert [one["text"] for one in read(parse(raw), house.keys[name])] == ["one"]
        process.erase(name, reason="asked")
        gone = refused(lambda: list(stub.ReadSidecar(pb.ReadSidecarRequest(recording_id=name), timeout=20)))
        assert gone == ("FAILED_PRECONDITION", "RECORDING_ERASED")
