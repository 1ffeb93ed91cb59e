"""How well the box served, as it was noted from minute to minute. Times are nanoseconds since the Unix epoch."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cause(enum.StrEnum):
    """Why recordings could not be had."""

    STOPPED = "stopped"  # the control process did not run
    CATALOGUE = "catalogue"
    VAULT = "vault"


class Follows(enum.StrEnum):
    """What was before a stretch."""

    START = "start"  # nothing ran
    CHANGE = "change"  # the stretch before, at once
    CLOCK = "clock"  # the clock was set: how long it was cannot be said


@dataclass(frozen=True, slots=True)
class Served:
    """A stretch in which control ran. `cause`: of what it was without; None: of nothing."""

    begin_ns: int
    end_ns: int
    cause: Cause | None = None
    follows: Follows = Follows.START


@dataclass(frozen=True, slots=True)
class Work:
    """Work that was planned, and noted before it began."""

    id: str
    begin_ns: int
    end_ns: int
    description: str
    who: str
    create_ns: int
