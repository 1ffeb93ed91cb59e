"""After a power cut: the last whole frame is found without a key, and nothing more than the torn tail goes."""

import io
import random
import tracemalloc

import pytest

from appliance.storage import sealed
from appliance.storage.sealed import Problem


def test_recover_after_a_tear_at_every_length(make_sample):
    sample = make_sample(frames=3, packets=2)
    whole = sample.unsigned
    for length in range(128, len(whole) + 1):
        file = io.BytesIO(whole[:length])
        found, dropped = sealed.recover(file)
        keep = max(offset for offset in sample.offsets if offset <= length)
        assert file.getvalue() == whole[:keep]
        assert dropped == length - keep and found.content_bytes == keep and not found.findings
        assert found.ended == (keep == len(whole))
        signed = file.getvalue() + sealed.seal_footer(found, sample.device, 9, dropped_bytes=dropped)
        report = sealed.verify(signed, sample.public, sample.key)
        assert (
            report.intact
            and report.trusted
            and report.whole == found.ended
            and report.dropped_bytes == dropped
        )


@pytest.mark.parametrize(
    "junk", [bytes(5000), b"\xe7EWR" * 300, b"\x89EWF\r\n\x1a\n" + bytes(192), bytes(range(256)) * 40]
)
def test_junk_after_the_last_whole_frame(make_sample, junk):
    sample = make_sample(frames=2, ended=False)
    file = io.BytesIO(sample.unsigned + junk)
    found, dropped = sealed.recover(file)
    assert file.getvalue() == sample.unsigned and dropped == len(junk) and not found.ended


def test_torn_footer_is_written_again(sample):
    signed = sample.signed()
    for length in range(len(sample.unsigned) + 1, len(signed)):
        file = io.BytesIO(signed[:length])
        found, _ = sealed.recover(file)
        assert file.getvalue() == sample.unsigned and found.ended
    with pytest.raises(sealed.SealedStateError):
        sealed.seal_footer(sealed.inspect(io.BytesIO(signed)), sample.device, 1)


def test_sound_files_are_left_alone(sample):
    for data in (sample.unsigned, sample.signed()):
        file = io.BytesIO(data)
        assert sealed.recover(file)[1] == 0
        assert file.getvalue() == data


def test_damage_before_whole_frames_is_not_cut(make_sample):
    sample = make_sample(frames=4)
    for data in (sample.unsigned, sample.signed()):
        damaged = bytearray(data)
        damaged[sample.offsets[2] + 50] ^= 4
        file = io.BytesIO(bytes(damaged))
        with pytest.raises(sealed.SealedCorruptError) as caught:
            sealed.recover(file)
        assert caught.value.problem is Problem.FRAME_CORRUPT and caught.value.offset == sample.offsets[2]
        assert file.getvalue() == bytes(damaged)
        with pytest.raises(sealed.SealedCorruptError):
            sealed.seal_footer(sealed.inspect(io.BytesIO(sample.unsigned[:-3])), sample.device, 1)


def test_header_that_cannot_be_read(sample):
    for data in (b"", sample.unsigned[:127], b"x" * 500):
        with pytest.raises(sealed.SealedCorruptError):
            sealed.inspect(io.BytesIO(data))


def test_tearing_on_a_real_disk(make_sample, tmp_path):
    sample = make_sample(frames=2, ended=False)
    path = tmp_path / "a.part"
    path.write_bytes(sample.unsigned[:-1])
    with path.open("r+b") as file:
        found, dropped = sealed.recover(file)
        assert found.frames == 1 and dropped > 0
        file.seek(0, io.SEEK_END)
        file.write(sealed.seal_footer(found, sample.device, 1, dropped_bytes=dropped))
    report = sealed.verify(path.read_bytes(), sample.public, sample.key)
    assert report.intact and not report.whole


def test_search_through_hostile_beginnings_is_bounded(make_sample):
    """Many false frame heads, each naming a huge length, do not make the search quadratic."""
    from appliance.storage.sealed.layout import FRAME_SYNC, PREFIX

    head = PREFIX.pack(FRAME_SYNC, 1 << 20, 1, 1, bytes(16))
    sample = make_sample(frames=1, ended=False)
    hashed = []

    class Counting(io.BytesIO):
        def read(self, size=-1):
            hashed.append(size)
            return super().read(size)

    data = sample.unsigned + head * 60_000
    found = sealed.inspect(Counting(data))
    assert found.frames == 1 and found.file_bytes == len(data) and found.findings
    assert len(hashed) < 100


def test_reading_holds_one_frame_at_a_time(make_sample):
    """A file of many frames is walked, verified and read in the memory of a few."""
    sample = make_sample(frames=0, ended=False)
    writer = sample.writer
    block = sealed.pack_evidence("x", "y", 0, random.Random(1).randbytes(100_000))
    data = writer.header + b"".join(writer.frame([block]) for _ in range(150)) + writer.end(1)
    assert len(data) > 15_000_000
    for use in (
        sealed.inspect,
        lambda source: sealed.verify(source, None, sample.key),
        lambda source: [None for _ in sealed.SealedReader(source, sample.key)],
    ):
        source = io.BytesIO(data)
        tracemalloc.start()
        try:
            use(source)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3_000_000


def test_findings_do_not_grow_without_bound(make_sample):
    sample = make_sample(frames=1, packets=1, ended=False)
    data = sample.unsigned + sample.parts[1] * 3000
    assert len(sealed.inspect(io.BytesIO(data)).findings) == 1000
    assert len(sealed.verify(data, None, sample.key).findings) == 1000
    reader = sealed.SealedReader(data, sample.key, tolerant=True)
    assert len(list(reader.frames())) == 1 and len(reader.findings) == 1000
