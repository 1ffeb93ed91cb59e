"""Live calls and the events feed."""

from __future__ import annotations

import threading

import grpc
import pytest

import earwitness
from appliance.model import new_id
from appliance.process.status import WARNING
from earwitness.internal.v1 import signaling_pb2
from earwitness.v1 import calls_pb2 as pb
from earwitness.v1 import events_pb2, recordings_pb2

ALL = "tenants/-"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def listed(client, **how) -> list[str]:
    answer = client.calls.ListCalls(pb.ListCallsRequest(**{"parent": ALL, **how}))
    return [call.name[-26:] for call in answer.calls]


def name(call_id: str) -> str:
    return f"tenants/-/calls/{call_id}"


@pytest.fixture
def call(box):
    """A live call, known to control."""
    call_id = box.signaling.begin(*box.default_line())
    client = box.client()
    box.wait(lambda: box.control.parts.board.in_sync and listed(client))
    return call_id


def test_live_calls_are_found(box, call):
    tenant, line = box.default_line()
    client = box.client()
    other = box.signaling.begin(
        tenant, line, state=signaling_pb2.CALL_STATE_PAUSED, silent_tracks=[0], parties=[]
    )
    box.wait(lambda: len(listed(client)) == 2)
    found = client.calls.GetCall(pb.GetCallRequest(name=name(call))).call
    assert found.name == f"tenants/{tenant}/calls/{call}" and found.line == f"tenants/{tenant}/lines/{line}"
    assert found.recordings[0].startswith(f"tenants/{tenant}/recordings/")
    assert [(p.number, p.display_name, list(p.tracks)) for p in found.parties] == [
        ("+441632960001", "Ada", [0])
    ]
    for text, wanted in (
        ("state=PAUSED", [other]),
        ("NOT state=paused", [call]),
        ("silent=true", [other]),
        ('party.number:"01632 960001"', [call]),
        ('party.number!="+441632960001"', [other]),
        ("party.name:ad", [call]),
        (f"line={line} start_time > 2020-01-01", [call, other]),
    ):
        assert listed(client, filter=text) == wanted, text
    assert listed(client, parent=f"tenants/{new_id()}") == []
    assert refused(lambda: listed(client, filter="duration > 5s")).reason == "FILTER_INVALID"
    first = client.calls.ListCalls(pb.ListCallsRequest(parent=ALL, page_size=1))
    second = client.calls.ListCalls(
        pb.ListCallsRequest(parent=ALL, page_size=1, page_token=first.next_page_token)
    )
    assert [first.calls[0].name[-26:], second.calls[0].name[-26:]] == [
        call,
        other,
    ] and not second.next_page_token
    missing = refused(lambda: client.calls.GetCall(pb.GetCallRequest(name=name(new_id()))))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "CALL_NOT_FOUND")


def test_pause_resume_stop(box, call):
    client = box.client()
    request = pb.PauseCallRequest(name=name(call), reason="card number", request_id="p-1")
    assert client.calls.PauseCall(request).call.state == pb.CALL_STATE_PAUSED
    asked = box.signaling.controls[0]
    assert (asked.action, asked.actor, asked.reason) == (
        signaling_pb2.CALL_ACTION_PAUSE,
        "admin",
        "card number",
    )
    resumed = client.calls.ResumeCall(pb.ResumeCallRequest(name=name(call))).call
    assert resumed.state == pb.CALL_STATE_RECORDING
    assert client.calls.PauseCall(request).call.state == pb.CALL_STATE_RECORDING, "done once, and not again"
    assert len(box.signaling.controls) == 2
    client.calls.PauseCall(pb.PauseCallRequest(name=name(call), validate_only=True))
    assert len(box.signaling.controls) == 2
    assert client.calls.StopCall(pb.StopCallRequest(name=name(call))).call.state == pb.CALL_STATE_NOT_RECORDED
    assert (
        refused(lambda: client.calls.StopCall(pb.StopCallRequest(name=name(new_id())))).reason
        == "CALL_NOT_FOUND"
    )


