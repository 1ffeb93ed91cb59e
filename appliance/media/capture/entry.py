"""A session with its place in the tables of a worker, and with its file where it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.media.capture.commands import Closed
from appliance.media.capture.disk import PartFile, Ticket
from appliance.media.capture.session import MediaSession, Session


@dataclass(slots=True)
class Closing:
    """A recording that has ended and is not durable yet. `relaying`: its sockets are another entry's."""

    ended_ns: int
    done: Callable[[Closed], None]
    relaying: bool = False


@dataclass(slots=True)
class Relayed:
    """A session that is only relayed. `slots` are those of its tracks."""

    session: MediaSession
    slots: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Entry:
    """A session that is recorded."""

    session: Session
    file: PartFile
    ticket: Ticket
    slots: list[int] = field(default_factory=list)
    closing: Closing | None = None


AnyEntry = Relayed | Entry
