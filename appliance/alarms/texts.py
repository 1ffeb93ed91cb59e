"""What is said of an alarm to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from appliance.alarms.alarm import Alarm
from appliance.alarms.kinds import kind_of
from appliance.alarms.message import Message, What

_JOINERS = "\u200c\u200d"  # scripts of India and Persia, and pictures, are written with them
_WORDS = {What.ESCALATED: "worse: ", What.CLEARED: "over: ", What.ACKNOWLEDGED: "looked after: "}


def name_of(alarm: Alarm) -> str:
    """Its resource name."""
    return f"tenants/{alarm.tenant_id}/alarms/{alarm.id}" if alarm.tenant_id else f"alarms/{alarm.id}"


def line(message: Message) -> str:
    """One line without line breaks: how much it matters, what is the matter, whose it is."""
    if message.what is What.TEST:
        return plain(f"[TEST] Alarms of {message.box_name} reach you")
    whose = message.tenant_name or message.box_name
    title = kind_of(message.alarm.kind).title
    return plain(f"[{message.alarm.severity.value.upper()}] {_WORDS.get(message.what, '')}{title} ({whose})")


def body(message: Message) -> str:
    """All of it, in lines of their own."""
    if message.what is What.TEST:
        return (
            f"This is a test: alarms of {message.box_name} reach you by this channel.\n"
            "Nothing is the matter, and there is nothing to do.\n"
        )
    alarm, kind = message.alarm, kind_of(message.alarm.kind)
    said = [f"{kind.title}.", ""]
    if message.what is What.CLEARED:
        said += [f"This is over since {when(alarm.clear_ns)}.", ""]
    elif not alarm.open:
        said += [f"It is over since {when(alarm.clear_ns)}; when this was to be sent it stood.", ""]
    if message.what is not What.CLEARED:
        said += ["What to do:", f"  {kind.what_to_do}", ""]
    facts = [
        ("Severity", alarm.severity.value),
        ("Tenant", message.tenant_name),
        ("About", alarm.subject),
        ("Raised", when(alarm.raise_ns)),
        ("Last raised", when(alarm.seen_ns) if alarm.count > 1 else ""),
        ("Times", str(alarm.count) if alarm.count > 1 else ""),
        *((name, str(value)) for name, value in alarm.data.items()),
        ("Acknowledged", f"{when(alarm.ack_ns)} by {alarm.ack_by}" if alarm.ack_ns is not None else ""),
        ("Alarm", name_of(alarm)),
        ("Box", message.box_name),
    ]
    said += [f"{name}: {plain(value)}" for name, value in facts if value]
    if message.what is not What.CLEARED:
        said += ["", f"Say that you look after it: earwitness alarms ack {alarm.id}"]
    return "\n".join(said) + "\n"


def digest_line(messages: Sequence[Message]) -> str:
    """The line over several notices."""
    number = len(messages)
    return plain(f"[NOTICE] {number} {'reminder' if number == 1 else 'reminders'} ({messages[0].box_name})")


def digest_body(messages: Sequence[Message]) -> str:
    """Several notices, one after the other."""
    return ("\n" + "-" * 72 + "\n\n").join(f"{line(one)}\n\n{body(one)}" for one in messages)


def plain(text: str) -> str:
    """On one line: no line breaks of any script, no control characters, nothing that turns the direction."""
    return "".join(one if one.isprintable() or one in _JOINERS else " " for one in text)


def when(at_ns: int | None) -> str:
    """UTC to the second; nothing for no time."""
    if at_ns is None:
        return ""
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
