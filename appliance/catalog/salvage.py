"""Notes and tags out of a damaged SQLite catalogue: older ones are in no sealed sidecar.

What cannot be read any more is left out.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog.additions import MAX_NOTE
from appliance.catalog.database import Database
from appliance.catalog.searchtables import notes, recording_tags
from appliance.catalog.values import fold
from appliance.model import is_id

_BATCH: Final = 500
_SKIPS: Final = 10_000  # places where reading broke off, before it is given up
_MOST_NS: Final = 2**63 - 1


@dataclass(frozen=True)
class Saved:
    """How much was read. `whole`: all of both tables could be, and every row of them made sense."""

    notes: int
    tags: int
    whole: bool


def save(damaged: Path, database: Database) -> Saved:
    """Copy what can be read into a new catalogue, where it waits for its recordings."""
    reader = _Reader(damaged)
    with contextlib.closing(reader):
        some_notes = _copy(database, notes, reader, _note)
        some_tags = _copy(database, recording_tags, reader, _tag)
    return Saved(some_notes, some_tags, reader.whole)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._skips = 0
        self.whole = True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Rows in order of their number; a page that cannot be read is jumped over, further each time."""
        after, step = -1, 1
        while self._skips < _SKIPS:
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(self._path)
                    self._connection.row_factory = sqlite3.Row
                    self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
                query = f"SELECT rowid AS row_no, * FROM {table} WHERE rowid > ? ORDER BY rowid"
                for row in self._connection.execute(query, (after,)):
                    after, step = row["row_no"], 1
                    yield dict(row)
                return
            except sqlite3.DatabaseError:
                self.whole = False
                self._skips += 1
                after, step = after + step, min(2 * step, 1 << 20)
                if after > 1 << 40:
                    return


def _copy(database: Database, table: sa.Table, reader: _Reader, check: Any) -> int:
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    key = [column.name for column in table.primary_key]
    count = 0
    for row in reader.rows(table.name):
        good = check(row)
        if good is None:
            reader.whole = False
        else:
            kept[tuple(good[name] for name in key)] = good
        if len(kept) >= _BATCH:
            count += _insert(database, table, kept, key)
    return count + _insert(database, table, kept, key)


def _insert(database: Database, table: sa.Table, kept: dict[Any, dict[str, Any]], key: list[str]) -> int:
    if not kept:
        return 0
    with database.write() as connection:
        there = {
            tuple(row)
            for row in connection.execute(
                sa.select(*(table.c[name] for name in key)).where(
                    sa.tuple_(*(table.c[name] for name in key)).in_(list(kept))
                )
            )
        }
        fresh = [row for name, row in kept.items() if name not in there]
        if fresh:
            connection.execute(sa.insert(table), fresh)
    kept.clear()
    return len(fresh)


def _note(row: dict[str, Any]) -> dict[str, Any] | None:
    """What a damage made of a row may be anything."""
    if not (_id(row.get("id")) and _id(row.get("recording_id")) and _text(row.get("text"), MAX_NOTE)):
        return None
    offset = row.get("offset_ns")
    if not (_text(row.get("author"), 100) and _text(row.get("editor"), 100) and _ns(row.get("create_ns"))):
        return None
    if not _ns(row.get("update_ns")) or not (offset is None or _ns(offset)):
        return None
    version = row.get("version", 1)  # a catalogue of an older release has none
    if not isinstance(version, int) or not 1 <= version < 1 << 31:
        return None
    return {column.name: row.get(column.name) for column in notes.columns} | {"version": version}


def _tag(row: dict[str, Any]) -> dict[str, Any] | None:
    tag = row.get("tag")
    if not (_id(row.get("recording_id")) and _text(tag, 40) and _text(row.get("author"), 100)):
        return None
    if not _ns(row.get("create_ns")):
        return None
    return {**{column.name: row[column.name] for column in recording_tags.columns}, "folded": fold(str(tag))}


def _id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)


def _text(value: object, most: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= most and "\0" not in value and "\ufffd" not in value


def _ns(value: object) -> bool:
    return isinstance(value, int) and abs(value) <= _MOST_NS
