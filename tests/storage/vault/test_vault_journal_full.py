"""A journal that takes no entry just after a file went into its bucket: the recording is seen as soon as it does."""

from __future__ import annotations

import errno

import pytest
from conftest_vault import House

from appliance.storage.vault.holding import HoldingState


def test_an_entry_that_failed_is_made_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    name = house.record()

    def full(entries: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(vault.holdings, "append", full)
        assert house.poll() == 0
        assert house.poll() == 0
    house.poll()
    assert house.check_readable(name).state is HoldingState.FILED
    assert vault.holdings.position == 1
