"""Telephone numbers in the one form they are searched by: the digits of E.164, without the plus. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_DIGITS: Final = 32
# With fewer digits behind it a national prefix is part of a code of the switchboard's own.
_NATIONAL_LEAST: Final = 6
_FORM = re.compile(r"\s*(\*?)\s*(\+?)((?:[0-9.\-\s]|\([0-9]*\))+?)\s*(\*?)\s*")
_OWN_PREFIX = re.compile(r"\(0\)")  # +44 (0)1632 960001: dialled at home only
_NO_DIGIT = re.compile(r"[^0-9]")


@dataclass(frozen=True)
class Asked:
    """A number as a filter asks for it: its digits with a leading plus where there was one; open at either end."""

    digits: str
    open_start: bool = False
    open_end: bool = False


@dataclass(frozen=True)
class Numbering:
    """How numbers are written where the box is; the United Kingdom's unless a site says otherwise.

    `country`: digits of the country code; `national` and `international`: what is dialled before a number within
    the country, and before a country code.
    """

    country: str = "44"
    national: str = "0"
    international: str = "00"

    def normal(self, number: str) -> str:
        """The digits of E.164 where a number says which country it is of, or is a national one; else its digits.

        07700 900123, 00447700900123 and +447700900123 are one number; 200 stays the extension that it is.
        """
        if number.startswith("+"):
            return number[1:]
        digits = number
        if self.international and digits.startswith(self.international):
            rest = digits[len(self.international) :]
            if len(rest) >= _NATIONAL_LEAST:
                return rest
        if self.national and digits.startswith(self.national):
            rest = digits[len(self.national) :]
            if len(rest) >= _NATIONAL_LEAST:
                return self.country + rest
        return digits

    def starts(self, asked: str) -> list[str]:
        """How a normal number may begin that, as somebody writes it, begins like this."""
        if asked.startswith("+"):
            return [asked[1:]]
        found = [asked]
        if self.international and asked.startswith(self.international):
            found.append(asked[len(self.international) :])
        elif self.national and asked.startswith(self.national):
            found.append(self.country + asked[len(self.national) :])
        return [start for start in dict.fromkeys(found) if start]

    def fits(self, wanted: Asked, number: str, anywhere: bool) -> bool:
        """Whether a number is what a filter asks for; `anywhere`: any part of it will do, as with `:`."""
        if not number:
            return False
        have, plain = self.normal(number), wanted.digits.lstrip("+")
        if anywhere and not wanted.digits.startswith("+"):
            return (plain.lstrip("0") or plain) in have
        if wanted.open_start and not anywhere:
            return plain in have if wanted.open_end else have.endswith(plain)
        if anywhere or wanted.open_end:
            return any(have.startswith(start) for start in self.starts(wanted.digits))
        return have == self.normal(wanted.digits)

    def key(self) -> str:
        """Says whether numbers were put into this form by the same rules."""
        return f"{self.country}/{self.national}/{self.international}"


def asked(text: str) -> Asked:
    """A number as somebody writes it: spaces, dots, dashes and parentheses do not matter; `*` leaves an end open.

    ValueError says what should have been there.
    """
    wrong = ValueError("should be a telephone number, such as 07700 900123 or +44*")
    found = _FORM.fullmatch(text) if len(text) <= 100 else None
    if found is None:
        raise wrong
    body = _OWN_PREFIX.sub("", found[3]) if found[2] else found[3]
    digits = _NO_DIGIT.sub("", body)
    if not 1 <= len(digits) <= MAX_DIGITS:
        raise wrong
    return Asked(found[2] + digits, bool(found[1]), bool(found[4]))
