"""Alarms and channels for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from appliance.cli import output
from appliance.cli.connection import bare
from earwitness.v1 import alarms_pb2 as pb

_STYLES = {
    pb.ALARM_SEVERITY_CRITICAL: "bold red",
    pb.ALARM_SEVERITY_WARNING: "yellow",
    pb.ALARM_SEVERITY_NOTICE: "cyan",
}


def severity(value: pb.AlarmSeverity.ValueType) -> Text:
    """In its colour."""
    return Text(output.enum_word(pb.AlarmSeverity, value).upper(), style=_STYLES.get(value, ""))


def stands(alarm: pb.Alarm) -> str:
    """How long it stands, or stood."""
    begin = alarm.raise_time.ToDatetime(UTC)
    over = alarm.HasField("clear_time")
    end = alarm.clear_time.ToDatetime(UTC) if over else datetime.now(UTC)
    span = max(end - begin, timedelta())
    return str(span - timedelta(microseconds=span.microseconds))


def table(alarms: Sequence[pb.Alarm]) -> None:
    """One a line; those that nobody looks after stand out."""
    if not alarms:
        output.console.print("No alarms.")
        return
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name, whole in (
        ("ID", True),
        ("Severity", True),
        ("State", True),
        ("What", False),
        ("About", False),
        ("Stands", True),
        ("Times", True),
    ):
        made.add_column(name, no_wrap=whole, overflow="fold", min_width=26 if name == "ID" else None)
    for one in alarms:
        made.add_row(
            bare(one.name),
            severity(one.severity),
            Text(output.enum_word(pb.AlarmState, one.state)),
            Text(one.title, style="bold" if one.state == pb.ALARM_STATE_OPEN else ""),
            Text(output.plain(one.subject)),
            stands(one),
            str(one.count),
        )
    output.console.print(made)


def show(alarm: pb.Alarm) -> None:
    """All of one."""
    output.console.print(severity(alarm.severity), Text(alarm.title, style="bold"))
    output.console.print(Text(alarm.what_to_do), soft_wrap=True)
    output.facts(
        [
            ("Name", alarm.name),
            ("Kind", alarm.kind),
            ("State", output.enum_word(pb.AlarmState, alarm.state)),
            ("About", alarm.subject),
            ("Raised", output.when(alarm.raise_time)),
            ("Last raised", _when(alarm.last_raise_time) if alarm.count > 1 else ""),
            ("Times", str(alarm.count)),
            ("Stands", stands(alarm)),
            *sorted(alarm.data.items()),
            ("Acknowledged", _by(alarm.acknowledge_time, alarm.acknowledger)),
            ("Note", alarm.acknowledge_note),
            ("Cleared", _by(alarm.clear_time, alarm.clearer or "its cause is gone")),
            ("Clear by hand", "earwitness alarms clear" if alarm.clearable else ""),
        ]
    )


def channels(some: Sequence[pb.AlarmChannel]) -> None:
    """One a line."""
    output.table(
        ("ID", "Name", "Whose", "By", "Where", "From severity", ">Waiting", "State"),
        (
            (
                bare(one.name),
                one.display_name,
                one.name.split("/")[1] if one.name.startswith("tenants/") else "box",
                one.WhichOneof("settings") or "",
                where(one),
                output.enum_word(pb.AlarmSeverity, one.minimum_severity),
                str(one.status.waiting),
                state(one),
            )
            for one in some
        ),
        empty="No channels: alarms are in the events feed and on the console alone.",
    )


def channel(one: pb.AlarmChannel) -> None:
    """All of one."""
    mail, fares = one.smtp, one.status
    output.facts(
        [
            ("Name", one.name),
            ("Display name", one.display_name),
            ("By", one.WhichOneof("settings") or ""),
            ("Where", where(one)),
            ("From", getattr(mail, "from")),
            ("Signs in as", mail.username),
            ("Notices", f"once a day at {mail.digest_hour:02}:00 UTC" if mail.digest else ""),
            ("From severity", output.enum_word(pb.AlarmSeverity, one.minimum_severity)),
            ("State", state(one)),
            ("Waiting", str(fares.waiting)),
            ("Delivered", f"{fares.delivered}, last {_when(fares.deliver_time)}" if fares.delivered else ""),
            ("Dropped", str(fares.dropped) if fares.dropped else ""),
            ("Given up", str(fares.given_up) if fares.given_up else ""),
            ("Last failure", _by(fares.failure_time, fares.failure)),
        ]
    )


def where(one: pb.AlarmChannel) -> str:
    """Where it leads."""
    match one.WhichOneof("settings"):
        case "smtp":
            return f"{', '.join(one.smtp.to)} over {one.smtp.host}"
        case "webhook":
            return one.webhook.url
        case "syslog":
            return f"{one.syslog.host}:{one.syslog.port or 6514}"
        case _:
            return ""


def state(one: pb.AlarmChannel) -> str:
    """In a few words."""
    if one.disabled:
        return "disabled"
    fares = one.status
    return f"failing ({fares.failure}, {fares.failures} times)" if fares.failures else "well"


def _when(stamp: Timestamp) -> str:
    return output.when(stamp)


def _by(stamp: Timestamp, who: str) -> str:
    return f"{output.when(stamp)} ({who})" if stamp.seconds else ""
