"""Which snapshots a copy still needs, and each from which on. Pure: marks in, legs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.storage.names import GUARD
from appliance.storage.replica.papers import Mark, number_in


@dataclass(frozen=True, slots=True)
class Leg:
    """One stream: a snapshot, whole or as what came since `base`."""

    snapshot: str
    base: str


def route(replica: str, here: Sequence[Mark], there: Sequence[Mark], newest: str) -> tuple[Leg, ...] | None:
    """The streams that bring a copy up to the snapshot `newest`; None where it does not go on from what is there.

    Both lists oldest first. Beside the guard and `newest` only what is in grace travels: of the box's older snapshots for
    this replica the copy has what it needs.
    """
    names = [mark.name for mark in here]
    end = names.index(newest)
    wanted = [
        place
        for place, mark in enumerate(here[: end + 1])
        if mark.name == GUARD or mark.name.startswith("g-") or place == end
    ]
    base, after = "", -1
    if there:
        last = there[-1]
        if last not in here:
            return None
        base, after = last.name, here.index(last)
        if number_in(replica, base) == 0 and base != GUARD and not base.startswith("g-"):
            return None  # nothing of ours ends with such a one
    legs = []
    for place in wanted:
        if place > after:
            legs.append(Leg(names[place], base))
            base = names[place]
    return tuple(legs)
