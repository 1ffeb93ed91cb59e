"""Very many keys at once: the same as one by one, and quick."""

from __future__ import annotations

import secrets
import string
from pathlib import Path

import numpy as np
import pytest
from conftest_keystore import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import InvalidError, id_bytes, id_text, new_id
from appliance.storage.keystore import Keystore
from appliance.storage.keystore.contents import INTERMEDIATE, PINNED, RECORD, Contents, DepositKey
from appliance.storage.keystore.deposit import IntermediateRecord, KeyRecord
from appliance.storage.keystore.epochs import Epochs
from appliance.storage.keystore.manyids import raw_ids
from appliance.storage.keystore.rootslot import FileRootSlot, no_fault
from appliance.storage.keystore.tenantkeys import TenantKey


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=150))
@settings(max_examples=60, deadline=None)
def test_many_ids_are_read_as_each_is(raw: list[bytes]) -> None:
    assert raw_ids([id_text(item) for item in raw]) == raw


@pytest.mark.parametrize("place", [0, 50, 99])
@pytest.mark.parametrize(
    "wrong", ["", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "b", "1" + "a" * 25, "é" + "a" * 25, "a" * 52]
)
def test_one_that_is_no_id_is_refused_among_many(place: int, wrong: str) -> None:
    names = [new_id() for _ in range(100)]
    names[place] = wrong
    with pytest.raises(InvalidError):
        raw_ids(names)


@given(st.text(string.ascii_lowercase + "0189=ABé\0", min_size=26, max_size=26))
@settings(deadline=None)
def test_any_text_is_judged_as_alone(text: str) -> None:
    names = [new_id() for _ in range(70)]
    try:
        want = id_bytes(text)
    except InvalidError:
        with pytest.raises(InvalidError):
            raw_ids([*names, text])
        return
    assert raw_ids([*names, text])[-1] == want


def contents(count: int, per: int) -> Contents:
    """Random records in a base, sorted."""
    above = np.zeros(-(-count // per), INTERMEDIATE)
    above["id"] = np.sort(np.frombuffer(secrets.token_bytes(16 * len(above)), "S16"))
    above["tenant"] = secrets.token_bytes(16)
    rows = np.zeros(count, RECORD)
    rows["recording"] = np.sort(np.frombuffer(secrets.token_bytes(16 * count), "S16"))
    rows["intermediate"] = np.arange(count) // per
    rows["counter"] = np.arange(count)
    rows["wrapped"] = np.frombuffer(secrets.token_bytes(48 * count), "V48")
    return Contents(
        secrets.token_bytes(32),
        [TenantKey.auto(secrets.token_bytes(16), 0, secrets.token_bytes(96))],
        [DepositKey(0, secrets.token_bytes(96))],
        above,
        rows,
    )


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_merged_is_what_was_held_without_what_goes(data: st.DataObject) -> None:
    count, per = data.draw(st.integers(0, 60)), data.draw(st.integers(1, 7))
    held = contents(count, per)
    fresh = data.draw(st.lists(st.binary(min_size=16, max_size=16), max_size=12, unique=True))
    above = [IntermediateRecord(secrets.token_bytes(16), b"t" * 16, bytes(1168)) for _ in range(3)]
    held.add(
        above,
        [
            KeyRecord(name, above[place % 3].id, place, secrets.token_bytes(48))
            for place, name in enumerate(fresh)
        ],
        7,
    )
    names = list(held.recordings())
    some = st.lists(st.sampled_from(names), unique=True) if names else st.just([])
    pinned, gone = data.draw(some), data.draw(some)
    held.pin([*pinned, b"?" * 16], True)
    absent = [secrets.token_bytes(16)]
    assert held.which([*gone, *absent]) == gone
    before = {name: held.find(name) for name in names}
    merged = held.merged([*gone, *absent], held.deposit_keys)
    left = {name: record for name, record in before.items() if name not in gone}
    assert {name: merged.find(name) for name in merged.recordings()} == left
    assert merged.pinned == set(pinned) - set(gone)
    assert all(
        merged.intermediate(record.intermediate) == held.intermediate(record.intermediate)
        for record in left.values()
    )
    assert len(merged.intermediates) == len({record.intermediate for record in left.values()})
    again = Contents.decode(bytearray(b"".join(merged.encode())))
    assert {name: again.find(name) for name in again.recordings()} == left
    assert again.pinned == merged.pinned
    assert (again.records["flags"] & PINNED).sum() == len(merged.pinned)
    # Merged anew, nothing is different.
    assert b"".join(again.merged((), again.deposit_keys).encode()) == b"".join(merged.encode())


def test_a_fifth_of_very_many_keys_goes_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 100_000
    held = contents(count, 20)
    directories = (tmp_path / "a", tmp_path / "b")
    epochs = Epochs(directories, FileRootSlot(directories), no_fault)
    epochs.create(held)
    epochs.finish()
    names = [id_text(raw) for raw in held.recordings()]
    looked: list[bytes] = []
    real = Contents.find
    monkeypatch.setattr(Contents, "find", lambda self, name: (looked.append(name), real(self, name))[1])
    with Keystore.open(directories, create=False) as store:
        store.pin(names[1:3])
        result = store.shred(names[::5])
        assert result.destroyed == tuple(names[::5]) and len(store) == count - len(names[::5])
        assert store.pinned() == sorted(names[1:3])
        assert not looked  # none of those that stay is looked at by itself
        assert names[0] not in store and names[1] in store
    with Keystore.open(directories, create=False) as store:
        assert len(store) == count - len(names[::5]) and store.findings == []


def test_many_keys_of_the_journal_and_pins_of_very_many(box: Box) -> None:
    box.open()
    names = box.fill(300)
    box.store.pin(names[:200])
    box.store.shred(names[200:])
    box.open(create=False)
    assert box.store.pinned() == sorted(names[:200])
    box.store.unpin(names)
    box.store.shred(names)
    assert len(box.store) == 0
