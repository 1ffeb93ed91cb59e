"""Erasing: total, provable, the same however often and from however many sides it is asked for, and safe in a crash."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from dataclasses import replace

import pytest
from conftest_vault import Crash, Faults, House

from appliance.model import EarwitnessError, InvalidError, new_id
from appliance.storage.keystore.errors import KeyAbsentError, KeystoreDegradedError, KeystoreWriteError
from appliance.storage.sealed import verify
from appliance.storage.vault.errors import (
    RecordingDeletedError,
    RecordingErasedError,
    RecordingLiveError,
    RecordingNotFoundError,
    RecordingSpooledError,
)
from appliance.storage.vault.holding import Certificate, HoldingState
from appliance.storage.vault.parking import undelete
from appliance.storage.vault.watch import Watchman

STEPS = 26  # of an erasure, a crash at each


def check_erased(house: House, name: str, certificate: Certificate) -> None:
    vault = house.vault
    assert certificate.holds(vault.keystore.device_public_key)
    assert (certificate.recording_id, certificate.tenant_id) == (name, house.tenant)
    assert certificate.epoch <= vault.keystore.epoch
    held = vault.holding(name)
    assert held.state is HoldingState.ERASED and held.certificate == certificate
    for refused in (vault.readable, lambda item: undelete(vault, item), lambda item: vault.delete(item, "")):
        with pytest.raises(RecordingErasedError):
            refused(name)
    with pytest.raises(KeyAbsentError):
        vault.keystore.data_key(name)
    assert house.everywhere(name) == []


def test_an_erased_recording_is_gone_for_good_and_its_siblings_are_unharmed(house: House) -> None:
    vault = house.open()
    names = house.filed(4)
    with vault.read(names[1]) as file:
        bytes_kept_by_a_backup = file.read()
    deposit_key = house.layout.deposit_key.read_bytes()
    (certificate,) = house.eraser.erase([names[1]], "caller asked")
    assert certificate.reason == "caller asked"
    check_erased(house, names[1], certificate)
    for name in (names[0], names[2], names[3]):
        house.check_readable(name)
        report = verify(bytes_kept_by_a_backup, None, vault.lease(name))
        assert not report.opened
    # Capture is told of a new deposit key, so that what it deposited before opens nothing.
    assert house.layout.deposit_key.read_bytes() != deposit_key
    assert not list(vault.intents.iterdir())
    vault = house.open()
    house.settle()
    check_erased(house, names[1], certificate)
    assert vault.last_erasure_ns == certificate.erased_ns


def test_a_certificate_says_what_is_documented_and_nothing_in_it_can_be_changed(house: House) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    vault = house.open()
    (name,) = house.filed()
    vault.replicas = ("north", "south")
    (found,) = house.eraser.erase([name], "why: ä")
    # Built here from docs/erasure.md alone.
    from base64 import b32decode

    ids = b"".join(b32decode(item.upper() + "======") for item in (name, house.tenant))
    reason = "why: ä".encode()
    raw = b"earwitness erasure certificate v2\0" + ids + found.epoch.to_bytes(8, "big")
    raw += found.erased_ns.to_bytes(8, "big") + len(reason).to_bytes(4, "big") + reason
    raw += (1).to_bytes(8, "big") + (2).to_bytes(2, "big")
    raw += b"".join(len(name).to_bytes(2, "big") + name for name in (b"north", b"south"))
    Ed25519PublicKey.from_public_bytes(vault.keystore.device_public_key).verify(
        bytes.fromhex(found.signature), raw
    )
    assert found.log_number == vault.deletions.number == 1
    for change in (
        {"recording_id": new_id()},
        {"tenant_id": new_id()},
        {"epoch": found.epoch + 1},
        {"erased_ns": found.erased_ns + 1},
        {"reason": "other"},
        {"log_number": 2},
        {"replicas": ("north",)},
        {"replicas": ("north", "sout", "h")},
        {"version": 1},
    ):
        assert not replace(found, **change).holds(vault.keystore.device_public_key)


def test_a_certificate_of_the_first_version_still_holds(house: House) -> None:
    key = house.open().keystore.device_key
    old = Certificate(new_id(), new_id(), 7, 8, "why").sign(key)
    assert old.version == 1 and old.holds(house.vault.keystore.device_public_key)
    assert old.signed_bytes().startswith(b"earwitness erasure certificate v1\0")


def test_asking_twice_gives_the_same_certificate_and_no_new_epoch(house: House) -> None:
    vault = house.open()
    names = house.filed(3)
    first = house.eraser.erase(names[:2], "once")
    epoch, position = vault.keystore.epoch, vault.holdings.position
    assert house.eraser.erase([names[1], names[0], names[1]], "twice") == [first[1], first[0], first[1]]
    assert (vault.keystore.epoch, vault.holdings.position) == (epoch, position)
    both = house.eraser.erase(names, "with a third")
    assert both[:2] == first and both[2].reason == "with a third"


def test_two_erasures_at_once_both_succeed_with_the_same_certificate(house: House) -> None:
    first_is_in, second_may = threading.Event(), threading.Event()

    def fault(step: str) -> None:
        if step == "keys destroyed":
            first_is_in.set()
            assert second_may.wait(30)

    house.open(fault)
    (name,) = house.filed()
    results: dict[str, list[Certificate]] = {}

    def erase(who: str) -> None:
        results[who] = house.eraser.erase([name], who)

    one = threading.Thread(target=erase, args=("one",))
    one.start()
    assert first_is_in.wait(30)
    two = threading.Thread(target=erase, args=("two",))
    two.start()
    with pytest.raises(RecordingErasedError):  # nobody reads it from the intent on
        house.vault.lease(name)
    second_may.set()
    one.join()
    two.join()
    assert results["one"] == results["two"] and results["one"][0].reason == "one"


def test_reading_and_filing_go_on_during_a_shred(house: House) -> None:
    in_shred, go_on = threading.Event(), threading.Event()

    def fault(step: str) -> None:
        if step == "epoch written" and threading.current_thread().name == "eraser":
            in_shred.set()
            assert go_on.wait(30)

    house.open(fault)
    gone, stays, waits = (*house.filed(2), house.record())
    house.intake.poll()
    eraser = threading.Thread(target=lambda: house.eraser.erase([gone], ""), name="eraser")
    eraser.start()
    assert in_shred.wait(30)
    house.check_readable(stays)
    assert house.filer.poll() == 1
    house.check_readable(waits)
    house.vault.delete(stays, "meanwhile")
    go_on.set()
    eraser.join()
    assert house.vault.holding(gone).state is HoldingState.ERASED


def test_what_is_not_filed_cannot_be_erased_and_the_reason_is_said(house: House) -> None:
    vault = house.open()
    live, ended = house.record(ended=False, live=True), house.record(deposited=False)
    filed = house.filed()[0]
    for name, error in (
        (live, RecordingLiveError),
        (ended, RecordingSpooledError),
        (new_id(), RecordingNotFoundError),
        ("no-id", InvalidError),
    ):
        with pytest.raises(error):
            house.eraser.erase([filed, name], "")
    house.check_readable(filed)  # all or nothing
    assert vault.erasing == set() and not list(vault.intents.glob("*"))
    with pytest.raises(InvalidError):
        house.eraser.erase([], "")
    with pytest.raises(InvalidError):
        house.eraser.erase([filed], "x" * 1001)


def test_deleted_and_quarantined_recordings_can_be_erased(house: House) -> None:
    vault = house.open()
    deleted, broken = house.filed()[0], house.record()
    vault.delete(deleted, "")
    with pytest.raises(RecordingDeletedError):
        vault.readable(deleted)
    os.truncate(house.layout.spool_recordings / f"{broken}.sealed", 60)
    house.poll()
    first, second = house.eraser.erase([deleted, broken], "")
    check_erased(house, deleted, first)
    assert vault.holding(broken).certificate == second and second.tenant_id == house.tenant
    assert second.holds(vault.keystore.device_public_key) and broken not in vault.keystore
    # What is in quarantine is never destroyed; without its key it is noise.
    assert len(house.everywhere(broken)) == 1


def test_what_is_erased_is_not_told_as_quarantined(house: House) -> None:
    vault = house.open()
    broken, other = house.record(), house.record()
    for name in (broken, other):
        os.truncate(house.layout.spool_recordings / f"{name}.sealed", 60)
    house.poll()
    (vault.quarantine / "old.deposit").write_bytes(b"x")
    assert vault.quarantined() == 3
    house.eraser.erase([broken], "")
    assert vault.quarantined() == 2
    watch = Watchman(vault, house.clock)
    watch.look()
    assert "Quarantine" in {item.type for item in house.status.conditions()}
    house.eraser.erase([other], "")
    (vault.quarantine / "old.deposit").unlink()
    watch.look()
    assert "Quarantine" not in {item.type for item in house.status.conditions()}


def test_a_deposit_that_comes_late_brings_nothing_back(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    with vault.read(name) as file:
        raw = file.read()
    house.eraser.erase([name], "")
    house.deposit(name, house.keys[name])
    (house.layout.spool_recordings / f"{name}.sealed").write_bytes(raw)
    assert house.poll() == 0
    assert name not in vault.keystore and vault.holding(name).state is HoldingState.ERASED
    assert not list(house.layout.spool_keys.iterdir())
    assert [path.parent for path in house.everywhere(name)] == [vault.quarantine]


def test_deposits_that_wait_under_the_old_key_are_taken_in_by_the_erasure(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    waits = house.record()  # sealed to the deposit key that is about to go
    house.eraser.erase([name], "")
    assert waits in vault.keystore and not list(house.layout.spool_keys.iterdir())
    assert house.poll() == 1
    house.check_readable(waits)


def steps_of_an_erasure(house: House) -> list[str]:
    faults = Faults()
    house.open(faults)
    names = house.filed(2)
    house.record()
    faults.steps.clear()
    house.eraser.erase(names[:1], "")
    return list(faults.steps)


def test_the_steps_of_an_erasure_are_in_the_order_that_is_documented(
    house: House, pytestconfig: pytest.Config
) -> None:
    steps = steps_of_an_erasure(house)
    if pytestconfig.getoption("--backend") == "directory":
        assert len(steps) == STEPS  # each store has steps of its own between ours
    wanted = [
        "intent written",
        "deposit key published",
        "deposits kept",
        "epoch written",
        "verified",
        "flipped",
        "old slot destroyed",
        "keys destroyed",
        "copies told",
        "files removed",
        "certificates journalled",
    ]
    # A store may take one of them several times over, file by file.
    assert list(dict.fromkeys(step for step in steps if step in wanted)) == wanted


@pytest.mark.parametrize("at", range(STEPS))
def test_a_crash_at_any_step_of_an_erasure_is_made_good_at_the_next_start(house: House, at: int) -> None:
    faults = Faults()
    house.open(faults)
    names = house.filed(3)
    waits = house.record()
    faults.steps.clear()
    faults.at = at
    with pytest.raises(Crash):
        house.eraser.erase(names[:2], "asked")
    vault = house.open()
    # Before anything is resumed: nobody gets at what shall be erased.
    for name in names[:2]:
        with pytest.raises(RecordingErasedError):
            vault.lease(name)
    house.settle()
    house.poll()
    certificates = house.eraser.erase(names[:2], "asked again")
    for name, certificate in zip(names, certificates, strict=False):
        assert certificate.reason == "asked"
        check_erased(house, name, certificate)
    for name in (names[2], waits):
        house.check_readable(name)
    assert not list(vault.intents.iterdir()) and vault.erasing == set()
    assert {item.type for item in house.status.conditions()} == set()


def test_a_keystore_that_cannot_be_written_fails_the_erasure_and_changes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = house.open()
    (name,) = house.filed()
    from appliance.storage.keystore import epochs

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "write_epoch", full)
        with pytest.raises(KeystoreWriteError):
            house.eraser.erase([name], "")
    house.check_readable(name)
    assert not list(vault.intents.iterdir())
    (certificate,) = house.eraser.erase([name], "")
    check_erased(house, name, certificate)


@pytest.mark.parametrize("happened", [True, False])
def test_an_erasure_of_which_is_not_known_whether_it_happened_stays_begun(
    house: House, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    vault = house.open()
    (name,) = house.filed()
    slots = vault.keystore._epochs._slots
    flip = slots.activate

    def torn(active: object) -> None:
        if happened:
            flip(active)
        raise OSError(errno.EIO, "Input/output error")

    def away() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(slots, "activate", torn)
        patch.setattr(slots, "active", away)
        with pytest.raises(KeystoreDegradedError):
            house.eraser.erase([name], "asked")
        case = house.parts.legal.create(house.tenant, "inquest", "asked by a court", "officer")
        with pytest.raises(EarwitnessError):
            house.parts.legal.add(case.case_id, "officer", [name])
        with pytest.raises(RecordingErasedError):
            vault.lease(name)
        assert house.eraser.resume() == 0
        assert "ErasureUnfinished" in {item.type for item in house.status.conditions()}
    assert house.eraser.resume() == 1
    certificate = vault.holding(name).certificate
    assert certificate is not None and certificate.reason == "asked"
    check_erased(house, name, certificate)
    assert [entry.recordings for entry in vault.deletions.since(0)] == [(name,)]
    assert vault.erasing == set() and not list(vault.intents.iterdir())
    assert "ErasureUnfinished" not in {item.type for item in house.status.conditions()}


def test_files_that_cannot_be_removed_are_removed_later_and_the_keys_are_gone_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.storage.vault.errors import StoreUnavailableError

    vault = house.open()
    names = house.filed(2)

    def broken(*_: object) -> None:
        raise StoreUnavailableError("the store does not answer", errno=errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(vault.store, "remove", broken)
        (certificate,) = house.eraser.erase(names[:1], "asked")
        assert names[0] not in vault.keystore
        with pytest.raises(RecordingErasedError):
            vault.lease(names[0])
        assert vault.store.find(vault.holding(names[0]).bucket, names[0]) is not None
    assert house.settle().moved == 1
    check_erased(house, names[0], certificate)


def test_a_damaged_intent_is_kept_and_told(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    vault.intents.mkdir()
    (vault.intents / "x.json").write_bytes(b'{"recording_ids": ["')
    vault = house.open()
    house.settle()
    assert [item.type for item in house.status.conditions()] == ["IntentDamaged"]
    house.check_readable(name)


def test_a_lost_keystore_is_not_replaced_by_an_empty_one(house: House) -> None:
    from appliance.storage.keystore.errors import KeystoreLostError

    house.open()
    house.filed()
    house.close()
    for folder in house.layout.keystores:
        shutil.rmtree(folder)
    with pytest.raises(KeystoreLostError):
        house.open()
