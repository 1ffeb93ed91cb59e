"""A damaged catalogue lies in plain text, where no erasure reaches it: when it goes."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from appliance.api import cataloguedamaged
from appliance.api.cataloguedamaged import KEEP_NS, KEPT, Damaged
from appliance.process.status import Status
from earwitness.v1 import notes_pb2
from earwitness.v1 import recordings_pb2 as pb

SECRET = b"seen by nobody else"


def name(box, recording_id: str) -> str:
    return f"tenants/{box.default_line()[0]}/recordings/{recording_id}"


def damage(path: Path, *tables: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        pages = [
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (one,)).fetchone()[0]
            for one in tables
        ]
    connection.close()
    data = bytearray(path.read_bytes())
    for page in pages:
        data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)


def aside(box) -> list[Path]:
    return sorted(box.layout.control.glob("catalogue.damaged-*"))


def told(box) -> dict[str, str]:
    return {one.type: one.message for one in box.status.conditions()}


@pytest.fixture
def filled(make_box, sealing):
    """A box with three recordings, one with a note; the first is erased."""
    box = make_box()
    box.fix_port()
    line = box.default_line()
    box.ids = [box.vault.file(sealing(*line)) for _ in range(3)]
    for one in box.ids:
        box.filed(one)
    note = notes_pb2.Note(text=SECRET.decode())
    box.client().notes.CreateNote(notes_pb2.CreateNoteRequest(parent=name(box, box.ids[1]), note=note))
    erase(box, box.ids[0])
    return box


def erase(box, recording_id: str) -> None:
    request = pb.EraseRecordingRequest(name=name(box, recording_id), reason="asked for", force=True)
    box.client().recordings.EraseRecording(request)


def restart_damaged(box, *tables: str) -> None:
    box.stop()
    damage(box.layout.control / "catalogue.db", *tables)
    box.start()
    box.filed(box.ids[2])


def test_where_all_was_saved_it_is_removed_at_once(filled):
    restart_damaged(filled, "parties")
    assert "were all saved" in told(filled)["CatalogueRebuilt"] and KEPT not in told(filled)
    assert not aside(filled)


def test_else_it_is_kept_and_told_until_something_is_erased(filled, monkeypatch):
    monkeypatch.setattr(cataloguedamaged, "BEHIND_NS", 0)  # the first was erased before it was written last
    restart_damaged(filled, "parties", "notes")
    filled.wait(lambda: filled.control.parts.follower.cursor > 0)
    (file,) = aside(filled)
    assert file.name in told(filled)[KEPT] and "kept for a while" in told(filled)["CatalogueRebuilt"]
    filled.stop()
    filled.status = Status()  # of a new process
    filled.start()
    filled.filed(filled.ids[2])
    assert (
        aside(filled) == [file] and file.name in told(filled)[KEPT] and "CatalogueRebuilt" not in told(filled)
    )
    file.with_name(file.name + "-wal").write_bytes(SECRET)
    erase(filled, filled.ids[2])
    assert not aside(filled)
    assert KEPT not in told(filled)


def test_what_was_erased_while_it_was_damaged_takes_it_along(filled, monkeypatch):
    monkeypatch.setattr(cataloguedamaged, "BEHIND_NS", 0)
    filled.stop()
    filled.vault._erase(filled.ids[2], "expired")
    damage(filled.layout.control / "catalogue.db", "parties", "notes")
    past = time.time_ns() - 3600 * 10**9
    assert filled.vault._get(filled.ids[2]).since_ns > past
    monkeypatch.setattr("appliance.api.catalogueopen._written_ns", lambda path: past)
    filled.start()
    filled.wait(lambda: filled.control.parts.follower.cursor > 0)
    assert not aside(filled) and KEPT not in told(filled)


def test_it_goes_after_thirty_days(tmp_path):
    status, now = Status(), time.time_ns()
    old = tmp_path / f"catalogue.damaged-{now - KEEP_NS - 10**9}.db"
    young = tmp_path / f"catalogue.damaged-{now - KEEP_NS + 60 * 10**9}.db"
    other = tmp_path / "catalogue.damaged-by-hand.db"
    for one in (old, old.with_name(old.name + "-wal"), young, other):
        one.write_bytes(SECRET)
    damaged = Damaged(tmp_path, status)
    damaged.look()
    assert {one.name for one in tmp_path.iterdir()} == {young.name, other.name}
    assert damaged.there and [one.type for one in status.conditions()] == [KEPT]
    Damaged(tmp_path, status, lambda: now + 120 * 10**9).look()
    assert {one.name for one in tmp_path.iterdir()} == {other.name} and not status.conditions()


def test_what_cannot_be_removed_is_tried_again(tmp_path, monkeypatch):
    status = Status()
    file = tmp_path / f"catalogue.damaged-{time.time_ns()}.db"
    file.write_bytes(SECRET)
    damaged = Damaged(tmp_path, status)
    damaged.look()
    with monkeypatch.context() as patch:

        def unlink(self, missing_ok=False):
            raise OSError(5, "disk")

        patch.setattr(Path, "unlink", unlink)
        damaged.remove("erasure")
        assert damaged.there and [one.type for one in status.conditions()] == [KEPT]
    damaged.look()
    assert not file.exists() and not damaged.there and not status.conditions()
