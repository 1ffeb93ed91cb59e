"""How long the space lasts: what comes in a day by the last 30 days, what goes when its retention is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.storage.retention.facts import Facts
from appliance.storage.retention.outlook import upcoming
from appliance.storage.retention.period import DAY_NS
from appliance.storage.retention.rules import Rules
from appliance.storage.vault.contract import SliceUnit
from appliance.storage.vault.core import Vault

HORIZON_DAYS: Final = 400
MEASURED_DAYS: Final = 30
_SLICE_DAYS: Final = {SliceUnit.DAY: 1, SliceUnit.WEEK: 7, SliceUnit.MONTH: 31}


@dataclass(frozen=True, slots=True)
class Intake:
    """What one line takes in. `kept_days`: after so many days it goes again."""

    daily_bytes: int
    kept_days: int


@dataclass(frozen=True, slots=True)
class SpaceForecast:
    """`days_until_full` None: not within HORIZON_DAYS. `days_measured`: what the intake was reckoned from."""

    daily_bytes: int
    days_measured: int
    expiring_bytes: int
    days_until_full: int | None


def days_until_full(free: int, lines: Iterable[Intake], expiring: Mapping[int, int]) -> int | None:
    """After how many days no space is left; None: not within the horizon. `expiring`: bytes by day, 0 the first."""
    lines = list(lines)
    for day in range(HORIZON_DAYS):
        free += expiring.get(day, 0)
        free += sum(line.daily_bytes for line in lines if day >= line.kept_days)
        free -= sum(line.daily_bytes for line in lines)
        if free <= 0:
            return day + 1
    return None


def forecast(vault: Vault, facts: Facts, free: int) -> SpaceForecast:
    """See the module. `free`: bytes."""
    now = vault.rules.latest_ns()
    tenants = sorted({each.bucket.tenant_id for each in facts.buckets})
    days = _measured(vault, tenants, now)
    rules = Rules(facts)
    lines = []
    for tenant in tenants:
        rows = vault.holdings.rows(
            "SELECT line, SUM(size) FROM holdings WHERE tenant = ? AND created >= ? GROUP BY line",
            (tenant, now - days * DAY_NS),
        )
        for line, size in rows:
            policy = rules.effective(tenant, line)
            kept = (policy.retention.ends(now) - now) // DAY_NS + _SLICE_DAYS[policy.unit]
            lines.append(Intake(size // days, kept))
    expiring: dict[int, int] = {}
    for each in upcoming(facts, HORIZON_DAYS):
        day = max(0, each.when_ns - facts.clock.clock_ns) // DAY_NS
        expiring[day] = expiring.get(day, 0) + each.bytes
    return SpaceForecast(
        sum(line.daily_bytes for line in lines),
        days,
        sum(size for day, size in expiring.items() if day < MEASURED_DAYS),
        days_until_full(free, lines, expiring),
    )


def _measured(vault: Vault, tenants: list[str], now: int) -> int:
    """Days since the first recording, 1 to 30."""
    first = [
        vault.holdings.rows("SELECT MIN(created) FROM holdings WHERE tenant = ?", (tenant,))[0][0]
        for tenant in tenants
    ]
    oldest = min((at for at in first if at is not None), default=now)
    return max(1, min(MEASURED_DAYS, -(-(now - oldest) // DAY_NS)))
