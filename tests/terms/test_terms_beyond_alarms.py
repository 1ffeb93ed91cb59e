"""Beyond the terms, what the field's users ask for: an alarm within a minute when a call is up and no media arrives.

The promise: it is an alarm until it is over, it says what to do, it is told outside even where the box is started anew in
between, tenants see that their recording is touched, and how long it stood can be told afterwards.
"""

from __future__ import annotations

import json

from alarms_kit import Hooks, authority

from appliance.access.identities import Role
from appliance.alarms import life
from appliance.api.processes import EVERY_S
from appliance.catalog import alarms
from appliance.media.signaling.media import NO_MEDIA
from appliance.process.status import ALARM
from earwitness.v1 import alarms_pb2 as pb


def test_a_call_without_media_is_an_alarm_told_outside_until_it_is_over(make_box, tmp_path):
    assert EVERY_S < 10, "what a process says is looked at often enough to be told within the minute"
    tls = authority(tmp_path)
    box = make_box()
    tenant_id, _ = box.default_line()
    client = box.client()
    parent = f"tenants/{tenant_id}"
    with Hooks(tls.server) as hooks:
        hooks.status = 503  # away, just now
        settings = pb.WebhookSettings(url=hooks.url, secret="s" * 24, ca_certificates=tls.pem)
        channel = pb.AlarmChannel(display_name="Tickets", webhook=settings)
        client.alarms.CreateAlarmChannel(pb.CreateAlarmChannelRequest(alarm_channel=channel))
        box.status.raise_condition(NO_MEDIA, ALARM, "1 call is up, and no media comes.")

        def standing() -> list[pb.Alarm]:
            asked = pb.ListAlarmsRequest(parent="tenants/-", filter=f"kind = {NO_MEDIA} AND state != cleared")
            return list(client.alarms.ListAlarms(asked).alarms)

        alarm = box.wait(standing)[0]
        assert alarm.severity == pb.ALARM_SEVERITY_CRITICAL and "media address" in alarm.what_to_do
        box.fix_port()
        box.stop()
        hooks.status = 204
        box.start()
        client = box.client()
        told = box.wait(lambda: [json.loads(body) for _, body in hooks.got if alarm.name.encode() in body])
        assert (
            told[0]["type"] == "earwitness.alarm.raised" and told[0]["alarm"]["whatToDo"] == alarm.what_to_do
        )
        auditor = box.enroll("auditor", Role.AUDITOR, tenant_id=tenant_id)
        assert auditor.alarms.CountAlarms(pb.CountAlarmsRequest(parent=parent)).box.critical >= 1
        box.status.clear_condition(NO_MEDIA)
        box.wait(lambda: not standing())
        box.clock.ahead_ns = 2 * life.FLAP_NS
        box.wait(lambda: any(b"alarm.cleared" in body and NO_MEDIA.encode() in body for _, body in hooks.got))
    stood = box.write(lambda connection: alarms.stood(connection, "", 0, box.clock()))
    spans = [(one.raise_ns, one.clear_ns) for one in stood if one.kind == NO_MEDIA]
    assert len(spans) == 1 and spans[0][1] is not None and spans[0][1] > spans[0][0]
