"""Codes keyed in by a participant: which keys are the box's own. Sans-IO; times are passed in.

A key that may begin a code waits for the next one. Where the keys turn out to be a code, nobody else hears of them;
where they turn out to be none, they are given back in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appliance.media.rtp.events import KEYS
from appliance.model import InvalidError

PATIENCE_NS = 3_000_000_000
"""How long a key waits for the next one."""
MAX_CODES = 8
MAX_KEYS = 8


class KeyCodeError(InvalidError):
    """A code is 1 to 8 keys of 0-9*#A-D, and a participant has at most 8 different ones; `data['field']` names it."""

    reason = "KEY_CODE_INVALID"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the keys that were pressed first: a code, or keys like all others."""

    keys: str
    code: bool


def check_codes(codes: Iterable[str], field: str = "codes") -> tuple[str, ...]:
    """The codes, without repetitions, in the order given; KeyCodeError where one is none."""
    found = tuple(dict.fromkeys(codes))
    if len(found) > MAX_CODES:
        raise KeyCodeError("too many key codes", field=field, limit=MAX_CODES)
    for code in found:
        if not 1 <= len(code) <= MAX_KEYS or any(key not in KEYS for key in code):
            raise KeyCodeError("a code is 1 to 8 keys of 0-9*#A-D", field=field)
    return found


class Keypad:
    """Matches keys against codes. Where one code begins another, the longer one wins if it comes in time."""

    def __init__(self, codes: Iterable[str]) -> None:
        self.codes = check_codes(codes)
        self._pending = ""
        self._since_ns = 0

    @property
    def pending(self) -> str:
        """Keys that wait."""
        return self._pending

    @property
    def deadline_ns(self) -> int | None:
        """When to call `expire`; None where nothing waits."""
        return self._since_ns + PATIENCE_NS if self._pending else None

    def press(self, key: str, at_ns: int) -> list[Outcome]:
        """Takes a key; what is decided by it, in the order the keys were pressed. Times rise."""
        outcomes = self.expire(at_ns)
        self._pending += key
        self._since_ns = at_ns
        return outcomes + self._decide(final=False)

    def expire(self, now_ns: int) -> list[Outcome]:
        """What is decided by time alone."""
        if not self._pending or now_ns < self._since_ns + PATIENCE_NS:
            return []
        return self._decide(final=True)

    def flush(self) -> list[Outcome]:
        """What is decided when no key can come any more: a change of codes, or the end."""
        return self._decide(final=True)

    def _decide(self, *, final: bool) -> list[Outcome]:
        outcomes = []
        while self._pending:
            keys = self._pending
            if not final and any(len(code) > len(keys) and code.startswith(keys) for code in self.codes):
                break
            whole = max((len(code) for code in self.codes if keys.startswith(code)), default=0)
            taken = whole or 1
            outcomes.append(Outcome(keys[:taken], bool(whole)))
            self._pending = keys[taken:]
        return outcomes
