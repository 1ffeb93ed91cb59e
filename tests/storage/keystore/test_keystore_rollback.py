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
