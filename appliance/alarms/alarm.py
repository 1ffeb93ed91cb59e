"""An alarm, as everybody hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.alarms.severity import Severity


@dataclass(frozen=True)
class Alarm:
    """An alarm. Times are nanoseconds since the Unix epoch; `tenant_id` is empty for those of the box."""

    id: str
    kind: str
    severity: Severity
    subject: str
    tenant_id: str
    raise_ns: int
    seen_ns: int
    count: int = 1
    data: Mapping[str, str | int] = field(default_factory=dict)
    ack_ns: int | None = None
    ack_by: str = ""
    ack_note: str = ""
    clear_ns: int | None = None
    clear_by: str = ""
    stands: bool = True

    @property
    def open(self) -> bool:
        """Whether it still stands, as far as people are concerned."""
        return self.clear_ns is None
