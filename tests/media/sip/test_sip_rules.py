"""The rules of reading SIP, by messages of our own: what is taken, what is refused and how, what is dropped."""

from __future__ import annotations

import pytest

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.headers import Headers
from appliance.media.sip.message import Limits, SipRequest, SipResponse, is_keepalive, parse_message
from appliance.media.sip.reply import make_response, stamp_received
from appliance.media.sip.uri import OpaqueUri, SipUri, TelUri, parse_uri, uri_equivalent
from appliance.media.sip.validate import Policy, Problem, check_request, check_response
from appliance.media.sip.values import CSeq, DialogRef, MediaType, NameAddr, RAck, SessionExpires, Via
from appliance.model.errors import InvalidError

BASE = {
    "Via": "SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bKabc",
    "From": '"A" <sip:a@example.org>;tag=1',
    "To": "<sip:b@example.org>",
    "Call-ID": "c1@example.org",
    "CSeq": "7 OPTIONS",
    "Max-Forwards": "70",
}


def raw(
    line: str = "OPTIONS sip:b@example.org SIP/2.0",
    body: bytes = b"",
    end: str = "\r\n",
    extra: tuple[str, ...] = (),
    **changes: str | None,
) -> bytes:
    """A message; `Call_ID=None` leaves a header out, `extra` are further lines."""
    fields: dict[str, str | None] = {
        **BASE,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [
        line,
        *(f"{name}: {value}" for name, value in fields.items() if value is not None),
        *extra,
        "",
        "",
    ]
    return end.join(lines).encode() + body


def read(data: bytes) -> SipRequest:
    message = parse_message(data)
    assert isinstance(message, SipRequest)
    return message


def refused(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as caught:
        parse_message(data)
    return caught.value


INVITE = {"line": "INVITE sip:b@example.org SIP/2.0", "CSeq": "7 INVITE"}


# -- what cannot be read (RFC 3261, section 25; RFC 4475, 3.1.2 and 3.3) -----------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(raw(From=None), 400, id="From is missing"),
        pytest.param(raw(To=None), 400, id="To is missing"),
        pytest.param(raw(Call_ID=None), 400, id="Call-ID is missing"),
        pytest.param(raw(CSeq=None), 400, id="CSeq is missing"),
        pytest.param(raw(extra=("From: <sip:x@example.org>;tag=2",)), 400, id="From twice"),
        pytest.param(raw(extra=("t: <sip:x@example.org>",)), 400, id="To twice, once compact"),
        pytest.param(raw(extra=("i: other",)), 400, id="Call-ID twice"),
        pytest.param(raw(extra=("CSeq: 8 OPTIONS",)), 400, id="CSeq twice"),
        pytest.param(raw(CSeq="7 INVITE"), 400, id="CSeq of another method"),
        pytest.param(raw(CSeq="4294967296 OPTIONS"), 400, id="CSeq too large"),
        pytest.param(raw(CSeq="-1 OPTIONS"), 400, id="CSeq negative"),
        pytest.param(raw(CSeq="7OPTIONS"), 400, id="CSeq without space"),
        pytest.param(raw(To='"never closed <sip:b@example.org>'), 400, id="quote never closed"),
        pytest.param(raw(To="<sip:b@example.org"), 400, id="bracket never closed"),
        pytest.param(raw(To="< sip:b@example.org >"), 400, id="spaces inside of brackets"),
        pytest.param(raw(From="B, A <sip:b@example.org>;tag=3"), 400, id="comma in an unquoted name"),
        pytest.param(raw(From="sip:b@example.org?Route=x;tag=3"), 400, id="URI headers without brackets"),
        pytest.param(raw(From="<sip:b@example.org> tag=3"), 400, id="stray text after the address"),
        pytest.param(raw(To="b@example.org"), 400, id="no scheme"),
        pytest.param(raw(Via="SIP/2.0/UDP 192.0.2.9;;,;,,"), 400, id="empty Via elements"),
        pytest.param(
            raw(line="OPTIONS  sip:b@example.org SIP/2.0"), 400, id="two spaces in the request line"
        ),
        pytest.param(raw(line="OPTIONS sip:b@example.org SIP/2.0 "), 400, id="space after the request line"),
        pytest.param(raw(line="OPTIONS sip:b@example.org; lr SIP/2.0"), 400, id="space in the Request-URI"),
        pytest.param(
            raw(line="OPTIONS <sip:b@example.org> SIP/2.0"), 400, id="brackets around the Request-URI"
        ),
        pytest.param(
            raw(line="OPTIONS sip:2001:db8::10 SIP/2.0"), 400, id="IPv6 without brackets (RFC 5118, 4.2)"
        ),
        pytest.param(raw(line="OPTIONS sip:b@exa_mple.org:77777 SIP/2.0"), 400, id="port too large"),
        pytest.param(raw(line="OPTIONS sip: SIP/2.0"), 400, id="Request-URI of a scheme alone"),
        pytest.param(
            raw(line="OPT{IONS sip:b@example.org SIP/2.0", CSeq="7 OPT{IONS"), 400, id="method is no token"
        ),
        pytest.param(raw(line="OPTIONS sip:b@example.org SIP/3.0"), 505, id="another version"),
        pytest.param(raw(line="OPTIONS sip:b@example.org"), 400, id="no version"),
        pytest.param(raw(extra=("this line is no header",)), 400, id="a line without colon"),
        pytest.param(raw(extra=("bad name: x",)), 400, id="a space inside of a header name"),
        pytest.param(raw(extra=("X-A: one\rtwo",)), 400, id="a bare carriage return"),
        pytest.param(raw(extra=("Content-Length: -1",)), 400, id="negative length"),
        pytest.param(raw(extra=("Content-Length: ten",)), 400, id="length in words"),
        pytest.param(raw(extra=("Content-Length: 1", "l: 2"), body=b"ab"), 400, id="two lengths"),
        pytest.param(raw(extra=("Content-Length: 9999",), body=b"short"), 400, id="body too short"),
        pytest.param(raw(extra=("Via: " + ", ".join(["SIP/2.0/UDP h"] * 256),)), 483, id="too many hops"),
        pytest.param(raw(extra=tuple("X: y" for _ in range(600))), 513, id="too many headers"),
        pytest.param(raw(extra=("Content-Length: 1048577",), body=b"x" * 1048577), 513, id="body too long"),
    ],
)
def test_refused_and_answered(data: bytes, status: int) -> None:
    error = refused(data)
    assert error.status == status
    assert error.can_respond
    answer = make_response(error.request, error.status, to_tag="ours")
    assert answer.serialize().startswith(b"SIP/2.0 %d " % status)
    assert error.request.top_via.host == "192.0.2.9"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw(Via=None), id="no Via: nowhere to send an answer"),
        pytest.param(
            raw(Via="SIP/2.0/UDP 192.0.2.9:99999;branch=z9hG4bKa"), id="no Via port that there can be"
        ),
        pytest.param(raw(Via="SIP/2.0 192.0.2.9"), id="no Via that can be read"),
        pytest.param(
            raw(line="ACK sip:b@example.org SIP/2.0", CSeq="7 ACK", From=None), id="an ACK is never answered"
        ),
        pytest.param(
            raw(line="ACK sip:b@example.org SIP/9.0", CSeq="7 ACK"), id="not even one of another version"
        ),
        pytest.param(raw(line="SIP/2.0 4294967301 no"), id="status too large"),
        pytest.param(raw(line="SIP/2.0 99 no"), id="status too small"),
        pytest.param(raw(line="SIP/2.0 700 no"), id="status above 699"),
        pytest.param(raw(line="SIP/1.0 200 OK"), id="response of another version"),
        pytest.param(
            raw(line="SIP/2.0 200 OK", CSeq="9292394834772304023312 OPTIONS"), id="response with huge CSeq"
        ),
        pytest.param(raw(line="SIP/2.0 200 OK", extra=("Content-Length: 5",)), id="response cut off"),
        pytest.param(raw(line="SIP/2.0 200 a\rb"), id="carriage return in the reason"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n\r\n", id="keep-alive"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), id="TLS"),
    ],
)
def test_refused_and_dropped(data: bytes) -> None:
    error = refused(data)
    assert not error.can_respond
    assert Problem.from_error(error).drop


