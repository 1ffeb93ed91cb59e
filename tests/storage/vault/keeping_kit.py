"""Retention on a whole vault, in few words."""

from __future__ import annotations

from conftest_vault import DAY_NS, House

from appliance.storage.retention.period import Period
from appliance.storage.retention.run import Outcome
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope

WHO = "officer"


def keep(house: House, retention: str = "10d", grace_days: int = 5) -> None:
    """A policy for the whole box, at once: the cooling-off is taken away first."""
    policies = house.parts.policies
    policies.set(PolicyChange(PolicyScope(), fields=(PolicyField.COOLING,), cooling_days=0), WHO)
    days(house, 8)
    change = PolicyChange(
        PolicyScope(),
        Policy(Period.parse(retention), grace_days),
        (PolicyField.RETENTION, PolicyField.GRACE),
    )
    policies.set(change, WHO)
    assert str(policies.effective(house.tenant, house.line).retention) == str(Period.parse(retention))


def days(house: House, count: float) -> None:
    """Time passes, for all clocks; nightly the vault settles."""
    house.clocks.pass_(int(count * DAY_NS))
    house.parts.timekeeper.tick()


def filed(house: House, count: int = 2) -> list[str]:
    """Recordings made just now."""
    names = [house.record(created_ns=house.clocks.wall_ns) for _ in range(count)]
    assert house.poll() == count
    return names


def run(house: House, confirmed: str = "") -> Outcome:
    house.parts.parker.poll()
    return house.parts.expiry.run(WHO, confirmed).outcome
