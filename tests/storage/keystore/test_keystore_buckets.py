"""Bucket keys: made once, kept over epochs, gone when shredded, together with data keys in one turn."""

from __future__ import annotations

import pytest
from conftest_keystore import Box, Crash, Faults

from appliance.model import InvalidError, new_id
from appliance.storage.keystore.errors import BucketKeyAbsentError, KeyFormatError, KeystoreWriteError

SLICES = ("2026-11-28", "2026-W48", "2026-11")


def bucket(slice: str = SLICES[0]) -> tuple[str, str, str]:
    return new_id(), new_id(), slice


def test_a_bucket_key_is_made_once_and_comes_back_after_reopening_and_turns(box: Box) -> None:
    box.open()
    names = [bucket(item) for item in SLICES] + [(new_id(), "hold", new_id())]
    keys = {name: box.store.create_bucket_key(*name) for name in names}
    assert all(len(key) == 32 for key in keys.values()) and len(set(keys.values())) == len(names)
    assert {name: box.store.create_bucket_key(*name) for name in names} == keys
    box.open(create=False)
    assert {name: box.store.bucket_key(*name) for name in box.store.bucket_keys()} == keys
    assert box.store.bucket_keys() == sorted(names)
    box.store.shred(box.fill(2)[:1])
    assert {name: box.store.bucket_key(*name) for name in names} == keys
    box.open(create=False)
    assert {name: box.store.bucket_key(*name) for name in names} == keys
    everything = b"".join(box.files().values())
    assert not any(key in everything or name[1].encode() in everything for name, key in keys.items())


def test_a_bucket_without_a_key_is_told(box: Box) -> None:
    box.open()
    name = bucket()
    with pytest.raises(BucketKeyAbsentError) as error:
        box.store.bucket_key(*name)
    assert error.value.data["bucket"] == list(name)


def test_both_kinds_go_in_one_turn_and_what_is_left_is_unharmed(box: Box) -> None:
    box.open()
    names, gone, stays, absent = box.fill(4), bucket(), bucket(), bucket()
    key, kept = box.store.create_bucket_key(*gone), box.store.create_bucket_key(*stays)
    result = box.store.shred(names[:2], buckets=[gone, absent, gone])
    assert result.epoch == 2 and result.destroyed == tuple(names[:2])
    assert (result.buckets, result.absent_buckets) == ((gone,), (absent,))
    box.open(create=False)
    assert box.store.bucket_keys() == [stays] and box.store.bucket_key(*stays) == kept
    assert set(box.held()) == set(names[2:])
    with pytest.raises(BucketKeyAbsentError):
        box.store.bucket_key(*gone)
    # The name may be used again; the key is another.
    assert box.store.create_bucket_key(*gone) != key


def test_a_bucket_alone_is_shredded_and_an_absent_one_takes_no_turn(box: Box) -> None:
    box.open()
    name = bucket()
    box.store.create_bucket_key(*name)
    assert box.store.shred([], buckets=[name]).epoch == 2
    again = box.store.shred([new_id()], buckets=[name])
    assert (again.epoch, again.buckets, again.absent_buckets) == (2, (), (name,))


@pytest.mark.parametrize(
    "name",
    [
        ("no-id", "hold", "2026-11"),
        (new_id(), "", "2026-11"),
        (new_id(), "hold", "2026/11"),
        (new_id(), "hold", "x" * 27),
        (new_id(), "hold\n", "2026-11"),
        (new_id(), "höld", "2026-11"),
        (new_id(), "hold", "2026-11\0"),
    ],
)
def test_a_malformed_name_is_refused(box: Box, name: tuple[str, str, str]) -> None:
    box.open()
    for ask in (box.store.create_bucket_key, box.store.bucket_key):
        with pytest.raises((KeyFormatError, InvalidError)):
            ask(*name)
    with pytest.raises((KeyFormatError, InvalidError)):
        box.store.shred([], buckets=[name])


def test_a_key_that_cannot_be_written_is_not_given_out(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_keystore_store import failing_pwrite

    box.open()
    name = bucket()
    with monkeypatch.context() as patch:
        failing_pwrite(patch, ".journal")
        with pytest.raises(KeystoreWriteError):
            box.store.create_bucket_key(*name)
    assert box.store.bucket_keys() == []
    key = box.store.create_bucket_key(*name)
    box.open(create=False)
    assert box.store.bucket_key(*name) == key


@pytest.mark.parametrize("at", range(18))
def test_a_crash_in_a_shred_of_both_kinds_ends_in_the_old_state_or_the_new(box: Box, at: int) -> None:
    box.open()
    names, gone, stays = box.fill(3), bucket(), bucket()
    kept = box.store.create_bucket_key(*stays)
    box.store.create_bucket_key(*gone)
    faults = Faults()
    box.open(faults)
    faults.steps.clear()
    faults.at = at
    with pytest.raises(Crash):
        box.store.shred(names[:1], buckets=[gone])
    happened = any(step.startswith("flipped in") for step in faults.steps)
    box.open(create=False)
    assert (gone in box.store.bucket_keys()) is (names[0] in box.store) is not happened
    assert box.store.bucket_key(*stays) == kept
    assert box.store.shred(names[:1], buckets=[gone]).epoch == 2
    assert box.store.bucket_keys() == [stays] and set(box.held()) == set(names[1:])
