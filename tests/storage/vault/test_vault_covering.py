"""Snapshots of legal holds while calls go on: few, and never one too few."""

from __future__ import annotations

import pytest
from conftest_vault import Crash, Faults, House
from keeping_kit import WHO

from appliance.storage.retention.errors import RecordingHeldError
from appliance.storage.retention.holds import HoldScope
from appliance.storage.vault.contract import BucketId, SnapshotId
from appliance.storage.vault.covering import AGAIN_S, tag_of
from appliance.storage.vault.errors import StoreUnavailableError


def everything(house: House) -> str:
    """A case over all that the tenant has and will have; its id."""
    return house.parts.legal.create(house.tenant, "all", "asked for", WHO, [HoldScope(house.tenant)]).case_id


def bucket_of(house: House, name: str) -> BucketId:
    assert house.vault is not None
    return house.vault.holding(name).bucket


def snapshots(house: House, case: str) -> list[str]:
    """The case's own snapshots, oldest first; each must be held by it."""
    assert house.vault is not None
    found = [item for item in house.vault.store.snapshots() if item.id.name.startswith(f"h-{case}-")]
    assert all(tag_of(case) in item.holds for item in found)
    return [item.id.name for item in found]


def inside(house: House, bucket: BucketId, snapshot: str) -> set[str]:
    assert house.vault is not None
    house.vault.buckets.open(bucket)
    return {stored.recording_id for stored in house.vault.store.files(bucket, snapshot=snapshot)}


def later(house: House) -> None:
    house.clock.now += AGAIN_S


def test_what_is_filed_again_and_again_is_pinned_at_once_and_in_one_snapshot_later(house: House) -> None:
    vault = house.open()
    case = everything(house)
    names = house.filed()
    bucket = bucket_of(house, names[0])
    assert snapshots(house, case) == [f"h-{case}-1"], "the first at once"
    for _ in range(3):
        names += house.filed(5)
        house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-1"]
    assert sorted(vault.keystore.pinned()) == sorted(names)
    for refused in (vault.delete, lambda name, why: house.eraser.erase([name], why)):
        with pytest.raises(RecordingHeldError):
            refused(names[-1], "asked for")
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-2"], "it has taken the place of the first"
    assert inside(house, bucket, f"h-{case}-2") == set(names)
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-2"], "nothing was filed since"
    names += house.filed()
    assert snapshots(house, case) == [f"h-{case}-3"], "at once again, after a while"
    assert inside(house, bucket, f"h-{case}-3") == set(names)
    house.parts.legal.release(case, WHO, "closed")
    assert snapshots(house, case) == [] and vault.keystore.pinned() == []


def test_what_waits_is_covered_at_the_next_start(house: House) -> None:
    house.open()
    case = everything(house)
    names = [*house.filed(), *house.filed(2)]
    house.open()
    house.settle()
    (only,) = snapshots(house, case)
    assert inside(house, bucket_of(house, names[0]), only) == set(names)


def test_a_case_that_is_released_takes_nothing_any_more(house: House) -> None:
    vault = house.open()
    case = everything(house)
    house.filed()
    house.filed(2)
    house.parts.legal.release(case, WHO, "closed")
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, case) == []
    assert not any(tag_of(case) in item.holds for item in vault.store.snapshots())


def test_each_case_has_a_snapshot_of_its_own_and_leaves_those_of_others(house: House) -> None:
    vault = house.open()
    one = everything(house)
    (first,) = house.filed()
    two = everything(house)
    house.filed(2)
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, one) == [f"h-{one}-2"] and snapshots(house, two) == [f"h-{two}-2"]
    house.parts.legal.release(one, WHO, "closed")
    assert snapshots(house, two) == [f"h-{two}-2"] and first in vault.keystore.pinned()


def test_the_snapshot_that_alone_has_a_file_stays(house: House) -> None:
    vault = house.open()
    case = everything(house)
    names = house.filed(2)
    bucket = bucket_of(house, names[0])
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-2"]
    vault.buckets.open(bucket)
    vault.store.remove(bucket, [names[0]])  # by whom or what ever
    house.filed()
    later(house)
    house.filed()
    assert snapshots(house, case) == [f"h-{case}-2", f"h-{case}-3"]
    assert inside(house, bucket, f"h-{case}-2") == set(names)


