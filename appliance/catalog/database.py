"""The catalogue's database: opened, brought to the present version, written by one at a time.

SQLite by default, in WAL mode: readers never wait for the writer. `secure_delete` overwrites what is deleted, and
`scrub` empties the write-ahead log, so that erased personal data does not linger in free pages.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.runtime.migration
import alembic.script
import sqlalchemy as sa

from appliance.catalog.errors import CatalogueUnavailableError, CatalogueVersionError

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MS = 10_000


class Database:
    """One catalogue. `read` and `write` give connections within a transaction; writers take turns."""

    def __init__(self, url: sa.URL | str) -> None:
        # Parameters are personal data, and must not get into an error's text.
        self.engine = sa.create_engine(url, hide_parameters=True)
        self._writing = threading.Lock()
        self._sqlite = self.engine.dialect.name == "sqlite"
        if self._sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @classmethod
    def at(cls, path: Path) -> Database:
        """The catalogue in a file, made where there is none, and migrated."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with its mode from the start: it will hold personal data.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = cls(sa.URL.create("sqlite", database=str(path)))
        database.migrate()
        return database

    def migrate(self) -> None:
        """Bring the tables to the present version; CatalogueVersionError where they are of a newer release."""
        config = alembic.config.Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        known = {
            script.revision for script in alembic.script.ScriptDirectory.from_config(config).walk_revisions()
        }
        with self.write() as connection:
            present = alembic.runtime.migration.MigrationContext.configure(connection).get_current_revision()
            if present is not None and present not in known:
                raise CatalogueVersionError("the catalogue was written by a newer release", revision=present)
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the catalogue throughout. CatalogueUnavailableError."""
        with _told(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A connection whose changes hold all or none. CatalogueUnavailableError."""
        with _told(), self._writing, self.engine.connect() as connection:
            # IMMEDIATE: a transaction that reads and then writes would else fail when another process wrote between.
            connection.execution_options(earwitness_write=True)
            with connection.begin():
                yield connection

    def scrub(self) -> bool:
        """Empty the write-ahead log; False where a reader still needs it (try again later)."""
        if not self._sqlite:
            return True
        with self._writing, contextlib.closing(self.engine.raw_connection()) as connection:
            row = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return row[0] == 0

    def analyze(self) -> None:
        """Let the planner look at how the tables are filled: a sample, which takes milliseconds."""
        with self.write() as connection:
            if self._sqlite:
                connection.exec_driver_sql("PRAGMA analysis_limit = 1000")
            connection.exec_driver_sql("ANALYZE")

    def close(self) -> None:
        self.engine.dispose()


@contextlib.contextmanager
def _told() -> Iterator[None]:
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


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # the vault's cursor must not run ahead of the rows
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute("PRAGMA case_sensitive_like = ON")  # as in PostgreSQL
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("earwitness_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
