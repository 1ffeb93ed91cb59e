"""Listening to live calls: who may, what for, what is heard, and when it ends."""

from __future__ import annotations

import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from capture_fake import CaptureServer

import earwitness
from appliance.access.identities import Role
from appliance.api import listening, listenpost
from appliance.cli import main
from appliance.cli.exits import Exit
from appliance.model import Mark, MarkKind, Party, new_id
from earwitness.internal.v1 import capture_pb2, signaling_pb2
from earwitness.v1 import access_pb2, purposes_pb2, recordings_pb2, subjects_pb2, tenants_pb2
from earwitness.v1 import calls_pb2 as pb

WHY = "The coroner asks for it by Friday"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


class Ward:
    """A box with a live call on a line that allows listening."""

    def __init__(self, box, capture: CaptureServer) -> None:
        self.box, self.capture = box, capture
        self.tenant, self.line = box.default_line()
        self.admin = box.client()
        self.supervisor = box.enroll("supervisor", Role.SUPERVISOR, tenant_id=self.tenant)
        self.officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=self.tenant)
        self.allow(tenants_pb2.LISTENING_ALLOWED)
        self.call = self.begin()

    def allow(self, value, **more: object) -> None:
        line = tenants_pb2.Line(name=f"tenants/{self.tenant}/lines/{self.line}", listening=value, **more)
        mask = ["listening", *more]
        request = tenants_pb2.UpdateLineRequest(line=line)
        request.update_mask.paths.extend(mask)
        self.admin.tenants.UpdateLine(request)

    def begin(self, *announced: Mark, **fields: object) -> str:
        call = self.box.signaling.begin(self.tenant, self.line, **fields)
        self.capture.begin(self.box.signaling.calls[call], *announced)
        self.box.wait(lambda: self.box.control.parts.board.in_sync and self.there(call))
        return call

    def there(self, call: str) -> bool:
        return any(one.call_id == call for one in self.box.control.parts.board.calls())

    def recording(self, call: str = "") -> str:
        return self.box.signaling.calls[call or self.call].recording_ids[-1]

    def listen(self, client=None, call: str = "", **how: object):
        request = pb.ListenCallRequest(
            **{
                "name": f"tenants/-/calls/{call or self.call}",
                "purpose": "training",
                "format": pb.LISTEN_FORMAT_PCM,
                **how,
            }
        )
        return (client or self.supervisor).calls.ListenCall(request, timeout=30)

    def refused(self, **how: object) -> earwitness.Details:
        return refused(lambda: next(self.listen(**how)))


@pytest.fixture
def ward(box):
    capture = CaptureServer(box.layout)
    capture.start()
    made = Ward(box, capture)
    yield made
    capture.stop()


def events(stream, until) -> list[int]:
    """The kinds of events up to one; chunks are left out."""
    found = []
    for message in stream:
        if message.HasField("event"):
            found.append(message.event.kind)
            if message.event.kind == until:
                return found
    return found


def heard(stream, wanted: int) -> set[int]:
    """The levels that are heard until one is, by track."""
    found: set[int] = set()
    for message in stream:
        if message.HasField("chunk"):
            found |= set(np.frombuffer(message.chunk.data, "<i2").tolist())
        if wanted in found:
            return found
    raise AssertionError("it was never heard")


