"""Whether the parties of a call are still there: asked inside their dialogs when no media comes, for who has lost its power
says no BYE."""

from __future__ import annotations

from appliance.media.inline.ground import Ground
from appliance.media.sip.core import SessionStateError
from appliance.media.sip.endpoint import UNREACHABLE
from appliance.media.sip.session import OutboundRequest

LOST = "party-lost"
_UNKNOWN, _NO_ANSWER = 481, 408


class Presence:
    """See the module. An answer of any other kind than "no such dialog" says that somebody is there."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._asked: dict[int, OutboundRequest] = {}  # by track
        self._unanswered: dict[int, int] = {}
        self._patience = 1

    def ask(self, patience: int) -> None:
        """Asks both; `patience` is how many questions in a row may go without an answer before a party is lost."""
        ground = self.ground
        self._patience = patience
        for track in ground.pair or ():
            one = ground.participants.get(track)
            session = one.sip if one is not None and not one.gone else None
            if session is None or not session.established or track in self._asked:
                continue
            try:
                self._asked[track] = ground.endpoint.request(
                    "OPTIONS", now=ground.clock.now(), session=session
                )
            except (SessionStateError, *UNREACHABLE) as error:
                ground.notes.append(f"not asked: {error.reason}")

    def answered(self, outbound: OutboundRequest, status: int = _NO_ANSWER) -> bool:
        """A response to a request of ours, or none; whether it was one of these."""
        track = next((track for track, asked in self._asked.items() if asked is outbound), None)
        if track is None:
            return False
        if status < 200:
            return True
        del self._asked[track]
        missed = self._unanswered.get(track, 0) + 1 if status == _NO_ANSWER else 0
        self._unanswered[track] = missed
        if status == _UNKNOWN or missed >= self._patience:
            self.ground.notes.append("a party is not there any more")
            self.ground.finish(LOST)
        return True
