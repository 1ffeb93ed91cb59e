"""A bucket that was found in order is not opened again while neither its files nor the journal have changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from conftest_vault import House

from appliance.model import new_id
from appliance.storage.vault import inorder
from appliance.storage.vault.contract import BucketId, BucketState
from appliance.storage.vault.core import Vault
from appliance.storage.vault.parking import undelete
from appliance.storage.vault.reconcile import compare

WHO = "somebody"


def here(house: House) -> Vault:
    assert house.vault is not None
    return house.vault


def shut(house: House) -> None:
    for bucket in list(here(house).store.buckets()):
        here(house).buckets.lock(bucket)


def ordered(house: House, count: int = 3) -> tuple[BucketId, list[str]]:
    """A bucket with recordings, locked and found in order."""
    house.open()
    names = house.filed(count)
    shut(house)
    house.settle()
    bucket = here(house).holding(names[0]).bucket
    assert here(house).store.survey(snapshots=False).buckets[bucket].mark
    return bucket, names


def looked_into(house: House, patch: pytest.MonkeyPatch) -> list[BucketId]:
    """Buckets that a comparison opens."""
    opened = []
    real = here(house).buckets.open

    def opening(bucket: BucketId) -> bool:
        opened.append(bucket)
        return real(bucket)

    with patch.context() as within:
        within.setattr(here(house).buckets, "open", opening)
        compare(here(house))
    return opened


def test_what_is_unchanged_stays_locked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, names = ordered(house)
    assert looked_into(house, monkeypatch) == []
    house.open()
    found = house.settle()
    assert (found.unchanged, found.files) == (1, 0), "nor at the next start"
    assert here(house).store.state(bucket) is BucketState.LOCKED
    assert not house.status.conditions()
    house.check_readable(names[0])
    shut(house)
    assert looked_into(house, monkeypatch) == [], "it was only read"


CHANGES: dict[str, Callable[[House, list[str]], object]] = {
    "deleted": lambda house, names: (here(house).delete(names[0], ""), house.poll()),
    "deleted and brought back": lambda house, names: (
        here(house).delete(names[0], ""),
        house.poll(),
        undelete(here(house), names[0]),
    ),
    "erased": lambda house, names: house.eraser.erase([names[0]], "asked"),
    "filed": lambda house, names: house.filed(),
    "journalled alone": lambda house, names: here(house).delete(names[0], ""),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_looked_into_once_more(
    house: House, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    bucket, names = ordered(house)
    CHANGES[change](house, names)
    shut(house)
    assert looked_into(house, monkeypatch) == [bucket]
    assert looked_into(house, monkeypatch) == []
    assert house.settle().unknown == 0 and not house.status.conditions()


def test_files_that_went_behind_the_vaults_back_are_missed(house: House) -> None:
    bucket, names = ordered(house)
    house.ground.roll_back(bucket)
    assert house.settle().missing == len(names)
    assert {item.type for item in house.status.conditions()} == {"FilesMissing"}
    shut(house)
    assert house.settle().missing == len(names), "what is not in order is looked into each time"


def test_an_older_journal_is_not_taken_for_the_one_that_was_compared(house: House) -> None:
    bucket, names = ordered(house)
    house.close()
    journal, kept = house.layout.vault / "journal", house.layout.root / "kept"
    shutil.copy(journal, kept)
    house.open()
    late = house.filed()
    assert here(house).holding(late[0]).bucket == bucket
    shut(house)
    house.settle()
    house.close()
    shutil.copy(kept, journal)
    house.open()
    assert house.settle().filed == 1
    for name in names + late:
        house.check_readable(name)


def test_a_bucket_without_its_key_is_told_though_it_lies_as_it_lay(house: House) -> None:
    bucket, _ = ordered(house)
    here(house).keystore.shred([], buckets=[(bucket.tenant_id, bucket.line_id, bucket.slice)])
    assert house.settle().keyless == 1
    assert {item.type for item in house.status.conditions()} >= {"BucketKeysAbsent"}


def test_a_bucket_with_what_nobody_knows_is_never_marked(house: House) -> None:
    bucket, _ = ordered(house)
    source = house.layout.root / "source"
    source.write_bytes(b"kept")
    here(house).buckets.open(bucket)
    here(house).store.write(bucket, new_id(), source)
    for _ in range(2):
        shut(house)
        assert house.settle().unknown == 1
    assert here(house).unknown_files == {bucket: 1}


def test_a_guard_that_lost_its_hold_is_held_again_without_opening(house: House) -> None:
    bucket, _ = ordered(house)
    store = here(house).store
    (guard,) = store.snapshots(bucket)
    store.release([guard.id], "ew.guard")
    found = house.settle()
    assert (found.held_again, found.unchanged) == (1, 1)
    assert store.survey().buckets[bucket].tags == {"guard": frozenset({"ew.guard"})}


def test_what_is_opened_before_it_is_marked_gets_no_mark(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.open()
    names = house.filed()
    shut(house)
    bucket = here(house).holding(names[0]).bucket
    real, asked = here(house).store.mark, []

    def lock(one: BucketId) -> None:
        locking(one)
        here(house).buckets.open(one)  # somebody else, before the marks are noted, and gone again
        locking(one)

    locking = here(house).buckets.lock
    monkeypatch.setattr(here(house).buckets, "lock", lock)
    monkeypatch.setattr(here(house).store, "mark", lambda marks: (asked.append(marks), real(marks)))
    house.settle()
    assert asked == [] and here(house).store.survey(snapshots=False).buckets[bucket].mark == ""


def test_what_another_version_found_in_order_is_looked_into(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, _ = ordered(house)
    monkeypatch.setattr(inorder, "VERSION", "other")
    assert looked_into(house, monkeypatch) == [bucket]


def test_marks_are_noted_some_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inorder, "AT_ONCE", 2)
    house.open()
    for _ in range(5):
        house.line = new_id()
        house.filed()
    shut(house)
    asked: list[int] = []
    real = here(house).store.mark
    monkeypatch.setattr(here(house).store, "mark", lambda marks: (asked.append(len(marks)), real(marks)))
    house.settle()
    assert asked == [2, 2, 1] and house.settle().unchanged == 5
