"""A keystore of the first format is read as it is and brought to the present one; a later format is refused."""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from pathlib import Path

import pytest
from conftest_keystore import Box, Crash, Faults
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.model import Kind, id_bytes, new_id
from appliance.storage.keystore import DepositRequest, hpke, open_deposit
from appliance.storage.keystore.deposit import Deposit
from appliance.storage.keystore.errors import (
    KeystoreDegradedError,
    KeystoreForeignError,
    KeystoreTooNewError,
    KeystoreWriteError,
)

CONTEXT = b"earwitness epoch v1\0"


def crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def derive(root: bytes, epoch: int, purpose: bytes) -> bytes:
    info = CONTEXT + epoch.to_bytes(8, "big") + purpose
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(root)


def base(root: bytes, epoch: int, plain: bytes, version: int = 1) -> bytes:
    """An epoch's base of less than one chunk."""
    head = crc(struct.pack("<8sHHIQQ", b"\x89EWK\r\n\x1a\n", version, 36, 1 << 20, epoch, len(plain)))
    aad = CONTEXT + hashlib.sha256(head).digest() + bytes(8)
    return head + AESGCM(derive(root, epoch, b"keys")).encrypt(bytes(12), plain, aad)


def journal(root: bytes, epoch: int, records: list[bytes]) -> bytes:
    raw = crc(struct.pack("<8sHHQ", b"\x89EWJ\r\n\x1a\n", 1, 24, epoch))
    tag = bytes(16)
    for number, plain in enumerate(records):
        nonce = secrets.token_bytes(12)
        aad = b"earwitness key journal v1\0" + struct.pack("<QQQ", epoch, number, len(raw)) + tag
        sealed = AESGCM(derive(root, epoch, b"journal")).encrypt(nonce, plain, aad)
        raw += crc(struct.pack("<4sI12s", b"\xe7EWj", len(sealed), nonce)) + sealed
        tag = sealed[-16:]
    return raw


def slot(number: int, epoch: int, root: bytes) -> bytes:
    body = struct.pack("<8sHHIQ32s", b"\x89EWROOT\n", 1, number, 0, epoch, root)
    return body + hashlib.sha256(body).digest()[:8]


class First:
    """A keystore as the first release wrote it: `held` in the base and in the journal."""

    def __init__(self, box: Box, epoch: int = 7) -> None:
        self.box, self.epoch = box, epoch
        self.device, self.root = secrets.token_bytes(32), secrets.token_bytes(32)
        self.private, self.deposit_key = hpke.new_private_key(), hpke.new_private_key()
        self.deposits = [self.deposit(4), self.deposit(3)]
        for directory in box.directories:
            self.write(directory)

    def deposit(self, count: int) -> Deposit:
        public = hpke.public_key(self.private)
        requests = [
            DepositRequest(new_id(), self.box.tenant, public, secrets.token_bytes(32)) for _ in range(count)
        ]
        vault = hpke.public_key(self.deposit_key)
        self.box.keys |= {item.recording_id: item.data_key for item in requests}
        raw = self.box.depositor.deposit_many(requests, vault, len(self.box.keys) * 10**15)
        return open_deposit(raw, {hpke.key_id(vault): self.deposit_key})

    def write(self, directory: Path) -> None:
        first, second = self.deposits
        above = sorted(first.intermediates, key=lambda item: item.id)
        rows = sorted(first.records, key=lambda item: item.recording)
        places = {item.id: place for place, item in enumerate(above)}
        plain = self.device + struct.pack("<QQQQ", 1, 1, len(above), len(rows))
        plain += struct.pack("<16sqII96s", id_bytes(self.box.tenant), 5, 1, 0, self.private)
        plain += struct.pack("<q96s", 6, self.deposit_key)
        plain += b"".join(item.id + item.tenant + item.sealed for item in above)
        plain += b"".join(
            struct.pack(
                "<16sII48sII", row.recording, places[row.intermediate], row.counter, row.wrapped, 99, 0
            )
            for row in rows
        )
        record = struct.pack("<BxxxIII", 1, 99, len(second.intermediates), len(second.records))
        record += b"".join(item.id + item.tenant + item.sealed for item in second.intermediates)
        record += b"".join(
            struct.pack("<16s16sI48s", row.recording, row.intermediate, row.counter, row.wrapped)
            for row in second.records
        )
        if not hasattr(self, "files"):
            self.files = {
                "root-1": slot(1, self.epoch, self.root),
                "active": crc(struct.pack("<8sHHQ", b"\x89EWACT\r\n", 1, 1, self.epoch)),
                f"epoch-{self.epoch:010d}.keys": base(self.root, self.epoch, plain),
                f"epoch-{self.epoch:010d}.journal": journal(self.root, self.epoch, [record]),
            }
            self.plain = plain
        directory.mkdir(parents=True, exist_ok=True)
        for name, raw in self.files.items():
            (directory / name).write_bytes(raw)
            (directory / name).chmod(0o600)


