"""Attended mode: what is in the keystore of a tenant that holds its own passphrase does not open without it."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterator

import pytest
from conftest_keystore import Box, Crash, Faults
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from test_keystore_versions import First, base

from appliance.model import id_bytes, new_id
from appliance.storage.keystore import hpke
from appliance.storage.keystore.attended import AttendedKeys
from appliance.storage.keystore.epochfile import derive, read_epoch
from appliance.storage.keystore.errors import (
    GrantKeysConflictError,
    GrantKeysFullError,
    KeyAbsentError,
    KeyModeError,
    KeyRefusedError,
    KeystoreCopyMissingError,
    KeystoreDegradedError,
    PassphraseFormatError,
    PassphraseWrongError,
    TenantKeysFullError,
    TenantLockedError,
)
from appliance.storage.keystore.granted import open_data_key
from appliance.storage.keystore.keyjournal import KeyJournal
from appliance.storage.keystore.passphrase import Cost, Proof, read_recovery_key
from appliance.storage.keystore.rootslot import FileRootSlot
from appliance.storage.keystore.secretmemory import Secret
from appliance.storage.keystore.tenantkeys import MAX_PAIRS, KeyMode
from appliance.storage.keystore.unlocked import Unlocked
from appliance.storage.keystore.wrap import unseal_intermediate

WORDS = "a passphrase of the practice"
OTHER = "another passphrase of the practice"
PROOF = Proof(passphrase=WORDS)
SECOND_NS = 10**9


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Argon2id as cheap as it may be: what it costs is not what is tested here."""
    monkeypatch.setattr(AttendedKeys, "cost", Cost(64, 1, 1))
    yield


def attended(box: Box) -> str:
    """A keystore with four recordings, then attended; the recovery key."""
    box.open()
    box.fill(4)
    return box.store.set_attended(box.tenant, WORDS)


def refuses(box: Box) -> None:
    for name in box.keys:
        with pytest.raises(TenantLockedError) as error:
            box.store.data_key(name)
        assert error.value.data == {"tenant_id": box.tenant}


def plain_of(box: Box) -> list[bytes]:
    """What root reads of the keystore: base and journal records, decrypted with the key in the root slot."""
    slots = FileRootSlot(box.directories, lambda step: None)
    active = slots.active()
    root = slots.read(active.slot)
    files = [directory / f"epoch-{root.epoch:010d}.keys" for directory in box.directories]
    plain, _ = read_epoch(files, derive(root.key, root.epoch, b"keys"), root.epoch, [])
    journals = [path.with_suffix(".journal") for path in files]
    records = KeyJournal(journals, derive(root.key, root.epoch, b"journal"), root.epoch, []).records
    return [bytes(plain), *records]


def opens_a_key(box: Box) -> bool:
    """Whether any run of bytes of the keystore, decrypted by root, opens a data key: as itself, as the intermediate key

    above it, or as the tenant's private key.
    """
    contents = box.store._open.contents
    name = next(iter(box.keys))
    record = contents.find(id_bytes(name))
    above = contents.intermediate(record.intermediate)
    aad = b"earwitness data key v1\0" + above.tenant + above.id + record.recording
    for plain in plain_of(box):
        if box.keys[name] in plain:
            return True
        for at in range(len(plain) - 31):
            try:
                AESGCM(plain[at : at + 32]).decrypt(record.counter.to_bytes(12, "big"), record.wrapped, aad)
            except InvalidTag:
                continue
            return True
        # A private key stands on a four-byte boundary of a tenant's row, which is before all intermediate keys.
        for at in range(0, min(len(plain), 4096) - hpke.PRIVATE_KEY_BYTES + 1, 4):
            try:
                private = plain[at : at + hpke.PRIVATE_KEY_BYTES]
                unseal_intermediate(private, above.tenant, above.id, above.sealed)
            except KeyRefusedError:
                continue
            return True
    return False


def test_a_turn_to_attended_closes_what_was_open(box: Box) -> None:
    box.open()
    box.fill(4)
    before = box.store.tenant_keys(box.tenant)
    assert (before.mode, before.locked, before.pairs) == (KeyMode.AUTO, False, 1)
    recovery = box.store.set_attended(box.tenant, WORDS)
    state = box.store.tenant_keys(box.tenant)
    assert (state.mode, state.locked, state.pairs) == (KeyMode.ATTENDED, True, 2)
    # A fresh key pair takes what is recorded from now on.
    assert state.public != before.public and box.store.create_tenant(box.tenant) == state.public
    refuses(box)
    box.open(create=False)
    refuses(box)
    box.fill(2)  # recording goes on
    refuses(box)
    assert box.store.unlock(box.tenant, PROOF, 60).locked is False
    assert box.held() == box.keys and len(box.keys) == 6
    assert box.store.lock(box.tenant) and not box.store.lock(box.tenant)
    refuses(box)
    box.store.unlock(box.tenant, Proof(recovery_key=recovery.upper().replace("-", " ")), 60)
    assert box.held() == box.keys