def test_errors_never_repeat_what_was_sent() -> None:
    secret = "Zephyrine"
    for data in (
        raw(From=f'"{secret} <sip:{secret}@x>'),
        raw(To=f"{secret}@x"),
        raw(line=f"OPTIONS {secret} SIP/2.0"),
    ):
        error = refused(data)
        assert secret not in f"{error} {error!r} {error.data} {error.request!r}"


# -- what is let pass ---------------------------------------------------------------------------------------------------


def test_line_ends_may_be_bare() -> None:
    body = b"v=0\ns=-\n"
    message = read(raw(end="\n", body=body, extra=(f"Content-Length: {len(body)}",)))
    assert message.body == body
    assert message.cseq == CSeq(7, "OPTIONS")


@pytest.mark.parametrize("body", [b"v=0\r\ns=-\r\nt=0 0\r\n", b"v=0\ns=-\nt=0 0\n"])
def test_length_counted_with_the_other_line_end(body: bytes) -> None:
    other = body.replace(b"\r\n", b"\n") if b"\r" in body else body.replace(b"\n", b"\r\n")
    assert read(raw(body=body, extra=(f"Content-Length: {len(other)}",))).body == body


def test_what_follows_the_body_in_a_datagram_is_ignored() -> None:
    second = raw()
    assert read(raw(body=b"abc\r\n" + second, extra=("Content-Length: 3",))).body == b"abc"
    assert read(raw(body=second, extra=("Content-Length: 0",))).body == b""


