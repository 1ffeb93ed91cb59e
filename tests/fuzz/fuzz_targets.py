"""What is fuzzed: every parser that reads bytes from the network or from a disk.

`python fuzz_targets.py NAME [libFuzzer options]` runs one under coverage guidance. A target returns normally for
whatever bytes it gets; only errors that the parser promises are caught.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

SEEDS: dict[str, list[bytes]] = {
    "sip": [
        b'INVITE sip:r@example.org SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: "A" <sip:a@b>;tag=1\r\n'
        b"To: <sip:r@example.org>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:a@b>;+sip.src\r\n"
        b"Content-Length: 0\r\n\r\n",
        b"SIP/2.0 200 OK\r\nv: SIP/2.0/TCP a;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=1\r\nt: <sip:r@e>;tag=2\r\ni: 1\r\n"
        b"CSeq: 1 INVITE\r\nl: 3\r\n\r\nabc",
    ],
    "framing": [
        b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\nContent-Length: 2\r\n\r\nab\r\nBYE sip:a SIP/2.0\r\nl:0\r\n\r\n"
    ],
    "sdp": [
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0 101\r\n"
        b"a=rtpmap:0 PCMU/8000\r\na=fmtp:101 0-15\r\na=label:1\r\na=sendonly\r\n"
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n"
    ],
    "multipart": [
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: a/b\r\n\r\n<x/>\r\n--b-- \r\n"
    ],
    "metadata": [
        b'<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode><session session_id="s"/>'
        b'<participant participant_id="p"><nameID aor="sip:1@x"><name>N</name></nameID><send>m</send></participant>'
        b'<stream stream_id="m" session_id="s"><label>1</label></stream></recording>'
    ],
    "rtp": [
        bytes.fromhex("800012340000567812345678") + b"a" * 20,
        bytes.fromhex("b1e512340000567812345678000000000001000100000000"),
    ],
    "rtcp": [bytes.fromhex("80c80006123456780000000000000000000000000000000000000000")],
    "sealed": [],
    "sound": [
        b"RIFF\x64\x02\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x40\x02\0\0"
        + bytes(range(96)) * 6,
        b"fLaC\x80\0\0\x22\x10\0\x10\0\0\0\0\0\0\0\x01\xf4\0\xf0\0\0\x06\x40"
        + bytes(16)
        + b"\xff\xf8\xc4\x08\0\x12\0\0",
        b"OggS\0\x02"
        + bytes(8)
        + b"\x01\0\0\0"
        + bytes(8)
        + b"\x01\x13OpusHead\x01\x01\x38\x01\x80\xbb\0\0\0\0\0",
    ],
}


def _sip(data: bytes) -> None:
    from appliance.media.sip.errors import SipParseError
    from appliance.media.sip.message import parse_message

    try:
        message = parse_message(data)
    except SipParseError:
        return
    again = parse_message(message.serialize())
    assert again.body == message.body
    assert again.serialize() == message.serialize()


def _framing(data: bytes) -> None:
    from appliance.media.sip.errors import SipParseError
    from appliance.media.sip.framing import StreamFramer

    whole, split = StreamFramer(), StreamFramer()
    try:
        expected = list(whole.feed(data))
    except SipParseError:
        return
    found = []
    for place in range(0, len(data), 7):
        found += list(split.feed(data[place : place + 7]))
    assert found == expected


def _sdp(data: bytes) -> None:
    from appliance.media.sip import sdp
    from appliance.model import InvalidError

    try:
        found = sdp.parse_sdp(data)
    except InvalidError:
        return
    sdp.parse_sdp(found.serialize())


def _multipart(data: bytes) -> None:
    from appliance.media.sip.multipart import body_parts
    from appliance.media.sip.values import MediaType
    from appliance.model import InvalidError

    for boundary in ("b", '"b"', "b "):
        try:
            body_parts(MediaType.parse(f"multipart/mixed;boundary={boundary}"), data)
        except InvalidError:
            continue


def _metadata(data: bytes) -> None:
    from appliance.media.siprec.metadata import read_metadata

    read_metadata(data)


def _rtp(data: bytes) -> None:
    import numpy as np

    from appliance.media.rtp.parse import parse

    cells = np.zeros((2, 512), np.uint8)
    raw = np.frombuffer(data[:512], np.uint8)
    cells[0, : len(raw)] = raw
    found = parse(cells, np.array([len(raw), 600], np.uint32))
    if found.valid[0]:
        assert int(found.offset[0]) + int(found.size[0]) <= len(raw)
    assert not found.valid[1]


def _rtcp(data: bytes) -> None:
    from appliance.media.rtp.rtcp import parse_compound

    parse_compound(data)


def _sealed(data: bytes) -> None:
    from appliance.model import EarwitnessError
    from appliance.storage.sealed import SealedReader, inspect, verify

    verify(io.BytesIO(data))
    try:
        inspect(io.BytesIO(data))
        for _ in SealedReader(io.BytesIO(data), KEY):
            pass
    except EarwitnessError:
        return


def _sound(data: bytes) -> None:
    from appliance.media.audio.prompts import check
    from appliance.media.audio.sound import read_sound
    from appliance.model import InvalidError

    try:
        check(read_sound(data))
    except InvalidError:
        return


KEY = bytes(range(32))
TARGETS: dict[str, Callable[[bytes], None]] = {
    "sip": _sip,
    "framing": _framing,
    "sdp": _sdp,
    "multipart": _multipart,
    "metadata": _metadata,
    "rtp": _rtp,
    "rtcp": _rtcp,
    "sealed": _sealed,
    "sound": _sound,
}


def sealed_seed() -> bytes:
    """A small sealed file that opens with KEY."""
    from appliance.model import Mark, MarkKind, new_id
    from appliance.storage.sealed import SealedWriter, pack_evidence, pack_mark

    writer = SealedWriter(new_id(), new_id(), new_id(), 1, KEY)
    mark = pack_mark(Mark(kind=MarkKind.NOTE, at_ns=5))
    return (
        writer.header
        + writer.frame([mark])
        + writer.frame([pack_evidence("sip-invite", "message/sip", 6, b"x")])
    )


def main() -> None:
    import atheris

    name = sys.argv[1]
    with atheris.instrument_imports(include=["appliance.media", "appliance.storage.sealed"]):
        TARGETS[name](b"")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
