"""Sealed sidecars of recordings, as the catalogue follows them: how far each goes, and how far it was taken up.

The sidecar is the truth, and notes and tags here are made from it, entry by entry; doing that again ends the same. What was
written before there were sidecars is in none, and stays as it is until it is sealed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import additions, recordings, tables
from appliance.catalog.additions import MAX_NOTE, MAX_TAGS, Note
from appliance.catalog.database import erasing
from appliance.catalog.records import SidecarHead, State
from appliance.catalog.searchtables import notes, recording_tags, sidecars
from appliance.catalog.values import MAX_TAG, fold
from appliance.model import id_text, is_id

Entry = dict[str, Any]
"""An entry's content: docs/sealed-format.md, section Sidecar."""

MAX_ACTOR: Final = 300
_s = sidecars.c
_n = notes.c
_g = recording_tags.c
_r = tables.recordings


@dataclass(frozen=True)
class Known:
    """Of one recording: entries that its sidecar has, as the vault said last, and of those how many were taken up.

    `last_id`: of the entry that was taken up last; `begun`: how often it was begun anew.
    """

    entries: int = 0
    taken: int = 0
    last_id: str = ""
    begun: int = 0


def find(connection: sa.Connection, recording_id: str) -> Known:
    """Nothing is known of one that has no sidecar."""
    row = connection.execute(sa.select(sidecars).where(_s.recording_id == recording_id)).first()
    return Known() if row is None else Known(row.entries, row.taken, row.last_id, row.begun)


def told(connection: sa.Connection, recording_id: str, head: SidecarHead, *, doubted: bool = False) -> None:
    """The vault says how far a sidecar goes. `doubted`: it is to be read anew from its beginning, once it can be.

    One that was begun anew is read from its beginning. What is said of the one before comes too late, and changes nothing.
    """
    known = find(connection, recording_id)
    if head.begun > known.begun or (doubted and head.begun != known.begun):
        known = Known(begun=head.begun)
    elif head.begun < known.begun:
        return
    elif doubted:
        known = dataclasses.replace(known, taken=0, last_id="")
    _put(connection, recording_id, dataclasses.replace(known, entries=max(known.entries, head.entries)))


def take(
    connection: sa.Connection,
    recording_id: str,
    entries: Sequence[Entry],
    first: int,
    total: int,
    begun: int = 0,
) -> bool:
    """Take up entries from index `first` on, of a sidecar that has `total`; those that were taken up before change nothing.
    Of one that was `begun` anew more often than is known, none was; of the one before it, nothing is taken up any more.

    False, and nothing is done, where entries between are missing. ValueError where one is malformed.
    """
    known = find(connection, recording_id)
    if begun < known.begun:
        return True
    if begun > known.begun:
        known = Known(begun=begun)
    if first > known.taken:
        return False
    fresh = entries[known.taken - first :]
    changed = False
    for entry in fresh:
        changed |= _apply(connection, recording_id, check(entry))
    if fresh:
        recordings.refresh(connection, recording_id)
        if changed:
            erasing(connection)  # of what was there before
        known = Known(max(known.entries, total), known.taken + len(fresh), str(fresh[-1]["id"]), begun)
        _put(connection, recording_id, known)
    return True


def _put(connection: sa.Connection, recording_id: str, known: Known) -> None:
    connection.execute(sa.delete(sidecars).where(_s.recording_id == recording_id))
    connection.execute(sa.insert(sidecars).values(recording_id=recording_id, **dataclasses.asdict(known)))


