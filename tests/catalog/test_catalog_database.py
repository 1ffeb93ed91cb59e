from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading

import alembic.autogenerate
import alembic.command
import alembic.migration
import alembic.script
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from appliance.catalog import database as module
from appliance.catalog import linepolicies, recordings, revisions, state, tables, tenants
from appliance.catalog.database import Database
from appliance.catalog.errors import CatalogueVersionError
from appliance.catalog.records import Certificate


def test_migrations_make_exactly_the_tables(database):
    with database.read() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []


def test_the_tables_suit_postgresql():
    dialect = postgresql.dialect()
    for table in tables.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert len(index.name) <= 63 and str(CreateIndex(index).compile(dialect=dialect))


def test_migrating_twice_changes_nothing(tmp_path):
    path = tmp_path / "control" / "catalogue.db"
    first = Database.at(path)
    with first.write() as connection:
        state.put(connection, "name", "value")
    first.close()
    again = Database.at(path)
    with again.read() as connection:
        assert state.get(connection, "name") == "value"
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_lines_were_made_with_before_waits_for_the_vault(tmp_path):
    path = tmp_path / "catalogue.db"
    old = Database(sa.URL.create("sqlite", database=str(path)))
    with old.write() as connection:
        alembic.command.upgrade(revisions.config(connection), "0001")
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('t', 'x', x'00', 1)")
        for name, grain, grace in (("a", "day", 30), ("b", "week", 30), ("c", "day", 0), ("d", "month", 7)):
            connection.exec_driver_sql(
                "INSERT INTO lines VALUES (?, 't', 'x', '[]', '[]', 0, '[]', '[]', ?, ?, 1)",
                (name, grain, grace),
            )
        connection.exec_driver_sql(
            "INSERT INTO recordings (id, seq, position, tenant_id, line_id, slice, state, state_ns, state_reason,"
            " etag, size, whole, created_ns, start_ns, described, duration_ns, call_id, part, direction, source,"
            " sip_call_id, sha256) VALUES ('r', 1, 1, 't', 'a', 's', 'erased', 1, '', 'e', 0, 0, 1, 1, 0, 0, '',"
            " 1, 'unknown', '', '', '')"
        )
        connection.exec_driver_sql("INSERT INTO tombstones VALUES ('r', 3, 4, 'asked', x'01', x'02')")
    old.close()
    new = Database.at(path)
    with new.read() as connection:
        found = {one.line_id: (one.grain, one.grace_days) for one in linepolicies.waiting(connection)}
        assert found == {"b": ("week", None), "c": ("", 0), "d": ("month", 7)}
        assert [line.line_id for line in tenants.list_lines(connection)] == ["a", "b", "c", "d"]
        proof = recordings.get(connection, "r").certificate
        assert proof == Certificate(3, 4, "asked", b"\x01", b"\x02", 1, 0, ())
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    with new.write() as connection:
        alembic.command.downgrade(revisions.config(connection), "0001")
        assert connection.exec_driver_sql("SELECT grain, grace_days FROM lines").first() == ("day", 30)
    new.close()


def test_versions_are_read_from_their_modules_names(database):
    with database.read() as connection:
        scripts = alembic.script.ScriptDirectory.from_config(revisions.config(connection))
        assert revisions.present(connection) == revisions.HEAD == scripts.get_current_head()
    assert {script.revision for script in scripts.walk_revisions()} == revisions.KNOWN


def test_a_start_imports_neither_what_migrates_nor_the_other_database(tmp_path):
    path = tmp_path / "catalogue.db"
    Database.at(path).close()
    code = (
        "import pathlib, sys; from appliance.catalog.database import Database; "
        f"Database.at(pathlib.Path({str(path)!r})).close(); "
        "print(sorted({'alembic', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_catalogue_of_a_newer_release_is_refused(tmp_path, database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CatalogueVersionError):
        database.migrate()


def test_settings_of_each_connection(sqlite):
    with sqlite.read() as connection:
        wanted = {"journal_mode": "wal", "foreign_keys": 1, "secure_delete": 1, "synchronous": 2}
        for name, value in wanted.items():
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value


def test_a_failed_transaction_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        state.put(connection, "name", "value")
        raise ZeroDivisionError
    with database.read() as connection:
        assert state.get(connection, "name") is None


def test_a_reader_sees_one_state_while_somebody_writes(database):
    with database.read() as reader:
        assert state.get(reader, "name") is None
        with database.write() as writer:
            state.put(writer, "name", "value")
        assert state.get(reader, "name") is None
    with database.read() as reader:
        assert state.get(reader, "name") == "value"


def test_writers_take_turns(database):
    def add() -> None:
        for _ in range(20):
            with database.write() as connection:
                state.put_int(connection, "count", state.get_int(connection, "count") + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert state.get_int(connection, "count") == 80


def test_damage_is_told_from_health(tmp_path):
    path = tmp_path / "catalogue.db"
    assert not module.is_damaged(path)
    Database.at(path).close()
    assert not module.is_damaged(path)
    path.write_bytes(b"no database" * 1000)
    assert module.is_damaged(path)


def test_a_page_overwritten_is_damage(tmp_path):
    path = tmp_path / "catalogue.db"
    made = Database.at(path)
    made.scrub()
    made.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    assert module.is_damaged(path)


def test_what_is_erased_by_anybody_is_scrubbed_from_the_files(tmp_path):
    path = tmp_path / "catalogue.db"
    made = Database.at(path)
    files = (path, path.with_name(path.name + "-wal"))
    with made.write() as connection:
        state.put(connection, "secret", "07700900123")
    made.scrub()
    assert not made.scrub_wanted
    with made.write() as connection:
        state.put(connection, "secret", "gone")
        module.erasing(connection)
    assert made.scrub_wanted
    with made.read() as connection:  # who reads an older state keeps the log from being let go of
        state.get(connection, "secret")
        with made.write() as other:
            state.put(other, "more", "x")
        assert not made.scrub() and made.scrub_wanted, "it is tried again"
    assert made.scrub() and not made.scrub_wanted
    assert not any(b"07700900123" in file.read_bytes() for file in files if file.exists())
    made.close()


def test_foreign_keys_hold(database):
    with pytest.raises(sa.exc.IntegrityError), database.write() as connection:
        connection.execute(sa.insert(tables.flags).values(recording_id="nobody", flag="x"))
