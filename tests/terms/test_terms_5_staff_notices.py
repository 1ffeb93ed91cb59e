"""Clause 5: the client informs its staff: that calls are recorded, how to pause or end and when, that the law governs use.

The promise: staff notices in versions, with good texts to begin with; who acknowledged which, when and how; who has not is
listed, and may be barred from pausing or reading by the client's choice, until it is done.
"""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from earwitness.internal.v1 import signaling_pb2
from earwitness.v1 import calls_pb2, staff_pb2, tenants_pb2
from earwitness.v1 import notices_pb2 as pb
from earwitness.v1 import recordings_pb2 as rec


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def home(box) -> str:
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def admin(box, home):
    return box.enroll("boss", Role.TENANT_ADMINISTRATOR, Role.RECORDS_OFFICER, tenant_id=home.split("/")[1])


@pytest.fixture
def agent(box, home):
    roles = (Role.AGENT, Role.SUPERVISOR)
    return box.enroll("ada", *roles, tenant_id=home.split("/")[1], agent="201")


@pytest.fixture
def told(admin, home):
    """The texts that come with the box, and somebody to read them."""
    member = staff_pb2.StaffMember(display_name="Ada", identity=f"{home}/identities/ada", numbers=["201"])
    admin.notices.CreateStaffMember(staff_pb2.CreateStaffMemberRequest(parent=home, staff_member=member))
    return list(admin.notices.AdoptDefaultNotices(pb.AdoptDefaultNoticesRequest(parent=home)).notices)


def choose(admin, home, **fields) -> None:
    request = tenants_pb2.UpdateTenantRequest(tenant=tenants_pb2.Tenant(name=home, **fields))
    request.update_mask.paths.extend(fields)
    admin.tenants.UpdateTenant(request)


def acknowledge(agent, notices) -> None:
    for one in notices:
        agent.notices.AcknowledgeNotice(
            pb.AcknowledgeNoticeRequest(name=one.name, version=one.current.version)
        )


def outstanding(admin, home) -> list[pb.OutstandingAcknowledgement]:
    request = pb.ListOutstandingAcknowledgementsRequest(parent=home)
    return list(admin.notices.ListOutstandingAcknowledgements(request).outstanding_acknowledgements)


def test_the_three_things_are_told_in_texts_that_come_with_the_box(told):
    texts = {one.default_id: one.current.text for one in told}
    assert "Calls on our lines are recorded" in texts["calls-are-recorded"]
    assert "When to pause" in texts["pausing-and-ending"] and "When to end" in texts["pausing-and-ending"]
    assert "SI 2018/356" in texts["use-within-the-law"] and "UK GDPR" in texts["use-within-the-law"]


def test_who_acknowledged_what_when_and_how_is_kept_for_each_version(box, admin, agent, told, home):
    (lacking,) = outstanding(admin, home)
    assert lacking.display_name == "Ada" and len(lacking.notices) == 3
    own = agent.notices.ListOwnNotices(pb.ListOwnNoticesRequest(parent=home)).notices
    assert [one.outstanding for one in own] == [True] * 3
    acknowledge(agent, [one.notice for one in own])
    assert not outstanding(admin, home)
    found = admin.notices.ListAcknowledgements(pb.ListAcknowledgementsRequest(parent=home)).acknowledgements
    assert {(one.way, one.version, one.display_name) for one in found} == {
        (pb.ACKNOWLEDGEMENT_WAY_PERSON, 1, "Ada")
    }
    assert all(abs(one.acknowledge_time.seconds - time.time()) < 3600 for one in found)
    new = pb.NoticeVersion(text="Other rules.", acknowledge_anew=True)
    admin.notices.PublishNoticeVersion(pb.PublishNoticeVersionRequest(name=told[0].name, version=new))
    assert [list(one.notices) for one in outstanding(admin, home)] == [[told[0].name]]
    said = [one for one in box.audited() if str(one.get("method")).endswith("/AcknowledgeNotice")]
    assert len(said) == 6 and {one["subject"] for one in said} == {one.name for one in told}


def test_by_default_nobody_is_barred_and_by_choice_from_pausing_until_it_is_done(
    box, admin, agent, told, home
):
    tenant_id, line_id = box.default_line()
    line = tenants_pb2.Line(name=f"{home}/lines/{line_id}", rights=tenants_pb2.RIGHTS_END)
    admin.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=line))
    party = signaling_pb2.LiveParty(aor="sip:201@pbx.example", role="agent", track=0)
    call = box.signaling.begin(tenant_id, line_id, parties=[party])
    box.wait(lambda: any(one.call_id == call for one in box.control.parts.board.calls()))
    named = {"name": f"{home}/calls/{call}"}
    assert (
        agent.calls.PauseCall(calls_pb2.PauseCallRequest(**named)).call.state == calls_pb2.CALL_STATE_PAUSED
    )
    choose(admin, home, unacknowledged_may_pause=False)
    assert outstanding(admin, home)[0].barred_from_pausing
    agent.calls.ResumeCall(calls_pb2.ResumeCallRequest(**named))  # recording again is never refused
    for ask in (
        lambda: agent.calls.PauseCall(calls_pb2.PauseCallRequest(**named)),
        lambda: agent.calls.StopCall(calls_pb2.StopCallRequest(**named)),
    ):
        error = refused(ask)
        assert error.reason == "NOTICE_NOT_ACKNOWLEDGED" and told[0].name in error.data["notices"]
    assert '"numbers":["201"]' in box.layout.routing.read_text(), "as signaling bars it at the keypad"
    acknowledge(agent, told)
    assert '"numbers":["201"]' not in box.layout.routing.read_text()
    assert (
        agent.calls.PauseCall(calls_pb2.PauseCallRequest(**named)).call.state == calls_pb2.CALL_STATE_PAUSED
    )


def test_by_choice_from_reading_until_it_is_done(box, admin, agent, told, home, sealing):
    made = sealing(*box.default_line())
    box.filed(box.vault.file(made))

    def read() -> bytes:
        request = rec.DownloadRecordingRequest(
            name=f"tenants/-/recordings/{made.info.recording_id}", format=earwitness.WAV, purpose="training"
        )
        return b"".join(item.chunk.data for item in agent.recordings.DownloadRecording(request))

    assert read()
    choose(admin, home, unacknowledged_may_read=False)
    error = refused(read)
    assert error.reason == "NOTICE_NOT_ACKNOWLEDGED"
    assert outstanding(admin, home)[0].barred_from_reading
    acknowledge(agent, told)
    assert read()
    paper = pb.ListAcknowledgementsRequest(parent=home)
    first = admin.notices.ListAcknowledgements(paper).acknowledgements[0]
    admin.notices.WithdrawAcknowledgement(
        pb.WithdrawAcknowledgementRequest(name=first.name, reason="By mistake")
    )
    assert refused(read).reason == "NOTICE_NOT_ACKNOWLEDGED"
    choose(admin, home, unacknowledged_may_read=True)
    assert read()


def test_a_signature_on_paper_is_noted_by_an_officer_with_where_it_is(admin, told, home):
    (who,) = admin.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=home)).staff_members
    request = pb.RecordPaperAcknowledgementRequest(
        name=told[0].name,
        staff_member=who.name,
        version=1,
        sign_time=Timestamp(seconds=int(time.time()) + 1),
        kept_at="Personnel file",
    )
    made = admin.notices.RecordPaperAcknowledgement(request).acknowledgement
    assert (made.way, made.evidence) == (pb.ACKNOWLEDGEMENT_WAY_PAPER, "Personnel file")
    assert made.actor == f"{home}/identities/boss"
