"""The rollover store, and following packet indices."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from pylibsrtp import Policy, Session

from appliance.media.rtp.rollover import RolloverStore
from appliance.media.rtp.srtp import SrtpKeyError, SrtpReceiver

SUITE = "AES_CM_128_HMAC_SHA1_80"


def test_the_store_names_streams_not_keys(tmp_path: Path) -> None:
    key, other = os.urandom(30), os.urandom(30)
    store = RolloverStore(tmp_path / "r", 4)
    slots = [store.add(key, ssrc) for ssrc in (1, 2)]
    store.store(slots[0], 70000)
    store.store(slots[1], 5)
    store.close()
    again = RolloverStore(tmp_path / "r", 4)
    assert again.find(other) == {}
    assert {ssrc: index for ssrc, (_, index) in again.find(key).items()} == {1: 70000, 2: 5}
    assert again.find(key) == {}  # they are the caller's now
    again.close()


def test_a_full_store_lets_go_of_what_nobody_claims(tmp_path: Path) -> None:
    store = RolloverStore(tmp_path / "r", 2)
    old = os.urandom(30)
    store.add(old, 1)
    store.close()
    again = RolloverStore(tmp_path / "r", 2)
    assert again.add(b"k", 1) >= 0
    assert again.add(b"k", 2) >= 0  # takes the place of the old one
    assert again.add(b"k", 3) == -1
    again.store(-1, 7)
    again.free(-1)
    assert again.find(old) == {}
    again.close()


def test_a_damaged_store_is_read_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(os.urandom(32 * 8))
    store = RolloverStore(path, 8)
    assert all(store.add(b"k", ssrc) >= 0 for ssrc in range(8))
    store.close()


def test_disorder_and_late_packets_do_not_disturb_the_index() -> None:
    key = os.urandom(30)
    tx = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND))
    receiver = SrtpReceiver(SUITE, key)
    cells = np.zeros((8, 512), np.uint8)
    lengths = np.zeros(8, np.uint32)
    indices = [65530, 65531, 65533, 65532, 65538, 65535, 65536, 65534]
    protected = {
        index: tx.protect(struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, 0, 9)) for index in sorted(indices)
    }
    for row, index in enumerate(indices):
        packet = protected[index]
        cells[row, : len(packet)] = np.frombuffer(packet, np.uint8)
        lengths[row] = len(packet)
    assert receiver.unprotect_rows(cells, lengths, 0, 8) == 8
    assert receiver.highest(9) == 65538
    assert lengths.tolist() == [12] * 8


@pytest.mark.parametrize(("suite", "length"), [("NULL", 30), (SUITE, 29), ("AEAD_AES_256_GCM", 30)])
def test_keys_that_are_none(suite: str, length: int) -> None:
    with pytest.raises(SrtpKeyError):
        SrtpReceiver(suite, bytes(length))
