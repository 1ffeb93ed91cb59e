"""A copy that missed the flip and went on alone: what it took in comes along when the other one is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_keystore import Box, Crash, Faults

from appliance.model import new_id
from appliance.storage.keystore import hpke
from appliance.storage.keystore.errors import KeystoreCopyMissingError, KeystoreDegradedError
from appliance.storage.keystore.files import write_durably
from appliance.storage.keystore.keyjournal import HEADER_BYTES
from appliance.storage.keystore.rootslot import SLOTS, FileRootSlot, RootKey


def cut(box: Box, gone: str) -> None:
    armed = False

    def fault(step: str) -> None:
        if armed and step == "flipped in a":
            raise Crash(step)

    box.open(fault)
    armed = True
    with pytest.raises(Crash):
        box.store.shred([gone])
    box.close()
    del box.keys[gone]


def cut_in_the_flip(box: Box) -> str:
    """Power goes when the flip of a shred has reached `a` alone; which recording was to go."""
    box.open()
    (gone,) = box.fill(1)
    names = box.fill(30)  # more than an intermediate key is used for
    box.store.create_bucket_key(box.tenant, "hold", "2026-11")
    box.store.pin(names[:2])

    cut(box, gone)
    return gone


def alone(box: Box) -> list[str]:
    """`b` takes keys in while the disk of `a` does not come up."""
    a = box.directories[0]
    a.rename(a.with_name("a.off"))
    a.write_bytes(b"")
    box.open(create=False)
    assert box.store.epoch == 1
    fresh = box.fill(3)
    box.store.create_bucket_key(box.tenant, "hold", "2026-12")
    held = box.store.pinned()
    box.store.pin(fresh[:1])
    box.store.unpin(held[:1])
    box.close()
    a.unlink()
    a.with_name("a.off").rename(a)
    return fresh


def whole(box: Box, gone: str, fresh: list[str]) -> None:
    assert box.store.epoch == 2 and box.store.degraded == []
    assert box.held() == box.keys and gone not in box.store
    assert fresh[0] in box.store.pinned() and len(box.store.pinned()) == 2
    assert len(box.store.bucket_keys()) == 2


def test_what_a_copy_took_in_without_the_other_is_carried_over(box: Box) -> None:
    gone = cut_in_the_flip(box)
    fresh = alone(box)
    box.open(create=False)
    whole(box, gone, fresh)
    assert any("carried over" in item for item in box.store.findings)
    box.open(create=False)
    whole(box, gone, fresh)
    assert box.store.findings == []
    assert box.store.shred(fresh[1:]).absent == ()


def test_a_key_comes_with_the_intermediate_key_above_it(box: Box) -> None:
    box.open()
    (gone,) = box.fill(1)  # the one key beneath its intermediate key, which goes with it

    cut(box, gone)
    alone(box)
    box.open(create=False)
    assert box.held() == box.keys and len(box.keys) == 3


def test_neither_copy_nor_both_are_below_what_was_reached(box: Box) -> None:
    box.open()
    box.fill(1)
    reached = box.store.reached
    gone = cut_in_the_flip(box)
    a, off = box.directories[0], box.directories[0].with_name("a.off")
    a.rename(off)
    a.write_bytes(b"")
    box.open(create=False, floor_epoch=reached.epoch, floor_records=reached.records)
    before = box.store.reached
    box.fill(3)
    assert box.store.reached == before  # `a` does not have them
    box.close()
    a.unlink()
    off.rename(a)
    box.open(create=False, floor_epoch=reached.epoch, floor_records=reached.records)
    assert box.held() == box.keys and gone not in box.store
    later = box.store.reached
    assert later.epoch == 2
    box.open(create=False, floor_epoch=later.epoch, floor_records=later.records)
    assert box.held() == box.keys and box.store.reached == later


@pytest.mark.parametrize("at", range(17))
def test_a_crash_while_it_is_carried_over_loses_nothing(box: Box, at: int) -> None:
    gone = cut_in_the_flip(box)
    fresh = alone(box)
    faults = Faults(at)
    try:
        box.open(faults, create=False)
    except Crash:
        pass
    else:
        assert len(faults.steps) <= at, "as many steps as are tried here"
    box.open(create=False)
    whole(box, gone, fresh)


def journal(box: Box) -> Path:
    return box.directories[1] / "epoch-0000000001.journal"


def test_a_torn_record_there_was_never_taken_in(box: Box) -> None:
    gone = cut_in_the_flip(box)
    fresh = alone(box)
    with journal(box).open("ab") as file:
        file.write(journal(box).read_bytes()[HEADER_BYTES : HEADER_BYTES + 100])
    box.open(create=False)
    whole(box, gone, fresh)


def damage(box: Box, at: int) -> bytes:
    raw = bytearray(journal(box).read_bytes())
    raw[at] ^= 1
    journal(box).write_bytes(raw)
    return bytes(raw)


@pytest.mark.parametrize("what", ["damaged", "other"])
def test_what_is_damaged_there_is_told_and_left_and_the_other_copy_serves(box: Box, what: str) -> None:
    cut_in_the_flip(box)
    end = journal(box).stat().st_size
    before = dict(box.keys)
    alone(box)
    at = end + 60 if what == "damaged" else end - 5
    raw = damage(box, at)
    for _ in range(2):  # a start changes nothing in it, the next one finds it as the first one did
        box.open(create=False)
        assert any("left as it is" in item for item in box.store.findings)
        assert {name: box.store.data_key(name) for name in before} == before
        box.keys |= {name: box.store.data_key(name) for name in box.fill(2)}  # what comes is taken in
        box.store.scrub()
        assert [item.present for item in box.store.copies()] == [True, False]
        with pytest.raises(KeystoreCopyMissingError):
            box.store.shred([list(before)[-1]])
        assert journal(box).read_bytes() == raw
        assert FileRootSlot([box.directories[1]]).active().epoch == 1
        box.close()
    damage(box, at)
    box.open(create=False)
    assert box.held() == box.keys
    assert box.store.shred([list(before)[-1]]).absent == ()


def test_one_that_is_damaged_may_be_given_up(box: Box) -> None:
    cut_in_the_flip(box)
    end, before = journal(box).stat().st_size, dict(box.keys)
    alone(box)
    damage(box, end + 60)
    box.open(create=False)
    (lost,) = [item for item in box.store.copies() if not item.present]
    box.store.forget_copy(lost.id)
    gone = list(before)[-1]
    assert box.store.shred([gone]).absent == ()
    del before[gone]
    box.open(create=False)
    assert {name: box.store.data_key(name) for name in before} == before
    assert all(item.present for item in box.store.copies()) and len(box.store.copies()) == 2
    assert FileRootSlot([box.directories[1]]).active().epoch == box.store.epoch


def test_one_that_comes_back_while_the_other_is_in_use_is_carried_over(box: Box) -> None:
    gone = cut_in_the_flip(box)
    fresh = alone(box)
    b = box.directories[1]
    b.rename(b.with_name("b.off"))
    b.write_bytes(b"")
    box.open(create=False)
    assert box.store.epoch == 2 and fresh[0] not in box.store
    b.unlink()
    b.with_name("b.off").rename(b)
    box.store.scrub()
    whole(box, gone, fresh)
    box.open(create=False)
    whole(box, gone, fresh)


class Failing(FileRootSlot):
    """The flip reaches the disk of `a`, which then can neither be written nor read."""

    failing = False

    def activate(self, active) -> None:
        if self.armed and not self.failing:
            write_durably(self._directories[0] / "active", active.pack())
            self.failing = True
        if self.failing:
            raise OSError(5, "Input/output error")
        super().activate(active)

    def _read_active(self, directory: Path):
        if self.failing and directory == self._directories[0]:
            return "damaged"
        return super()._read_active(directory)

    armed = False


def test_a_copy_that_cannot_be_read_after_a_flip_leaves_it_in_doubt(box: Box) -> None:
    slots = Failing(box.directories)
    box.slots = lambda fault: slots
    box.open()
    gone, kept = box.fill(2)
    slots.armed = True
    for _ in range(2):
        with pytest.raises(KeystoreDegradedError):
            box.store.shred([gone])
    assert "it is not known which epoch counts" in box.store.degraded
    with pytest.raises(KeystoreDegradedError):
        box.store.create_bucket_key(box.tenant, "hold", "2026-11")
    slots.armed = slots.failing = False
    assert box.store.shred([gone]).absent == (gone,)
    assert list(box.held()) == [kept] and box.store.epoch == 2 and box.store.degraded == []


def test_a_root_key_is_destroyed_wherever_it_can_be(tmp_path: Path) -> None:
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    slots = FileRootSlot(places)
    slots.write(SLOTS[1], RootKey(2, bytes(32)))
    (places[0] / "root-1").unlink()
    (places[0] / "root-1").mkdir()
    with pytest.raises(OSError):
        slots.destroy(SLOTS[1])
    assert not any((place / "root-1").exists() for place in places[1:])


def test_an_end_says_where_the_epoch_before_ended(box: Box) -> None:
    box.open()
    names = box.fill(2)
    grant, public = new_id(), hpke.public_key(hpke.new_private_key())
    box.store.seal_for_grant(grant, box.tenant, names, public, 2**62)
    end = box.store._journal.end
    box.store.shred(names[:1])
    box.open(create=False)
    assert box.store._open.contents.before == end
