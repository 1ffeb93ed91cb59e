"""The yardstick of the inline figures: rtpengine relays a call and records it, and it is told so in proper bencode."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import captured
import pytest

from bench import inline_rtpengine
from bench.inline_rtpengine import decode, encode

pytestmark = [pytest.mark.system, pytest.mark.timeout(60)]


def test_bencode() -> None:
    order = {"command": "offer", "flags": ["a", "b"], "n": -3, "raw": b"\x00\xff", "inner": {"z": 1, "a": ""}}
    text = encode(order)
    assert text.startswith(b"d7:command5:offer5:flagsl1:a1:be5:innerd1:a0:1:zi1ee")
    assert decode(text) == {
        "command": b"offer",
        "flags": [b"a", b"b"],
        "inner": {"a": b"", "z": 1},
        "n": -3,
        "raw": b"\x00\xff",
    }


@pytest.mark.parametrize(
    "text", [b"", b"d1:a", b"i5", b"9:short", b"i1ei2e", b"l" * 30, b"-1:x", b"d1:ae", b"x"]
)
def test_what_is_no_bencode_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode(text)


@pytest.mark.parametrize("value", [True, 1.5, None])
def test_what_bencode_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_it_relays_and_records(tmp_path: Path) -> None:
    with (
        inline_rtpengine.running(tmp_path, "127.0.0.1") as engine,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
            each.settimeout(5)
        heard = (first.getsockname()[1], second.getsockname()[1])
        call = engine.bridge("a-call", "127.0.0.1", heard, record=True)
        for sequence in range(50):
            head = b"\x80\x00" + sequence.to_bytes(2, "big") + (160 * sequence).to_bytes(4, "big")
            first.sendto(head + b"\0\0\0\1" + bytes(160), ("127.0.0.1", call.ports[0]))
            second.sendto(head + b"\0\0\0\2" + bytes(160), ("127.0.0.1", call.ports[1]))
            assert second.recv(2048)[8:12] == b"\0\0\0\1" and first.recv(2048)[8:12] == b"\0\0\0\2"
            time.sleep(0.005)
        engine.end(call)
        (pcap,) = tmp_path.rglob("*.pcap")
        assert len(captured.fields(pcap, "udp", ["udp.length"])) == 100
        with pytest.raises(RuntimeError, match="refuses answer"):
            engine.ask(
                command="answer", sdp="v=0", **{"call-id": "unheard-of", "from-tag": "a", "to-tag": "b"}
            )
