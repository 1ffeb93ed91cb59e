"""Which side each party is on, and which way the call went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.media.siprec.model import CallData
from appliance.media.siprec.numbers import same_number, subscriber
from appliance.model import Direction, Role


@dataclass(frozen=True, slots=True)
class Candidate:
    """One party as far as it matters here. `near`: the recorded phone itself (True) or who it talks to (False)."""

    number: str = field(default="", repr=False)
    calling: bool | None = None
    near: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`roles` has one for each candidate; `calling` is the index of who placed the call, -1 where nothing says it."""

    direction: Direction
    roles: tuple[Role, ...]
    calling: int = -1


def judge(parties: Sequence[Candidate], call: CallData, ours: Callable[[str], bool]) -> Verdict:
    """Decides from what is said: who calls, whose numbers are the line's (`ours`), what the vendor calls the direction.

    The agent's side is the tenant's own: whoever has a number of the line, either way the call went. In a call between
    two numbers of the line, or where no number is known to be ours, the one who called is the caller. Nothing is guessed.
    """
    calling = _calling(parties, call)
    own = [bool(one.number) and ours(one.number) for one in parties]
    direction = _direction(calling, own, call, parties)
    if any(one.near is not None for one in parties):
        roles = [
            Role.UNKNOWN if one.near is None else Role.AGENT if one.near else Role.CALLER for one in parties
        ]
    elif any(own) and not all(own):
        roles = [Role.AGENT if mine else Role.CALLER for mine in own]
    elif calling < 0:
        roles = [Role.UNKNOWN] * len(parties)
    else:
        # Outbound by the vendor's word: who placed the call is on our side, though the number is not known to be.
        side = (
            (Role.AGENT, Role.CALLER)
            if direction is Direction.OUTBOUND and not any(own)
            else (Role.CALLER, Role.AGENT)
        )
        roles = [side[0] if index == calling else side[1] for index in range(len(parties))]
    return Verdict(direction, tuple(roles), calling)


def _calling(parties: Sequence[Candidate], call: CallData) -> int:
    said = [index for index, one in enumerate(parties) if one.calling]
    if len(said) == 1:
        return said[0]
    denied = [index for index, one in enumerate(parties) if one.calling is False]
    if not said and len(parties) - len(denied) == 1 and denied:
        return next(index for index in range(len(parties)) if index not in denied)
    for numbers, negative in ((call.calling, False), (call.called, True)):
        wanted = [subscriber(address) for address in numbers]
        matches = [
            index
            for index, one in enumerate(parties)
            if any(same_number(one.number, number) for number in wanted)
        ]
        if len(matches) == 1 and not negative:
            return matches[0]
        if len(matches) == 1 and len(parties) == 2:
            return 1 - matches[0]
    return -1


def _direction(calling: int, own: Sequence[bool], call: CallData, parties: Sequence[Candidate]) -> Direction:
    if calling >= 0 and any(own):
        if not own[calling]:
            return Direction.INBOUND
        others = [mine for index, mine in enumerate(own) if index != calling]
        return Direction.INTERNAL if any(others) else Direction.OUTBOUND
    if len(own) > 1 and all(own):
        return Direction.INTERNAL
    if call.direction:
        return Direction(call.direction)
    return Direction.UNKNOWN
