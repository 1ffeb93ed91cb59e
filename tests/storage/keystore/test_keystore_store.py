"""The epoch store: what is in it opens, what is absent is erased, and two copies repair each other."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import EarwitnessError, id_bytes, new_id
from appliance.storage.keystore import (
    Depositor,
    DepositRequest,
    Keystore,
    contents,
    hpke,
    intake,
    keyjournal,
    writing,
)
from appliance.storage.keystore.contents import Contents
from appliance.storage.keystore.errors import (
    DepositKeyUnknownError,
    KeyAbsentError,
    KeyRefusedError,
    KeystoreBusyError,
    KeystoreCopyMissingError,
    KeystoreCorruptError,
    KeystoreDegradedError,
    KeystoreLostError,
    KeystoreWriteError,
    RootKeyMissingError,
    TenantKeyMissingError,
)
from appliance.storage.keystore.records import apply_record


def test_keys_deposited_come_back_after_reopening(box) -> None:
    box.open()
    names = box.fill(5)
    device, deposit = box.store.device_public_key, box.store.deposit_public_key
    assert box.held() == box.keys
    box.open(create=False)
    assert box.store.findings == []
    assert box.held() == box.keys
    assert (box.store.device_public_key, box.store.deposit_public_key) == (device, deposit)
    assert box.store.tenant_of(names[0]) == box.tenant
    assert names[0] in box.store and new_id() not in box.store


def test_nothing_in_the_files_is_in_clear_and_only_the_owner_may_read(box) -> None:
    box.open()
    names = box.fill(3)
    box.store.shred(names[:1])
    everything = b"".join(box.files().values())
    for raw in (*(id_bytes(name) for name in names), id_bytes(box.tenant), *box.keys.values()):
        assert raw not in everything
    for directory in box.directories:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for path in directory.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_shred_is_total_and_siblings_are_unharmed(box) -> None:
    box.open()
    names = box.fill(6)
    gone, before = names[2], box.files()
    box.store.data_key(gone)  # its intermediate key is now held open in memory
    old_epoch = box.store.epoch
    box.store.rotate_deposit_key()
    result = box.store.shred([gone])
    assert (result.epoch, result.destroyed, result.absent) == (old_epoch + 1, (gone,), ())
    lost = box.keys.pop(gone)

    assert gone not in box.store and len(box.store) == 5
    with pytest.raises(KeyAbsentError):
        box.store.data_key(gone)
    assert box.held() == box.keys
    # Everything that remains, reopened from disk: no epoch, slot, journal holds it; no deposit opens any more.
    box.open(create=False)
    assert box.held() == box.keys and gone not in box.store
    assert lost not in b"".join(box.files().values())
    with pytest.raises(DepositKeyUnknownError):
        box.store.open_deposit(box.deposits[0])
    # No file of before is left, but for the names that were written anew.
    after = box.files()
    gone_or_new = {raw for name, raw in before.items() if not name.endswith("/copy")}
    assert not gone_or_new & set(after.values())
    assert sorted(after) == sorted(
        f"{copy}/{name}"
        for copy in "ab"
        for name in ("active", "copy", "root-1", "epoch-0000000002.keys", "epoch-0000000002.journal")
    )
    # The root key that remains opens nothing of the old epoch, should a file system still hold its bytes.
    box.close()
    for name, raw in before.items():
        copy, file = name.split("/")
        if file.startswith("epoch-0000000001"):
            target = box.directories["ab".index(copy)] / file.replace("1.", "2.")
            target.write_bytes(raw)
    with pytest.raises(KeystoreCorruptError):
        box.open(create=False)


def test_every_remaining_key_fails_on_an_erased_recordings_ciphertext(box) -> None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    box.open()
    names = box.fill(8)
    sealed = AESGCM(box.keys[names[0]]).encrypt(bytes(12), b"what was said", None)
    box.store.shred([names[0]])
    for key in (*box.held().values(), box.store._open.contents.device_key):
        with pytest.raises(InvalidTag):
            AESGCM(key).decrypt(bytes(12), sealed, None)


def test_shredding_twice_or_what_was_never_there_is_success_without_a_new_epoch(box) -> None:
    box.open()
    names, unknown = box.fill(2), new_id()
    first = box.store.shred([names[0], unknown, names[0]])
    assert (first.destroyed, first.absent) == ((names[0],), (unknown,))
    again = box.store.shred([names[0]])
    assert (again.epoch, again.destroyed, again.absent) == (first.epoch, (), (names[0],))


def test_a_repeated_deposit_adds_nothing_and_an_erased_one_does_not_come_back(box) -> None:
    box.open()
    names = box.fill(2)
    deposit = box.store.open_deposit(box.deposits[0])
    assert box.store.add([deposit]).known == tuple(names)
    box.store.shred([names[0]])
    added = box.store.add([deposit], refuse=lambda name: name == names[0])
    assert (added.accepted, added.known, added.refused) == ((), (names[1],), (names[0],))
    assert names[0] not in box.store


def test_an_intermediate_key_without_data_keys_goes_with_the_next_epoch(box) -> None:
    box.open()
    first = box.fill(2)
    box.depositor.forget(10**18)
    second = box.fill(2)
    assert len(box.store._open.contents.new_intermediates) == 2
    box.store.shred([first[0]])
    assert len(box.store._open.contents.intermediates) == 2
    box.store.shred([first[1]])
    assert len(box.store._open.contents.intermediates) == 1
    assert set(box.held()) == set(second)
    box.store.shred(second)
    assert len(box.store) == 0 and len(box.store._open.contents.intermediates) == 0
    # A key of an intermediate key that was dropped finds its way back with its deposit.
    box.fill(1)
    box.open(create=False)
    assert len(box.held()) == 1


def test_records_of_base_and_journal_are_merged_in_order(box) -> None:
    box.open()
    for _ in range(6):
        names = box.fill(7)
        box.depositor.forget(10**18 * (1 + secrets.randbelow(2)))
        box.store.shred([names[0]])
        box.keys.pop(names[0])
        assert box.held() == box.keys
    ids = [bytes(raw).ljust(16, b"\0") for raw in box.store._open.contents._ids]
    assert ids == sorted(ids) and len(ids) == 36


def test_ids_that_end_in_zero_bytes_are_found(box) -> None:
    from appliance.model import id_text

    box.open()
    public = box.store.create_tenant(box.tenant)
    names = [id_text(b"\1" * length + bytes(16 - length)) for length in range(17)]
    requests = [DepositRequest(name, box.tenant, public, secrets.token_bytes(32)) for name in names]
    raw = box.depositor.deposit_many(requests, box.store.deposit_public_key, 0)
    box.store.add([box.store.open_deposit(raw)])
    box.store.shred([names[3]])
    assert box.held() == {
        item.recording_id: item.data_key for item in requests if item.recording_id != names[3]
    }
    box.store.shred([names[0]])
    assert names[0] not in box.store and names[1] in box.store


def test_large_journals_are_merged(box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.open()
    names = box.fill(20)
    assert not box.store.compact()
    monkeypatch.setattr(writing, "JOURNAL_LIMIT", 1000)
    deposit = box.deposits[0]
    assert box.store.compact() and box.store.epoch == 2
    assert box.held() == box.keys
    assert box.store.add([box.store.open_deposit(deposit)]).known == tuple(names)  # deposit keys stay


def test_many_keys_go_into_records_of_bounded_size(box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_IN_RECORD", 3)
    box.open()
    box.fill(10)
    box.open(create=False)
    assert box.held() == box.keys


def test_a_tenant_without_a_key_pair_and_a_foreign_public_key_are_told_apart(box) -> None:
    box.open()
    with pytest.raises(TenantKeyMissingError):
        box.store.tenant_public_key(box.tenant)
    foreign = hpke.public_key(hpke.new_private_key())
    recording = new_id()
    raw = box.depositor.deposit(recording, box.tenant, foreign, box.store.deposit_public_key, bytes(32), 0)
    box.store.add([box.store.open_deposit(raw)])
    with pytest.raises(TenantKeyMissingError):
        box.store.data_key(recording)
    box.store.create_tenant(box.tenant)
    with pytest.raises(KeyRefusedError):
        box.store.data_key(recording)


def test_an_intermediate_key_under_a_used_name_is_refused(box) -> None:
    box.open()
    names = box.fill(1)
    deposit = box.store.open_deposit(box.deposits[0])
    above = deposit.intermediates[0]
    forged = type(above)(above.id, id_bytes(new_id()), above.sealed)
    record = deposit.records[0]
    other = type(record)(id_bytes(new_id()), record.intermediate, record.counter, record.wrapped)
    added = box.store.add([type(deposit)((forged,), (other,))])
    assert len(added.refused) == 1 and set(box.held()) == set(names)


def test_two_processes_cannot_open_it(box) -> None:
    box.open()
    with pytest.raises(KeystoreBusyError):
        Keystore.open(box.directories)


def test_none_is_made_where_one_should_be(box) -> None:
    with pytest.raises(KeystoreLostError):
        box.open(create=False)


# Two copies.


def damage(path: Path, at: int = -1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at if at >= 0 else len(raw) // 2] ^= 0x40
    path.write_bytes(raw)


def shredded_box(box) -> None:
    box.open()
    names = box.fill(10)
    box.store.shred(names[:2])
    for name in names[:2]:
        box.keys.pop(name)
    box.fill(3)


FILES = ["active", "root-1", "epoch-0000000002.keys", "epoch-0000000002.journal", "copy"]


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "flipped head", "gone", "cut", "longer", "empty"])
def test_whatever_is_damaged_in_one_copy_is_repaired_from_the_other(
    box, copy: int, name: str, how: str
) -> None:
    shredded_box(box)
    box.close()
    whole = box.files()
    path = box.directories[copy] / name
    if how == "flipped":
        damage(path)
    elif how == "flipped head":
        damage(path, 3)
    elif how == "gone":
        path.unlink()
    elif how == "cut":
        os.truncate(path, path.stat().st_size * 2 // 3)
    elif how == "longer":
        path.write_bytes(path.read_bytes() + bytes(100))
    else:
        os.truncate(path, 0)
    box.open(create=False)
    assert box.held() == box.keys
    assert box.store.findings and all(
        f"{'ab'[copy]}/{name}" in item and item.endswith("repaired") for item in box.store.findings
    )
    assert box.files() == whole
    box.open(create=False)
    assert box.store.findings == []


@pytest.mark.parametrize("copy", [0, 1])
def test_a_copy_that_is_lost_whole_is_made_again(box, copy: int) -> None:
    shredded_box(box)
    box.close()
    whole = box.files()
    shutil.rmtree(box.directories[copy])
    box.open(create=False)
    # The four files, and the id: it is not the copy that was lost.
    assert box.held() == box.keys and len(box.store.findings) == 5
    after = box.files()
    assert {name for name in whole if whole[name] != after[name]} == {
        "a/epoch-0000000002.journal",
        "b/epoch-0000000002.journal",
        f"{'ab'[copy]}/copy",
    }


def test_a_copy_that_was_away_for_some_epochs_is_brought_up_and_its_old_keys_destroyed(box, tmp_path) -> None:
    box.open()
    names = box.fill(6)
    box.close()
    shutil.copytree(box.directories[0], tmp_path / "away")
    box.open()
    box.store.shred(names[:1])
    box.store.shred(names[1:2])
    box.close()
    shutil.rmtree(box.directories[0])
    shutil.copytree(tmp_path / "away", box.directories[0])
    box.open(create=False)
    assert set(box.held()) == set(names[2:]) and names[0] not in box.store
    assert {path.name for path in box.directories[0].iterdir()} == {
        path.name for path in box.directories[1].iterdir()
    }
    box.close()
    shutil.rmtree(box.directories[1])
    box.open(create=False)
    assert set(box.held()) == set(names[2:])


@pytest.mark.parametrize("name", FILES[2:4])
def test_damage_in_both_copies_is_named_and_nothing_is_changed(box, name: str) -> None:
    shredded_box(box)
    box.close()
    for directory in box.directories:
        damage(directory / name, 200)
    before = box.files()
    with pytest.raises(KeystoreCorruptError) as error:
        box.open(create=False)
    assert error.value.data["what"] == name and 0 <= error.value.data["offset"] <= 200
    assert box.files() == before


def test_different_damage_in_each_copy_of_a_large_epoch_is_repaired(box, monkeypatch) -> None:
    from appliance.storage.keystore import epochfile

    monkeypatch.setattr(epochfile, "CHUNK", 512)
    shredded_box(box)
    box.close()
    whole = box.files()
    damage(box.directories[0] / FILES[2], 300)
    damage(box.directories[1] / FILES[2], 900)
    box.open(create=False)
    assert box.held() == box.keys and len(box.store.findings) == 2
    assert box.files() == whole


def test_both_root_slots_lost_is_said_and_no_new_keystore_made(box) -> None:
    shredded_box(box)
    box.close()
    for directory in box.directories:
        (directory / "root-1").unlink()
    before = box.files()
    for create in (True, False):
        with pytest.raises(RootKeyMissingError):
            box.open(create=create)
    for directory in box.directories:
        damage(directory / "active")
    with pytest.raises(KeystoreCorruptError):
        box.open()
    for directory in box.directories:
        (directory / "active").unlink()
    with pytest.raises(RootKeyMissingError):
        box.open()
    assert {name for name in before if "epoch" in name} == {name for name in box.files() if "epoch" in name}


def test_the_pointers_lost_in_both_copies_are_made_again(box) -> None:
    shredded_box(box)
    box.close()
    for directory in box.directories:
        (directory / "active").unlink()
    box.open()
    assert box.held() == box.keys and box.store.findings


def test_unknown_files_are_left_alone(box) -> None:
    box.open()
    names = box.fill(2)
    strange = box.directories[0] / "notes.txt"
    strange.write_text("kept")
    box.store.shred(names[:1])
    box.open()
    assert strange.read_text() == "kept"


def test_a_copy_that_is_no_directory_is_told_and_the_other_serves(box) -> None:
    shredded_box(box)
    box.close()
    aside = box.directories[0].rename(box.directories[0].with_name("aside"))
    box.directories[0].write_text("in the way")
    box.open(create=False)
    assert box.held() == box.keys
    assert any("cannot be used" in item for item in box.store.findings)
    assert box.store.degraded
    box.fill(1)
    assert box.held() == box.keys
    victim = next(iter(box.keys))
    with pytest.raises(KeystoreDegradedError):
        box.store.shred([victim])
    assert box.held() == box.keys
    # The disk comes back: everything is brought up, and erasing works again.
    box.directories[0].unlink()
    aside.rename(box.directories[0])
    box.open(create=False)
    assert box.held() == box.keys and box.store.degraded == []
    box.store.shred([victim])
    assert victim not in box.store


def test_a_scrub_repairs_while_open(box) -> None:
    shredded_box(box)
    assert box.store.scrub() == []
    whole = box.files()
    damage(box.directories[0] / FILES[2])
    damage(box.directories[1] / FILES[3])
    damage(box.directories[1] / FILES[1])
    assert len(box.store.scrub()) == 3
    assert box.files() == whole
    box.fill(1)
    assert box.held() == box.keys


# The journal's tail.


def test_a_torn_tail_is_cut_and_told_whatever_its_length(box) -> None:
    box.open()
    box.fill(2)
    box.close()
    path, other = (directory / "epoch-0000000001.journal" for directory in box.directories)
    short = path.read_bytes()
    box.open()
    box.fill(1)
    last = box.keys.copy()
    box.close()
    long = path.read_bytes()
    for cut in range(len(short) + 1, len(long), 97):
        # The first copy was being written; the second had not begun.
        path.write_bytes(long[:cut])
        other.write_bytes(short)
        box.open()
        assert len(box.store) == 2 and "torn record" in box.store.findings[0]
        box.close()
        assert path.read_bytes() == short
    # The second was being written: the first has it whole.
    path.write_bytes(long)
    other.write_bytes(long[: len(short) + 50])
    box.open()
    assert box.held() == last and other.read_bytes() == long


def test_damage_before_the_tail_is_not_taken_for_a_torn_record(box) -> None:
    box.open()
    for _ in range(4):
        box.fill(1)
    box.close()
    path, other = (directory / "epoch-0000000001.journal" for directory in box.directories)
    other.unlink()
    whole = path.read_bytes()
    for at in range(keyjournal.HEADER_BYTES, len(whole) - 1500, 41):
        raw = bytearray(whole)
        raw[at] ^= 1
        path.write_bytes(raw)
        with pytest.raises(KeystoreCorruptError):
            box.open(create=False)
        assert path.read_bytes() == raw


@given(st.binary(max_size=400), st.integers(0, 200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_journal_is_read_or_refused(tmp_path: Path, tail: bytes, keep: int) -> None:
    paths = [tmp_path / "a.journal"]
    keyjournal.create_journal(paths, 1)
    journal = keyjournal.KeyJournal(paths, bytes(32), 1, [])
    for _ in range(3):
        journal.append(b"x" * 30)
    paths[0].write_bytes(paths[0].read_bytes()[:keep] + tail)
    try:
        again = keyjournal.KeyJournal(paths, bytes(32), 1, [])
    except KeystoreCorruptError:
        return
    assert again.records == [b"x" * 30] * len(again.records)


def test_a_record_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyjournal, "MAX_RECORD", 100 + keyjournal.TAG)
    paths = [tmp_path / "a.journal"]
    keyjournal.create_journal(paths, 1)
    journal = keyjournal.KeyJournal(paths, bytes(32), 1, [])
    longest = b"x" * 100
    with pytest.raises(OSError, match="too long"):
        journal.append(longest + b"x")
    journal.append(longest)
    assert keyjournal.KeyJournal(paths, bytes(32), 1, []).records == [longest]


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_any_plain_content_is_taken_or_refused_with_a_reason(raw: bytes) -> None:
    for parse in (lambda: Contents.decode(bytearray(raw)), lambda: apply_record(raw, Contents(bytes(32)))):
        try:
            parse()
        except EarwitnessError:
            continue


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_to_one_copy_never_costs_a_key(tmp_path_factory, data: st.DataObject) -> None:
    from conftest_keystore import make_small

    box, path = make_small(tmp_path_factory, data.draw(st.integers(0, 1)), data.draw(st.sampled_from(FILES)))
    raw = bytearray(path.read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=5)
    ):
        raw[at] = value
    del raw[data.draw(st.integers(0, len(raw))) :]
    path.write_bytes(bytes(raw) + data.draw(st.binary(max_size=50)))
    box.open(create=False)
    assert box.held() == box.keys
    box.close()


# A full disk.


def failing_pwrite(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if where in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_a_full_disk_refuses_the_deposit_and_changes_nothing(box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.open()
    box.fill(2)
    before = box.files()
    with monkeypatch.context() as patch:
        failing_pwrite(patch, ".journal")
        with pytest.raises(KeystoreWriteError):
            box.fill(1)
    assert box.held() == box.keys and box.files() == before
    box.fill(1)
    box.open()
    assert box.held() == box.keys


def test_one_full_copy_does_not_stop_deposits_and_is_mended_before_a_shred(box, monkeypatch) -> None:
    box.open()
    names = box.fill(2)
    with monkeypatch.context() as patch:
        failing_pwrite(patch, "/b/epoch-0000000001.journal")
        box.fill(2)
    assert box.store.degraded and box.held() == box.keys
    box.store.shred(names[:1])
    assert box.store.degraded == []
    box.keys.pop(names[0])
    box.open()
    assert box.held() == box.keys


@pytest.mark.parametrize("name", ["root-1", "epoch-0000000002.keys", "epoch-0000000002.journal", "active"])
@pytest.mark.parametrize("copy", [0, 1])
def test_a_disk_that_fails_during_a_shred_leaves_the_old_epoch_or_finishes_later(
    box, monkeypatch: pytest.MonkeyPatch, name: str, copy: int
) -> None:
    box.open()
    names = box.fill(4)
    # A directory in the way of the name is refused by every file system, for root too.
    blocked = box.directories[copy] / name
    if name == "active":
        blocked.unlink()
    blocked.mkdir()
    with pytest.raises((KeystoreWriteError, KeystoreDegradedError)):
        box.store.shred(names[:1])
    happened = names[0] not in box.store
    assert happened is (name == "active" and copy == 1)
    assert all(box.store.data_key(item) == box.keys[item] for item in names[1:])
    blocked.rmdir()
    result = box.store.shred(names[:1])
    assert result.epoch == 2 and names[0] not in box.store
    assert box.store.degraded == []
    box.open(create=False)
    assert set(box.held()) == set(names[1:]) and box.store.findings == []


# Readers and the writer.


def test_readers_go_on_while_keys_are_shredded(box) -> None:
    box.open()
    names = box.fill(40)
    stay, errors, stop = names[20:], [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            for name in stay:
                if box.store.data_key(name) != box.keys[name]:
                    errors.append(name)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for name in names[:10]:
        box.store.shred([name])
    stop.set()
    for reader in readers:
        reader.join()
    assert not errors and len(box.store) == 30


def test_capture_and_vault_agree_over_a_rotation_of_the_deposit_key(box) -> None:
    box.open()
    names = box.fill(1)
    public, old = box.store.create_tenant(box.tenant), box.store.deposit_public_key
    fresh = box.store.rotate_deposit_key()
    assert fresh != old and len(box.store.deposit_key_ids) == 2
    worker = Depositor()
    late = worker.deposit(new_id(), box.tenant, public, old, bytes(32), 0)
    assert box.store.add([box.store.open_deposit(late)]).accepted
    box.store.shred(names)
    assert box.store.deposit_key_ids == [hpke.key_id(fresh)]
    with pytest.raises(DepositKeyUnknownError):
        box.store.open_deposit(late)
    box.open()
    assert box.store.deposit_public_key == fresh


def test_erasures_that_cannot_be_leave_no_deposit_keys(box) -> None:
    box.open()
    names = box.fill(2)
    box.close()
    box.directories[1].rename(box.directories[1].with_name("away"))
    box.open()
    before, public = box.files(), box.store.deposit_public_key
    for _ in range(3):
        with pytest.raises(KeystoreCopyMissingError):
            box.store.rotate_deposit_key()
    assert box.files() == before and box.store.deposit_public_key == public
    assert len(box.store.deposit_key_ids) == 1 and set(names) <= set(box.store.recordings())


def test_deposit_keys_are_bounded_and_the_newest_stay(box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_DEPOSIT_KEYS", 4)
    box.open()
    made = [hpke.key_id(box.store.rotate_deposit_key()) for _ in range(6)]
    assert box.store.deposit_key_ids == made[-4:]
    box.open(create=False)
    assert box.store.deposit_key_ids == made[-4:]
    box.store.shred(box.fill(1))
    assert box.store.deposit_key_ids == made[-1:]
