"""What changes after a run has begun: it is asked again, at the last moment, whether what goes is due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest_vault import DAY_NS, Crash, House
from keeping_kit import WHO, days, filed, keep, run

from appliance.storage.retention.items import ItemKind
from appliance.storage.retention.period import Period
from appliance.storage.retention.run import Outcome
from appliance.storage.retention.terms import Policy, PolicyChange, PolicyField, PolicyScope
from appliance.storage.vault.errors import StoreUnavailableError
from appliance.storage.vault.holding import HoldingState
from appliance.storage.vault.parking import undelete


def lengthen(house: House) -> None:
    """At once, for the whole box."""
    fields = (PolicyField.RETENTION, PolicyField.GRACE)
    house.parts.policies.set(PolicyChange(PolicyScope(), Policy(Period.parse("9y"), 300), fields), WHO)


class Meanwhile:
    """Something that happens once, at a step."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.do = lambda: None
        self.done = False

    def __call__(self, step: str) -> None:
        if step == self.step and not self.done:
            self.done = True
            self.do()


def refused(house: House) -> list[str]:
    return [failure.reason for failure in house.parts.runs.records[-1].failed]


@pytest.mark.parametrize("step", ["close begun", "lock begun", "recheck begun"])
def test_a_retention_made_longer_counts_for_a_run_that_has_begun(house: House, step: str) -> None:
    meanwhile = Meanwhile(step)
    house.open(meanwhile)
    keep(house)
    names = filed(house)
    days(house, 12)
    meanwhile.do = lambda: lengthen(house)
    assert run(house) is Outcome.PARTIAL and meanwhile.done and refused(house) == ["NOT_DUE"]
    for name in names:
        house.check_readable(name)
    assert run(house) is Outcome.NOTHING


def test_a_grace_made_longer_counts_too(house: House) -> None:
    meanwhile = Meanwhile("recheck begun")
    vault = house.open(meanwhile)
    keep(house, "1y")
    (name,) = filed(house, 1)
    vault.delete(name, "asked")
    days(house, 6)
    meanwhile.do = lambda: lengthen(house)
    assert run(house) is Outcome.PARTIAL and refused(house) == ["NOT_DUE"]
    undelete(vault, name)
    house.check_readable(name)


def test_a_clock_that_freezes_stops_a_run_that_has_begun(house: House) -> None:
    meanwhile = Meanwhile("lock begun")
    house.open(meanwhile)
    keep(house)
    names = filed(house)
    days(house, 12)

    def jump() -> None:
        house.clocks.wall_ns += 3650 * DAY_NS

    meanwhile.do = jump
    assert run(house) is Outcome.PARTIAL and refused(house) == ["NOT_DUE"]
    for name in names:
        house.check_readable(name)


def test_what_was_looked_at_before_a_crash_is_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.open()
    keep(house)
    names = filed(house)
    days(house, 12)
    step = house.parts.runs.step

    def dies(run_id: str, key: str, *, done: bool) -> None:
        if key.endswith("-shred") and not done:
            raise Crash(key)
        step(run_id, key, done=done)

    with monkeypatch.context() as patched:
        patched.setattr(house.parts.runs, "step", dies)
        with pytest.raises(Crash):
            run(house)
    house.open()
    assert house.parts.runs.open is not None and any(
        key.endswith("-recheck") for key in house.parts.runs.open.done
    )
    lengthen(house)
    house.settle()
    assert house.parts.runs.open is None and refused(house) == ["NOT_DUE"]
    for name in names:
        house.check_readable(name)


def test_no_grace_snapshot_goes_while_something_is_put_into_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are gone from the bucket, and the journal does not say yet where they are."""
    meanwhile = Meanwhile("deleted files removed")
    vault = house.open(meanwhile)
    keep(house, "1y")
    name, other = filed(house)
    vault.delete(name, "asked")

    def breaks() -> None:
        raise StoreUnavailableError("the disk does not answer", errno=5)

    meanwhile.do = breaks
    with pytest.raises(StoreUnavailableError):
        house.parts.parker.poll()
    (snapshot,) = [item for item in vault.store.snapshots() if item.id.name.startswith("g-")]
    days(house, 1)
    plan, _ = house.parts.expiry.plan()
    kept = [item for item in plan.items if item.kind is ItemKind.KEEP_SNAPSHOT]
    assert [item.snapshots for item in kept] == [(snapshot.id.name,)] and "just now" in kept[0].why.sentence
    assert house.parts.expiry.run().outcome is Outcome.NOTHING

    facts = house.parts.expiry.facts
    with monkeypatch.context() as patched:  # as if it had been deleted since the plan was made
        patched.setattr(house.parts.expiry, "facts", lambda: replace(facts(), deleted=()))
        assert house.parts.expiry.run().outcome is Outcome.PARTIAL
    assert refused(house) == ["SNAPSHOT_HELD"]
    assert house.parts.parker.poll() == 1
    assert vault.holding(name).state is HoldingState.DELETED
    undelete(vault, name)
    for one in (name, other):
        house.check_readable(one)
    assert house.parts.expiry.run().outcome is Outcome.DONE, "now nothing needs it"
    assert not [item for item in vault.store.snapshots() if item.id.name.startswith("g-")]
