"""How failed sign-ins are slowed, so that guessing is hopeless and nobody can be locked out by it. Sans-IO.

Two counts, both forgetting with time:

- per name and source network: a few failures are free, each further one doubles how long the next attempt from there
  must wait. It slows who guesses from one place, and nobody elsewhere.
- per name over all networks: who guesses from many places uses up the name's budget. Then only networks that signed in to
  this name before are still listened to; the name's owner, at the usual desk, does not notice.

Names (with their tenant) are counted whether they exist or not, so that no answer tells. Time is a number of seconds that
does not jump.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from appliance.access.refusals import SignInSlowedError

FREE: Final = 5  # failures from one network before anything is slowed
FIRST_S: Final = 2.0
MOST_S: Final = 300.0
FORGET_S: Final = 3600.0  # a count is halved in this time
BUDGET: Final = 20.0  # failures of a name from networks that are not known to it, at once
BUDGET_PER_S: Final = 20.0 / 3600.0
MOST_ENTRIES: Final = 50_000  # of each count


@dataclass
class _Place:
    failures: float
    at_s: float
    until_s: float


@dataclass
class _Budget:
    left: float
    at_s: float


class Lockout:
    """The counts. Ask `admit` before anything is checked, then say `failed` or `succeeded`."""

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self._most = most
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()

    def admit(self, name: str, network: str, known: bool, now_s: float) -> None:
        """SignInSlowedError, with when to come again, where this attempt is not looked at.

        `known`: somebody signed in to this name from this network before. An attempt that is admitted counts as one that
        failed until it succeeded, so that many at once are no way around.
        """
        place = self._places.get((name, network))
        if place is not None and now_s < place.until_s:
            raise _slowed(place.until_s - now_s)
        if not known:
            budget = self._budget(name, now_s)
            if budget.left < 1:
                raise _slowed((1 - budget.left) / BUDGET_PER_S)
            budget.left -= 1
        self._count(name, network, now_s)

    def succeeded(self, name: str, network: str, known: bool) -> None:
        """The attempt that was admitted was right: it is no guess, and neither were the ones before from there."""
        self._places.pop((name, network), None)
        budget = self._budgets.get(name)
        if not known and budget is not None:
            budget.left = min(BUDGET, budget.left + 1)

    def _count(self, name: str, network: str, now_s: float) -> None:
        key = (name, network)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(0.0, now_s, now_s)
            _bound(self._places, self._most)
        else:
            self._places.move_to_end(key)
        place.failures = place.failures * 0.5 ** (max(0.0, now_s - place.at_s) / FORGET_S) + 1
        place.at_s = max(place.at_s, now_s)
        beyond = place.failures - FREE
        if beyond > 0:
            # The exponent is bounded: a float's would overflow after a thousand failures.
            place.until_s = now_s + min(MOST_S, FIRST_S * 2.0 ** min(beyond - 1, 30.0))

    def _budget(self, name: str, now_s: float) -> _Budget:
        budget = self._budgets.get(name)
        if budget is None:
            budget = self._budgets[name] = _Budget(BUDGET, now_s)
            _bound(self._budgets, self._most)
        else:
            self._budgets.move_to_end(name)
        budget.left = min(BUDGET, budget.left + max(0.0, now_s - budget.at_s) * BUDGET_PER_S)
        budget.at_s = max(budget.at_s, now_s)
        return budget


def _slowed(wait_s: float) -> SignInSlowedError:
    # Rounded up to whole seconds: the exact state of a count is nobody's business.
    return SignInSlowedError(
        "too many sign-ins failed: try again later", retry_after_s=float(int(wait_s) + 1)
    )


def _bound(entries: OrderedDict[str, _Budget] | OrderedDict[tuple[str, str], _Place], most: int) -> None:
    """The one that was tried longest ago goes: whoever wants to push another's out needs `most` sign-ins for it."""
    while len(entries) > most:
        entries.popitem(last=False)
