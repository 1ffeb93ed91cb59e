"""Notes and tags as they come into the catalogue: out of a recording's sidecar, entry by entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from appliance.catalog import additions, sidecars
from appliance.catalog.additions import Note
from appliance.catalog.recordings import get
from appliance.catalog.sidecars import Entry
from appliance.model import new_id


def enter(connection: sa.Connection, recording_id: str, *entries: Entry) -> None:
    known = sidecars.find(connection, recording_id)
    assert sidecars.take(connection, recording_id, entries, known.taken, known.taken + len(entries))


def add_note(
    connection: sa.Connection, recording_id: str, text: str, offset_ns: int | None, author: str, now_ns: int
) -> Note:
    note = Note(new_id(), recording_id, text, offset_ns, author, now_ns, author, now_ns)
    enter(connection, recording_id, sidecars.note_entry("note-created", note, new_id()))
    return note


def update_note(connection: sa.Connection, changed: Note) -> None:
    enter(connection, changed.recording_id, sidecars.note_entry("note-changed", changed, new_id()))


def change_tags(
    connection: sa.Connection,
    recording_id: str,
    add: Iterable[str],
    remove: Sequence[str],
    author: str,
    now_ns: int,
) -> None:
    tags = additions.tags_after(get(connection, recording_id).tags, add, remove)
    enter(connection, recording_id, sidecars.tags_entry(tags, author, now_ns, new_id()))
