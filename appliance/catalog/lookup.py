"""Restrictions on what recordings are found by, as SQL: looked up beforehand where it is rare, else asked on the way.

What is rare gives its recordings at once; what is common is asked of each recording in the order that is wanted, since
the first ones that have it will do. Which it is, is found out by reading no more than a few thousand rows of an index,
of the tenant that is asked about alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables, terms
from appliance.catalog.among import among
from appliance.catalog.database import numbering_of
from appliance.catalog.numbering import Asked
from appliance.catalog.searchtables import number_parts
from appliance.catalog.values import Word

Clause = sa.ColumnElement[bool]
Test = Callable[[sa.ColumnElement[Any]], Clause]

# To gather costs as many rows as are found; to ask on the way costs those passed until there is a page of them. That
# is even at the square root of a page times all recordings: at FEW of SMALL, at MANY of a million.
FEW: Final = 700
MANY: Final = 7_000
SMALL: Final = 20_000  # recordings
_LAST: Final = "\U0010ffff"  # sorts after all else, in every database
_r = tables.recordings.c
_t = terms.terms.c


@dataclass(frozen=True)
class Found:
    """A clause. `rare`: it names few recordings by their numbers, so that no other index is wanted."""

    clause: Clause
    rare: bool = False


def all_of(some: list[Found]) -> Found:
    return Found(sa.and_(*(one.clause for one in some)), any(one.rare for one in some))


def any_of(some: list[Found]) -> Found:
    return Found(sa.or_(*(one.clause for one in some)), all(one.rare for one in some))


def none_of(one: Found) -> Found:
    return Found(sa.not_(one.clause))


def is_(value: object) -> Test:
    return lambda column: column == value


def begins(start: str) -> Test:
    """As a range, which an index serves in every database."""
    return lambda column: sa.and_(column >= start, column < start + _LAST)


def of_word(kind: str, word: Word) -> Test:
    return begins(kind + word.text) if word.open_end else is_(kind + word.text)


class Lookup:
    """Looks up restrictions for recordings of one tenant, or of all (None)."""

    def __init__(self, connection: sa.Connection, tenant_id: str | None) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._nos = terms.tenant_nos(connection, tenant_id)
        self._numbering = numbering_of(connection)
        self._small: bool | None = None  # not known yet

    def terms(self, tests: Iterable[Test]) -> Found:
        """Recordings that have a term for each of the tests."""
        return all_of([self._term(test) for test in tests])

    def _term(self, test: Test) -> Found:
        found = sa.select(_t.seq).where(self._mine(_t.tenant_no), test(_t.term))
        return self._either(found, lambda: self._asked_of_each(test))

    def number(self, kind: str, wanted: Asked, anywhere: bool) -> Found:
        """Recordings with a number: `kind` is one of `terms.NUMBER`, `terms.AGENT_NUMBER`."""
        plain = wanted.digits.lstrip("+")
        if anywhere:
            if wanted.digits.startswith("+"):
                return self._begins(kind, wanted.digits)
            # Leading zeros go: they are dialled at home, and not from abroad.
            middle = plain.lstrip("0") or plain
            return self._part(kind, begins(middle), f"{kind}%{middle}%")
        if wanted.open_start and wanted.open_end:
            return self._part(kind, begins(plain), f"{kind}%{plain}%")
        if wanted.open_start:
            return self._part(kind, is_(plain), f"{kind}%{plain}")
        if wanted.open_end:
            return self._begins(kind, wanted.digits)
        return self._term(is_(kind + self._numbering.normal(wanted.digits)))

    def _begins(self, kind: str, digits: str) -> Found:
        tests = [begins(kind + start) for start in self._numbering.starts(digits)]
        return any_of([self._term(test) for test in tests])

    def _part(self, kind: str, test: Test, pattern: str) -> Found:
        parts = number_parts.c
        found = (
            sa.select(_t.seq)
            .select_from(number_parts)
            .join(
                terms.terms,
                sa.and_(
                    _t.tenant_no == parts.tenant_no,
                    _t.term == sa.literal(kind, sa.String).concat(parts.number),
                ),
            )
            .where(self._mine(parts.tenant_no), test(parts.part))
        )
        return self._either(found, lambda: self._asked_of_each(lambda column: column.like(pattern)))

    def party(self, column: sa.Column[Any], test: Test) -> Found:
        """Recordings with a party that passes a test."""
        party = tables.parties.c
        found = (
            sa.select(_r.seq)
            .select_from(tables.parties)
            .join(tables.recordings, _r.id == party.recording_id)
            .where(test(column))
        )
        if self._tenant_id is not None:
            found = found.where(_r.tenant_id == self._tenant_id)
        of_each = sa.select(sa.literal(1)).where(party.recording_id == _r.id, test(column)).offset(0)
        return self._either(found, lambda: sa.exists(of_each.correlate(tables.recordings)))

    def party_role(self, role: str) -> Found:
        """Nearly every recording has its parties: it is asked of each."""
        party = tables.parties.c
        of_each = sa.select(sa.literal(1)).where(party.recording_id == _r.id, party.role == role).offset(0)
        return Found(sa.exists(of_each.correlate(tables.recordings)))

    def _mine(self, column: sa.ColumnElement[Any]) -> Clause:
        return column == self._nos[0] if len(self._nos) == 1 else column.in_(self._nos)

    def _either(self, found: sa.Select[Any], else_: Callable[[], Clause]) -> Found:
        if not self._nos:
            return Found(sa.false(), rare=True)
        for most in (FEW, MANY):
            some = self._connection.execute(found.limit(most + 1)).scalars().all()
            if len(some) <= most:
                return Found(among(self._connection, _r.seq, sorted(set(some))), rare=True)
            if self._is_small():
                break
        return Found(else_())

    def _is_small(self) -> bool:
        if self._small is None:
            mine = sa.select(_r.id).limit(SMALL + 1)
            if self._tenant_id is not None:
                mine = mine.where(_r.tenant_id == self._tenant_id)
            count = sa.select(sa.func.count()).select_from(mine.subquery())
            self._small = int(self._connection.execute(count).scalar() or 0) <= SMALL
        return self._small

    def _asked_of_each(self, test: Test) -> Clause:
        # OFFSET keeps PostgreSQL from making a join of it, through all of what is common.
        of_each = sa.select(sa.literal(1)).where(_t.seq == _r.seq, test(_t.term)).offset(0)
        return sa.exists(of_each.correlate(tables.recordings))
