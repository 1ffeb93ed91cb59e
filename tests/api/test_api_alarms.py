"""Alarms over the API: from a condition to a mail, with everybody who sees them, and over a kill in between."""

from __future__ import annotations

import grpc
import pytest
from alarms_kit import Hooks, Mails, authority, mail_server
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.alarms import life, schedule
from appliance.api.limits import RateLimit
from appliance.api.samples import Samples
from appliance.catalog import alarmoutbox, alarms
from appliance.model import new_id
from appliance.process.status import ALARM, INFO, WARNING
from earwitness.v1 import alarms_pb2 as pb
from earwitness.v1 import box_pb2, events_pb2

SECRET = "a secret of twenty-four and more"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


def listed(client, parent="tenants/-", **how) -> list[pb.Alarm]:
    return list(client.alarms.ListAlarms(pb.ListAlarmsRequest(parent=parent, **how)).alarms)


def hook(url: str, tls, **fields) -> pb.AlarmChannel:
    settings = pb.WebhookSettings(url=url, secret=SECRET, ca_certificates=tls.pem)
    return pb.AlarmChannel(
        **{
            "display_name": "Tickets",
            "webhook": settings,
            "minimum_severity": pb.ALARM_SEVERITY_NOTICE,
            **fields,
        }
    )


def make(client, channel: pb.AlarmChannel, parent="", **how) -> pb.AlarmChannel:
    request = pb.CreateAlarmChannelRequest(parent=parent, alarm_channel=channel, **how)
    return client.alarms.CreateAlarmChannel(request).alarm_channel


def shown(client, name: str) -> pb.AlarmChannel:
    return client.alarms.GetAlarmChannel(pb.GetAlarmChannelRequest(name=name)).alarm_channel


def raised(box, kind="GrantRequested", subject="", tenant_id="") -> str:
    """An alarm straight into the catalogue; gives its name."""
    now_ns = box.clock()
    made = box.write(lambda c: alarms.raise_alarm(c, kind, subject or new_id(), tenant_id, now_ns))
    return f"tenants/{tenant_id}/alarms/{made}" if tenant_id else f"alarms/{made}"


@pytest.fixture
def tls(tmp_path):
    return authority(tmp_path)


