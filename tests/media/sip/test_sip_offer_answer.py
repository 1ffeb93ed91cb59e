"""Answers by the rules of a recorder, and offers of our own."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from appliance.media.rtp.srtp import SUITES as OPENED
from appliance.media.sip.crypto import Crypto
from appliance.media.sip.multipart import body_parts
from appliance.media.sip.offer_answer import (
    DEFAULT_SUITES,
    AnswerPolicy,
    LocalMedia,
    OfferMedia,
    Refusal,
    answer,
    make_offer,
    plan_answer,
    read_answer,
)
from appliance.media.sip.sdp import Codec, MediaDirection, SdpError, SessionDescription, parse_sdp
from appliance.media.sip.values import MediaType

SAMPLES = Path(__file__).parents[3] / ".." / "shared" / "siprec-samples"
KEY = base64.b64encode(bytes(range(30))).decode()
GCM = base64.b64encode(bytes(range(44))).decode()
US = "198.51.100.7"


def offer(*media: str, session: str = "c=IN IP4 192.0.2.1\nt=5 6\n") -> SessionDescription:
    return parse_sdp(f"v=0\no=x 7 1 IN IP4 192.0.2.1\ns=-\n{session}{''.join(media)}".encode())


def audio(*attributes: str, port: int = 4000, proto: str = "RTP/AVP", formats: str = "0 8 101") -> str:
    return f"m=audio {port} {proto} {formats}\n" + "".join(f"{line}\n" for line in attributes)


def test_an_answer_has_the_lines_of_its_offer() -> None:
    theirs = offer(
        audio(
            "a=label:2",
            "a=mid:a",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-16",
            "a=ptime:20",
            "a=x:y",
        ),
        "m=video 5000 RTP/AVP 31\na=label:9\n",
        audio("a=label:1", "a=sendonly", port=4002, formats="18 13"),
        audio("a=label:3", port=0),
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\n",
        audio(port=4006),
    )
    result = answer(theirs, {i: LocalMedia(40000 + 2 * i) for i in range(5)}, address=US)
    assert [(media.kind, media.port, media.proto, media.label) for media in result.sdp.media] == [
        ("audio", 40000, "RTP/AVP", "2"),
        ("video", 0, "RTP/AVP", "9"),
        ("audio", 40004, "RTP/AVP", "1"),
        ("audio", 0, "RTP/AVP", "3"),
        ("application", 0, "UDP/DTLS/SCTP", None),
        ("audio", 0, "RTP/AVP", None),
    ]
    assert [line.plan.refusal for line in result.media] == [
        None,
        Refusal.KIND,
        None,
        Refusal.OFFERED_ZERO,
        Refusal.KIND,
        Refusal.NO_PORT,
    ]
    assert [media.formats for media in result.sdp.media[:3]] == [("0", "8", "101"), ("31",), ("18", "13")]
    first = result.sdp.media[0]
    assert first.mid == "a"
    assert first.attributes("rtpmap") == ["101 telephone-event/8000"]
    assert first.attributes("fmtp") == ["101 0-16"]
    assert first.ptime == 20
    assert first.attribute("x") is None
    assert result.sdp.values("t") == ["5 6"]
    assert result.sdp.connection is not None
    assert result.sdp.connection.address == US
    assert parse_sdp(result.sdp.serialize()) == result.sdp


@pytest.mark.parametrize(
    ("offered", "answered"),
    [
        ("a=sendonly", "recvonly"),
        ("a=sendrecv", "recvonly"),
        ("", "recvonly"),
        ("a=inactive", "inactive"),
        ("a=recvonly", "inactive"),
        ("c=IN IP4 0.0.0.0", "inactive"),
        ("c=IN IP4 0.0.0.0\na=sendonly", "inactive"),
        ("c=IN IP6 ::", "inactive"),
    ],
)
def test_directions_of_a_recorder(offered: str, answered: str) -> None:
    result = answer(offer(audio(offered)), [LocalMedia(40000)], address=US)
    assert result.sdp.media[0].direction == answered
    assert result.sdp.media[0].port == 40000  # a hold keeps its port
    assert result.media[0].plan.on_hold is (answered == "inactive")


def test_hold_for_the_whole_session() -> None:
    for session in ("c=IN IP4 0.0.0.0\n", "c=IN IP4 192.0.2.1\na=inactive\n"):
        result = answer(offer(audio(), session=session), [LocalMedia(40000)], address=US)
        assert result.sdp.media[0].direction == "inactive"
    overruled = offer(audio("c=IN IP4 192.0.2.5", "a=sendonly"), session="c=IN IP4 0.0.0.0\na=inactive\n")
    assert answer(overruled, [LocalMedia(40000)], address=US).sdp.media[0].direction == "recvonly"


@pytest.mark.parametrize(
    ("offered", "answered"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_directions_of_a_user_agent(offered: str, answered: str) -> None:
    policy = AnswerPolicy(sends=True)
    result = answer(offer(audio(f"a={offered}")), [LocalMedia(40000)], address=US, policy=policy)
    assert result.sdp.media[0].direction == answered


@pytest.mark.parametrize("profile", ["RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"])
def test_profiles_are_answered_in_kind(profile: str) -> None:
    crypto = f"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31"
    result = answer(offer(audio(crypto, proto=profile)), [LocalMedia(40000)], address=US)
    media = result.sdp.media[0]
    assert media.proto == profile
    assert len(media.cryptos) == (1 if "SAVP" in profile else 0)


def test_sdes() -> None:
    theirs = offer(
        audio(
            f"a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}",
            f"a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP",
            f"a=crypto:3 AEAD_AES_256_GCM inline:{GCM}",
            f"a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{KEY}",
            proto="RTP/SAVP",
        )
    )
    result = answer(theirs, [LocalMedia(40000)], address=US)
    (sent,) = result.sdp.media[0].cryptos
    (line,) = result.media
    assert line.remote_crypto is not None
    assert (line.remote_crypto.tag, line.remote_crypto.key_salt) == (3, bytes(range(44)))
    assert (sent.tag, sent.suite) == (3, "AEAD_AES_256_GCM")
    assert sent == line.local_crypto
    assert sent.key_salt != line.remote_crypto.key_salt
    again = answer(theirs, [LocalMedia(40000, key_salt=sent.key_salt)], address=US, previous=result.sdp)
    assert again.sdp == result.sdp
    assert KEY not in repr(result)
    assert base64.b64encode(sent.key_salt).decode() not in repr(result)


@pytest.mark.parametrize(
    ("attributes", "proto", "refusal"),
    [
        ((), "RTP/SAVP", Refusal.SRTP),
        ((f"a=crypto:1 F8_128_HMAC_SHA1_80 inline:{KEY}",), "RTP/SAVP", Refusal.SRTP),
        ((f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:4",), "RTP/SAVP", Refusal.SRTP),
        (("a=fingerprint:sha-256 AA",), "UDP/TLS/RTP/SAVPF", Refusal.PROFILE),
        ((), "udptl", Refusal.PROFILE),
    ],
)
def test_lines_that_cannot_be_taken(attributes: tuple[str, ...], proto: str, refusal: Refusal) -> None:
    theirs = offer(audio(*attributes, proto=proto))
    (plan,) = plan_answer(theirs)
    assert (plan.accepted, plan.refusal) == (False, refusal)
    assert answer(theirs, [LocalMedia(40000)], address=US).sdp.media[0].port == 0


def test_suites_are_those_that_capture_opens() -> None:
    assert set(DEFAULT_SUITES) <= set(OPENED)


def test_rtcp() -> None:
    plain = answer(offer(audio()), [LocalMedia(40000)], address=US)
    assert plain.sdp.media[0].rtcp is None
    assert not plain.sdp.media[0].rtcp_mux
    apart = answer(offer(audio()), [LocalMedia(40000, 41001)], address=US)
    assert apart.sdp.media[0].rtcp == (41001, None)
    muxed = answer(offer(audio("a=rtcp-mux", "a=rtcp:9")), [LocalMedia(40000)], address=US)
    assert muxed.sdp.media[0].rtcp_mux
    assert muxed.sdp.media[0].rtcp is None
    assert muxed.media[0].plan.remote is not None
    assert muxed.media[0].plan.remote.rtcp_port == 4000
    (given,) = plan_answer(offer(audio("a=rtcp:53020 IN IP4 192.0.2.9")))
    assert given.remote is not None
    assert (given.remote.address, given.remote.port, given.remote.rtcp_address, given.remote.rtcp_port) == (
        "192.0.2.1",
        4000,
        "192.0.2.9",
        53020,
    )


def test_an_address_for_one_line() -> None:
    result = answer(offer(audio()), [LocalMedia(40000, address="2001:db8::7")], address=US)
    assert result.sdp.media[0].values("c") == ["IN IP6 2001:db8::7"]


def test_the_version_grows_with_changes_only() -> None:
    theirs = offer(audio("a=sendonly"))
    first = answer(theirs, [LocalMedia(40000)], address=US).sdp
    same = answer(theirs, [LocalMedia(40000)], address=US, previous=first).sdp
    assert same.serialize() == first.serialize()
    held = answer(offer(audio("a=inactive")), [LocalMedia(40000)], address=US, previous=same).sdp
    assert first.origin is not None
    assert held.origin is not None
    assert (held.origin.session_id, held.origin.version) == (
        first.origin.session_id,
        first.origin.version + 1,
    )
    more = answer(offer(audio("a=inactive"), audio()), [LocalMedia(40000)], address=US, previous=held).sdp
    assert more.origin is not None
    assert more.origin.version == first.origin.version + 2
    moved = answer(theirs, [LocalMedia(40000)], address="198.51.100.8", previous=first).sdp
    assert moved.origin is not None
    assert moved.origin.version == first.origin.version + 1


def test_an_offer_without_any_line() -> None:
    result = answer(offer(), [], address=US)
    assert result.sdp.media == ()


PCMU = Codec(0, "PCMU", 8000)
EVENTS = Codec(101, "telephone-event", 8000, 1, "0-15")


def test_an_offer_of_ours_and_its_answer() -> None:
    ours = make_offer(
        [
            OfferMedia(30000, (PCMU, EVENTS), label="1", direction=MediaDirection.SENDONLY, ptime=20),
            OfferMedia(30002, (PCMU,), label="2", direction=MediaDirection.SENDONLY, rtcp_mux=True,
                       proto="RTP/SAVP", suites=DEFAULT_SUITES, extra=(("x", None), ("y", "z"))),
        ],
        address="192.0.2.1",
    )  # fmt: skip
    assert parse_sdp(ours.serialize()) == ours
    assert ours.media[0].codecs == (PCMU, EVENTS)
    assert [crypto.suite for crypto in ours.media[1].cryptos] == list(DEFAULT_SUITES)
    result = answer(ours, [LocalMedia(40000), LocalMedia(40002)], address=US)
    plain, secure = read_answer(ours, result.sdp)
    assert plain.plan.direction is MediaDirection.INACTIVE  # a sender that takes nothing in: see sends below
    plain, secure = read_answer(ours, result.sdp, AnswerPolicy(sends=True))
    assert plain.plan.direction is secure.plan.direction is MediaDirection.SENDONLY
    assert plain.plan.remote is not None
    assert (plain.plan.remote.address, plain.plan.remote.port, plain.plan.remote.rtcp_port) == (
        US,
        40000,
        40001,
    )
    assert plain.local is not None
    assert (plain.local.port, plain.local.rtcp_port) == (30000, 30001)
    assert secure.plan.rtcp_mux
    assert secure.local_crypto == ours.media[1].cryptos[0]
    assert secure.remote_crypto == result.media[1].local_crypto
    held = make_offer([OfferMedia(30000, (PCMU,))], address="192.0.2.1", previous=ours)
    assert held.origin is not None
    assert ours.origin is not None
    assert held.origin.version == ours.origin.version + 1


def test_answers_that_do_not_fit_their_offer() -> None:
    ours = make_offer(
        [OfferMedia(30000, (PCMU,), proto="RTP/SAVP", suites=DEFAULT_SUITES[:1])], address="192.0.2.1"
    )
    with pytest.raises(SdpError):
        read_answer(ours, offer())
    other_tag = audio(f"a=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", proto="RTP/SAVP")
    (line,) = read_answer(ours, offer(other_tag))
    assert (line.accepted, line.plan.refusal) == (False, Refusal.SRTP)
    (refused,) = read_answer(ours, offer(audio(port=0)))
    assert not refused.accepted


def test_given_crypto_lines() -> None:
    crypto = Crypto.parse(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
    assert crypto is not None
    ours = make_offer([OfferMedia(30000, (PCMU,), proto="RTP/SAVP", cryptos=(crypto,))], address="192.0.2.1")
    assert ours.media[0].cryptos == (crypto,)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the captured offers are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "labels"),
    [("acme.txt", ["16777227", "16777228"]), ("cisco.txt", ["1", "2"]), ("sonus.txt", ["1", "2"])],
)
def test_captured_offers(name: str, labels: list[str]) -> None:
    parts = body_parts(MediaType.parse("multipart/mixed"), (SAMPLES / name).read_bytes())
    result = answer(parse_sdp(parts[0].content), [LocalMedia(40000), LocalMedia(40002)], address=US)
    assert [media.label for media in result.sdp.media] == labels
    assert [media.direction for media in result.sdp.media] == [MediaDirection.RECVONLY] * 2
    assert all(line.plan.remote is not None and line.plan.remote.port for line in result.media)
