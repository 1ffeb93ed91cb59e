"""The filter language: a small part of AIP-160.

    filter      = [ conjunction ]
    conjunction = sequence { "AND" sequence }
    sequence    = choice { choice }                 (side by side means AND)
    choice      = term { "OR" term }                (OR binds tighter than AND, as AIP-160 says)
    term        = [ "NOT" | "-" ] ( "(" conjunction ")" | restriction )
    restriction = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value

Pure text to tree: what fields there are and what values mean is said by a table of `Field`. Every comparison has two
outcomes, never a third: what is unknown does not match, and NOT of it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from appliance.catalog.errors import FilterError

MAX_LENGTH: Final = 2000  # characters
MAX_DEPTH: Final = 16  # parentheses and NOTs inside one another
MAX_TERMS: Final = 64

_SPACE = re.compile(r"\s*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|:")
# A bare value ends at a space, a parenthesis or a quote: numbers, words, times, resource names need no quotes.
_BARE = re.compile(r"[^\s()\"'=<>!:][^\s()\"']*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Field:
    """A field that may be compared: with which operators, and how its values are read (ValueError says why not)."""

    operators: frozenset[str]
    parse: Callable[[str], object]


@dataclass(frozen=True)
class Comparison:
    """One restriction, its value already read."""

    field: str
    operator: str
    value: object


@dataclass(frozen=True)
class Not:
    term: Node


@dataclass(frozen=True)
class And:
    terms: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    terms: tuple[Node, ...]


Node = Comparison | Not | And | Or


def parse(text: str, fields: Mapping[str, Field]) -> Node | None:
    """The tree of a filter; None for an empty one (everything matches). FilterError says which field, and where."""
    if len(text) > MAX_LENGTH:
        raise FilterError(
            f"a filter has at most {MAX_LENGTH} characters", field="filter", position=MAX_LENGTH
        )
    parser = _Parser(text, fields)
    if parser.at_end():
        return None
    node = parser.conjunction(0)
    if not parser.at_end():
        raise parser.error("a parenthesis is closed that was not opened")
    return node


def fold(
    node: Node,
    comparison: Callable[[Comparison], Result],
    negation: Callable[[Result], Result],
    conjunction: Callable[[list[Result]], Result],
    disjunction: Callable[[list[Result]], Result],
) -> Result:
    """Turn a tree into something else, from the leaves up."""

    def walk(part: Node) -> Result:
        match part:
            case Comparison():
                return comparison(part)
            case Not(term):
                return negation(walk(term))
            case And(terms):
                return conjunction([walk(term) for term in terms])
            case Or(terms):
                return disjunction([walk(term) for term in terms])

    return walk(node)


def matches(node: Node | None, comparison: Callable[[Comparison], bool]) -> bool:
    """Whether one thing matches, `comparison` saying it of one restriction."""
    return node is None or fold(node, comparison, lambda value: not value, all, any)


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self._text = text
        self._fields = fields
        self._at = 0
        self._terms = 0

    def error(self, message: str, field: str = "filter", position: int | None = None) -> FilterError:
        at = self._at if position is None else position
        return FilterError(f"{field}: {message} (at character {at})", field=field, position=at)

    def at_end(self) -> bool:
        self._skip()
        return self._at >= len(self._text)

    def conjunction(self, depth: int) -> Node:
        terms = [self._sequence(depth)]
        while self._keyword("AND"):
            terms.append(self._sequence(depth))
        return _many(And, terms)

    def _sequence(self, depth: int) -> Node:
        terms = [self._choice(depth)]
        while not self.at_end() and not self._text.startswith(")", self._at) and not self._peek("AND"):
            terms.append(self._choice(depth))
        return _many(And, terms)

    def _choice(self, depth: int) -> Node:
        terms = [self._term(depth)]
        while self._keyword("OR"):
            terms.append(self._term(depth))
        return _many(Or, terms)

    def _term(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} levels")
        if self.at_end():
            raise self.error("ends where a restriction should be")
        if self._keyword("NOT") or self._literal("-"):
            return Not(self._term(depth + 1))
        if self._literal("("):
            inner = self.conjunction(depth + 1)
            if not self._literal(")"):
                raise self.error("a parenthesis is not closed")
            return inner
        return self._restriction()

    def _restriction(self) -> Node:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise self.error(f"more than {MAX_TERMS} restrictions")
        self._skip()
        start = self._at
        name = self._take(_FIELD)
        if name is None or name in ("AND", "OR", "NOT"):
            raise self.error("a field name should be here", position=start)
        field = self._fields.get(name)
        if field is None:
            known = ", ".join(sorted(self._fields))
            # What was written may be a person's name, so it is not said again.
            raise self.error(f"no such field; there are {known}", position=start)
        self._skip()
        at_operator = self._at
        operator = self._take(_OPERATOR)
        if operator is None:
            raise self.error("a comparison should follow (=, !=, <, <=, >, >=, :)", name)
        if operator not in field.operators:
            allowed = ", ".join(sorted(field.operators))
            raise self.error(f"can be compared with {allowed} only", name, at_operator)
        self._skip()
        at_value = self._at
        text = self._value(name)
        try:
            value = field.parse(text)
        except ValueError as error:
            raise self.error(str(error), name, at_value) from None
        return Comparison(name, operator, value)

    def _value(self, field: str) -> str:
        quote = self._text[self._at : self._at + 1]
        if quote in ('"', "'"):
            end = self._at + 1
            while end < len(self._text) and self._text[end] != quote:
                end += 2 if self._text[end] == "\\" else 1
            if end >= len(self._text):
                raise self.error("a quote is not closed", field)
            raw = self._text[self._at + 1 : end]
            self._at = end + 1
            return _ESCAPE.sub(r"\1", raw)
        value = self._take(_BARE)
        if value is None:
            raise self.error("a value should be here", field)
        return value

    def _skip(self) -> None:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # matches the empty text too

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match.group()

    def _literal(self, text: str) -> bool:
        self._skip()
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _peek(self, word: str) -> bool:
        self._skip()
        match = _FIELD.match(self._text, self._at)
        return match is not None and match.group() == word

    def _keyword(self, word: str) -> bool:
        if not self._peek(word):
            return False
        self._at += len(word)
        return True


def _many(kind: type[And] | type[Or], terms: list[Node]) -> Node:
    return terms[0] if len(terms) == 1 else kind(tuple(terms))
