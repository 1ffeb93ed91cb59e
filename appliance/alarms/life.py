"""The life of an alarm: when one goes on, and when another one begins."""

from __future__ import annotations

from typing import Final

from appliance.alarms.severity import Severity

FLAP_NS: Final = 5 * 60 * 10**9
"""What comes back within this time after it cleared by itself has not been away."""
SETTLE_NS: Final = 30 * 10**9
"""A warning that is over within this time is told nobody: a hiccup of the network."""
START_NS: Final = 30 * 10**9
"""What a start merely has not yet is no alarm for this long after it."""


def goes_on(clear_ns: int | None, clear_by: str, now_ns: int) -> bool:
    """Whether what is raised now is the alarm that was there before. Whom a person cleared is done with."""
    if clear_ns is None:
        return True
    return not clear_by and now_ns - clear_ns < FLAP_NS


def is_starting(at_start: bool, uptime_ns: int, stood_ns: int) -> bool:
    """Whether a condition is no alarm yet, as the process that says it has just started.

    `at_start`: its kind is of those that a start has. `stood_ns`: for how long it was seen without a break: a process that
    dies again and again hides nothing by its starts.
    """
    return at_start and max(uptime_ns, stood_ns) < START_NS


def worse(one: Severity, other: Severity) -> Severity:
    """The one that matters more."""
    return max(one, other, key=lambda severity: severity.rank)


def is_blip(severity: Severity, raise_ns: int, clear_ns: int | None, clear_by: str) -> bool:
    """Whether it was over before anybody had to know."""
    if severity is not Severity.WARNING or clear_ns is None or clear_by:
        return False
    return clear_ns - raise_ns < SETTLE_NS
