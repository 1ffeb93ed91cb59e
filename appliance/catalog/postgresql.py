"""PostgreSQL as the catalogue's database, 15 or later: for sites that outgrow SQLite on the box.

Writers take turns by an advisory lock, also over processes. A deleted row stays in the files of PostgreSQL until its
table is written anew, whatever VACUUM says: `scrub` does that (VACUUM FULL), for a small table at once, for a large
one once a day, and then lets go of the write-ahead log as far as the role may.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import state
from appliance.catalog.errors import CatalogueUnavailableError, CatalogueUnsuitableError

# SQLSTATEs (PostgreSQL documentation, appendix A). The driver is imported where there is a PostgreSQL, and not before.
LOCK_NOT_AVAILABLE: Final = "55P03"
INSUFFICIENT_PRIVILEGE: Final = "42501"
READ_ONLY_SQL_TRANSACTION: Final = "25006"
LEAST: Final = 150000  # server_version_num
SCRUB_WANTED: Final = "scrub-wanted"
AT_ONCE: Final = 64 << 20  # bytes; a table that is larger is written anew once a day
DAY_S: Final = 24 * 3600.0
_WRITERS: Final = 0x656172776974  # the advisory lock of all writers: any number that is ours alone
_LOCK_MS: Final = 10_000
_SCRUB_LOCK_MS: Final = 1_000
_CONNECT: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "application_name": "earwitness",
    "options": f"-c lock_timeout={_LOCK_MS} -c idle_in_transaction_session_timeout=60000 -c jit=off",
    "keepalives_idle": 30,
    "tcp_user_timeout": 15_000,
}
# Code point order is what prefixes are searched by, and what SQLite has.
_COLLATIONS: Final = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8"})

_UNSUITABLE: Final = (
    "the database must have encoding UTF8 and collation C, as CREATE DATABASE … LOCALE 'C' makes it"
)


def make_engine(url: sa.URL, password_file: Path | None) -> sa.Engine:
    """An engine that reads the password anew for every connection, and notices one that broke."""
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=_CONNECT,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=6,
        max_overflow=4,
        pool_timeout=10,
    )
    sa.event.listen(engine, "do_connect", _connecting(password_file))
    return engine


def _connecting(password_file: Path | None) -> Callable[..., Any]:
    def connect(dialect: Any, _record: object, arguments: Any, parameters: dict[str, Any]) -> Any:
        if password_file is not None:
            parameters["password"] = _password(password_file)
        connection = dialect.connect(*arguments, **parameters)
        if connection.info.parameter_status("server_encoding") != "UTF8":
            connection.close()  # texts would come as bytes: nothing is read from it
            raise CatalogueUnsuitableError(_UNSUITABLE, key="catalogue.url")
        return connection

    return connect


def _password(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueUnavailableError(
            f"the password of the catalogue's database cannot be read: {type(error).__name__}",
            key="catalogue.password_file",
        ) from error


def check(connection: sa.Connection) -> None:
    """CatalogueUnsuitableError where the database would not behave as SQLite does."""
    row = connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int, datcollate, datlocprovider::text"
        " FROM pg_database WHERE datname = current_database()"
    ).one()
    version, collation, provider = row
    if version < LEAST:
        raise CatalogueUnsuitableError("PostgreSQL must be 15 or later", key="catalogue.url")
    # The builtin provider of PostgreSQL 17 has code point order alone; ICU has none of it.
    if provider != "b" and not (provider == "c" and collation in _COLLATIONS):
        raise CatalogueUnsuitableError(_UNSUITABLE, key="catalogue.url")


def begin_write(connection: sa.Connection) -> None:
    """Wait until no other process writes."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITERS})


def want_scrub(connection: sa.Connection) -> None:
    """Personal data is deleted in this transaction: its files are to be written anew."""
    state.put(connection, SCRUB_WANTED, str(connection.exec_driver_sql("SELECT txid_current()").scalar()))


