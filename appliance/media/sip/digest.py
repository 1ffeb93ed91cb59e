"""Digest access authentication: RFC 7616 as RFC 8760 profiles it for SIP (SHA-256 and MD5, qop auth and auth-int).

The client half answers a challenge, the server half makes and verifies them. Nothing is kept about a nonce but the
highest counters seen; nonces carry their own time under a MAC, so that a flood of requests costs no memory.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.model import InvalidError

_HASHES: dict[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
}
_PARAM = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))\s*(?:,|$)')
MAX_VALUE = 4096  # characters of one header value we are willing to read
MAX_PARAMS = 32


class DigestError(InvalidError):
    """An authentication header that cannot be read."""

    reason = "SIP_DIGEST_INVALID"


def parse_params(value: str) -> dict[str, str]:
    """The parameters of a `Digest` challenge or credential, names in lower case, quoting undone.

    Raises `DigestError` where the scheme is another or the value is malformed.
    """
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest":
        raise DigestError("not the Digest scheme")
    if len(value) > MAX_VALUE:
        raise DigestError("authentication header too long")
    rest = rest.strip()
    params: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAM.match(rest, position)
        if match is None or match.end() == position or len(params) >= MAX_PARAMS:
            raise DigestError("malformed authentication header")
        name = match[1].lower()
        if name in params:
            raise DigestError("repeated parameter in authentication header")
        params[name] = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        position = match.end()
    return params


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def response_digest(
    algorithm: str,
    *,
    username: str,
    realm: str,
    password: str,
    nonce: str,
    method: str,
    uri: str,
    qop: str = "",
    nc: str = "",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """The `response` value (RFC 7616, section 3.4.1; without `qop` that of RFC 2069).

    `algorithm` is MD5 or SHA-256, with or without `-sess`. Raises `DigestError` for others.
    """
    name = algorithm.upper()
    session = name.endswith("-SESS")
    digest = _HASHES.get(name.removesuffix("-SESS"))
    if digest is None:
        raise DigestError("digest algorithm not supported")
    ha1 = digest(f"{username}:{realm}:{password}".encode())
    if session:
        ha1 = digest(f"{ha1}:{nonce}:{cnonce}".encode())
    a2 = f"{method}:{uri}" + (f":{digest(body)}" if qop == "auth-int" else "")
    ha2 = digest(a2.encode())
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return digest(f"{ha1}:{middle}:{ha2}".encode())


def answer_challenge(
    challenges: Iterable[str],
    *,
    username: str,
    password: str,
    method: str,
    uri: str,
    cnonce: str,
    nc: int = 1,
    body: bytes = b"",
    only_realm: str = "",
) -> str | None:
    """The credentials for the first of the challenges we can answer (RFC 8760, section 2.4), or None.

    `challenges` are values of WWW-Authenticate or Proxy-Authenticate; what cannot be read is passed over, and
    where `only_realm` says something, what is of another realm.
    """
    for value in challenges:
        try:
            params = parse_params(value)
        except DigestError:
            continue  # another scheme, or a broken one: the next may do
        algorithm = params.get("algorithm", "MD5")
        if algorithm.upper().removesuffix("-SESS") not in _HASHES or "nonce" not in params:
            continue
        if only_realm and params.get("realm", "") != only_realm:
            continue
        offered = [item.strip().lower() for item in params.get("qop", "").split(",") if item.strip()]
        qop = next((item for item in ("auth", "auth-int") if item in offered), "")
        if offered and not qop:
            continue
        realm, nonce, count = params.get("realm", ""), params["nonce"], f"{nc:08x}"
        response = response_digest(
            algorithm,
            username=username,
            realm=realm,
            password=password,
            nonce=nonce,
            method=method,
            uri=uri,
            qop=qop,
            nc=count,
            cnonce=cnonce,
            body=body,
        )
        fields = [
            f"username={_quote(username)}",
            f"realm={_quote(realm)}",
            f"nonce={_quote(nonce)}",
            f"uri={_quote(uri)}",
            f"response={_quote(response)}",
            f"algorithm={algorithm}",
        ]
        if qop:
            fields += [f"cnonce={_quote(cnonce)}", f"qop={qop}", f"nc={count}"]
        elif algorithm.upper().endswith("-SESS"):
            fields.append(f"cnonce={_quote(cnonce)}")
        if "opaque" in params:
            fields.append(f"opaque={_quote(params['opaque'])}")
        return "Digest " + ", ".join(fields)
    return None


class Verdict(enum.StrEnum):
    """What came of checking credentials."""

    GRANTED = "granted"
    STALE = "stale"  # the password is right, the nonce is old or used up: challenge again with stale=true
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Verified:
    verdict: Verdict
    username: str | None = None  # set where the verdict is GRANTED


class DigestServer:
    """Makes challenges for one realm and checks what answers them.

    `password_of` gives the password of a user, None for an unknown one. `secret` (32 random bytes) authenticates our
    nonces; `now` is in seconds on the same clock throughout; a nonce lives for `lifetime` seconds.
    """

    def __init__(
        self,
        realm: str,
        password_of: Callable[[str], str | None],
        *,
        secret: bytes,
        algorithms: tuple[str, ...] = ("SHA-256", "MD5"),
        lifetime: float = 300.0,
        max_nonces: int = 10_000,
    ) -> None:
        if not algorithms or any(name not in _HASHES for name in algorithms):
            raise DigestError("digest algorithm not supported")
        if len(secret) < 16:
            raise DigestError("the secret for nonces is too short")
        self._realm = realm
        self._password_of = password_of
        self._secret = secret
        self._algorithms = algorithms
        self._lifetime = lifetime
        self._max_nonces = max_nonces
        self._serial = 0
        self._counters: OrderedDict[str, int] = OrderedDict()  # nonce to the highest nc seen

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]

    def challenges(self, now: float, *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate headers, the strongest algorithm first."""
        self._serial += 1
        stamp = f"{int(now * 1000):x}-{self._serial:x}"
        nonce = f"{stamp}-{self._mac(stamp)}"
        tail = ", stale=true" if stale else ""
        return [
            f'Digest realm={_quote(self._realm)}, nonce="{nonce}", algorithm={name}, qop="auth"{tail}'
            for name in self._algorithms
        ]

    def verify(self, value: str, *, method: str, now: float) -> Verified:
        """Check an Authorization value for a request of `method`. Never raises; what is malformed is denied.

        The digest URI is taken from the credential: proxies may rewrite the Request-URI (RFC 7616, section 3.4.6).
        """
        denied = Verified(Verdict.DENIED)
        try:
            params = parse_params(value)
        except DigestError:
            return denied
        algorithm = params.get("algorithm", "MD5").upper()
        if (
            algorithm not in self._algorithms
            or params.get("realm") != self._realm
            or params.get("qop") != "auth"
        ):
            return denied
        nonce, username = params.get("nonce", ""), params.get("username", "")
        stamp, _, mac = nonce.rpartition("-")
        if not hmac.compare_digest(mac.encode(), self._mac(stamp).encode()):
            return denied
        password = self._password_of(username)
        expected = response_digest(
            algorithm,
            username=username,
            realm=self._realm,
            password="" if password is None else password,
            nonce=nonce,
            method=method,
            uri=params.get("uri", ""),
            qop="auth",
            nc=params.get("nc", ""),
            cnonce=params.get("cnonce", ""),
        )
        same = hmac.compare_digest(expected.encode(), params.get("response", "").lower().encode())
        if password is None or not same:
            return denied
        return self._fresh(nonce, stamp, params.get("nc", ""), username, now)

    def _fresh(self, nonce: str, stamp: str, nc: str, username: str, now: float) -> Verified:
        """Password and MAC are right: is the nonce young, and the counter higher than all before?"""
        if not re.fullmatch(r"[0-9a-fA-F]{8}", nc):
            return Verified(Verdict.DENIED)
        made = int(stamp.partition("-")[0], 16) / 1000
        count, seen = int(nc, 16), self._counters.get(nonce, 0)
        if not made - 1 <= now <= made + self._lifetime or count <= seen:
            return Verified(Verdict.STALE)
        self._counters[nonce] = count
        self._counters.move_to_end(nonce)
        if len(self._counters) > self._max_nonces:
            self._counters.popitem(last=False)
        return Verified(Verdict.GRANTED, username)