def test_a_condition_is_an_alarm_until_it_is_over(box, monkeypatch):
    async def not_looked(_: Samples) -> None: ...

    monkeypatch.setattr(Samples, "look", not_looked)  # it would find the prompts whole
    tenant_id, _ = box.default_line()
    client = box.client()
    mine = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=tenant_id)
    before = {one.name for one in listed(client)}

    def ours() -> list[pb.Alarm]:
        return [one for one in listed(client) if one.name not in before and one.subject == "control"]

    box.status.raise_condition("PromptDamaged", ALARM, "x")
    box.status.raise_condition("MediaPortsExhausted", WARNING, "x")
    box.status.raise_condition("ClockStepped", INFO, "x")
    box.wait(lambda: len(ours()) == 2)
    found = {one.kind: one for one in ours()}
    assert found["PromptDamaged"].severity == pb.ALARM_SEVERITY_CRITICAL
    assert found["MediaPortsExhausted"].severity == pb.ALARM_SEVERITY_WARNING
    one = found["PromptDamaged"]
    assert one.state == pb.ALARM_STATE_OPEN and "Upload them again" in one.what_to_do and not one.clearable
    # A tenant sees none of it, but how many of the box touch its recording.
    assert (
        listed(mine) == []
        and refused(lambda: mine.alarms.GetAlarm(pb.GetAlarmRequest(name=one.name))).reason
        == "ALARM_NOT_FOUND"
    )
    box_wide = client.alarms.CountAlarms(pb.CountAlarmsRequest(parent="tenants/-")).box
    touching = mine.alarms.CountAlarms(pb.CountAlarmsRequest(parent="tenants/-")).box
    assert touching.critical == box_wide.critical - 1 and touching.warning >= 1
    status = client.box.GetBoxStatus(box_pb2.GetBoxStatusRequest())
    assert status.alarms == box_wide
    # Somebody looks after it.
    done = client.alarms.AcknowledgeAlarm(
        pb.AcknowledgeAlarmRequest(name=one.name, note="On it", etag=one.etag, request_id="r1")
    ).alarm
    assert (done.state, done.acknowledge_note) == (pb.ALARM_STATE_ACKNOWLEDGED, "On it")
    assert (
        refused(
            lambda: client.alarms.AcknowledgeAlarm(pb.AcknowledgeAlarmRequest(name=one.name, etag=one.etag))
        ).reason
        == "ETAG_MISMATCH"
    )
    again = pb.AcknowledgeAlarmRequest(name=one.name, note="On it", etag=one.etag, request_id="r1")
    assert client.alarms.AcknowledgeAlarm(again).alarm == done
    back = client.alarms.UnacknowledgeAlarm(pb.UnacknowledgeAlarmRequest(name=one.name)).alarm
    assert back.state == pb.ALARM_STATE_OPEN and not back.acknowledger
    assert refused(lambda: client.alarms.ClearAlarm(pb.ClearAlarmRequest(name=one.name))).reason == (
        "ALARM_CLEARS_ITSELF"
    )
    box.status.clear_condition("PromptDamaged")
    box.wait(
        lambda: [one.kind for one in ours() if one.state != pb.ALARM_STATE_CLEARED] == ["MediaPortsExhausted"]
    )
    assert (
        refused(lambda: client.alarms.AcknowledgeAlarm(pb.AcknowledgeAlarmRequest(name=one.name))).reason
        == "ALARM_CLEARED"
    )
    feed = client.events.WatchEvents(
        events_pb2.WatchEventsRequest(
            parent="tenants/-",
            from_oldest=True,
            types=[
                events_pb2.EVENT_TYPE_ALARM_RAISED,
                events_pb2.EVENT_TYPE_ALARM_ACKNOWLEDGED,
                events_pb2.EVENT_TYPE_ALARM_CLEARED,
            ],
        ),
        timeout=20,
    )
    told = []
    for answer in feed:
        if answer.event.subject == one.name:
            told.append(events_pb2.EventType.Name(answer.event.type).removeprefix("EVENT_TYPE_ALARM_"))
            assert answer.event.state == "PromptDamaged"
            if len(told) == 4:
                break
    assert told == ["RAISED", "ACKNOWLEDGED", "ACKNOWLEDGED", "CLEARED"]


def test_tenants_see_and_clear_their_own(box):
    tenant_id, _ = box.default_line()
    client = box.client()
    mine = box.enroll("admin2", Role.TENANT_ADMINISTRATOR, tenant_id=tenant_id)
    other = box.enroll("other", Role.TENANT_ADMINISTRATOR, tenant_id=new_id())
    name = raised(box, "GrantRequested", tenant_id=tenant_id)
    of_box = raised(box, "KeysAbsent", subject="vault")
    assert [one.name for one in listed(mine)] == [name]
    assert {name, of_box} <= {one.name for one in listed(client, filter="state = open")}
    assert [one.name for one in listed(client, filter="scope = tenant")] == [name]
    assert mine.alarms.CountAlarms(pb.CountAlarmsRequest(parent=f"tenants/{tenant_id}")).tenant.notice == 1
    for stranger, what in ((other, name), (mine, of_box), (other, of_box)):
        for call, request in (
            (stranger.alarms.GetAlarm, pb.GetAlarmRequest(name=what)),
            (stranger.alarms.AcknowledgeAlarm, pb.AcknowledgeAlarmRequest(name=what)),
            (stranger.alarms.ClearAlarm, pb.ClearAlarmRequest(name=what)),
        ):
            assert refused(lambda call=call, request=request: call(request)).reason == "ALARM_NOT_FOUND"
    checked = client.alarms.ClearAlarm(pb.ClearAlarmRequest(name=of_box, validate_only=True)).alarm
    assert checked.state == pb.ALARM_STATE_OPEN and checked.clearable
    cleared = client.alarms.ClearAlarm(pb.ClearAlarmRequest(name=of_box)).alarm
    assert cleared.state == pb.ALARM_STATE_CLEARED and cleared.clearer == "admin"
    support = box.enroll("support.ada", Role.SUPPORT)
    seen = {one.name for one in listed(support)}
    assert of_box in seen and name not in seen and listed(support, f"tenants/{tenant_id}") == []
    assert refused(lambda: support.alarms.GetAlarm(pb.GetAlarmRequest(name=name))).reason == "ALARM_NOT_FOUND"
    assert support.alarms.CountAlarms(pb.CountAlarmsRequest(parent="tenants/-")).tenant.notice == 1
    page = client.alarms.ListAlarms(pb.ListAlarmsRequest(parent="tenants/-", page_size=1))
    rest = client.alarms.ListAlarms(
        pb.ListAlarmsRequest(parent="tenants/-", page_size=1, page_token=page.next_page_token)
    )
    assert page.alarms[0].name != rest.alarms[0].name
    assert refused(lambda: listed(client, filter="nonsense = 1")).reason == "FILTER_INVALID"
    kinds = client.alarms.ListAlarmKinds(pb.ListAlarmKindsRequest(page_size=2))
    more = client.alarms.ListAlarmKinds(
        pb.ListAlarmKindsRequest(page_size=2, page_token=kinds.next_page_token)
    )
    assert [one.kind for one in kinds.alarm_kinds] < [one.kind for one in more.alarm_kinds]
    assert all(one.what_to_do for one in kinds.alarm_kinds)


