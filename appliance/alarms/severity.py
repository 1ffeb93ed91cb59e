"""How much an alarm matters."""

from __future__ import annotations

import enum


class Severity(enum.StrEnum):
    """Three are enough to decide by: get up, come by, read it some day."""

    CRITICAL = "critical"  # recordings, keys or evidence are lost or in danger: at once
    WARNING = "warning"  # will become critical if nobody does anything
    NOTICE = "notice"  # a reminder

    @property
    def rank(self) -> int:
        """Greater matters more: 1 to 3."""
        return _RANKS[self]


_RANKS = {Severity.NOTICE: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}
