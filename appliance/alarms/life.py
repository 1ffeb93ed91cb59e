"""The life of an alarm: when one goes on, and when another one begins."""

from __future__ import annotations

from typing import Final

from appliance.alarms.severity import Severity

FLAP_NS: Final = 5 * 60 * 10**9
"""What comes back within this time after it cleared by itself has not been away."""


def goes_on(clear_ns: int | None, clear_by: str, now_ns: int) -> bool:
    """Whether what is raised now is the alarm that was there before. Whom a person cleared is done with."""
    if clear_ns is None:
        return True
    return not clear_by and now_ns - clear_ns < FLAP_NS


def worse(one: Severity, other: Severity) -> Severity:
    """The one that matters more."""
    return max(one, other, key=lambda severity: severity.rank)
