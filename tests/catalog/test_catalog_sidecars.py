"""Notes and tags out of sidecars: the same however often, in order, and never from what is malformed."""

from __future__ import annotations

import additions_kit
import pytest

from appliance.catalog import additions, attended, recordings, sidecars
from appliance.catalog.records import SidecarHead
from appliance.model import new_id

HEAD = SidecarHead(3, "ab" * 32)


@pytest.fixture
def held(sqlite, make_held, make_description):
    held = make_held()
    with sqlite.write() as connection:
        recordings.take(connection, held, 1, make_description())
    return held


def history(recording_id):
    note = additions.Note(new_id(), recording_id, "first", None, "ada", 5, "ada", 5)
    other = additions.Note(new_id(), recording_id, "other", 7, "ada", 6, "ada", 6)
    changed = additions.Note(note.note_id, recording_id, "second", 9, "ada", 5, "bob", 8, 2)
    gone = additions.Note(other.note_id, recording_id, "", None, "ada", 6, "bob", 9, 2)
    return [
        sidecars.note_entry("note-created", note, new_id()),
        sidecars.note_entry("note-created", other, new_id()),
        sidecars.tags_entry(["a", "B"], "ada", 7, new_id()),
        sidecars.note_entry("note-changed", changed, new_id()),
        {"id": new_id(), "what": "something-of-later", "by": "x", "at_ns": 1},
        sidecars.note_entry("note-deleted", gone, new_id()),
        sidecars.tags_entry(["B"], "bob", 10, new_id()),
    ], changed


def state(connection, recording_id):
    return additions.list_notes(connection, recording_id, 99), recordings.get(connection, recording_id).tags


@pytest.mark.parametrize("first", range(8))
def test_however_it_is_cut_it_ends_the_same(sqlite, held, first):
    entries, changed = history(held.recording_id)
    with sqlite.write() as connection:
        assert sidecars.take(connection, held.recording_id, entries[:first], 0, 7)
        assert sidecars.take(connection, held.recording_id, entries, 0, 7), "what was taken changes nothing"
        assert not sidecars.take(connection, held.recording_id, entries, 8, 15), "nothing is passed over"
        assert state(connection, held.recording_id) == ([changed], ("B",))
        assert sidecars.find(connection, held.recording_id) == sidecars.Known(7, 7, entries[-1]["id"])
        sidecars.told(connection, held.recording_id, HEAD, doubted=True)
        assert sidecars.find(connection, held.recording_id) == sidecars.Known(7, 0, "")
        assert sidecars.take(connection, held.recording_id, entries, 0, 7)
        assert state(connection, held.recording_id) == ([changed], ("B",))


def test_what_is_behind_waits_for_its_tenants_keys(sqlite, held):
    with sqlite.write() as connection:
        assert attended.waiting(connection, held.tenant_id, 9) == []
        sidecars.told(connection, held.recording_id, HEAD)
        assert attended.waiting(connection, held.tenant_id, 9) == [held.recording_id]
        entries, _ = history(held.recording_id)
        sidecars.take(connection, held.recording_id, entries[:3], 0, 3)
        assert attended.waiting(connection, held.tenant_id, 9) == []


def test_what_is_in_no_sidecar_is_taken_over_once_and_under_the_same_ids(sqlite, held):
    note = additions.Note(new_id(), held.recording_id, "older", 3, "ada", 5, "bob", 8)
    with sqlite.write() as connection:
        additions.put_note(connection, note)
        additions.set_tags(connection, held.recording_id, ["x", "y"], "ada", 6)
        recordings.refresh(connection, held.recording_id)
        before = state(connection, held.recording_id)
        found = sidecars.unsealed(connection, held.recording_id)
        assert found == sidecars.unsealed(connection, held.recording_id)
        assert [one["what"] for one in found] == [
            "note-created",
            "note-changed",
            "tags-changed",
            "tags-changed",
        ]
        assert all(one["taken_over"] for one in found) and len({one["id"] for one in found}) == 4
        assert [(one["by"], one["at_ns"]) for one in found[:2]] == [("ada", 5), ("bob", 8)]
        assert sidecars.take(connection, held.recording_id, found, 0, 4)
        notes, tags = state(connection, held.recording_id)
        assert tags == before[1] and [(one.text, one.author, one.editor) for one in notes] == [
            ("older", "ada", "bob")
        ]
        assert sidecars.unsealed(connection, held.recording_id) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"note": "?"},
        {"text": ""},
        {"text": "x" * 4001},
        {"text": 1},
        {"offset_ns": -1},
        {"offset_ns": "1"},
        {"version": 0},
        {"version": 1 << 31},
        {"by": ""},
        {"at_ns": None},
        {"what": "tags-changed", "tags": ["x" * 41]},
        {"what": "tags-changed", "tags": "abc"},
        {"what": "tags-changed", "tags": ["x"] * 51},
    ],
)
def test_what_is_malformed_is_never_taken(sqlite, held, wrong):
    entry = history(held.recording_id)[0][0]
    with sqlite.write() as connection:
        with pytest.raises(ValueError, match="malformed"):
            sidecars.take(connection, held.recording_id, [entry | wrong], 0, 1)
        assert state(connection, held.recording_id) == ([], ())


def test_an_erased_recordings_sidecar_is_forgotten(sqlite, held, make_held):
    import dataclasses

    from appliance.catalog.records import State

    with sqlite.write() as connection:
        additions_kit.add_note(connection, held.recording_id, "x", None, "ada", 1)
        gone = dataclasses.replace(held, state=State.ERASED)
        recordings.take(connection, gone, 2, None)
        assert sidecars.find(connection, held.recording_id) == sidecars.Known()


def test_one_that_was_begun_anew_is_taken_up_from_its_beginning_and_the_older_no_more(sqlite, held):
    entries, _ = history(held.recording_id)
    anew = [sidecars.tags_entry(["new"], "eve", 20, new_id())]
    with sqlite.write() as connection:
        assert sidecars.take(connection, held.recording_id, entries, 0, 7)
        later = SidecarHead(1, "0" * 64, 1)
        sidecars.told(connection, held.recording_id, later)
        assert sidecars.find(connection, held.recording_id) == sidecars.Known(1, 0, "", 1)
        assert sidecars.take(connection, held.recording_id, anew, 0, 1, 1)
        known = sidecars.Known(1, 1, anew[0]["id"], 1)
        assert sidecars.find(connection, held.recording_id) == known
        # What is said of the one before comes too late.
        sidecars.told(connection, held.recording_id, HEAD)
        assert sidecars.take(connection, held.recording_id, entries, 0, 7)
        assert sidecars.find(connection, held.recording_id) == known
        # One more, of which nothing was told yet, and not from its beginning.
        assert not sidecars.take(connection, held.recording_id, anew, 1, 2, 2)
        assert sidecars.take(connection, held.recording_id, anew, 0, 1, 2)
        assert sidecars.find(connection, held.recording_id).begun == 2
        # The journal was lost, and everything is read anew.
        sidecars.told(connection, held.recording_id, HEAD, doubted=True)
        assert sidecars.find(connection, held.recording_id) == sidecars.Known(HEAD.entries)
