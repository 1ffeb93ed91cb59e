"""The medium is full, slow, away, or one tenant's is: what was recorded waits, others go on, and it is said loudly."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from conftest_vault import Crash, House

from appliance.storage.vault.errors import StoreFullError, StoreSuspendedError, StoreUnavailableError
from appliance.storage.vault.holding import HoldingState


def conditions(house: House) -> set[str]:
    return {item.type for item in house.status.conditions()}


def test_the_quota_of_one_tenant_hurts_no_other(house: House) -> None:
    vault = house.open()
    greedy, public = house.tenant, house.public
    first = house.filed(1)
    # ZFS takes no quota that is used up already, and counts what it keeps of its own.
    vault.store.set_quota(greedy, vault.store.usage(greedy).used + (1 << 20))
    waiting = house.record(payload=os.urandom(6 << 20))
    house.tenant = "b" * 25 + "a"
    house.public = vault.keystore.create_tenant(house.tenant)
    modest = house.record()
    assert house.poll() == 1
    house.check_readable(modest)
    assert "FilingFailed" in conditions(house)
    assert (house.layout.spool_recordings / f"{waiting}.sealed").exists()
    house.tenant, house.public = greedy, public
    vault.store.set_quota(greedy, 0)
    house.clock.now += 6
    assert house.poll() == 1
    house.check_readable(waiting)
    house.check_readable(first[0])


@pytest.mark.parametrize(
    "error",
    [
        StoreFullError("no space is left where the buckets are"),
        StoreSuspendedError("the pool is suspended", errno=errno.EIO),
        StoreUnavailableError("the store does not answer", errno=errno.ETIMEDOUT),
    ],
    ids=lambda item: type(item).__name__,
)
def test_with_the_store_ill_recordings_wait_and_keys_are_still_destroyed(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    vault = house.open()
    names = house.filed(3)

    def ill(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        for method in ("write", "create", "snapshot", "remove"):
            patch.setattr(vault.store, method, ill)
        waiting = house.record()
        house.intake.poll()
        assert house.filer.poll() == 0 and "FilingFailed" in conditions(house)
        vault.delete(names[0], "asked")  # the answer is the journal's
        with pytest.raises(type(error)):
            house.parts.parker.poll()
        (certificate,) = house.eraser.erase([names[1]], "asked")
        assert certificate.holds(vault.keystore.device_public_key) and names[1] not in vault.keystore
        assert vault.holding(names[0]).state is HoldingState.DELETED
    house.clock.now += 6
    house.poll()
    house.check_readable(waiting)
    assert house.settle().missing == 0
    held = vault.holding(names[1])
    vault.buckets.open(held.bucket)
    assert vault.store.find(held.bucket, names[1]) is None
    assert vault.holding(names[0]).parked


def test_a_crash_of_the_store_within_the_filing_loses_nothing(house: House, tmp_path: Path) -> None:
    """A fault of the store itself, not of the vault around it."""
    for at in ("file copied", "file in its bucket"):
        seen: list[str] = []

        def fault(step: str, at: str = at, seen: list[str] = seen) -> None:
            seen.append(step)
            if step == at:
                raise Crash(step)

        house.open(fault)
        name = house.record()
        with pytest.raises(Crash):
            house.poll()
        house.open()
        house.settle()
        house.poll()
        house.check_readable(name)
        assert house.settle().unknown == 0


def test_a_vault_opens_with_a_store_that_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.open()
    names = house.filed(1)
    house.close()
    store = house.ground.open()

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("there is no pool", errno=errno.ENOENT)

    with monkeypatch.context() as patch:
        for method in ("state", "buckets", "snapshots", "space", "create", "unlock"):
            patch.setattr(type(store), method, away)
        vault = house.open()
        waiting = house.record()
        assert house.poll() == 0
        assert (house.layout.spool_recordings / f"{waiting}.sealed").exists()
        with pytest.raises(StoreUnavailableError):
            vault.read(names[0])
        with pytest.raises(StoreUnavailableError):
            house.settle()
    house.clock.now += 6
    assert house.poll() == 1
    house.settle()
    for name in (*names, waiting):
        house.check_readable(name)