def test_who_listens_hears_the_parties_apart_and_is_on_record(ward, box):
    stream = ward.listen()
    header = next(stream).header
    recording = ward.recording()
    assert header.recording == f"tenants/{ward.tenant}/recordings/{recording}"
    assert header.sample_rate == 16000 and not header.paused
    assert [(one.track, one.role) for one in header.tracks] == [(0, 1), (1, 2)]
    assert header.purpose_source == recordings_pb2.PURPOSE_SOURCE_NOT_ANNOUNCED
    audited = [one for one in box.audited() if one["method"].endswith("ListenCall")]
    assert [one["what"] for one in audited] == ["asked", "read"], "before the first sound"
    assert (audited[1]["kind"], audited[1]["recording"], audited[1]["purpose"]) == (
        "listen",
        recording,
        "training",
    )
    (asked,) = ward.capture.asked
    assert (asked.session_id, asked.actor, asked.purpose) == (
        recording,
        f"{ward.tenant}/supervisor",
        "training",
    )
    ward.capture.say(recording, 1000, 2000)
    levels: dict[int, set[int]] = {0: set(), 1: set()}
    last = {0: -1, 1: -1}
    while not (1000 in levels[0] and 2000 in levels[1]):
        chunk = next(stream).chunk
        assert chunk.sequence == last[chunk.track] + 1 and len(chunk.data) == 640
        last[chunk.track] = chunk.sequence
        levels[chunk.track] |= set(np.frombuffer(chunk.data, "<i2").tolist())
    assert levels == {0: {0, 1000}, 1: {0, 2000}}
    shown = ward.admin.calls.GetCall(pb.GetCallRequest(name=f"tenants/-/calls/{ward.call}"))
    assert shown.call.listeners == 1
    stream.cancel()
    box.wait(lambda: ward.capture.gone == [asked.listener_id])
    box.wait(lambda: not box.control.parts.listening.count(ward.call, to_agent=False))
    box.wait(
        lambda: [one for one in box.audited() if one["method"].endswith("ListenCall")][-1]["what"] == "done"
    )
    report = ward.officer.purposes.GetReadReport(
        purposes_pb2.GetReadReportRequest(
            parent=f"tenants/{ward.tenant}", month=time.strftime("%Y-%m", time.gmtime())
        )
    ).report
    assert report.total.reads == 1


def test_other_forms(ward):
    mixed = ward.listen(mixed=True)
    assert next(mixed).HasField("header")
    ward.capture.say(ward.recording(), 1000, 2000)
    assert heard(mixed, 3000) == {0, 3000}
    payload = ward.listen(format=pb.LISTEN_FORMAT_PAYLOAD)
    header = next(payload).header
    assert not header.sample_rate
    assert [(one.number, one.encoding, one.clock_rate) for one in header.tracks[1].payload_types] == [
        (96, "L16", 16000)
    ]
    ward.capture.say(ward.recording(), 7, 8)
    first, second = next(payload).chunk, next(payload).chunk
    assert (first.track, first.payload_type, first.rtp_timestamp, first.sequence) == (0, 96, 320, 1)
    assert second.data == np.full(320, 8, ">i2").tobytes()
    opus = ward.listen(format=pb.LISTEN_FORMAT_OPUS, mixed=True)
    assert next(opus).HasField("header")
    assert 0 < len(next(opus).chunk.data) < 200
    assert ward.refused(format=pb.LISTEN_FORMAT_UNSPECIFIED).data["field"] == "format"
    assert ward.refused(format=pb.LISTEN_FORMAT_PAYLOAD, mixed=True).data["field"] == "mixed"
    for one in (mixed, payload, opus):
        one.cancel()


def test_it_needs_line_role_purpose_and_a_call_that_is_recorded(ward, box):
    other = box.enroll("auditor", Role.AUDITOR, tenant_id=ward.tenant)
    assert ward.refused(client=other).reason == "METHOD_DENIED"
    assert ward.refused(purpose="").reason == "PURPOSE_NEEDED"
    assert ward.refused(purpose="curiosity").reason == "PURPOSE_UNKNOWN"
    assert ward.refused(call=new_id()).reason == "CALL_NOT_FOUND"
    alone = box.signaling.begin(ward.tenant, ward.line, recording_ids=[], detail="do-not-record")
    box.wait(lambda: ward.there(alone))
    found = ward.refused(call=alone)
    assert (found.reason, found.data["why"]) == ("CALL_NOT_RECORDED", "do-not-record")
    stated = Mark(kind=MarkKind.ANNOUNCED, at_ns=1, data={"heard": "whole", "purposes": "training"})
    told = ward.begin(stated)
    assert ward.refused(call=told, purpose="complaints").reason == "PURPOSE_NOT_STATED"
    assert ward.refused(call=told, purpose="complaints", override_reason=WHY).reason == "PURPOSE_NOT_STATED"
    stream = ward.listen(ward.officer, told, purpose="complaints", override_reason=WHY)
    assert next(stream).header.purpose_source == recordings_pb2.PURPOSE_SOURCE_ANNOUNCED
    assert WHY not in str(box.audited())
    assert [one["who"] for one in box.audited() if one.get("override")] == [f"{ward.tenant}/officer"]
    stream.cancel()
    ward.allow(tenants_pb2.LISTENING_NONE)
    found = ward.refused()
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "LISTENING_NOT_ALLOWED")
    assert len(ward.capture.asked) == 1, "nobody else came so far as to be on a timeline"


