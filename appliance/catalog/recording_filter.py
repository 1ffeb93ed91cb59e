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
Test = Callable[[sa.ColumnElement[Any]], Clause]
IsCommon = Callable[[sa.Select[Any]], bool]

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


def clause(node: Node, is_common: IsCommon = lambda _: False) -> Clause:
    """The WHERE clause of a filter on `tables.recordings`.

    `is_common` says of a query on a content table whether it gives very many rows. What is rare is looked up first, and
    its recordings after that; what is common is asked of each recording on the way, since the first ones will do.
    """
    return fold(
        node,
        lambda part: _comparison(part, is_common),
        sa.not_,
        lambda terms: sa.and_(*terms),
        lambda terms: sa.or_(*terms),
    )


def _comparison(part: Comparison, is_common: IsCommon) -> Clause:
    column = _COLUMNS.get(part.field)
    if column is not None:
        compared: Clause = _COMPARE[part.operator](column, part.value)
        # What is unknown does not match; without this, NOT of it would not match either.
        return sa.and_(column.is_not(None), compared) if column.nullable else compared
    clauses: list[Clause] = []
    for column_of_content, test in _of_content(part):
        table = column_of_content.table
        found = sa.select(table.c.recording_id).where(test(column_of_content))
        if is_common(found):
            # Hidden from the planner, which would else go through all of what is common for each recording.
            hidden = sa.func.coalesce(column_of_content, "")
            clauses.append(sa.exists().where(table.c.recording_id == _r.id, test(hidden)))
        else:
            clauses.append(_r.id.in_(found))
    every = sa.and_(*clauses)
    return sa.not_(every) if part.operator == "!=" else every


def _of_content(part: Comparison) -> list[tuple[sa.Column[Any], Test]]:
    """Columns of content tables with tests, each of which some row of the recording passes."""
    value: Any = part.value
    parties = tables.parties.c
    match part.field, part.operator:
        case "session_ids", _:
            return [(tables.identifiers.c.value, _is(value))]
        case "flags", _:
            return [(tables.flags.c.flag, _is(value))]
        case "marks", _:
            return [(tables.marks.c.kind, _is(value))]
        case "party.role", _:
            return [(parties.role, _is(value))]
        case "party.address", ":":
            return [(parties.aor, _begins(value))]
        case "party.address", _:
            return [(parties.aor, _is(value))]
        case "party.number", ":":
            return [(parties.number_tail, _begins(values.significant_tail(value)))]
        case "party.number", _:
            return [(parties.number, _is(value))]
        case "party.name", _:
            # Each word asked for begins some word of a party's name.
            return [(tables.party_words.c.word, _begins(start)) for start in value]
        case other:
            raise AssertionError(f"no such field: {other}")


def _is(value: str) -> Test:
    return lambda column: column == value


def _begins(start: str) -> Test:
    """As a range, which an index serves in every database (U+10FFFF sorts after all else)."""
    return lambda column: sa.and_(column >= start, column < start + "\U0010ffff")
