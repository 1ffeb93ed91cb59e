"""Nothing that happens to a file goes unseen, and the report says where."""

import io

import independent_reader
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import EarwitnessError
from appliance.storage import sealed
from appliance.storage.sealed import Problem


@pytest.fixture(scope="module")
def signed(small):
    return small.signed()


def test_every_flip_is_found_with_and_without_the_key(small, signed):
    for at in range(len(signed)):
        for bit in (0, 7):
            data = bytearray(signed)
            data[at] ^= 1 << bit
            keyless = sealed.verify(bytes(data), small.public)
            assert not keyless.intact, at
            # The place named is that of the part which holds the byte.
            part = max(offset for offset in (*small.offsets, 0) if offset <= at)
            assert any(part <= item.offset <= at for item in keyless.findings), (at, keyless.findings)
            with pytest.raises(independent_reader.Refused):
                independent_reader.read(bytes(data), small.key, small.public)


def test_every_flip_of_an_unsigned_file_is_found(small):
    for at in range(len(small.unsigned)):
        data = bytearray(small.unsigned)
        data[at] ^= 0x10
        assert not sealed.verify(bytes(data)).intact
        assert not sealed.verify(bytes(data), None, small.key).intact


def test_every_cut_is_found(small, signed):
    for length in range(len(signed)):
        report = sealed.verify(signed[:length], small.public, small.key)
        if length == len(small.unsigned):
            assert report.whole and not report.signed  # the footer alone is gone: nobody signed this
        else:
            assert not report.intact, length
            assert not report.signed


def rebuilt(sample, order):
    return b"".join(sample.parts[i] for i in order)


@pytest.mark.parametrize(
    ("order", "problem", "frame"),
    [
        ((0, 2, 1, 3, 4, 5), Problem.FRAME_MISPLACED, 0),
        ((0, 1, 1, 2, 3, 4, 5), Problem.FRAME_MISPLACED, 1),
        ((0, 1, 3, 4, 5), Problem.FRAME_MISPLACED, 1),
        ((0, 1, 2, 3, 4, 5, 4), Problem.FRAME_MISPLACED, 5),
        ((0, 1, 2, 3, 4, 5, 5), Problem.TRAILING, 5),
    ],
)
def test_reorder_duplicate_omission(make_sample, order, problem, frame):
    sample = make_sample(frames=4)
    assert len(sample.parts) == 6
    data = rebuilt(sample, order)
    keyless = sealed.verify(data)
    assert keyless.findings[0].frame == frame
    assert keyless.findings[0].problem in (problem, Problem.TRAILING)
    keyed = sealed.verify(data, None, sample.key)
    assert not keyed.intact
    with pytest.raises(sealed.SealedCorruptError) as caught:
        list(sealed.SealedReader(data, sample.key))
    assert caught.value.offset == keyless.findings[0].offset


def test_swap_between_files_is_forged_even_where_checksums_are_made_anew(make_sample):
    import hashlib

    one, two = make_sample(seed=1), make_sample(seed=2)
    two_frame = bytearray(two.parts[2])
    # An attacker without keys makes chain and checksum fit.
    chain = hashlib.sha256(b"\0" + one.parts[1][:-8]).digest()[:16]
    two_frame[16:32] = chain
    two_frame[-8:] = hashlib.sha256(b"\0" + two_frame[:-8]).digest()[:8]
    data = one.parts[0] + one.parts[1] + bytes(two_frame)
    assert [item.problem for item in sealed.verify(data).findings] == [Problem.CUT]
    report = sealed.verify(data, None, one.key)
    assert report.findings[0].problem is Problem.FRAME_FORGED
    assert report.findings[0].offset == one.offsets[2] and report.findings[0].frame == 1
    # The same key in two files does not help either: the header is bound.
    same = make_sample(seed=1)
    assert same.key == one.key and same.ids != one.ids
    foreign = sealed.verify(one.parts[0] + same.parts[1] + same.parts[2], None, one.key)
    assert {item.problem for item in foreign.findings[:2]} == {Problem.FRAME_MISPLACED, Problem.FRAME_FORGED}


def test_cut_at_a_frame_cannot_pass_for_the_end(make_sample):
    sample = make_sample(frames=3)
    data = bytearray(b"".join(sample.parts[:4]))
    assert [item.problem for item in sealed.verify(bytes(data), None, sample.key).findings] == [Problem.CUT]
    # The kind made to say "last", checksum made anew: the nonce's last flag gives it away.
    import hashlib

    at = sample.offsets[3]
    data[at + 12] = 2
    data[-8:] = hashlib.sha256(b"\0" + data[at:-8]).digest()[:8]
    assert sealed.verify(bytes(data)).intact  # without key and footer nobody can tell
    assert sealed.verify(bytes(data), None, sample.key).findings[0].problem is Problem.FRAME_FORGED


def test_wrong_key_and_wrong_device(sample):
    data = sample.signed()
    report = sealed.verify(data, b"\0" * 32, bytes(32))
    problems = [item.problem for item in report.findings]
    assert problems == [Problem.FRAME_FORGED] * 4 + [Problem.SIGNER_UNKNOWN]
    assert report.signed and not report.trusted and not report.opened
    with pytest.raises(sealed.SealedCorruptError) as caught:
        next(iter(sealed.SealedReader(data, bytes(32))))
    assert caught.value.data["frame"] == 0