def test_without_length_the_body_is_the_rest() -> None:
    assert read(raw(body=b"the rest")).body == b"the rest"


def test_equal_lengths_twice_are_one() -> None:
    message = read(raw(body=b"ab", extra=("Content-Length: 2", "l: 2")))
    assert message.body == b"ab"
    assert message.serialize().lower().count(b"content-length") + message.serialize().count(b"\nl:") == 1


def test_folding_and_spaces_before_colons() -> None:
    data = raw(
        extra=("Subject : one", "  two", "\tthree", "X-Empty:", "s:"),
        To="\r\n <sip:b@example.org>\r\n ;tag = 9",
    )
    message = read(data)
    assert message.headers.get_all("Subject") == ["one two three", ""]
    assert message.headers.get("x-empty") == ""
    assert message.to.tag == "9"


def test_empty_lines_before_and_none_at_the_end() -> None:
    assert read(b"\r\n\r\n" + raw()).method == "OPTIONS"
    assert read(raw().removesuffix(b"\r\n\r\n")).call_id == "c1@example.org"


def test_a_first_line_that_is_folded_is_no_header() -> None:
    assert refused(raw(line="OPTIONS sip:b@example.org SIP/2.0\r\n folded")).can_respond


def test_bytes_that_are_no_utf8_come_out_as_they_came() -> None:
    data = raw(extra=("X-Latin: M\xfcller",)).replace("ü".encode(), b"\xfc")
    assert b"X-Latin: M\xfcller\r\n" in read(data).serialize()


def test_unquoted_names_of_the_real_world() -> None:
    assert read(raw(From="Praxis Dr. Müller (Empfang) <sip:a@example.org>;tag=1")).from_.display_name == (
        "Praxis Dr. Müller (Empfang)"
    )


def test_stray_semicolons() -> None:
    message = read(
        raw(**INVITE, Contact='"Joe" <sip:joe@example.org>;;;;', From="<sip:a@example.org>;;tag=1;")
    )
    assert message.from_.tag == "1"
    assert message.contact is not None
    assert message.contact.display_name == "Joe"
    assert check_request(message) is None


def test_optional_headers_that_are_broken_read_as_absent() -> None:
    message = read(
        raw(
            Max_Forwards="300",
            Expires="1" + "0" * 100,
            Session_Expires="soon",
            Min_SE="x",
            RSeq="-1",
            RAck="1",
            Replaces="id",
            Supported='"',
            Reason='"',
            Content_Disposition="()",
            Retry_After="9" * 5000,
            Date="Fri, 01 Jan 2010 16:00:00 EST",
        )
    )
    for name in (
        "max_forwards",
        "expires",
        "session_expires",
        "min_se",
        "rseq",
        "rack",
        "replaces",
        "retry_after",
    ):
        assert getattr(message, name) is None, name
    assert message.content_disposition is None
    assert message.supported == message.reasons == ()
    assert check_request(message) is None