def test_what_is_sealed_to_the_older_key_pair_still_opens(box: Box) -> None:
    """A deposit that was under way when the mode changed."""
    box.open()
    box.fill(1)
    public = box.store.tenant_public_key(box.tenant)
    box.store.set_attended(box.tenant, WORDS)
    name, key = new_id(), secrets.token_bytes(32)
    raw = box.depositor.deposit(name, box.tenant, public, box.store.deposit_public_key, key, 10**15)
    assert box.store.add([box.store.open_deposit(raw)]).accepted == (name,)
    box.store.unlock(box.tenant, PROOF, 60)
    assert box.store.data_key(name) == key


def test_root_with_the_root_key_and_every_file_opens_nothing(box: Box) -> None:
    box.open()
    box.fill(3)
    assert opens_a_key(box), "the search finds the key of a tenant in auto mode"
    private = box.store._open.contents.tenants[id_bytes(box.tenant)].privates[0]
    recovery = box.store.set_attended(box.tenant, WORDS)
    assert not opens_a_key(box)
    box.store.unlock(box.tenant, PROOF, 60)
    privates = box.store._unlocked.privates(id_bytes(box.tenant))
    assert private in privates and len(privates) == 2
    assert box.held() == box.keys
    box.fill(1)
    assert not opens_a_key(box)  # unlocking leaves nothing on the disk
    box.store.change_passphrase(box.tenant, PROOF, OTHER)
    assert not opens_a_key(box)
    stored = b"".join([*box.files().values(), *plain_of(box), *box.deposits])
    secret = [*(part for key in privates for part in (key[:64], key[64:])), *box.keys.values()]
    secret += [WORDS.encode(), OTHER.encode(), read_recovery_key(recovery), recovery.encode()]
    assert not any(item in stored for item in secret)


@pytest.mark.parametrize("at", range(18))
@pytest.mark.parametrize("what", ["attended", "auto", "passphrase", "drop"])
def test_a_crash_in_a_change_ends_in_the_old_state_or_the_new(box: Box, what: str, at: int) -> None:
    box.open()
    names = box.fill(3)
    holder, grant = hpke.new_private_key(), new_id()
    box.store.seal_for_grant(grant, box.tenant, names[:1], hpke.public_key(holder), 2**62)
    if what in ("auto", "passphrase"):
        box.store.set_attended(box.tenant, WORDS)
    faults = Faults()
    box.open(faults)
    epoch = box.store.epoch
    acts: dict[str, Callable[[], object]] = {
        "attended": lambda: box.store.set_attended(box.tenant, WORDS),
        "auto": lambda: box.store.set_auto(box.tenant, PROOF),
        "passphrase": lambda: box.store.change_passphrase(box.tenant, PROOF, OTHER),
        "drop": lambda: box.store.drop_grant(grant),
    }
    faults.steps.clear()
    faults.at = at
    with pytest.raises(Crash):
        acts[what]()
    happened = any(step.startswith("flipped in") for step in faults.steps)

    box.open(create=False)
    assert box.store.epoch == epoch + happened
    for directory in box.directories:
        assert len(list(directory.glob("root-*"))) == 1 and len(list(directory.glob("epoch-*"))) == 2
    assert len(box.store.granted(grant)) == (0 if what == "drop" and happened else 1)
    mode = box.store.tenant_keys(box.tenant).mode
    was = KeyMode.ATTENDED if what in ("auto", "passphrase") else KeyMode.AUTO
    is_now = {"attended": KeyMode.ATTENDED, "auto": KeyMode.AUTO}.get(what, was)
    assert mode is (is_now if happened else was)
    if mode is KeyMode.ATTENDED:
        refuses(box)
        words = OTHER if what == "passphrase" and happened else WORDS
        for wrong in {WORDS, OTHER} - {words}:
            with pytest.raises(PassphraseWrongError):
                box.store.unlock(box.tenant, Proof(passphrase=wrong), 60)
        box.store.unlock(box.tenant, Proof(passphrase=words), 60)
    assert box.held() == box.keys


