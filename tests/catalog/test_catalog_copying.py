"""What is in the general copy: every table is accounted for, rows go out and come back by names of columns."""

from __future__ import annotations

import importlib
import json
import pkgutil

import copy_kit
import pytest
import sqlalchemy as sa

import appliance.catalog
from appliance.catalog import copying, grants, operations, state, tables, whence
from appliance.catalog.database import Database, erasing
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.granttables import grants as grant_rows
from appliance.catalog.noticetables import acknowledgements, staff
from appliance.catalog.whence import Whence


def test_of_every_table_it_is_said_whence_it_comes_back():
    for module in pkgutil.iter_modules(appliance.catalog.__path__):
        importlib.import_module(f"appliance.catalog.{module.name}")
    missing = set(tables.metadata.tables) - {one.name for one in whence.WHENCE}
    assert not missing, "these want a row in appliance/catalog/whence.py"
    assert set(tables.metadata.tables) == {one.name for one in whence.WHENCE}
    assert all(why for kind, why in whence.WHENCE.values() if kind is not Whence.COPY)


def test_what_rows_refer_to_comes_before_them():
    before = set()
    for table in whence.copied():
        for column in table.columns:
            for key in column.foreign_keys:
                other = key.column.table
                assert whence.WHENCE[other][0] is not Whence.NOWHERE
                assert other in before or whence.WHENCE[other][0] is Whence.OWN, (table.name, other.name)
        before.add(table)


@pytest.fixture
def other(tmp_path):
    made = Database.at(tmp_path / "other.db")
    with made.write() as connection:
        copy_kit.add_tenant(connection)
    yield made
    made.close()


def taken_out(database) -> dict[str, list]:
    with database.read() as connection:
        return {
            one.name: json.loads(json.dumps(list(copying.rows(connection, one)))) for one in whence.copied()
        }


def test_every_kind_of_row_comes_back_as_it_was(sqlite, other):
    copy_kit.fill(sqlite)
    before = copy_kit.content(sqlite)
    assert all(before.values()), "a table without rows proves nothing"
    out = taken_out(sqlite)
    with other.write() as connection:
        for table in whence.copied():
            found = copying.load(connection, table, copying.columns(table), out[table.name])
            assert (found.rows, found.left_out, found.unknown) == (len(before[table.name]), 0, ())
    assert copy_kit.content(other) == before


def test_a_row_that_refers_to_one_that_is_gone_is_left_out(sqlite, other):
    copy_kit.fill(sqlite)
    out = taken_out(sqlite)
    gone = out["staff"].pop(1)
    with other.write() as connection:
        left = {
            table.name: copying.load(connection, table, copying.columns(table), out[table.name]).left_out
            for table in whence.copied()
        }
    assert {name for name, count in left.items() if count} == {
        "acknowledgements",
        "notice_links",
        "notice_mails",
    }
    with other.read() as connection:
        kept = connection.execute(sa.select(acknowledgements.c.staff_id)).scalars().all()
    assert len(kept) == 2 and gone[0] not in kept


def test_a_copy_of_another_release_is_read_by_its_columns(sqlite, other):
    copy_kit.fill(sqlite)
    names = copying.columns(staff)
    at = names.index("kind")
    rows = [[*row[:at], *row[at + 1 :], "of old"] for row in taken_out(sqlite)["staff"]]
    names = [*names[:at], *names[at + 1 :], "pager"]
    with other.write() as connection:
        found = copying.load(connection, staff, names, rows)
    assert (found.rows, found.unknown) == (3, ("pager",))
    with other.read() as connection:
        assert connection.execute(sa.select(staff.c.kind)).scalars().all() == ["", "", ""]


