"""Testimony: "review and listen in on calls to see what went well".

The promise: live listening for those allowed, for a purpose that callers were told of, marked on the recording and audited;
nothing of a pause is heard.
"""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from capture_fake import CaptureServer

import earwitness
from appliance.access.identities import Role
from appliance.model import Mark, MarkKind
from earwitness.internal.v1 import capture_pb2, signaling_pb2
from earwitness.v1 import calls_pb2 as pb
from earwitness.v1 import tenants_pb2


def refused(call) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value).reason


@pytest.fixture
def ground(box):
    """A live call whose caller was told that it is for training; capture; a supervisor."""
    capture = CaptureServer(box.layout)
    capture.start()
    tenant_id, line_id = box.default_line()
    call = box.signaling.begin(tenant_id, line_id)
    told = Mark(kind=MarkKind.ANNOUNCED, at_ns=1, data={"heard": "whole", "purposes": "training"})
    capture.begin(box.signaling.calls[call], told)
    board = box.control.parts.board
    box.wait(lambda: board.in_sync and any(one.call_id == call for one in board.calls()))
    supervisor = box.enroll("supervisor", Role.SUPERVISOR, tenant_id=tenant_id)
    yield box, capture, supervisor, f"tenants/{tenant_id}/calls/{call}"
    capture.stop()


def allow(box, name: str, how) -> None:
    tenant_id, line_id = box.default_line()
    line = tenants_pb2.Line(name=f"tenants/{tenant_id}/lines/{line_id}", listening=how)
    request = tenants_pb2.UpdateLineRequest(line=line)
    request.update_mask.paths.append("listening")
    box.client().tenants.UpdateLine(request)


def listen(client, name: str, purpose: str = "training"):
    return client.calls.ListenCall(
        pb.ListenCallRequest(name=name, purpose=purpose, format=pb.LISTEN_FORMAT_PCM), timeout=30
    )


def test_listening_in_is_for_those_allowed_for_what_callers_were_told_and_on_record(ground):
    box, capture, supervisor, name = ground
    recording = box.signaling.calls[name[-26:]].recording_ids[-1]
    assert refused(lambda: next(listen(supervisor, name))) == "LISTENING_NOT_ALLOWED", (
        "unless the line says so"
    )
    allow(box, name, tenants_pb2.LISTENING_ALLOWED)
    agent = box.enroll("agent", Role.AGENT, tenant_id=name.split("/")[1], agent="+441632960001")
    assert refused(lambda: next(listen(agent, name))) == "METHOD_DENIED"
    assert refused(lambda: next(listen(supervisor, name, "complaints"))) == "PURPOSE_NOT_STATED"
    assert not capture.asked, "nobody who was refused heard anything"

    stream = listen(supervisor, name)
    assert next(stream).header.recording.endswith(recording)
    (asked,) = capture.asked  # what capture writes on the timeline before the first packet
    assert asked.actor.endswith("supervisor") and asked.purpose == "training"
    read = [one for one in box.audited() if one["what"] == "read"]
    assert [(one["kind"], one["purpose"], one["recording"]) for one in read] == [
        ("listen", "training", recording)
    ]
    capture.say(recording, 111, 222, event=capture_pb2.MonitorEvent(paused=True))
    capture.happen(recording, paused=False)
    capture.say(recording, 333, 444)
    heard: set[int] = set()
    while not {333, 444} <= heard:
        heard |= set(np.frombuffer(next(stream).chunk.data, "<i2").tolist())
    assert heard == {0, 333, 444}, "nothing of a pause"
    capture.happen(recording, ended="bye")
    box.signaling.change(name[-26:], signaling_pb2.CALL_STATE_ENDED)
    list(stream)
    box.wait(
        lambda: [one for one in box.audited() if one["method"].endswith("ListenCall")][-1]["what"] == "done"
    )