def test_a_webhook_that_comes_back_gets_everything_once_said(make_box, tls, monkeypatch):
    """Failing, killed in between, failing again, then back: each message at least once, under one id; the rest unharmed."""
    monkeypatch.setattr(schedule, "FIRST_NS", 2)
    monkeypatch.setattr(schedule, "MOST_NS", 4)
    monkeypatch.setattr(life, "SETTLE_NS", 0)
    box = make_box()
    client = box.client()
    with Hooks(tls.server) as good, Hooks(tls.server) as bad:
        bad.status = 503
        fine, failing = make(client, hook(good.url, tls)), make(client, hook(bad.url, tls))
        names = [raised(box) for _ in range(3)]
        box.wait(lambda: len(good.got) >= 3)
        box.wait(lambda: shown(client, failing.name).status.failures >= schedule.TELL_AFTER)
        state = shown(client, failing.name).status
        assert state.failure == "status-503" and state.waiting == 3 and not state.delivered
        box.wait(lambda: any(one.kind == alarmoutbox.CHANNEL_FAILING for one in listed(client)))
        box.fix_port()
        box.stop()  # the outbox is all that is left of it
        box.start()
        client = box.client()
        assert shown(client, failing.name).status.waiting == 3  # of its own failing it is not told
        bad.status = 204
        box.wait(lambda: shown(client, failing.name).status.delivered == 3)
        box.wait(lambda: shown(client, fine.name).status.delivered >= 4)
        about = [one for one in good.got if b"AlarmChannelFailing" in one[1]]
        assert about and failing.name.rsplit("/", 1)[1].encode() in about[0][1]
    for name in names:
        sent = [headers["webhook-id"] for headers, body in bad.got if name.encode() in body]
        assert sent and len(set(sent)) == 1
    assert not any(b"AlarmChannelFailing" in body for _, body in bad.got)
    box.wait(
        lambda: (
            [one.state for one in listed(client) if one.kind == alarmoutbox.CHANNEL_FAILING]
            == [pb.ALARM_STATE_CLEARED]
        )
    )
    assert shown(client, failing.name).status.failures == 0


