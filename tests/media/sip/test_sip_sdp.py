"""Session descriptions and SDES lines: read as they come, written as they were."""

from __future__ import annotations

import base64

import pytest

from appliance.media.sip.crypto import SUITES, Crypto, InlineKey, generate_key
from appliance.media.sip.sdp import (
    MAX_LINES,
    MAX_MEDIA,
    Codec,
    Connection,
    MediaDirection,
    Origin,
    SdpError,
    parse_sdp,
)

OFFER = b"""v=0\r
o=SBC 20076 18446744073709551615 IN IP6 2001:db8::1\r
s=a call\r
c=IN IP4 192.0.2.140/127\r
b=AS:64\r
t=0 0\r
k=strange\r
a=sendonly\r
a=setup:actpass\r
m=audio 20106/2 RTP/SAVPF 0 96 101\r
i=title\r
c=IN IP4 192.0.2.141\r
a=rtpmap:96 opus/48000/2\r
a=fmtp:96 useinbandfec=1; x=y\r
a=rtpmap:101 telephone-event/8000\r
a=fmtp:101 0-16\r
a=ptime:20\r
a=label:16777227\r
a=mid:1\r
a=rtcp:53020 IN IP4 192.0.2.142\r
a=rtcp-mux\r
a=fingerprint:sha-256 AA:BB\r
a=unknown:thing\r
a=inactive\r
m=video 0 RTP/AVP 31\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
"""


def test_all_of_it() -> None:
    sdp = parse_sdp(OFFER)
    assert sdp.origin == Origin("SBC", 20076, 2**64 - 1, "2001:db8::1")
    assert sdp.values("k") == ["strange"]
    audio, video, data = sdp.media
    assert (audio.kind, audio.port, audio.port_count, audio.proto) == ("audio", 20106, 2, "RTP/SAVPF")
    assert audio.formats == ("0", "96", "101")
    assert (audio.label, audio.mid, audio.ptime, audio.rtcp_mux) == ("16777227", "1", 20, True)
    assert audio.rtcp == (53020, "192.0.2.142")
    assert audio.codecs == (
        Codec(0, "PCMU", 8000),
        Codec(96, "opus", 48000, 2, "useinbandfec=1; x=y"),
        Codec(101, "telephone-event", 8000, 1, "0-16"),
    )
    assert sdp.connection_of(audio) == Connection("192.0.2.141")
    assert sdp.connection_of(video) == Connection("192.0.2.140")
    assert sdp.direction_of(audio) is MediaDirection.INACTIVE
    assert sdp.direction_of(video) is MediaDirection.SENDONLY
    assert sdp.attribute_of(audio, "setup") == "actpass"
    assert audio.attribute("unknown") == "thing"
    assert (video.port, video.codecs[0].encoding) == (0, "H261")
    assert (data.proto, data.codecs, data.secure, audio.secure) == ("UDP/DTLS/SCTP", (), False, True)
    assert sdp.serialize() == OFFER


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n\r\n"])
def test_line_ends(end: bytes) -> None:
    assert parse_sdp(OFFER.replace(b"\r\n", end)).serialize() == OFFER


def test_tolerances() -> None:
    sdp = parse_sdp(
        b"  junk\nm =AUDIO  4000   RTP/AVP\n a = label: 7 \na=rtpmap:999 x\na=rtcp:x\na=ptime:20.0\n=\nnot a line\n"
    )
    (media,) = sdp.media
    assert (media.kind, media.port, media.formats, media.label, media.ptime) == ("audio", 4000, (), "7", 20)
    assert media.rtcp is None
    assert sdp.origin is None
    assert sdp.connection_of(media) is None
    assert sdp.direction_of(media) is MediaDirection.SENDRECV
    assert parse_sdp(b"m=audio 4/0 RTP/AVP 0\n").media[0].port_count == 1
    assert parse_sdp(b"o=x y z IN IP4 h\r\nc=IN\r\n").origin is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of SDP",
        b"m=audio\n",
        b"m=audio x RTP/AVP 0\n",
        b"m=audio 65536 RTP/AVP 0\n",
        b"m=audio -1 RTP/AVP 0\n",
        b"m=audio 1/x RTP/AVP 0\n",
        b"a=x\n" * (MAX_LINES + 1),
        b"m=audio 1 RTP/AVP 0\n" * (MAX_MEDIA + 1),
    ],
)
def test_refused(body: bytes) -> None:
    with pytest.raises(SdpError):
        parse_sdp(body)


@pytest.mark.parametrize(
    ("address", "null"), [("0.0.0.0", True), ("::", True), ("192.0.2.1", False), ("h.example", False)]
)
def test_null_addresses(address: str, null: bool) -> None:
    assert Connection(address).is_null is null


def test_directions() -> None:
    assert MediaDirection.SENDONLY.reversed() is MediaDirection.RECVONLY
    assert MediaDirection.INACTIVE.reversed() is MediaDirection.INACTIVE
    assert (
        parse_sdp(b"m=audio 1 RTP/AVP 0\na=sendonly\na=SendRecv\n").media[0].direction
        is MediaDirection.SENDRECV
    )


KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()


def test_crypto_of_rfc_4568() -> None:
    line = f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|2^20|1:4;inline:{INLINE}|2^20|2:4 FEC_ORDER=FEC_SRTP"
    crypto = Crypto.parse(line)
    assert crypto is not None
    assert (crypto.tag, crypto.suite, crypto.params) == (
        1,
        "AES_CM_128_HMAC_SHA1_80",
        ("FEC_ORDER=FEC_SRTP",),
    )
    assert crypto.keys == (InlineKey(KEY, 1 << 20, 1, 4), InlineKey(KEY, 1 << 20, 2, 4))
    assert str(crypto) == line
    assert not crypto.plain_use  # packets would carry an MKI
    assert INLINE not in repr(crypto)
    assert repr(KEY) not in repr(crypto)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}", True),
        (f"1 aes_cm_128_hmac_sha1_80 inline:{INLINE}|2^31", True),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE} WSH=64", True),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE} -anything", True),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE} UNENCRYPTED_SRTP", False),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE} KDR=1", False),
        (f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|1:4", False),
    ],
)
def test_crypto_that_can_be_used(line: str, plain: bool) -> None:
    crypto = Crypto.parse(line)
    assert crypto is not None
    assert crypto.plain_use is plain


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x AES_CM_128_HMAC_SHA1_80 inline:AAAA",
        "1 AES_CM_128_HMAC_SHA1_80",
        "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA",
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!!!",
        f"1 AES_CM_128_HMAC_SHA1_80 uri:{INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}|what",
        f"1 AEAD_AES_256_GCM inline:{INLINE}",
    ],
)
def test_crypto_that_is_none(line: str) -> None:
    assert Crypto.parse(line) is None
    media = parse_sdp(f"m=audio 1 RTP/SAVP 0\na=crypto:{line}\n".encode()).media[0]
    assert media.cryptos == ()


def test_padding_may_be_missing() -> None:
    key = bytes(range(44))
    text = base64.b64encode(key).decode().rstrip("=")
    crypto = Crypto.parse(f"2 AEAD_AES_256_GCM inline:{text}")
    assert crypto is not None
    assert crypto.key_salt == key


def test_keys_never_show_in_a_repr() -> None:
    sdp = parse_sdp(
        f"v=0\nm=audio 1 RTP/SAVP 0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{INLINE}\n".encode()
    )
    assert INLINE not in repr(sdp)
    assert all(len(generate_key(suite)) == sum(lengths) for suite, lengths in SUITES.items())
