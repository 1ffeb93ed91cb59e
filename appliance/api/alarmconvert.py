"""Alarms and channels as public messages, and back. What a caller may not say is refused with the field named."""

from __future__ import annotations

import re
from typing import Any, Final

from yarl import URL

from appliance.alarms import dial
from appliance.alarms.alarm import Alarm
from appliance.alarms.channel import Channel, Security, Settings, Smtp, Syslog, Webhook
from appliance.alarms.errors import DeliveryError
from appliance.alarms.kind import Kind
from appliance.alarms.kinds import kind_of
from appliance.alarms.mail import is_address
from appliance.alarms.payload import PREFIX, key_of
from appliance.alarms.severity import Severity
from appliance.api import convert, names
from appliance.api.errors import FieldInvalidError
from appliance.api.parts import check_text
from appliance.catalog.alarmchannels import etag_of_channel
from appliance.catalog.alarmlist import Counts, state_of
from appliance.catalog.alarms import etag_of_alarm
from earwitness.v1 import alarms_pb2 as pb

MAX_TO: Final = 20
MAX_PEM: Final = 64 * 1024
MAX_URL: Final = 2000
SECRET: Final = range(24, 201)
MAX_PASSWORD: Final = 200
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")


def alarm(row: Alarm) -> pb.Alarm:
    """The public message."""
    kind = kind_of(row.kind)
    made = pb.Alarm(
        name=names.alarm(row.tenant_id, row.id),
        kind=row.kind,
        severity=severity(row.severity),
        state=pb.AlarmState.Value(f"ALARM_STATE_{state_of(row).name}"),
        subject=row.subject,
        title=kind.title,
        what_to_do=kind.what_to_do,
        data={name: str(value) for name, value in row.data.items()},
        raise_time=convert.timestamp(row.raise_ns),
        last_raise_time=convert.timestamp(row.seen_ns),
        count=row.count,
        acknowledger=row.ack_by,
        acknowledge_note=row.ack_note,
        clearer=row.clear_by,
        clearable=kind.by_hand and row.open,
        etag=etag_of_alarm(row),
    )
    if row.ack_ns is not None:
        made.acknowledge_time.CopyFrom(convert.timestamp(row.ack_ns))
    if row.clear_ns is not None:
        made.clear_time.CopyFrom(convert.timestamp(row.clear_ns))
    return made


def alarm_kind(kind: Kind) -> pb.AlarmKind:
    """The public message."""
    return pb.AlarmKind(
        kind=kind.name,
        severity=severity(kind.severity),
        title=kind.title,
        what_to_do=kind.what_to_do,
        clearable=kind.by_hand,
        touches_recording=kind.touches_recording,
    )


def counts(found: Counts) -> pb.AlarmCounts:
    """The public message."""
    number = found.by_severity
    return pb.AlarmCounts(
        critical=number.get(Severity.CRITICAL, 0),
        warning=number.get(Severity.WARNING, 0),
        notice=number.get(Severity.NOTICE, 0),
        unacknowledged=found.unacknowledged,
    )


def severity(value: Severity) -> pb.AlarmSeverity.ValueType:
    return pb.AlarmSeverity.Value(f"ALARM_SEVERITY_{value.name}")


