"""When a provider's keys are fetched, and how long they go on without it. Sans-IO: a clock that does not jump comes in.

Keys are fetched anew in the background once they are five minutes old. A token with a key that is not known fetches at
once, at most once in `KNOCK_S`, so that made-up keys cost the provider nothing. A provider that does not answer is tried
again after the same time; its last keys go on for `usable_s`, then nothing of it is accepted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from appliance.access.oidc import Head, Key, choose

FRESH_S: Final = 300.0
KNOCK_S: Final = 30.0


class Step(enum.Enum):
    """What to do for a token."""

    USE = "use"  # the key is there
    REFRESH = "refresh"  # it is there; fetch anew, without waiting
    FETCH = "fetch"  # fetch, then ask again
    UNKNOWN = "unknown"  # the provider answered lately, and has no such key
    UNAVAILABLE = "unavailable"  # the provider cannot be asked now


@dataclass(frozen=True)
class Decision:
    """`key` with USE and REFRESH; `retry_s` with UNAVAILABLE."""

    step: Step
    key: Key | None = None
    retry_s: float = 0.0


class Keyring:
    """The keys of one provider."""

    def __init__(self, usable_s: float) -> None:
        self._usable_s = usable_s
        self._keys: tuple[Key, ...] = ()
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._failed = False

    def decide(self, said: Head, now_s: float) -> Decision:
        """What to do for a token that says this."""
        age = now_s - self._fetched_s
        key = choose(self._keys, said) if age <= self._usable_s else None
        may_knock = now_s - self._tried_s >= KNOCK_S
        if key is not None:
            return Decision(Step.REFRESH if age > FRESH_S and may_knock else Step.USE, key)
        if may_knock:
            return Decision(Step.FETCH)
        if self._failed:
            return Decision(Step.UNAVAILABLE, retry_s=max(1.0, KNOCK_S - (now_s - self._tried_s)))
        return Decision(Step.UNKNOWN)

    def trying(self, now_s: float) -> None:
        """A fetch begins."""
        self._tried_s = now_s

    def fetched(self, keys: tuple[Key, ...], now_s: float) -> None:
        """It gave these keys, which take the place of all before: what a provider withdrew counts no more."""
        self._keys, self._fetched_s, self._failed = keys, now_s, False

    def failed(self) -> None:
        """It gave nothing."""
        self._failed = True

    @property
    def stale_since_s(self) -> float | None:
        """When the keys were fetched, where the provider has not answered since; None: it answers."""
        return self._fetched_s if self._failed else None