@pytest.mark.parametrize("name", ["headers", "body", "method", "items", "get", "__class__", "cache", "uri"])
def test_parameters_named_like_attributes(name: str) -> None:
    message = read(raw(From=f"<sip:a@example.org;{name}=1>;{name}=2;tag=1", extra=(f"{name}: 3",)))
    assert message.from_.params.get(name) == "2"
    assert isinstance(message.from_.uri, SipUri)
    assert message.from_.uri.params.get(name) == "1"
    assert message.headers.get(name) == "3"
    assert parse_message(message.serialize()) == read(raw(From=f"<sip:a@example.org;{name}=1>;{name}=2;tag=1",
        extra=(f"{name}: 3", "Content-Length: 0")))  # fmt: skip


@pytest.mark.parametrize(
    ("contact", "found"),
    [
        ("<sip:src@192.0.2.1>;+sip.src", True),
        ("<sip:src@192.0.2.1>;src", True),
        ("<sip:src@192.0.2.1;+sip.src>", True),
        ("<sip:src@192.0.2.1;src>", True),
        ('<sip:src@192.0.2.1>;+SIP.SRC="TRUE"', True),
        ('<sip:src@192.0.2.1>;+sip.src="FALSE"', False),
        ("<sip:src@192.0.2.1>;+sip.srs", False),
        ("sip:src@192.0.2.1;+sip.src", True),
        ("<tel:+15551>;+sip.src", True),
    ],
)
def test_recording_feature_tag_wherever_it_is_written(contact: str, found: bool) -> None:
    message = read(raw(**INVITE, Contact=contact))
    assert message.contact is not None
    assert message.contact.has_feature("sip.src") is found


# -- typed values -------------------------------------------------------------------------------------------------------


def test_extension_headers() -> None:
    message = read(
        raw(
            x="1800;refresher=UAC",
            Min_SE="90;x=y",
            Require="100rel, Timer",
            k="replaces,timer",
            RSeq="42",
            RAck="776656 1 INVITE",
            Replaces="12adf2f34456gs5;to-tag=12345;from-tag=54321;early-only",
            Join="a@b;from-tag=1;to-tag=2",
            Allow="INVITE, ACK",
            Reason='Q.850;cause=16;text="Normal, clearing", SIP;cause=200',
            Retry_After="120 (busy);duration=3600",
            Content_Disposition="session;handling=optional",
            c='Multipart/Mixed; Boundary="a b"',
        )
    )
    assert message.session_expires == SessionExpires(1800, "uac")
    assert message.min_se == 90
    assert message.require == ("100rel", "timer")
    assert message.supported == ("replaces", "timer")
    assert message.rseq == 42
    assert message.rack == RAck(776656, CSeq(1, "INVITE"))
    assert message.replaces == DialogRef("12adf2f34456gs5", "12345", "54321", True)
    assert message.join == DialogRef("a@b", "2", "1")
    assert message.allow == ("INVITE", "ACK")
    assert [(protocol, params.get("cause")) for protocol, params in message.reasons] == [
        ("Q.850", "16"),
        ("SIP", "200"),
    ]
    assert message.reasons[0][1].get("text") == "Normal, clearing"
    assert message.retry_after == 120
    assert message.content_disposition is not None
    assert not message.content_disposition.required
    assert message.content_type is not None
    assert (message.content_type.essence, message.content_type.params.get("boundary")) == (
        "multipart/mixed",
        "a b",
    )


def test_via_forms() -> None:
    via = Via.parse("SIP/2.0/tls [2001:db8::9:1]:5061;received=[2001:db8::9:255];rport=99;branch=z9hG4bKx")
    assert (via.transport, via.host, via.port) == ("TLS", "2001:db8::9:1", 5061)
    assert (via.received, via.rport, via.branch) == ("2001:db8::9:255", 99, "z9hG4bKx")
    assert via.sent_by == "[2001:db8::9:1]:5061"
    assert str(via) == "SIP/2.0/TLS [2001:db8::9:1]:5061;received=[2001:db8::9:255];rport=99;branch=z9hG4bKx"
    assert Via.parse("SIP/2.0/UDP h.example.org : 5060 ;rport").wants_rport


