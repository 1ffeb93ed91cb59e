"""A tenant that holds its own passphrase: recording and erasing go on, reading waits, and the disk alone opens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest_vault import CREATED_NS, House
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.model import InvalidError, id_bytes, id_text, new_id
from appliance.storage.keystore import GrantedKey, KeyMode, Proof, hpke, open_data_key
from appliance.storage.keystore.attended import AttendedKeys
from appliance.storage.keystore.epochfile import derive, read_epoch
from appliance.storage.keystore.errors import (
    KeyModeError,
    PassphraseWrongError,
    TenantKeyMissingError,
    TenantLockedError,
)
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.passphrase import Cost
from appliance.storage.keystore.rootslot import FileRootSlot, no_fault
from appliance.storage.sealed import verify
from appliance.storage.vault.attendance import MAX_GRANT_NS
from appliance.storage.vault.checking import Checker
from appliance.storage.vault.errors import (
    PassphraseTooSoonError,
    RecordingDeletedError,
    RecordingErasedError,
    RecordingNotFoundError,
)
from appliance.storage.vault.holding import HoldingState

WORDS = "a passphrase of the practice"
PLANTED = b"the patient said that nobody must ever hear of this"
PROOF = Proof(passphrase=WORDS)
END_NS = CREATED_NS + 30 * 86_400 * 10**9


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(AttendedKeys, "cost", Cost(64, 1, 1))
    yield


def attended(house: House) -> str:
    """The house's tenant takes its keys over; its recovery key."""
    keys, recovery = house.parts.attendance.set_mode(house.tenant, KeyMode.ATTENDED, PROOF)
    assert keys.locked
    house.public = keys.public
    return recovery


def unlock(house: House) -> None:
    assert not house.parts.attendance.unlock(house.tenant, PROOF).locked


def test_while_locked_everything_but_reading_goes_on(house: House) -> None:
    vault = house.open()
    before = house.filed(2)
    attended(house)
    during = house.filed(3)
    orphan = house.record(ended=False)
    assert house.poll() == 1
    for name in (*before, *during, orphan):
        assert vault.holding(name).state is HoldingState.FILED
        with pytest.raises(TenantLockedError):
            vault.lease(name)
        # Signature and tree are checked without a key.
        report = verify(house.stored(name), vault.keystore.device_public_key)
        assert report.intact and report.trusted and not report.opened
    checker = Checker(vault)
    found = list(checker.run())
    assert checker.totals.checked == 6 and checker.totals.damaged == 0, found
    vault.delete(before[0], "asked")
    house.poll()
    house.eraser.erase([during[0]], "asked")
    with pytest.raises(RecordingErasedError):
        vault.lease(during[0])
    # Over a restart it stays locked.
    house.open()
    house.settle()
    with pytest.raises(TenantLockedError):
        house.vault.lease(during[1])
    unlock(house)
    for name in (before[1], *during[1:], orphan):
        house.check_readable(name)