def test_mail_once_a_day_and_for_whom_it_was_refused(make_box, tls):
    box = make_box()
    client = box.client()
    mails = Mails(refused={"it@hospital.example"})
    with mail_server(mails, tls.server, auth="right") as server:
        settings = pb.SmtpSettings(
            host="localhost",
            port=server.port,
            username="box",
            password="wrong",
            to=["ops@hospital.example", "it@hospital.example"],
            ca_certificates=tls.pem,
            digest=True,
            digest_hour=6,
            **{"from": "box@hospital.example"},
        )
        channel = pb.AlarmChannel(
            display_name="Mail", minimum_severity=pb.ALARM_SEVERITY_NOTICE, smtp=settings
        )
        made = make(client, channel, request_id="m1")
        assert make(client, channel, request_id="m1").name == made.name
        assert made.smtp.password_set and not made.smtp.password
        test = pb.TestAlarmChannelRequest(name=made.name)
        answer = client.alarms.TestAlarmChannel(test)
        assert not answer.delivered and answer.failure == "sign-in-refused" and "535" in answer.reply
        update = pb.AlarmChannel(name=made.name, smtp=pb.SmtpSettings(password="right"))
        request = pb.UpdateAlarmChannelRequest(
            alarm_channel=update, update_mask=FieldMask(paths=["smtp.password"])
        )
        made = client.alarms.UpdateAlarmChannel(request).alarm_channel
        answer = client.alarms.TestAlarmChannel(test)
        assert (answer.failure, answer.delivered) == (
            "smtp-550",
            False,
        ) and "nobody of that name" in answer.reply
        mails.got.clear()
        raised(box), raised(box)
        over = raised(box, subject="over")
        box.write(lambda c: alarms.clear_alarm(c, "GrantRequested", "over", box.clock()))
        raised(box, "DiskFull", "capture-0")
        box.wait(lambda: len(mails.got) == 1)
        assert mails.got[0][0] == ["ops@hospital.example"] and b"disk is full" in mails.got[0][1]
        assert shown(client, made.name).status.waiting == 4
        mails.refused = set()
        box.clock.ahead_ns = 25 * 3600 * 10**9
        box.wait(lambda: len(mails.got) == 3)
        both = {tuple(to): raw for to, raw, _ in mails.got[1:]}
        assert b"disk is full" in both["it@hospital.example",]  # who had it does not get it again
        digest = both["ops@hospital.example", "it@hospital.example"]
        assert digest.count(b"Alarm: alarms/") == 2 and over.encode() not in digest
        box.wait(lambda: not shown(client, made.name).status.waiting)
    # It is nowhere to be read.
    raw = b"".join(path.read_bytes() for path in box.layout.control.rglob("*") if path.is_file())
    assert b"nobody of that name" not in raw
    for entry in box.audited():
        assert "hospital.example" not in str(entry)


