"""Erasure is total: the key is in no epoch and no slot, no key that is left opens the file, and nothing brings it back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest_vault import House

from appliance.storage.keystore.errors import KeyAbsentError, KeystoreRolledBackError
from appliance.storage.sealed import verify
from appliance.storage.vault.holding import HoldingState

PLANTED = b"the patient said that nobody must ever hear of this"


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_key_that_is_left_opens_what_was_erased(house: House) -> None:
    vault = house.open()
    names = house.filed(6)
    kept = house.stored(names[0])
    key = house.keys[names[0]]
    assert verify(kept, None, key).opened
    house.eraser.erase(names[:1], "asked")
    keys = [vault.keystore.data_key(name) for name in names[1:]]
    keys += [vault.keystore.bucket_key(*name) for name in vault.keystore.bucket_keys()]
    assert len(keys) == 6 and key not in keys
    for other in keys:
        assert not verify(kept, None, other).opened
    for name in names[1:]:
        house.check_readable(name)


def test_neither_key_nor_words_are_anywhere_on_the_disk(house: House, tmp_path: Path) -> None:
    vault = house.open()
    name = house.record(payload=PLANTED * 40)
    other = house.record(payload=PLANTED)
    house.poll()
    key, bucket_key = house.keys[name], vault.keystore.bucket_key(*vault.keystore.bucket_keys()[0])
    house.eraser.erase([name], "asked")
    house.close()
    found = bytes_of(tmp_path)
    for secret in (
        key,
        key[:16],
        key[16:],
        key.hex().encode(),
        bucket_key,
        PLANTED,
        PLANTED[:20],
        house.keys[other],
    ):
        assert secret not in found


@pytest.mark.parametrize("copies", [("a",), ("b",)])
def test_an_older_copy_of_the_keystore_brings_nothing_back(house: House, copies: tuple[str, ...]) -> None:
    house.open()
    names = house.filed(2)
    house.close()
    older = {copy: house.layout.root / f"older-{copy}" for copy in copies}
    for copy, place in older.items():
        shutil.copytree(house.layout.root / "keystore" / copy, place)
    house.open()
    house.eraser.erase(names[:1], "asked")
    house.close()
    for copy, place in older.items():
        shutil.rmtree(house.layout.root / "keystore" / copy)
        shutil.copytree(place, house.layout.root / "keystore" / copy)
    vault = house.open()
    house.settle()
    with pytest.raises(KeyAbsentError):
        vault.keystore.data_key(names[0])
    assert vault.holding(names[0]).state is HoldingState.ERASED
    house.check_readable(names[1])


def test_both_copies_of_an_older_keystore_are_refused(house: House) -> None:
    house.open()
    names = house.filed(2)
    house.close()
    shutil.copytree(house.layout.root / "keystore", house.layout.root / "older")
    house.open()
    house.eraser.erase(names[:1], "asked")
    house.close()
    shutil.move(house.layout.root / "keystore", house.layout.root / "newer")
    shutil.copytree(house.layout.root / "older", house.layout.root / "keystore")
    before = bytes_of(house.layout.root / "keystore")
    with pytest.raises(KeystoreRolledBackError) as refused:
        house.open()
    assert refused.value.data["floor"] == 2
    assert bytes_of(house.layout.root / "keystore") == before
    shutil.rmtree(house.layout.root / "keystore")
    shutil.move(house.layout.root / "newer", house.layout.root / "keystore")
    house.open()
    house.check_readable(names[1])


def test_an_older_journal_put_back_makes_nothing_readable_again(house: House) -> None:
    house.open()
    names = house.filed(3)
    house.close()
    older = (house.layout.vault / "journal").read_bytes()
    house.open()
    house.eraser.erase(names[:1], "asked")
    house.vault.delete(names[1], "asked")
    house.poll()
    house.close()
    (house.layout.vault / "journal").write_bytes(older)
    vault = house.open()
    house.settle()
    held = vault.holding(names[0])
    assert held.state is HoldingState.ERASED and held.certificate is None
    with pytest.raises(KeyAbsentError):
        vault.keystore.data_key(names[0])
    # What was deleted since is out of its bucket, and comes back into it as the older journal has it.
    house.check_readable(names[1])
    house.check_readable(names[2])


def test_a_file_put_back_from_elsewhere_is_noise(house: House, tmp_path: Path) -> None:
    vault = house.open()
    names = house.filed(2)
    backup = house.stored(names[0])
    house.eraser.erase(names[:1], "asked")
    held = vault.holding(names[0])
    source = tmp_path / "backup"
    source.write_bytes(backup)
    vault.store.write(held.bucket, names[0], source)
    assert house.settle().moved == 1
    assert vault.store.find(held.bucket, names[0]) is None
    (house.layout.spool_recordings / f"{names[0]}.sealed").write_bytes(backup)
    house.poll()
    assert vault.holding(names[0]).state is HoldingState.ERASED
    house.check_readable(names[1])