def test_another_tenants_call_is_none_by_every_name(ward, box):
    other = ward.admin.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Elm Street"))
    ).tenant.name
    stranger = box.enroll("stranger", Role.SUPERVISOR, Role.RECORDS_OFFICER, tenant_id=other[-26:])
    absent = ward.refused(client=stranger, call=new_id())
    for parent in (f"tenants/{ward.tenant}", "tenants/-", other):
        request = {"name": f"{parent}/calls/{ward.call}", "override_reason": WHY}
        found = ward.refused(client=stranger, **request)
        assert (found.reason, found.code) == (absent.reason, absent.code)
    assert not ward.capture.asked


def test_nothing_is_heard_of_a_pause_and_the_listener_is_told(ward):
    stream = ward.listen()
    assert next(stream).HasField("header")
    recording = ward.recording()
    ward.capture.say(recording, 5, 5, event=capture_pb2.MonitorEvent(paused=True))
    assert events(stream, pb.LISTEN_EVENT_KIND_PAUSED) == [pb.LISTEN_EVENT_KIND_PAUSED]
    ward.capture.happen(recording, held=1)
    ward.capture.happen(recording, paused=False)
    assert events(stream, pb.LISTEN_EVENT_KIND_RESUMED) == [
        pb.LISTEN_EVENT_KIND_HELD,
        pb.LISTEN_EVENT_KIND_RESUMED,
    ]
    ward.capture.say(recording, 300, 300, lost=3)
    assert heard(stream, 300) == {0, 300}
    ward.capture.say(recording, 1, 1, lost=9)
    assert pb.LISTEN_EVENT_KIND_LOST in events(stream, pb.LISTEN_EVENT_KIND_LOST)
    stream.cancel()


def test_it_ends_with_the_call_and_goes_on_where_the_call_does(ward, box):
    stream = ward.listen()
    assert next(stream).HasField("header")
    first, second = ward.recording(), new_id()
    live = signaling_pb2.LiveCall()
    live.CopyFrom(box.signaling.calls[ward.call])
    live.recording_ids.append(second)
    box.signaling.put(live)
    ward.capture.begin(live)
    ward.capture.happen(first, ended="replaced")
    assert events(stream, pb.LISTEN_EVENT_KIND_ENDED)[-1] == pb.LISTEN_EVENT_KIND_ENDED
    header = next(message.header for message in stream if message.HasField("header"))
    assert header.recording.endswith(second)
    reads = [one["recording"] for one in box.audited() if one["what"] == "read"]
    assert reads == [first, second], "each recording that is heard is a read of its own"
    box.signaling.change(ward.call, signaling_pb2.CALL_STATE_ENDED)
    ward.capture.happen(second, ended="bye")
    assert events(stream, -1) == [pb.LISTEN_EVENT_KIND_ENDED]
    assert stream.code() is grpc.StatusCode.OK


def test_it_ends_when_it_may_go_on_no_longer(ward, box, monkeypatch):
    monkeypatch.setattr(listening, "RECHECK_S", 0.05)

    def ended(stream) -> earwitness.Details:
        return refused(lambda: list(stream))

    stream = ward.listen()
    assert next(stream).HasField("header")
    ward.allow(tenants_pb2.LISTENING_NONE)
    assert ended(stream).reason == "LISTENING_NOT_ALLOWED"
    ward.allow(tenants_pb2.LISTENING_ALLOWED)

    stream = ward.listen()
    assert next(stream).HasField("header")
    stated = Mark(kind=MarkKind.ANNOUNCED, at_ns=1, data={"heard": "whole", "purposes": "complaints"})
    ward.capture.sessions[ward.recording()].announced.append(stated)
    assert ended(stream).reason == "PURPOSE_NOT_STATED"
    ward.capture.sessions[ward.recording()].announced.clear()

    stream = ward.listen()
    assert next(stream).HasField("header")
    name = f"tenants/{ward.tenant}/identities/supervisor"
    ward.admin.access.DisableIdentity(access_pb2.DisableIdentityRequest(name=name))
    assert ended(stream).code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    box.wait(lambda: len(ward.capture.gone) == 3)


