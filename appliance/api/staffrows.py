"""A table of staff against the list that is there: who is entered, who is changed, and what is wrong. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.api import stafffields
from appliance.api.csvtable import Problem, Row
from appliance.model import InvalidError, new_id
from appliance.model.routing import Line
from appliance.model.staff import StaffKind, StaffMember

COLUMNS: Final = ("name", "email", "identity", "number", "line", "kind")
NEEDED: Final = ("name",)
_SEVERAL: Final = "|"


@dataclass
class Planned:
    """What a table would do; nothing where there are problems."""

    created: list[StaffMember] = field(default_factory=list)
    updated: list[StaffMember] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _Wrong(Exception):
    """A cell is wrong: column, reason, message."""

    def __init__(self, column: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.column, self.reason, self.message = column, reason, message


def plan(
    rows: Sequence[Row], present: Sequence[StaffMember], lines: Sequence[Line], tenant_id: str, now_ns: int
) -> Planned:
    """See the module. `present`: all who work here."""
    made = Planned()
    people, named = Known(present), _named(lines)
    taken: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    for row in rows:
        try:
            said = _read(row, named, tenant_id)
            before = people.one(said.get("identity", ""), said.get("numbers", ()), said.get("email", ""))
            if before is not None and before.staff_id in seen:
                raise _Wrong("name", "twice", "is the same person as a row above")
            for key in _keys(said):
                if key in taken:
                    raise _Wrong(key[0], "twice", f"stands in row {taken[key]}, too")
                taken[key] = row.number
        except _Wrong as wrong:
            made.problems.append(Problem(row.number, wrong.column, wrong.reason, wrong.message))
            continue
        if before is None:
            fresh = StaffMember(
                staff_id=new_id(),
                tenant_id=tenant_id,
                create_ns=now_ns + row.number,  # in the order of the table
                **{"kind": StaffKind.AGENT if said.get("numbers") else StaffKind.OTHER, **said},
            )
            made.created.append(fresh)
            continue
        seen.add(before.staff_id)
        after = before.model_copy(update=said)
        if after != before:
            made.updated.append(after)
    return made


class Known:
    """Finds somebody who works here by what a row says."""

    def __init__(self, present: Sequence[StaffMember]) -> None:
        self._by: dict[tuple[str, str], list[StaffMember]] = defaultdict(list)
        for one in present:
            self._by["id", one.staff_id].append(one)
            self._by["identity", one.identity].append(one)
            self._by["email", one.email.casefold()].append(one)
            for number in one.numbers:
                self._by["number", number].append(one)

    def one(
        self, identity: str = "", numbers: Sequence[str] = (), email: str = "", staff_id: str = ""
    ) -> StaffMember | None:
        """Who has one of these; None: nobody. _Wrong where they lead to several."""
        keys = [("id", staff_id), ("identity", identity), *(("number", one) for one in numbers)]
        found = {one.staff_id: one for key in keys if key[1] for one in self._by.get(key, ())}
        if not found and email:  # several may share a mailbox: what is a person's alone goes before it
            found = {one.staff_id: one for one in self._by.get(("email", email.casefold()), ())}
        if len(found) > 1:
            raise _Wrong("name", "ambiguous", "fits several who work here")
        return next(iter(found.values()), None)


def who(known: Known, text: str, tenant_id: str) -> StaffMember:
    """Whom one cell names: an email, identity, number or id. _Wrong."""
    if not text:
        raise _Wrong("person", "missing", "says nobody")
    tries: list[dict[str, Any]] = [{"staff_id": text}, {"email": text}]
    for name, check in (
        ("identity", lambda: stafffields.identity(text, tenant_id, "person")),
        ("numbers", lambda: stafffields.numbers([text], "person")),
    ):
        try:
            tries.append({name: check()})
        except InvalidError:
            continue  # it is of another form
    for one in tries:
        try:
            found = known.one(**one)
        except _Wrong as wrong:
            raise _Wrong("person", wrong.reason, wrong.message) from None
        if found is not None:
            return found
    raise _Wrong("person", "unknown", "is nobody who works here")


Wrong = _Wrong


def _keys(said: dict[str, Any]) -> list[tuple[str, str]]:
    """What one person alone has."""
    found = [("number", one) for one in said.get("numbers", ())]
    return [*found, ("identity", said["identity"])] if said.get("identity") else found


def _read(row: Row, named: Mapping[str, list[str]], tenant_id: str) -> dict[str, Any]:
    """Fields of a staff member, of the columns that the table has. _Wrong."""
    cells = row.cells

    def checked(column: str, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except InvalidError as error:
            raise _Wrong(column, "malformed", error.message) from None

    if not cells["name"]:
        raise _Wrong("name", "missing", "a name is needed")
    said: dict[str, Any] = {
        "display_name": checked("name", lambda: stafffields.display_name(cells["name"], "name"))
    }
    if "email" in cells:
        said["email"] = checked("email", lambda: stafffields.email(cells["email"], "email"))
    if "identity" in cells:
        said["identity"] = checked(
            "identity", lambda: stafffields.identity(_full(cells["identity"]), tenant_id, "identity")
        )
    if "number" in cells:
        said["numbers"] = checked("number", lambda: stafffields.numbers(_several(cells["number"]), "number"))
    if "line" in cells:
        said["lines"] = tuple(dict.fromkeys(_line(one, named) for one in _several(cells["line"])))
        if len(said["lines"]) > stafffields.MAX_LINES:
            raise _Wrong("line", "limit", f"should be at most {stafffields.MAX_LINES} lines")
    if cells.get("kind"):
        if cells["kind"].lower() not in set(StaffKind):
            raise _Wrong("kind", "unknown", "should be agent or other")
        said["kind"] = StaffKind(cells["kind"].lower())
    return said


def _several(cell: str) -> list[str]:
    return [one.strip() for one in cell.split(_SEVERAL) if one.strip()]


def _full(cell: str) -> str:
    """An identity as people type it: a bare name is one of the tenant's own."""
    return f"identities/{cell}" if cell and ":" not in cell and "/" not in cell else cell


def _named(lines: Sequence[Line]) -> dict[str, list[str]]:
    """Ids of lines, by each way to write them."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in lines:
        for name in {one.line_id, f"tenants/{one.tenant_id}/lines/{one.line_id}", one.display_name}:
            found[name].append(one.line_id)
    return found


def _line(cell: str, named: Mapping[str, list[str]]) -> str:
    found = named.get(cell, [])
    if len(found) != 1:
        reason, message = (
            ("unknown", "is no line of this tenant") if not found else ("ambiguous", "fits several lines")
        )
        raise _Wrong("line", reason, message)
    return found[0]
