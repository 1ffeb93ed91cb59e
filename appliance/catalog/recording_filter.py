"""The filter fields of recordings, as SQL."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables, values
from appliance.catalog.filters import Comparison, Field, Node, fold
from appliance.catalog.records import State
from appliance.model import Direction, MarkKind, Role

Clause = sa.ColumnElement[bool]

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
    "party.number": Field(values.EQUAL_OR_HAS, values.number),
    "party.name": Field(values.HAS, values.words),
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


def clause(node: Node) -> Clause:
    """The WHERE clause of a filter on `tables.recordings`."""
    return fold(node, _comparison, sa.not_, lambda terms: sa.and_(*terms), lambda terms: sa.or_(*terms))


def _comparison(part: Comparison) -> Clause:
    column = _COLUMNS.get(part.field)
    if column is None:
        return _of_content(part)
    compared: Clause = _COMPARE[part.operator](column, part.value)
    # What is unknown does not match; without this, NOT of it would not match either.
    return sa.and_(column.is_not(None), compared) if column.nullable else compared


def _of_content(part: Comparison) -> Clause:
    value: Any = part.value
    match part.field:
        case "session_ids":
            return _any(tables.identifiers.c.recording_id, tables.identifiers.c.value == value)
        case "flags":
            return _any(tables.flags.c.recording_id, tables.flags.c.flag == value)
        case "marks":
            return _any(tables.marks.c.recording_id, tables.marks.c.kind == value)
        case "party.role":
            found = tables.parties.c.role == value
        case "party.address":
            found = tables.parties.c.aor == value
        case "party.number" if part.operator == ":":
            return _any(
                tables.parties.c.recording_id,
                _begins(tables.parties.c.number_tail, values.significant_tail(value)),
            )
        case "party.number":
            found = tables.parties.c.number == value
        case "party.name":
            # Each word asked for begins some word of a party's name.
            word = tables.party_words.c
            return sa.and_(*(_any(word.recording_id, _begins(word.word, start)) for start in value))
        case other:
            raise AssertionError(f"no such field: {other}")
    if part.field == "party.address" and part.operator == ":":
        found = _begins(tables.parties.c.aor, value)
    some = _any(tables.parties.c.recording_id, found)
    return sa.not_(some) if part.operator == "!=" else some


def _any(column: sa.Column[Any], condition: Clause) -> Clause:
    return _r.id.in_(sa.select(column).where(condition))


def _begins(column: sa.Column[Any], start: str) -> Clause:
    """As a range, which an index serves in every database (U+10FFFF sorts after all else)."""
    return sa.and_(column >= start, column < start + "\U0010ffff")
