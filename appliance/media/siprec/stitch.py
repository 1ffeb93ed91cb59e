"""Recording sessions that belong to one call: the same call twice, its two ends, what follows after a transfer.

A recording session is recognised by what names its call: communication session ids, UCID and the like, group ids, and
the reference that near and far end share. Sessions are joined within one tenant only, while the earlier one lasts or
soon after, and not where both name parties and have none in common: an id that a vendor uses for every call must not
make one call of a day.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.media.siprec.numbers import same_number

WINDOW_NS = 120_000_000_000
"""How long after its end a call can still be continued."""
MAX_REMEMBERED = 20_000


class Relation(enum.StrEnum):
    """What a new session is to an earlier one."""

    DUPLICATE = "duplicate"  # redundant recording: kept, not shown
    COMPANION = "companion"  # another voice of the same call
    CONTINUATION = "continuation"  # what came after: a transfer, a consultation


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """How a recording session can be recognised.

    `keys` name the call itself, `groups` what it is part of, `fork` the pair of near and far end. `numbers` are its
    parties', `voices` those of who speaks in this session; `near` as in `hints.Fork`.
    """

    tenant_id: str
    keys: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    fork: str = ""
    near: bool | None = None
    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    voices: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def handles(self) -> list[str]:
        """Everything it can be found by."""
        found = [f"key {key}" for key in self.keys] + [f"group {key}" for key in self.groups]
        return [*found, f"fork {self.fork}"] if self.fork else found


@dataclass(slots=True)
class _Known:
    call_id: str
    recording_id: str
    fingerprint: Fingerprint
    ended_ns: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """The call a new session belongs to, and the recording it repeats or goes with."""

    call_id: str
    recording_id: str
    relation: Relation


class Stitcher:
    """Remembers sessions, live and of the last minutes. Times are nanoseconds of one clock."""

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        self._window_ns = window_ns
        self._known: dict[str, _Known] = {}  # by recording id, oldest first
        self._index: dict[tuple[str, str], dict[str, None]] = {}  # (tenant, handle) to recording ids

    def __len__(self) -> int:
        return len(self._known)

    def find(self, fingerprint: Fingerprint, now_ns: int) -> Match | None:
        """The call that a new session belongs to, if any. The closest relation counts, then the newest."""
        self._forget(now_ns)
        candidates: dict[str, None] = {}
        for handle in fingerprint.handles:
            candidates.update(self._index.get((fingerprint.tenant_id, handle), {}))
        found: dict[Relation, Match] = {}
        for recording_id in reversed(candidates):
            known = self._known[recording_id]
            relation = _relation(known, fingerprint)
            if relation is not None:
                found.setdefault(relation, Match(known.call_id, recording_id, relation))
        return next((found[relation] for relation in Relation if relation in found), None)

    def add(self, call_id: str, recording_id: str, fingerprint: Fingerprint) -> None:
        """Remembers a session, or what is newly known of it."""
        before = self._known.get(recording_id)
        if before is not None:
            self._unindex(recording_id, before.fingerprint)
            before.fingerprint = fingerprint
        else:
            self._known[recording_id] = _Known(call_id, recording_id, fingerprint)
        for handle in fingerprint.handles:
            self._index.setdefault((fingerprint.tenant_id, handle), {})[recording_id] = None
        while len(self._known) > MAX_REMEMBERED:
            self._drop(next(iter(self._known)))

    def ended(self, recording_id: str, now_ns: int) -> None:
        """The session is over; it is remembered for a while."""
        known = self._known.get(recording_id)
        if known is not None and not known.ended_ns:
            known.ended_ns = now_ns
            self._known[recording_id] = self._known.pop(
                recording_id
            )  # those that ended stand in order of their end

    def _forget(self, now_ns: int) -> None:
        old = [
            recording_id
            for recording_id, known in self._known.items()
            if known.ended_ns and now_ns - known.ended_ns > self._window_ns
        ]
        for recording_id in old:
            self._drop(recording_id)

    def _drop(self, recording_id: str) -> None:
        self._unindex(recording_id, self._known.pop(recording_id).fingerprint)

    def _unindex(self, recording_id: str, fingerprint: Fingerprint) -> None:
        for handle in fingerprint.handles:
            held = self._index.get((fingerprint.tenant_id, handle), {})
            held.pop(recording_id, None)
            if not held:
                self._index.pop((fingerprint.tenant_id, handle), None)


def _relation(known: _Known, new: Fingerprint) -> Relation | None:
    old = known.fingerprint
    if old.fork and old.fork == new.fork:
        if known.ended_ns:
            return Relation.CONTINUATION
        return Relation.COMPANION if old.near is not new.near else Relation.DUPLICATE
    if old.numbers and new.numbers and not _share(old.numbers, new.numbers):
        return None
    if old.keys & new.keys:
        if known.ended_ns:
            return Relation.CONTINUATION
        if old.near is not new.near and None not in (old.near, new.near):
            return Relation.COMPANION
        if old.voices and new.voices and not _share(old.voices, new.voices):
            return Relation.COMPANION
        return Relation.DUPLICATE
    return Relation.CONTINUATION if old.groups & new.groups else None


def _share(one: Iterable[str], other: Iterable[str]) -> bool:
    others = list(other)
    return any(same_number(first, second) for first in one for second in others)