def test_name_addr_is_quoted_where_it_must_be() -> None:
    address = NameAddr(parse_uri("sip:a@example.org"), 'Bell, "A" \\')
    assert str(address) == '"Bell, \\"A\\" \\\\" <sip:a@example.org>'
    assert NameAddr.parse(str(address)) == address
    assert str(address.with_tag("9")).endswith(";tag=9")


def test_lists_are_split_outside_of_quotes_and_brackets() -> None:
    headers = Headers(
        [("Contact", '"a, b" <sip:a@x.example;p=1,2>;q=1, <sip:c@x.example>'), ("m", "sip:d@x.example")]
    )
    assert headers.get_list("Contact") == [
        '"a, b" <sip:a@x.example;p=1,2>;q=1',
        "<sip:c@x.example>",
        "sip:d@x.example",
    ]


def test_headers_change_in_place_and_typed_values_follow() -> None:
    message = read(raw(extra=("Route: <sip:r1.example.org;lr>",)))
    assert len(message.via) == 1
    message.headers.add_first("Via", "SIP/2.0/TCP p.example.org;branch=z9hG4bKp")
    assert [via.transport for via in message.via] == ["TCP", "UDP"]
    message.headers.set("v", "SIP/2.0/TLS q.example.org;branch=z9hG4bKq")
    assert [via.transport for via in message.via] == ["TLS"]
    message.headers.replace("Route", ["<sip:a.example.org;lr>", "<sip:b.example.org;lr>"])
    assert [str(route.uri) for route in message.route] == ["sip:a.example.org;lr", "sip:b.example.org;lr"]
    message.headers.remove("route")
    assert message.route == ()
    assert "Route" not in message.headers
    other = message.copy()
    other.headers.set("X", "1")
    assert "X" not in message.headers


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nVia: evil"), ("X", "a\nb"), ("X Y", "a"), ("X:", "a"), ("", "a")]
)
def test_nothing_can_smuggle_a_header_in(name: str, value: str) -> None:
    with pytest.raises(InvalidError):
        Headers().add(name, value)


# -- URIs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@atlanta.com",
        "sip:alice:secretword@atlanta.com;transport=tcp",
        "sips:1212@gateway.com?subject=project%20x&priority=urgent",
        "sip:+1-212-555-1212:1234@gateway.com;user=phone",
        "sip:alice;day=tuesday@atlanta.com",
        "sip:[2001:db8::10]:5070;lr",
        "sip:@h.example.org",
        "sip:h_1.example.org;a=;b",
        "tel:+1-201-555-0123;ext=7",
        "urn:service:sos",
        "Http://www.example.com/a;b?c",
    ],
)
def test_uris_are_kept_as_written(text: str) -> None:
    assert str(parse_uri(text)) == text


def test_uri_parts() -> None:
    uri = parse_uri("SIP:+15551%3b;phone-context=x@[2001:db8::1]:5060;Transport=TCP;lr?a=%201")
    assert isinstance(uri, SipUri)
    assert (uri.scheme, uri.host, uri.port, uri.transport, uri.loose) == (
        "sip",
        "2001:db8::1",
        5060,
        "tcp",
        True,
    )
    assert uri.subscriber == "+15551;"
    assert uri.user_params.get("phone-context") == "x"
    assert uri.header_fields == (("a", " 1"),)
    tel = parse_uri("tel:+1-(201).555-0123")
    assert isinstance(tel, TelUri)
    assert tel.subscriber == "+12015550123"
    assert parse_uri("isbn:298") == OpaqueUri("isbn", "298")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [  # the examples of RFC 3261, section 19.1.4
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", True),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", True),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on", True),
        ("sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
         "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com", True),
        ("sip:alice@atlanta.com?subject=project%20x&priority=urgent",
         "sip:alice@atlanta.com?priority=urgent&subject=project%20x", True),
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", False),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", False),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", False),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", False),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", False),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", False),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=off", True),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off", False),
        ("sip:a%3bb@x.example", "sip:a;b@x.example", False),
        ("sip:a@x.example;maddr=h", "sip:a@x.example", False),
        ("sip:a@x.example", "sips:a@x.example", False),
        ("tel:+1-201-555", "tel:+1201555", True),
        ("tel:+1;ext=1", "tel:+1", False),
        ("urn:a", "urn:a", True),
        ("urn:a", "sip:a", False),
    ],
)  # fmt: skip
def test_equivalence(one: str, other: str, same: bool) -> None:
    assert uri_equivalent(parse_uri(one), parse_uri(other)) is same
    assert uri_equivalent(parse_uri(other), parse_uri(one)) is same


