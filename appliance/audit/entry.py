"""The form of an entry: one JSON object on one line, ASCII, no nesting. Its bytes without the line feed are the leaf.

An entry holds names, opaque ids and stable words, never a party's name or number, nor what a call answered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.audit.errors import EntryInvalidError

MAX_LINE: Final = 4096  # bytes
MAX_FIELDS: Final = 32
MAX_TEXT: Final = 400  # characters
MAX_LIST: Final = 16
EVERY_TENANT: Final = "-"

Value = str | int | bool | list[str]


def pack(record: Mapping[str, object]) -> bytes:
    """The line of a record, without a line feed; EntryInvalidError names the field that no entry can have."""
    if not 1 <= len(record) <= MAX_FIELDS:
        raise EntryInvalidError("an entry has 1 to 32 fields")
    for name, value in record.items():
        if not name.isascii() or not name.isidentifier() or len(name) > 40 or not _is_value(value):
            raise EntryInvalidError("a field of an entry is too long, or of another kind", field=name[:40])
    line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode()
    if len(line) > MAX_LINE:
        raise EntryInvalidError("an entry has at most 4096 bytes", size=len(line))
    return line


def parse(line: bytes) -> dict[str, object] | None:
    """The record of a line; None where it is none (torn, or not ours). Older ones may have any fields."""
    if not line.startswith(b"{") or len(line) > 4 * MAX_LINE:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class Entry:
    """What of an entry can be searched. Whatever a line does not say, or says in another form, is empty."""

    time_ns: int = 0
    what: str = ""
    who: str = ""
    roles: tuple[str, ...] = ()
    tenant: str = ""
    method: str = ""
    subject: str = ""
    purpose: str = ""
    outcome: str = ""
    request: str = ""
    certificate: str = ""

    @classmethod
    def of(cls, line: bytes) -> Entry:
        """Of a line; an empty one where it cannot be read."""
        record = parse(line) or {}
        time_ns, roles = record.get("time_ns"), record.get("roles")
        texts = {
            name: value[:MAX_TEXT]
            for name in _TEXTS
            if isinstance(value := record.get(name, ""), str) and value
        }
        return cls(
            time_ns=time_ns if isinstance(time_ns, int) and 0 <= time_ns < 2**63 else 0,
            roles=tuple(str(one)[:64] for one in roles[:MAX_LIST]) if isinstance(roles, list) else (),
            **texts,
        )


_TEXTS: Final = (
    "what",
    "who",
    "tenant",
    "method",
    "subject",
    "purpose",
    "outcome",
    "request",
    "certificate",
)


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= MAX_LIST and all(isinstance(one, str) and len(one) <= 64 for one in value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) and len(value) <= MAX_TEXT
