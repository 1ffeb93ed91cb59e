"""The filter fields of audit entries, as SQL on the audit's index."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.identities import Role
from appliance.audit.index import entries
from appliance.catalog import filters, values
from appliance.catalog.filters import Comparison, Field, fold

Clause = sa.ColumnElement[bool]
_WORD: Final = Field(values.EQUAL, values.word)
_TEXT: Final = Field(values.EQUAL_OR_HAS, values.word)

FIELDS: Final[Mapping[str, Field]] = {
    "time": Field(values.ORDERED, values.time_ns),
    "index": Field(values.ORDERED, values.integer),
    "what": _WORD,
    "who": _WORD,
    "outcome": _WORD,
    "request": _WORD,
    "method": _TEXT,
    "subject": _TEXT,
    "purpose": _TEXT,
    "role": Field(values.HAS, values.choice(Role)),
}
_c = entries.c
_COLUMNS: Final[Mapping[str, sa.Column[Any]]] = {
    "time": _c.time_ns,
    "index": _c.number,
    "what": _c.what,
    "who": _c.who,
    "outcome": _c.outcome,
    "request": _c.request,
    "method": _c.method,
    "subject": _c.subject,
    "purpose": _c.purpose,
}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def clause(text: str) -> Clause | None:
    """The WHERE clause of a filter; None for an empty one. FilterError."""
    node = filters.parse(text, FIELDS)
    if node is None:
        return None
    return fold(node, _comparison, _not, _and, _or)


def _not(term: Clause) -> Clause:
    return sa.not_(term)


def _and(terms: list[Clause]) -> Clause:
    return sa.and_(*terms)


def _or(terms: list[Clause]) -> Clause:
    return sa.or_(*terms)


def _comparison(part: Comparison) -> Clause:
    value: Any = part.value
    match part.field, part.operator:
        case "role", _:
            return _c.roles.contains(f",{value},", autoescape=True)
        case "method", ":":
            return _c.name == value.rpartition("/")[2]
        case field, ":":
            column = _COLUMNS[field]
            return sa.and_(column >= value, column < value + "\U0010ffff")
        case field, sign:
            compared: Clause = _COMPARE[sign](_COLUMNS[field], value)
            return compared
