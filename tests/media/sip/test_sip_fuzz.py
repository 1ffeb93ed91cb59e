"""Whatever comes, the parsers answer with a value or with their own error, in time that grows with the input only."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.media.sip import framing
from appliance.media.sip.errors import SipParseError
from appliance.media.sip.framing import KeepAlive, StreamFramer
from appliance.media.sip.grammar import Params, quote, split_list, unquote
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import DEFAULT_LIMITS, Limits, SipRequest, SipResponse, parse_message
from appliance.media.sip.multipart import body_parts, message_parts
from appliance.media.sip.offer_answer import LocalMedia, answer
from appliance.media.sip.reply import make_response, stamp_received
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.uri import SipUri, parse_uri, uri_equivalent
from appliance.media.sip.validate import check_request, check_response
from appliance.media.sip.values import MediaType, NameAddr, Via
from appliance.model.errors import InvalidError

SHARED = Path(__file__).parents[3] / ".." / "shared"

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0 101\r\na=label:1\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtcp:4001 IN IP4 192.0.2.1\r\na=sendonly\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20|1:4 WSH=64\r\n"
)
MULTIPART = (
    b"--b 1\r\nContent-Type: application/sdp\r\n\r\n"
    + SDP
    + b"\r\n--b 1\r\nContent-Type: application/rs-metadata+xml\r\n"
    b"Content-Disposition: recording-session\r\n\r\n<recording/>\r\n--b 1-- \r\n"
)
INVITE = (
    b"INVITE sip:+15551;phone-context=x@[2001:db8::1]:5060;transport=tcp?a=b SIP/2.0\r\n"
    b"v: SIP / 2.0 / UDP 192.0.2.2:5060 ;rport;branch=z9hG4bKx, SIP/2.0/TCP h.example.org\r\n"
    b'From: "A \\" B" <sip:a@x.example;lr>;tag=1;q="a;b"\r\nt :\r\n <sip:b@x.example>\r\nCall-ID: 1@x\r\nCSeq: 1 INVITE\r\n'
    b"Max-Forwards: 70\r\nContact: <sip:src@192.0.2.1;+sip.src>, *;src\r\nRequire: siprec\r\nx: 1800;refresher=uac\r\n"
    b"Replaces: a;to-tag=1;from-tag=2\r\nRAck: 1 1 INVITE\r\nAccept: a/b;q=1, */*\r\nReason: Q.850;cause=16\r\n"
    b"Retry-After: 1 (x);y\r\nRecord-Route: <sip:p;lr>\r\nRoute: <sip:p;lr>\r\n"
    b'Content-Type: multipart/mixed;boundary=" b 1 "\r\n\r\n' + MULTIPART
)
RESPONSE = (
    b"SIP/2.0 183 =\xd0\xbd\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx;received=::1\r\nFrom: sip:a@x;tag=1\r\n"
    b"To: tel:+1;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nRSeq: 1\r\nl: 0\r\n\r\n"
)
ACCESSORS = [
    name
    for name in dir(SipRequest)
    if not name.startswith("_") and isinstance(getattr(SipRequest, name), property)
]


def touch(message: SipRequest | SipResponse) -> None:
    """Everything that may be asked of a message gives a value or a `SipParseError`."""
    for name in ACCESSORS:
        try:
            getattr(message, name)
        except SipParseError:
            continue
    for contact in message.headers.get_all("Contact"):
        try:
            NameAddr.parse(contact).has_feature("sip.src")
        except SipParseError:
            continue
    if isinstance(message, SipRequest):
        stamp_received(message, "192.0.2.77", 5)
        make_response(message, 200, to_tag="t").serialize()
        check_request(message)
    else:
        check_response(message)
    try:
        parts = message_parts(message)
    except InvalidError:
        return
    for part in parts:
        try:
            offer = parse_sdp(part.content)
        except InvalidError:
            continue
        made = answer(offer, [LocalMedia(2 * i + 2) for i in range(len(offer.media))], address="192.0.2.7")
        assert len(parse_sdp(made.sdp.serialize()).media) == len(offer.media)


def try_message(data: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    try:
        message = parse_message(data, limits)
    except SipParseError as error:
        if error.can_respond:
            stamp_received(error.request, "192.0.2.77", 5)
            make_response(error.request, error.status, to_tag="t").serialize()
        return
    written = message.serialize()
    again = parse_message(written, limits)
    assert again.serialize() == written
    assert again.body == message.body
    touch(message)


def try_stream(data: bytes) -> None:
    whole: list[bytes | KeepAlive] = []
    split: list[bytes | KeepAlive] = []
    outcomes = []
    for found, pieces in ((whole, [data]), (split, [data[i : i + 5] for i in range(0, len(data), 5)])):
        framer = StreamFramer()
        try:
            for piece in pieces:
                for item in framer.feed(piece):
                    found.append(item)
            outcomes.append(framer.pending)
        except SipParseError as error:
            outcomes.append(error.status)
    assert whole == split
    assert outcomes[0] == outcomes[1]


def try_sdp(data: bytes) -> None:
    try:
        sdp = parse_sdp(data)
    except InvalidError:
        return
    assert parse_sdp(sdp.serialize()) == sdp
    for media in sdp.media:
        _ = (
            media.codecs,
            media.cryptos,
            media.rtcp,
            media.label,
            sdp.connection_of(media),
            sdp.direction_of(media),
        )
    answer(sdp, [LocalMedia(2)] * len(sdp.media), address="::1").sdp.serialize()


def try_multipart(data: bytes) -> None:
    for boundary in ('"b 1"', "other"):
        try:
            body_parts(MediaType.parse(f"multipart/mixed;boundary={boundary}"), data)
        except InvalidError:
            continue


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "message": (try_message, [INVITE, RESPONSE]),
    "stream": (try_stream, [RESPONSE + b"\r\n\r\n" + RESPONSE, INVITE]),
    "sdp": (try_sdp, [SDP]),
    "multipart": (try_multipart, [MULTIPART]),
}


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_octets(target: str, data: bytes) -> None:
    TARGETS[target][0](data)


PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b'"', b"<", b">", b"\\", b"=", b"@", b"?", b"/",
        b"%00", b"\0",
        b"SIP/2.0", b"INVITE ", b"sip:a@b", b"Via: SIP/2.0/UDP h", b"From: <sip:a@b>;tag=1", b"To: sip:b", b"Call-ID: 1",
        b"CSeq: 1 INVITE", b"Content-Length: 3", b"l:", b"Contact: *", b"v=0", b"m=audio 1 RTP/AVP 0", b"a=crypto:1 ",
        b"a=",
        b"--b 1", b"--", b"Content-Type: multipart/mixed;boundary=x", b"[::1]", b"\xff\xfe", b"\xc3\xa9", b"a", b"0",
        b"9999999999",
    ]
)  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(PIECES, max_size=40))
def test_any_pieces_of_grammar(target: str, pieces: list[bytes]) -> None:
    TARGETS[target][0](b"".join(pieces))


def mutations(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """The same damage on every run: octets changed, pieces cut, doubled, swapped in from elsewhere."""
    rng = random.Random(20061)
    special = b'\r\n\t "\\<>;,:=@?/%()[]{}\0\xff-+0129aZ'
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            place, length = rng.randrange(len(data) + 1), rng.randint(0, 30)
            kind = rng.randrange(5)
            if kind == 0 and place < len(data):
                data[place] = rng.choice(special)
            elif kind == 1:
                del data[place : place + length]
            elif kind == 2:
                data[place:place] = data[place : place + length]
            elif kind == 3:
                other = rng.choice(seeds)
                start = rng.randrange(len(other))
                data[place : place + length] = other[start : start + length]
            else:
                data[place:place] = bytes([rng.choice(special)]) * length
        yield bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_samples(target: str) -> None:
    attempt, seeds = TARGETS[target]
    for data in mutations(seeds, 1500):
        attempt(data)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the sample messages are not beside the checkout")
def test_damaged_shared_samples() -> None:
    messages = [path.read_bytes() for path in sorted(SHARED.glob("sip-torture/*.dat"))]
    for data in mutations(messages, 3000):
        try_message(data)
    bodies = [path.read_bytes() for path in sorted(SHARED.glob("siprec-samples/*.txt"))]
    for data in mutations(bodies, 500):
        try_multipart(data)
        try_sdp(data)


# -- what is written can be read ----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=40)
TOKEN = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
URI = st.builds(
    SipUri,
    st.sampled_from(["sip", "sips"]),
    st.sampled_from(["example.org", "192.0.2.1", "2001:db8::1", "h_1"]),
    st.none() | st.from_regex(r"[A-Za-z0-9\-_.!~*'()%&=+$,;?/]{1,20}", fullmatch=True),
    st.none(),
    st.none() | st.integers(0, 65535),
)


@given(TEXT)
def test_quoting(text: str) -> None:
    assert unquote(quote(text)) == text


@given(URI)
def test_uris(uri: SipUri) -> None:
    assert parse_uri(str(uri)) == uri
    assert uri_equivalent(uri, parse_uri(str(uri)))


@given(URI, TEXT.map(lambda text: text.strip()), st.dictionaries(TOKEN, TOKEN, max_size=4))
def test_addresses(uri: SipUri, name: str, params: dict[str, str]) -> None:
    address = NameAddr(uri, name, Params(tuple(params.items())))
    assert NameAddr.parse(str(address)) == address
    assert split_list(f"{address}, {address}") == [str(address)] * 2


@given(
    st.sampled_from(["UDP", "TCP", "TLS", "X"]),
    st.sampled_from(["h.example", "192.0.2.1", "::1"]),
    st.none() | st.integers(0, 65535),
    st.dictionaries(TOKEN, TOKEN, max_size=4),
)
def test_vias(transport: str, host: str, port: int | None, params: dict[str, str]) -> None:
    via = Via(transport, host, port, Params(tuple(params.items())))
    assert Via.parse(str(via)) == via


@given(st.lists(st.tuples(TOKEN, TEXT), max_size=10), st.binary(max_size=100), URI)
def test_messages(fields: list[tuple[str, str]], body: bytes, uri: SipUri) -> None:
    needed = [
        ("Via", "SIP/2.0/UDP h;branch=z9hG4bKx"),
        ("From", "<sip:a@x.example>;tag=1"),
        ("To", "<sip:b@x.example>"),
        ("Call-ID", "1"),
        ("CSeq", "1 X"),
    ]
    known = {"via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "content-length", "l"}
    others = [(f"X{name}" if name.lower() in known else name, value) for name, value in fields]
    message = SipRequest("X", uri, Headers([*needed, *others, ("Content-Length", str(len(body)))]), body)
    assert parse_message(message.serialize()) == message


# -- time grows with the input only -------------------------------------------------------------------------------------


def headed(fields: bytes) -> bytes:
    return INVITE.partition(b"\r\nMax-Forwards")[0] + b"\r\n" + fields + b"\r\n\r\n"


SDP_TYPE = b"Content-Type: application/sdp\r\n"
BLOWUPS: dict[str, Callable[[int], bytes]] = {
    "commas": lambda n: headed(b"Contact: " + b"," * n),
    "semicolons": lambda n: headed(b"Contact: <sip:a@b>" + b";" * n),
    "quotes": lambda n: headed(b"Contact: " + b'"' * n),
    "escapes": lambda n: headed(b'Contact: "' + b"\\" * n),
    "escaped quotes": lambda n: headed(b'Contact: "' + b'\\"a' * (n // 3)),
    "brackets": lambda n: headed(b"Contact: " + b"<" * n),
    "closing brackets": lambda n: headed(b"Contact: " + b">" * n),
    "spaces": lambda n: headed(b"Via: SIP/2.0/UDP" + b" " * n + b"x y"),
    "via spaces": lambda n: headed(b"Via: SIP" + b" /" * (n // 2)),
    "folds": lambda n: headed(b"Subject: x" + b"\r\n x" * (n // 4)),
    "empty folds": lambda n: headed(b"Subject: x" + b"\r\n \t" * (n // 4)),
    "digits": lambda n: headed(b"Expires: " + b"1" * n),
    "zeros": lambda n: headed(b"Expires: " + b"0" * n + b"x"),
    "parameters": lambda n: headed(b"Contact: <sip:a@b>" + b";a=b" * (n // 4)),
    "addresses": lambda n: headed(b"Route: " + b"<sip:a@b>," * (n // 10)),
    "percent": lambda n: headed(b"Contact: <sip:" + b"%41" * (n // 3) + b"@h>"),
    "colons": lambda n: headed(b"Contact: <sip:a@" + b":" * n + b">"),
    "headers": lambda n: headed(b"\r\n".join([b"a:b"] * (n // 5))),
    "delimiters": lambda n: headed(b"Content-Type: multipart/mixed;boundary=b\r\n") + b"--b\r\n" * n,
    "dashes": lambda n: headed(b"Content-Type: multipart/mixed;boundary=b\r\n") + b"\r\n--" * n,
    "delimiter spaces": lambda n: headed(b"Content-Type: multipart/mixed;boundary=b\r\n") + b"--b" + b" " * 4 * n + b"x",
    "spaced dashes": lambda n: headed(b"Content-Type: multipart/mixed\r\n") + b"\n" + b" " * 4 * n + b"-",
    "long first line": lambda n: headed(b"Content-Type: multipart/mixed\r\n") + b"\n--" + b" " * 4 * n + b"\rx",
    "sdp spaces": lambda n: headed(SDP_TYPE) + b"m=audio 1 RTP/AVP 0\na=crypto:1 a b" + b" " * n + b"\0",
    "sdp formats": lambda n: headed(SDP_TYPE) + b"m=audio 1 RTP/AVP" + b" 0" * n,
    "sdp rtpmaps": lambda n: headed(SDP_TYPE) + b"m=audio 1 RTP/AVP 0" + b"\na=rtpmap:0 x/1" * (n // 16),
}  # fmt: skip


GENEROUS = Limits(header_section=4_000_000, header_fields=1_000_000, body=4_000_000)


@pytest.mark.parametrize("name", BLOWUPS)
def test_no_blow_up(name: str) -> None:
    """Far more of one thing than the limits let in. Quadratic work would run into the suite's guard against hanging."""
    try_message(BLOWUPS[name](400_000), GENEROUS)


class CountingPattern:
    """A pattern that counts how many octets it was asked to look at."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.octets = 0

    def search(self, data: bytearray, start: int) -> re.Match[bytes] | None:
        self.octets += len(data) - start
        return self.pattern.search(data, start)


def test_a_stream_octet_by_octet_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = CountingPattern(framing._END)
    monkeypatch.setattr(framing, "_END", counting)
    data = headed(b"\r\n".join([b"Name: " + b"v" * 100] * 400)) + RESPONSE
    framer = StreamFramer()
    found = [item for i in range(len(data)) for item in framer.feed(data[i : i + 1])]
    assert found == [data.removesuffix(RESPONSE), RESPONSE]
    assert counting.octets < 4 * len(data)
