"""Cutting streams: any pieces give the same messages, and damage closes the connection after what came before it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.sip.framing import FIRST_LINE_LIMIT, KEEP_ALIVE, FramingError, KeepAlive, StreamFramer
from appliance.media.sip.message import Limits, SipRequest, parse_message

HEAD = (
    b"INVITE sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKa\r\nFrom: <sip:a@x.example>;tag=1\r\n"
    b"To: <sip:b@x.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
)
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
FULL = HEAD + b"Content-Type: text/plain\r\nl :\r\n  12\r\n\r\nhello\r\n\r\nyou"
BARE = FULL.replace(b"\r\n", b"\n").replace(b"12", b"10")
RESPONSE = b"SIP/2.0 100 Trying\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKa\r\n\r\n"


def feed(framer: StreamFramer, pieces: list[bytes]) -> list[bytes | KeepAlive]:
    return [item for piece in pieces for item in framer.feed(piece)]


@given(
    st.lists(st.sampled_from([EMPTY, FULL, BARE, RESPONSE, b"\r\n", b"\n", b"\r\n\r\n"]), max_size=8),
    st.lists(st.integers(0, 4000), max_size=40),
)
def test_any_pieces_give_the_same(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    found = feed(StreamFramer(), pieces)
    assert found == feed(StreamFramer(), [stream])
    assert [item for item in found if isinstance(item, bytes)] == [part for part in parts if part.strip()]


def test_octet_by_octet() -> None:
    stream = FULL + b"\r\n\r\n" + EMPTY
    assert feed(StreamFramer(), [stream[i : i + 1] for i in range(len(stream))]) == [FULL, KEEP_ALIVE, EMPTY]


def test_keep_alives() -> None:
    framer = StreamFramer()
    assert feed(framer, [b"\r\n"]) == []
    assert feed(framer, [b"\r"]) == []
    assert feed(framer, [b"\n"]) == [KEEP_ALIVE]
    assert feed(framer, [b"\r\n" + EMPTY]) == [EMPTY]
    assert framer.pending == 0


def test_pending_tells_of_a_message_cut_off() -> None:
    framer = StreamFramer()
    assert feed(framer, [FULL[:-1]]) == []
    assert framer.pending == len(FULL) - 1


@pytest.mark.parametrize(
    ("damage", "status", "answerable"),
    [
        pytest.param(HEAD + b"Content-Length: -999\r\n\r\n", 400, True, id="negative length"),
        pytest.param(HEAD + b"Content-Length: 1\r\nl: 2\r\n\r\nab", 400, True, id="lengths contradict"),
        pytest.param(HEAD + b"Content-Length: 12abc\r\n\r\n", 400, True, id="length is no number"),
        pytest.param(HEAD + b"Content-Type: text/plain\r\n\r\nbody", 400, True, id="length is missing"),
        pytest.param(HEAD + b"Content-Length: 99999999\r\n\r\n", 513, True, id="body too long"),
        pytest.param(HEAD.replace(b"INVITE", b"ACK") + b"Content-Length: x\r\n\r\n", 400, False, id="an ACK"),
        pytest.param(HEAD + b"X: " + b"y" * 70_000, 513, False, id="headers without end"),
        pytest.param(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 513, False, id="headers too long"),
        pytest.param(b"GET / HTTP/1.1\r\n", 400, False, id="HTTP"),
        pytest.param(b"\x16\x03\x01" * FIRST_LINE_LIMIT, 400, False, id="TLS"),
    ],
)
def test_damage(damage: bytes, status: int, answerable: bool) -> None:
    framer = StreamFramer()
    stream = framer.feed(EMPTY + damage)
    assert next(stream) == EMPTY
    with pytest.raises(FramingError) as caught:
        list(stream)
    assert caught.value.status == status
    assert caught.value.can_respond is answerable
    assert framer.pending == 0
    with pytest.raises(FramingError):
        list(framer.feed(EMPTY))


def test_damage_is_seen_without_waiting_for_more() -> None:
    with pytest.raises(FramingError):
        feed(StreamFramer(), [b"x" * (FIRST_LINE_LIMIT + 1)])


def test_limits_are_the_callers() -> None:
    limits = Limits(header_section=len(EMPTY), body=5)
    assert feed(StreamFramer(limits), [EMPTY]) == [EMPTY]
    with pytest.raises(FramingError):
        feed(StreamFramer(limits), [EMPTY[:-2] + b"X: y\r\n\r\n"])


def test_what_is_cut_out_can_be_parsed() -> None:
    for item in feed(StreamFramer(), [FULL + BARE]):
        assert isinstance(item, bytes)
        message = parse_message(item)
        assert isinstance(message, SipRequest)
        assert message.body.replace(b"\r\n", b"\n") == b"hello\n\nyou"