def check(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same; ValueError where it is not of the form that its kind has. What is not known here is passed over."""

    def need(good: bool) -> None:
        if not good:
            raise ValueError("an entry of a sidecar is malformed")

    def text(name: str, most: int) -> bool:
        value = entry.get(name)
        return isinstance(value, str) and 1 <= len(value) <= most

    def number(name: str) -> bool:
        value = entry.get(name)
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63

    need(text("id", 26) and text("by", MAX_ACTOR) and number("at_ns"))
    what = entry.get("what")
    if what in ("note-created", "note-changed"):
        need(text("note", 26) and is_id(entry["note"]) and text("text", MAX_NOTE))
        need(number("version") and 1 <= entry["version"] < 1 << 31)
        need(entry.get("offset_ns") is None or number("offset_ns"))
    elif what == "note-deleted":
        need(text("note", 26) and is_id(entry["note"]))
    elif what == "tags-changed":
        tags = entry.get("tags")
        need(isinstance(tags, list) and len(tags) <= MAX_TAGS)
        need(all(isinstance(one, str) and 1 <= len(one) <= MAX_TAG for one in tags or ()))
    return entry


def _apply(connection: sa.Connection, recording_id: str, entry: Mapping[str, Any]) -> bool:
    """Whether something that was there is not any more."""
    what, by, at_ns = entry["what"], entry["by"], entry["at_ns"]
    if what in ("note-created", "note-changed"):
        before = additions.find_note(connection, recording_id, entry["note"])
        author, create_ns = (
            (by, at_ns)
            if before is None or what == "note-created"
            else (
                before.author,
                before.create_ns,
            )
        )
        made = Note(
            entry["note"],
            recording_id,
            entry["text"],
            entry.get("offset_ns"),
            author,
            create_ns,
            by,
            at_ns,
            entry["version"],
        )
        additions.put_note(connection, made)
        return before is not None and before.text != made.text
    if what == "note-deleted":
        return bool(
            connection.execute(
                sa.delete(notes).where(_n.id == entry["note"], _n.recording_id == recording_id)
            ).rowcount
        )
    if what == "tags-changed":
        return additions.set_tags(connection, recording_id, entry["tags"], by, at_ns)
    return False


# Entries, made.


def note_entry(what: str, note: Note, entry_id: str, **more: Any) -> Entry:
    """`what`: note-created, note-changed, note-deleted; by whom and when is in the note."""
    made: Entry = {
        "id": entry_id,
        "what": what,
        "by": note.editor,
        "at_ns": note.update_ns,
        "note": note.note_id,
    }
    if what != "note-deleted":
        made |= {"text": note.text, "offset_ns": note.offset_ns}
    return made | {"version": note.version} | more


def tags_entry(tags: Sequence[str], by: str, now_ns: int, entry_id: str, **more: Any) -> Entry:
    """All tags that a recording has from now on."""
    return {"id": entry_id, "what": "tags-changed", "by": by, "at_ns": now_ns, "tags": list(tags)} | more


def unsealed(connection: sa.Connection, recording_id: str) -> list[Entry]:
    """What a recording has of notes and tags that no sidecar has yet, as entries; oldest first."""
    return [] if find(connection, recording_id).entries else standing(connection, recording_id)


def unsealed_recordings(
    connection: sa.Connection, limit: int, after: str = "", without: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Filed recordings with notes or tags that no sidecar has, in the order of their ids: ids of recording and tenant.

    `without`: tenants that are passed over.
    """
    query = _unsealed(_r.c.id, _r.c.tenant_id).where(_r.c.id > after, _r.c.tenant_id.not_in(without))
    return [(row.id, row.tenant_id) for row in connection.execute(query.order_by(_r.c.id).limit(limit))]


def count_unsealed(connection: sa.Connection) -> int:
    """How many there are."""
    return int(connection.execute(_unsealed(sa.func.count())).scalar_one())


def _unsealed(*columns: Any) -> sa.Select[Any]:
    added = sa.union(sa.select(_n.recording_id), sa.select(_g.recording_id)).subquery()
    sealed = sa.select(_s.recording_id).where(_s.entries > 0)
    return (
        sa.select(*columns)
        .select_from(_r.join(added, added.c.recording_id == _r.c.id))
        .where(_r.c.state == State.FILED.value, _r.c.id.not_in(sealed))
    )


def standing(connection: sa.Connection, recording_id: str) -> list[Entry]:
    """All notes and tags that a recording has, as entries of a sidecar that has none of them; oldest first."""
    found: list[Entry] = []
    for note in additions.list_notes(connection, recording_id, additions.MAX_NOTES):
        changed = (note.editor, note.update_ns) != (note.author, note.create_ns)
        first = dataclasses.replace(
            note,
            editor=note.author,
            update_ns=note.create_ns,
            version=1 if changed else note.version,
        )
        found.append(note_entry("note-created", first, _older("note", note.note_id), taken_over=True))
        if changed:
            again = dataclasses.replace(note, version=max(note.version, 2))
            found.append(note_entry("note-changed", again, _older("changed", note.note_id), taken_over=True))
    rows = connection.execute(
        sa.select(recording_tags).where(_g.recording_id == recording_id).order_by(_g.create_ns, _g.folded)
    ).all()
    kept: list[str] = []
    for row in rows:
        kept.append(row.tag)
        name = _older("tag", recording_id + row.folded)
        found.append(tags_entry(sorted(kept, key=fold), row.author, row.create_ns, name, taken_over=True))
    return found


def _older(kind: str, name: str) -> str:
    """The same for the same thing, so that it is entered once."""
    return id_text(hashlib.sha256(f"earwitness taken over {kind} {name}".encode()).digest()[:16])