def test_watching_calls(box, call):
    client = box.client()
    stream = client.calls.WatchCalls(pb.WatchCallsRequest(parent=ALL, filter="state=RECORDING"))

    def following():
        while True:
            message = next(stream)
            if message.HasField("call") or message.in_sync:
                return message

    assert following().call.name[-26:] == call
    assert following().in_sync
    box.signaling.change(call, signaling_pb2.CALL_STATE_PAUSED)
    assert following().call.state == pb.CALL_STATE_PAUSED, "what no longer matches is sent once more"
    box.signaling.change(call, signaling_pb2.CALL_STATE_HELD)
    other = box.signaling.begin(*box.default_line())
    assert following().call.name[-26:] == other
    box.signaling.change(other, signaling_pb2.CALL_STATE_ENDED)
    ended = following().call
    assert (ended.name[-26:], ended.state) == (other, pb.CALL_STATE_ENDED)
    beat = next(stream)
    assert not beat.HasField("call") and not beat.in_sync and beat.time.seconds
    stream.cancel()


def test_signaling_is_away_and_comes_back(box, call):
    client = box.client()
    stream = client.calls.WatchCalls(pb.WatchCallsRequest(parent=ALL))
    assert next(stream).call.name[-26:] == call
    box.signaling.stop()
    found = refused(lambda: list(stream))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "SIGNALING_UNAVAILABLE")
    assert refused(lambda: client.calls.ListCalls(pb.ListCallsRequest(parent=ALL), timeout=20)).retry_after_s
    assert client.recordings.ListRecordings(recordings_pb2.ListRecordingsRequest(parent=ALL)) is not None
    gone, fresh = call, box.signaling
    fresh.calls.clear()
    new = box.signaling.begin(*box.default_line())
    fresh.start()
    box.wait(lambda: box.control.parts.board.in_sync)
    assert listed(client) == [new]
    kinds = {}
    for event in earwitness.watch_events(client, from_oldest=True):
        kinds.setdefault(event.subject[-26:], []).append(event.type)
        if event.subject.endswith(new):
            break
    assert kinds[gone] == [events_pb2.EVENT_TYPE_CALL_STARTED, events_pb2.EVENT_TYPE_CALL_ENDED]


def test_that_signaling_is_away_is_said_when_it_stays_away(box, call):
    def said() -> bool:
        return "SignalingUnreachable" in {one.type for one in box.status.conditions()}

    box.signaling.stop()
    box.wait(lambda: not box.control.parts.board.in_sync)
    assert not said(), "the box may be stopping"
    box.wait(said)
    box.signaling.start()
    box.wait(lambda: not said())


def collect(client, count: int, **how) -> list[events_pb2.Event]:
    found = []
    for event in earwitness.watch_events(client, **how):
        found.append(event)
        if len(found) == count:
            return found
    raise AssertionError


def test_events_of_a_recordings_life_resume_anywhere(box, sealing):
    client = box.client()
    recording_id = box.vault.file(sealing(*box.default_line()))
    box.filed(recording_id)
    recording = f"tenants/-/recordings/{recording_id}"
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=recording))
    client.recordings.UndeleteRecording(recordings_pb2.UndeleteRecordingRequest(name=recording))
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=recording, force=True, reason="x")
    )
    kinds = [
        events_pb2.EVENT_TYPE_RECORDING_FILED,
        events_pb2.EVENT_TYPE_RECORDING_DELETED,
        events_pb2.EVENT_TYPE_RECORDING_UNDELETED,
        events_pb2.EVENT_TYPE_RECORDING_ERASED,
    ]
    how = {"from_oldest": True, "types": kinds}
    found = collect(client, 4, **how)
    assert [event.type for event in found] == kinds, "each once, though the journal is followed too"
    assert {event.subject[-26:] for event in found} == {recording_id} and found[0].state == "FILED"
    assert "Lovelace" not in str(found)
    for number, event in enumerate(found[:-1]):
        rest = collect(client, 3 - number, resume_token=event.resume_token, types=kinds)
        assert rest == found[number + 1 :]
    tenant = box.default_line()[0]
    assert collect(client, 4, parent=f"tenants/{tenant}", **how) == found


