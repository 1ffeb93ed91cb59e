"""Alarms for programs: the JSON of a webhook and its signature (Standard Webhooks), the message of syslog."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any, Final

from appliance.alarms import texts
from appliance.alarms.kinds import kind_of
from appliance.alarms.message import Message, What
from appliance.alarms.severity import Severity
from appliance.audit import syslog

PREFIX: Final = "whsec_"
FACILITY: Final = 14  # log alert (RFC 5424 table 1)
SD_ID: Final = (
    "alarm@32473"  # the enterprise number that RFC 5612 keeps for documentation: the product has none
)
_LEVELS: Final = {Severity.CRITICAL: 2, Severity.WARNING: 4, Severity.NOTICE: 5}  # RFC 5424 table 2
_INFORMATIONAL: Final = 6


def document(message: Message) -> bytes:
    """The body of a webhook: UTF-8 JSON, see docs/alarms.md."""
    said: dict[str, Any] = {
        "type": f"earwitness.alarm.{message.what.value}",
        "id": message.id,
        "time": _time(message.create_ns),
        "box": message.box_name,
    }
    if message.what is not What.TEST:
        alarm, kind = message.alarm, kind_of(message.alarm.kind)
        said["alarm"] = {
            "name": texts.name_of(alarm),
            "kind": alarm.kind,
            "severity": alarm.severity.value,
            "subject": alarm.subject,
            "title": kind.title,
            "whatToDo": kind.what_to_do,
            "data": dict(alarm.data),
            "raiseTime": _time(alarm.raise_ns),
            "lastRaiseTime": _time(alarm.seen_ns),
            "count": alarm.count,
            "acknowledgeTime": _time(alarm.ack_ns),
            "acknowledger": alarm.ack_by,
            "clearTime": _time(alarm.clear_ns),
            "clearer": alarm.clear_by,
        }
        if alarm.tenant_id:
            said["tenant"] = {"name": f"tenants/{alarm.tenant_id}", "displayName": message.tenant_name}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def key_of(secret: str) -> bytes:
    """The key that a secret stands for; ValueError where it begins as base64 and is none."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("should be base64 after whsec_") from None


def signed_headers(message_id: str, at_s: int, body: bytes, secret: str) -> dict[str, str]:
    """Standard Webhooks: HMAC-SHA256 over id, time and body. `at_s`: seconds since the Unix epoch, of this try."""
    over = f"{message_id}.{at_s}.".encode() + body
    tag = base64.b64encode(hmac.digest(key_of(secret), over, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": f"v1,{tag}"}


def syslog_frame(message: Message) -> bytes:
    """The framed message: MSGID what it says, structured data the alarm, MSG one line for people."""
    alarm = message.alarm
    if message.what is What.TEST:
        data, level = {"id": message.id}, _INFORMATIONAL
    else:
        data = {
            "id": message.id,
            "alarm": alarm.id,
            "kind": alarm.kind,
            "severity": alarm.severity.value,
            "tenant": alarm.tenant_id,
            "subject": alarm.subject,
            "count": str(alarm.count),
        }
        over = message.what in (What.CLEARED, What.ACKNOWLEDGED)
        level = _INFORMATIONAL if over else _LEVELS[alarm.severity]
    host = syslog.host_name(message.box_name)
    said = texts.line(message).encode("utf-8", "replace")
    return syslog.framed(
        level, message.create_ns, host, message.what.value, data, said, facility=FACILITY, sd_id=SD_ID
    )


def _time(at_ns: int | None) -> str | None:
    if at_ns is None:
        return None
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