@pytest.mark.parametrize("stays", [True, False])
def test_it_ends_when_somebody_comes_whose_calls_are_restricted(ward, box, monkeypatch, stays):
    number, aor = "+441632960007", "sip:+441632960007@pstn.example"
    restriction = subjects_pb2.Restriction(
        ground=subjects_pb2.RESTRICTION_GROUND_ACCURACY, reason="The person says so", number=number
    )
    ward.admin.subjects.CreateRestriction(
        subjects_pb2.CreateRestrictionRequest(parent=f"tenants/{ward.tenant}", restriction=restriction)
    )
    monkeypatch.setattr(listening, "RECHECK_S", 0.05)
    stream = ward.listen()
    assert next(stream).HasField("header")
    if stays:
        live = signaling_pb2.LiveCall()
        live.CopyFrom(box.signaling.calls[ward.call])
        live.parties.add(aor=aor, role="caller", track=-1)
        box.signaling.put(live)
    else:  # came and went between two looks: only the recording still says so
        session = ward.capture.sessions[ward.recording()]
        session.info = session.info.model_copy(update={"parties": (*session.info.parties, Party(aor=aor))})
    assert refused(lambda: list(stream)).reason == "RECORDING_RESTRICTED"
    assert ward.refused().reason == "RECORDING_RESTRICTED"


def test_what_nobody_may_open_nobody_hears(ward, box, monkeypatch):
    monkeypatch.setattr(listening, "RECHECK_S", 0.05)
    stream = ward.listen()
    assert next(stream).HasField("header")
    box.vault.keys.passphrases[ward.tenant] = "correct horse battery"
    assert refused(lambda: list(stream)).reason == "TENANT_LOCKED"
    assert ward.refused().reason == "TENANT_LOCKED"
    assert len(ward.capture.asked) == 1


def test_so_many_listen_to_a_call_and_agents_see_it_where_the_line_says_so(ward, box):
    agent = box.enroll("agent", Role.AGENT, tenant_id=ward.tenant, agent="+441632960001")
    name = f"tenants/-/calls/{ward.call}"

    def seen(client) -> int:
        return client.calls.GetCall(pb.GetCallRequest(name=name)).call.listeners

    quiet = ward.listen()
    assert next(quiet).HasField("header")
    assert (seen(agent), seen(ward.supervisor)) == (0, 1)
    ward.allow(tenants_pb2.LISTENING_SHOWN)
    watch = agent.calls.WatchCalls(pb.WatchCallsRequest(parent="tenants/-"))
    assert next(watch).call.listeners == 0 and next(watch).in_sync
    others = [ward.listen() for _ in range(listenpost.MAX_OF_CALL - 1)]
    assert all(next(one).HasField("header") for one in others)
    assert next(one for one in watch if one.HasField("call")).call.listeners > 0
    found = ward.refused()
    assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_LISTENERS")
    for one in (quiet, *others, watch):
        one.cancel()
    box.wait(lambda: not seen(ward.supervisor))


@pytest.mark.parametrize("ending", [".wav", ".ogg"])
def test_what_is_written_of_a_call_is_its_listeners_alone(ward, box, monkeypatch, tmp_path, ending):
    box.layout.run.mkdir(parents=True, exist_ok=True)
    (box.layout.run / "addresses.json").write_text(json.dumps({"api": f"127.0.0.1:{box.port}"}))
    monkeypatch.setenv("EARWITNESS_DATA", str(box.layout.root))
    own = [str(box.layout.pki / f"clients/supervisor.{one}") for one in ("crt", "key")]
    path = tmp_path / f"x{ending}"
    path.touch(0o644)

    def speak() -> None:
        box.wait(lambda: ward.capture.asked)
        for _ in range(25):
            ward.capture.say(ward.recording(), 1000, 2000)
            time.sleep(0.02)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "nobody else's from its first second on"
        ward.capture.happen(ward.recording(), ended="bye")
        box.signaling.change(ward.call, signaling_pb2.CALL_STATE_ENDED)

    with ThreadPoolExecutor(1) as pool:
        spoken = pool.submit(speak)
        words = ["calls", "listen", ward.call, "--purpose", "training", "-o", str(path), "--force"]
        assert main.run(["--cert", own[0], "--key", own[1], *words]) == Exit.OK
        spoken.result()
    assert path.stat().st_size > 500 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one for one in tmp_path.iterdir() if one.is_file()] == [path]


def test_capture_that_is_away_is_told_as_such(ward, monkeypatch):
    monkeypatch.setattr(listening, "GO_ON_S", 0.3)
    stream = ward.listen()
    assert next(stream).HasField("header")
    ward.capture.stop()
    found = refused(lambda: list(stream))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "CAPTURE_UNAVAILABLE")
    assert ward.refused().reason == "CAPTURE_UNAVAILABLE"