def test_an_unlocking_ends_by_time_and_by_word(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    attended(house)
    seconds = [50.0]
    vault.keystore._unlocked._seconds = lambda: seconds[0]
    keys = house.parts.attendance.unlock(house.tenant, PROOF, 90.0)
    assert keys.unlocked_until_ns == house.clocks.wall_ns + 90 * 10**9
    house.check_readable(name)
    seconds[0] += 90
    with pytest.raises(TenantLockedError):
        vault.lease(name)
    house.parts.attendance.poll()
    assert vault.keystore._unlocked._sessions == {}
    unlock(house)
    house.check_readable(name)
    seconds[0] += 8 * 3600  # where nobody says for how long
    with pytest.raises(TenantLockedError):
        vault.lease(name)
    unlock(house)
    assert house.parts.attendance.lock(house.tenant).locked
    assert house.parts.attendance.lock(house.tenant).locked
    with pytest.raises(TenantLockedError):
        vault.lease(name)
    for bad in (-1.0, 86_401.0, float("nan"), float("inf")):
        with pytest.raises(InvalidError):
            house.parts.attendance.unlock(house.tenant, PROOF, bad)


def test_wrong_passphrases_are_slowed_for_their_tenant_alone(house: House) -> None:
    house.open()
    attendance, wrong = house.parts.attendance, Proof(passphrase="not the passphrase")
    attended(house)
    other = new_id()
    house.vault.keystore.create_tenant(other)
    attendance.set_mode(other, KeyMode.ATTENDED, PROOF)
    pauses = []
    for _ in range(8):
        with pytest.raises(PassphraseWrongError) as error:
            attendance.unlock(house.tenant, wrong)
        pauses.append(error.value.data["retry_after_s"])
        assert WORDS not in repr(error.value.__dict__) and error.value.__cause__ is None
        house.clock.now += pauses[-1] - 0.5
        with pytest.raises(PassphraseTooSoonError):
            attendance.unlock(house.tenant, PROOF)  # the right one, too
        with pytest.raises(PassphraseTooSoonError):
            attendance.change_passphrase(house.tenant, PROOF, WORDS + " too")
        attendance.unlock(other, PROOF)
        house.clock.now += 0.5
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    unlock(house)
    with pytest.raises(PassphraseWrongError) as error:
        attendance.unlock(house.tenant, wrong)
    assert error.value.data["retry_after_s"] == 1  # the right one has made good for them
    with pytest.raises(TenantKeyMissingError):
        attendance.unlock(new_id(), PROOF)


def test_what_is_checked_before_a_change(house: House) -> None:
    vault = house.open()
    attendance = house.parts.attendance
    epoch = vault.keystore.epoch
    keys, recovery = attendance.set_mode(house.tenant, KeyMode.ATTENDED, PROOF, check=True)
    assert (keys.mode, recovery, vault.keystore.epoch) == (KeyMode.AUTO, "", epoch)
    with pytest.raises(KeyModeError):
        attendance.set_mode(house.tenant, KeyMode.AUTO, PROOF, check=True)
    with pytest.raises(InvalidError):
        attendance.set_mode(house.tenant, KeyMode.ATTENDED, Proof(passphrase="short"), check=True)


def everything(house: House, root: Path) -> bytes:
    """All that root gets: every file under the data directory, the keystore decrypted with its root key, and the sealed

    files as the buckets' keys give them.
    """
    found = [path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path.name != "lock"]
    directories = house.layout.keystores
    slots = FileRootSlot(directories, no_fault)
    key = slots.read(slots.active().slot)
    paths = [directory / f"epoch-{key.epoch:010d}.keys" for directory in directories]
    plain, _ = read_epoch(paths, derive(key.key, key.epoch, b"keys"), key.epoch, [])
    found.append(bytes(plain))
    journals = [path.with_suffix(".journal") for path in paths]
    found += KeyJournal(journals, derive(key.key, key.epoch, b"journal"), key.epoch, []).records
    return b"\0".join(found)


def opens(sealed_key: bytes, aad: bytes, nonce: bytes, haystack: bytes) -> bool:
    """Whether any 32 bytes of the haystack open a wrapped data key."""
    for at in range(len(haystack) - 31):
        try:
            AESGCM(haystack[at : at + 32]).decrypt(nonce, sealed_key, aad)
        except InvalidTag:
            continue
        return True
    return False


def test_root_with_every_file_and_the_root_key_opens_no_recording(house: House, tmp_path: Path) -> None:
    vault = house.open()
    names = [house.record(payload=PLANTED * 40)]
    house.poll()
    open_private = vault.keystore._open.contents.tenants[id_bytes(house.tenant)].privates[0]
    assert open_private in everything(house, tmp_path), "in auto mode the search finds it"
    recovery = attended(house)
    names.append(house.record(payload=PLANTED * 40))
    waiting = house.record(payload=PLANTED)  # its deposit and its file wait in the spool
    house.intake.poll()
    house.filer.poll()
    deposited = house.record(payload=PLANTED)
    unlock(house)
    for name in names:
        house.check_readable(name)
    privates = vault.keystore._unlocked.privates(id_bytes(house.tenant))
    assert len(privates) == 2 and open_private in privates
    house.parts.attendance.lock(house.tenant)
    haystack = everything(house, tmp_path) + b"".join(house.stored(name) for name in names)
    secrets = [part for private in privates for part in (private, private[:32], private[32:64], private[64:])]
    secrets += [house.keys[name] for name in (*names, waiting, deposited)]
    secrets += [key.hex().encode() for key in house.keys.values()]
    secrets += [WORDS.encode(), recovery.encode(), PLANTED, PLANTED[:20]]
    assert [item for item in secrets if item in haystack] == []
    # And what is there is no key in another guise: no run of bytes of the keystore opens a data key.
    contents = vault.keystore._open.contents
    record = contents.find(id_bytes(names[0]))
    above = contents.intermediate(record.intermediate)
    aad = b"earwitness data key v1\0" + above.tenant + above.id + record.recording
    keystore = everything(house, house.layout.keystores[0])
    assert not opens(record.wrapped, aad, record.counter.to_bytes(12, "big"), keystore)
    # No key that the box can open opens a file, either: buckets', the device's, deposits'.
    sealed = house.stored(names[0])
    held = [vault.keystore.bucket_key(*name) for name in vault.keystore.bucket_keys()]
    held += [contents.device_key]
    held += [item.private[at : at + 32] for item in contents.deposit_keys for at in (0, 32, 64)]
    assert not any(verify(sealed, None, key).opened for key in held)
    assert verify(sealed, None, house.keys[names[0]]).opened


# Grants.


def sealed_keys(house: House, grant: str, names: list[str], public: bytes) -> list[GrantedKey]:
    mode, keys = house.parts.attendance.seal_for_grant(grant, house.tenant, names, public, END_NS)
    assert mode is KeyMode.ATTENDED
    return keys


def test_a_grants_holder_opens_what_was_granted_elsewhere(house: House, tmp_path: Path) -> None:
    vault = house.open()
    names = house.filed(4)
    attended(house)
    holder, grant = hpke.new_private_key(), new_id()
    public = hpke.public_key(holder)
    with pytest.raises(TenantLockedError):
        sealed_keys(house, grant, names[:2], public)
    unlock(house)
    sealed_keys(house, grant, names[:3], public)
    house.parts.attendance.lock(house.tenant)
    found = house.parts.attendance.granted(grant)
    assert {id_text(item.recording) for item in found} == set(names[:3])
    for item in found:
        key = open_data_key(holder, item.tenant, item.grant, item.recording, item.sealed)
        name = id_text(item.recording)
        assert key == house.keys[name] and verify(house.stored(name), None, key).opened
        assert not any(verify(house.stored(other), None, key).opened for other in names if other != name)
    # Erased: in one turn the key goes, and what grants have of it.
    epoch = vault.keystore.epoch
    gone = next(item.sealed for item in found if item.recording == id_bytes(names[0]))
    assert gone in everything(house, tmp_path)
    house.eraser.erase(names[:1], "asked")
    assert vault.keystore.epoch == epoch + 1
    assert gone not in everything(house, tmp_path)
    assert {id_text(item.recording) for item in house.parts.attendance.granted(grant)} == set(names[1:3])
    # Revoked.
    assert house.parts.attendance.drop_grant(grant) == 2
    assert house.parts.attendance.granted(grant) == [] and house.parts.attendance.drop_grant(grant) == 0
    assert not any(item.sealed in everything(house, tmp_path) for item in found)


def test_a_grant_has_no_key_of_what_is_being_erased(house: House) -> None:
    vault = house.open()
    (name,) = house.filed()
    attended(house)
    unlock(house)
    grant, public = new_id(), hpke.public_key(hpke.new_private_key())
    sealed_keys(house, grant, [name], public)
    vault.erasing.add(name)
    assert house.parts.attendance.granted(grant) == []
    with pytest.raises(RecordingErasedError):
        sealed_keys(house, grant, [name], public)


def test_what_is_sealed_for_no_grant(house: House) -> None:
    vault = house.open()
    names = house.filed(3)
    attendance, grant, public = house.parts.attendance, new_id(), hpke.public_key(hpke.new_private_key())
    # In auto mode grants work by policy alone.
    assert attendance.seal_for_grant(grant, house.tenant, names, public, END_NS) == (KeyMode.AUTO, [])
    attended(house)
    unlock(house)
    vault.delete(names[0], "asked")
    other = new_id()
    vault.keystore.create_tenant(other)
    now = house.clocks.wall_ns
    for error, tenant, wanted, end in (
        (RecordingDeletedError, house.tenant, names[:2], END_NS),
        (RecordingNotFoundError, other, names[1:2], END_NS),
        (RecordingNotFoundError, house.tenant, [names[1], new_id()], END_NS),
        (InvalidError, house.tenant, [], END_NS),
        (InvalidError, house.tenant, [new_id() for _ in range(1001)], END_NS),
        (InvalidError, house.tenant, names[1:2], now),
        (InvalidError, house.tenant, names[1:2], now + MAX_GRANT_NS + 1),
        (InvalidError, house.tenant, ["x"], END_NS),
        (TenantKeyMissingError, new_id(), names[1:2], END_NS),
    ):
        with pytest.raises(error):
            attendance.seal_for_grant(grant, tenant, wanted, public, end)
    for bad in (b"", b"\xff" * 1216, public[:-1]):
        with pytest.raises(InvalidError):
            attendance.seal_for_grant(grant, house.tenant, names[1:2], bad, END_NS)
    assert attendance.granted(grant) == []
