"""Which calls are drawn for review.

Nothing here is left to chance that a restart could change or somebody could steer: every nth call goes by a count that is
kept of each agent, and a percentage by a keyed hash of the recording's id, whose key never leaves the box.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from appliance.review.errors import ReviewRuleInvalidError

KEY_SIZE: Final = 32
MAX_EVERY: Final = 10_000
MAX_WEEKLY: Final = 1000
MAX_DUE_DAYS: Final = 365
PARTS: Final = 10_000  # a percentage is in hundredths


class Draw(enum.StrEnum):
    """How a rule draws, of the calls that match its filter."""

    ALL = "all"
    EVERY = "every"  # every nth of an agent
    SHARE = "share"  # a percentage


@dataclass(frozen=True)
class Drawing:
    """How calls are drawn. `share`: in hundredths of a percent; `weekly_limit` 0: without one."""

    draw: Draw
    every: int = 0
    share: int = 0
    weekly_limit: int = 0
    due_days: int = 0


def check(drawing: Drawing) -> None:
    """ReviewRuleInvalidError."""
    _bounds("every", drawing.every, *((1, MAX_EVERY) if drawing.draw is Draw.EVERY else (0, 0)))
    _bounds("percent", drawing.share, *((1, PARTS) if drawing.draw is Draw.SHARE else (0, 0)))
    _bounds("weekly_limit", drawing.weekly_limit, 0, MAX_WEEKLY)
    _bounds("due_days", drawing.due_days, 0, MAX_DUE_DAYS)


def chosen(drawing: Drawing, key: bytes, recording_id: str, count: int, in_week: int) -> bool:
    """Whether a call is drawn. `count`: which call of its agent it is for this rule, from 1; `in_week`: drawn before it."""
    if drawing.weekly_limit and in_week >= drawing.weekly_limit:
        return False
    if drawing.draw is Draw.EVERY:
        return count % drawing.every == 0
    if drawing.draw is Draw.SHARE:
        return lot(key, recording_id) * PARTS < drawing.share << 64
    return True


def lot(key: bytes, recording_id: str) -> int:
    """64 bits that nobody knows without the key."""
    return int.from_bytes(hmac.digest(key, recording_id.encode(), hashlib.sha256)[:8], "big")


def week(at_ns: int, zone: str) -> str:
    """The ISO week of a time, such as 2026-W48, where the tenant is."""
    year, number, _ = datetime.fromtimestamp(at_ns // 10**9, ZoneInfo(zone or "UTC")).isocalendar()
    return f"{year}-W{number:02d}"


def month(at_ns: int, zone: str) -> str:
    """The month of a time, such as 2026-11, where the tenant is."""
    return datetime.fromtimestamp(at_ns // 10**9, ZoneInfo(zone or "UTC")).strftime("%Y-%m")


def _bounds(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ReviewRuleInvalidError(f"should be {least} to {most}", field=f"rule.{field}")
