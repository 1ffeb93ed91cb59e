"""What is written is what is read, by our reader and by a stranger's."""

import hashlib
import io
import itertools

import independent_reader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Mark, MarkKind, id_text, new_id
from appliance.storage import sealed
from appliance.storage.sealed import blocks as sealed_blocks
from appliance.storage.sealed.tree import MerkleTree


def strangers_view(columns, start, end):
    """The packets of one group as the independent reader gives them."""
    at = np.concatenate([[0], np.cumsum(columns.size, dtype=np.int64)])
    payload = bytes(columns.payload)
    return [
        {
            "sequence": int(columns.sequence[i]),
            "timestamp": int(columns.timestamp[i]),
            "arrival_ns": int(columns.arrival_ns[i]) // 1000 * 1000,
            "ssrc": int(columns.ssrc[i]),
            "marker": bool(columns.payload_type[i] >= 128),
            "payload_type": int(columns.payload_type[i]) % 128,
            "payload": payload[at[i] : at[i + 1]],
        }
        for i in range(start, end)
    ]


def our_view(block):
    rows = zip(
        block.sequence.tolist(),
        block.timestamp.tolist(),
        block.arrival_ns.tolist(),
        block.ssrc.tolist(),
        block.marker.tolist(),
        block.payload_type.tolist(),
        block.packets(),
        strict=True,
    )
    names = ("sequence", "timestamp", "arrival_ns", "ssrc", "marker", "payload_type", "payload")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_both_readers_give_what_was_written(sample):
    data = sample.signed()
    theirs = independent_reader.read(data, sample.key, sample.public)
    assert id_text(theirs["header"]["recording"]) == sample.ids[0]
    assert theirs["whole"] and theirs["footer"]["device_key"] == sample.public
    reader = sealed.SealedReader(data, sample.key)
    ours = list(reader.frames())
    assert len(ours) == len(theirs["frames"]) == 4
    assert reader.findings == [] and reader.footer.whole and reader.end.media_packets == 30
    for number, columns in enumerate(sample.columns):
        media = [block for block in ours[number] if isinstance(block, sealed.PacketBlock)]
        foreign = [(name, body) for name, body in theirs["frames"][number] if name in ("MEDIA", "EVENT")]
        for index, (start, end) in enumerate(((0, 5), (5, 10), (10, 11))):
            wanted = strangers_view(columns, start, end)
            assert our_view(media[index]) == wanted == foreign[index][1]["packets"]
            assert media[index].track == (0, 1, 1)[index] == foreign[index][1]["track"]
            assert media[index].audio == (index < 2) == (foreign[index][0] == "MEDIA")
    assert ours[0][0].info == sample.info
    assert theirs["frames"][0][0][1]["recording_id"] == sample.ids[0]
    mark, evidence, rtcp = ours[1][3:]
    assert mark.mark.kind is MarkKind.PAUSED and mark.mark.data == {"n": 1}
    assert evidence == sealed.EvidenceBlock(
        "sip-invite", "application/sdp", sample.info.started_ns, b"v=0\r\n" * 20
    )
    assert rtcp.reports["ntp"].tolist() == [2**63 + 5, 7]
    foreign = dict(theirs["frames"][1])
    assert foreign["EVIDENCE"]["content"] == evidence.content
    assert foreign["RTCP"][0]["ntp"] == 2**63 + 5
    assert foreign["MARK"]["kind"] == "paused"
    report = sealed.verify(data, sample.public, sample.key)
    assert (report.intact, report.whole, report.signed, report.trusted, report.opened) == (True,) * 5
    assert report.root == theirs["root"] and report.media_packets == 30
    assert sealed.verify(data, sample.public).intact


def test_empty_recording(make_sample):
    sample = make_sample(frames=0)
    assert sealed.verify(sample.signed(), sample.public, sample.key).intact
    assert independent_reader.read(sample.signed(), sample.key)["whole"]
    assert [type(item) for item in sealed.SealedReader(sample.signed(), sample.key)] == [sealed.EndBlock]


