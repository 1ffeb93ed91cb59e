"""What was added to recordings goes to the replica with them, and comes back: whole, or recording by recording."""

from __future__ import annotations

import pytest
from conftest_vault import CREATED_NS, Crash, Faults
from ground import DirectoryGround
from replica_kit import Pair
from test_replica_restore import filed, lose, restore

from appliance.model import new_id
from appliance.storage.sealed.sidecar import pack_content
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError
from appliance.storage.vault.directory.place import Place
from appliance.storage.vault.parking import undelete
from appliance.storage.vault.sidecars import Sidecars, put


def annotate(pair: Pair, name: str, text: str) -> None:
    said = {"id": new_id(), "what": "note-created", "by": "ada", "at_ns": CREATED_NS, "text": text}
    Sidecars(pair.vault).annotate(name, [pack_content(said)])


def test_sidecars_come_back_as_they_were_sent(pair: Pair) -> None:
    pair.open()
    first, second = filed(pair, 2)
    annotate(pair, first, "one")
    pair.go()
    annotate(pair, first, "two")
    annotate(pair, second, "other")
    assert pair.go().buckets == 1, "a note alone makes a bucket to be sent"
    assert pair.go().buckets == 0
    raw = {name: Sidecars(pair.vault).read(name) for name in (first, second)}
    lose(pair)
    done = restore(pair)
    assert done.failed == {} and done.reconciled is not None
    assert (done.reconciled.sidecars_damaged, done.reconciled.missing, done.reconciled.unknown) == (0, 0, 0)
    assert {name: Sidecars(pair.vault).read(name) for name in raw} == raw
    annotate(pair, first, "three")
    assert pair.go().failures == []


def test_a_recording_that_is_merged_into_a_bucket_brings_its_sidecar(pair: Pair) -> None:
    pair.open()
    (name,) = filed(pair, 1)
    annotate(pair, name, "one")
    pair.go()
    raw = Sidecars(pair.vault).read(name)
    lose(pair)
    filed(pair, 1)  # the bucket is here again, with something else in it
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.recordings == 1 and done.failed == {}
    assert Sidecars(pair.vault).read(name) == raw
    pair.house.check_readable(name)


def test_a_sidecar_that_grew_since_it_was_copied_stays(pair: Pair) -> None:
    pair.open()
    (name,) = filed(pair, 1)
    annotate(pair, name, "one")
    pair.go()
    annotate(pair, name, "two")
    raw = Sidecars(pair.vault).read(name)
    lose(pair)
    filed(pair, 1)  # the bucket is here again, and of the recording only its sidecar
    bucket = pair.vault.holding(name).bucket
    pair.vault.buckets.open(bucket)
    put(pair.vault, pair.vault.store, bucket, name, raw)
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.recordings == 1 and done.failed == {}
    assert Sidecars(pair.vault).read(name) == raw, "the copy is older"
    pair.house.check_readable(name)


def lay(pair: Pair, name: str, raw: bytes) -> None:
    """Puts these bytes in the place of its sidecar, as no one may."""
    bucket = pair.vault.holding(name).bucket
    pair.vault.buckets.open(bucket)
    put(pair.vault, pair.vault.store, bucket, name, raw)


def mended(pair: Pair, names: list[str], raw: dict[str, bytes]) -> None:
    """Restores through a staging store, and looks at what came of it."""
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.failed == {} and done.reconciled is not None
    assert (done.sidecars, done.reconciled.sidecars_damaged) == (len(names), 0)
    assert {name: Sidecars(pair.vault).read(name) for name in raw} == raw
    for name in raw:
        pair.house.check_readable(name)


def test_a_damaged_sidecar_is_replaced_by_the_whole_one_of_the_copy(pair: Pair) -> None:
    pair.open()
    names = filed(pair, 4)
    for name in names:
        annotate(pair, name, "one")
    older = Sidecars(pair.vault).read(names[0])
    for name in names:
        annotate(pair, name, "two")
    pair.go()
    raw = {name: Sidecars(pair.vault).read(name) for name in names}
    flipped = bytearray(raw[names[2]])
    flipped[200] ^= 1
    lay(pair, names[0], older)
    lay(pair, names[1], raw[names[3]])
    lay(pair, names[2], bytes(flipped))
    bucket = pair.vault.holding(names[0]).bucket
    assert restore(pair).in_use == [bucket], "without a staging store it is told, and nothing is done"
    mended(pair, names[:3], raw)
    annotate(pair, names[0], "three")
    assert restore(pair).in_use == [], "nothing is damaged any more"
    assert pair.go().failures == []
    pair.check_same()


