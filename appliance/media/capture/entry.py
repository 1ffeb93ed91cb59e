"""A session with its file and its place in the tables of a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.media.capture.commands import Closed
from appliance.media.capture.disk import PartFile, Ticket
from appliance.media.capture.session import Session


@dataclass(slots=True)
class Closing:
    """A recording that has ended and is not durable yet."""

    ended_ns: int
    done: Callable[[Closed], None]


@dataclass(slots=True)
class Entry:
    """See the module. `slots` are those of its tracks."""

    session: Session
    file: PartFile
    ticket: Ticket
    slots: list[int] = field(default_factory=list)
    closing: Closing | None = None
