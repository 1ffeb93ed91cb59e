"""Clause 4: use must comply with the law, and stay within what the announcement said.

The promise: purposes come from the client's list, which begins with regulation 3 of SI 2018/356; each read names one; a
purpose that was not stated is refused, unless a records officer says why; the client gets a monthly report.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import grpc
import pytest

import earwitness
from appliance.access.identities import Role
from appliance.model import Mark, MarkKind
from earwitness.v1 import purposes_pb2 as pb
from earwitness.v1 import recordings_pb2 as rec

WHY = "The coroner asks for it by Friday"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def home(box) -> str:
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def officer(box, home):
    return box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=home.split("/")[1])


@pytest.fixture
def supervisor(box, home):
    return box.enroll("supervisor", Role.SUPERVISOR, tenant_id=home.split("/")[1])


@pytest.fixture
def name(box, sealing) -> str:
    """A recording whose caller was told that it is for training."""
    now_ns = time.time_ns()
    heard = Mark(kind=MarkKind.ANNOUNCED, at_ns=now_ns, data={"heard": "whole", "purposes": "training"})
    made = sealing(*box.default_line(), start_ns=now_ns, marks=(heard,))
    box.filed(box.vault.file(made))
    return f"tenants/-/recordings/{made.info.recording_id}"


def read(client, name: str, purpose: str = "", override_reason: str = "") -> bytes:
    request = rec.DownloadRecordingRequest(
        name=name, format=earwitness.WAV, purpose=purpose, override_reason=override_reason
    )
    return b"".join(item.chunk.data for item in client.recordings.DownloadRecording(request))


def report(client, home: str) -> pb.ReadReport:
    month = datetime.now(UTC).strftime("%Y-%m")
    return client.purposes.GetReadReport(pb.GetReadReportRequest(parent=home, month=month)).report


def test_the_clients_list_begins_with_the_law(officer, home):
    found = officer.purposes.ListPurposes(pb.ListPurposesRequest(parent=home)).purposes
    by_law = [one for one in found if one.legal_basis.startswith("SI 2018/356 reg. 3")]
    assert len(by_law) == 7 and all(one.legal_basis for one in found)


def test_each_read_names_a_purpose_of_the_list(supervisor, name):
    assert refused(lambda: read(supervisor, name)).reason == "PURPOSE_NEEDED"
    assert refused(lambda: read(supervisor, name, "curiosity")).reason == "PURPOSE_UNKNOWN"
    assert read(supervisor, name, "training")[:4] == b"RIFF"


def test_what_the_announcement_did_not_state_is_refused(supervisor, name):
    error = refused(lambda: read(supervisor, name, "complaints"))
    assert (error.reason, error.data["stated"]) == ("PURPOSE_NOT_STATED", '["training"]')
    picture = rec.GetWaveformRequest(name=name, purpose="complaints")
    assert refused(lambda: supervisor.recordings.GetWaveform(picture)).reason == "PURPOSE_NOT_STATED"


def test_only_a_records_officer_overrides_and_says_why(box, officer, supervisor, name, home):
    assert refused(lambda: read(supervisor, name, "legal-claims", WHY)).reason == "PURPOSE_NOT_STATED"
    assert refused(lambda: read(officer, name, "legal-claims")).reason == "PURPOSE_NOT_STATED"
    assert read(officer, name, "legal-claims", WHY)
    assert [one["who"] for one in box.audited() if one.get("override")] == [f"{home.split('/')[1]}/officer"]
    assert [one.reason for one in report(officer, home).overrides] == [WHY]


def test_the_monthly_report_says_what_was_read_for_what_by_whom(officer, supervisor, name, home):
    read(supervisor, name, "training")
    read(officer, name, "legal-claims", WHY)
    refused(lambda: read(supervisor, name, "complaints"))
    found = report(officer, home)
    assert (found.total.reads, found.total.overrides, found.total.refusals) == (2, 1, 1)
    assert {one.key: one.counts.reads for one in found.by_purpose if one.counts.reads} == {
        "training": 1,
        "legal-claims": 1,
    }
    own = home.split("/")[1]
    assert {one.key for one in found.by_person} == {f"{own}/officer", f"{own}/supervisor"}
    assert {one.key for one in found.by_role} == {"records-officer", "supervisor"}
    assert [one.reason for one in found.overrides] == [WHY]
