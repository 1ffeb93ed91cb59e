"""What rounds came to, as conditions and figures: how far behind a replica is, since when, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from appliance.process.status import ALARM, WARNING, Status
from appliance.storage.replica.rounds import Failure, Round
from earwitness.internal.v1 import process_pb2

LATE_NS: Final = 15 * 60 * 10**9
"""A replica that is behind for so long is told of."""
ALARM_NS: Final = 24 * 3600 * 10**9
STALE_TOLD_NS: Final = ALARM_NS
"""That an older copy was put back is told for so long at least, and until everything is sent again."""
_DIVERGED: Final = {
    "REPLICA_DIVERGED": "its copies do not go on from what is here. Look whether it was changed; then start them over",
    "REPLICA_FOREIGN": "another replica answers under its name, or it is another box's. Forget it first if that is meant",
    "REPLICA_SIGNATURE": "what it says is not signed by it. Look who answers in its place",
    "DELETION_LOG_FORK": "it has followed another deletion log. An older copy of this box's data was put back",
    "DELETION_LOG_GAP": "it lacks entries of the deletion log",
    "DELETION_LOG_ROLLED_BACK": "it has followed more than there is here: an older copy of this box's data was put back",
    "REPLICA_STATE": "what it keeps of itself is damaged. Forget it, and begin with an empty one",
}


@dataclass(slots=True)
class Standing:
    """What is known of one replica. Times in nanoseconds since the Unix epoch; 0: it is not so."""

    name: str
    behind: int = 0
    """Entries of the deletion log that it has not followed."""
    behind_since_ns: int = 0
    stale_since_ns: int = 0
    last: Round | None = None

    def take(self, done: Round, behind: int, now_ns: int, *, whole: bool = True) -> None:
        """A round is over; not `whole`: it was of the log alone, and says nothing of the buckets."""
        if not whole and self.last is not None:
            kept = [one for one in self.last.failures if one.bucket]
            done = replace(done, failures=kept + done.failures, gave_way=self.last.gave_way)
        self.last = done
        self.behind = behind
        waiting = behind > 0 or not done.complete
        if not waiting:
            self.behind_since_ns = 0
        elif not self.behind_since_ns:
            self.behind_since_ns = min(done.left_since_ns or now_ns, now_ns)
        if done.stale:
            self.stale_since_ns = now_ns
        elif done.complete and now_ns - self.stale_since_ns >= STALE_TOLD_NS:
            self.stale_since_ns = 0


def tell(status: Status, standings: Sequence[Standing], now_ns: int) -> None:
    """Conditions and figures of all replicas."""
    late: list[str] = []
    longest = 0
    diverged: list[str] = []
    stale: list[str] = []
    leftovers: list[str] = []
    ill: list[str] = []
    alarm = False
    for one in standings:
        done = one.last or Round()
        status.gauge(f"replica_{one.name}_lag_entries", one.behind)
        status.gauge(f"replica_{one.name}_lag_bytes", done.left_bytes)
        status.gauge(f"replica_{one.name}_lag_buckets", done.left)
        since = now_ns - one.behind_since_ns if one.behind_since_ns else 0
        if since >= LATE_NS:
            longest = max(longest, since)
            late.append(
                f"{one.name} is {_span(since)} behind, by {one.behind} entries and {done.left} buckets{_why(done)}"
            )
        diverged += [f"{one.name}: {words}" for words in _apart(done.failures)]
        if one.stale_since_ns:
            stale.append(one.name)
        ill += [f"{one.name}: {item.message}" for item in done.ailments]
        alarm = alarm or any(item.alarm for item in done.ailments)
        if done.leftovers:
            leftovers.append(f"{one.name} has {done.leftovers}")
    _set(
        status,
        "ReplicaBehind",
        ALARM if longest >= ALARM_NS else WARNING,
        late,
        "Not everything is replicated: {}. Look at the replica; what is erased here is not yet known there.",
    )
    _set(status, "ReplicaDiverged", ALARM, diverged, "A replica does not fit: {}.")
    _set(
        status,
        "ReplicaStale",
        ALARM,
        stale,
        "An older state of a replica was put back: {}. It is told again what was erased; copies that do not go on are "
        "started over when somebody says so.",
    )
    _set(status, "ReplicaIll", ALARM if alarm else WARNING, ill, "A replica's medium is not well. {}")
    _set(
        status,
        "ReplicaLeftovers",
        WARNING,
        leftovers,
        "There are copies of buckets that are not here: {}. Bring them back if they are missed; else they are left alone.",
    )


def _set(
    status: Status,
    condition: str,
    severity: process_pb2.Severity.ValueType,
    found: Sequence[str],
    words: str,
) -> None:
    if found:
        status.raise_condition(condition, severity, words.format("; ".join(found)))
    else:
        status.clear_condition(condition)


def _apart(failures: Sequence[Failure]) -> list[str]:
    found = []
    for reason, words in _DIVERGED.items():
        some = [one for one in failures if one.reason == reason]
        buckets = [one.bucket for one in some if one.bucket]
        if some:
            found.append(f"{words} ({len(buckets)} buckets)" if buckets else words)
    return found


def _why(done: Round) -> str:
    if not done.failures:
        return ""
    first = done.failures[0]
    return f" ({first.message})"


def _span(ns: int) -> str:
    minutes = ns // (60 * 10**9)
    if minutes < 120:
        return f"{minutes} minutes"
    hours = minutes // 60
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"
