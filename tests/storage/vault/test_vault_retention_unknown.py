"""A file that nobody knows keeps its bucket, whenever a retention run comes: before a comparison, within one, resumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest_vault import Crash, Faults, House
from test_vault_retention import days, filed, keep, run, states

from appliance.model import new_id
from appliance.storage.retention.run import Outcome
from appliance.storage.vault.contract import BucketId, BucketState


def due(house: House) -> tuple[list[str], Callable[[], BucketId]]:
    """Recordings whose time is over, and what puts a file that nobody knows into their bucket."""
    vault = house.open()
    keep(house)
    names = filed(house)
    bucket = vault.holding(names[0]).bucket
    days(house, 20)

    def intrude() -> BucketId:
        assert house.vault is not None
        source = house.layout.root / "source"
        source.write_bytes(b"kept")
        house.vault.buckets.open(bucket)
        house.vault.store.write(bucket, new_id(), source)
        return bucket

    return names, intrude


def test_a_run_before_the_first_comparison_keeps_it(house: House) -> None:
    names, intrude = due(house)
    bucket = intrude()
    vault = house.open()
    assert run(house) is Outcome.NOTHING
    assert states(house, names) == ["filed"] * 2 and bucket in list(vault.store.buckets())


def test_a_run_in_the_midst_of_a_comparison_keeps_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    names, intrude = due(house)
    bucket = intrude()
    assert house.vault is not None
    vault, begun, outcomes = house.vault, list[bool](), list[Outcome]()
    assert house.settle().unknown == 1
    state_of = vault.store.state

    def state(asked: BucketId) -> BucketState:
        if not begun:
            begun.append(True)  # once: the run asks, too
            outcomes.append(run(house))
        return state_of(asked)

    monkeypatch.setattr(vault.store, "state", state)
    house.settle()
    assert outcomes == [Outcome.NOTHING]
    assert states(house, names) == ["filed"] * 2 and bucket in list(vault.store.buckets())


def test_a_run_that_a_crash_broke_off_keeps_it(house: House) -> None:
    names, intrude = due(house)
    house.open(Faults("recheck begun"))
    with pytest.raises(Crash):
        run(house)
    house.open()
    bucket = intrude()
    house.open()
    house.settle()
    vault = house.vault
    assert vault is not None
    assert house.parts.runs.records[-1].outcome is Outcome.PARTIAL
    assert states(house, names) == ["filed"] * 2 and bucket in list(vault.store.buckets())
