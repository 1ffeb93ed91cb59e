"""The volume brake: a plan that destroys far more than was forecast waits until somebody confirms it by its digest.

Each run that is not braked forecasts what will be due in the next 400 days, under the policies of now and those that wait.
A later plan is compared with what that forecast says for the days since. So a policy that was shortened in the open passes
when its cooling-off is over, and a clock, a policy book or an index that went wrong at once does not. Days that the clock
took without power on nobody's signed word are not among those days: what they bring must be confirmed.

What users deleted is counted apart: each such erasure was foreseen by the deletion itself. A braked plan is not carried
out at all, erasures after grace included, because what is wrong may be the clock they go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from pydantic import TypeAdapter

from appliance.storage.retention.clock import ClockState
from appliance.storage.retention.facts import Facts
from appliance.storage.retention.items import ItemKind, Plan, Rule
from appliance.storage.retention.outlook import upcoming
from appliance.storage.retention.period import DAY_NS
from appliance.storage.retention.run import Outcome

FORECAST_DAYS: Final = 400
_COUNTED: Final = (ItemKind.EXPIRE_BUCKET, ItemKind.DROP_HOLD_RECORDINGS)


@dataclass(frozen=True, slots=True)
class Limits:
    """What passes: up to the floor always, beyond it up to `factor` times the forecast."""

    recordings: int = 500
    bytes: int = 2 * 1024**3
    factor: int = 3


@dataclass(frozen=True, slots=True)
class Forecast:
    """How much should be due by the end of each day from `made_ns` on (day 0: the first 24 hours), summed up."""

    made_ns: int
    recordings: tuple[int, ...]
    bytes: tuple[int, ...]
    unseen_ns: int = 0
    """`ClockState.unseen_ns` when it was made."""

    def by(self, clock_ns: int, unseen_ns: int) -> tuple[int, int]:
        """Recordings and bytes that should be due by then; nothing before it was made, no more after its last day.

        `unseen_ns` is the clock's own: what it grew by is no time that passed. Where it is less than it was, the clock
        is not the one that this was made by, and nothing is expected.
        """
        unseen = unseen_ns - self.unseen_ns
        passed = clock_ns - self.made_ns - unseen
        if unseen < 0 or passed < 0 or not self.recordings:
            return 0, 0
        day = min(passed // DAY_NS, len(self.recordings) - 1)
        return self.recordings[day], self.bytes[day]


@dataclass(frozen=True, slots=True)
class Brake:
    """Why a plan waits. `foreseen`: erasures after grace, which are not counted; `digest` is what to confirm."""

    digest: str
    recordings: int
    bytes: int
    expected_recordings: int
    expected_bytes: int
    allowed_recordings: int
    allowed_bytes: int
    foreseen: int
    message: str


def check(
    plan: Plan, forecast: Forecast | None, clock: ClockState, limits: Limits = Limits()
) -> Brake | None:
    """Whether the plan is far larger than forecast. No forecast (the first run) expects nothing."""
    recordings, size = counted(plan)
    expected, expected_size = forecast.by(clock.clock_ns, clock.unseen_ns) if forecast else (0, 0)
    allowed = max(limits.recordings, limits.factor * expected)
    allowed_size = max(limits.bytes, limits.factor * expected_size)
    if recordings <= allowed and size <= allowed_size:
        return None
    foreseen = sum(item.recordings for item in plan.items if item.kind is ItemKind.ERASE_DELETED)
    message = (
        f"{recordings} recordings ({size} bytes) would be destroyed where {expected} ({expected_size} bytes) were"
        f" expected; up to {allowed} ({allowed_size} bytes) need no confirmation"
    )
    return Brake(
        plan.digest, recordings, size, expected, expected_size, allowed, allowed_size, foreseen, message
    )


def counted(plan: Plan) -> tuple[int, int]:
    """Recordings and bytes of a plan that the brake counts: everything destroyed, but for erasures after grace."""
    items = [item for item in plan.items if item.kind in _COUNTED]
    return sum(item.recordings for item in items), sum(item.bytes for item in items)


def forecast(facts: Facts, left: tuple[int, int] = (0, 0)) -> Forecast:
    """What should be due from now on, after a run.

    What is due already is not foreseen by it: it would let a braked plan pass a day later. `left`: recordings and
    bytes that a run which was not braked could not finish; they are expected from the first day on.
    """
    now = facts.clock.clock_ns
    counts = [0] * FORECAST_DAYS
    sizes = [0] * FORECAST_DAYS
    counts[0], sizes[0] = left
    for each in upcoming(facts, FORECAST_DAYS):
        day = (each.when_ns - now) // DAY_NS
        if each.when_ns > now and day < FORECAST_DAYS:
            counts[day] += each.recordings
            sizes[day] += each.bytes
    return Forecast(now, tuple(accumulate(counts)), tuple(accumulate(sizes)), facts.clock.unseen_ns)


def renew(
    previous: Forecast | None, outcome: Outcome, facts: Facts, plan: Plan, left: tuple[int, int] = (0, 0)
) -> Forecast | None:
    """The forecast to go by after a run of `plan`, made from `facts`, came to this outcome; `left` as in `forecast`.

    A run that was braked or frozen leaves the one there was, which goes on to count the days. What was due and only
    had to be quiet for an hour first is expected soon.
    """
    if outcome in (Outcome.BRAKED, Outcome.FROZEN):
        return previous
    busy = [item for item in plan.items if item.why.rule is Rule.WRITTEN_LATELY]
    count = left[0] + sum(item.recordings for item in busy)
    return forecast(facts, (count, left[1] + sum(item.bytes for item in busy)))


FORECAST = TypeAdapter(Forecast)
BRAKE = TypeAdapter(Brake)
