"""Telephone-events read and made, codes matched, numbers continued: without sockets or clocks."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.rtp.events import KEYS, LONGEST, EventMaker, EventReader
from appliance.media.rtp.keypad import PATIENCE_NS, KeyCodeError, Keypad, Outcome, check_codes
from appliance.media.rtp.streams import OutStream

MS = 1_000_000


def block(code: int, duration: int, end: bool = False, volume: int = 10) -> bytes:
    return struct.pack(">BBH", code, volume | (0x80 if end else 0), duration)


def fresh(reader: EventReader, timestamp: int, payload: bytes, at_ms: int, ssrc: int = 7) -> list[str]:
    return [
        event.key for event, new in reader.read(ssrc, timestamp, payload, at_ms * MS) if new and event.key
    ]


def test_a_key_is_read_once_whatever_is_lost_or_repeated() -> None:
    whole = [block(5, 160), block(5, 320), block(5, 480, True), block(5, 480, True), block(5, 480, True)]
    for kept in itertools.chain.from_iterable(itertools.combinations(whole, size) for size in range(1, 6)):
        reader = EventReader()
        keys = [key for at, payload in enumerate(kept) for key in fresh(reader, 1000, payload, 20 * at)]
        assert keys == ["5"]
        # The same key again, of which only the last packet arrives.
        assert fresh(reader, 3000, block(5, 480, True), 400) == ["5"]
        assert fresh(reader, 1000, block(5, 480, True), 401) == []  # a late repetition


def test_every_key_and_nothing_else_is_a_key() -> None:
    for code in range(256):
        found = fresh(EventReader(), 0, block(code, 160), 0)
        assert found == ([KEYS[code]] if code < 16 else [])
    assert fresh(EventReader(), 0, block(1, 160, volume=55), 0) == []
    assert fresh(EventReader(), 0, block(1, 160, volume=36), 0) == ["1"]
    assert fresh(EventReader(), 0, b"\x01\x0a\x00", 0) == []


def test_a_long_key_goes_on_in_a_new_segment() -> None:
    reader = EventReader()
    assert fresh(reader, 100, block(1, LONGEST), 0) == ["1"]
    assert fresh(reader, 100 + LONGEST, block(1, 160), 20) == []
    assert fresh(reader, 100 + 4 * LONGEST, block(1, 160), 8000) == ["1"]  # what was between was never seen
    found = reader.read(7, 100 + LONGEST, block(1, 320, True), 40 * MS)
    assert found[0][0].duration == LONGEST + 320


def test_a_sender_that_stamps_each_packet_anew_presses_one_key() -> None:
    reader = EventReader()
    keys = [key for at in range(5) for key in fresh(reader, 160 * at, block(3, 160 * (at + 1)), 20 * at)]
    assert keys == ["3"]
    assert fresh(reader, 2000, block(3, 160), 500) == ["3"]


def test_several_keys_in_one_packet() -> None:
    reader = EventReader()
    packet = block(1, 400, True) + block(2, 400, True) + block(3, 160)
    assert fresh(reader, 0, packet, 0) == ["1", "2", "3"]
    assert fresh(reader, 400, block(2, 400, True) + block(3, 320), 20) == []
    assert len(fresh(EventReader(), 0, block(1, 10, True) * 300, 0)) <= 8


@given(st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 2**32 - 1), st.integers(0, 3)), max_size=60))
def test_any_bytes_leave_a_reader_within_bounds(packets: list[tuple[bytes, int, int]]) -> None:
    reader = EventReader()
    for at, (payload, timestamp, ssrc) in enumerate(packets):
        reader.read(ssrc, timestamp, payload, at * MS)
        assert len(reader._events) <= 16


@given(st.sampled_from(KEYS), st.sampled_from([8000, 16000, 48000]), st.integers(0, 2000))
def test_a_key_made_is_the_key_read(key: str, rate: int, duration: int) -> None:
    maker, reader, keys, markers = EventMaker(key, rate, duration), EventReader(), [], []
    payloads = []
    while (made := maker.next()) is not None:
        payload, marker = made
        keys += fresh(reader, 5, payload, 20 * len(payloads))
        markers.append(marker)
        payloads.append(payload)
    assert keys == [key]
    assert markers == [True] + [False] * (maker.packets - 1)
    assert [payload[1] >> 7 for payload in payloads] == [0] * (len(payloads) - 3) + [1] * 3
    assert payloads[-1] == payloads[-2] == payloads[-3] and len(payloads) >= 4


# codes


def outcomes(pad: Keypad, keys: str) -> str:
    """Keys that were let through, and codes in brackets; all pressed in time."""
    found = []
    for at, key in enumerate(keys):
        found += pad.press(key, at * MS)
    return "".join(f"[{item.keys}]" if item.code else item.keys for item in found)


@pytest.mark.parametrize(
    "keys, expected",
    [
        ("*2", "[*2]"),
        ("*", ""),
        ("*5", "*5"),
        ("**2", "*[*2]"),
        ("5*2", "5[*2]"),
        ("*2*3*4", "[*2][*3][*4]"),
        ("1234", "1234"),
        ("*#*", "*#"),
    ],
)
def test_codes_are_taken_out_and_all_else_comes_back_in_order(keys: str, expected: str) -> None:
    assert outcomes(Keypad(["*2", "*3", "*4"]), keys) == expected


def test_where_one_code_begins_another_the_longer_wins_in_time() -> None:
    assert outcomes(Keypad(["*2", "*22"]), "*22") == "[*22]"
    assert outcomes(Keypad(["*2", "*22"]), "*25") == "[*2]5"
    pad = Keypad(["*2", "*22"])
    assert outcomes(pad, "*2") == ""
    assert pad.expire(MS + PATIENCE_NS - 1) == []
    assert pad.expire(MS + PATIENCE_NS) == [Outcome("*2", True)]
    assert outcomes(Keypad(["*12", "12"]), "*13") == "*13"
    assert outcomes(Keypad(["*123", "12"]), "*124") == "*[12]4"


def test_a_key_waits_three_seconds_for_the_next() -> None:
    pad = Keypad(["*2"])
    pad.press("*", 0)
    assert (pad.pending, pad.deadline_ns) == ("*", PATIENCE_NS)
    assert pad.press("2", PATIENCE_NS) == [Outcome("*", False), Outcome("2", False)]
    assert pad.deadline_ns is None
    pad.press("*", 0)
    assert pad.flush() == [Outcome("*", False)]


codes = st.lists(st.text(KEYS, min_size=1, max_size=8), max_size=8)


@given(codes, st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 4000)), max_size=60))
def test_no_key_is_lost_doubled_or_put_before_another(
    found: list[str], presses: list[tuple[str, int]]
) -> None:
    pad, now, out = Keypad(found), 0, []
    for key, ahead in presses:
        now += ahead * MS
        out += pad.press(key, now)
        assert any(code.startswith(pad.pending) for code in pad.codes) or not pad.pending
    out += pad.flush()
    assert "".join(item.keys for item in out) == "".join(key for key, _ in presses)
    assert all(item.keys in pad.codes if item.code else len(item.keys) == 1 for item in out)


@pytest.mark.parametrize("wrong", [[""], ["123456789"], ["*x"], ["*a"], [str(n) for n in range(9)]])
def test_codes_that_are_none(wrong: list[str]) -> None:
    with pytest.raises(KeyCodeError):
        check_codes(wrong)
    assert check_codes(["*2", "*2", "D"]) == ("*2", "D")


# numbers


@given(
    st.integers(0, 65535),
    st.lists(st.sampled_from(["pass", "swallow", "insert", "lose"]), min_size=1, max_size=200),
)
def test_a_receiver_sees_no_gap_but_of_what_was_lost(first: int, steps: list[str]) -> None:
    stream, sequence, out = OutStream(), first, []
    for step in steps:
        if step == "insert":
            if (number := stream.insert()) is not None:
                out.append(number)
            continue
        if step == "pass":
            out.append(stream.number(sequence & 0xFFFF))
        elif step == "swallow":
            stream.swallow(sequence & 0xFFFF)
        sequence += 1
    gaps = [(after - before & 0xFFFF) - 1 for before, after in itertools.pairwise(out)]
    assert all(0 <= gap < 1000 for gap in gaps)
    assert sum(gaps) <= steps.count("lose")


def test_late_packets_take_the_number_that_was_theirs() -> None:
    stream = OutStream()
    assert [stream.number(seq) for seq in (10, 11, 13)] == [10, 11, 13]
    stream.swallow(14)
    stream.swallow(15)
    assert stream.number(16) == 14
    assert stream.number(12) == 12
    assert stream.insert() == 15
    assert stream.number(17) == 16
    stream.swallow(9)  # too late to close its gap
    assert stream.number(18) == 17


def test_a_change_of_long_ago_does_not_come_back_after_half_a_turn() -> None:
    stream = OutStream()
    stream.number(0)
    stream.swallow(1)
    for sequence in range(2, 200_000, 700):
        assert stream.number(sequence & 0xFFFF) == sequence - 1 & 0xFFFF
        assert stream.number(sequence - 1 & 0xFFFF) == sequence - 2 & 0xFFFF if sequence > 2 else True
    other = OutStream()
    other.swallow(0)
    other.passed(40000)  # it went on without being asked
    assert [other.number(seq) for seq in (40001, 40000)] == [40000, 39999]


def test_a_source_that_jumps_does_not_let_a_steady_stream_jump() -> None:
    stream = OutStream(steady=True)
    assert [stream.number(seq) for seq in (65534, 65535, 0, 2, 1)] == [65534, 65535, 0, 2, 1]
    assert [stream.number(seq) for seq in (40000, 40001, 40000)] == [3, 4, 3]