def test_a_wrong_passphrase_and_a_mistyped_recovery_key(box: Box) -> None:
    recovery = attended(box)
    for proof in (Proof(passphrase=WORDS + " "), Proof(passphrase="x"), Proof(passphrase="y" * 4000)):
        with pytest.raises(PassphraseWrongError):
            box.store.unlock(box.tenant, proof, 60)
    # Another one, well typed, is wrong; a mistyped one is told apart.
    other = Box(box.directories[0].parent / "other")
    with pytest.raises(PassphraseWrongError):
        box.store.unlock(box.tenant, Proof(recovery_key=attended(other)), 60)
    other.close()
    swapped = ("b" if recovery[0] == "a" else "a") + recovery[1:]
    for typed in (swapped, recovery[:-1], "", "no key at all", "a" * 100_000):
        with pytest.raises(PassphraseFormatError):
            box.store.unlock(box.tenant, Proof(recovery_key=typed), 60)
    with pytest.raises(PassphraseFormatError):
        box.store.unlock(box.tenant, Proof(WORDS, recovery), 60)
    refuses(box)


@pytest.mark.parametrize("words", ["short", "x" * 257, "with a\ttab inside it", "\ud800" * 12, ""])
def test_a_passphrase_that_is_none_changes_nothing(box: Box, words: str) -> None:
    box.open()
    box.fill(1)
    with pytest.raises(PassphraseFormatError):
        box.store.set_attended(box.tenant, words)
    assert box.store.epoch == 1 and box.held() == box.keys


def test_the_same_words_typed_on_another_keyboard(box: Box) -> None:
    """A letter with a mark, as one code point or as two (NFC)."""
    box.open()
    box.fill(1)
    box.store.set_attended(box.tenant, "Schlüssel für Köln")
    box.store.unlock(box.tenant, Proof(passphrase="Schlüssel für Köln"), 60)
    assert box.held() == box.keys


def test_the_time_ends(box: Box) -> None:
    attended(box)
    seconds = [100.0]
    box.store._unlocked = Unlocked(lambda: 5 * SECOND_NS, lambda: seconds[0])
    state = box.store.unlock(box.tenant, PROOF, 60)
    assert state.unlocked_until_ns == 65 * SECOND_NS and not state.locked
    assert box.held() == box.keys
    assert box.store.expire_unlocked() == []
    seconds[0] = 160.0
    refuses(box)  # at once, whether anybody has swept or not
    assert box.store.tenant_keys(box.tenant).locked
    kept = box.store._open._keys
    assert kept, "what was open of late"
    assert box.store.expire_unlocked() == [box.tenant] and box.store.expire_unlocked() == []
    assert not kept
    # Anew, it counts from then on.
    box.store.unlock(box.tenant, PROOF, 60)
    seconds[0] = 200.0
    box.store.unlock(box.tenant, PROOF, 60)
    seconds[0] = 259.0
    assert box.held() == box.keys


def test_what_is_wiped_is_gone() -> None:
    secret = Secret(b"x" * 96)
    assert secret.read() == b"x" * 96 and "x" * 3 not in repr(secret)
    secret.wipe()
    secret.wipe()
    assert secret.read() is None


def test_a_restart_locks(box: Box) -> None:
    attended(box)
    box.store.unlock(box.tenant, PROOF, 60)
    assert box.held() == box.keys
    box.open(create=False)
    refuses(box)
    assert box.store.tenant_keys(box.tenant).unlocked_until_ns == 0


def test_back_to_auto_needs_the_passphrase(box: Box) -> None:
    attended(box)
    box.store.unlock(box.tenant, PROOF, 60)
    with pytest.raises(PassphraseWrongError):
        box.store.set_auto(box.tenant, Proof(passphrase=OTHER))
    box.store.set_auto(box.tenant, PROOF)
    box.open(create=False)
    assert box.held() == box.keys and box.store.tenant_keys(box.tenant).mode is KeyMode.AUTO
    for act in (
        lambda: box.store.set_auto(box.tenant, PROOF),
        lambda: box.store.unlock(box.tenant, PROOF, 60),
        lambda: box.store.change_passphrase(box.tenant, PROOF, OTHER),
    ):
        with pytest.raises(KeyModeError) as error:
            act()
        assert error.value.data["mode"] == "auto"
    # And again: what was sealed to every key pair so far still opens.
    box.fill(1)
    box.store.set_attended(box.tenant, OTHER)
    with pytest.raises(KeyModeError):
        box.store.set_attended(box.tenant, OTHER)
    box.fill(1)
    box.open(create=False)
    box.store.unlock(box.tenant, Proof(passphrase=OTHER), 60)
    assert box.held() == box.keys and box.store.tenant_keys(box.tenant).pairs == 3


