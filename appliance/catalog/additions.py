"""Notes and tags that people add to recordings, as the catalogue has them: `sidecars` makes them from what is sealed.

They go when the recording is erased.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.errors import EtagMismatchError, NoteLimitError, NoteNotFoundError, TagLimitError
from appliance.catalog.records import etag_of
from appliance.catalog.searchtables import notes, recording_tags
from appliance.catalog.values import fold

MAX_NOTE: Final = 4000  # characters
MAX_NOTES: Final = 1000  # of one recording
MAX_TAGS: Final = 50

_n = notes.c
_g = recording_tags.c


@dataclass(frozen=True)
class Note:
    """What somebody wrote of a recording. `offset_ns`: where on the timeline; None: of the whole."""

    note_id: str
    recording_id: str
    text: str
    offset_ns: int | None
    author: str
    create_ns: int
    editor: str
    update_ns: int
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.note_id, self.text, self.offset_ns, self.update_ns)


def refuse_more(connection: sa.Connection, recording_id: str) -> None:
    """NoteLimitError where the recording has as many notes as it may have."""
    there = connection.execute(
        sa.select(sa.func.count()).select_from(notes).where(_n.recording_id == recording_id)
    ).scalar()
    if int(there or 0) >= MAX_NOTES:
        raise NoteLimitError("the recording has as many notes as it may have", limit=MAX_NOTES)


def find_note(connection: sa.Connection, recording_id: str, note_id: str) -> Note | None:
    """None where there is none."""
    query = sa.select(notes).where(_n.id == note_id, _n.recording_id == recording_id)
    row = connection.execute(query).first()
    return None if row is None else _note(row)


def get_note(connection: sa.Connection, recording_id: str, note_id: str) -> Note:
    """NoteNotFoundError."""
    found = find_note(connection, recording_id, note_id)
    if found is None:
        raise NoteNotFoundError("no such note", note=note_id)
    return found


def check_note(connection: sa.Connection, recording_id: str, note_id: str, etag: str) -> Note:
    """The note, as it was with this etag where one is given. NoteNotFoundError, EtagMismatchError."""
    found = get_note(connection, recording_id, note_id)
    if etag and etag != found.etag:
        raise EtagMismatchError("the note changed since", field="etag")
    return found


def put_note(connection: sa.Connection, note: Note) -> None:
    """Write down a note as it is from now on. What it is found by is made anew by who calls."""
    connection.execute(sa.delete(notes).where(_n.id == note.note_id))
    connection.execute(sa.insert(notes).values(**_columns(note)))


def list_notes(
    connection: sa.Connection, recording_id: str, limit: int, after: tuple[int, str] | None = None
) -> list[Note]:
    """Oldest first, after the (create_ns, id) of the last one of the page before."""
    query = sa.select(notes).where(_n.recording_id == recording_id).order_by(_n.create_ns, _n.id).limit(limit)
    query = paging.beyond(query, _n.create_ns, _n.id, after)
    return [_note(row) for row in connection.execute(query)]


def set_tags(
    connection: sa.Connection, recording_id: str, tags: Iterable[str], author: str, now_ns: int
) -> bool:
    """The tags that a recording has from now on; those that it has are left as they are. Whether one went.

    What it is found by is made anew by who calls.
    """
    rows = connection.execute(sa.select(_g.folded, _g.tag).where(_g.recording_id == recording_id)).all()
    there = {row.folded: row.tag for row in rows}
    after = {fold(tag): tag for tag in tags}
    gone = {folded for folded in there if after.get(folded) != there[folded]}
    for folded in gone:
        connection.execute(
            sa.delete(recording_tags).where(_g.recording_id == recording_id, _g.folded == folded)
        )
    for folded, tag in after.items():
        if there.get(folded) != tag:
            connection.execute(
                sa.insert(recording_tags).values(
                    recording_id=recording_id, folded=folded, tag=tag, author=author, create_ns=now_ns
                )
            )
    return bool(gone)


def tags_after(there: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """The tags a recording has then, in order. TagLimitError."""
    kept = {fold(tag): tag for tag in there}
    for tag in remove:
        kept.pop(fold(tag), None)
    for tag in add:
        kept.setdefault(fold(tag), tag)
    if len(kept) > MAX_TAGS:
        raise TagLimitError("the recording would have more tags than it may have", limit=MAX_TAGS)
    return [kept[folded] for folded in sorted(kept)]


def _columns(note: Note) -> dict[str, Any]:
    found = dataclasses.asdict(note)
    found["id"] = found.pop("note_id")
    return found


def _note(row: sa.Row[Any]) -> Note:
    return Note(
        row.id,
        row.recording_id,
        row.text,
        row.offset_ns,
        row.author,
        row.create_ns,
        row.editor,
        row.update_ns,
        row.version,
    )
