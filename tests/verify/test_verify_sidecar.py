"""Sidecars without their key, by a program that shares no code with the box: each attack is named."""

from __future__ import annotations

import io
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import new_id
from appliance.storage.sealed import sidecar
from appliance.storage.sealed.sidecarlayout import HEADER_BYTES, SEAL_BYTES
from earwitness.verify.sealed import check_sealed
from earwitness.verify.sidecar import MAX_BYTES, check_sidecar

NOW = 1_764_000_000_000_000_000


class Beside:
    """A recording's sidecar of three batches, and what the log says of it."""

    def __init__(self, make_recording, device, signer=None) -> None:
        made = make_recording(device)
        self.sealed = check_sealed(io.BytesIO(made.data))
        self.device, self.signer = device, signer or device
        self.key = os.urandom(32)
        self.header = sidecar.new_header(made.recording, new_id(), new_id(), self.sealed.root)
        self.raw, self.ends, self.said = b"", [], {}
        for batch in (["one"], ["two", "three"], ["four"]):
            self.add(*batch)

    def add(self, *texts: str) -> None:
        entries = [
            sidecar.pack_content({"id": new_id(), "what": "x", "by": "a", "at_ns": NOW, "text": one})
            for one in texts
        ]
        self.raw = sidecar.append(self.raw, self.header, self.key, entries, self.signer, NOW)
        head = sidecar.parse(self.raw).head
        self.ends.append(len(self.raw))
        self.said = {"sidecar_entries": head.entries, "sidecar_sha256": head.sha256}

    def codes(self, raw, said=None) -> list[str]:
        keys = [self.device.public_key().public_bytes_raw()]
        return [one.code for one in check_sidecar(raw, self.sealed, keys, said).findings]


@pytest.fixture
def beside(make_recording, device) -> Beside:
    return Beside(make_recording, device)


def test_what_was_sealed_holds(beside):
    assert beside.codes(beside.raw) == beside.codes(beside.raw, beside.said) == []
    report = check_sidecar(
        beside.raw, beside.sealed, [beside.device.public_key().public_bytes_raw()], beside.said
    )
    assert (report.entries, report.logged, report.signed_ns) == (4, 4, NOW)
    older = beside.said
    beside.add("five")
    assert beside.codes(beside.raw, older) == [], "it may have grown since"
    assert beside.codes(None, {}) == beside.codes(beside.raw, {}) == []


def test_every_flip_and_every_cut_is_found(beside):
    for at in range(len(beside.raw)):
        raw = bytearray(beside.raw)
        raw[at] ^= 1 << (at % 8)
        assert beside.codes(bytes(raw)), at
    for size in range(len(beside.raw)):
        found = beside.codes(beside.raw[:size], beside.said)
        assert found == ["SIDECAR_CUT"] if size in beside.ends else found, size
    assert beside.codes(None, beside.said) == ["SIDECAR_MISSING"]


def test_moved_doubled_spliced_exchanged_and_signed_by_another(beside, make_recording, device):
    other = Beside(make_recording, device)
    head, ends = beside.raw[:HEADER_BYTES], beside.ends
    a, b, c = beside.raw[HEADER_BYTES : ends[0]], beside.raw[ends[0] : ends[1]], beside.raw[ends[1] :]
    for raw in (head + b + a + c, head + a + a + b + c, head + a + c):
        assert beside.codes(raw) == ["SIDECAR_MISPLACED"]
    foreign = other.raw[other.ends[0] : other.ends[1]]
    assert beside.codes(head + a + foreign + c) == ["SIDECAR_MISPLACED"]
    assert beside.codes(other.raw[:HEADER_BYTES] + a + b + c) == ["SIDECAR_MISPLACED"]
    assert beside.codes(other.raw) == ["SIDECAR_OTHER_RECORDING"]
    assert beside.codes(beside.raw + beside.raw[-SEAL_BYTES:]) == ["SIDECAR_MISPLACED"]
    stranger = Beside(make_recording, device, Ed25519PrivateKey.generate())
    assert set(stranger.codes(stranger.raw)) == {"SIDECAR_SIGNER_UNKNOWN"}
    assert "SIDECAR_CUT" in beside.codes(beside.raw[: ends[1]], beside.said)


def test_another_history_under_the_boxs_own_key_is_found_by_the_log(beside):
    said = beside.said
    beside.raw = beside.raw[: beside.ends[1]]
    beside.add("something else")
    assert beside.codes(beside.raw) == [] and beside.codes(beside.raw, said) == ["SIDECAR_CUT"]


@pytest.mark.parametrize(
    "raw", [b"", b"x" * 500, bytes(MAX_BYTES + 1), b"\x89EWN\r\n\x1a\n" + bytes(200)], ids=len
)
def test_hostile_bytes_are_a_finding(beside, raw):
    assert beside.codes(raw) == ["SIDECAR_HEADER"]
    assert len(beside.codes(beside.raw[:HEADER_BYTES] + raw)) == 1