def test_key_pairs_are_bounded(box: Box) -> None:
    box.open()
    box.fill(1)
    raw = id_bytes(box.tenant)
    tenant = box.store._open.contents.tenants[raw]
    many = [hpke.new_private_key() for _ in range(MAX_PAIRS - 1)]
    box.store._open.contents.tenants[raw] = type(tenant).auto(raw, 0, *tenant.privates, *many)
    with pytest.raises(TenantKeysFullError):
        box.store.set_attended(box.tenant, WORDS)
    assert box.held() == box.keys


def test_another_passphrase(box: Box) -> None:
    recovery = attended(box)
    box.store.unlock(box.tenant, PROOF, 60)
    with pytest.raises(PassphraseWrongError):
        box.store.change_passphrase(box.tenant, Proof(passphrase=OTHER), WORDS)
    with pytest.raises(PassphraseFormatError) as error:
        box.store.change_passphrase(box.tenant, PROOF, "short")
    assert error.value.data["field"] == "new_passphrase"
    assert box.store.change_passphrase(box.tenant, PROOF, OTHER) == ""
    assert box.held() == box.keys  # who has unlocked stays so
    box.store.lock(box.tenant)
    with pytest.raises(PassphraseWrongError):
        box.store.unlock(box.tenant, PROOF, 60)
    box.store.unlock(box.tenant, Proof(passphrase=OTHER), 60)
    box.store.unlock(box.tenant, Proof(recovery_key=recovery), 60)
    # Forgotten: the recovery key sets another one, and a new recovery key takes its place.
    fresh = box.store.change_passphrase(
        box.tenant, Proof(recovery_key=recovery), WORDS, renew_recovery_key=True
    )
    with pytest.raises(PassphraseWrongError):
        box.store.unlock(box.tenant, Proof(recovery_key=recovery), 60)
    box.open(create=False)
    box.store.unlock(box.tenant, Proof(recovery_key=fresh), 60)
    assert box.held() == box.keys


def test_a_copy_that_is_away_keeps_the_mode_as_it_is(box: Box) -> None:
    """It has the root key of an epoch in which the private key lies open."""
    box.open()
    box.fill(1)
    for path in box.directories[1].iterdir():
        path.unlink()
    box.open(create=False)
    with pytest.raises(KeystoreCopyMissingError):
        box.store.set_attended(box.tenant, WORDS)
    assert box.store.tenant_keys(box.tenant).mode is KeyMode.AUTO and box.held() == box.keys


def test_erasing_needs_nobodys_passphrase(box: Box) -> None:
    attended(box)
    names = list(box.keys)
    assert box.store.shred(names[:1]).destroyed == (names[0],)
    box.store.pin(names[1:2])
    box.store.scrub()
    box.open(create=False)
    assert names[0] not in box.store and box.store.pinned() == names[1:2]
    box.store.unlock(box.tenant, PROOF, 60)
    assert set(box.held()) == set(names[1:])


# Grants.


def test_keys_under_a_grant_open_for_its_holder_alone(box: Box) -> None:
    attended(box)
    names = list(box.keys)
    holder, grant = hpke.new_private_key(), new_id()
    public = hpke.public_key(holder)
    with pytest.raises(TenantLockedError):
        box.store.seal_for_grant(grant, box.tenant, names[:2], public, 2**62)
    assert box.store.granted(grant) == []
    box.store.unlock(box.tenant, PROOF, 60)
    sealed = box.store.seal_for_grant(grant, box.tenant, names[:2], public, 2**62)
    assert box.store.seal_for_grant(grant, box.tenant, names[:2], public, 2**62) == sealed
    box.store.lock(box.tenant)
    assert not opens_a_key(box)
    box.open(create=False)
    assert box.store.granted(grant) == sealed and len(sealed) == 2
    for item in sealed:
        found = open_data_key(holder, item.tenant, item.grant, item.recording, item.sealed)
        assert found in box.keys.values()
        for private, place in (
            (hpke.new_private_key(), item.recording),
            (holder, id_bytes(new_id())),
        ):
            with pytest.raises(KeyRefusedError):
                open_data_key(private, item.tenant, item.grant, place, item.sealed)
    box.store.shred(names[:1])  # erased: no grant has its key any more
    assert [item.recording for item in box.store.granted(grant)] == [id_bytes(names[1])]
    stored = b"".join([*box.files().values(), *plain_of(box)])
    assert not any(item.sealed in stored for item in sealed if item.recording == id_bytes(names[0]))
    assert box.store.drop_grant(grant) == 1 and box.store.drop_grant(grant) == 0
    stored = b"".join([*box.files().values(), *plain_of(box)])
    assert box.store.granted(grant) == [] and not any(item.sealed in stored for item in sealed)


