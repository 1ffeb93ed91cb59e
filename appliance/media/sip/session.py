"""One INVITE usage of a dialog, either way: what the application may read of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any


class SessionState(enum.StrEnum):
    """Where a session stands."""

    CALLING = "calling"  # our INVITE is out, or theirs waits for an answer
    EARLY = "early"  # a provisional response with a To tag made an early dialog
    ESTABLISHED = "established"  # a 2xx made the dialog
    ENDING = "ending"  # our BYE or CANCEL is out
    ENDED = "ended"


@dataclass(eq=False, slots=True)
class SipSession:
    """An INVITE usage. Read it; change it by the methods of `SipEndpoint` only.

    `id` is ours, random, and lives as long as the session, through a restart too. `user` is the application's own.
    """

    id: str
    uas: bool  # the peer began it
    state: SessionState = SessionState.CALLING
    user: Any = field(default=None)