def channel(row: Channel, waiting: int) -> pb.AlarmChannel:
    """The public message, without secrets."""
    fares = row.fares
    made = pb.AlarmChannel(
        name=names.alarm_channel(row.tenant_id, row.id),
        display_name=row.display_name,
        minimum_severity=severity(row.severity),
        disabled=not row.enabled,
        create_time=convert.timestamp(row.create_ns),
        etag=etag_of_channel(row),
        status=pb.AlarmChannelStatus(
            waiting=waiting,
            delivered=fares.delivered,
            dropped=fares.dropped,
            given_up=fares.given_up,
            failures=fares.failures,
            failure=fares.failure,
        ),
    )
    if fares.failure_ns is not None:
        made.status.failure_time.CopyFrom(convert.timestamp(fares.failure_ns))
    if fares.deliver_ns is not None:
        made.status.deliver_time.CopyFrom(convert.timestamp(fares.deliver_ns))
    match row.settings:
        case Smtp() as found:
            made.smtp.CopyFrom(
                pb.SmtpSettings(
                    host=found.host,
                    port=found.port,
                    security=pb.SmtpSecurity.Value(f"SMTP_SECURITY_{found.security.name}"),
                    username=found.username,
                    password_set=row.sealed is not None,
                    to=found.to,
                    digest=row.digest_hour is not None,
                    digest_hour=row.digest_hour or 0,
                    ca_certificates=found.ca,
                    **{"from": found.sender},  # a word of Python
                )
            )
        case Webhook() as hook:
            made.webhook.CopyFrom(
                pb.WebhookSettings(url=hook.url, secret_set=row.sealed is not None, ca_certificates=hook.ca)
            )
        case Syslog() as collector:
            made.syslog.CopyFrom(
                pb.SyslogSettings(host=collector.host, port=collector.port, ca_certificates=collector.ca)
            )
    return made


def read(asked: pb.AlarmChannel, before: Channel | None) -> tuple[Channel, str]:
    """The channel that is asked for, and its new secret where one is said. FieldInvalidError.

    `before`: as it is; None: a new one, whose ids and times are for the caller to say.
    """
    settings, digest_hour, secret = _settings(asked, before)
    kept = before.sealed if before is not None and _keeps(settings, before) else None
    _check_secret(asked, settings, secret, kept)
    return (
        Channel(
            id=before.id if before else "",
            tenant_id=before.tenant_id if before else "",
            display_name=check_text(asked.display_name, "alarm_channel.display_name", 100, 1),
            severity=_minimum(asked.minimum_severity),
            settings=settings,
            create_ns=before.create_ns if before else 0,
            change_ns=before.change_ns if before else 0,
            enabled=not asked.disabled,
            digest_hour=digest_hour,
            sealed=kept,
            fares=before.fares if before else Channel.fares,
        ),
        secret,
    )


