"""Legal holds on recordings that are live or wait in the spool: named by their ids, and held when they are filed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from conftest_vault import Crash, Faults, House
from keeping_kit import WHO, days, filed, keep, run

from appliance.model import InvalidError, new_id
from appliance.storage.keystore.errors import KeyPinnedError
from appliance.storage.retention.errors import HoldTenantError, RecordingHeldError
from appliance.storage.retention.run import Outcome
from appliance.storage.sealed import HEADER_BYTES
from appliance.storage.vault.covering import AGAIN_S, tag_of
from appliance.storage.vault.deletionlog import DeletionKind
from appliance.storage.vault.errors import (
    RecordingErasedError,
    RecordingLiveError,
    RecordingNotFoundError,
    RecordingSpooledError,
    StoreUnavailableError,
)
from appliance.storage.vault.holding import HoldingState


def live(house: House) -> str:
    return house.record(ended=False, live=True, created_ns=house.clocks.wall_ns)


def ended(house: House) -> str:
    return house.record(created_ns=house.clocks.wall_ns)


def opened(house: House) -> str:
    return house.parts.legal.create(house.tenant, "inquiry", "asked for", WHO).case_id


def conditions(house: House) -> set[str]:
    return {item.type for item in house.status.conditions()}


def damage(house: House, name: str) -> None:
    path = house.layout.spool_recordings / f"{name}.sealed"
    raw = bytearray(path.read_bytes())
    raw[HEADER_BYTES + 40] ^= 1
    path.write_bytes(raw)


def check_held(house: House, case: str, name: str) -> None:
    """It is filed, and everything that a case does to keep what it names is done."""
    vault = house.vault
    assert vault is not None
    held = house.check_readable(name)
    assert vault.keystore.is_pinned(name)
    house.clock.now += AGAIN_S
    house.parts.legal.cover()
    tagged = [item.id.name for item in vault.store.snapshots(held.bucket) if tag_of(case) in item.holds]
    vault.buckets.open(held.bucket)
    assert any(vault.store.find(held.bucket, name, snapshot=item) is not None for item in tagged)
    log = vault.deletions.since(0, 10_000)
    told = [one for one in log if one.kind is DeletionKind.HELD and one.case == case]
    assert name in {found for one in told for found in one.recordings}
    assert held.bucket.path in {found for one in told for found in one.buckets}
    with pytest.raises(RecordingHeldError) as refused:
        vault.delete(name, "")
    assert refused.value.data["cases"] == [case]
    with pytest.raises(RecordingHeldError):
        house.eraser.erase([name], "")


@pytest.mark.parametrize("made", [live, ended])
def test_what_is_not_filed_is_held_by_its_name_from_then_on(
    house: House, made: Callable[[House], str]
) -> None:
    vault = house.open()
    keep(house)
    name = made(house)
    house.intake.poll()
    case, legal = opened(house), house.parts.legal
    assert legal.add(case, WHO, [name]).recordings == 1
    assert vault.keystore.pinned() == [name], "at once"
    with pytest.raises(KeyPinnedError):
        vault.keystore.shred([name])
    assert legal.awaited(legal.book.get(case)) == [name]
    assert not vault.deletions.since(0), "a copy has nothing of it yet"
    house.settle()
    assert conditions(house) == set()
    with pytest.raises((RecordingLiveError, RecordingSpooledError)):
        house.eraser.erase([name], "")
    house.let_go()
    assert house.poll() == 1
    assert legal.awaited(legal.book.get(case)) == []
    check_held(house, case, name)
    days(house, 400)
    assert run(house) is Outcome.DONE
    assert (vault.holding(name).state, vault.holding(name).case) == (HoldingState.FILED, case)
    house.check_readable(name)
    legal.release(case, WHO, "closed")
    assert run(house) is Outcome.DONE
    assert vault.holding(name).state is HoldingState.ERASED and vault.keystore.pinned() == []


def test_what_waits_for_its_key_is_held_and_pinned_when_it_comes(house: House) -> None:
    vault = house.open()
    early, late = house.record(deposited=False), house.record(deposited=False)
    case = opened(house)
    house.parts.legal.add(case, WHO, [early, late])
    assert vault.keystore.pinned() == []
    house.deposit(early, house.keys[early])
    house.intake.poll()
    house.settle()
    assert vault.keystore.pinned() == [early], "as soon as the holds are gone through"
    house.deposit(late, house.keys[late])
    assert house.poll() == 2
    for name in (early, late):
        check_held(house, case, name)


def test_a_store_that_is_away_does_not_matter(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = house.open()
    (before,) = filed(house, 1)
    case = opened(house)
    house.parts.legal.add(case, WHO, [before])
    names = [live(house), ended(house)]
    house.intake.poll()

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the store does not answer", errno=errno.EIO)

    with monkeypatch.context() as patch:
        for method in ("create", "write", "state", "snapshots", "snapshot", "hold", "files", "buckets"):
            patch.setattr(vault.store, method, away)
        assert house.poll() == 0
        for name in names:
            house.parts.legal.add(case, WHO, [name])
        assert sorted(vault.keystore.pinned()) == sorted([before, *names])
    house.let_go()
    house.clock.now += 6
    assert house.poll() == 2
    for name in names:
        check_held(house, case, name)


def test_filed_and_unfiled_are_held_together_while_the_store_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = house.open()
    before = filed(house, 2)
    waiting = ended(house)
    house.intake.poll()
    legal, case, over = house.parts.legal, opened(house), opened(house)
    legal.add(over, WHO, before[:1])
    names = [*before, waiting]

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("the store does not answer", errno=errno.EIO)

    with monkeypatch.context() as patch:
        for method in (
            "create",
            "write",
            "state",
            "snapshots",
            "snapshot",
            "hold",
            "files",
            "buckets",
            "survey",
        ):
            patch.setattr(vault.store, method, away)
        assert legal.add(case, WHO, names).open
        assert not legal.release(over, WHO, "closed").open, "nor does it keep a case from being over"
        assert sorted(vault.keystore.pinned()) == sorted(names)
        with pytest.raises(RecordingHeldError):
            vault.delete(before[0], "asked for")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                legal.cover()  # each minute; the calendar tells it as a condition
    legal.cover()
    for name in before:
        check_held(house, case, name)
    bucket = vault.holding(before[0]).bucket
    tags = {tag for held in vault.store.survey().buckets[bucket].tags.values() for tag in held}
    assert tag_of(case) in tags and tag_of(over) not in tags
    house.clock.now += 6
    assert house.poll() == 1
    check_held(house, case, waiting)


STEPS = [
    "hold journalled",
    "unfiled keys pinned",
    "orphan recovered",
    "footer appended",
    "in its bucket",
    "filed",
    "keys pinned",
    "hold snapshot taken",
    "hold snapshot held",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_loses_no_hold(house: House, step: str) -> None:
    house.open()
    case = opened(house)
    names = sorted([ended(house), live(house)])
    house.intake.poll()
    house.open(Faults(step))
    with pytest.raises(Crash):
        house.parts.legal.add(case, WHO, names)
        house.let_go()
        house.poll()
    house.let_go()
    vault = house.open()
    house.settle()
    assert sorted(house.parts.legal.book.recordings_of(case)) == names
    assert vault.keystore.pinned() == names and conditions(house) == set()
    house.poll()
    for name in names:
        check_held(house, case, name)
    house.parts.legal.release(case, WHO, "closed")
    assert vault.keystore.pinned() == []


@pytest.mark.parametrize("made", [live, ended])
def test_a_hold_that_is_released_before_the_filing_leaves_nothing(
    house: House, made: Callable[[House], str]
) -> None:
    vault = house.open()
    name = made(house)
    house.intake.poll()
    legal, one, two = house.parts.legal, opened(house), opened(house)
    for case in (one, two):
        legal.add(case, WHO, [name])
    legal.release(one, WHO, "closed")
    assert vault.keystore.pinned() == [name], "another case names it"
    legal.release(two, WHO, "closed")
    assert vault.keystore.pinned() == []
    house.settle()
    assert conditions(house) == set()
    house.let_go()
    assert house.poll() == 1
    assert vault.keystore.pinned() == []
    assert [item.id.name for item in vault.store.snapshots() if item.id.name.startswith("h-")] == []
    house.eraser.erase([name], "at last")


def test_a_release_that_broke_off_lets_go_at_the_next_start(house: House) -> None:
    house.open(Faults("pins found"))
    name = ended(house)
    house.intake.poll()
    case = opened(house)
    house.parts.legal.add(case, WHO, [name])
    with pytest.raises(Crash):
        house.parts.legal.release(case, WHO, "closed")
    vault = house.open()
    assert vault.keystore.pinned() == [name]
    house.settle()
    assert vault.keystore.pinned() == [] and conditions(house) == set()


def test_an_older_journal_of_holds_frees_nothing_that_is_not_filed(house: House) -> None:
    house.open()
    older = (house.layout.vault / "holds").read_bytes()
    name = ended(house)
    house.intake.poll()
    house.parts.legal.add(opened(house), WHO, [name])
    house.close()
    (house.layout.vault / "holds").write_bytes(older)
    vault = house.open()
    house.settle()
    assert "PinsWithoutHold" in conditions(house) and vault.keystore.pinned() == [name]


def test_what_is_refused(house: House) -> None:
    vault = house.open()
    own, erased = house.tenant, house.filed()[0]
    good, misnamed, headless, soon = house.record(), house.record(), house.record(), live(house)
    spool = house.layout.spool_recordings
    again = spool / f"{erased}.sealed"
    again.write_bytes(house.stored(erased))
    house.eraser.erase([erased], "")
    foreign_key = house.record(deposited=False)
    house.deposit(foreign_key, house.keys[foreign_key], tenant=new_id())
    house.tenant = new_id()
    house.public = vault.keystore.create_tenant(house.tenant)
    foreign, foreign_live = house.record(), live(house)
    house.tenant = own
    house.intake.poll()
    case, other = opened(house), new_id()
    (spool / f"{misnamed}.sealed").rename(spool / f"{other}.sealed")
    (spool / f"{headless}.sealed").write_bytes(bytes(HEADER_BYTES))
    os.truncate(spool / f"{soon}.part", 0)  # its first write is on its way
    for name, error in (
        (foreign, HoldTenantError),
        (foreign_live, HoldTenantError),
        (foreign_key, HoldTenantError),
        (other, RecordingSpooledError),
        (headless, RecordingSpooledError),
        (soon, RecordingLiveError),
        (misnamed, RecordingNotFoundError),
        (new_id(), RecordingNotFoundError),
        (erased, RecordingErasedError),
        ("../x", InvalidError),
    ):
        with pytest.raises(error):
            house.parts.legal.add(case, WHO, [good, name])
    assert vault.keystore.pinned() == [] and house.parts.legal.book.get(case).recordings == 0, "all or none"
    house.parts.legal.add(case, WHO, [good])
    assert vault.keystore.pinned() == [good]


def test_what_goes_to_quarantine_stays_held(house: House) -> None:
    vault = house.open()
    damaged, nobodys = ended(house), house.record(deposited=False)
    house.intake.poll()
    legal, case = house.parts.legal, opened(house)
    legal.add(case, WHO, [damaged, nobodys])
    damage(house, damaged)
    os.truncate(house.layout.spool_recordings / f"{nobodys}.sealed", 50)
    house.deposit(nobodys, house.keys[nobodys])
    house.poll()
    names = sorted([damaged, nobodys])
    assert all(vault.holding(name).state is HoldingState.QUARANTINED for name in names)
    assert vault.keystore.pinned() == names
    told = {name for one in vault.deletions.since(0) for name in one.recordings}
    assert told == set(names), "without waiting for a start"
    assert sorted(one.recording_id for one in legal.named(legal.book.get(case))) == names
    for name in names:
        with pytest.raises(RecordingHeldError):
            house.eraser.erase([name], "")
    legal.release(case, WHO, "closed")
    assert vault.keystore.pinned() == []
    house.eraser.erase(names, "at last")


def test_an_orphan_of_which_nobody_can_say_whose_it_was_stays_held_by_its_name(house: House) -> None:
    vault = house.open()
    name = house.record(ended=False, live=True, deposited=False)
    legal, case = house.parts.legal, opened(house)
    legal.add(case, WHO, [name])
    os.truncate(house.layout.spool_recordings / f"{name}.part", 50)
    house.let_go()
    house.poll()
    held = vault.holding(name)
    assert (held.state, held.tenant_id) == (HoldingState.QUARANTINED, "")
    assert [one.recording_id for one in legal.named(legal.book.get(case))] == [name]
    with pytest.raises(RecordingHeldError):
        house.eraser.erase([name], "")
    legal.release(case, WHO, "closed")
    house.eraser.erase([name], "at last")


class Meanwhile:
    """Does what the test wants done at a step, once."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.do: Callable[[], object] | None = None

    def __call__(self, step: str) -> None:
        if step == self.step and self.do is not None:
            do, self.do = self.do, None
            do()


