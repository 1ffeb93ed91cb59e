"""What is known of a kind of alarm before there is one."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.alarms.severity import Severity


@dataclass(frozen=True)
class Kind:
    """A kind of alarm.

    `name`: in CamelCase, at most 64 letters; the type of a condition where processes raise it. `severity`: of an alarm
    of this kind, unless the condition says another. `title`: one line, what is the matter. `what_to_do`: a few
    sentences for who has to do something. `by_hand`: the cause cannot tell that it is over, so a person clears it.
    `touches_recording`: tenants see that there is one of the box, as their recordings may be touched.
    `at_start`: a process that starts has it for a moment, as others are not there yet (`life.START_NS`).
    """

    name: str
    severity: Severity
    title: str
    what_to_do: str
    by_hand: bool = False
    touches_recording: bool = False
    at_start: bool = False


def critical(name: str, title: str, what_to_do: str, **more: bool) -> Kind:
    """A kind whose alarms are critical."""
    return Kind(name, Severity.CRITICAL, title, what_to_do, **more)


def warning(name: str, title: str, what_to_do: str, **more: bool) -> Kind:
    """A kind whose alarms are warnings."""
    return Kind(name, Severity.WARNING, title, what_to_do, **more)
