"""Notes and tags of a damaged catalogue, and a search index that is made anew."""

from __future__ import annotations

import contextlib
import sqlite3

import additions_kit
import sqlalchemy as sa

from appliance.catalog import additions, filters, recordings, reindex, salvage, searchtables, terms
from appliance.catalog.database import Database
from appliance.catalog.numbering import Numbering
from appliance.catalog.recording_filter import FIELDS
from appliance.catalog.salvage import Saved
from appliance.model import new_id


def found(database, text):
    with database.read() as connection:
        rows = recordings.search(
            connection,
            tenant_id=None,
            where=filters.parse(text, FIELDS),
            order=recordings.Order(),
            limit=100,
            bound=recordings.newest(connection),
        )
        return {row.recording_id for row in rows}


def write(database, recording_id, texts, tags=()):
    with database.write() as connection:
        for text in texts:
            additions_kit.add_note(connection, recording_id, text, None, "ruth", 7)
        additions_kit.change_tags(connection, recording_id, tags, (), "ruth", 8)


def test_notes_and_tags_come_over_and_wait_for_their_recordings(
    tmp_path, sqlite, make_held, make_description
):
    held = make_held()
    with sqlite.write() as connection:
        recordings.take(connection, held, 1, make_description())
    write(sqlite, held.recording_id, ["chest pain", "knee"], ["Urgent"])
    sqlite.close()
    new = Database.at(tmp_path / "new.db")
    assert salvage.save(tmp_path / "catalogue.db", new) == Saved(2, 1, True)
    assert salvage.save(tmp_path / "catalogue.db", new) == Saved(0, 0, True), "twice is as once"
    with new.write() as connection:
        recordings.take(connection, held, 1, make_description())
    assert found(new, "notes:'chest pain' tags:urgent") == {held.recording_id}
    with new.read() as connection:
        assert [one.author for one in additions.list_notes(connection, held.recording_id, 9)] == ["ruth"] * 2
    new.close()


def test_what_stands_on_damaged_pages_is_lost_and_said(tmp_path, sqlite, make_held, make_description):
    ids = []
    for _ in range(30):
        held = make_held()
        with sqlite.write() as connection:
            recordings.take(connection, held, 1, make_description())
        write(sqlite, held.recording_id, ["x" * 3000] * 3)
        ids.append(held.recording_id)
    sqlite.scrub()
    sqlite.close()
    path = tmp_path / "catalogue.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # A leaf in the middle of the table: its pages are where the texts are.
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    data = bytearray(path.read_bytes())
    pages = [at for at in range(0, len(data), size) if data[at : at + size].count(b"x") > 2000]
    for at in pages[len(pages) // 2 : len(pages) // 2 + 3]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    new = Database.at(tmp_path / "new.db")
    saved = salvage.save(path, new)
    assert not saved.whole and 30 < saved.notes < 90
    with new.read() as connection:
        kept = connection.execute(sa.select(searchtables.notes.c.text)).scalars().all()
        assert set(kept) == {"x" * 3000} and len(kept) == saved.notes
    new.close()


def test_a_file_that_is_no_database_gives_nothing(tmp_path):
    (tmp_path / "junk.db").write_bytes(b"no database" * 1000)
    new = Database.at(tmp_path / "new.db")
    assert salvage.save(tmp_path / "junk.db", new) == Saved(0, 0, False)
    new.close()


def test_rows_that_a_damage_made_nonsense_are_left_out(tmp_path, sqlite):
    with sqlite.write() as connection:
        good = {"id": new_id(), "recording_id": new_id(), "text": "fine", "offset_ns": None, "author": "a",
                "create_ns": 1, "editor": "a", "update_ns": 1}  # fmt: skip
        connection.execute(sa.insert(searchtables.notes), [good])
        for wrong in (
            {"text": ""},
            {"text": "x" * 4001},
            {"recording_id": "?"},
            {"author": "\0"},
            {"create_ns": "x"},
        ):
            connection.execute(
                sa.insert(searchtables.notes),
                [{**good, "id": new_id()} | {k: v for k, v in wrong.items() if k != "create_ns"}],
            )
            if "create_ns" in wrong:
                connection.exec_driver_sql(
                    "UPDATE notes SET create_ns = 'x' WHERE rowid = (SELECT max(rowid) FROM notes)"
                )
    sqlite.close()
    new = Database.at(tmp_path / "new.db")
    assert salvage.save(tmp_path / "catalogue.db", new) == Saved(1, 0, False), (
        "what was left out was not saved"
    )
    new.close()


def index(database):
    with database.read() as connection:
        return {
            (row.term, row.seq) for row in connection.execute(sa.select(searchtables.terms))
        }, connection.execute(sa.select(sa.func.count()).select_from(searchtables.number_parts)).scalar()


def test_the_index_is_made_anew_and_goes_on_where_it_broke_off(database, file, monkeypatch):
    ids = [file() for _ in range(5)]
    write(database, ids[0], ["chest pain"], ["urgent"])
    list(reindex.run(database))
    before = index(database)
    with database.write() as connection:
        connection.execute(sa.delete(searchtables.terms))
        connection.execute(sa.delete(searchtables.number_parts))
    assert not found(database, "notes:pain") and not list(reindex.run(database)), (
        "by the same rules nothing is due"
    )
    monkeypatch.setattr(terms, "VERSION", "other")
    monkeypatch.setattr(reindex, "BATCH", 2)
    steps = reindex.run(database)
    assert next(steps).done < 5
    steps.close()
    assert [step.done for step in reindex.run(database)][-1] == 5
    assert index(database) == before and not reindex.is_due(database)
    assert found(database, "notes:pain tags:urgent") == {ids[0]}


def test_another_numbering_finds_by_its_own_prefix(tmp_path, make_held, make_description):
    path = tmp_path / "catalogue.db"
    home = Database.at(path)
    held = make_held()
    with home.write() as connection:
        recordings.take(connection, held, 1, make_description())
    list(reindex.run(home))
    assert found(home, "party.number=01632960001") == {held.recording_id}
    home.close()
    abroad = Database.at(path, numbering=Numbering("33", "0", "00"))
    assert reindex.is_due(abroad)
    list(reindex.run(abroad))
    assert found(abroad, "party.number=01632960001") == set()
    assert found(abroad, "party.number=00441632960001") == {held.recording_id}
    abroad.close()


def test_numbers_that_nothing_has_any_more_leave_no_parts(database, file, make_held, make_description):
    first, second = make_held(), make_held()
    file(first)
    file(second)
    parts = sa.select(sa.func.count()).select_from(searchtables.number_parts)
    with database.write() as connection:
        there = connection.execute(parts).scalar()
        assert there == len("441632960001") + len("200")
        recordings.take(connection, first, 90, make_description(parties=()))
        assert connection.execute(parts).scalar() == there
        recordings.take(connection, second, 91, make_description(parties=()))
        assert connection.execute(parts).scalar() == 0
        assert connection.execute(sa.select(searchtables.terms)).first() is None
