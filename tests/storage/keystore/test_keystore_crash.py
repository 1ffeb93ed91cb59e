"""A crash at any step of a shred, of the first epoch, or of what follows ends in the old state or in the new."""

from __future__ import annotations

import pytest
from conftest_keystore import Box, Crash, Faults


def steps_of_a_shred(box: Box) -> int:
    faults = Faults()
    box.open()
    names = box.fill(3)
    box.open(faults)
    faults.steps.clear()
    box.store.shred(names[:1])
    return len(faults.steps)


def test_the_steps_are_as_documented(box: Box) -> None:
    faults = Faults()
    box.open()
    names = box.fill(2)
    box.open(faults)
    faults.steps.clear()
    box.store.shred(names[:1])
    assert faults.steps == [
        "slot written in a",
        "slot written in b",
        "slot written",
        "epoch written",
        "journal created",
        "verified",
        "flipped in a",
        "flipped in b",
        "flipped",
        "flipped in a",  # said again when finishing: a flip that reached one copy only is brought to both
        "flipped in b",
        "slot overwritten in a",
        "slot removed in a",
        "slot overwritten in b",
        "slot removed in b",
        "old slot destroyed",
        "old files removed",
        "copies noted",
    ]


@pytest.mark.parametrize("at", range(18))
def test_a_crash_in_a_shred_ends_in_the_old_state_or_the_new(box: Box, at: int) -> None:
    box.open()
    names = box.fill(4)
    faults = Faults()
    box.open(faults)
    faults.steps.clear()
    faults.at = at
    with pytest.raises(Crash):
        box.store.shred(names[:2])
    happened = any(step.startswith("flipped in") for step in faults.steps)

    box.open(create=False)
    assert box.store.epoch == (2 if happened else 1)
    assert set(box.held()) == set(names[2:] if happened else names)
    assert all(box.keys[name] == key for name, key in box.held().items())
    # One slot, one epoch, whatever was left lying.
    for directory in box.directories:
        assert len(list(directory.glob("root-*"))) == 1
        assert len(list(directory.glob("epoch-*"))) == 2
        assert not list(directory.glob(".*"))
    result = box.store.shred(names[:2])
    assert result.epoch == 2
    assert set(box.held()) == set(names[2:])
    box.fill(1)
    box.open(create=False)
    assert len(box.held()) == 3 and box.store.findings == []


@pytest.mark.parametrize("first", range(18))
@pytest.mark.parametrize("second", range(0, 9, 3))
def test_a_crash_while_coming_back_from_a_crash_is_no_worse(box: Box, first: int, second: int) -> None:
    box.open()
    names = box.fill(4)
    faults = Faults()
    box.open(faults)
    faults.steps.clear()
    faults.at = first
    with pytest.raises(Crash):
        box.store.shred(names[:2])
    happened = any(step.startswith("flipped in") for step in faults.steps)
    again = Faults(second)
    try:
        box.open(again, create=False)
    except Crash:
        box.store = None
    box.open(create=False)
    assert set(box.held()) == set(names[2:] if happened else names)


@pytest.mark.parametrize("at", range(20))
def test_a_crash_while_the_first_epoch_is_made(box: Box, at: int) -> None:
    faults = Faults(at)
    try:
        box.open(faults)
        assert at >= len(faults.steps)
    except Crash:
        box.store = None
    box.open()
    box.fill(2)
    box.open(create=False)
    assert box.held() == box.keys and box.store.findings == []
    assert not list(box.directories[0].glob("new"))
