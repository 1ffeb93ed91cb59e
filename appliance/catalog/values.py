"""How values in filters are read, and how numbers and names are put into the form they are searched by.

Readers raise ValueError with what should have been there, never with what was: a value may be personal data.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from appliance.catalog.numbering import Asked, asked

EQUAL: Final = frozenset({"=", "!="})
ORDERED: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})
HAS: Final = frozenset({":"})
EQUAL_OR_HAS: Final = EQUAL | HAS

_MAX_INT: Final = 2**63 - 1
_DURATION = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?s")
_INTEGER = re.compile(r"-?\d{1,19}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_NUMBER_IN_AOR = re.compile(r"(?:sips?|tel):([+0-9().\-\s]+)(?:[@;?]|$)", re.IGNORECASE)
_DIGITS = re.compile(r"[^0-9]")
_WORD = re.compile(r"\w+")
_ASKED_WORD = re.compile(r"(\w+)(\*?)")

MAX_WORDS: Final = 8  # of a name; more are not indexed
MAX_WORD: Final = 40  # characters
MAX_ASKED: Final = 16  # words of one restriction
MAX_TAG: Final = 40  # characters


def time_ns(text: str) -> int:
    """A time (RFC 3339) or a date (its midnight UTC), as nanoseconds since the Unix epoch."""
    wrong = ValueError("should be a time such as 2026-11-25T10:00:00Z, or a date such as 2026-11-25")
    fraction, zone = "", "+00:00"
    if _DATE.fullmatch(text):
        seconds_text = f"{text}T00:00:00"
    elif found := _RFC3339.fullmatch(text):
        seconds_text = f"{found[1]}T{found[2]}"
        fraction = found[3] or ""
        zone = found[4] if found[4] not in "Zz" else "+00:00"
    else:
        raise wrong
    try:
        moment = datetime.fromisoformat(seconds_text + zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong from None
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    value = (whole.days * 86400 + whole.seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)
    if not -_MAX_INT <= value <= _MAX_INT:
        raise wrong
    return value


def duration_ns(text: str) -> int:
    """Seconds with an s after them, as nanoseconds."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("should be seconds such as 90s or 1.5s")
    return int(found[1]) * 10**9 + int((found[2] or "").ljust(9, "0"))


def integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or abs(int(text)) > _MAX_INT:
        raise ValueError("should be a whole number")
    return int(text)


def boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("should be true or false")
    return text == "true"


def word(text: str) -> str:
    """Any text of 1 to 300 characters."""
    if not 1 <= len(text) <= 300 or "\0" in text:
        raise ValueError("should be a text of 1 to 300 characters")
    return text


def choice(values: type[enum.StrEnum]) -> Callable[[str], object]:
    """One of an enumeration, written as in the API: upper case, underscores."""
    known = {member.name: member.value for member in values}

    def read(text: str) -> object:
        if text.upper() not in known:
            raise ValueError("should be one of " + ", ".join(known))
        return known[text.upper()]

    return read


def resource_id(collection: str) -> Callable[[str], object]:
    """The last id of a resource name (`tenants/x/lines/y`), or the id alone."""
    pattern = re.compile(rf"(?:tenants/[a-z2-7-]{{1,26}}/{collection}/)?([a-z2-7]{{26}})")

    def read(text: str) -> object:
        found = pattern.fullmatch(text)
        if found is None:
            raise ValueError(f"should be an id or a name such as tenants/-/{collection}/(id)")
        return found[1]

    return read


def number_of(aor: str) -> str:
    """The telephone number in an address of record (sip:, sips:, tel:): digits, leading plus kept; empty: none."""
    found = _NUMBER_IN_AOR.match(aor.strip())
    if found is None:
        return ""
    digits = _DIGITS.sub("", found[1])[:32]
    if not digits:
        return ""
    return "+" + digits if found[1].strip().startswith("+") else digits


def words_of(name: str) -> list[str]:
    """The words of a name, folded for searching: case and accents do not matter."""
    return all_words_of(name)[:MAX_WORDS]


def all_words_of(text: str) -> list[str]:
    """Every word of a text, once each, folded for searching."""
    return list(dict.fromkeys(part[:MAX_WORD] for part in _WORD.findall(fold(text))))


def fold(text: str) -> str:
    """Case and accents do not matter: done here, so that it is the same on every database."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def words(text: str) -> list[str]:
    """The words of a name to look for."""
    found = words_of(text)
    if not found:
        raise ValueError("should be a name")
    return found


@dataclass(frozen=True)
class Word:
    """A word to look for; `open_end`: what it begins will do."""

    text: str
    open_end: bool = False


def text_words(text: str) -> list[Word]:
    """Words to look for in a text, all of them; `*` after one finds what it begins."""
    found = [Word(part[:MAX_WORD], star == "*") for part, star in _ASKED_WORD.findall(fold(text))]
    if not 1 <= len(found) <= MAX_ASKED:
        raise ValueError(f"should be 1 to {MAX_ASKED} words, such as 'chest pain*'")
    return list(dict.fromkeys(found))


def tag(text: str) -> Word:
    """A tag, folded; `*` after it finds what it begins."""
    folded = fold(text.strip())
    open_end = folded.endswith("*")
    if not 1 <= len(folded.rstrip("*")) <= 4 * MAX_TAG:
        raise ValueError(f"should be a tag of 1 to {MAX_TAG} characters")
    return Word(folded.rstrip("*"), open_end)


def number_or_words(text: str) -> Asked | list[str]:
    """A telephone number, or the words of a name."""
    try:
        return asked(text)
    except ValueError:
        pass  # a name then
    try:
        return words(text)
    except ValueError:
        raise ValueError("should be a telephone number or a name") from None
