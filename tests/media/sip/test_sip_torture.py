"""Every message of RFC 4475 comes out as that RFC says: read, answered with the right status, or dropped.

The messages themselves are in the data shared beside the checkout. The same rules are covered by messages of our own
in test_sip_rules.py, so that nothing goes untested without them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.message import SipRequest, SipResponse, parse_message
from appliance.media.sip.multipart import message_parts
from appliance.media.sip.reply import make_response
from appliance.media.sip.sdp import parse_sdp
from appliance.media.sip.uri import OpaqueUri, SipUri
from appliance.media.sip.validate import Problem, check_request, check_response

TORTURE = Path(__file__).parents[3] / ".." / "shared" / "sip-torture"
pytestmark = pytest.mark.skipif(
    not TORTURE.is_dir(), reason="the RFC 4475 messages are not beside the checkout"
)

TAKEN, DROPPED = 200, 0
EXPECTED = {  # file: (what becomes of it, section of RFC 4475)
    "wsinv": (TAKEN, "3.1.1.1"),
    "intmeth": (TAKEN, "3.1.1.2"),
    "esc01": (TAKEN, "3.1.1.3"),
    "escnull": (TAKEN, "3.1.1.4"),
    "esc02": (TAKEN, "3.1.1.5"),
    "lwsdisp": (TAKEN, "3.1.1.6"),
    "longreq": (TAKEN, "3.1.1.7"),
    "dblreq": (TAKEN, "3.1.1.8"),
    "semiuri": (TAKEN, "3.1.1.9"),
    "transports": (TAKEN, "3.1.1.10"),
    "mpart01": (TAKEN, "3.1.1.11"),
    "unreason": (TAKEN, "3.1.1.12"),
    "noreason": (TAKEN, "3.1.1.13"),
    "badinv01": (400, "3.1.2.1"),
    "clerr": (400, "3.1.2.2"),
    "ncl": (400, "3.1.2.3"),
    "scalar02": (400, "3.1.2.4"),
    "scalarlg": (DROPPED, "3.1.2.5"),
    "quotbal": (400, "3.1.2.6"),
    "ltgtruri": (400, "3.1.2.7"),
    "lwsruri": (400, "3.1.2.8"),
    "lwsstart": (400, "3.1.2.9"),
    "trws": (400, "3.1.2.10"),
    "escruri": (400, "3.1.2.11"),
    "baddate": (
        TAKEN,
        "3.1.2.12",
    ),  # "an element wishing to be liberal could ignore the Date": we never need it
    "regbadct": (400, "3.1.2.13"),
    "badaspec": (400, "3.1.2.14"),
    "baddn": (400, "3.1.2.15"),
    "badvers": (505, "3.1.2.16"),
    "mismatch01": (400, "3.1.2.17"),
    "mismatch02": (400, "3.1.2.18"),
    "bigcode": (DROPPED, "3.1.2.19"),
    "badbranch": (TAKEN, "3.2.1"),  # but its transaction is found as RFC 2543 has it
    "insuf": (400, "3.3.1"),
    "unkscm": (416, "3.3.2"),
    "novelsc": (416, "3.3.3"),
    "unksm2": (400, "3.3.4"),
    "bext01": (420, "3.3.5"),
    "invut": (415, "3.3.6"),
    "regaut01": (TAKEN, "3.3.7"),
    "multi01": (400, "3.3.8"),
    "mcl01": (400, "3.3.9"),
    "bcast": (DROPPED, "3.3.10"),
    "zeromf": (TAKEN, "3.3.11"),  # 483 is for who forwards
    "cparam01": (TAKEN, "3.3.12"),
    "cparam02": (TAKEN, "3.3.13"),
    "regescrt": (TAKEN, "3.3.14"),
    "sdp01": (406, "3.3.15"),
    "inv2543": (TAKEN, "3.4.1"),
}


def load(name: str) -> bytes:
    return (TORTURE / f"{name}.dat").read_bytes()


def request(name: str) -> SipRequest:
    message = parse_message(load(name))
    assert isinstance(message, SipRequest)
    return message


def response(name: str) -> SipResponse:
    message = parse_message(load(name))
    assert isinstance(message, SipResponse)
    return message


def judge(data: bytes) -> tuple[Problem | None, SipRequest | None]:
    """What becomes of a message, and the request to answer."""
    try:
        message = parse_message(data)
    except SipParseError as error:
        return Problem.from_error(error), error.request
    if isinstance(message, SipResponse):
        return check_response(message), None
    return check_request(message), message


def test_every_message_is_in_the_table() -> None:
    assert {path.stem for path in TORTURE.glob("*.dat")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_outcome(name: str) -> None:
    wanted, _section = EXPECTED[name]
    problem, culprit = judge(load(name))
    if wanted == TAKEN:
        assert problem is None
        return
    assert problem is not None
    assert problem.status == wanted
    assert problem.drop == (wanted == DROPPED)
    if problem.drop:
        return
    assert culprit is not None
    answer = make_response(culprit, problem.status, problem.reason, to_tag="t", headers=problem.headers)
    again = answer.serialize()
    assert again.startswith(f"SIP/2.0 {wanted} ".encode())
    for field in ("Via", "From", "Call-ID", "CSeq"):
        assert answer.headers.get_all(field) == culprit.headers.get_all(field)


@pytest.mark.parametrize("name", [name for name, (status, _) in EXPECTED.items() if status == TAKEN])
def test_what_is_taken_survives_being_written(name: str) -> None:
    message = parse_message(load(name))
    written = message.serialize()
    again = parse_message(written)
    assert again.serialize() == written
    assert (again.via, again.from_, again.to, again.cseq, again.call_id, again.body) == (
        message.via,
        message.from_,
        message.to,
        message.cseq,
        message.call_id,
        message.body,
    )


def test_3_1_1_1_short_tortuous_invite() -> None:
    message = request("wsinv")
    assert message.uri == SipUri("sip", "chair-dnrc.example.com", "vivekg", params=message.uri.params)
    assert list(message.uri.params) == ["unknownparam"]
    assert message.to.tag == "1918181833n"
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert message.from_.tag == "98asjd8"
    assert message.max_forwards == 68
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    assert [(via.transport, via.host, via.branch) for via in message.via] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert message.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    (route,) = message.route
    assert isinstance(route.uri, SipUri)
    assert route.uri.loose
    assert route.uri.params.get("unknownwith") == "value"
    assert route.uri.params.get("unknown-no-value") == ""
    assert message.contact is not None
    assert message.contact.display_name == 'Quoted string ""'
    assert [message.contact.params.get(name) for name in ("newparam", "secondparam", "q")] == [
        "newvalue",
        "",
        "0.33",
    ]
    assert len(message.body) == 150


def test_3_1_1_2_wide_range_of_valid_characters() -> None:
    message = request("intmeth")
    assert message.method == message.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert isinstance(message.uri, SipUri)
    assert message.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.uri.host == "example.com"
    assert message.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert message.from_.params.get("fromParam''~+*_!.-%") == "работающий"
    assert message.from_.tag == "_token~1'+`*%!-."
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "﻿大停電"
    assert message.max_forwards == 255


def test_3_1_1_3_escapes() -> None:
    message = request("esc01")
    assert isinstance(message.uri, SipUri)
    assert (message.uri.decoded_user, message.uri.host) == ("sips:user@example.com", "example.net")
    assert isinstance(message.to.uri, SipUri)
    assert message.to.uri.decoded_user == "user"
    assert isinstance(message.from_.uri, SipUri)
    assert message.from_.uri.decoded_user == "I have spaces"
    assert message.contact is not None
    uri = message.contact.uri
    assert isinstance(uri, SipUri)
    assert uri.decoded_user == "caller"
    assert uri.loose
    assert uri.params.get("name") == "value%41"


def test_3_1_1_4_escaped_nulls() -> None:
    message = request("escnull")
    assert isinstance(message.to.uri, SipUri)
    assert message.to.uri.decoded_user == "null-\0-null"
    users = [contact.uri.decoded_user for contact in message.contacts if isinstance(contact.uri, SipUri)]
    assert users == ["\0", "\0\0"]


def test_3_1_1_5_percent_where_it_is_no_escape() -> None:
    message = request("esc02")
    assert message.method == "RE%47IST%45R"
    assert message.to.display_name == message.from_.display_name == "%Z%45"
    assert message.via[0].branch == "z9hG4bK209%fzsnel234"
    assert len(message.contacts) == 2
    assert message.headers.get("C%6Fntact") == "<sip:alias2@host2.example.com>"


def test_3_1_1_6_no_space_before_the_bracket() -> None:
    assert request("lwsdisp").from_.display_name == "caller"


def test_3_1_1_7_long_values() -> None:
    message = request("longreq")
    assert len(message.via) == 34
    assert message.via[0].host == "sip33.example.com"
    assert message.via[-1].host == "host.example.com"
    assert message.via[-1].received == "192.0.2.5"
    assert message.to.display_name.startswith("I have a user name of extreme")
    assert isinstance(message.to.uri, SipUri)
    assert message.to.uri.port == 6000
    assert len(message.body) == 150


def test_3_1_1_8_only_the_first_of_a_datagram() -> None:
    message = request("dblreq")
    assert (message.method, message.body) == ("REGISTER", b"")
    assert message.call_id == "dblreq.0ha0isndaksdj99sdfafnl3lk233412"


def test_3_1_1_9_semicolon_in_the_user_part() -> None:
    message = request("semiuri")
    assert isinstance(message.uri, SipUri)
    assert message.uri.decoded_user == "user;par=u@example.net"
    assert message.uri.host == "example.com"
    assert len(message.uri.params) == 0
    assert message.accept is not None
    assert [kind.essence for kind in message.accept] == [
        "application/sdp",
        "application/pkcs7-mime",
        "multipart/mixed",
        "multipart/signed",
        "message/sip",
        "message/sipfrag",
    ]


def test_3_1_1_10_transports() -> None:
    assert [via.transport for via in request("transports").via] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]


def test_3_1_1_11_multipart_with_binary() -> None:
    message = request("mpart01")
    text, signature = message_parts(message)
    assert (text.content_type.essence, text.content) == ("text/plain", b"Hello")
    assert signature.content_type.essence == "application/octet-stream"
    assert signature.headers.get("Content-Transfer-Encoding") == "binary"
    assert signature.content[:2] == b"\x30\x82"
    assert len(signature.content) == int.from_bytes(signature.content[2:4]) + 4  # DER says how long it is


def test_3_1_1_12_and_13_reason_phrases() -> None:
    message = response("unreason")
    assert (message.status, message.reason) == (200, "= 2**3 * 5**2 но сто девяносто девять - простое")
    message = response("noreason")
    assert (message.status, message.reason) == (100, "")


def test_3_1_2_12_the_date_is_left_alone() -> None:
    assert request("baddate").headers.get("Date") == "Fri, 01 Jan 2010 16:00:00 EST"


def test_3_2_1_a_branch_without_a_name() -> None:
    message = request("badbranch")
    assert message.via[0].branch == "z9hG4bK"
    assert message.via[0].rfc3261_branch is None


def test_3_3_refusals_say_what_would_be_right() -> None:
    assert judge(load("bext01"))[0].headers == (  # type: ignore[union-attr]
        ("Unsupported", "nothingSupportsThis, nothingSupportsThisEither"),
    )
    accept = dict(judge(load("invut"))[0].headers)["Accept"]  # type: ignore[union-attr]
    assert "application/sdp" in accept


def test_3_3_contacts_of_registrations() -> None:
    with_header_param = request("cparam01").contact
    assert with_header_param is not None
    assert "unknownparam" in with_header_param.params
    assert "unknownparam" not in with_header_param.uri.params  # type: ignore[union-attr]
    with_uri_param = request("cparam02").contact
    assert with_uri_param is not None
    assert "unknownparam" not in with_uri_param.params
    assert "unknownparam" in with_uri_param.uri.params  # type: ignore[union-attr]
    escaped = request("regescrt").contact
    assert escaped is not None
    assert escaped.uri.header_fields == (("Route", "<sip:sip.example.com>"),)  # type: ignore[union-attr]
    unknown = request("unksm2")
    assert unknown.to.uri == OpaqueUri("isbn", "2983792873")
    assert unknown.from_.uri == OpaqueUri("http", "//www.example.com")


def test_3_4_1_rfc_2543() -> None:
    message = request("inv2543")
    assert message.from_.tag is None
    assert message.max_forwards is None
    assert message.via[0].branch is None
    assert len(message.body) == 105
    assert parse_sdp(message.body).media[0].port == 49217
