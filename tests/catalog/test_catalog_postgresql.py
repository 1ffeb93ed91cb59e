"""PostgreSQL alone: away and back, one writer over processes, what is refused, and what an erasure waits for."""

from __future__ import annotations

import dataclasses
import threading

import postgres_kit
import psycopg
import pytest
import sqlalchemy as sa

from appliance.catalog import postgresql, recordings, state, tables
from appliance.catalog.database import Database
from appliance.catalog.errors import CatalogueUnavailableError, CatalogueUnsuitableError
from appliance.catalog.records import Certificate, State

pytestmark = pytest.mark.postgresql


@pytest.fixture
def name(make_postgresql):
    return make_postgresql()


@pytest.fixture
def database(postgres, name):
    made = Database.of(postgres.url(name))
    yield made
    made.close()


@pytest.fixture
def own():
    """A server that may be stopped."""
    if postgres_kit.programs() is None:
        pytest.skip(postgres_kit.MISSING)
    cluster = postgres_kit.Cluster.temporary()
    cluster.start()
    yield cluster
    cluster.remove()


def put(database, value):
    with database.write() as connection:
        state.put(connection, "name", value)


def get(database):
    with database.read() as connection:
        return state.get(connection, "name")


def test_away_is_said_and_back_is_noticed(own):
    name = own.new()
    database = Database.of(own.url(name))
    put(database, "before")
    own.stop()
    for _ in range(2):
        with pytest.raises(CatalogueUnavailableError):
            get(database)
        with pytest.raises(CatalogueUnavailableError):
            put(database, "lost")
        with pytest.raises(CatalogueUnavailableError):
            database.scrub()
    with pytest.raises(CatalogueUnavailableError):
        Database.of(own.url(name))
    own.start()
    assert get(database) == "before"
    put(database, "after")
    assert get(database) == "after"
    database.close()


def test_thrown_out_in_the_middle_is_unavailable_and_leaves_nothing(postgres, name, database):
    with pytest.raises(CatalogueUnavailableError), database.write() as connection:
        state.put(connection, "name", "half")
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        state.put(connection, "other", "half")
    assert get(database) is None


def test_a_server_that_only_reads_is_unavailable_for_writing(postgres, name, database):
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database.close()
    with pytest.raises(CatalogueUnavailableError):
        put(database, "x")
    assert get(database) is None


def test_writers_of_two_processes_take_turns(postgres, name, database):
    other = Database.of(postgres.url(name))

    def add(which):
        for _ in range(15):
            with which.write() as connection:
                state.put_int(connection, "count", state.get_int(connection, "count") + 1)

    threads = [threading.Thread(target=add, args=(which,)) for which in (database, other) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    with database.read() as connection:
        assert state.get_int(connection, "count") == 60


def test_who_reads_cannot_write(database):
    with pytest.raises(CatalogueUnavailableError), database.read() as connection:
        state.put(connection, "name", "x")


@pytest.mark.parametrize(
    "how",
    [
        "ENCODING 'SQL_ASCII' LOCALE 'C'",
        "ENCODING 'LATIN1' LOCALE 'C'",
        "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'en-GB'",
    ],
)
def test_a_database_that_sorts_or_writes_otherwise_is_refused(postgres, how):
    name = postgres.new(how=how)
    try:
        with pytest.raises(CatalogueUnsuitableError):
            Database.of(postgres.url(name))
        with psycopg.connect(postgres.dsn(name)) as connection:
            made = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            assert made.fetchone() == (0,), "nothing was made in it"
    finally:
        postgres.drop(name)


def test_the_password_is_read_for_every_connection(postgres, name, tmp_path):
    path = tmp_path / "password"
    database = Database(postgres.url(name), password_file=path)
    with pytest.raises(CatalogueUnavailableError) as caught:
        get(database)
    assert str(tmp_path) not in caught.value.message
    path.write_text("whatever\n")
    assert get(database) is None, "the server trusts its socket, and the file is there now"
    database.close()


def test_errors_do_not_repeat_rows(database, make_held, make_description):
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.insert(tables.flags).values(recording_id="nobody", flag="x"))
    assert postgresql.reason_of(None) == ""


def erase(database, held):
    erased = dataclasses.replace(
        held, state=State.ERASED, certificate=Certificate(1, 2, "asked", b"s", b"k"), since_ns=5
    )
    with database.write() as connection:
        recordings.take(connection, erased, 2, None)


def test_an_erasure_waits_for_who_reads_an_older_state(database, file, make_held):
    held = make_held()
    file(held)
    assert database.scrub(), "nothing was erased yet"
    with database.read() as reader:
        assert recordings.get(reader, held.recording_id).parties
        erase(database, held)
        assert not database.scrub()
        assert recordings.get(reader, held.recording_id).parties, "it still sees its own state"
    assert database.scrub()
    assert database.scrub(), "there is nothing left to do"


def test_what_was_erased_before_a_restart_is_cleaned_after_it(postgres, name, database, file, make_held):
    held = make_held()
    file(held)
    erase(database, held)
    again = Database.of(postgres.url(name))
    with again.read() as connection:
        assert state.get(connection, postgresql.SCRUB_WANTED)
    assert again.scrub()
    with again.read() as connection:
        assert state.get(connection, postgresql.SCRUB_WANTED) is None
    again.close()


def test_a_large_table_is_written_anew_once_a_day(database, file, make_held, monkeypatch):
    monkeypatch.setattr(postgresql, "AT_ONCE", 0)
    now_s = 1000.0
    monkeypatch.setattr(postgresql.time, "monotonic", lambda: now_s)

    def node(table="parties"):
        with database.read() as connection:
            return connection.execute(
                sa.text("SELECT relfilenode FROM pg_class WHERE relname = :t"), {"t": table}
            ).scalar()

    first, second = make_held(), make_held()
    file(first)
    file(second)
    erase(database, first)
    before = node()
    assert database.scrub() and node() != before
    erase(database, second)
    before = node()
    assert not database.scrub() and node() == before
    now_s += postgresql.DAY_S
    assert database.scrub() and node() != before
