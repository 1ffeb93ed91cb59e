"""Pins: what a legal hold names cannot be shredded, whatever asks for it."""

from __future__ import annotations

import secrets

import pytest
from conftest_keystore import Box
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import Kind, id_bytes, id_text, new_id
from appliance.storage.keystore import DepositRequest, writing
from appliance.storage.keystore.errors import KeyAbsentError, KeyPinnedError, KeystoreWriteError


def test_pins_are_kept_over_reopening_and_turns_whether_the_key_is_in_base_or_journal(box: Box) -> None:
    box.open()
    first = box.fill(4)
    box.store.shred(first[:1])  # the rest is in the base now
    second = box.fill(3)
    box.store.pin([first[1], second[0]])
    want = sorted([first[1], second[0]])
    for _ in range(3):
        assert box.store.pinned() == want
        assert box.store.is_pinned(first[1]) and not box.store.is_pinned(first[2])
        box.open(create=False)
    box.store.shred([first[2]])
    assert box.store.pinned() == want
    box.store.unpin([first[1], new_id()])
    box.open(create=False)
    assert box.store.pinned() == [second[0]]
    box.store.shred([first[1]])
    box.open(create=False)
    assert box.store.pinned() == [second[0]] and set(box.held()) == {first[3], *second}


def test_a_shred_that_names_a_pinned_key_destroys_nothing(box: Box) -> None:
    box.open()
    names = box.fill(30)
    bucket = (new_id(), new_id(), "2026-11")
    box.store.create_bucket_key(*bucket)
    box.store.pin(names[5:])
    before = box.files()
    with pytest.raises(KeyPinnedError) as error:
        box.store.shred(names, buckets=[bucket])
    assert error.value.kind is Kind.PRECONDITION
    assert error.value.data == {"recording_ids": names[5:25], "count": 25}
    assert box.files() == before and box.store.epoch == 1
    assert box.held() == box.keys and box.store.bucket_keys() == [bucket]
    box.store.unpin(names)
    assert box.store.shred(names).destroyed == tuple(names)
    assert box.store.pinned() == []


def test_a_key_that_is_absent_cannot_be_pinned_and_then_none_is(box: Box) -> None:
    box.open()
    names, unknown = box.fill(2), new_id()
    with pytest.raises(KeyAbsentError) as error:
        box.store.pin([names[0], unknown])
    assert error.value.data["recording_id"] == unknown
    box.store.shred(names[:1])
    with pytest.raises(KeyAbsentError):
        box.store.pin(names)
    assert box.store.pinned() == [] and not box.store.is_pinned(unknown)


def test_pinning_twice_adds_nothing(box: Box) -> None:
    box.open()
    names = box.fill(2)
    box.store.pin(names)
    before = box.files()
    box.store.pin(names[::-1])
    box.store.pin([])
    box.store.unpin([])
    assert box.files() == before
    box.store.unpin(names)
    before = box.files()
    box.store.unpin(names)
    assert box.files() == before and box.store.pinned() == []


def test_a_merged_journal_keeps_pins(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.open()
    names = box.fill(20)
    box.store.pin(names[3:7])
    monkeypatch.setattr(writing, "JOURNAL_LIMIT", 1)
    assert box.store.compact()
    box.open(create=False)
    assert box.store.pinned() == sorted(names[3:7])


def test_a_pin_let_go_does_not_come_back_with_the_next_turn(box: Box) -> None:
    box.open()
    names = box.fill(4)
    box.store.pin(names[:2])
    box.store.shred(names[3:])
    box.store.unpin(names[:1])
    box.store.shred(names[2:3])
    box.open(create=False)
    assert box.store.pinned() == names[1:2] and not box.store.is_pinned(names[0])
    box.store.shred(names[:1])


def test_a_pin_that_cannot_be_written_is_told_and_not_there(box: Box, monkeypatch) -> None:
    from test_keystore_store import failing_pwrite

    box.open()
    names = box.fill(2)
    box.store.pin(names[1:])
    with monkeypatch.context() as patch:
        failing_pwrite(patch, ".journal")
        with pytest.raises(KeystoreWriteError):
            box.store.pin(names)
        with pytest.raises(KeystoreWriteError):
            box.store.unpin(names)
    assert box.store.pinned() == names[1:]
    box.open(create=False)
    assert box.store.pinned() == names[1:]


def test_ids_that_end_in_zero_bytes_are_pinned_alone(box: Box) -> None:
    box.open()
    public = box.store.create_tenant(box.tenant)
    names = [id_text(b"\1" * length + bytes(16 - length)) for length in range(17)]
    requests = [DepositRequest(name, box.tenant, public, secrets.token_bytes(32)) for name in names]
    raw = box.depositor.deposit_many(requests, box.store.deposit_public_key, 0)
    box.store.add([box.store.open_deposit(raw)])
    box.store.pin([names[2], names[0]])
    box.store.shred([names[1]])
    box.store.pin([names[16]])
    box.open(create=False)
    assert set(box.store.pinned()) == {names[0], names[2], names[16]}
    box.store.shred([names[3]])
    box.open(create=False)
    assert set(box.store.pinned()) == {names[0], names[2], names[16]}
    assert len(box.store) == 15


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_behaves_as_a_table_of_keys_with_pins(tmp_path_factory, data: st.DataObject) -> None:
    box = Box(tmp_path_factory.mktemp("keystore"))
    box.open()
    held: dict[str, bool] = {}
    buckets: dict[tuple[str, str, str], bytes] = {}
    steps = st.sampled_from(["fill", "bucket", "pin", "unpin", "shred", "reopen", "rotate"])
    for step in data.draw(st.lists(steps, min_size=3, max_size=14)):
        some = data.draw(st.lists(st.sampled_from(sorted(held)), unique=True)) if held else []
        if step == "fill":
            held |= dict.fromkeys(box.fill(data.draw(st.integers(1, 4))), False)
        elif step == "bucket":
            name = (new_id(), data.draw(st.sampled_from(["hold", new_id()])), "2026-11")
            buckets[name] = box.store.create_bucket_key(*name)
        elif step == "rotate":
            box.store.rotate_deposit_key()
        elif step in ("pin", "unpin"):
            getattr(box.store, step)(some)
            held |= dict.fromkeys(some, step == "pin")
        elif step == "reopen":
            box.open(create=False)
        else:
            closed = data.draw(st.lists(st.sampled_from(sorted(buckets)), unique=True)) if buckets else []
            if any(held[name] for name in some):
                with pytest.raises(KeyPinnedError):
                    box.store.shred(some, buckets=closed)
                continue
            result = box.store.shred(some, buckets=closed)
            assert (result.destroyed, result.buckets) == (tuple(some), tuple(closed))
            for name in some:
                del held[name]
                del box.keys[name]
            for name in closed:
                del buckets[name]
        assert box.held() == box.keys and set(held) == set(box.keys)
        assert box.store.pinned() == sorted(name for name, pinned in held.items() if pinned)
        assert {name: box.store.bucket_key(*name) for name in box.store.bucket_keys()} == buckets
    raws = [bytes(raw).ljust(16, b"\0") for raw in box.store._open.contents._ids]
    assert raws == sorted(raws) and set(raws) <= {id_bytes(name) for name in held}
    box.close()