class Scrubber:
    """Writes anew the tables that something was erased from."""

    def __init__(self, engine: sa.Engine, tables: tuple[str, ...]) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._tables = tables
        self._done_s: dict[str, float] = {}  # when large tables were written anew
        self._done_for: dict[str, int] = {}  # up to which transaction a table is clean
        self.log_kept = False  # the role may not let go of the write-ahead log

    def run(self) -> bool:
        """True: nothing erased is left in the files of the tables; False: to be tried again later."""
        with self._engine.connect() as connection:
            wanted = state.get(connection, SCRUB_WANTED)
            if wanted is None:
                return True
            # Who waits to lock a table keeps others from reading it.
            connection.exec_driver_sql(f"SET lock_timeout = {_SCRUB_LOCK_MS}")
            try:
                return self._clean(connection, wanted)
            finally:
                connection.exec_driver_sql(f"SET lock_timeout = {_LOCK_MS}")

    def _clean(self, connection: sa.Connection, wanted: str) -> bool:
        erased = int(wanted)
        if self._seen_by_others(connection, erased):
            return False
        due = [table for table in self._tables if self._done_for.get(table, -1) < erased]
        done = [table for table in due if self._rewrite(connection, table, erased)]
        if done:
            self._let_go_of_log(connection)
        if done != due:
            return False
        # Only what this run knew of: an erasure that came meanwhile has a number of its own.
        connection.execute(
            sa.text('DELETE FROM "values" WHERE name = :name AND value = :value'),
            {"name": SCRUB_WANTED, "value": wanted},
        )
        return state.get(connection, SCRUB_WANTED) is None

    def _seen_by_others(self, connection: sa.Connection, erased: int) -> bool:
        """Whether somebody still reads a state of before the erasure: VACUUM would keep the rows for them."""
        return bool(
            connection.execute(
                sa.text(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND datname = current_database() AND backend_xmin IS NOT NULL"
                    " AND age(backend_xmin) >= txid_current() - :erased)"
                ),
                {"erased": erased},
            ).scalar()
        )

    def _rewrite(self, connection: sa.Connection, table: str, erased: int) -> bool:
        size = connection.execute(
            sa.text("SELECT pg_total_relation_size(CAST(:name AS regclass))"), {"name": table}
        ).scalar()
        now_s = time.monotonic()
        large = int(size or 0) > AT_ONCE
        if large and now_s - self._done_s.get(table, float("-inf")) < DAY_S:
            return False
        try:
            connection.exec_driver_sql(f'VACUUM (FULL, ANALYZE) "{table}"')
        except sa.exc.OperationalError as error:
            if _sqlstate(error.orig) == LOCK_NOT_AVAILABLE:
                return False
            raise
        self._done_for[table] = erased
        if large:
            self._done_s[table] = now_s
        return True

    def _let_go_of_log(self, connection: sa.Connection) -> None:
        try:
            connection.exec_driver_sql("SELECT pg_switch_wal()")
            connection.exec_driver_sql("CHECKPOINT")
        except sa.exc.DBAPIError as error:
            if _sqlstate(error.orig) != INSUFFICIENT_PRIVILEGE:
                raise
            self.log_kept = True  # docs/search.md says what to grant, and what holds without it
        else:
            self.log_kept = False


def reason_of(error: BaseException | None) -> str:
    """What PostgreSQL complains of, without details: those may repeat a row."""
    diag = getattr(error, "diag", None)
    primary = getattr(diag, "message_primary", None)
    return str(primary or error).splitlines()[0][:200] if error is not None else ""


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """What means that the database is away or takes nothing becomes CatalogueUnavailableError."""
    try:
        yield
    except sa.exc.TimeoutError:  # no connection of the pool was free
        raise CatalogueUnavailableError("the catalogue has too much to do") from None
    except sa.exc.DBAPIError as error:
        away = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
        if away or error.connection_invalidated or _refuses(error.orig):
            raise CatalogueUnavailableError(
                f"the catalogue does not work now: {reason_of(error.orig)}"
            ) from None
        raise


def _refuses(error: BaseException | None) -> bool:
    """A server that is a standby, or was set to read only."""
    return _sqlstate(error) == READ_ONLY_SQL_TRANSACTION


def _sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of the driver's error."""
    return getattr(error, "sqlstate", None)
