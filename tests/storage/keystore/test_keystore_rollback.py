"""What was erased does not come back with an older copy, and an older keystore is not taken for the present one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest_keystore import Box

from appliance.model import Kind
from appliance.storage.keystore.errors import (
    KeystoreLostError,
    KeystoreRolledBackError,
    RootKeyMissingError,
)
from appliance.storage.keystore.reach import Reach

PARTS = {
    "whole directory": "*",
    "slot files": "root-*",
    "pointer": "active",
    "slot files and pointer": "[ra][oc]*",
    "epoch files": "epoch-*",
}


def older(box: Box, turns: int) -> tuple[list[str], Path]:
    """A keystore `turns` after its copies were put aside; names of what is erased meanwhile, and the copies."""
    box.open()
    names = box.fill(turns + 2)
    box.close()
    aside = box.directories[0].parent.with_name("aside")
    shutil.copytree(box.directories[0].parent, aside)
    box.open(create=False)
    for name in names[:turns]:
        box.store.shred([name])
        box.keys.pop(name)
    box.close()
    return names[:turns], aside


def put_back(box: Box, aside: Path, copy: int, pattern: str) -> None:
    directory = box.directories[copy]
    if pattern == "*":
        shutil.rmtree(directory)
        shutil.copytree(aside / directory.name, directory)
        return
    for path in (aside / directory.name).glob(pattern):
        shutil.copy2(path, directory / path.name)


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("part", PARTS)
def test_one_older_copy_put_back_is_overwritten_and_told(box: Box, copy: int, turns: int, part: str) -> None:
    erased, aside = older(box, turns)
    whole = box.files()
    put_back(box, aside, copy, PARTS[part])
    assert box.files() != whole
    box.open(create=False, floor_epoch=1 + turns)
    assert box.held() == box.keys and not any(name in box.store for name in erased)
    assert box.store.findings and all(item.startswith("ab"[copy]) for item in box.store.findings)
    assert all(item.present for item in box.store.copies())
    box.close()
    assert box.files() == whole
    # With the newer copy gone, what was put back brings nothing back either.
    shutil.rmtree(box.directories[1 - copy])
    box.open(create=False)
    assert box.held() == box.keys


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("part", PARTS)
def test_it_is_overwritten_while_open_too(box: Box, copy: int, part: str) -> None:
    erased, aside = older(box, 2)
    whole = box.files()
    box.open(create=False)
    put_back(box, aside, copy, PARTS[part])
    assert box.store.scrub()
    assert box.held() == box.keys and not any(name in box.store for name in erased)
    box.close()
    assert box.files() == whole


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_both_copies_put_back_are_refused_and_not_touched(box: Box, turns: int) -> None:
    _, aside = older(box, turns)
    for copy in (0, 1):
        put_back(box, aside, copy, "*")
    before = box.files()
    for create in (True, False):
        with pytest.raises(KeystoreRolledBackError) as error:
            box.open(create=create, floor_epoch=1 + turns)
        assert error.value.kind is Kind.PRECONDITION
        assert error.value.data == {"epoch": 1, "floor": 1 + turns}
    assert box.files() == before
    # Nobody can tell without the floor: that is what it is for.
    box.open(create=False, floor_epoch=1)


def test_older_slots_in_both_copies_open_nothing(box: Box) -> None:
    _, aside = older(box, 1)
    for copy in (0, 1):
        put_back(box, aside, copy, "[ra][oc]*")
        (box.directories[copy] / "root-1").unlink()
    before = {name for name in box.files() if "epoch" in name}
    with pytest.raises((RootKeyMissingError, KeystoreRolledBackError)):
        box.open(create=False, floor_epoch=2)
    assert {name for name in box.files() if "epoch" in name} == before


def test_a_keystore_that_is_gone_is_not_made_again_where_there_was_one(box: Box) -> None:
    with pytest.raises(KeystoreRolledBackError) as error:
        box.open(floor_epoch=3)
    assert error.value.data == {"epoch": 0, "floor": 3}
    with pytest.raises(KeystoreLostError):
        box.open(create=False, floor_epoch=3)
    assert box.files() == {}


def test_a_turn_that_a_crash_cut_short_is_not_told_as_put_back(box: Box) -> None:
    from conftest_keystore import Crash, Faults

    for at in range(18):
        box.open()
        names = box.fill(2)
        faults = Faults()
        box.open(faults)
        faults.steps.clear()
        faults.at = at
        with pytest.raises(Crash):
            box.store.shred(names[:1])
        box.open(create=False)
        assert not any("of an earlier epoch" in item or "root key" in item for item in box.store.findings)


# Within one epoch.


def floor(reached: Reach) -> dict[str, int]:
    return {"floor_epoch": reached.epoch, "floor_records": reached.records}


def earlier(box: Box) -> tuple[Path, Reach]:
    """Copies of a keystore put aside, before more came to it in the same epoch; how far it goes by then."""
    box.open()
    box.fill(2)
    box.close()
    aside = box.directories[0].parent.with_name("aside")
    shutil.copytree(box.directories[0].parent, aside)
    box.open(create=False)
    box.fill(1)
    box.store.pin(list(box.keys)[:1])
    reached = box.store.reached
    assert reached.epoch == 1
    box.close()
    return aside, reached


def test_both_copies_of_the_same_epoch_put_back_are_refused_and_not_touched(box: Box) -> None:
    aside, reached = earlier(box)
    right = box.directories[0].parent.with_name("right")
    shutil.copytree(box.directories[0].parent, right)
    for copy in (0, 1):
        put_back(box, aside, copy, "*")
    # One of them is damaged besides: even that is not repaired.
    keys = box.directories[1] / "epoch-0000000001.keys"
    keys.write_bytes(keys.read_bytes()[:-1])
    before = box.files()
    with pytest.raises(KeystoreRolledBackError) as error:
        box.open(create=False, **floor(reached))
    assert error.value.data == {
        "epoch": 1,
        "floor": 1,
        "records": reached.records - 2,
        "floor_records": reached.records,
    }
    assert box.files() == before
    for copy in (0, 1):
        put_back(box, right, copy, "*")
    box.open(create=False, **floor(reached))
    assert box.held() == box.keys and box.store.findings == []


@pytest.mark.parametrize("copy", [0, 1])
def test_one_older_copy_of_the_same_epoch_is_brought_up_to_date(box: Box, copy: int) -> None:
    aside, reached = earlier(box)
    put_back(box, aside, copy, "*")
    box.open(create=False, **floor(reached))
    assert box.held() == box.keys and box.store.reached == reached


@pytest.mark.parametrize("copy", [0, 1])
def test_a_torn_record_is_not_below_what_was_reached(box: Box, copy: int) -> None:
    _, reached = earlier(box)
    box.open(create=False)
    box.fill(1)
    box.close()
    journals = [place / "epoch-0000000001.journal" for place in box.directories]
    whole = journals[0].read_bytes()
    box.open(create=False)
    box.fill(1)
    box.close()
    # The last one was not acknowledged: in the one copy it is torn, in the other it was not begun.
    journals[copy].write_bytes(journals[copy].read_bytes()[:-3])
    journals[1 - copy].write_bytes(whole)
    box.keys.pop(list(box.keys)[-1])
    store = box.open(create=False, floor_epoch=1, floor_records=reached.records + 1)
    assert box.held() == box.keys and store.reached.records == reached.records + 1


def test_after_a_turn_the_journal_is_counted_anew(box: Box) -> None:
    _, reached = earlier(box)
    box.open(create=False, **floor(reached))
    box.store.unpin(list(box.keys)[:1])
    box.store.shred(list(box.keys)[:1])
    box.keys.pop(next(iter(box.keys)))
    assert box.store.reached > reached and box.store.reached.epoch == 2
    later = box.store.reached
    box.open(create=False, **floor(reached))
    box.open(create=False, **floor(later))
    assert box.held() == box.keys


@pytest.mark.parametrize("away", [0, 1])
def test_what_came_while_a_copy_was_away_is_asked_of_nobody(box: Box, away: int) -> None:
    """So the copy that was away can serve alone, should the other one die."""
    _, reached = earlier(box)
    box.open(create=False, **floor(reached))
    aside = box.directories[away].with_name("away")
    shutil.move(box.directories[away], aside)
    box.fill(1)
    assert box.store.degraded and box.store.reached == reached
    box.close()
    shutil.rmtree(box.directories[1 - away])
    shutil.move(aside, box.directories[away])
    box.keys.pop(list(box.keys)[-1])
    box.open(create=False, **floor(reached))
    assert box.held() == box.keys


def test_a_crash_anywhere_leaves_what_was_reached(box: Box) -> None:
    """At each step of a turn; the same keystore opens with the floor of just before it, and with its own."""
    from conftest_keystore import Crash, Faults

    for at in range(18):
        box.open()
        names = box.fill(2)
        faults = Faults()
        store = box.open(faults)
        faults.steps.clear()
        faults.at = at
        with pytest.raises(Crash):
            store.shred(names[:1])
        box.open(create=False, **floor(store.reached))