# -- judgement (RFC 3261, section 8.2) ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "policy", "status", "header"),
    [
        (raw(), Policy(methods=("INVITE", "ACK")), 405, ("Allow", "INVITE, ACK")),
        (raw(line="OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0"), Policy(), 416, None),
        (raw(line="OPTIONS isbn:12 SIP/2.0", Require="x"), Policy(), 416, None),
        (raw(Require="siprec, Unknown"), Policy(extensions=frozenset({"siprec"})), 420, ("Unsupported", "Unknown")),
        (raw(**INVITE, body=b"x", Content_Type="application/foo"), Policy(content_types=("application/sdp",)), 415,
         ("Accept", "application/sdp")),
        (raw(**INVITE, body=b"x", Content_Type="application/sdp", Content_Encoding="gzip"), Policy(), 415,
         ("Accept-Encoding", "identity")),
        (raw(**INVITE, Accept="text/nobodyKnowsThis"), Policy(), 406,
         ("Warning", '399 earwitness "No format we have is accepted"')),
        (raw(**INVITE, Contact="sip:a@example.org?Route=%3Csip:x%3E"), Policy(), 400, None),
        (raw(**INVITE, Record_Route="<sip:p.example.org"), Policy(), 400, None),
        (raw(**INVITE, Contact="<sip:a@x.example>," * 257), Policy(), 400, None),
        (raw(line="INVITE sip:b@example.org?Route=%3Csip:x%3E SIP/2.0", CSeq="1 INVITE"), Policy(), 400, None),
        (raw(line="REGISTER sip:example.org SIP/2.0", CSeq="1 REGISTER", To="isbn:298"), Policy(), 400, None),
        (raw(Max_Forwards="0"), Policy(hops_needed=True), 483, None),
    ],
)  # fmt: skip
def test_problems(data: bytes, policy: Policy, status: int, header: tuple[str, str] | None) -> None:
    problem = check_request(read(data), policy)
    assert problem is not None
    assert problem.status == status
    assert header is None or header in problem.headers


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(raw(Max_Forwards="0"), id="no hops left, but it is for us"),
        pytest.param(raw(Max_Forwards=None), id="RFC 2543 knows no Max-Forwards"),
        pytest.param(raw(Proxy_Require="noProxiesSupportThis"), id="Proxy-Require is for proxies"),
        pytest.param(raw(line="CANCEL sip:b@x.example SIP/2.0", CSeq="7 CANCEL", Require="x"), id="CANCEL"),
        pytest.param(raw(line="ACK sip:b@x.example SIP/2.0", CSeq="7 ACK", Require="x"), id="ACK"),
        pytest.param(raw(line="BYE sip:b@x.example SIP/2.0", CSeq="7 BYE", Content_Type="x/y", body=b"z"), id="BYE"),
        pytest.param(raw(**INVITE, body=b"v=0", Content_Type="garbage"), id="a type that cannot be read"),
        pytest.param(raw(**INVITE, Accept="*/*"), id="Accept anything"),
        pytest.param(raw(**INVITE, Accept="application/rs-metadata-request"), id="Accept of a recording client"),
        pytest.param(raw(**INVITE, Accept=""), id="an empty Accept"),
        pytest.param(raw(**INVITE, Accept="application/*, text/plain"), id="Accept a range"),
        pytest.param(raw(**INVITE, body=b"x", Content_Type="application/rs-metadata"), id="metadata alone"),
        pytest.param(raw(**INVITE, body=b"x", Content_Type="multipart/mixed;boundary=b"), id="multipart"),
        pytest.param(raw(**INVITE, body=b"x", Content_Type="x/y", Content_Disposition="signal;handling=optional"),
                     id="a body that need not be understood"),
        pytest.param(raw(line="INVITE tel:+15551 SIP/2.0", CSeq="7 INVITE"), id="tel"),
    ],
)  # fmt: skip
def test_no_problem(data: bytes) -> None:
    assert check_request(read(data)) is None


