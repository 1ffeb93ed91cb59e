"""Reads are for what callers were told: admission, overrides, and the month's report of both."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime

import grpc
import pytest
import sqlalchemy as sa

import earwitness
from appliance.access.identities import Role
from appliance.access.purposes import heard_in
from appliance.api import gate
from appliance.catalog import contracttables, tables
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model import Mark, MarkKind, new_id
from appliance.model.purpose import SEEDS
from earwitness.v1 import purposes_pb2, tenants_pb2
from earwitness.v1 import recordings_pb2 as pb

SEEDED = [one[0] for one in SEEDS]
WHY = "The coroner asks for it by Friday"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def announced(purposes: str, start_ns: int, **data) -> Mark:
    return Mark(
        kind=MarkKind.ANNOUNCED,
        at_ns=start_ns,
        data={"heard": "whole", "purposes": purposes, "prompt": new_id(), **data},
    )


def name(recording) -> str:
    return f"tenants/-/recordings/{recording.info.recording_id}"


def download(client, recording, purpose="", **how) -> pb.DownloadHeader:
    request = pb.DownloadRecordingRequest(name=name(recording), format=earwitness.WAV, purpose=purpose, **how)
    items = list(client.recordings.DownloadRecording(request))
    return next(item.header for item in items if item.HasField("header"))


def shown(client, recording) -> pb.Recording:
    return client.recordings.GetRecording(pb.GetRecordingRequest(name=name(recording))).recording


@pytest.fixture
def make(box, sealing):
    """Files a recording of now."""

    def file(*marks: Mark, line_id: str = "", **how):
        tenant_id, line = box.default_line()
        now_ns = time.time_ns()
        made = sealing(tenant_id, line_id or line, start_ns=now_ns, marks=marks, **how)
        box.filed(box.vault.file(made))
        return made

    return file


@pytest.fixture
def told(make):
    """A recording whose caller heard that it is for training and quality."""
    return make(announced("training,quality", time.time_ns()))


def report(client, box, month="") -> purposes_pb2.ReadReport:
    parent = f"tenants/{box.default_line()[0]}"
    request = purposes_pb2.GetReadReportRequest(
        parent=parent, month=month or datetime.now(UTC).strftime("%Y-%m")
    )
    return client.purposes.GetReadReport(request).report


def reads(box) -> list:
    """What is noted, oldest first."""
    return box.write(lambda connection: connection.execute(contracttables.reads.select()).all())


def test_what_the_announcement_said_is_what_it_may_be_read_for(box, told):
    client = box.client()
    found = shown(client, told)
    assert list(found.purposes) == ["training", "quality"]
    assert found.purpose_source == pb.PURPOSE_SOURCE_ANNOUNCED
    assert download(client, told, "training").purpose_source == pb.PURPOSE_SOURCE_ANNOUNCED
    leases = len(box.vault.leases)
    for purpose, reason in (
        ("", "PURPOSE_NEEDED"),
        ("marketing", "PURPOSE_UNKNOWN"),
        ("evidence", "PURPOSE_NOT_STATED"),
    ):
        error = refused(lambda purpose=purpose: download(client, told, purpose))
        assert error.reason == reason and '"training"' in error.data["stated"]
        picture = pb.GetWaveformRequest(name=name(told), purpose=purpose)
        assert refused(lambda picture=picture: client.recordings.GetWaveform(picture)).reason == reason
    denied = refused(lambda: download(client, told, "evidence"))
    assert denied.code is grpc.StatusCode.PERMISSION_DENIED
    assert denied.data["source"] == "announced" and denied.data["override"] == "records-officer"
    assert len(box.vault.leases) == leases, "no key was asked for"


def test_what_was_not_heard_was_not_said(box, make):
    client = box.client()
    now_ns = time.time_ns()
    none = make(announced("training", now_ns, heard="none"))
    part = make(announced("training", now_ns, heard="part"))
    by_key = make(announced("training", now_ns, heard="part", interrupted=True))
    for one in (none, part, make()):
        found = shown(client, one)
        assert (list(found.purposes), found.purpose_source) == (SEEDED, pb.PURPOSE_SOURCE_NOT_ANNOUNCED)
        assert download(client, one, "evidence").purpose_source == pb.PURPOSE_SOURCE_NOT_ANNOUNCED
    assert list(shown(client, by_key).purposes) == ["training"]


def test_a_second_part_of_a_call_goes_by_the_announcement_in_the_first(box, make):
    call_id = new_id()
    make(announced("training", time.time_ns()), call_id=call_id)
    second = make(call_id=call_id, part=2)
    assert list(shown(box.client(), second).purposes) == ["training"]


def test_another_tenants_call_of_the_same_id_says_nothing(box, sealing, make):
    client = box.client()
    other = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    ).tenant.name.split("/")[1]
    call_id = new_id()
    theirs = sealing(other, new_id(), call_id=call_id, marks=(announced("training", time.time_ns()),))
    box.filed(box.vault.file(theirs))
    assert shown(client, make(call_id=call_id)).purpose_source == pb.PURPOSE_SOURCE_NOT_ANNOUNCED


def test_the_line_says_what_its_callers_are_told_by_other_means_from_then_on(box, make):
    client = box.client()
    parent = f"tenants/{box.default_line()[0]}"
    line = client.tenants.CreateLine(
        tenants_pb2.CreateLineRequest(
            parent=parent, line=tenants_pb2.Line(display_name="x", numbers=["7"], purposes=["complaints"])
        )
    ).line
    line_id = line.name.rsplit("/", 1)[1]
    before = make(line_id=line_id)
    client.tenants.UpdateLine(
        tenants_pb2.UpdateLineRequest(line=tenants_pb2.Line(name=line.name, purposes=["safeguarding"]))
    )
    after = make(line_id=line_id)
    for one, purpose in ((before, "complaints"), (after, "safeguarding")):
        found = shown(client, one)
        assert (list(found.purposes), found.purpose_source) == ([purpose], pb.PURPOSE_SOURCE_LINE)
    assert refused(lambda: download(client, before, "safeguarding")).reason == "PURPOSE_NOT_STATED"
    heard = make(announced("training", time.time_ns()), line_id=line_id)
    assert list(shown(client, heard).purposes) == ["training"], "what was heard counts"


def test_lists_tell_it_in_full_alone(box, told):
    client = box.client()
    for view, count in ((pb.RECORDING_VIEW_FULL, 2), (pb.RECORDING_VIEW_BASIC, 0)):
        listed = client.recordings.ListRecordings(pb.ListRecordingsRequest(parent="tenants/-", view=view))
        assert [len(one.purposes) for one in listed.recordings] == [count]


def test_an_override_is_the_records_officers_and_says_why(box, told):
    tenant_id = box.default_line()[0]
    officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant_id)
    supervisor = box.enroll("supervisor", Role.SUPERVISOR, tenant_id=tenant_id)
    assert refused(lambda: download(officer, told, "evidence")).reason == "PURPOSE_NOT_STATED"
    for why in ("short", "x" * 201, "a line\nbreak is none", "          x"):
        error = refused(lambda why=why: download(officer, told, "evidence", override_reason=why))
        assert [*error.fields] == ["override_reason"]
    denied = refused(lambda: download(supervisor, told, "evidence", override_reason=WHY))
    assert denied.reason == "PURPOSE_NOT_STATED"
    unknown = refused(lambda: download(officer, told, "marketing", override_reason=WHY))
    assert unknown.reason == "PURPOSE_UNKNOWN", "of the tenant's list it must be"
    download(officer, told, "evidence", override_reason=WHY)
    download(officer, told, "training", override_reason=WHY)  # it was stated: no override
    entries = [one for one in box.audited() if one["what"] == "read"]
    assert [(one["who"], one["purpose"], one.get("override", False)) for one in entries] == [
        (f"{tenant_id}/officer", "evidence", True),
        (f"{tenant_id}/officer", "training", False),
    ]
    assert WHY not in str(box.audited()), "the log is kept for good, and a reason may tell of people"
    assert entries[0]["stated"] == "announced" and entries[0]["recording"] == told.info.recording_id
    found = report(officer, box)
    assert (found.total.reads, found.total.overrides, found.total.recordings) == (2, 1, 1)
    assert [(one.actor, one.purpose, one.reason) for one in found.overrides] == [
        (f"{tenant_id}/officer", "evidence", WHY)
    ]


def test_the_report_counts_by_purpose_role_and_person(box, told, make):
    tenant_id = box.default_line()[0]
    officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant_id)
    supervisor = box.enroll("supervisor", Role.SUPERVISOR, Role.AUDITOR, tenant_id=tenant_id)
    quiet = make()
    download(officer, told, "training")
    download(supervisor, quiet, "evidence")
    supervisor.recordings.GetWaveform(pb.GetWaveformRequest(name=name(told), purpose="training"))
    refused(lambda: download(supervisor, told, "complaints"))
    refused(lambda: download(supervisor, told, "Mr. Miller's complaint"))
    found = report(officer, box)
    assert found.time_zone == "UTC"
    total = found.total
    assert (total.reads, total.refusals, total.not_announced, total.recordings) == (3, 2, 1, 2)
    assert {one.key: (one.counts.reads, one.counts.refusals) for one in found.by_purpose} == {
        "training": (2, 0),
        "evidence": (1, 0),
        "complaints": (0, 1),
        "": (0, 1),
    }
    assert {one.key: one.counts.reads for one in found.by_role} == {"records-officer": 1, "supervisor": 2}
    assert {one.key: one.counts.reads for one in found.by_person} == {
        f"{tenant_id}/officer": 1,
        f"{tenant_id}/supervisor": 2,
    }
    assert not report(officer, box, "2020-01").total.reads
    for month in ("2026-13", "2026", "202a-01"):
        assert "month" in refused(lambda month=month: report(officer, box, month)).fields
    audited = "".join(map(str, box.audited()))
    assert "Miller" not in audited, "what is no purpose may be anything"


def test_other_tenants_and_roles_get_no_report(box, told):
    client = box.client()
    other = client.tenants.CreateTenant(
        tenants_pb2.CreateTenantRequest(tenant=tenants_pb2.Tenant(display_name="Other"))
    ).tenant.name.split("/")[1]
    stranger = box.enroll("stranger", Role.RECORDS_OFFICER, tenant_id=other)
    assert refused(lambda: report(stranger, box)).reason == "TENANT_NOT_FOUND"
    agent = box.enroll("agent", Role.AGENT, tenant_id=box.default_line()[0])
    assert refused(lambda: report(agent, box)).reason == "METHOD_DENIED"


def test_what_is_resumed_counts_once(box, told):
    client = box.client()
    header = download(client, told, "training")
    for offset in (1, 100):
        download(client, told, "training", offset=offset, etag=header.etag)
    assert [one.resumed for one in reads(box)] == [False, True, True]
    assert report(client, box).total.reads == 1
    # Who did not begin it does not go on with it.
    other = box.enroll("other", Role.SUPERVISOR, tenant_id=box.default_line()[0])
    download(other, told, "training", offset=100, etag=header.etag)
    assert report(client, box).total.reads == 2


def test_a_read_that_cannot_be_noted_does_not_happen(box, told, monkeypatch):
    def full(connection, read) -> None:
        raise CatalogueUnavailableError("no space")

    client = box.client()
    monkeypatch.setattr("appliance.catalog.reads.note", full)
    leases = len(box.vault.leases)
    assert refused(lambda: download(client, told, "training")).code is grpc.StatusCode.UNAVAILABLE
    assert len(box.vault.leases) == leases


def test_of_an_erased_recording_opaque_ids_stay(box, told):
    client = box.client()
    download(client, told, "evidence", override_reason=WHY)
    client.recordings.EraseRecording(pb.EraseRecordingRequest(name=name(told), force=True, reason="asked"))
    assert not shown(client, told).purposes
    (row,) = reads(box)
    assert row.overridden and row.override_reason == "" and row.recording_id == told.info.recording_id
    assert [one.reason for one in report(client, box).overrides] == [""]
    files = list(box.layout.control.glob("catalogue.db*"))
    box.wait(lambda: not any(WHY.encode() in path.read_bytes() for path in files if os.path.exists(path)))


def test_why_is_not_kept_of_a_recording_that_is_erased_meanwhile(box, told, monkeypatch):
    client = box.client()
    write_down, row = gate.write_down, tables.recordings

    async def erased_after(what, **more) -> None:
        await write_down(what, **more)
        erase = sa.update(row).where(row.c.id == told.info.recording_id).values(state="erased")
        await box.control.parts.store.write(lambda connection: connection.execute(erase))

    monkeypatch.setattr(gate, "write_down", erased_after)
    with contextlib.suppress(grpc.RpcError):
        download(client, told, "evidence", override_reason=WHY)
    assert [(one.overridden, one.override_reason) for one in reads(box)] == [(True, "")]


def test_a_purpose_that_is_archived_is_read_for_where_it_was_stated(box, told, make):
    client = box.client()
    tenant = f"tenants/{box.default_line()[0]}"
    client.purposes.ArchivePurpose(purposes_pb2.ArchivePurposeRequest(name=f"{tenant}/purposes/training"))
    download(client, told, "training")
    quiet = make()
    assert "training" not in shown(client, quiet).purposes
    assert refused(lambda: download(client, quiet, "training")).reason == "PURPOSE_NOT_STATED"


def test_purposes_in_marks_are_taken_as_they_come_from_a_file():
    assert heard_in([{"heard": "whole", "purposes": "training,,No Form, quality,training"}]) == ("training",)
    assert heard_in([{"heard": "whole"}, {}]) == ()
    cut = ",".join(f"purpose-{n:02}" for n in range(40))[:300]
    assert heard_in([{"heard": "whole", "purposes": cut}])[-1] == "purpose-26", "the last one is not whole"
