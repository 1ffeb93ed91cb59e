"""The filter fields of recordings, as SQL."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables, terms, values
from appliance.catalog.filters import Comparison, Field, Node, fold
from appliance.catalog.lookup import (
    Clause,
    Found,
    Lookup,
    all_of,
    any_of,
    begins,
    is_,
    none_of,
    of_word,
)
from appliance.catalog.numbering import Asked, asked
from appliance.catalog.records import State
from appliance.catalog.restrictions import restricted_clause
from appliance.model import Direction, MarkKind, Role

FIELDS: Final[Mapping[str, Field]] = {
    "start_time": Field(values.ORDERED, values.time_ns),
    "end_time": Field(values.ORDERED, values.time_ns),
    "duration": Field(values.ORDERED, values.duration_ns),
    "size_bytes": Field(values.ORDERED, values.integer),
    "part": Field(values.ORDERED, values.integer),
    "state": Field(values.EQUAL, values.choice(State)),
    "direction": Field(values.EQUAL, values.choice(Direction)),
    "whole": Field(values.EQUAL, values.boolean),
    "line": Field(values.EQUAL, values.resource_id("lines")),
    "call": Field(values.EQUAL, values.resource_id("calls")),
    "source": Field(values.EQUAL, values.word),
    "sip_call_id": Field(values.EQUAL, values.word),
    "session_ids": Field(values.HAS, values.word),
    "flags": Field(values.HAS, values.word),
    "marks": Field(values.HAS, values.choice(MarkKind)),
    "party.role": Field(values.HAS, values.choice(Role)),
    "party.address": Field(values.EQUAL_OR_HAS, values.word),
    "party.number": Field(values.EQUAL_OR_HAS, asked),
    "party.name": Field(values.HAS, values.words),
    "agent": Field(values.EQUAL_OR_HAS, values.number_or_words),
    "tags": Field(values.HAS, values.tag),
    "notes": Field(values.HAS, values.text_words),
    "restricted": Field(values.EQUAL_OR_HAS, values.boolean),
}

_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_r = tables.recordings.c
_COLUMNS: Final[Mapping[str, sa.Column[Any]]] = {
    "start_time": _r.start_ns,
    "end_time": _r.end_ns,
    "duration": _r.duration_ns,
    "size_bytes": _r.size,
    "part": _r.part,
    "state": _r.state,
    "direction": _r.direction,
    "whole": _r.whole,
    "line": _r.line_id,
    "call": _r.call_id,
    "source": _r.source,
    "sip_call_id": _r.sip_call_id,
}


def clause(node: Node, lookup: Lookup) -> Found:
    """The WHERE clause of a filter on `tables.recordings`."""
    return fold(node, lambda part: _comparison(part, lookup), none_of, all_of, any_of)


def conditions(connection: sa.Connection, tenant_id: str | None, where: Node | None) -> list[Clause]:
    """What is asked for of `tables.recordings`: a tenant's (None: every tenant's) that match a filter."""
    found = None if where is None else clause(where, Lookup(connection, tenant_id))
    tests = [] if found is None else [found.clause]
    if tenant_id is not None:
        # What names few recordings is quicker than all of a tenant's: the planner is kept from the index of those.
        rare = found is not None and found.rare
        tests.append((sa.func.coalesce(_r.tenant_id, "") if rare else _r.tenant_id) == tenant_id)
    return tests


def _comparison(part: Comparison, lookup: Lookup) -> Found:
    column = _COLUMNS.get(part.field)
    if column is not None:
        compared: Clause = _COMPARE[part.operator](column, part.value)
        # What is unknown does not match; without this, NOT of it would not match either.
        return Found(sa.and_(column.is_not(None), compared) if column.nullable else compared)
    found = _of_content(part, lookup)
    return none_of(found) if part.operator == "!=" else found


def _of_content(part: Comparison, lookup: Lookup) -> Found:
    value: Any = part.value
    has = part.operator == ":"
    match part.field:
        case "session_ids":
            return lookup.terms([is_(terms.IDENTIFIER + value)])
        case "flags":
            return lookup.terms([is_(terms.FLAG + value)])
        case "marks":
            return lookup.terms([is_(terms.MARK + value)])
        case "tags":
            return lookup.terms([of_word(terms.TAG, value)])
        case "notes":
            return lookup.terms(of_word(terms.NOTE, word) for word in value)
        case "restricted":
            held = restricted_clause()
            return Found(held if value else sa.not_(held))
        case "party.role":
            return lookup.party_role(value)
        case "party.address":
            return lookup.party(tables.parties.c.aor, begins(value) if has else is_(value))
        case "party.number":
            return lookup.number(terms.NUMBER, value, has)
        case "party.name":
            # Each word asked for begins some word of a party's name.
            return lookup.terms(begins(terms.NAME + start) for start in value)
        case "agent" if isinstance(value, Asked):
            return lookup.number(terms.AGENT_NUMBER, value, has)
        case "agent":
            test = begins if has else is_
            return lookup.terms(test(terms.AGENT_NAME + word) for word in value)
        case other:
            raise AssertionError(f"no such field: {other}")
