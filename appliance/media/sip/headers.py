"""Header fields: an ordered multi-map with case-insensitive names and compact forms (RFC 3261, section 7.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from appliance.media.sip.grammar import WS, is_token, split_list
from appliance.model.errors import InvalidError

COMPACT_FORMS = {  # IANA registry of SIP header fields
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}


def header_key(name: str) -> str:
    """The one name under which all spellings of a header are found."""
    key = name.lower()
    return COMPACT_FORMS.get(key, key) if len(key) == 1 else key


class Headers:
    """Header fields in order, names as written. Looking up is by any spelling.

    Names must be tokens and values may hold no line ends: else `InvalidError`, so that nothing can smuggle in a header.
    """

    __slots__ = ("_fields", "cache")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str, str]] = []  # key, name as written, value
        self.cache: dict[str, Any] = {}  # typed values read from these fields; emptied by each change
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def from_wire(cls, fields: list[tuple[str, str, str]]) -> Headers:
        """From (key, name, value) that a parser has already checked."""
        headers = cls()
        headers._fields = fields
        return headers

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field of that name."""
        key = header_key(name)
        for field_key, _, value in self._fields:
            if field_key == key:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of that name, one for each line."""
        key = header_key(name)
        return [value for field_key, _, value in self._fields if field_key == key]

    def get_list(self, name: str) -> list[str]:
        """The elements of a list header, from all its lines, split on commas outside of quotes and angle brackets.

        Raises `SipParseError` when a quote or bracket is never closed.
        """
        return [element for value in self.get_all(name) for element in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Append a field at the end."""
        self._fields.append(self._checked(name, value))
        self.cache.clear()

    def add_first(self, name: str, value: str) -> None:
        """Put a field before all others of its name (a Via, a Route), or at the very top."""
        key = header_key(name)
        at = next((i for i, (field_key, _, _) in enumerate(self._fields) if field_key == key), 0)
        self._fields.insert(at, self._checked(name, value))
        self.cache.clear()

    def set(self, name: str, value: str) -> None:
        """Have exactly one field of that name: in the place of the first one, or at the end."""
        self.replace(name, (value,))

    def replace(self, name: str, values: Iterable[str]) -> None:
        """Have one field for each value: in the place of the first one of that name, or at the end."""
        key = header_key(name)
        new = [self._checked(name, value) for value in values]
        at = next(
            (i for i, (field_key, _, _) in enumerate(self._fields) if field_key == key), len(self._fields)
        )
        kept = [field for field in self._fields[at:] if field[0] != key]
        self._fields[at:] = new + kept
        self.cache.clear()

    def set_first(self, name: str, value: str) -> None:
        """Change the value of the first field of that name, leaving its further ones alone. Adds it if there is none."""
        key = header_key(name)
        for i, (field_key, written, _) in enumerate(self._fields):
            if field_key == key:
                self._fields[i] = self._checked(written, value)
                self.cache.clear()
                return
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Drop all fields of that name."""
        key = header_key(name)
        self._fields[:] = [field for field in self._fields if field[0] != key]
        self.cache.clear()

    def copy(self) -> Headers:
        headers = Headers()
        headers._fields = list(self._fields)
        return headers

    @staticmethod
    def _checked(name: str, value: str) -> tuple[str, str, str]:
        if not is_token(name):
            raise InvalidError("a header name is no token", field="name")
        if "\r" in value or "\n" in value:
            raise InvalidError("a header value holds a line end", field=name)
        return header_key(name), name, value.strip(WS)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(name as written, value) in order."""
        return ((name, value) for _, name, value in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        """Same fields with the same values in the same order, however the names are spelt."""
        if not isinstance(other, Headers):
            return NotImplemented
        mine = [(key, value) for key, _, value in self._fields]
        return mine == [(key, value) for key, _, value in other._fields]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Names only: values are personal data."""
        return f"Headers({', '.join(name for _, name, _ in self._fields)})"
