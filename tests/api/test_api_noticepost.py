"""Reminders to people by mail: to whom, what they say, once each, whatever the server does and whoever goes."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import urllib.parse
from dataclasses import replace
from email import message_from_bytes, policy

import pytest
import sqlalchemy as sa
from alarms_kit import Mails, authority, mail_server
from google.protobuf.field_mask_pb2 import FieldMask

from appliance.alarms import schedule
from appliance.api import noticepost
from appliance.catalog import alarmchannels
from appliance.catalog.noticetables import notice_links, notice_mails
from appliance.config.notices import NoticeSettings
from appliance.model.staff import DAY_NS
from earwitness.v1 import alarms_pb2, staff_pb2
from earwitness.v1 import notices_pb2 as pb

WEEK_NS = 7 * DAY_NS
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Ward:
    """A box with a mail server, two notices and some people."""

    def __init__(self, box, mails: Mails, server, pem: str) -> None:
        self.box, self.mails = box, mails
        self.client = box.client()
        self.home = f"tenants/{box.default_line()[0]}"
        settings = alarms_pb2.SmtpSettings(
            host="localhost", port=server.port, to=["ops@trust.example"], ca_certificates=pem,
            **{"from": "box@trust.example"},
        )  # fmt: skip
        channel = alarms_pb2.AlarmChannel(display_name="Mail", smtp=settings)
        channel.minimum_severity = alarms_pb2.ALARM_SEVERITY_CRITICAL
        request = alarms_pb2.CreateAlarmChannelRequest(alarm_channel=channel)
        self.channel = self.client.alarms.CreateAlarmChannel(request).alarm_channel
        self.ada = self.person("Ada", "ada@trust.example")
        self.grace = self.person("Grace", "grace@trust.example")
        self.nobody = self.person("Nobody", "")
        self.notices = [self.notice("Recording"), self.notice("Räume & <b>rules</b>")]

    def person(self, name: str, email: str) -> staff_pb2.StaffMember:
        asked = staff_pb2.StaffMember(display_name=name, email=email)
        request = staff_pb2.CreateStaffMemberRequest(parent=self.home, staff_member=asked)
        return self.client.notices.CreateStaffMember(request).staff_member

    def notice(self, title: str) -> pb.Notice:
        request = pb.CreateNoticeRequest(
            parent=self.home,
            notice=pb.Notice(display_name=title),
            first_version=pb.NoticeVersion(text="Calls are recorded."),
        )
        return self.client.notices.CreateNotice(request).notice

    def later(self, ns: int) -> None:
        self.box.clock.ahead_ns += ns

    def due(self) -> None:
        """What is due is put down, but for mails that go out."""
        self.box.run(self.box.control._notices.round.look())

    def look(self) -> dict[str, list]:
        """The mails that go out now, by recipient."""
        self.mails.got.clear()
        self.due()
        self.box.run(self.box.control.reminders.look())
        found: dict[str, list] = {}
        for to, content, secured in self.mails.got:
            assert len(to) == 1 and secured
            found.setdefault(to[0], []).append(message_from_bytes(content, policy=policy.default))
        return found

    def follow(self, link: str, name: str) -> int:
        """What the page says to somebody who acknowledges by it."""
        tls = ssl.create_default_context(cafile=str(self.box.layout.pki / "ca.crt"))
        page = self.box.control._notices.page
        connection = http.client.HTTPSConnection("127.0.0.1", page.port, context=tls, timeout=10)
        form = urllib.parse.urlencode({"name": name, "read": "yes"})
        connection.request("POST", urllib.parse.urlsplit(link).path, form, FORM)
        status = connection.getresponse().status
        connection.close()
        return status

    def rows(self, table) -> list[sa.Row]:
        return self.box.write(lambda connection: connection.execute(sa.select(table)).all())

    def counters(self) -> dict[str, int]:
        return {name: value for name, value in self.box.status.counters().items() if "notice_mails" in name}


@pytest.fixture
def make_ward(make_box, tmp_path, monkeypatch):
    monkeypatch.setattr(noticepost, "LOOK_S", 3600)  # tests say when
    tls = authority(tmp_path)
    mails = Mails()
    with contextlib.ExitStack() as servers:

        def make(port: int = 0, **how) -> Ward:
            server = servers.enter_context(mail_server(mails, tls.server, **how))
            return Ward(make_box(notices=NoticeSettings(port=port)), mails, server, tls.pem)

        yield make


@pytest.fixture
def ward(make_ward):
    return make_ward()


def links(mail) -> list[str]:
    return re.findall(r"https://\S+", mail.get_content())


def test_who_has_not_acknowledged_gets_one_mail_for_each_reminder(ward):
    assert ward.look() == {}
    ward.later(WEEK_NS)
    found = ward.look()
    assert {to: len(some) for to, some in found.items()} == {"ada@trust.example": 1, "grace@trust.example": 1}
    (mail,) = found["ada@trust.example"]
    assert mail["to"] == "ada@trust.example" and mail["auto-submitted"] == "auto-generated"
    assert "2 notices" in mail["subject"]
    text = mail.get_content()
    assert "- Recording" in text and "- Räume & <b>rules</b>" in text and "Ada" not in text
    mine, others = links(mail), links(found["grace@trust.example"][0])
    assert len(mine) == 2 and not set(mine) & set(others)
    assert ward.look() == {} and not ward.rows(notice_mails), "once"
    assert ward.counters() == {"notice_mails_sent": 2}
    assert ward.follow(mine[0], "Ada") == 200, "her own link is her acknowledgement"
    # At the next reminder she is told of the other one alone.
    ward.later(WEEK_NS)
    found = ward.look()
    assert {to: len(links(some[0])) for to, some in found.items()} == {
        "ada@trust.example": 1,
        "grace@trust.example": 2,
    }


def test_without_a_page_there_are_titles_and_without_mail_nothing(make_ward):
    ward = make_ward(port=-1)
    ward.later(WEEK_NS)
    (mail,) = ward.look()["ada@trust.example"]
    assert not links(mail) and "- Recording" in mail.get_content() and "sign in" in mail.get_content()
    name = ward.channel.name
    ward.later(WEEK_NS)
    ward.mails.failing = True
    ward.look()
    assert len(ward.rows(notice_mails)) == 2
    ward.client.alarms.DeleteAlarmChannel(alarms_pb2.DeleteAlarmChannelRequest(name=name))
    ward.later(DAY_NS // 2)
    assert ward.look() == {} and not ward.rows(notice_mails), "what waited for it is gone with it"
    ward.later(3 * WEEK_NS)
    ward.due()
    assert not ward.rows(notice_mails)


def test_what_fails_is_tried_again_over_a_restart_and_not_for_ever(ward):
    ward.mails.failing = True
    ward.later(WEEK_NS)
    assert ward.look() == {}
    waiting = ward.rows(notice_mails)
    assert [one.tries for one in waiting] == [1, 1] and not ward.rows(notice_links), "no link is left behind"
    assert not set(waiting[0]._mapping) & {"email", "address", "recipients", "text"}
    ward.box.stop()
    ward.box.start()
    ward.client = ward.box.client()
    ward.mails.failing = False
    ward.later(schedule.MOST_NS)
    first = ward.look()
    assert sorted(first) == ["ada@trust.example", "grace@trust.example"]
    assert ward.look() == {}
    # A day is the end of it.
    ward.mails.failing = True
    ward.later(WEEK_NS)
    ward.look()
    ward.later(DAY_NS + 1)
    ward.look()
    assert not ward.rows(notice_mails) and ward.counters()["notice_mails_given_up"] == 2


def test_a_stranger_to_the_server_holds_up_nobody_and_a_server_that_is_down_all(ward):
    ward.mails.refused = {"ada@trust.example"}
    ward.later(WEEK_NS)
    assert list(ward.look()) == ["grace@trust.example"]
    assert not ward.rows(notice_mails) and ward.counters()["notice_mails_given_up"] == 1

    def nowhere(connection) -> None:
        channel = alarmchannels.mail_of(connection, "")
        settings = replace(channel.settings, host="nowhere.invalid")
        alarmchannels.update(connection, replace(channel, settings=settings), channel.change_ns + 1)

    ward.box.write(nowhere)
    ward.later(WEEK_NS)
    ward.look()
    waiting = ward.rows(notice_mails)
    assert sorted(one.tries for one in waiting) == [0, 1], "the second is not tried in vain"
    assert len({one.due_ns for one in waiting}) == 1
    fares = ward.box.write(lambda connection: alarmchannels.mail_of(connection, "")).fares
    assert fares.failures == 1 and fares.failure == "name-unknown"


def test_a_mail_that_went_out_without_an_answer_has_links_that_work(ward):
    ward.client.notices.ArchiveStaffMember(staff_pb2.ArchiveStaffMemberRequest(name=ward.grace.name))
    ward.mails.hanging_up = True
    ward.later(WEEK_NS)
    some = []
    for _ in range(12):
        some += ward.look()["ada@trust.example"]
        ward.later(schedule.MOST_NS)
    # Mail systems keep the first of one Message-ID: of the last such all links are there yet.
    ids = [one["message-id"] for one in some]
    assert len(some) == 12 and len(set(ids)) == 2
    kept = some[ids.index(ids[-1])]
    assert kept is not some[-1] and len(links(kept)) == 2
    ward.mails.hanging_up = False
    (last,) = ward.look()["ada@trust.example"]
    assert last["message-id"] == ids[-1] and ward.look() == {} and not ward.rows(notice_mails)
    assert [ward.follow(one, "Ada") for one in links(kept)] == [200, 200]


@pytest.mark.parametrize("address", ["адa@trust.example", "ada@trust＜.example"])
def test_an_address_that_cannot_be_said_holds_up_nobody(make_ward, address):
    ward = make_ward(utf8=False)
    first, second = sorted((ward.ada, ward.grace), key=lambda one: one.name)  # as they wait
    asked = staff_pb2.StaffMember(name=first.name, email=address)
    request = staff_pb2.UpdateStaffMemberRequest(staff_member=asked, update_mask=FieldMask(paths=["email"]))
    ward.client.notices.UpdateStaffMember(request)
    ward.later(WEEK_NS)
    assert list(ward.look()) == [second.email]
    assert not ward.rows(notice_mails), "what will never be said is not tried again"
    assert ward.counters() == {"notice_mails_given_up": 1, "notice_mails_sent": 1}
    fares = ward.box.write(lambda connection: alarmchannels.mail_of(connection, "")).fares
    assert not fares.failures, "the channel works"


def test_who_left_or_has_acknowledged_meanwhile_gets_none(ward):
    ward.mails.failing = True
    ward.later(WEEK_NS)
    ward.look()
    assert len(ward.rows(notice_mails)) == 2
    ward.client.notices.ArchiveStaffMember(staff_pb2.ArchiveStaffMemberRequest(name=ward.ada.name))
    assert [one.staff_id for one in ward.rows(notice_mails)] == [ward.grace.name.rpartition("/")[2]]
    for one in ward.notices:
        request = pb.RecordPaperAcknowledgementRequest(
            name=one.name, staff_member=ward.grace.name, version=1, kept_at="Cabinet 4"
        )
        request.sign_time.FromNanoseconds(ward.box.clock())
        ward.client.notices.RecordPaperAcknowledgement(request)
    ward.mails.failing = False
    ward.later(schedule.MOST_NS)
    assert ward.look() == {} and not ward.rows(notice_mails)
