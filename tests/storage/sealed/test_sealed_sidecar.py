"""The sidecar: read by another program, and every way of altering it is found, with the key and without."""

from __future__ import annotations

import os

import pytest
import sidecar_reader
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.model import id_bytes, new_id
from appliance.storage.sealed import sidecar
from appliance.storage.sealed.sidecar import Head, check, pack_content, parse
from appliance.storage.sealed.sidecarerrors import SidecarCorruptError, SidecarEntryError, SidecarFullError
from appliance.storage.sealed.sidecarerrors import SidecarProblem as P
from appliance.storage.sealed.sidecarlayout import HEADER_BYTES, MAX_BYTES, SEAL_BYTES

DEVICE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = DEVICE.public_key().public_bytes_raw()
ROOT = bytes(range(32))
NOW = 1_764_000_000_000_000_000


def entry(text: str, **more: object) -> bytes:
    return pack_content(
        {"id": new_id(), "what": "note-created", "by": "ada", "at_ns": NOW, "text": text, **more}
    )


class Made:
    """A sidecar of three batches: one entry, two, one. `ends`: where each batch ends."""

    def __init__(self, device: Ed25519PrivateKey = DEVICE, recording: str = "") -> None:
        self.recording, self.key = recording or new_id(), os.urandom(32)
        self.header = sidecar.new_header(self.recording, new_id(), new_id(), ROOT)
        self.raw, self.ends = b"", []
        for batch in (["first"], ["second", "third"], ["fourth ☎"]):
            self.add(*batch, device=device)

    def add(self, *texts: str, device: Ed25519PrivateKey = DEVICE) -> None:
        self.raw = sidecar.append(self.raw, self.header, self.key, [entry(one) for one in texts], device, NOW)
        self.ends.append(len(self.raw))

    def problems(
        self, raw: bytes, *, key: bool = False, known: Head | None = None, public: bytes = PUBLIC
    ) -> set[P]:
        found = check(
            raw,
            public,
            self.key if key else None,
            recording_id=self.recording,
            root=ROOT,
            known=known,
        )
        return {one.problem for one in found}


def test_another_reader_reads_it():
    made = Made()
    recording, root, entries = sidecar_reader.read(made.raw, made.key, PUBLIC)
    assert recording == id_bytes(made.recording) and root == ROOT
    assert [one["text"] for one in entries] == ["first", "second", "third", "fourth ☎"]
    assert entries == sidecar.read(parse(made.raw), made.key)
    assert made.problems(made.raw, key=True, known=parse(made.raw).head) == set()
    assert b"first" not in made.raw and b"ada" not in made.raw


def test_every_flipped_bit_is_found_without_the_key():
    made = Made()
    for at in range(len(made.raw)):
        raw = bytearray(made.raw)
        raw[at] ^= 1 << (at % 8)
        assert made.problems(bytes(raw)), f"byte {at}"


def test_every_cut_is_found():
    """Within a batch by itself; at the end of one by what is known of it."""
    made = Made()
    head = parse(made.raw).head
    for size in range(len(made.raw)):
        found = made.problems(made.raw[:size], known=head)
        assert found == {P.CUT} if size in made.ends else found & {P.HEADER, P.CORRUPT, P.UNSIGNED}, size
    assert made.problems(made.raw[: made.ends[0]]) == set(), "only what is known of it says so"


def test_entries_moved_doubled_left_out_or_spliced_in_are_found():
    made, other = Made(), Made()
    a, b, c = (
        made.raw[HEADER_BYTES : made.ends[0]],
        made.raw[made.ends[0] : made.ends[1]],
        made.raw[made.ends[1] :],
    )
    head = made.raw[:HEADER_BYTES]
    foreign = other.raw[made.ends[0] : other.ends[1]]
    for raw in (head + b + a + c, head + a + a + b + c, head + a + c, head + a + foreign + c, head + b + c):
        assert made.problems(raw) & {P.MISPLACED, P.CORRUPT}
    for raw in (made.raw + made.raw[-SEAL_BYTES:], head + made.raw[-SEAL_BYTES:], made.raw + b"x"):
        assert made.problems(raw)


def test_another_recordings_sidecar_and_another_boxs_signature_are_found():
    made, other = Made(), Made()
    assert made.problems(other.raw) == {P.OTHER_RECORDING}
    forged = Made(OTHER, recording=made.recording)
    assert made.problems(forged.raw) == {P.SIGNER_UNKNOWN}
    assert made.problems(forged.raw, key=True) == {P.SIGNER_UNKNOWN, P.FORGED}
    raw = made.raw[:-SEAL_BYTES] + forged.raw[-SEAL_BYTES:]
    assert made.problems(raw)
    moved = sidecar.new_header(made.recording, made.header.tenant_id, made.header.line_id, bytes(32))
    assert (
        check(made.raw, PUBLIC, None, recording_id=made.recording, root=bytes(32))[0].problem
        is P.OTHER_RECORDING
    )
    assert made.problems(moved.pack() + made.raw[HEADER_BYTES:])


def test_another_history_of_the_same_length_is_found():
    """Whoever has the box's key and an older state can write on: not what was known."""
    made = Made()
    head = parse(made.raw).head
    made.raw = made.raw[: made.ends[1]]
    made.add("something else")
    assert made.problems(made.raw, key=True) == set() and made.problems(made.raw, known=head) == {P.CUT}
    made.add("more")
    assert made.problems(made.raw, known=head) == {P.CUT}


def test_what_was_known_may_have_grown_since():
    made = Made()
    head = parse(made.raw).head
    made.add("later")
    assert made.problems(made.raw, key=True, known=head) == set()


def test_a_wrong_data_key_opens_nothing():
    made = Made()
    with pytest.raises(SidecarCorruptError):
        sidecar.read(parse(made.raw), os.urandom(32))


def test_what_opens_and_is_malformed_is_found():
    made = Made()
    made.raw = sidecar.append(made.raw, made.header, made.key, [b'{"id": 1}'], DEVICE, NOW)
    assert made.problems(made.raw) == set() and made.problems(made.raw, key=True) == {P.CONTENT}


def test_bounds():
    made = Made()
    for bad in (
        {"what": "x", "by": "a", "at_ns": 1},
        {"id": new_id(), "what": "", "by": "a", "at_ns": 1},
        {"id": new_id(), "what": "x", "by": "a" * 301, "at_ns": 1},
        {"id": new_id(), "what": "x", "by": "a", "at_ns": -1},
        {"id": new_id(), "what": "x", "by": "a", "at_ns": True},
        {"id": new_id(), "what": "x", "by": "a", "at_ns": 1, "text": "x" * 70_000},
        {"id": new_id(), "what": "x", "by": "a", "at_ns": 1, "text": "\ud800"},
    ):
        with pytest.raises(SidecarEntryError):
            pack_content(bad)
    for bad in (b"[]", b"{", b"\xff", b"[" * 50_000, entry("x").replace(b",", b", ", 1), b'{"a":NaN}'):
        with pytest.raises(SidecarEntryError):
            sidecar.unpack_content(bad)
    with pytest.raises(SidecarEntryError):
        sidecar.append(made.raw, made.header, made.key, [], DEVICE, NOW)
    with pytest.raises(SidecarFullError):
        made.add(*["x" * 60_000 for _ in range(MAX_BYTES // 60_000 + 1)])
    assert made.problems(made.raw + bytes(MAX_BYTES)) == {P.CORRUPT}
    nonces = {one.nonce for one in parse(made.raw).entries}
    assert len(nonces) == 4