def test_a_sidecar_that_is_torn_or_gone_on_the_disk_is_told_and_comes_back(pair: Pair) -> None:
    if not isinstance(pair.ground, DirectoryGround):
        pytest.skip("a file beneath a file system cannot be torn from here")
    pair.open()
    names = filed(pair, 3)
    for name in names:
        annotate(pair, name, "one")
    pair.go()
    raw = {name: Sidecars(pair.vault).read(name) for name in names}
    bucket = pair.vault.holding(names[0]).bucket
    torn, gone = (Place(pair.ground.root, bucket).sidecar(name) for name in names[:2])
    content = torn.read_bytes()
    for path in (torn, gone):
        path.unlink()  # snapshots have it as a hard link
    torn.write_bytes(content[:-40])
    assert pair.house.settle().sidecars_damaged == 2
    with pytest.raises(SidecarCorruptError):
        annotate(pair, names[0], "two")
    mended(pair, names[:2], raw)


def test_a_newer_sidecar_and_one_that_is_parked_or_locked_are_not_taken_for_damaged(pair: Pair) -> None:
    pair.open()
    names = filed(pair, 4)
    for name in names[:3]:
        annotate(pair, name, "one")
    pair.vault.delete(names[1], "asked")
    pair.house.poll()
    pair.go()
    annotate(pair, names[2], "newer")
    raw = {name: Sidecars(pair.vault).read(name) for name in names}
    held = {name: pair.vault.holding(name) for name in names}
    pair.vault.store.lock(held[names[0]].bucket)
    assert restore(pair).in_use == []
    # Another one of the bucket is damaged, so that it is gone through.
    lay(pair, names[0], raw[names[2]])
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert (done.sidecars, done.recordings, done.failed) == (1, 0, {})
    assert {name: Sidecars(pair.vault).read(name) for name in names} == raw
    assert {name: pair.vault.holding(name) for name in names} == held


def test_a_parked_recording_whose_sidecar_is_damaged_is_brought_and_parked_again(pair: Pair) -> None:
    pair.open()
    (name, other) = filed(pair, 2)
    annotate(pair, name, "one")
    annotate(pair, other, "other")
    pair.go()
    raw = Sidecars(pair.vault).read(name)
    lay(pair, name, Sidecars(pair.vault).read(other))
    pair.vault.delete(name, "asked")
    pair.house.poll()
    before = pair.vault.holding(name).parked
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert (done.sidecars, done.recordings, done.failed) == (1, 1, {})
    pair.house.poll()
    assert pair.vault.holding(name).parked not in ("", before)
    undelete(pair.vault, name)
    assert Sidecars(pair.vault).read(name) == raw
    annotate(pair, name, "two")


def test_what_breaks_off_between_a_parked_sidecar_and_its_recording_is_gone_on_with(pair: Pair) -> None:
    pair.open()
    (name, other) = filed(pair, 2)
    annotate(pair, name, "one")
    annotate(pair, other, "other")
    pair.go()
    raw = Sidecars(pair.vault).read(name)
    lay(pair, name, Sidecars(pair.vault).read(other))
    pair.vault.delete(name, "asked")
    pair.house.poll()

    def fault(step: str) -> None:
        if step == "sidecar restored":
            raise Crash(step)

    pair.open(fault)
    with pytest.raises(Crash):
        restore(pair, pair.house.ground.second(name="staging"))
    pair.open()
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert (done.recordings, done.failed) == (1, {})
    undelete(pair.vault, name)
    assert Sidecars(pair.vault).read(name) == raw


def test_a_damaged_sidecar_stays_where_the_copy_is_older_or_damaged_too(pair: Pair) -> None:
    pair.open()
    (name, other) = filed(pair, 2)
    annotate(pair, name, "one")
    annotate(pair, other, "other")
    pair.go()
    annotate(pair, name, "two")
    foreign = Sidecars(pair.vault).read(other)
    lay(pair, name, foreign)
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert (done.sidecars, done.failed) == (0, {}) and Sidecars(pair.vault).read(name) == foreign
    with pytest.raises(SidecarCorruptError):
        annotate(pair, name, "three")
    # The copy gets the damaged one, and has no whole one any more.
    pair.sweep()
    done = restore(pair, pair.house.ground.second(name="staging"))
    assert done.sidecars == 0 and Sidecars(pair.vault).read(name) == foreign


def test_a_crash_at_each_step_of_mending_is_made_good_by_the_next(pair: Pair) -> None:
    at = 0
    while True:
        pair.open()
        (name, other) = filed(pair, 2)
        annotate(pair, name, "one")
        annotate(pair, other, "other")
        pair.go()
        raw = Sidecars(pair.vault).read(name)
        lay(pair, name, Sidecars(pair.vault).read(other))
        faults = Faults()
        pair.open(faults)
        faults.steps.clear()
        faults.at = at
        try:
            restore(pair, pair.house.ground.second(name="staging"))
        except Crash:
            pass
        else:
            break
        pair.open()
        done = restore(pair, pair.house.ground.second(name="staging"))
        assert done.failed == {} and Sidecars(pair.vault).read(name) == raw
        at += 5
    assert at >= 10