def test_channels_say_what_is_wrong(make_box, tls):
    box = make_box(rate=RateLimit(1000, 1000))
    tenant_id, _ = box.default_line()
    client = box.client()
    parent = f"tenants/{tenant_id}"
    mine = box.enroll("admin2", Role.TENANT_ADMINISTRATOR, tenant_id=tenant_id)
    good = hook("https://hooks.example/x", tls)
    made = make(mine, good, parent=parent)
    assert (
        made.name.startswith(f"{parent}/alarmChannels/")
        and made.webhook.secret_set
        and not made.webhook.secret
    )
    assert refused(lambda: make(mine, good)).reason == "ROLE_NEEDED"  # the box's
    checked = make(client, good, validate_only=True)
    assert not checked.name and checked.webhook.url == good.webhook.url

    def wrong(field: str, **how) -> None:
        said = pb.AlarmChannel(**{"display_name": "x", **how})
        found = refused(lambda: make(client, said))
        assert (found.reason, set(found.fields)) == ("FIELD_INVALID", {f"alarm_channel.{field}"}), how

    wrong("settings")
    wrong("display_name", display_name="", syslog=pb.SyslogSettings(host="h"))
    wrong("minimum_severity", minimum_severity=77, syslog=pb.SyslogSettings(host="h"))
    wrong("syslog.host", syslog=pb.SyslogSettings(host="a b"))
    wrong("syslog.port", syslog=pb.SyslogSettings(host="h", port=70000))
    wrong("syslog.ca_certificates", syslog=pb.SyslogSettings(host="h", ca_certificates="nonsense"))
    for url in (
        "http://h/",
        "https://",
        "https://u:p@h/",
        "https://h/#x",
        "https://h/\n",
        "ftp://h",
        "https://h:x/",
    ):
        wrong("webhook.url", webhook=pb.WebhookSettings(url=url, secret=SECRET))
    wrong("webhook.secret", webhook=pb.WebhookSettings(url="https://h/"))
    wrong("webhook.secret", webhook=pb.WebhookSettings(url="https://h/", secret="short"))
    wrong("webhook.secret", webhook=pb.WebhookSettings(url="https://h/", secret="whsec_" + "!" * 30))

    def mail(**how) -> pb.SmtpSettings:
        said = {"host": "h", "from": "a@b.example", "to": ["c@d.example"], **how}
        return pb.SmtpSettings(**said)

    wrong("smtp.from", smtp=mail(**{"from": "nobody"}))
    wrong("smtp.to", smtp=mail(to=[]))
    wrong("smtp.to[1]", smtp=mail(to=["a@b.example", "c d@e"]))
    wrong("smtp.to[1]", smtp=mail(to=["a@b.example", "a@b.example"]))
    wrong("smtp.username", smtp=mail(username="u", password="p", security=pb.SMTP_SECURITY_NONE))
    wrong("smtp.username", smtp=mail(password="p"))
    wrong("smtp.password", smtp=mail(username="u"))
    wrong("smtp.security", smtp=mail(security=55))
    wrong("smtp.digest_hour", smtp=mail(digest=True, digest_hour=24))
    # A password is not carried over to a server that it was not meant for.
    post = make(client, pb.AlarmChannel(display_name="m", smtp=mail(username="u", password="p")))
    moved = pb.AlarmChannel(name=post.name, smtp=pb.SmtpSettings(host="evil.example"))
    request = pb.UpdateAlarmChannelRequest(alarm_channel=moved, update_mask=FieldMask(paths=["smtp.host"]))
    assert refused(lambda: client.alarms.UpdateAlarmChannel(request)).fields.keys() == {
        "alarm_channel.smtp.password"
    }
    renamed = pb.AlarmChannel(name=post.name, display_name="n", disabled=True, etag=post.etag)
    after = client.alarms.UpdateAlarmChannel(
        pb.UpdateAlarmChannelRequest(
            alarm_channel=renamed, update_mask=FieldMask(paths=["display_name", "disabled"])
        )
    ).alarm_channel
    assert (after.display_name, after.disabled, after.smtp) == ("n", True, post.smtp)
    assert (
        refused(
            lambda: client.alarms.UpdateAlarmChannel(pb.UpdateAlarmChannelRequest(alarm_channel=renamed))
        ).reason
        == "ETAG_MISMATCH"
    )
    # A tenant's leads not into the box.
    inner = make(mine, hook("https://127.0.0.1:1/", tls), parent=parent)
    answer = mine.alarms.TestAlarmChannel(pb.TestAlarmChannelRequest(name=inner.name))
    assert (answer.delivered, answer.failure) == (False, "address-not-allowed")
    for name in (made.name, inner.name):
        assert name in {
            one.name
            for one in client.alarms.ListAlarmChannels(
                pb.ListAlarmChannelsRequest(parent="tenants/-")
            ).alarm_channels
        }
    assert (
        len(mine.alarms.ListAlarmChannels(pb.ListAlarmChannelsRequest(parent="tenants/-")).alarm_channels)
        == 2
    )
    assert refused(lambda: shown(mine, post.name)).reason == "ALARM_CHANNEL_NOT_FOUND"
    client.alarms.DeleteAlarmChannel(pb.DeleteAlarmChannelRequest(name=made.name, validate_only=True))
    client.alarms.DeleteAlarmChannel(pb.DeleteAlarmChannelRequest(name=made.name))
    assert refused(lambda: shown(client, made.name)).reason == "ALARM_CHANNEL_NOT_FOUND"
    for _ in range(19):
        make(client, good)
    assert refused(lambda: make(client, good)).reason == "ALARM_CHANNEL_LIMIT"
