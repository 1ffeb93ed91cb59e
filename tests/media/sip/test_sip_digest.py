"""Digest authentication: the vectors of RFC 7616, both halves against each other, and hostile credentials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.media.sip.digest import (
    DigestError,
    DigestServer,
    Verdict,
    answer_challenge,
    parse_params,
    response_digest,
)

RFC7616 = {
    "username": "Mufasa",
    "realm": "http-auth@example.org",
    "password": "Circle of Life",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "method": "GET",
    "uri": "/dir/index.html",
    "qop": "auth",
    "nc": "00000001",
    "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_vectors_of_rfc_7616(algorithm: str, expected: str) -> None:
    assert response_digest(algorithm, **RFC7616) == expected


def test_the_vector_of_rfc_2617_without_qop_differs_only_in_the_middle() -> None:
    """RFC 2069's formula with RFC 2617's example inputs; the value is that of the RFC's erratum."""
    value = response_digest(
        "MD5",
        username="Mufasa",
        realm="testrealm@host.com",
        password="CircleOfLife",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
        method="GET",
        uri="/dir/index.html",
    )
    assert value == "1949323746fe6a43ef61f9606e7febea"


def server(**more: object) -> DigestServer:
    return DigestServer("r", {"src": "secret"}.get, secret=b"s" * 32, **more)  # type: ignore[arg-type]


def answer(
    made: DigestServer, now: float = 0.0, password: str = "secret", index: int = 0, nc: int = 1
) -> str:
    value = answer_challenge(
        made.challenges(now)[index:],
        username="src",
        password=password,
        method="INVITE",
        uri="sip:srs@x",
        cnonce="c",
        nc=nc,
    )
    assert value is not None
    return value


@pytest.mark.parametrize("index", [0, 1])
def test_right_credentials_are_granted_once(index: int) -> None:
    made = server()
    value = answer(made, index=index)
    assert ("SHA-256" if index == 0 else "MD5") in value
    granted = made.verify(value, method="INVITE", now=1.0)
    assert (granted.verdict, granted.username) == (Verdict.GRANTED, "src")
    assert made.verify(value, method="INVITE", now=1.0).verdict is Verdict.STALE, "a replay"
    assert made.verify(value, method="BYE", now=1.0).verdict is Verdict.DENIED


def test_a_nonce_serves_again_with_a_higher_count_until_it_is_old() -> None:
    made = server(lifetime=60.0)
    challenges = made.challenges(0.0)

    def credentials(nc: int) -> str:
        value = answer_challenge(
            challenges, username="src", password="secret", method="BYE", uri="sip:x", cnonce="c", nc=nc
        )
        assert value is not None
        return value

    assert made.verify(credentials(1), method="BYE", now=1.0).verdict is Verdict.GRANTED
    assert made.verify(credentials(2), method="BYE", now=59.0).verdict is Verdict.GRANTED
    assert made.verify(credentials(3), method="BYE", now=61.0).verdict is Verdict.STALE


@pytest.mark.parametrize(
    ("what", "with_"),
    [
        ("secret", None),
        ('username="src"', 'username="other"'),
        ('realm="r"', 'realm="q"'),
        ("qop=auth", "qop=auth-int"),
        ("nc=00000001", "nc=1"),
        ('nonce="', 'nonce="1'),
        ("SHA-256", "SHA-512"),
        ('uri="sip:srs@x"', 'uri="sip:other"'),
        ("Digest ", "Basic "),
    ],
)
def test_wrong_credentials_are_denied(what: str, with_: str | None) -> None:
    made = server()
    value = answer(made, password="wrong") if with_ is None else answer(made)
    if with_ is not None:
        assert what in value
        value = value.replace(what, with_)
    assert made.verify(value, method="INVITE", now=0.0).verdict is Verdict.DENIED


def test_a_nonce_of_another_server_is_denied() -> None:
    other = DigestServer("r", {"src": "secret"}.get, secret=b"t" * 32)
    assert server().verify(answer(other), method="INVITE", now=0.0).verdict is Verdict.DENIED


def test_the_memory_of_nonces_is_bounded() -> None:
    made = server(max_nonces=10)
    for _ in range(50):
        assert made.verify(answer(made), method="INVITE", now=0.0).verdict is Verdict.GRANTED
    assert len(made._counters) == 10


@given(st.text(max_size=300))
def test_no_credentials_make_it_raise(text: str) -> None:
    made = server()
    for value in (text, "Digest " + text, answer(made) + "," + text):
        assert made.verify(value, method="INVITE", now=0.0).verdict in (Verdict.DENIED, Verdict.GRANTED)


def test_challenges_that_cannot_be_answered_are_passed_over() -> None:
    challenges = [
        'Basic realm="x"',
        'Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"',
        'Digest realm="r", nonce="n", qop="strange"',
        'Digest realm="a \\"quoted\\" realm", nonce="n", opaque="o", algorithm=MD5-sess, qop="auth-int,auth"',
    ]
    value = answer_challenge(challenges, username="u", password="p", method="BYE", uri="sip:x", cnonce="c")
    assert value is not None
    params = parse_params(value)
    assert params["realm"] == 'a "quoted" realm' and params["opaque"] == "o" and params["qop"] == "auth"
    assert (
        answer_challenge(challenges[:3], username="u", password="p", method="BYE", uri="x", cnonce="c")
        is None
    )


@pytest.mark.parametrize(
    "value", ["", "Digest", "Digest a=b, a=c", "Digest =", "Digest " + "x=y," * 3000, 'Digest a="']
)
def test_malformed_parameters_are_refused(value: str) -> None:
    try:
        assert parse_params(value) == {}
    except DigestError:
        return
    assert value.strip() == "Digest"


def test_a_server_needs_a_secret_and_known_algorithms() -> None:
    with pytest.raises(DigestError):
        DigestServer("r", {}.get, secret=b"short")
    with pytest.raises(DigestError):
        server(algorithms=("CRC32",))