def test_the_journal_that_comes_later_tells_nothing_twice(box, sealing):
    client = box.client()
    recording_id = box.vault.file(sealing(*box.default_line()))
    box.filed(recording_id)
    recording = f"tenants/-/recordings/{recording_id}"
    for _ in range(5):
        client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=recording))
        client.recordings.UndeleteRecording(recordings_pb2.UndeleteRecordingRequest(name=recording))
    box.wait(lambda: box.control.parts.follower.cursor == len(box.vault.journal))
    last = box.vault.file(sealing(*box.default_line()))
    box.filed(last)
    found = []
    for event in earwitness.watch_events(client, from_oldest=True):
        found.append(event)
        if event.subject.endswith(last):
            break
    of_it = [event.type for event in found if event.subject.endswith(recording_id)]
    pair = [events_pb2.EVENT_TYPE_RECORDING_DELETED, events_pb2.EVENT_TYPE_RECORDING_UNDELETED]
    assert of_it == [events_pb2.EVENT_TYPE_RECORDING_FILED, *pair * 5]


def test_a_watch_from_now_on_waits_and_beats(box):
    client = box.client()
    stream = client.events.WatchEvents(events_pb2.WatchEventsRequest(parent=ALL))
    first = next(stream)
    assert not first.HasField("event") and first.resume_token
    box.status.raise_condition("Odd", WARNING, "Something is odd.")
    while not (message := next(stream)).HasField("event") or message.event.state != "Odd":
        pass
    assert message.event.type == events_pb2.EVENT_TYPE_CONDITION_RAISED
    assert (message.event.subject, message.event.message) == ("processes/control", "Something is odd.")
    box.status.clear_condition("Odd")
    while not (message := next(stream)).HasField("event") or message.event.state != "Odd":
        pass
    assert message.event.type == events_pb2.EVENT_TYPE_CONDITION_CLEARED
    stream.cancel()


def test_bad_watches(box):
    client = box.client()

    def watch(**how):
        return next(client.events.WatchEvents(events_pb2.WatchEventsRequest(**{"parent": ALL, **how})))

    token = watch().resume_token
    for how, reason in (
        ({"parent": "x"}, "NAME_INVALID"),
        ({"resume_token": "x"}, "RESUME_TOKEN_INVALID"),
        ({"resume_token": token, "from_oldest": True}, "FIELD_INVALID"),
        ({"types": [0]}, "FIELD_INVALID"),
        ({"types": [999]}, "FIELD_INVALID"),
    ):
        assert refused(lambda how=how: watch(**how)).reason == reason


def test_a_token_that_is_too_old(box):
    client = box.client()
    box.status.raise_condition("Odd", WARNING, "x")
    token = collect(client, 1, from_oldest=True)[0].resume_token
    box.status.clear_condition("Odd")
    collect(client, 1, resume_token=token)

    def prune(connection):
        from appliance.catalog import events

        return events.prune(connection, 2**62)

    assert box.write(prune) >= 2
    before = client.events.WatchEvents(events_pb2.WatchEventsRequest(parent=ALL, resume_token=token))
    found = refused(lambda: next(before))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RESUME_TOKEN_EXPIRED")


def test_the_helper_watches_across_a_restart_of_the_box(box, sealing):
    line = box.default_line()
    seen: list[str] = []
    ids = [box.vault.file(sealing(*line))]
    box.filed(ids[0])
    client = earwitness.connect(
        f"127.0.0.1:{box.port}",
        *(
            (box.layout.pki / name).read_bytes()
            for name in ("ca.crt", "clients/admin.crt", "clients/admin.key")
        ),
    )
    three = threading.Event()
    first = threading.Event()

    def watch() -> None:
        kinds = [events_pb2.EVENT_TYPE_RECORDING_FILED]
        for event in earwitness.watch_events(client, from_oldest=True, types=kinds):
            seen.append(event.subject[-26:])
            first.set()
            if len(seen) == 3:
                three.set()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    assert first.wait(20)
    box.fix_port()
    box.stop()
    ids.append(box.vault.file(sealing(*line)))
    box.start()
    ids.append(box.vault.file(sealing(*line)))
    assert three.wait(30)
    thread.join(10)
    client.close()
    assert seen == ids
