"""A deleted recording within its grace is read by who takes everything along, parked or not, and by nobody else."""

from __future__ import annotations

import pytest
from conftest_vault import House

from appliance.storage.vault.errors import RecordingDeletedError, RecordingErasedError


def test_what_is_deleted_is_read_out_of_its_snapshot_by_who_asks_for_that(house: House) -> None:
    vault = house.open()
    name = house.record()
    assert house.poll() == 1
    with vault.read(name) as file:
        whole = file.read()
    key = vault.lease(name)
    vault.delete(name, "asked for")
    for parked in (False, True):
        if parked:
            house.parts.parker.poll()
            assert vault.holding(name).parked
        with vault.read(name, deleted=True) as file:
            assert file.read() == whole
        assert vault.lease(name, deleted=True) == key
        for forbidden in (vault.read, vault.lease):
            with pytest.raises(RecordingDeletedError):
                forbidden(name)
    house.parts.eraser.erase([name], "for good")
    for forbidden in (vault.read, vault.lease):
        with pytest.raises(RecordingErasedError):
            forbidden(name, deleted=True)