def test_a_grant_counts_as_dropped_once_nothing_of_its_keys_is_left(box: Box) -> None:
    box.open()
    names, grant, public = box.fill(2), new_id(), hpke.public_key(hpke.new_private_key())
    sealed = box.store.seal_for_grant(grant, box.tenant, names, public, 2**62)
    # A directory in the way of the name is refused by every file system: the flip reaches one copy alone.
    blocked = box.directories[1] / "active"
    blocked.unlink()
    blocked.mkdir()
    for _ in range(2):
        with pytest.raises(KeystoreDegradedError):
            box.store.drop_grant(grant)
    assert box.store.granted(grant) == []
    blocked.rmdir()
    assert box.store.drop_grant(grant) == 0 and box.store.degraded == []
    stored = b"".join([*box.files().values(), *plain_of(box)])
    assert not any(item.sealed in stored for item in sealed)


def test_a_grants_time_ends(box: Box) -> None:
    box.open()
    names, grant, public = box.fill(2), new_id(), hpke.public_key(hpke.new_private_key())
    now = [10]
    box.store._clock = lambda: now[0]
    box.store.seal_for_grant(grant, box.tenant, names[:1], public, 50)
    box.store.seal_for_grant(grant, box.tenant, names[1:], public, 90)
    assert len(box.store.granted(grant)) == 2 and box.store.drop_expired() == 0
    now[0] = 50
    assert len(box.store.granted(grant)) == 1
    assert box.store.drop_expired() == 1 and box.store.epoch == 2
    box.store.seal_for_grant(grant, box.tenant, names[1:], public, 40)  # shortened
    assert box.store.granted(grant) == []


def test_what_a_grant_cannot_have(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.open()
    names, grant, public = box.fill(4), new_id(), hpke.public_key(hpke.new_private_key())
    stranger = new_id()
    box.store.create_tenant(stranger)
    for tenant, wanted in ((stranger, names[:1]), (box.tenant, [names[0], new_id()])):
        with pytest.raises(KeyAbsentError):
            box.store.seal_for_grant(grant, tenant, wanted, public, 2**62)
    assert box.store.granted(grant) == []
    box.store.seal_for_grant(grant, box.tenant, names[:1], public, 2**62)
    with pytest.raises(GrantKeysConflictError):
        box.store.seal_for_grant(
            grant, box.tenant, names[1:2], hpke.public_key(hpke.new_private_key()), 2**62
        )
    monkeypatch.setattr("appliance.storage.keystore.attended.MAX_OF_GRANT", 3)
    box.store.seal_for_grant(grant, box.tenant, names[:3], public, 2**62)
    with pytest.raises(GrantKeysFullError):
        box.store.seal_for_grant(grant, box.tenant, names[3:], public, 2**62)


# The format before.


def test_the_second_format_is_read_and_brought_to_the_present_one(box: Box) -> None:
    first = First(box)
    counts = struct.unpack("<QQQQ", first.plain[32:64])
    head = first.plain[:32] + struct.pack("<QQQQQQQ", 3, counts[0], counts[1], 0, 0, counts[2], counts[3])
    second = head + first.plain[64:]
    for directory in box.directories:
        (directory / "epoch-0000000007.keys").write_bytes(base(first.root, 7, second, version=2))
        path = directory / "epoch-0000000007.journal"
        raw = bytearray(path.read_bytes())
        path.write_bytes(head_of_journal(7, 2) + raw[24:])
    box.open(create=False)
    assert box.held() == box.keys and len(box.keys) == 7 and box.store.findings == []
    assert box.store.epoch == 8 and box.store._open.contents.erased_in == 3
    assert box.store.tenant_keys(box.tenant).mode is KeyMode.AUTO
    assert box.store.tenant_public_key(box.tenant) == hpke.public_key(first.private)
    box.store.set_attended(box.tenant, WORDS)
    box.open(create=False)
    box.store.unlock(box.tenant, PROOF, 60)
    assert box.held() == box.keys


def head_of_journal(epoch: int, version: int) -> bytes:
    from test_keystore_versions import crc

    return crc(struct.pack("<8sHHQ", b"\x89EWJ\r\n\x1a\n", version, 24, epoch))
