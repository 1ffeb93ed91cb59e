"""The index of entries, an SQLite file of its own: lists and filters are answered from it. Made anew from the log at will.

It holds where a line is and what of it can be searched; the line itself is read from the log and held against its leaf.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.audit import segments
from appliance.audit.entry import EVERY_TENANT, MAX_TEXT, Entry
from appliance.audit.errors import EntryDamagedError, EntryNotFoundError, IndexUnavailableError
from appliance.audit.log import Log
from appliance.audit.reader import Read, Reader
from appliance.audit.segments import Place
from appliance.audit.tree import leaf_hash

log = structlog.get_logger()

FILE: Final = "index.db"
_FORM: Final = 1  # of the tables; another one is made anew
_BATCH: Final = 2000
_RETRY_S: Final = 1.0

_metadata = sa.MetaData()
_text = sa.String(MAX_TEXT)
entries = sa.Table(
    "entries",
    _metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
    sa.Column("offset", sa.Integer, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("what", _text, nullable=False),
    sa.Column("who", _text, nullable=False),
    sa.Column("roles", _text, nullable=False),  # ",a,b,"
    sa.Column("tenant", _text, nullable=False),
    sa.Column("method", _text, nullable=False),
    sa.Column("name", _text, nullable=False),  # the method's last part
    sa.Column("subject", _text, nullable=False),
    sa.Column("purpose", _text, nullable=False),
    sa.Column("outcome", _text, nullable=False),
    sa.Column("request", _text, nullable=False),
    sa.Index("ix_entries_tenant", "tenant", "number"),
    sa.Index("ix_entries_who", "who", "number"),
    sa.Index("ix_entries_name", "name", "number"),
    sa.Index("ix_entries_outcome", "outcome", "number"),
    sa.Index("ix_entries_subject", "subject", "number"),
    sa.Index("ix_entries_request", "request"),
    sqlite_with_rowid=True,
)
_state = sa.Table("state", _metadata, sa.Column("key", _text, primary_key=True), sa.Column("value", _text))


@dataclass(frozen=True)
class Found:
    """An entry with its number, its line and its leaf hash."""

    index: int
    entry: Entry
    line: bytes
    leaf: bytes


class Index:
    """Follows the log in a thread of its own. Queries may come from any thread."""

    def __init__(self, log_: Log) -> None:
        self._log = log_
        self._path = log_.folder / FILE
        self._engine: sa.Engine | None = None
        self._damaged: sa.Engine | None = None  # as a query found
        self.size = 0
        """Entries that can be searched."""
        self._changed = threading.Condition()
        self._listener: Callable[[], None] = lambda: None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audit-index", daemon=True)
        self._thread.start()

    def listen(self, listener: Callable[[], None]) -> None:
        """Called in the index's thread after each time that entries were added."""
        self._listener = listener

    def _begin(self) -> None:
        """Open the database; one that knows more than the log does is of a log that was put back, and made anew."""
        engine = _open(self._path, self._log.generation)
        try:
            with engine.connect() as connection:
                last = connection.execute(
                    sa.select(entries).order_by(entries.c.number.desc()).limit(1)
                ).first()
        except sa.exc.DatabaseError:
            engine.dispose()
            raise
        if last is not None and not self._stands(last):
            engine.dispose()
            _remove(self._path)
            engine, last = _open(self._path, self._log.generation), None
        self._engine = engine
        self.size = 0 if last is None else last.number + 1

    def _stands(self, row: sa.Row[Any]) -> bool:
        """Whether a row's entry is in the log: a power cut may have taken it, and another one have its number by now."""
        if row.number >= self._log.size:
            return False
        try:
            with segments.Lines(self._log.folder) as lines:
                self._whole(row, lines)
        except EntryDamagedError:
            return False
        return True

    def caught_up(self, size: int, timeout_s: float = 10.0) -> None:
        """Wait until so many entries can be searched; IndexUnavailableError where that takes too long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.size >= size or self._stopping, timeout_s):
                raise IndexUnavailableError("the audit's index is behind the log")
        if self.size < size:
            raise IndexUnavailableError("the audit's index is closed")

    def newest(
        self, clause: sa.ColumnElement[bool] | None, before: int, limit: int, tenant: str | None = None
    ) -> list[Found]:
        """Entries before a number that match, newest first. `tenant`: only what concerns that one."""
        query = sa.select(entries).where(entries.c.number < before).order_by(entries.c.number.desc())
        return self._read(query, clause, limit, tenant)

    def oldest(
        self,
        clause: sa.ColumnElement[bool] | None,
        start: int,
        end: int,
        limit: int,
        tenant: str | None = None,
    ) -> list[Found]:
        """Entries from one number to another (exclusive) that match, oldest first."""
        between = (entries.c.number >= start, entries.c.number < end)
        query = sa.select(entries).where(*between).order_by(entries.c.number)
        return self._read(query, clause, limit, tenant)

    def _read(
        self,
        query: sa.Select[Any],
        clause: sa.ColumnElement[bool] | None,
        limit: int,
        tenant: str | None,
    ) -> list[Found]:
        if clause is not None:
            query = query.where(clause)
        if tenant is not None:
            query = query.where(entries.c.tenant.in_([tenant, EVERY_TENANT]))
        if (engine := self._engine) is None:
            raise IndexUnavailableError("the audit's index is not open")
        try:
            with engine.connect() as connection:
                rows = connection.execute(query.limit(limit)).all()
        except sa.exc.DatabaseError as error:
            if _is_damage(error):
                self._damaged = engine
                with self._log.grown:
                    self._log.grown.notify_all()
            raise IndexUnavailableError("the audit's index cannot be read") from error
        with segments.Lines(self._log.folder) as lines:
            return [self._whole(row, lines) for row in rows]

    def _whole(self, row: sa.Row[Any], lines: segments.Lines) -> Found:
        line = lines.read(Place(row.serial, row.offset), row.size)
        leaf = leaf_hash(line)
        if leaf != self._log.hashes.get(0, row.number):
            raise EntryDamagedError("an entry of the audit log is not what was written", index=row.number)
        return Found(row.number, Entry.of(line), line, leaf)

    def get(self, index: int) -> Found:
        """One entry; EntryNotFoundError."""
        found = self.newest(entries.c.number == index, index + 1, 1)
        if not found:
            raise EntryNotFoundError("there is no such entry", index=index)
        return found[0]

    def close(self) -> None:
        """Stops following."""
        self._stopping = True
        with self._log.grown:
            self._log.grown.notify_all()
        self._thread.join()
        with self._changed:
            self._changed.notify_all()
        if self._engine is not None:
            self._engine.dispose()

    def _run(self) -> None:
        reader: Reader | None = None
        broken = False
        while not self._stopping:
            try:
                if broken or (self._engine is not None and self._engine is self._damaged):
                    self._discard()
                    reader, broken = None, False
                if self._engine is None:
                    self._begin()
                if reader is None:
                    reader = Reader(self._log, self.size)
                some = reader.take(most=_BATCH)
                if some:
                    self._add(some)
                    continue
            except (OSError, sa.exc.DatabaseError, EntryDamagedError) as error:
                log.warning("audit index behind", error=type(error).__name__)
                reader = None
                broken = broken or (isinstance(error, sa.exc.DatabaseError) and _is_damage(error))
                self._pause(_RETRY_S)
                continue
            with self._log.grown:
                if self._log.ended:
                    return
                found = self._engine is self._damaged
                if self._log.size <= reader.index and not self._stopping and not found:
                    self._log.grown.wait(5.0)

    def _discard(self) -> None:
        """What a power cut left half written is made anew from the log."""
        log.warning("audit index damaged, made anew")
        if self._engine is not None:
            self._engine.dispose()
        self._engine, self.size = None, 0
        _remove(self._path)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _add(self, some: Sequence[Read]) -> None:
        assert self._engine is not None
        with self._engine.begin() as connection:
            connection.execute(sa.insert(entries), [_row(one) for one in some])
        with self._changed:
            self.size = some[-1].index + 1
            self._changed.notify_all()
        self._listener()


def _row(one: Read) -> dict[str, object]:
    found = Entry.of(one.line)
    return {
        "number": one.index,
        "serial": one.place.serial,
        "offset": one.place.offset,
        "size": len(one.line),
        "time_ns": found.time_ns,
        "what": found.what,
        "who": found.who,
        "roles": "".join(f",{role}" for role in found.roles) + "," if found.roles else "",
        "tenant": found.tenant,
        "method": found.method,
        "name": found.method.rpartition("/")[2],
        "subject": found.subject,
        "purpose": found.purpose,
        "outcome": found.outcome,
        "request": found.request,
    }


def _open(path: Path, generation: int) -> sa.Engine:
    """The database; one of another form or generation, or a damaged one, is made anew."""
    wanted = json.dumps([_FORM, generation])
    for _ in range(2):
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 10})
        sa.event.listen(engine, "connect", _configure)
        try:
            with engine.begin() as connection:
                _metadata.create_all(connection)
                known = connection.execute(sa.select(_state.c.value).where(_state.c.key == "form")).scalar()
                if known is None:
                    connection.execute(sa.insert(_state).values(key="form", value=wanted))
                if known in (None, wanted):
                    return engine
        except sa.exc.OperationalError as error:
            engine.dispose()
            raise OSError(f"the audit's index cannot be opened: {type(error).__name__}") from error
        except sa.exc.DatabaseError:
            log.warning("audit index damaged, made anew")
        engine.dispose()
        _remove(path)
    raise OSError("the audit's index cannot be made")


def _is_damage(error: sa.exc.DatabaseError) -> bool:
    """Whether the file is at fault; a full disk, or a lock, is none of its."""
    return not isinstance(error, sa.exc.OperationalError)


def _configure(connection: Any, _record: object) -> None:
    # It can be made anew, so that speed counts and durability does not.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
