"""The number (or name) in an address, and whether two of them are the same."""

from __future__ import annotations

import re

from appliance.media.sip.grammar import percent_decode

_SCHEME = re.compile(r"\s*(sips?|tel|im|pres|h323)\s*:", re.IGNORECASE)
_NUMBER = re.compile(r"\+?[0-9*#ABCDabcd]{1,40}")
_PUNCTUATED = re.compile(r"[+0-9][0-9 ().\-/]{0,60}")
_SEPARATORS = str.maketrans("", "", " ().-/")
_HOST = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|.*[A-Za-z].*\..*")
_NOBODY = frozenset(
    {
        "anonymous",
        "unknown",
        "unavailable",
        "restricted",
        "private",
        "withheld",
        "none",
        "invalid",
        "null",
        "-",
    }
)
_NATIONAL = 6  # digits that a number without its trunk prefix has at least
_COUNTRY_CODE = 3  # digits that a country code has at most


def clean(text: str, limit: int) -> str:
    """Text from a SIP message as JSON can carry it: octets that are no UTF-8 become question marks."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def subscriber(address: str) -> str:
    """The normalised number or the lower-case name of an address of any sort; "" where it names nobody.

    Takes name-addr, URIs, `user@host` and a bare number. Separators go, `00` at the front becomes `+`.
    """
    text = address.strip()
    opening = text.rfind("<")
    if opening >= 0:
        text = text[opening + 1 :].partition(">")[0]
    match = _SCHEME.match(text)
    text = text[match.end() :] if match else text
    user, at, _ = text.partition("@")
    if not at:
        user = text
    user = percent_decode(user).partition(";")[0].partition("?")[0].strip()
    if not at:
        if user.startswith("["):
            return ""
        if ":" in user:
            user = user.partition(":")[0]
        if _HOST.fullmatch(user):
            return ""
    else:
        user = user.partition(":")[0]
    return normalise(user)


def normalise(user: str) -> str:
    """A number without separators and with `+` for `00`; anything else in lower case, "" for words such as anonymous."""
    user = user.strip().strip('"')
    if _PUNCTUATED.fullmatch(user):
        user = user.translate(_SEPARATORS)
    if _NUMBER.fullmatch(user):
        return "+" + user[2:] if user.startswith("00") and len(user) > 9 and user.isdigit() else user
    name = user.lower()
    return "" if name in _NOBODY else name


def is_number(text: str) -> bool:
    """Whether a subscriber is a number and not a name."""
    return any(character.isdigit() for character in text) and _NUMBER.fullmatch(text) is not None


def same_number(one: str, other: str) -> bool:
    """Whether two normalised subscribers are the same, national and international spelling of a number included."""
    return bool(one) and (one == other or loosely_same(one, other))


def loosely_same(one: str, other: str) -> bool:
    """Whether they differ only in how much of the prefix is dialled: +441632960100, 441632960100, 01632960100."""
    if len(one) < len(other):
        one, other = other, one
    if one.startswith("+"):
        digits = one[1:]
        if other == digits and len(digits) >= _NATIONAL + 2:
            return True
        national = other.removeprefix("0")
        return (
            other.startswith("0")
            and len(national) >= _NATIONAL
            and digits.endswith(national)
            and 1 <= len(digits) - len(national) <= _COUNTRY_CODE
        )
    return False


def pattern_rank(pattern: str, number: str) -> int:
    """How well a pattern of a line fits a normalised subscriber: 0 not at all, more for what is more specific.

    A pattern is a number (or a queue's name); a trailing `*` stands for any rest. A star alone fits every number.
    """
    if not number:
        return 0
    prefix, star, rest = pattern.strip().partition("*")
    if star and not rest:
        wanted = normalise(prefix) if prefix else ""
        if number.startswith(wanted):
            return 1 + len(wanted)
        return 1 if wanted and _prefix_of_international(wanted, number) else 0
    wanted = normalise(pattern)
    if not wanted:
        return 0
    if number == wanted:
        return 1000 + len(wanted)
    return 500 + len(wanted) if loosely_same(wanted, number) else 0


def _prefix_of_international(prefix: str, number: str) -> bool:
    """`+4420*` and 4420...: the plus alone is missing."""
    return prefix.startswith("+") and len(prefix) > 2 and number.startswith(prefix[1:])