def test_responses_for_others_are_dropped() -> None:
    ours = parse_message(raw(line="SIP/2.0 200 OK"))
    assert isinstance(ours, SipResponse)
    assert check_response(ours) is None
    other = parse_message(
        raw(line="SIP/2.0 200 OK", extra=("v: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKb",))
    )
    assert isinstance(other, SipResponse)
    problem = check_response(other)
    assert problem is not None
    assert problem.drop


# -- responses ----------------------------------------------------------------------------------------------------------


def test_response_copies_what_section_8_2_6_says() -> None:
    request = read(
        raw(extra=("Via: SIP/2.0/TCP p.example.org;branch=z9hG4bKp", "Timestamp: 54", "X-Other: 1"))
    )
    trying = make_response(request, 100)
    assert trying.headers.get("Timestamp") == "54"
    assert "X-Other" not in trying.headers
    ok = make_response(request, 200, to_tag="t1", body=b"v=0\r\n", content_type="application/sdp")
    assert ok.headers.get_all("Via") == request.headers.get_all("Via")
    assert ok.to.tag == "t1"
    assert "Timestamp" not in ok.headers
    assert ok.serialize().endswith(b"Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n")
    within = read(raw(To="<sip:b@example.org>;tag=old"))
    assert make_response(within, 200, to_tag="new").to.tag == "old"
    assert make_response(request, 299).reason == "OK"


@pytest.mark.parametrize(
    ("via", "source", "stamped"),
    [
        ("SIP/2.0/UDP 192.0.2.9;branch=b", ("192.0.2.9", 5060), "SIP/2.0/UDP 192.0.2.9;branch=b"),
        ("SIP/2.0/UDP 192.0.2.9;branch=b", ("192.0.2.8", 5), "SIP/2.0/UDP 192.0.2.9;branch=b;received=192.0.2.8"),
        ("SIP/2.0/UDP h.example.org;branch=b", ("192.0.2.8", 5), "SIP/2.0/UDP h.example.org;branch=b;received=192.0.2.8"),
        ("SIP/2.0/UDP 192.0.2.9;rport;branch=b", ("192.0.2.9", 77),
         "SIP/2.0/UDP 192.0.2.9;rport=77;branch=b;received=192.0.2.9"),
        ("SIP/2.0/UDP 192.0.2.9;received=203.0.113.1", ("192.0.2.9", 77), "SIP/2.0/UDP 192.0.2.9;received=192.0.2.9"),
        ("SIP/2.0/UDP a.example;branch=b, SIP/2.0/TCP c.example", ("192.0.2.8", 5),
         "SIP/2.0/UDP a.example;branch=b;received=192.0.2.8, SIP/2.0/TCP c.example"),
        ("SIP/2.0/UDP [2001:db8::1];branch=b", ("2001:db8:0::1", 5), "SIP/2.0/UDP [2001:db8::1];branch=b"),
    ],
)  # fmt: skip
def test_where_a_request_really_came_from(via: str, source: tuple[str, int], stamped: str) -> None:
    request = read(raw(Via=via))
    stamp_received(request, *source)
    assert request.headers.get("Via") == stamped


def test_a_broken_request_can_be_stamped_and_answered() -> None:
    request = refused(raw(Via="SIP/2.0/UDP 192.0.2.15;;,;,,")).request
    stamp_received(request, "198.51.100.1", 5060)
    assert request.top_via.received == "198.51.100.1"


# -- bounds -------------------------------------------------------------------------------------------------------------


def test_limits_are_the_callers() -> None:
    tight = Limits(header_section=200, header_fields=3, body=4)
    for data in (raw(), raw(extra=("X: y" * 100,))):
        with pytest.raises(SipParseError) as caught:
            parse_message(data, tight)
        assert caught.value.status == 513


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\r\n", b""])
def test_keep_alive_datagrams(data: bytes) -> None:
    assert is_keepalive(data)
    assert not is_keepalive(b"x" + data)


def test_media_type_with_a_quote_never_closed() -> None:
    assert MediaType.parse('multipart/mixed; boundary="abc').params.get("boundary") == "abc"
