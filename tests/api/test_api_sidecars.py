"""Notes are sealed before they are told: one truth beside the recording, whatever breaks off and whatever is lost."""

from __future__ import annotations

import grpc
import pytest

import earwitness
from appliance.catalog.searchtables import notes as notes_table
from appliance.catalog.searchtables import recording_tags as tags_table
from appliance.catalog.searchtables import sidecars as sidecars_table
from appliance.model import UnavailableError
from appliance.storage.sealed import sidecar
from earwitness.v1 import box_pb2, evidence_pb2, recordings_pb2
from earwitness.v1 import notes_pb2 as pb

WORD = "Quetzalcoatl"


class Broken(UnavailableError):
    """Stands for a vault that went away after it had done what was asked."""

    reason = "BROKEN_HERE"


@pytest.fixture
def ground(box, sealing):
    """A box, a client, and a recording that is filed."""
    tenant, line = box.default_line()
    recording_id = box.vault.file(sealing(tenant, line))
    box.filed(recording_id)
    return box, box.client(), f"tenants/{tenant}/recordings/{recording_id}", recording_id


def entries(box, recording_id):
    """What the sidecar says, opened with the key that capture made."""
    raw = box.vault.sidecars.files.get(recording_id, b"")
    return sidecar.read(sidecar.parse(raw), box.vault.files[recording_id].key) if raw else []


def create(client, name, text=WORD, **more):
    return client.notes.CreateNote(pb.CreateNoteRequest(parent=name, note=pb.Note(text=text), **more)).note


def listed(client, name):
    return [one.text for one in client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes]


def reason(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return earwitness.details(caught.value).reason


def verified(client, name):
    *_, last = client.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=name))
    return last.report


def evidence(box, client, name):
    def asked():
        try:
            return client.evidence.GetEvidence(evidence_pb2.GetEvidenceRequest(name=name))
        except grpc.RpcError as error:
            assert earwitness.details(error).reason == "EVIDENCE_NOT_YET"
            return None

    return box.wait(asked)


def rebuild(client):
    assert list(client.box.RebuildCatalogue(box_pb2.RebuildCatalogueRequest()))[-1].done


def test_each_change_is_an_entry_with_author_time_place_text_and_version(ground):
    box, client, name, recording_id = ground
    made = create(client, name, "first")
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=made.name, text="second")))
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["b", "a"]))
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["a"]))
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made.name))
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made.name, allow_missing=True))
    found = entries(box, recording_id)
    assert [one["what"] for one in found] == ["note-created", "note-changed", "tags-changed", "note-deleted"]
    note_id = made.name.rpartition("/")[2]
    assert [one.get("version") for one in found] == [1, 2, None, 3]
    assert found[1] | {"id": 0, "at_ns": 0} == {
        "id": 0,
        "what": "note-changed",
        "by": "admin",
        "at_ns": 0,
        "note": note_id,
        "text": "second",
        "offset_ns": None,
        "version": 2,
    }
    assert found[2]["tags"] == ["a", "b"] and "text" not in found[3]
    assert listed(client, name) == []
    report = verified(client, name)
    assert (report.verdict, report.sidecar_entries) == (recordings_pb2.VERDICT_INTACT, 4)
    # Every head stands in the log, and the newest is what evidence speaks of.
    answer = evidence(box, client, name)
    assert answer.sidecar == box.vault.sidecars.files[recording_id]
    assert answer.sidecar_file_name == f"{recording_id}.sealed.sidecar"
    assert '\\"sidecar_entries\\":4' in answer.evidence and WORD not in answer.evidence


def test_a_break_after_it_was_sealed_loses_nothing_and_doubles_nothing(ground):
    """The vault answers no more after the entry is durable: with the journal's word, and before it came."""
    box, client, name, recording_id = ground
    for silent, text in ((False, "told"), (True, "not told")):
        box.vault.sidecars.silent = silent
        box.vault.sidecars.fail = Broken("gone")
        asked = pb.CreateNoteRequest(parent=name, note=pb.Note(text=text), request_id=f"r-{silent}")
        assert reason(client.notes.CreateNote, asked) == "BROKEN_HERE"
        if not silent:
            box.wait(lambda: listed(client, name) == ["told"])
        first = client.notes.CreateNote(asked).note
        assert client.notes.CreateNote(asked).note == first
        assert [one["text"] for one in entries(box, recording_id)].count(text) == 1
        assert listed(client, name).count(text) == 1
    box.vault.sidecars.silent = False
    note = client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes[0]
    change = pb.UpdateNoteRequest(
        note=pb.Note(name=note.name, text="changed", etag=note.etag), request_id="c"
    )
    box.vault.sidecars.fail = Broken("gone")
    assert reason(client.notes.UpdateNote, change) == "BROKEN_HERE"
    box.wait(lambda: "changed" in listed(client, name))
    assert client.notes.UpdateNote(change).note.text == "changed", (
        "the etag is not held against what it did itself"
    )
    assert len(entries(box, recording_id)) == 3


