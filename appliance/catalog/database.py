"""The catalogue's database: opened, brought to the present version, written by one at a time.

SQLite by default, in WAL mode: readers never wait for the writer. PostgreSQL (`postgresql`) for sites that outgrow it.
On both a reader sees one state throughout, and `scrub` sees to it that what was erased is in no file any more: SQLite
overwrites what is deleted (`secure_delete`), and empties its write-ahead log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from appliance.catalog import changes, postgresql, revisions
from appliance.catalog.changes import Changes
from appliance.catalog.errors import CatalogueUnavailableError, CatalogueVersionError
from appliance.catalog.numbering import Numbering

_BUSY_MS = 10_000
PERSONAL = (
    "parties",
    "identifiers",
    "marks",
    "recordings",
    "terms",
    "number_parts",
    "notes",
    "recording_tags",
    "reads",
    "versions",
    "subject_requests",
    "subject_choices",
    "staff",
    "acknowledgements",
    "reviews",
    "call_records",
    "subject_packs",
    "restrictions",
    "operations",
    "grants",
)
"""Tables that an erasure, or the end of what it was for, takes personal data from."""


class Database:
    """One catalogue. `read` and `write` give connections within a transaction; writers take turns."""

    def __init__(
        self,
        url: sa.URL | str,
        *,
        password_file: Path | None = None,
        numbering: Numbering | None = None,
    ) -> None:
        self.url = sa.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._writing = threading.Lock()
        self._told = _sqlite_errors if self.sqlite else postgresql.errors
        if self.sqlite:
            # Parameters are personal data, and must not get into an error's text.
            engine = sa.create_engine(self.url, hide_parameters=True)
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
            changes.listen(engine)
        else:
            engine = postgresql.make_engine(self.url, password_file)
        self._base = engine
        self._erased = threading.Event()  # SQLite: something has gone since the last scrub
        self.changes = Changes()
        """SQLite: tables that were written to since they were last read by `changed`."""
        self.engine = engine.execution_options(
            earwitness_numbering=numbering or Numbering(), earwitness_erased=self._erased
        )
        self._reading = (
            self.engine
            if self.sqlite
            else self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )
        self._scrubber = None if self.sqlite else postgresql.Scrubber(engine, PERSONAL)

    @classmethod
    def at(cls, path: Path, *, numbering: Numbering | None = None) -> Database:
        """The catalogue in a file, made where there is none, and migrated."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with its mode from the start: it will hold personal data.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return cls.of(sa.URL.create("sqlite", database=str(path)), numbering=numbering)

    @classmethod
    def of(
        cls,
        url: sa.URL | str,
        *,
        password_file: Path | None = None,
        numbering: Numbering | None = None,
    ) -> Database:
        """The catalogue at a URL, migrated. CatalogueUnavailableError, -UnsuitableError, -VersionError."""
        database = cls(url, password_file=password_file, numbering=numbering)
        try:
            database.migrate()
        except BaseException:
            database.close()
            raise
        return database

    @property
    def numbering(self) -> Numbering:
        """How numbers are written where the box is."""
        found: Numbering = self.engine.get_execution_options()["earwitness_numbering"]
        return found

    def migrate(self) -> None:
        """Bring the tables to the present version; CatalogueVersionError where they are of a newer release."""
        with self.write() as connection:
            if not self.sqlite:
                postgresql.check(connection)
            present = revisions.present(connection)
            if present is not None and present not in revisions.KNOWN:
                raise CatalogueVersionError("the catalogue was written by a newer release", revision=present)
            if present == revisions.HEAD:
                return
            revisions.upgrade(connection)
        self.analyze()  # of a new index nothing is known yet

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the catalogue throughout. CatalogueUnavailableError."""
        with self._told(), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A connection whose changes hold all or none. CatalogueUnavailableError."""
        with self._told(), self._writing, self.engine.connect() as connection:
            # IMMEDIATE: a transaction that reads and then writes would else fail when another process wrote between.
            connection.execution_options(earwitness_write=True)
            written = changes.begin(connection)
            try:
                with connection.begin():
                    if not self.sqlite:
                        postgresql.begin_write(connection)
                    yield connection
            finally:
                self.changes.add(written)

    @contextlib.contextmanager
    def changed(self) -> Iterator[tuple[sa.Connection, Changes]]:
        """As `read`, with what was written to since the last time, to this very state; told again where this fails."""
        with self._told(), self._reading.connect() as connection:
            with self._writing:
                transaction = connection.begin()
                connection.execute(sa.text("SELECT 1 FROM sqlite_master LIMIT 1"))  # the state is that of now
                taken = self.changes.take()
            try:
                with transaction:
                    yield connection, taken
            except BaseException:
                with self._writing:
                    self.changes.put_back(taken)
                raise

    @property
    def scrub_wanted(self) -> bool:
        """Whether what was erased may still be in a file: PostgreSQL knows that itself, and `scrub` asks it."""
        return not self.sqlite or self._erased.is_set()

    def scrub(self) -> bool:
        """Let nothing that was erased stay in a file; False where it cannot be done now (try again later)."""
        with self._told():
            if self._scrubber is not None:
                return self._scrubber.run()
            with self._writing, contextlib.closing(self._base.raw_connection()) as connection:
                row = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if done := row[0] == 0:
                    self._erased.clear()  # within the lock: whoever erases sets it within theirs
            return bool(done)

    def analyze(self) -> None:
        """Let the planner look at how the tables are filled: a sample, which takes milliseconds."""
        with self.write() as connection:
            if self.sqlite:
                connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
            connection.exec_driver_sql("ANALYZE")

    def close(self) -> None:
        self._base.dispose()


@contextlib.contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        raise CatalogueUnavailableError(f"the catalogue does not work now: {error.orig}") from None


def is_damaged(path: Path) -> bool:
    """Whether a catalogue file is there that SQLite cannot read as one."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
        except sqlite3.OperationalError:
            raise  # locked, no space, no rights: not a damage
        except sqlite3.DatabaseError:
            return True


def numbering_of(connection: sa.Connection) -> Numbering:
    """How numbers are written where this catalogue is."""
    return connection.get_execution_options().get("earwitness_numbering", Numbering())


def erasing(connection: sa.Connection) -> None:
    """Personal data goes in this transaction: `scrub` is to see to the files."""
    if connection.dialect.name == "postgresql":
        postgresql.want_scrub(connection)
    else:
        connection.get_execution_options()["earwitness_erased"].set()
        changes.erasing(connection)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # the vault's cursor must not run ahead of the rows
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute("PRAGMA case_sensitive_like = ON")  # as in PostgreSQL
    cursor.execute("PRAGMA cache_size = -65536")  # KiB a connection: upper pages of the search index
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("earwitness_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
