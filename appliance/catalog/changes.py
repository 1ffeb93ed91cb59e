"""Which tables were written to since they were copied last: noted as statements are executed, counted when they hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

_OPTION = "earwitness_written"


@dataclass
class Written:
    """Of one transaction. `erases`: personal data goes in it."""

    tables: set[str] = field(default_factory=set)
    erases: bool = False


@dataclass
class Changes:
    """Of all since the last copy. `urgent`: of those tables something was erased. Changed by who holds the write lock."""

    tables: set[str] = field(default_factory=set)
    urgent: set[str] = field(default_factory=set)

    def add(self, written: Written) -> None:
        """A transaction is over; one that did not hold is counted, too, as that is not always known."""
        self.tables |= written.tables
        if written.erases:
            self.urgent |= written.tables

    def take(self) -> Changes:
        """What there is; from here on there is nothing."""
        taken = Changes(self.tables, self.urgent)
        self.tables, self.urgent = set(), set()
        return taken

    def put_back(self, taken: Changes) -> None:
        """It was not copied after all."""
        self.tables |= taken.tables
        self.urgent |= taken.urgent


def begin(connection: sa.Connection) -> Written:
    """A transaction that writes begins on this connection."""
    written = Written()
    connection.execution_options(**{_OPTION: written})
    return written


def erasing(connection: sa.Connection) -> None:
    """Personal data goes in this transaction."""
    connection.get_execution_options()[_OPTION].erases = True


def listen(engine: sa.Engine) -> None:
    """Note what this engine's connections write to."""
    sa.event.listen(engine, "after_execute", _executed)


def _executed(
    connection: sa.Connection,
    statement: Any,
    _many: object,
    _values: object,
    _options: object,
    result: sa.CursorResult[Any],
) -> None:
    if not isinstance(statement, sa.Insert | sa.Update | sa.Delete) or result.rowcount == 0:
        return
    written = connection.get_execution_options().get(_OPTION)
    if written is not None and isinstance(statement.table, sa.Table):
        written.tables.add(statement.table.name)
