"""Bodies of several parts, as they are really sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.sip.headers import Headers
from appliance.media.sip.message import parse_message
from appliance.media.sip.multipart import (
    MAX_PARTS,
    MultipartError,
    Part,
    body_parts,
    build_multipart,
    message_parts,
    parse_multipart,
)
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.values import Disposition, MediaType
from appliance.model.errors import InvalidError

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "siprec-samples"

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=label:1\r\n"
XML = b"<recording xmlns='urn:ietf:params:xml:ns:recording:1'/>\r\n"
BODY = (
    b"--b1\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n"
    b"--b1\r\nContent-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\r\n"
    + XML
    + b"\r\n"
    b"--b1--\r\n"
)


def mixed(boundary: str) -> MediaType:
    return MediaType.parse(f"multipart/mixed;boundary={boundary}")


def pairs(content_type: MediaType, body: bytes) -> list[tuple[str, bytes]]:
    return [(part.content_type.essence, part.content) for part in body_parts(content_type, body)]


WHOLE = [("application/sdp", SDP), ("application/rs-metadata+xml", XML)]


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        pytest.param("b1", BODY, id="as it should be"),
        pytest.param('"b1"', BODY, id="quoted"),
        pytest.param('" b1 "', BODY, id="spaces inside of the quotes"),
        pytest.param(" b1 ", BODY, id="spaces around"),
        pytest.param('"b1', BODY, id="a quote never closed"),
        pytest.param("other", BODY, id="another boundary than in the body"),
        pytest.param('""', BODY, id="an empty boundary"),
        pytest.param(
            "b1", BODY.replace(b"--b1--\r\n", b"--b1--   \r\n"), id="spaces after the closing delimiter"
        ),
        pytest.param("b1", BODY.replace(b"--b1--\r\n", b"--b1--"), id="nothing after the closing delimiter"),
        pytest.param("b1", BODY.replace(b"--b1\r\n", b"--b1 \t\r\n"), id="spaces after delimiters"),
        pytest.param("b1", BODY.replace(b"\r\n--b1--\r\n", b""), id="closing delimiter missing"),
        pytest.param("b1", b"\r\n" + BODY, id="an empty line first"),
        pytest.param(
            "b1", b"This is a preamble.\r\n" + BODY + b"and an epilogue\r\n--b1\r\n", id="preamble, epilogue"
        ),
        pytest.param('"b1"', BODY.replace(b"--b1", b'--"b1"'), id="quotes in the body too"),
        pytest.param("b1", BODY.replace(b"Content-Type: ", b"content-type :"), id="header spelling"),
        pytest.param(
            "b1", BODY.replace(b"application/sdp", b"Application/SDP;charset=utf-8"), id="type spelling"
        ),
        pytest.param(
            "b1",
            BODY.replace(b"Content-Type:", b"X: y\r\n z\r\nno header\r\nContent-Type:"),
            id="more headers",
        ),
    ],
)
def test_tolerances(boundary: str, body: bytes) -> None:
    assert pairs(mixed(boundary), body) == WHOLE


def test_bare_line_ends() -> None:
    bare = BODY.replace(b"\r\n", b"\n")
    assert pairs(mixed("b1"), bare) == [(kind, content.replace(b"\r\n", b"\n")) for kind, content in WHOLE]


def test_either_order_and_extra_parts() -> None:
    gtd = Part(MediaType.parse("application/gtd"), b"IAM,\r\n", Disposition.parse("signal;handling=optional"))
    isup = Part(MediaType.parse("application/isup;version=itu-t92+"), bytes(range(256)))
    parts = [
        isup,
        Part(MediaType.parse("application/rs-metadata+xml"), XML, Disposition.parse("recording-session")),
        Part(MediaType.parse("application/sdp"), SDP),
        gtd,
    ]
    content_type, body = build_multipart(parts)
    found = body_parts(content_type, body)
    assert [part.content for part in found] == [part.content for part in parts]
    assert [part.disposition for part in found] == [part.disposition for part in parts]
    assert found[3].disposition is not None
    assert not found[3].disposition.required


def test_nested_parts_come_flat() -> None:
    inner_type, inner = build_multipart([Part(MediaType.parse("application/sdp"), SDP)], "alternative")
    outer_type, outer = build_multipart([Part(inner_type, inner), Part(MediaType.parse("text/plain"), b"x")])
    assert pairs(outer_type, outer) == [("application/sdp", SDP), ("text/plain", b"x")]


def test_parts_without_headers_are_text() -> None:
    body = b"--b\r\n\r\nhello\r\n--b\r\n\r\n\r\n--b\r\nContent-Type: a/b\r\n\r\n--b\r\nContent-Type: c/d\r\n--b--"
    assert pairs(mixed("b"), body) == [
        ("text/plain", b"hello"),
        ("text/plain", b""),
        ("a/b", b""),
        ("c/d", b""),
    ]


def test_a_delimiter_is_a_whole_line() -> None:
    body = b"--b\r\nContent-Type: a/b\r\n\r\n--bc\r\n --b x\r\n--b\r\nContent-Type: c/d\r\n\r\ny\r\n--b--"
    assert pairs(mixed("b"), body) == [("a/b", b"--bc\r\n --b x"), ("c/d", b"y")]


def test_broken_types_do_not_hide_other_parts() -> None:
    body = b"--b\r\nContent-Type: no\r\nContent-Disposition: ()\r\n\r\nx\r\n--b\r\nContent-Type: a/b\r\n\r\ny\r\n--b--"
    assert pairs(mixed("b"), body) == [("application/octet-stream", b"x"), ("a/b", b"y")]


def test_a_nested_body_that_is_none_is_kept_as_it_is() -> None:
    body = b"--b\r\nContent-Type: multipart/mixed;boundary=i\r\n\r\nno parts\r\n--b\r\nContent-Type: a/b\r\n\r\ny\r\n--b--"
    assert pairs(mixed("b"), body) == [("multipart/mixed", b"no parts"), ("a/b", b"y")]


def test_no_body_and_single_body() -> None:
    assert body_parts(None, b"") == []
    assert pairs(MediaType.parse("application/sdp"), SDP) == [("application/sdp", SDP)]


def test_parts_of_a_message() -> None:
    head = (
        b"INVITE sip:b@x.example SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@x.example>;tag=1\r\n"
        b"To: <sip:b@x.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
    )
    (sdp,) = message_parts(parse_message(head + b"\r\n" + SDP))
    assert sdp.content_type.essence == "application/sdp"
    for broken in (b"", b"Content-Type: \r\n", b"Content-Type: garbage\r\n"):
        found = message_parts(parse_message(head + broken + b"\r\n" + BODY))
        assert [part.content for part in found] == [SDP, XML]
    (plain,) = message_parts(
        parse_message(head + b"Content-Type: x/y\r\nContent-Disposition: render\r\n\r\nz")
    )
    assert plain.disposition == Disposition("render")
    found = message_parts(
        parse_message(head + b"Content-Type: multipart/mixed; boundary = b1\r\n\r\n" + BODY)
    )
    assert [part.content for part in found] == [SDP, XML]


def test_bounds() -> None:
    many = b"".join(b"--b\r\n\r\n%d\r\n" % i for i in range(MAX_PARTS + 1)) + b"--b--"
    with pytest.raises(MultipartError):
        body_parts(mixed("b"), many)
    content_type, body = MediaType.parse("text/plain"), b"x"
    for _ in range(6):
        content_type, body = build_multipart([Part(content_type, body)])
    with pytest.raises(MultipartError):
        body_parts(content_type, body)
    with pytest.raises(MultipartError):
        body_parts(mixed("b"), b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\nz\r\n--b--")
    with pytest.raises(MultipartError):
        body_parts(mixed("b"), b"there is nothing like a delimiter in it")


def test_what_is_built_holds_no_boundary_and_no_smuggled_header() -> None:
    part = Part(
        MediaType.parse("a/b"), b"--b\r\n", headers=Headers([("Content-ID", "<1>"), ("Content-Type", "x/y")])
    )
    content_type, body = build_multipart([part], boundary="b")
    assert content_type.params.get("boundary") != "b"
    (found,) = body_parts(content_type, body)
    assert (found.content_type.essence, found.content, found.headers.get("Content-ID")) == (
        "a/b",
        b"--b\r\n",
        "<1>",
    )
    with pytest.raises(InvalidError):
        build_multipart([part], boundary="a\r\nb")


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
def test_round_trip(contents: list[bytes]) -> None:
    content_type, body = build_multipart([Part(MediaType.parse("a/b"), content) for content in contents])
    assert [part.content for part in parse_multipart(content_type, body)] == contents


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the captured offers are not beside the checkout")
@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize(
    ("name", "boundary", "kinds"),
    [
        ("acme.txt", '"unique-boundary-1"', ["application/sdp", "application/rs-metadata+xml"]),
        (
            "cisco.txt",
            "uniqueBoundary",
            ["application/sdp", "application/rs-metadata+xml", "application/gtd"],
        ),
        ("sonus.txt", " sonus-content-delim ", ["application/sdp", "application/rs-metadata+xml"]),
    ],
)
def test_captured_offers(name: str, boundary: str, kinds: list[str], crlf: bool) -> None:
    body = (SAMPLES / name).read_bytes()
    if crlf:
        body = body.replace(b"\n", b"\r\n")
    parts = body_parts(mixed(boundary), body)
    assert [part.content_type.essence for part in parts] == kinds
    assert [media.label is not None for media in parse_sdp(parts[0].content).media] == [True, True]
    assert parts[1].content.rstrip().endswith(b"recording>")
    assert parts[1].disposition == Disposition("recording-session")
