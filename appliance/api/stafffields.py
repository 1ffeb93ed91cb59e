"""What may be said of somebody of the staff: checked, from a message or from a row of a table alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from appliance.alarms.mail import is_address
from appliance.api import identitynames
from appliance.api.errors import FieldInvalidError, NameInvalidError
from appliance.api.noticebase import below, own_identity
from appliance.media.siprec.numbers import normalise
from appliance.model.staff import StaffKind, StaffMember, is_name
from earwitness.v1 import staff_pb2 as pb

MAX_NAME: Final = 100
MAX_NUMBERS: Final = 4
MAX_LINES: Final = 50
_NUMBER = re.compile(r"\+?[0-9]{1,32}|[a-z0-9][a-z0-9._-]{0,63}")
_OF_PROVIDER = re.compile(r"[a-z0-9-]{1,20}:[!-~]{1,42}")
_KINDS: Final = {
    pb.STAFF_KIND_AGENT: StaffKind.AGENT,
    pb.STAFF_KIND_OTHER: StaffKind.OTHER,
}


def display_name(text: str, field: str) -> str:
    """A name of any script, composed (NFC); FieldInvalidError."""
    said = unicodedata.normalize("NFC", text.strip())
    if len(said) > MAX_NAME or not is_name(said):
        raise FieldInvalidError(
            f"should be a name of 1 to {MAX_NAME} characters on one line, none of which turns or hides text",
            field=field,
        )
    return said


def email(text: str, field: str) -> str:
    """An address for mail, or nothing; FieldInvalidError."""
    said = text.strip()
    if said and not is_address(said):
        raise FieldInvalidError("should be an address for mail, such as ada@trust.example", field=field)
    return said


def identity(text: str, tenant_id: str, field: str) -> str:
    """The key of an identity, or nothing; FieldInvalidError, NameInvalidError."""
    said = text.strip()
    if not said or _OF_PROVIDER.fullmatch(said):
        return said
    key = identitynames.read(said, field)
    if not own_identity(key, tenant_id):
        raise NameInvalidError("should be an identity of the tenant or of the box", field=field)
    return key


def numbers(some: Sequence[str], field: str) -> tuple[str, ...]:
    """Numbers or agent ids, normalised; FieldInvalidError."""
    if len(some) > MAX_NUMBERS:
        raise FieldInvalidError(f"should be at most {MAX_NUMBERS}", field=field)
    found = []
    for position, text in enumerate(some):
        number = normalise(text) if len(text) <= 64 else ""
        if not _NUMBER.fullmatch(number):
            raise FieldInvalidError(
                "should be a number with an optional leading +, or an agent id of letters, digits, . _ -",
                field=f"{field}[{position}]",
            )
        found.append(number)
    return tuple(dict.fromkeys(found))


def lines(some: Iterable[str], tenant_id: str, known: Iterable[str], field: str) -> tuple[str, ...]:
    """Ids of lines of the tenant, by their names; `known`: ids that it has. FieldInvalidError, NameInvalidError."""
    asked, there = list(some), set(known)
    if len(asked) > MAX_LINES:
        raise FieldInvalidError(f"should be at most {MAX_LINES}", field=field)
    found = []
    for position, text in enumerate(asked):
        line_id = below(tenant_id, text, "lines", f"{field}[{position}]")
        if line_id not in there:
            raise FieldInvalidError("is no line of this tenant", field=f"{field}[{position}]")
        found.append(line_id)
    return tuple(dict.fromkeys(found))


def kind(value: int, has_numbers: bool, field: str) -> StaffKind:
    """Unsaid: an agent where there are numbers. FieldInvalidError."""
    if value == pb.STAFF_KIND_UNSPECIFIED:
        return StaffKind.AGENT if has_numbers else StaffKind.OTHER
    if value not in _KINDS:
        raise FieldInvalidError("is no kind of staff", field=field)
    return _KINDS[pb.StaffKind.ValueType(value)]


def read(asked: pb.StaffMember, before: StaffMember, known_lines: Iterable[str]) -> StaffMember:
    """Somebody as a message describes them; FieldInvalidError, NameInvalidError."""
    said = numbers(list(asked.numbers), "staff_member.numbers")
    return before.model_copy(
        update={
            "display_name": display_name(asked.display_name, "staff_member.display_name"),
            "email": email(asked.email, "staff_member.email"),
            "identity": identity(asked.identity, before.tenant_id, "staff_member.identity"),
            "numbers": said,
            "lines": lines(asked.lines, before.tenant_id, known_lines, "staff_member.lines"),
            "kind": kind(asked.kind, bool(said), "staff_member.kind"),
        }
    )