@pytest.mark.parametrize("table", whence.copied(), ids=lambda table: table.name)
def test_every_column_may_be_one_that_the_copy_does_not_know(sqlite, other, table):
    """All but the key and what it refers to: what is new in a release has something to be."""
    copy_kit.fill(sqlite)
    names = [one.name for one in table.columns if one.primary_key or one.foreign_keys]
    unique = [one for one in table.constraints if isinstance(one, sa.UniqueConstraint)]
    names += [one.name for each in unique for one in each.columns if one.name not in names]
    out = taken_out(sqlite)
    with other.write() as connection:
        for each in whence.copied():
            if each is table:
                places = [copying.columns(table).index(name) for name in names]
                rows = [[row[place] for place in places] for row in out[table.name]]
                assert copying.load(connection, table, names, rows).left_out == 0
                break
            copying.load(connection, each, copying.columns(each), out[each.name])
    with other.read() as connection:
        assert len(connection.execute(sa.select(table)).all()) >= len(out[table.name])


def test_malformed_rows_are_no_rows(other):
    with other.write() as connection, pytest.raises(ValueError, match="zip"):
        copying.load(connection, staff, copying.columns(staff), [["one"]])


def test_what_must_not_go_on_ends(sqlite):
    copy_kit.fill(sqlite)
    with sqlite.write() as connection:
        ids = connection.execute(sa.select(grant_rows.c.id).order_by(grant_rows.c.id)).scalars().all()
        for grant_id, latched in zip(ids, ("requested", "approved", "denied"), strict=True):
            connection.execute(sa.update(grant_rows).where(grant_rows.c.id == grant_id).values(state=latched))
        connection.execute(sa.delete(sa.table("grant_uses")))
        connection.execute(sa.update(operations.table).values(state="running", request={"filter": "x"}))
        copying.settle(connection, 7, 99)
        assert state.get_int(connection, copying.SERIAL) == 7
        query = sa.select(grant_rows.c.id, grant_rows.c.state, grant_rows.c.end_reason).order_by(
            grant_rows.c.id
        )
        found = {row[0]: (row[1], row[2]) for row in connection.execute(query)}
        assert found[ids[1]] == (grants.Latched.REVOKED.value, copying.LOST) and ids[0] not in found
        assert found[ids[2]][0] == "denied"
        work = connection.execute(sa.select(operations.table)).all()
    assert {(one.state, one.failure, one.end_ns) for one in work} == {("failed", copying.LOST, 99)}
    assert not any(one.request for one in work)


def test_changes_are_told_once_and_again_where_copying_failed(sqlite):
    copy_kit.fill(sqlite)
    with sqlite.changed() as (_, told):
        assert {"staff", "reviews", "documents"} <= told.tables and not told.urgent
    with sqlite.changed() as (_, told):
        assert not told.tables
    with sqlite.write() as connection:
        connection.execute(sa.update(staff).values(email=""))
        connection.execute(sa.delete(acknowledgements).where(acknowledgements.c.id == "nobody"))
        erasing(connection)

    def fails():
        with sqlite.changed():
            raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        fails()
    with sqlite.changed() as (_, told):
        assert told.tables == told.urgent == {"staff"}


def test_changes_are_told_again_where_reading_did_not_even_begin(sqlite):
    copy_kit.fill(sqlite)
    failing = True

    def interrupt(connection, *_):
        connection.set_progress_handler((lambda: 1) if failing else None, 1)

    sa.event.listen(sqlite.engine.pool, "checkout", interrupt)
    with pytest.raises(CatalogueUnavailableError), sqlite.changed():
        raise AssertionError("never here")
    failing = False
    with sqlite.changed() as (_, told):
        assert {"staff", "reviews"} <= told.tables


def test_what_is_changed_while_it_is_copied_is_told_the_next_time(sqlite):
    copy_kit.fill(sqlite)
    with sqlite.changed() as (connection, _):
        with sqlite.write() as writing:
            writing.execute(sa.update(staff).values(email="new"))
        seen = connection.execute(sa.select(staff.c.email)).scalars().all()
        assert "new" not in seen
    with sqlite.changed() as (connection, told):
        assert told.tables == {"staff"}
        assert connection.execute(sa.select(staff.c.email).distinct()).scalars().all() == ["new"]