def test_a_break_before_it_was_sealed_changes_nothing(ground):
    box, client, name, recording_id = ground
    box.vault.stop()
    with pytest.raises(grpc.RpcError):
        create(client, name)
    box.vault.start()
    assert listed(client, name) == [] and entries(box, recording_id) == []
    box.wait(lambda: box.control.parts.follower.connected)
    create(client, name)


def test_notes_come_back_out_of_sidecars(ground):
    box, client, name, _ = ground
    made = [create(client, name, text) for text in ("one", "two", "three")]
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made[1].name))
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=made[2].name, text="third")))
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["kept"]))
    before = client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes

    def lose(connection):
        for table in (notes_table, tags_table, sidecars_table):
            connection.execute(table.delete())

    box.run(box.control.parts.store.write(lose))
    assert listed(client, name) == []
    rebuild(client)
    assert client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes == before
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter="notes:third tags:kept")
    assert [one.name for one in client.recordings.ListRecordings(request).recordings] == [name]


def test_what_was_written_before_there_were_sidecars_is_sealed_with_the_next_change(ground):
    box, client, name, recording_id = ground
    older = {"id": "a" * 26, "recording_id": recording_id, "text": "older", "offset_ns": None, "author": "ada",
             "create_ns": 5, "editor": "ada", "update_ns": 5}  # fmt: skip
    box.run(box.control.parts.store.write(lambda c: c.execute(notes_table.insert().values(**older)) and None))
    rebuild(client)
    assert listed(client, name) == ["older"], "a rebuild takes none of it"
    create(client, name, "newer")
    found = entries(box, recording_id)
    assert [(one["text"], one["by"], one.get("taken_over", False)) for one in found] == [
        ("older", "ada", True),
        ("newer", "admin", False),
    ]
    assert listed(client, name) == ["older", "newer"]


def test_deleted_locked_and_erased(ground):
    box, client, name, recording_id = ground
    tenant = name.split("/")[1]
    create(client, name)
    box.vault.keys.passphrases[tenant] = "words"
    change = pb.CreateNoteRequest(parent=name, note=pb.Note(text="x"))
    assert reason(client.notes.CreateNote, change) == "TENANT_LOCKED"
    assert verified(client, name).sidecar_entries == 1, "all but the opening"
    rebuild(client)
    del box.vault.keys.passphrases[tenant]
    box.run(box.control.parts.follower.refresh(recording_id))
    assert listed(client, name) == [WORD]
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=name, reason="asked"))
    deletion = client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes[0].name
    for call, request in (
        (client.notes.CreateNote, change),
        (
            client.notes.CreateNote,
            pb.CreateNoteRequest(parent=name, note=pb.Note(text="x"), validate_only=True),
        ),
        (client.notes.DeleteNote, pb.DeleteNoteRequest(name=deletion)),
        (client.notes.UpdateNote, pb.UpdateNoteRequest(note=pb.Note(name=deletion, text="x"))),
        (client.notes.UpdateRecordingTags, pb.UpdateRecordingTagsRequest(name=name, add=["x"])),
    ):
        assert reason(call, request) == "RECORDING_NOT_READABLE"
    client.recordings.UndeleteRecording(recordings_pb2.UndeleteRecordingRequest(name=name))
    create(client, name, "after")
    assert evidence(box, client, name).sidecar
    erase = recordings_pb2.EraseRecordingRequest(name=name, reason="asked", force=True)
    client.recordings.EraseRecording(erase)
    assert reason(client.notes.CreateNote, change) == "ERASED"
    assert not evidence(box, client, name).sidecar
    count = box.run(box.control.parts.store.read(lambda c: len(c.execute(sidecars_table.select()).all())))
    assert count == 0


def test_a_sidecar_that_is_not_what_was_written_is_found_and_brings_no_notes(ground):
    box, client, name, recording_id = ground
    create(client, name, "one")
    older = box.vault.sidecars.files[recording_id]
    create(client, name, "two")
    whole = box.vault.sidecars.files[recording_id]
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for raw, code in (
        (older, "SIDECAR_CUT"),
        (bytes(flipped), "SIDECAR_SIGNATURE_INVALID"),
        (whole[:-1], "SIDECAR_CORRUPT"),
        (b"x" * 300, "SIDECAR_HEADER"),
    ):
        box.vault.sidecars.files[recording_id] = raw
        report = verified(client, name)
        assert report.verdict == recordings_pb2.VERDICT_DAMAGED and report.findings[0].code == code
    rebuild(client)
    assert listed(client, name) == ["one", "two"], "what is known stays"
    box.vault.sidecars.files[recording_id] = whole
    assert verified(client, name).verdict == recordings_pb2.VERDICT_INTACT