def test_running_file_is_readable(make_sample):
    sample = make_sample(ended=False)
    reader = sealed.SealedReader(sample.unsigned, sample.key)
    assert len(list(reader.frames())) == 3
    assert [item.problem for item in reader.findings] == [sealed.Problem.CUT]
    assert not independent_reader.read(sample.unsigned, sample.key)["whole"]


def test_same_input_gives_same_bytes_and_fresh_writers_differ(make_sample):
    ids = [new_id() for _ in range(3)]
    fixed = [sealed.SealedWriter(*ids, 1, b"k" * 32, nonce_prefix=b"1234567").frame([b""]) for _ in range(2)]
    assert fixed[0] == fixed[1]
    headers = {sealed.SealedWriter(*ids, 1, b"k" * 32).header for _ in range(4)}
    assert len(headers) == 4


def test_no_content_in_clear(make_sample):
    sample = make_sample()
    text = b"Mrs Example of Ward Nine"
    writer = sample.__class__(frames=0, ended=False).writer
    data = writer.header + writer.frame([sealed.pack_evidence("x", "y", 0, text)])
    assert text not in data and b"evidence" not in data


def test_unknown_blocks_and_marks_are_kept_apart(make_sample):
    writer = make_sample(frames=0, ended=False)
    later = sealed_blocks.pack_block(99, b"of a later version")
    mark = sealed.pack_mark(b'{"kind": "teleported", "at_ns": 5}')
    known = sealed.pack_mark(Mark(kind=MarkKind.NOTE, at_ns=1))
    data = writer.writer.header + writer.writer.frame([later, mark, known]) + writer.writer.end(1)
    found = list(sealed.SealedReader(data, writer.key))
    assert found[0] == sealed.UnknownBlock(99, b"of a later version")
    assert found[1].type == sealed.BlockType.MARK
    assert isinstance(found[2], sealed.MarkBlock)
    assert sealed.verify(data, None, writer.key).intact


def test_writer_ends_once_and_bounds_what_it_takes(make_sample):
    sample = make_sample()
    with pytest.raises(sealed.SealedStateError):
        sample.writer.frame([b""])
    with pytest.raises(sealed.SealedStateError):
        sample.writer.end(1)
    writer = make_sample(frames=0, ended=False).writer
    with pytest.raises(sealed.SealedLimitError):
        writer.frame([bytes(33 << 20)])
    assert writer.frames == 0 and writer.offset == sealed.HEADER_BYTES
    with pytest.raises(sealed.SealedLimitError):
        sealed.pack_evidence("a", "b", 0, bytes((16 << 20) + 1))


def test_prepare_refuses_what_does_not_add_up(make_sample):
    columns = make_sample(frames=1).columns[0]
    with pytest.raises(sealed.SealedLimitError):
        sealed.prepare(columns, [0, 5], [0])
    with pytest.raises(sealed.SealedLimitError):
        sealed.prepare(columns, [0, 7, 5, 11], [0, 1, 2])
    columns.payload = bytes(columns.payload) + b"x"
    with pytest.raises(sealed.SealedLimitError):
        sealed.prepare(columns, [0, 11], [0])


def test_empty_groups_give_no_block(make_sample):
    columns = make_sample(frames=1).columns[0]
    prepared = sealed.prepare(columns, [0, 0, 11, 11], [4, 5, 6])
    assert [len(prepared.block(i)) for i in range(3)] == [0, 3, 0]
    empty = sealed.PacketColumns(
        *(np.zeros(0, kind) for kind in ("u2", "u4", "i8", "u1", "u4", "u2")), payload=b""
    )
    assert sealed.prepare(empty, [0, 0], [1]).block(0) == ()
    assert sealed.prepare(empty, [0], []).groups == 0