def test_footer_of_another_signer_is_seen(make_sample):
    sample, other = make_sample(seed=3), make_sample(seed=4)
    found = sealed.inspect(io.BytesIO(sample.unsigned))
    data = sample.unsigned + sealed.seal_footer(found, other.device, 5)
    assert sealed.verify(data).signed
    report = sealed.verify(data, sample.public)
    assert [item.problem for item in report.findings] == [Problem.SIGNER_UNKNOWN] and not report.trusted


def test_damage_in_the_middle_is_local_for_a_tolerant_reader(make_sample):
    sample = make_sample(frames=5)
    data = bytearray(sample.signed())
    data[sample.offsets[3] + 40] ^= 1
    reader = sealed.SealedReader(bytes(data), sample.key, tolerant=True)
    kept = list(reader.frames())
    assert len(kept) == 5  # four of five frames and the last
    assert [(item.problem, item.offset, item.frame) for item in reader.findings] == [
        (Problem.FRAME_CORRUPT, sample.offsets[3], 2)
    ]
    data[sample.offsets[3] + 5] ^= 0xFF  # its length too
    reader = sealed.SealedReader(bytes(data), sample.key, tolerant=True)
    assert len(list(reader.frames())) == 5
    with pytest.raises(sealed.SealedCorruptError):
        list(sealed.SealedReader(bytes(data), sample.key))
    with pytest.raises(sealed.SealedCorruptError):
        sealed.recover(io.BytesIO(bytes(data)))


def test_bytes_after_the_footer(sample):
    report = sealed.verify(sample.signed() + b"x", sample.public, sample.key)
    assert [item.problem for item in report.findings] == [Problem.TRAILING]
    assert report.findings[0].offset == len(sample.signed())


def test_content_that_no_writer_writes_is_named(make_sample):
    for content in (
        b"\1",
        b"\4\0\0\0\5\0\0\0abcde",
        b"\1\0\0\0\2\0\0\0{}",
        b"\2\0\0\0\1\0\0\0[",
        b"\7\0\0\0\0\0\0\0",
    ):
        sample = make_sample(frames=0, ended=False)
        data = sample.writer.header + sample.writer.frame([content])
        with pytest.raises(sealed.SealedCorruptError) as caught:
            list(sealed.SealedReader(data, sample.key))
        assert caught.value.problem is Problem.CONTENT_CORRUPT
        assert sealed.verify(data, None, sample.key).findings[0].problem is Problem.CONTENT_CORRUPT


def test_end_states_the_truth(make_sample):
    sample = make_sample(ended=False)
    sample.writer.count(1, 0)
    data = sample.unsigned + sample.writer.end(1)
    assert [item.problem for item in sealed.verify(data, None, sample.key).findings] == [
        Problem.TOTALS_MISMATCH
    ]


def test_version_and_algorithms_are_not_guessed(make_sample):
    import zlib

    header = bytearray(make_sample(frames=0).parts[0])
    for at, value in ((8, 2), (12, 9), (13, 9), (14, 9), (15, 9)):
        changed = bytearray(header)
        changed[at] = value
        changed[124:] = zlib.crc32(changed[:124]).to_bytes(4, "little")
        with pytest.raises(sealed.HeaderError):
            sealed.Header.parse(bytes(changed))
    header[100] = 1
    header[124:] = zlib.crc32(header[:124]).to_bytes(4, "little")
    with pytest.raises(sealed.SealedCorruptError):
        sealed.Header.parse(bytes(header))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes(data):
    report = sealed.verify(data, None, bytes(32))
    assert not report.intact
    try:
        list(sealed.SealedReader(data, bytes(32)))
    except EarwitnessError:
        pass
    else:
        raise AssertionError("random bytes were read")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_mutation(small, signed, data):
    mutant = bytearray(signed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutant)))
        size = data.draw(st.integers(0, 60))
        how = data.draw(st.sampled_from(["delete", "insert", "copy", "overwrite"]))
        piece = data.draw(st.binary(min_size=1, max_size=40))
        if how == "delete":
            del mutant[at : at + size]
        elif how == "insert":
            mutant[at:at] = piece
        elif how == "copy":
            source = data.draw(st.integers(0, len(mutant)))
            mutant[at:at] = mutant[source : source + size * 10]
        else:
            mutant[at : at + len(piece)] = piece
    mutant = bytes(mutant)
    if mutant == signed:
        return
    report = sealed.verify(mutant, small.public, small.key)
    assert not report.intact or mutant == small.unsigned
    assert all(0 <= item.offset <= len(mutant) for item in report.findings)
    for tolerant in (False, True):
        try:
            list(sealed.SealedReader(mutant, small.key, tolerant=tolerant))
        except EarwitnessError:
            assert not tolerant or not mutant.startswith(signed[:128])


def test_what_opens_with_the_key_is_still_bounded(make_sample):
    """Even who holds the key cannot make a reader allocate without bound."""
    import zstandard

    from appliance.storage.sealed.reader import Opener

    sample = make_sample(frames=0, ended=False)
    opener = Opener(sealed.Header.parse(sample.writer.header), sample.key)
    packer = zstandard.ZstdCompressor(level=1)
    bomb = packer.compress(bytes(64 << 20))
    stream = packer.compressobj()
    unsized = stream.compress(bytes(1000)) + stream.flush()
    honest = packer.compress(bytes(1000))
    lying = honest.replace((1000 - 256).to_bytes(2, "little"), (10).to_bytes(2, "little"), 1)
    assert lying != honest
    for packed in (bomb, packer.compress(bytes(20 << 20)) * 2, unsized, lying, honest[:-1], honest + b"x"):
        with pytest.raises(ValueError, match="zstd"):
            opener._decompress(packed)
    assert opener._decompress(honest * 3) == bytes(3000)
