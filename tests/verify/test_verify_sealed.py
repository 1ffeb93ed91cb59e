"""What happens to a file is seen by somebody who has nothing but the box's public key."""

from __future__ import annotations

import io

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness.verify import check_sealed


def check(data: bytes, *keys: Ed25519PrivateKey):
    return check_sealed(io.BytesIO(data), [key.public_key().public_bytes_raw() for key in keys] or None)


def codes(data: bytes, *keys: Ed25519PrivateKey) -> list[str]:
    return [one.code for one in check(data, *keys).findings]


@pytest.fixture(scope="module")
def made(make_recording, device):
    return make_recording(device)


def test_what_is_whole_is_said_to_be(made, device):
    report = check(made.data, device)
    assert report.untouched and report.ended and report.frames == 4
    assert (report.recording, report.size) == (made.recording, len(made.data))
    assert report.device_key == device.public_key().public_bytes_raw()


def test_a_recording_that_a_crash_cut_and_the_box_recovered(make_recording, device):
    report = check(make_recording(device, ended=False).data, device)
    assert report.untouched and not report.ended


def test_every_flipped_bit_is_seen(made, device):
    data = bytearray(made.data)
    step = max(1, len(data) // 1500)
    for at in [*range(300), *range(300, len(data), step), *range(len(data) - 300, len(data))]:
        data[at] ^= 1 << at % 8
        report = check(bytes(data), device)
        assert report.findings and not report.untouched, at
        data[at] ^= 1 << at % 8


def test_every_cut_is_seen(made, device):
    for length in range(0, len(made.data), 37):
        assert not check(made.data[:length], device).untouched, length
    assert codes(made.data[:-200], device) == ["CUT"]


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ((0, 2, 1, 3, 4, 5), "FRAME_MISPLACED"),  # reordered
        ((0, 1, 1, 2, 3, 4, 5), "FRAME_MISPLACED"),  # doubled
        ((0, 1, 3, 4, 5), "FRAME_MISPLACED"),  # one cut out
        ((0, 1, 2, 3, 5), "TOTALS_MISMATCH"),  # the last one cut off
        ((0, 1, 2, 3, 4, 4, 5), "FRAME_MISPLACED"),
        ((0, 1, 2, 3, 4, 5, 1), "TRAILING"),
        ((1, 2, 3, 4, 5), "NOT_SEALED"),
    ],
)
def test_frames_in_another_order(made, device, order, code):
    assert codes(b"".join(made.parts[at] for at in order), device)[0] == code


def test_a_frame_of_another_recording(made, make_recording, device):
    other = make_recording(device)
    parts = list(made.parts)
    parts[2] = other.parts[2]
    assert codes(b"".join(parts), device) == ["FRAME_MISPLACED"]


def test_the_footer_of_another_recording(made, make_recording, device):
    other = make_recording(device)
    assert "ROOT_MISMATCH" in codes(b"".join([*made.parts[:-1], other.parts[-1]]), device)


def test_signed_anew_by_another_box(made, device):
    stranger = Ed25519PrivateKey.generate()
    unsigned = b"".join(made.parts[:-1])
    again = unsigned + made.footer(unsigned, stranger)
    assert codes(again, device) == ["SIGNER_UNKNOWN"]
    assert codes(again, device, stranger) == [], "both are trusted"
    assert codes(again) == [], "nobody said who is to be trusted"


def test_a_forged_signature(made, device):
    footer = bytearray(made.parts[-1])
    footer[130] ^= 1
    import zlib

    footer[196:200] = zlib.crc32(footer[:196]).to_bytes(4, "little")
    assert codes(b"".join([*made.parts[:-1], bytes(footer)]), device) == ["SIGNATURE_INVALID"]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_rubbish_is_a_finding_and_never_a_crash(data):
    assert check(data).findings


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_real_file_with_anything_spliced_in(made, device, data):
    at = data.draw(st.integers(0, len(made.data)))
    put = data.draw(st.binary(min_size=1, max_size=64))
    cut = data.draw(st.integers(0, 64))
    changed = made.data[:at] + put + made.data[at + cut :]
    if changed != made.data:
        assert not check(changed, device).untouched