@pytest.mark.parametrize("step", ["footer appended", "in its bucket", "filed"])
def test_a_hold_that_comes_while_it_is_being_filed(house: House, step: str) -> None:
    meanwhile = Meanwhile(step)
    vault = house.open(meanwhile)
    name, case = ended(house), opened(house)
    meanwhile.do = lambda: house.parts.legal.add(case, WHO, [name])
    assert house.poll() == 1 and meanwhile.do is None
    check_held(house, case, name)
    assert vault.arriving == {}


@pytest.mark.parametrize("step", ["footer appended", "in its bucket", "filed"])
def test_a_release_that_comes_while_it_is_being_filed(house: House, step: str) -> None:
    meanwhile = Meanwhile(step)
    vault = house.open(meanwhile)
    name, case = ended(house), opened(house)
    house.intake.poll()
    house.parts.legal.add(case, WHO, [name])
    meanwhile.do = lambda: house.parts.legal.release(case, WHO, "closed")
    assert house.poll() == 1 and meanwhile.do is None
    assert vault.keystore.pinned() == []
    house.eraser.erase([name], "at last")


def test_an_unreadable_spool_holds_up_no_hold_on_what_is_filed(house: House) -> None:
    vault = house.open()
    (name,) = filed(house, 1)
    spool = house.layout.spool_recordings
    spool.rmdir()
    spool.write_text("in the way")
    case = opened(house)
    house.parts.legal.add(case, WHO, [name])
    check_held(house, case, name)
    house.parts.legal.release(case, WHO, "closed")
    assert vault.keystore.pinned() == []
