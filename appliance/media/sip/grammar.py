"""The common pieces of SIP's grammar (RFC 3261, section 25): tokens, quoted strings, lists, parameters, numbers.

Every function takes time linear in its input. Text is header text: folded lines joined, bytes that are no UTF-8 kept
as surrogate escapes, so that what came in goes out the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from appliance.media.sip.errors import SipParseError

WS = " \t"
UINT32_MAX = 0xFFFF_FFFF

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_UINT = re.compile(r"0*([0-9]{1,10})", re.ASCII)
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_STOPS = {
    ",": re.compile(r'\\.|[",<>]', re.DOTALL),
    ";": re.compile(r'\\.|[";<>]', re.DOTALL),
}


def is_token(text: str) -> bool:
    """Whether `text` is a `token` of RFC 3261."""
    return _TOKEN.fullmatch(text) is not None


def parse_uint(text: str, maximum: int = UINT32_MAX) -> int | None:
    """A decimal number up to `maximum` (at most 10 digits without leading zeros), or None."""
    match = _UINT.fullmatch(text)
    if match is None:
        return None
    number = int(match[1])
    return number if number <= maximum else None


def match_quoted(text: str, position: int = 0) -> re.Match[str] | None:
    """A quoted-string at `position`; group 1 is its inside, still escaped."""
    return _QUOTED.match(text, position)


def unescape_pairs(text: str) -> str:
    """The inside of a quoted-string without its backslashes."""
    return _PAIR.sub(r"\1", text) if "\\" in text else text


def unquote(text: str) -> str:
    """The value of a token or quoted-string."""
    match = _QUOTED.fullmatch(text)
    return text if match is None else unescape_pairs(match[1])


def quote(text: str) -> str:
    """`text` as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def percent_decode(text: str) -> str:
    """Text of a URI with its `%xx` escapes resolved; what is no escape stays as it is (RFC 3986, section 2.1)."""
    if "%" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    decoded = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes((int(m[1], 16),)), raw)
    return decoded.decode("utf-8", "surrogateescape")


def split_outside(text: str, separator: str) -> list[str]:
    """Split on "," or ";" outside of quoted strings and angle brackets; white space around the parts is gone.

    Empty parts stay, for the caller to judge. Raises `SipParseError` when a quote or bracket is never closed.
    """
    if '"' not in text and "<" not in text:
        return [part.strip(WS) for part in text.split(separator)]
    parts: list[str] = []
    start = 0
    quoted = angle = False
    for match in _STOPS[separator].finditer(text):
        stop = match.group()
        if quoted:
            quoted = stop != '"'
        elif angle:
            angle = stop != ">"
        elif stop == '"':
            quoted = True
        elif stop == "<":
            angle = True
        elif stop == separator:
            parts.append(text[start : match.start()].strip(WS))
            start = match.end()
    if quoted:
        raise SipParseError("a quoted string is never closed")
    if angle:
        raise SipParseError("an angle bracket is never closed")
    parts.append(text[start:].strip(WS))
    return parts


def split_list(text: str) -> list[str]:
    """The elements of a comma-separated header value, empty ones left out."""
    return [part for part in split_outside(text, ",") if part]


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters in order, `;name=value` or `;name`. Names are case-insensitive; of equal names the first counts.

    `items` holds them as written (values still quoted); `get` gives the value without quotes, "" for a bare name.
    """

    items: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `;a=b;c`, with or without the first semicolon. Empty parameters are skipped: stray semicolons are common."""
        if not text:
            return cls()
        items: list[tuple[str, str | None]] = []
        for part in split_outside(text, ";"):
            if not part:
                continue
            name, equals, value = part.partition("=")
            name = name.rstrip(WS)
            if not name or '"' in name or "<" in name:
                raise SipParseError("a parameter has no proper name")
            items.append((name, value.lstrip(WS) if equals else None))
        return cls(tuple(items))

    @staticmethod
    def _plain_name(name: str) -> str:
        return name.lower()

    @staticmethod
    def _plain_value(value: str) -> str:
        return unquote(value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value, "" where the parameter has none, `default` where it is not there."""
        wanted = name.lower()
        for key, value in self.items:
            if self._plain_name(key) == wanted:
                return "" if value is None else self._plain_value(value)
        return default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """The names, in lower case."""
        return (self._plain_name(key) for key, _ in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def with_param(self, name: str, value: str | None = None) -> Self:
        """A copy where `name` has this (already escaped) value: in its place if it is there, else at the end."""
        wanted = name.lower()
        items: list[tuple[str, str | None]] = []
        placed = False
        for key, old in self.items:
            if self._plain_name(key) != wanted:
                items.append((key, old))
            elif not placed:
                items.append((key, value))
                placed = True
        if not placed:
            items.append((name, value))
        return type(self)(tuple(items))

    def without(self, name: str) -> Self:
        """A copy without `name`."""
        wanted = name.lower()
        return type(self)(tuple(item for item in self.items if self._plain_name(item[0]) != wanted))

    def __str__(self) -> str:
        return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.items)


NO_PARAMS = Params()


@dataclass(frozen=True, slots=True)
class UriParams(Params):
    """Parameters of a URI: names and values may be escaped by `%xx`, quotes mean nothing."""

    @classmethod
    def parse(cls, text: str) -> Self:
        items: list[tuple[str, str | None]] = []
        for part in text.split(";"):
            if part:
                name, equals, value = part.partition("=")
                items.append((name, value if equals else None))
        return cls(tuple(items))

    @staticmethod
    def _plain_name(name: str) -> str:
        return percent_decode(name).lower()

    @staticmethod
    def _plain_value(value: str) -> str:
        return percent_decode(value)