U64 = st.integers(0, 2**62)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 65535),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**30),
            st.integers(0, 255),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=40),
        ),
        max_size=40,
    ),
    st.data(),
)
def test_columns_round_trip(packets, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packets)), max_size=4)))
    starts = [0, *cuts, len(packets)]
    columns = sealed.PacketColumns(
        np.array([p[0] for p in packets], np.uint16),
        np.array([p[1] for p in packets], np.uint32),
        np.array([p[2] * 1000 for p in packets], np.int64),
        np.array([p[3] for p in packets], np.uint8),
        np.array([p[4] for p in packets], np.uint32),
        np.array([len(p[5]) for p in packets], np.uint16),
        b"".join(p[5] for p in packets),
    )
    prepared = sealed.prepare(columns, starts, list(range(len(starts) - 1)))
    for group, (start, end) in enumerate(itertools.pairwise(starts)):
        raw = b"".join(prepared.block(group))
        if start == end:
            assert raw == b""
            continue
        (block,) = sealed_blocks.parse_blocks(raw)
        assert our_view(block) == strangers_view(columns, start, end)
        assert independent_reader.read_packets(raw[8:])["packets"] == strangers_view(columns, start, end)


def test_clock_jump_saturates_and_the_next_block_is_right():
    times = np.array([0, 10**14, 10**14 + 10**6], np.int64)
    zeros = [np.zeros(3, kind) for kind in ("u2", "u4")]
    columns = sealed.PacketColumns(
        *zeros, times, np.zeros(3, "u1"), np.zeros(3, "u4"), np.zeros(3, "u2"), b""
    )
    prepared = sealed.prepare(columns, [0, 2, 3], [0, 0])
    one, two = (next(iter(sealed_blocks.parse_blocks(b"".join(prepared.block(i))))) for i in (0, 1))
    assert one.arrival_ns.tolist() == [0, (2**31 - 1) * 1000]
    assert two.arrival_ns.tolist() == [10**14 + 10**6]


def test_tree_is_that_of_rfc6962():
    # Roots of the test vectors of Certificate Transparency's own tests (leaves of RFC 6962 examples).
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    tree = MerkleTree()
    leaves = []
    assert tree.root() == hashlib.sha256(b"").digest()
    for count, text in enumerate(inputs, 1):
        leaf = hashlib.sha256(b"\0" + bytes.fromhex(text)).digest()
        leaves.append(leaf)
        tree.append(leaf)
        assert tree.root() == independent_reader.merkle(leaves)
        if count in roots:
            assert tree.root().hex() == roots[count]


def test_reader_takes_any_source(sample):
    class Trickle(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def read(self, size=-1):
            return self.data.read(min(size, 13))

    assert len(list(sealed.SealedReader(Trickle(sample.signed()), sample.key))) == 14
    assert sealed.verify(Trickle(sample.signed()), sample.public, sample.key).intact


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_many_blocks_are_joined_as_one(counts, seed):
    rng = np.random.default_rng(seed)
    total = sum(counts)
    size = rng.integers(0, 5, total).astype(np.uint16)
    columns = sealed.PacketColumns(
        rng.integers(0, 2**16, total).astype(np.uint16),
        rng.integers(0, 2**32, total).astype(np.uint32),
        rng.integers(0, 2**40, total) * 1000,
        rng.integers(0, 2**8, total).astype(np.uint8),
        rng.integers(0, 2**32, total).astype(np.uint32),
        size,
        rng.bytes(int(size.sum())),
    )
    starts = np.cumsum([0, *counts])
    prepared = sealed.prepare(columns, starts, [0] * len(counts))
    blocks = [
        block
        for group in range(len(counts))
        for block in sealed_blocks.parse_blocks(b"".join(prepared.block(group)))
    ]
    joined = sealed.join_packets(blocks)
    for name in ("sequence", "timestamp", "ssrc", "size"):
        assert np.array_equal(getattr(joined, name), getattr(columns, name))
        assert np.array_equal(getattr(joined, name), np.concatenate([getattr(b, name) for b in blocks]))
    # A difference beyond 35 minutes saturates within its block, and nowhere else.
    assert np.array_equal(joined.arrival_ns, np.concatenate([b.arrival_ns for b in blocks]))
    assert np.array_equal(joined.arrival_ns[starts[:-1]], columns.arrival_ns[starts[:-1]])
    assert np.array_equal(joined.payload_type, columns.payload_type & 127)
    assert np.array_equal(joined.marker, columns.payload_type > 127)
    assert len(sealed.join_packets([])) == 0
