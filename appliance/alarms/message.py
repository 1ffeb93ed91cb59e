"""What goes out by channels."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from appliance.alarms.alarm import Alarm


class What(enum.StrEnum):
    """What a message says of an alarm."""

    RAISED = "raised"
    ESCALATED = "escalated"  # it became more severe
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"
    TEST = "test"


@dataclass(frozen=True)
class Message:
    """Something to tell. `id`: 26 characters; who gets a message twice knows it by that. Times: ns since the Unix epoch."""

    id: str
    what: What
    alarm: Alarm
    tenant_name: str  # to show; empty: of the box
    box_name: str
    create_ns: int
