"""A journal that takes no entry just after a file went into its bucket: the recording is seen as soon as it does."""

from __future__ import annotations

import errno

import pytest
from conftest_vault import House

from appliance.storage.retention.holds import HoldScope
from appliance.storage.vault.holding import HoldingState


def held_by_scope(house: House) -> None:
    """A legal hold over everything that is to come."""
    scope = HoldScope(house.tenant, "", 0, house.clocks.wall_ns)
    house.parts.legal.create(house.tenant, "inquiry", "asked for", "officer", [scope])


def full(*what: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def conditions(house: House) -> set[str]:
    return {item.type for item in house.status.conditions()}


def test_an_entry_that_failed_is_made_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    name = house.record()
    with monkeypatch.context() as patched:
        patched.setattr(vault.holdings, "append", full)
        assert house.poll() == 0
        assert house.poll() == 0
    house.poll()
    assert house.check_readable(name).state is HoldingState.FILED
    assert vault.holdings.position == 1


def test_a_hold_takes_what_the_journal_took_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    held_by_scope(house)
    name = house.record()
    with monkeypatch.context() as patched:
        patched.setattr(vault.holdings, "append", full)
        assert house.poll() == 0
    house.poll()
    assert vault.keystore.pinned() == [name]
    snapshots = vault.store.snapshots(vault.holding(name).bucket)
    assert any(tag.startswith("ew.case.") for item in snapshots for tag in item.holds)
    assert vault.deletions.number == 1, "copies elsewhere are told"


def test_a_hold_takes_later_what_it_could_not_take_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = house.open()
    held_by_scope(house)
    name = house.record()
    with monkeypatch.context() as patched:
        patched.setattr(vault.keystore, "pin", full)
        assert house.poll() == 1, "it is filed all the same"
        assert vault.keystore.pinned() == [] and conditions(house) == {"FiledNotHeld"}
    house.clock.now += 60
    house.poll()
    assert vault.keystore.pinned() == [name] and conditions(house) == set()


def test_a_hold_takes_what_a_comparison_brought_into_the_journal(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = house.open()
    held_by_scope(house)
    name = house.record()
    with monkeypatch.context() as patched:
        patched.setattr(vault.holdings, "append", full)
        assert house.poll() == 0
    vault = house.open()
    assert house.settle().filed == 1
    assert vault.keystore.pinned() == [name]
