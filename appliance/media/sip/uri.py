"""URIs: sip and sips (RFC 3261, section 19.1), tel (RFC 3966); any other scheme is kept as it is.

The parts are kept as written, escapes included, so that `str(parse_uri(text)) == text`. Two URIs are `==` when
written alike; whether they mean the same by section 19.1.4 is told by `uri_equivalent`, which cannot be `==`: it is not
transitive (parameters that only one of them has are ignored).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from appliance.media.sip.errors import SipParseError
from appliance.media.sip.grammar import UriParams, parse_uint, percent_decode

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(.+)", re.DOTALL)
_ILLEGAL = re.compile(r'[\x00-\x20\x7f<>"]')
_HOST_PART = re.compile(r"(\[[^\]]*\]|[^;?:]+)(?::([0-9]*))?(;[^?]*)?(?:\?(.*))?", re.DOTALL)
_HOST_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.~\-]+)?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")
_ONE_SIDED = ("user", "ttl", "method", "maddr", "transport")
_TEL_SEPARATORS = str.maketrans("", "", "-.()")


def is_host(text: str) -> bool:
    """Whether `text` can be a host: a name, an IPv4 address, or an IPv6 address in brackets. Underscores are let pass."""
    if text.startswith("["):
        return text.endswith("]") and _IPV6.fullmatch(text, 1, len(text) - 1) is not None
    return _HOST_NAME.fullmatch(text) is not None


def is_numeric(host: str) -> bool:
    """Whether a host, without brackets, is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def bracketed(host: str) -> str:
    """A host as it stands in a URI or Via: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host or "%" in host else host


NO_PARAMS = UriParams()


@dataclass(frozen=True, slots=True)
class SipUri:
    """`sip:user:password@host:port;params?headers`.

    `scheme` is lower case; `user`, `password`, `params`, `headers` are as written; `host` is without brackets.
    """

    scheme: str
    host: str
    user: str | None = None
    password: str | None = None
    port: int | None = None
    params: UriParams = NO_PARAMS
    headers: str = ""

    @property
    def decoded_user(self) -> str:
        """The user part without escapes, "" if there is none."""
        return percent_decode(self.user or "")

    @property
    def subscriber(self) -> str:
        """The number or name alone: the user part up to its first parameter, without escapes (`+15551;phone-context=x`)."""
        return percent_decode((self.user or "").partition(";")[0])

    @property
    def user_params(self) -> UriParams:
        """Parameters inside the user part, as of telephone-subscriber (section 19.1.6)."""
        return UriParams.parse((self.user or "").partition(";")[2])

    @property
    def transport(self) -> str | None:
        """The transport parameter in lower case."""
        value = self.params.get("transport")
        return value.lower() if value else None

    @property
    def loose(self) -> bool:
        """Whether `;lr` is there."""
        return "lr" in self.params

    @property
    def header_fields(self) -> tuple[tuple[str, str], ...]:
        """The headers after "?", without escapes."""
        pairs = (part.partition("=") for part in self.headers.split("&") if part)
        return tuple((percent_decode(name), percent_decode(value)) for name, _, value in pairs)

    def without_headers(self) -> SipUri:
        return replace(self, headers="")

    def __str__(self) -> str:
        user = (
            ""
            if self.user is None
            else self.user + ("" if self.password is None else f":{self.password}") + "@"
        )
        port = "" if self.port is None else f":{self.port}"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{bracketed(self.host)}{port}{self.params}{headers}"


@dataclass(frozen=True, slots=True)
class TelUri:
    """`tel:number;params`; `number` as written, visual separators included."""

    number: str
    params: UriParams = NO_PARAMS

    scheme = "tel"

    @property
    def subscriber(self) -> str:
        """The number without visual separators."""
        return percent_decode(self.number).translate(_TEL_SEPARATORS)

    def __str__(self) -> str:
        return f"tel:{self.number}{self.params}"


@dataclass(frozen=True, slots=True)
class OpaqueUri:
    """A URI of any other scheme."""

    scheme: str
    opaque: str

    @property
    def subscriber(self) -> str:
        return self.opaque

    def __str__(self) -> str:
        return f"{self.scheme}:{self.opaque}"


Uri = SipUri | TelUri | OpaqueUri


def parse_uri(text: str) -> Uri:
    """Read a URI. Raises `SipParseError`: no scheme, no proper host or port, white space or brackets in it."""
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise SipParseError("a URI has no scheme")
    if _ILLEGAL.search(text):
        raise SipParseError("a URI holds white space, controls, quotes or angle brackets")
    scheme, rest = match[1].lower(), match[2]
    if scheme in ("sip", "sips"):
        return _parse_sip(scheme, rest)
    if scheme == "tel":
        number, _, params = rest.partition(";")
        if not number:
            raise SipParseError("a tel URI has no number")
        return TelUri(number, UriParams.parse(params))
    return OpaqueUri(match[1], rest)


def _parse_sip(scheme: str, rest: str) -> SipUri:
    user = password = None
    # The user part may hold ";" and "?" and "/": the first "@" ends it (section 25.1).
    at = rest.find("@")
    if at >= 0:
        user, colon, secret = rest[:at].partition(":")
        password = secret if colon else None
        rest = rest[at + 1 :]
    match = _HOST_PART.fullmatch(rest)
    if match is None or not is_host(match[1]):
        raise SipParseError("a SIP URI has no proper host")
    port = None
    if match[2]:
        port = parse_uint(match[2], 65535)
        if port is None:
            raise SipParseError("a SIP URI has no proper port")
    host = match[1][1:-1] if match[1].startswith("[") else match[1]
    return SipUri(scheme, host, user, password, port, UriParams.parse(match[3] or ""), match[4] or "")


def uri_equivalent(one: Uri, other: Uri) -> bool:
    """Whether two URIs mean the same resource: RFC 3261, section 19.1.4; RFC 3966, section 4; else: written alike."""
    if isinstance(one, SipUri) and isinstance(other, SipUri):
        return _sip_equivalent(one, other)
    if isinstance(one, TelUri) and isinstance(other, TelUri):
        mine = {name: (one.params.get(name) or "").lower() for name in one.params}
        theirs = {name: (other.params.get(name) or "").lower() for name in other.params}
        return one.subscriber.lower() == other.subscriber.lower() and mine == theirs
    if isinstance(one, OpaqueUri) and isinstance(other, OpaqueUri):
        return one.scheme.lower() == other.scheme.lower() and one.opaque == other.opaque
    return False


def _sip_equivalent(one: SipUri, other: SipUri) -> bool:
    if one.scheme != other.scheme or one.host.lower() != other.host.lower() or one.port != other.port:
        return False
    if _normal(one.user) != _normal(other.user) or _normal(one.password) != _normal(other.password):
        return False
    for name in {*one.params, *other.params}:
        mine, theirs = one.params.get(name), other.params.get(name)
        if mine is None or theirs is None:
            if name in _ONE_SIDED:
                return False
        elif mine.lower() != theirs.lower():
            return False
    return _header_set(one) == _header_set(other)


def _header_set(uri: SipUri) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in uri.header_fields)


def _normal(text: str | None) -> str | None:
    """Escapes of characters that need none resolved, the others in upper case: an escaped ";" is not a bare one."""
    if text is None or "%" not in text:
        return text

    def resolve(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    return _ESCAPE.sub(resolve, text)
