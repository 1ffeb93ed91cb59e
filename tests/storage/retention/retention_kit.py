"""Times and small facts for the tests of retention."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.model import new_id
from appliance.storage.names import HOLD_LINE, BucketId
from appliance.storage.retention.clock import ClockState, FreezeRule, Frozen
from appliance.storage.retention.facts import BucketFacts, BucketWord, Facts
from appliance.storage.retention.holds import LegalHold
from appliance.storage.retention.period import Period
from appliance.storage.retention.policy import Policy, PolicyBook, PolicyChange, PolicyField, PolicyScope

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TENANT, LINE, CASE = (id_ * 26 for id_ in "acd")
TENANT, LINE, CASE = TENANT[:25] + "a", LINE[:25] + "a", CASE[:25] + "a"


def at(text: str) -> int:
    """2026-11-25 or 2026-11-25T10:00, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


NOW = at("2026-11-25T03:00")


def clock(now: int = NOW, frozen: bool = False) -> ClockState:
    reason = Frozen(FreezeRule.WALL_AHEAD, now - DAY, "the wall clock is 10 years ahead")
    return ClockState(now, now, "boot", 1, frozen=reason if frozen else None)


def book(retention: str = "30d", grace: int = 30, scope: PolicyScope = PolicyScope()) -> PolicyBook:
    """In force at once, whatever was before."""
    fields = (PolicyField.RETENTION, PolicyField.GRACE)
    return PolicyBook().as_if(PolicyChange(scope, Policy(Period.parse(retention), grace), fields))


def hold(case: str = CASE, released: bool = False) -> LegalHold:
    return LegalHold(case, "title", "reason", "owner", TENANT, 1, released_ns=2 if released else 0)


def bucket(slice_: str = "2026-10-01", recordings: int = 10, **more: object) -> BucketFacts:
    of_hold = len(slice_) == 26
    name = BucketId(TENANT, HOLD_LINE if of_hold else LINE, slice_)
    given = {"bytes": 1000 * recordings, "state": BucketWord.LOCKED} | more
    return BucketFacts(name, recordings=recordings, **given)  # type: ignore[arg-type]


def facts(*buckets: BucketFacts, **more: object) -> Facts:
    given: dict = {"clock": clock(), "book": book()} | more
    return Facts(buckets=buckets, **given)


__all__ = [
    "CASE", "DAY", "HOUR", "LINE", "MINUTE", "NOW", "SECOND", "TENANT",
    "at", "book", "bucket", "clock", "facts", "hold", "new_id",
]  # fmt: skip