def without_secret(request: Any) -> Any:
    """The request as what is kept of requests may know it: no secret, not even its hash."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name, part in (("smtp", "password"), ("webhook", "secret")):
        if bare.alarm_channel.HasField(name):
            getattr(bare.alarm_channel, name).ClearField(part)
    return bare


def _settings(asked: pb.AlarmChannel, before: Channel | None) -> tuple[Settings, int | None, str]:
    match asked.WhichOneof("settings"):
        case "smtp":
            return _smtp(asked.smtp)
        case "webhook":
            return _webhook(asked.webhook)
        case "syslog":
            there = asked.syslog
            field = "alarm_channel.syslog"
            return (
                Syslog(
                    _host(there.host, field), _port(there.port, field), _pem(there.ca_certificates, field)
                ),
                None,
                "",
            )
        case _:
            raise FieldInvalidError("should say smtp, webhook or syslog", field="alarm_channel.settings")


def _smtp(said: pb.SmtpSettings) -> tuple[Smtp, int | None, str]:
    field = "alarm_channel.smtp"
    if said.security not in pb.SmtpSecurity.values():
        raise FieldInvalidError("should be one of the kinds of security", field=f"{field}.security")
    word = pb.SmtpSecurity.Name(said.security).removeprefix("SMTP_SECURITY_")
    security = Security.STARTTLS if word == "UNSPECIFIED" else Security[word]
    sender: str = getattr(said, "from")
    if not is_address(sender):
        raise FieldInvalidError("should be an address of mail", field=f"{field}.from")
    if not 1 <= len(said.to) <= MAX_TO:
        raise FieldInvalidError(f"should be 1 to {MAX_TO} addresses", field=f"{field}.to")
    for place, one in enumerate(said.to):
        if not is_address(one) or one in said.to[:place]:
            raise FieldInvalidError("should be an address of mail, once", field=f"{field}.to[{place}]")
    username = check_text(said.username, f"{field}.username", 200)
    if (username or said.password) and security is Security.NONE:
        raise FieldInvalidError("nobody signs in without TLS", field=f"{field}.username")
    if said.password and not username:
        raise FieldInvalidError("a password goes with a username", field=f"{field}.username")
    if not 0 <= said.digest_hour <= 23:
        raise FieldInvalidError("should be an hour from 0 to 23", field=f"{field}.digest_hour")
    made = Smtp(
        host=_host(said.host, field),
        sender=sender,
        to=tuple(said.to),
        port=_port(said.port, field),
        security=security,
        username=username,
        ca=_pem(said.ca_certificates, field),
    )
    secret = check_text(said.password, f"{field}.password", MAX_PASSWORD)
    return made, said.digest_hour if said.digest else None, secret


def _webhook(said: pb.WebhookSettings) -> tuple[Webhook, None, str]:
    field = "alarm_channel.webhook"
    wrong = FieldInvalidError(
        f"should be https:// and a host, at most {MAX_URL} characters, no user, no fragment",
        field=f"{field}.url",
    )
    text = said.url
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise wrong
    try:
        url = URL(text)
        usable = url.scheme == "https" and url.host and url.user is None and not url.fragment and url.port
    except ValueError:
        raise wrong from None
    if not usable:
        raise wrong
    secret = check_text(said.secret, f"{field}.secret", SECRET[-1])
    if secret:
        try:
            enough = len(secret) >= SECRET[0] and len(key_of(secret)) >= 16
        except ValueError:
            enough = False
        if not enough or not secret.isascii():
            raise FieldInvalidError(
                f"should be {SECRET[0]} to {SECRET[-1]} ASCII characters; after {PREFIX} base64",
                field=f"{field}.secret",
            )
    return Webhook(text, _pem(said.ca_certificates, field)), None, secret


def _keeps(settings: Settings, before: Channel) -> bool:
    """Whether the secret that there is stays: a password is not handed to another server than it was meant for."""
    match settings, before.settings:
        case Smtp() as now, Smtp() as then:
            return _where(now) == _where(then)
        case Webhook(), Webhook():
            return True
        case _:
            return False


def _where(settings: Smtp) -> tuple[str, int, Security, str, str]:
    return settings.host, settings.port, settings.security, settings.username, settings.ca


def _check_secret(asked: pb.AlarmChannel, settings: Settings, secret: str, kept: bytes | None) -> None:
    if secret or kept is not None:
        return
    if isinstance(settings, Webhook):
        raise FieldInvalidError("has to be said", field="alarm_channel.webhook.secret")
    if isinstance(settings, Smtp) and settings.username:
        raise FieldInvalidError(
            "has to be said, also again where server, port, security, username or certificates change",
            field="alarm_channel.smtp.password",
        )


def _minimum(value: int) -> Severity:
    if value == pb.ALARM_SEVERITY_UNSPECIFIED:
        return Severity.WARNING
    if value not in pb.AlarmSeverity.values():
        raise FieldInvalidError("should be one of the severities", field="alarm_channel.minimum_severity")
    word = pb.AlarmSeverity.Name(value).removeprefix("ALARM_SEVERITY_")  # type: ignore[arg-type]
    return Severity[word]


def _host(text: str, field: str) -> str:
    if not _HOST.fullmatch(text):
        raise FieldInvalidError("should be the name or address of a server", field=f"{field}.host")
    return text


def _port(number: int, field: str) -> int:
    if not 0 <= number <= 65535:
        raise FieldInvalidError("should be a port, or 0", field=f"{field}.port")
    return number


def _pem(text: str, field: str) -> str:
    wrong = FieldInvalidError("should be certificates as PEM", field=f"{field}.ca_certificates")
    if len(text) > MAX_PEM or not text.isascii():
        raise wrong
    try:
        dial.tls(text)
    except DeliveryError:
        raise wrong from None
    return text