def test_a_snapshot_that_somebody_else_holds_stays(house: House) -> None:
    vault = house.open()
    case = everything(house)
    names = house.filed()
    bucket = bucket_of(house, names[0])
    vault.store.hold([SnapshotId(bucket, f"h-{case}-1")], "ew.replica.other")
    house.filed(2)
    later(house)
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-1", f"h-{case}-2"]


def test_many_older_ones_are_replaced_by_one(house: House) -> None:
    vault = house.open()
    case = everything(house)
    names = house.filed()
    bucket = bucket_of(house, names[0])
    names += house.filed(2)
    for number in range(2, 9):
        vault.store.snapshot([bucket], f"h-{case}-{number}", {"ew:kind": "hold", "ew:case": case})
        vault.store.hold([SnapshotId(bucket, f"h-{case}-{number}")], tag_of(case))
    house.settle()
    assert snapshots(house, case) == [f"h-{case}-9"]
    assert inside(house, bucket, f"h-{case}-9") == set(names)
    house.settle()
    assert snapshots(house, case) == [f"h-{case}-9"]


def test_what_fails_goes_on_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    case = everything(house)
    names = [*house.filed(), *house.filed(2)]
    later(house)

    def away(*arguments: object, **more: object) -> None:
        raise StoreUnavailableError("the pool is away", errno=2)

    with monkeypatch.context() as patch:
        patch.setattr(vault.store, "snapshot", away)
        with pytest.raises(StoreUnavailableError):
            house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-1"]
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-2"]
    assert inside(house, bucket_of(house, names[0]), f"h-{case}-2") == set(names)


def test_a_crash_at_each_step_leaves_all_of_it_covered(house: House) -> None:
    at = 0
    while True:
        house.open()
        case = everything(house)
        names = [*house.filed(), *house.filed(2)]
        bucket = bucket_of(house, names[0])
        faults = Faults()
        house.open(faults)
        house.filed()
        house.filed()
        later(house)
        faults.steps.clear()
        faults.at = at
        try:
            house.parts.legal.cover()
        except Crash:
            pass
        else:
            break
        vault = house.open()
        house.settle()
        wanted = {held.recording_id for held in vault.holdings.in_bucket(bucket)}
        assert wanted > set(names)
        seen = set().union(*(inside(house, bucket, name) for name in snapshots(house, case)))
        assert wanted <= seen and wanted <= set(vault.keystore.pinned())
        house.parts.legal.release(case, WHO, "next round")
        assert snapshots(house, case) == []
        at += 1
    assert at >= 4


def opened(house: House, patch: pytest.MonkeyPatch) -> list[BucketId]:
    """Buckets that settling the holds opens."""
    assert house.vault is not None
    found, real = list[BucketId](), house.vault.buckets.open

    def opening(bucket: BucketId) -> bool:
        found.append(bucket)
        return real(bucket)

    with patch.context() as within:
        within.setattr(house.vault.buckets, "open", opening)
        house.parts.legal.settle()
    return found


def test_settling_does_not_open_what_is_covered_and_unchanged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.open()
    case = everything(house)
    names = house.filed(2)
    later(house)
    house.filed()
    house.parts.legal.cover()
    assert snapshots(house, case) == [f"h-{case}-2"]
    house.open()
    bucket = bucket_of(house, names[0])
    assert opened(house, monkeypatch) == []
    names += house.filed() + house.filed()  # the first is covered at once, the next one waits
    assert set(opened(house, monkeypatch)) == {bucket}
    (newest,) = snapshots(house, case)
    assert inside(house, bucket, newest) >= set(names) and opened(house, monkeypatch) == []


def test_a_snapshot_that_lacks_a_file_is_not_taken_for_whole(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file comes back without a word in the journal, from a copy elsewhere say."""
    vault = house.open()
    names = house.filed(2)
    bucket = bucket_of(house, names[0])
    vault.store.snapshot([bucket], "r-far-1")
    vault.store.remove(bucket, names[:1])
    case = everything(house)
    (short,) = snapshots(house, case)
    assert inside(house, bucket, short) == {names[1]}
    assert opened(house, monkeypatch), "it is looked into each time"
    vault.store.restore(bucket, "r-far-1", names[:1])
    house.parts.legal.settle()
    assert inside(house, bucket, snapshots(house, case)[-1]) == set(names)
    assert opened(house, monkeypatch) == []
