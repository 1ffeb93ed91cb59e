"""Staff and notices through the API: the list of staff, versions and their time, ways of acknowledging, who has not."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import earwitness
from appliance.access.identities import Role
from earwitness.v1 import notices_pb2 as pb
from earwitness.v1 import staff_pb2, tenants_pb2

DAY = 86400
# A name in each of many scripts; among them letters that combine, join and are written from the right.
NAMES = [
    "Ada Lovelace",
    "Zoë Łukasiewicz-Ñandú",
    "Νίκη Παπαδοπούλου",
    "Олена Їжакевич",
    "დავით აღმაშენებელი",
    "Հայկ Սարգսյան",
    "יעל כהן",
    "محمد بن سلمى",
    "नरेन्द्र श्रीवास्तव",
    "முத்துலட்சுமி",
    "সুকুমার রায়",
    "สมชาย ใจดี",
    "ຄຳພູ",
    "ကျော်ဇော",
    "សុខា",
    "ལྷ་མོ",
    "ኃይሌ ገብረ ሥላሴ",
    "山田 太郎",
    "김민준",
    "王小明",
    "ᏣᎳᎩ",
    "𐍅𐌿𐌻𐍆𐌹𐌻𐌰",
    "𞤀𞤣𞤤𞤢𞤥",
    "می‌خواهم",
    "O’Brien",
]


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def home(box):
    return f"tenants/{box.default_line()[0]}"


@pytest.fixture
def client(box, home):
    return box.client()


def member(client, home, display_name="Ada Lovelace", **fields) -> staff_pb2.StaffMember:
    asked = staff_pb2.StaffMember(display_name=display_name, **fields)
    request = staff_pb2.CreateStaffMemberRequest(parent=home, staff_member=asked)
    return client.notices.CreateStaffMember(request).staff_member


def notice(client, home, text="Calls are recorded.", how=None, **fields) -> pb.Notice:
    asked = pb.Notice(**{"display_name": "Recording", "required": True, **fields})
    request = pb.CreateNoticeRequest(
        parent=home, notice=asked, first_version=pb.NoticeVersion(text=text, **(how or {}))
    )
    return client.notices.CreateNotice(request).notice


def paper(client, made, who, version=1, **fields) -> pb.Acknowledgement:
    request = pb.RecordPaperAcknowledgementRequest(
        **{
            "name": made.name,
            "staff_member": who.name,
            "version": version,
            "sign_time": Timestamp(seconds=int(time.time()) + 1),
            "kept_at": "Cabinet 4, HR",
            **fields,
        }
    )
    return client.notices.RecordPaperAcknowledgement(request).acknowledgement


def outstanding(client, home, **how) -> dict[str, list[str]]:
    request = pb.ListOutstandingAcknowledgementsRequest(parent=home, **how)
    found = client.notices.ListOutstandingAcknowledgements(request).outstanding_acknowledgements
    return {one.display_name: list(one.notices) for one in found}


def test_staff_is_entered_changed_leaves_and_comes_back(box, home, client):
    line = f"{home}/lines/{box.default_line()[1]}"
    made = member(client, home, email="ada@trust.example", numbers=["201", "00441632960201"], lines=[line])
    assert made.kind == staff_pb2.STAFF_KIND_AGENT and made.numbers == ["201", "+441632960201"]
    assert refused(lambda: member(client, home, "Eve", numbers=["201"])).reason == "STAFF_TAKEN"
    told = refused(lambda: member(client, home, "Eve", lines=[f"{home}/lines/{'a' * 26}"]))
    assert "staff_member.lines[0]" in told.fields

    change = staff_pb2.StaffMember(name=made.name, display_name="Ada King", etag=made.etag)
    request = staff_pb2.UpdateStaffMemberRequest(staff_member=change, validate_only=True)
    assert client.notices.UpdateStaffMember(request).staff_member.display_name == "Ada King"
    request.validate_only = False
    changed = client.notices.UpdateStaffMember(request).staff_member
    assert changed.numbers == made.numbers and changed.email == made.email
    assert refused(lambda: client.notices.UpdateStaffMember(request)).reason == "ETAG_MISMATCH"

    left = staff_pb2.ArchiveStaffMemberRequest(name=made.name)
    gone = client.notices.ArchiveStaffMember(left).staff_member
    assert gone.HasField("leave_time") and client.notices.ArchiveStaffMember(left).staff_member == gone
    listing = staff_pb2.ListStaffMembersRequest(parent=home)
    assert not client.notices.ListStaffMembers(listing).staff_members
    listing.show_left = True
    assert [one.name for one in client.notices.ListStaffMembers(listing).staff_members] == [made.name]
    other = member(client, home, "Eve", numbers=["201"])  # the extension is another's by now
    back = staff_pb2.UnarchiveStaffMemberRequest(name=made.name)
    assert refused(lambda: client.notices.UnarchiveStaffMember(back)).reason == "STAFF_TAKEN"
    client.notices.ArchiveStaffMember(staff_pb2.ArchiveStaffMemberRequest(name=other.name))
    assert not client.notices.UnarchiveStaffMember(back).staff_member.HasField("leave_time")
    entries = [one for one in box.audited() if str(one.get("method")).endswith("/UnarchiveStaffMember")]
    assert entries[-1]["subject"] == made.name and "Ada" not in str(box.audited())


def test_names_of_every_script_are_kept_and_what_turns_text_is_none(home, client):
    for name in NAMES:
        member(client, home, name)
    listed = client.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=home, page_size=1000))
    assert [one.display_name for one in listed.staff_members] == NAMES
    table = "name,number\n" + "".join(f"{name} II,{800 + n}\n" for n, name in enumerate(NAMES))
    request = staff_pb2.ImportStaffMembersRequest(parent=home, csv=table.encode())
    assert client.notices.ImportStaffMembers(request).created == len(NAMES)
    for wrong in ("", "  ", "a\nb", "x" * 101, "\u202egnp.exe", "\u2066x", "a\u2028b", "a\x00b"):
        assert "staff_member.display_name" in refused(lambda wrong=wrong: member(client, home, wrong)).fields


def test_a_table_is_taken_over_as_a_whole_or_not_at_all(home, client):
    known = member(client, home, "Grace Hopper", numbers=["300"])

    def send(table: str | bytes, **how) -> staff_pb2.ImportStaffMembersResponse:
        raw = table.encode() if isinstance(table, str) else table
        return client.notices.ImportStaffMembers(
            staff_pb2.ImportStaffMembersRequest(parent=home, csv=raw, **how)
        )

    wrong = send(
        "Name;E-Mail;email;number;line;kind\n"
        "Ada;x;ada@trust.example;201|202;All calls;agent\n"
        ";x;;;;\n"
        "Bob;x;no address;;;\n"
        "Carl;x;;201;;\n"
        "Dan;x;;;No such line;\n"
        "Eve;x;;;;boss\n"
        "Fay;x;;2 0 x !;;\n"
    )
    assert not wrong.valid and wrong.rows == 7 and not wrong.created
    assert [(one.row, one.column, one.reason) for one in wrong.problems] == [
        (3, "name", "missing"),
        (4, "email", "malformed"),
        (5, "number", "twice"),
        (6, "line", "unknown"),
        (7, "kind", "unknown"),
        (8, "number", "malformed"),
    ]
    assert "no address" not in str(wrong)
    assert (
        len(client.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=home)).staff_members)
        == 1
    )

    good = '\ufeffname,number,email\r\nAda,201,ada@trust.example\r\n"Hopper, Grace",300,\r\n'
    dry = send(good, validate_only=True)
    assert (dry.valid, dry.created, dry.updated) == (True, 1, 1)
    done = send(good, request_id="t1")
    assert (done.created, done.updated) == (1, 1)
    assert send(good, request_id="t1").valid
    again = send(good)
    assert (again.valid, again.created, again.updated) == (True, 0, 0)
    request = staff_pb2.GetStaffMemberRequest(name=known.name)
    assert client.notices.GetStaffMember(request).staff_member.display_name == "Hopper, Grace"
    for bad in (
        b"",
        b"\xff\xfe",
        "number\n1\n",
        'name\n"open\n',
        "name,name\na,b\n",
        "name\na,b\n",
        "name\n" + "x\n" * 5001,
    ):
        assert refused(lambda bad=bad: send(bad)).reason == "TABLE_UNREADABLE", bad[:20]


def test_versions_come_into_force_at_their_time_and_old_ones_stay(box, home, client):
    who = member(client, home, numbers=["201"])
    made = notice(client, home)
    assert (made.current.version, made.needed_version) == (1, 1) and made.current.acknowledge_anew
    paper(client, made, who)
    assert not outstanding(client, home)

    def publish(text: str, **how) -> pb.Notice:
        request = pb.PublishNoticeVersionRequest(name=made.name, version=pb.NoticeVersion(text=text, **how))
        return client.notices.PublishNoticeVersion(request).notice

    small = publish("Calls are recorded!")
    assert (small.current.version, small.needed_version) == (2, 1)
    assert not outstanding(client, home), "nothing that matters has changed"
    ahead = Timestamp(seconds=int(time.time()) + 3 * DAY)
    planned = publish("Calls are recorded, and kept.", acknowledge_anew=True, publish_time=ahead)
    assert (planned.current.version, planned.scheduled.version, planned.needed_version) == (2, 3, 1)
    assert "version.publish_time" in refused(lambda: publish("Sooner.")).fields
    cancel = pb.CancelNoticeVersionRequest(name=made.name, version=3)
    assert not client.notices.CancelNoticeVersion(cancel).notice.HasField("scheduled")
    publish("Calls are recorded, and kept.", acknowledge_anew=True, publish_time=ahead)
    box.clock.ahead_ns += 3 * DAY * 10**9
    now = client.notices.GetNotice(pb.GetNoticeRequest(name=made.name)).notice
    assert (now.current.version, now.needed_version) == (4, 4)
    assert outstanding(client, home) == {"Ada Lovelace": [made.name]}
    assert refused(
        lambda: client.notices.CancelNoticeVersion(pb.CancelNoticeVersionRequest(name=made.name, version=4))
    ).reason == ("NOTICE_VERSION_PUBLISHED")
    assert refused(lambda: paper(client, made, who, 3)).reason == "NOTICE_VERSION_NOT_IN_FORCE"

    versions, request = [], pb.ListNoticeVersionsRequest(parent=made.name, page_size=3)
    while True:
        answer = client.notices.ListNoticeVersions(request)
        versions += answer.versions
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    assert [one.version for one in versions] == [4, 3, 2, 1] and versions[1].HasField("cancel_time")
    assert versions[3].text == "Calls are recorded." and len(versions[3].text_sha256) == 64
    archived = client.notices.ArchiveNotice(pb.ArchiveNoticeRequest(name=made.name)).notice
    assert archived.HasField("archive_time") and not outstanding(client, home)
    client.notices.UnarchiveNotice(pb.UnarchiveNoticeRequest(name=made.name))
    assert outstanding(client, home)


def test_to_whom_it_goes(box, home, client):
    line = f"{home}/lines/{box.default_line()[1]}"
    request = tenants_pb2.CreateLineRequest(
        parent=home, line=tenants_pb2.Line(display_name="Ward", numbers=["01632960200"])
    )
    ward = client.tenants.CreateLine(request).line.name
    member(client, home, "Any line", numbers=["1"])
    member(client, home, "Ward agent", numbers=["2"], lines=[ward])
    member(client, home, "Cleaner")
    made = notice(client, home)
    assert set(outstanding(client, home)) == {"Any line", "Ward agent", "Cleaner"}

    def to(**fields) -> set[str]:
        asked = pb.Notice(name=made.name, **fields)
        client.notices.UpdateNotice(
            pb.UpdateNoticeRequest(notice=asked, update_mask={"paths": ["audience", "lines"]})
        )
        return set(outstanding(client, home))

    assert to(audience=pb.NOTICE_AUDIENCE_AGENTS) == {"Any line", "Ward agent"}
    assert to(audience=pb.NOTICE_AUDIENCE_LINE_AGENTS, lines=[line]) == {"Any line"}
    assert to(audience=pb.NOTICE_AUDIENCE_LINE_AGENTS, lines=[ward]) == {"Any line", "Ward agent"}
    assert refused(lambda: to(audience=pb.NOTICE_AUDIENCE_LINE_AGENTS)).fields == {
        "notice.lines": refused(lambda: to(audience=pb.NOTICE_AUDIENCE_LINE_AGENTS)).fields["notice.lines"]
    }
    assert set(outstanding(client, home, line=line)) == {"Any line"}
    counts = client.notices.CountAcknowledgements(pb.CountAcknowledgementsRequest(parent=home, line=ward))
    assert (counts.staff, counts.notices[0].addressed, counts.notices[0].acknowledged) == (2, 2, 0)


def test_the_person_acknowledges_under_the_own_identity(box, home, client):
    tenant_id = home.split("/")[1]
    agent = box.enroll("ada", Role.AGENT, tenant_id=tenant_id, agent="201")
    made = notice(client, home)
    own = pb.ListOwnNoticesRequest(parent=home)
    assert refused(lambda: agent.notices.ListOwnNotices(own)).reason == "STAFF_RECORD_MISSING"
    who = member(client, home, identity=f"{home}/identities/ada")
    assert (
        refused(lambda: member(client, home, "Eve", identity=f"{home}/identities/ada")).reason
        == "STAFF_TAKEN"
    )
    (mine,) = agent.notices.ListOwnNotices(own).notices
    assert mine.outstanding and mine.notice.current.text == "Calls are recorded."
    old = pb.AcknowledgeNoticeRequest(name=made.name, version=2)
    assert refused(lambda: agent.notices.AcknowledgeNotice(old)).reason == "NOTICE_VERSION_NOT_IN_FORCE"
    say = pb.AcknowledgeNoticeRequest(name=made.name, version=1)
    done = agent.notices.AcknowledgeNotice(say).acknowledgement
    assert done.way == pb.ACKNOWLEDGEMENT_WAY_PERSON and done.actor == f"{home}/identities/ada"
    assert done.staff_member == who.name and done.text_sha256 == made.current.text_sha256
    assert agent.notices.AcknowledgeNotice(say).acknowledgement == done
    (mine,) = agent.notices.ListOwnNotices(own).notices
    assert not mine.outstanding and mine.acknowledged_version == 1
    # Whose record names nobody is known by the own number; another's is not.
    guest = box.enroll("guest", Role.AGENT, tenant_id=tenant_id, agent="202")
    by_number = member(client, home, "Guest", numbers=["202"])
    assert guest.notices.AcknowledgeNotice(say).acknowledgement.staff_member == by_number.name
    assert refused(
        lambda: agent.notices.ListStaffMembers(staff_pb2.ListStaffMembersRequest(parent=home))
    ).reason == ("METHOD_DENIED")


def test_by_table_and_on_paper_and_withdrawn(box, home, client):
    ada = member(client, home, email="ada@trust.example")
    grace = member(client, home, "Grace", numbers=["300"])
    made = notice(client, home)
    today = time.strftime("%Y-%m-%d", time.gmtime())

    def send(rows: str, **how) -> pb.ImportAcknowledgementsResponse:
        return client.notices.ImportAcknowledgements(
            pb.ImportAcknowledgementsRequest(
                name=made.name,
                system="ESR e-learning",
                csv=f"person,version,acknowledged\n{rows}".encode(),
                **how,
            )
        )

    wrong = send(
        f"nobody@trust.example,1,{today}\nada@trust.example,7,{today}\n300,1,yesterday\n300,1,2031-01-01\n300,1,2020-01-01\n"
    )
    assert [(one.row, one.column, one.reason) for one in wrong.problems] == [
        (2, "person", "unknown"),
        (3, "version", "unknown"),
        (4, "acknowledged", "malformed"),
        (5, "acknowledged", "future"),
        (6, "acknowledged", "malformed"),
    ]
    assert set(outstanding(client, home)) == {"Ada Lovelace", "Grace"}
    box.clock.ahead_ns += 2 * DAY * 10**9
    assert send(f"ADA@trust.example,1,{today}\n").created == 1
    assert send(f"ada@trust.example,1,{today}\n").created == 0, "of one version one counts"
    signed = paper(client, made, grace)
    assert signed.evidence == "Cabinet 4, HR" and not outstanding(client, home)
    for bad in (0, int(time.time()) + 9 * DAY):
        told = refused(lambda bad=bad: paper(client, made, grace, sign_time=Timestamp(seconds=bad)))
        assert "sign_time" in told.fields

    back = pb.WithdrawAcknowledgementRequest(name=signed.name, reason="Signed by the wrong person")
    gone = client.notices.WithdrawAcknowledgement(back).acknowledgement
    assert gone.withdraw_actor == "identities/admin" and set(outstanding(client, home)) == {"Grace"}
    assert client.notices.WithdrawAcknowledgement(back).acknowledgement == gone
    history = client.notices.ListAcknowledgements(
        pb.ListAcknowledgementsRequest(parent=home)
    ).acknowledgements
    assert [(one.way, one.HasField("withdraw_time")) for one in history] == [
        (pb.ACKNOWLEDGEMENT_WAY_PAPER, True),
        (pb.ACKNOWLEDGEMENT_WAY_IMPORT, False),
    ]
    of_ada = pb.ListAcknowledgementsRequest(parent=home, staff_member=ada.name)
    assert [one.evidence for one in client.notices.ListAcknowledgements(of_ada).acknowledgements] == [
        "ESR e-learning"
    ]
    assert "Cabinet" not in str(box.audited()) and "wrong person" not in str(box.audited())


def test_the_default_texts_say_what_the_lines_do(box, home, client):
    line = f"{home}/lines/{box.default_line()[1]}"
    rules = tenants_pb2.InlineRules(inbound=[tenants_pb2.Target(uri="sip:pbx.example")])
    asked = tenants_pb2.Line(
        name=line,
        rights=tenants_pb2.RIGHTS_END,
        keys=tenants_pb2.KeyCodes(pause="*61", resume="*62", end="*63"),
        inline=rules,
    )
    client.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=asked))
    adopt = pb.AdoptDefaultNoticesRequest(parent=home)
    made = client.notices.AdoptDefaultNotices(adopt)
    assert made.changed == 3 and len(made.notices) == 3 and all(one.required for one in made.notices)
    pausing = next(one for one in made.notices if one.default_id == "pausing-and-ending")
    assert "press *61 to pause, *62 to resume and *63 to end it for good" in pausing.current.text
    recorded = next(one for one in made.notices if one.default_id == "calls-are-recorded")
    assert (
        "This goes for all lines." in recorded.current.text and "- Training of staff" in recorded.current.text
    )
    assert not any("${" in one.current.text for one in made.notices)
    assert client.notices.AdoptDefaultNotices(adopt).changed == 0
    asked.keys.pause = "*71"
    client.tenants.UpdateLine(tenants_pb2.UpdateLineRequest(line=asked))
    dry = client.notices.AdoptDefaultNotices(pb.AdoptDefaultNoticesRequest(parent=home, validate_only=True))
    assert dry.changed == 1
    again = client.notices.AdoptDefaultNotices(adopt)
    newer = next(one for one in again.notices if one.default_id == "pausing-and-ending")
    assert newer.name == pausing.name and newer.current.version == 2 and newer.needed_version == 2
    assert "press *71 to pause" in newer.current.text


def test_who_left_long_ago_is_an_opaque_name(box, home, client):
    who = member(client, home, "Ephemeral Quokka", email="quokka@trust.example", numbers=["201"])
    stays = member(client, home, "Grace")
    made = notice(client, home)
    done = paper(client, made, who)
    client.tenants.UpdateTenant(
        tenants_pb2.UpdateTenantRequest(
            tenant=tenants_pb2.Tenant(name=home, acknowledgement_retention_years=1)
        )
    )
    client.notices.ArchiveStaffMember(staff_pb2.ArchiveStaffMemberRequest(name=who.name))
    box.clock.ahead_ns += 360 * DAY * 10**9
    box.run(box.control._notices.round.look())
    asked = staff_pb2.GetStaffMemberRequest(name=who.name)
    assert client.notices.GetStaffMember(asked).staff_member.display_name == "Ephemeral Quokka"
    box.clock.ahead_ns += 10 * DAY * 10**9
    box.run(box.control._notices.round.look())
    gone = client.notices.GetStaffMember(asked).staff_member
    assert gone.forgotten and not (gone.display_name or gone.email or gone.numbers or gone.identity)
    (kept,) = client.notices.ListAcknowledgements(
        pb.ListAcknowledgementsRequest(parent=home)
    ).acknowledgements
    assert (kept.name, kept.version, kept.staff_member, kept.evidence) == (done.name, 1, who.name, "")
    back = staff_pb2.UnarchiveStaffMemberRequest(name=who.name)
    assert refused(lambda: client.notices.UnarchiveStaffMember(back)).reason == "STAFF_LEFT"
    assert client.notices.GetStaffMember(
        staff_pb2.GetStaffMemberRequest(name=stays.name)
    ).staff_member.display_name
    assert {"what": "staff-forgotten", "count": 1}.items() <= box.audited()[-1].items() or any(
        one.get("what") == "staff-forgotten" and one.get("count") == 1 for one in box.audited()
    )


def test_reminders_after_a_week_a_fortnight_and_a_month(box, home, client):
    from earwitness.v1 import alarms_pb2

    who = member(client, home)
    made = notice(client, home)

    def told() -> list[tuple[int, dict[str, str]]]:
        box.run(box.control._notices.round.look())
        found = client.alarms.ListAlarms(alarms_pb2.ListAlarmsRequest(parent=home)).alarms
        return [(one.count, dict(one.data)) for one in found if one.kind == "NoticesOutstanding"]

    assert told() == []
    box.clock.ahead_ns += 7 * DAY * 10**9
    assert told() == [(1, {"people": "1", "notices": "1", "days": "7"})]
    assert told()[0][0] == 1, "once"
    box.clock.ahead_ns += 24 * DAY * 10**9
    assert told() == [(2, {"people": "1", "notices": "1", "days": "30"})]
    paper(client, made, who)
    box.run(box.control._notices.round.look())
    found = client.alarms.ListAlarms(alarms_pb2.ListAlarmsRequest(parent=home)).alarms
    assert all(one.HasField("clear_time") for one in found if one.kind == "NoticesOutstanding")


@pytest.mark.refusals
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": ""}, "notice.display_name"),
        ({"text": ""}, "first_version.text"),
        ({"text": "x" * 20_001}, "first_version.text"),
        ({"text": "a\x00"}, "first_version.text"),
        ({"how": {"language": "english"}}, "first_version.language"),
        (
            {"how": {"publish_time": Timestamp(seconds=int(time.time()) + 400 * DAY)}},
            "first_version.publish_time",
        ),
        ({"lines": ["tenants/x"]}, "notice.lines[0]"),
    ],
)
def test_bad_notices_name_the_field(home, client, fields, field):
    assert field in refused(lambda: notice(client, home, **fields)).fields