def test_the_first_format_is_read_and_brought_to_the_present_one(box: Box) -> None:
    first = First(box)
    box.open(create=False)
    assert box.held() == box.keys and len(box.keys) == 7
    assert box.store.findings == [] and box.store.degraded == []
    assert box.store.epoch == 8
    assert [(item.directory, item.present, item.last_epoch) for item in box.store.copies()] == [
        ("a", True, 8),
        ("b", True, 8),
    ]
    assert box.store._open.contents.device_key == first.device
    assert box.store.deposit_key_ids == [hpke.key_id(hpke.public_key(first.deposit_key))]
    for directory in box.directories:
        assert (directory / "epoch-0000000008.keys").read_bytes()[8:10] == b"\4\0"
        assert not (directory / "root-1").exists()
    names = list(box.keys)
    box.store.pin(names[:1])
    box.store.create_bucket_key(box.tenant, "hold", "2026-11")
    box.open(create=False)
    assert box.store.findings == [] and box.store.epoch == 8
    assert box.store.pinned() == names[:1] and box.store.bucket_keys()
    box.store.shred(names[1:])
    assert list(box.held()) == names[:1]


def test_an_old_keystore_that_cannot_be_brought_up_serves_until_it_can(box: Box) -> None:
    first = First(box)
    blocked = box.directories[1] / "epoch-0000000008.keys"
    blocked.mkdir()
    box.open(create=False)
    assert box.held() == box.keys and box.store.epoch == 7
    assert any("not brought up to date" in item for item in box.store.findings)
    # What the first format knows goes on; what it does not know waits.
    extra = first.deposit(2)
    assert len(box.store.add([extra]).accepted) == 2
    names = list(box.keys)
    for ask in (
        lambda: box.store.create_bucket_key(box.tenant, "hold", "2026-11"),
        lambda: box.store.pin(names[:1]),
        lambda: box.store.shred(names[:1]),
    ):
        with pytest.raises((KeystoreWriteError, KeystoreDegradedError)):
            ask()
    box.open(create=False)
    assert box.held() == box.keys and len(box.keys) == 9
    blocked.rmdir()
    box.store.pin(names[:1])
    assert box.store.epoch == 8 and box.held() == box.keys
    box.open(create=False)
    assert box.held() == box.keys and box.store.pinned() == names[:1]
    assert [item.last_epoch for item in box.store.copies()] == [8, 8]


@pytest.mark.parametrize("copy", [0, 1])
def test_an_old_keystore_of_one_copy_gets_its_second(box: Box, copy: int) -> None:
    First(box)
    for path in box.directories[copy].iterdir():
        path.unlink()
    box.open(create=False)
    assert box.held() == box.keys and all(item.present for item in box.store.copies())
    box.store.shred(list(box.keys)[:1])


@pytest.mark.parametrize("at", range(24))
@pytest.mark.parametrize("second", [0, 7, 14])
def test_a_crash_while_it_is_brought_up_costs_nothing(box: Box, at: int, second: int) -> None:
    First(box)
    for place in (at, second):
        try:
            box.open(Faults(place), create=False)
        except Crash:
            box.store = None
    box.open(create=False)
    assert box.held() == box.keys and box.store.epoch == 8
    assert len(box.store.copies()) == 2 and all(item.present for item in box.store.copies())
    box.store.shred(list(box.keys)[:1])
    box.open(create=False)
    assert box.store.findings == []


def test_old_keystores_of_two_boxes_are_told_apart(box: Box, tmp_path: Path) -> None:
    First(box)
    other = First(Box(tmp_path / "other"), epoch=9)
    other.write(box.directories[1])
    for path in box.directories[1].glob("epoch-0000000007*"):
        path.unlink()
    before = box.files()
    with pytest.raises(KeystoreForeignError):
        box.open(create=False)
    assert box.files() == before


def test_a_later_format_is_refused_and_nothing_changed(box: Box) -> None:
    first = First(box)
    for directory in box.directories:
        path = directory / "epoch-0000000007.keys"
        path.write_bytes(base(first.root, 7, first.plain, version=5))
    before = box.files()
    with pytest.raises(KeystoreTooNewError) as error:
        box.open()
    assert error.value.kind is Kind.PRECONDITION and error.value.data == {"version": 5}
    assert box.files() == before
