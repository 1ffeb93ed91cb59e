"""Notes, tags, counts and search over the API, on both databases; and what of them is left after an erasure."""

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

import earwitness
from appliance.access.identities import Role
from appliance.model import Mark, MarkKind, new_id
from earwitness.v1 import notes_pb2 as pb
from earwitness.v1 import recordings_pb2

SECOND = 10**9
DAY = 86400 * SECOND
START = 1_764_000_000 * SECOND  # 2025-11-24T16:00:00Z
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)


@pytest.fixture(params=["sqlite", POSTGRESQL])
def box(request, make_box, make_url):
    """A box on each database."""
    return make_box(catalogue="" if request.param == "sqlite" else make_url())


@pytest.fixture
def name(box, sealing):
    """A recording that is filed."""
    tenant, line = box.default_line()
    recording_id = box.vault.file(sealing(tenant, line))
    box.filed(recording_id)
    return f"tenants/{tenant}/recordings/{recording_id}"


def reason(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return earwitness.details(caught.value).reason


def found(client, text, **more):
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter=text, **more)
    return [one.name for one in client.recordings.ListRecordings(request).recordings]


def create(client, parent, text, **more):
    return client.notes.CreateNote(pb.CreateNoteRequest(parent=parent, note=pb.Note(text=text), **more)).note


def test_a_note_is_written_found_changed_and_removed(box, name):
    client = box.client()
    made = client.notes.CreateNote(
        pb.CreateNoteRequest(
            parent=name, note=pb.Note(text="Patient describes chest pain.", offset=Duration(seconds=1))
        )
    ).note
    assert made.name.startswith(f"{name}/notes/") and made.author == made.editor == "admin" and made.etag
    assert client.notes.GetNote(pb.GetNoteRequest(name=made.name)).note == made
    assert found(client, "notes:'CHEST pai*'") == [name] and found(client, "notes:knee") == []
    changed = client.notes.UpdateNote(
        pb.UpdateNoteRequest(note=pb.Note(name=made.name, text="It was the knee.", etag=made.etag))
    ).note
    assert changed.text == "It was the knee." and changed.offset == made.offset
    assert changed.etag != made.etag and changed.create_time == made.create_time
    assert found(client, "notes:chest") == [] and found(client, "notes:knee") == [name]
    stale = pb.UpdateNoteRequest(note=pb.Note(name=made.name, text="x", etag=made.etag))
    assert reason(client.notes.UpdateNote, stale) == "ETAG_MISMATCH"
    cleared = pb.UpdateNoteRequest(note=pb.Note(name=made.name), update_mask=FieldMask(paths=["offset"]))
    assert not client.notes.UpdateNote(cleared).note.HasField("offset")
    assert (
        reason(client.notes.DeleteNote, pb.DeleteNoteRequest(name=made.name, etag=made.etag))
        == "ETAG_MISMATCH"
    )
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made.name))
    assert reason(client.notes.GetNote, pb.GetNoteRequest(name=made.name)) == "NOTE_NOT_FOUND"
    assert reason(client.notes.DeleteNote, pb.DeleteNoteRequest(name=made.name)) == "NOTE_NOT_FOUND"
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made.name, allow_missing=True))
    assert found(client, "notes:knee") == []


def test_changes_happen_once_and_checks_change_nothing(box, name):
    client = box.client()
    checked = create(client, name, "only looked at", validate_only=True)
    assert checked.text == "only looked at" and not checked.name and not checked.etag
    first = create(client, name, "once", request_id="r1")
    assert create(client, name, "once", request_id="r1") == first
    reused = pb.CreateNoteRequest(parent=name, note=pb.Note(text="other"), request_id="r1")
    assert reason(client.notes.CreateNote, reused) == "REQUEST_ID_REUSED"
    tags = pb.UpdateRecordingTagsRequest(name=name, add=["urgent"], validate_only=True)
    assert list(client.notes.UpdateRecordingTags(tags).tags) == ["urgent"]
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=first.name, text="y"), validate_only=True))
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=first.name, validate_only=True))
    assert list(client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes) == [first]
    assert found(client, "tags:urgent") == []


@pytest.mark.parametrize(
    ("note", "field"),
    [
        (pb.Note(), "note.text"),
        (pb.Note(text=" \n"), "note.text"),
        (pb.Note(text="x" * 4001), "note.text"),
        (pb.Note(text="bell\a"), "note.text"),
        (pb.Note(text="nul\0"), "note.text"),
        (pb.Note(text="csi\x9b2J"), "note.text"),
        (pb.Note(text="x", offset=Duration(seconds=-1)), "note.offset"),
        (pb.Note(text="x", offset=Duration(seconds=2**62)), "note.offset"),
    ],
)
def test_notes_that_are_refused(box, name, note, field):
    with pytest.raises(grpc.RpcError) as caught:
        box.client().notes.CreateNote(pb.CreateNoteRequest(parent=name, note=note))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(earwitness.details(caught.value))
    assert not box.client().notes.ListNotes(pb.ListNotesRequest(parent=name)).notes


def test_notes_are_paged_and_stable(box, name):
    client = box.client()
    made = [create(client, name, f"note {place}").name for place in range(7)]
    seen, token = [], ""
    while True:
        request = pb.ListNotesRequest(parent=name, page_size=2, page_token=token)
        answer = client.notes.ListNotes(request)
        seen += [one.name for one in answer.notes]
        token = answer.next_page_token
        if not token:
            break
        create(client, name, "later")
        if len(seen) == 2:
            client.notes.DeleteNote(pb.DeleteNoteRequest(name=made[4]))
    assert [one for one in seen if one in made] == [one for one in made if one != made[4]]
    assert len(seen) == len(set(seen))
    other = pb.ListNotesRequest(parent=name, page_token="x")
    assert reason(client.notes.ListNotes, other) == "PAGE_TOKEN_INVALID"


def test_tags_are_folded_found_and_bounded(box, name):
    client = box.client()

    def tag(add=(), remove=()):
        request = pb.UpdateRecordingTagsRequest(name=name, add=add, remove=remove)
        return client.notes.UpdateRecordingTags(request)

    before = client.recordings.GetRecording(recordings_pb2.GetRecordingRequest(name=name)).recording.etag
    assert list(tag(["Urgent", "Zoë's case".replace("'", "")]).tags) == ["Urgent", "Zoës case"]
    after = client.recordings.GetRecording(recordings_pb2.GetRecordingRequest(name=name)).recording
    assert list(after.tags) == ["Urgent", "Zoës case"] and after.etag != before
    assert list(tag(["URGENT"]).tags) == ["Urgent", "Zoës case"], "what was written first stays"
    assert found(client, "tags:urgent tags:'ZOES c*'") == [name]
    assert list(tag(["uRGENT"], ["urgent", "nothing"]).tags) == ["uRGENT", "Zoës case"]
    assert list(tag([], ["zoes case"]).tags) == ["uRGENT"] and found(client, "tags:zoe*") == []
    for bad in ("", "x" * 41, " x", "a*", 'a"', "\n", "\u0301"):
        assert reason(client.notes.UpdateRecordingTags, pb.UpdateRecordingTagsRequest(name=name, add=[bad]))
    many = pb.UpdateRecordingTagsRequest(name=name, add=[f"t{n}" for n in range(50)])
    assert reason(client.notes.UpdateRecordingTags, many) == "TAG_LIMIT"
    assert list(tag([], []).tags) == ["uRGENT"]


def test_of_a_foreign_tenants_recording_nothing_is_said(box, name):
    made = create(box.client(), name, "private")
    other = box.enroll("stranger", Role.SUPERVISOR, tenant_id=new_id())
    for call, request in (
        (other.notes.ListNotes, pb.ListNotesRequest(parent=name)),
        (other.notes.CreateNote, pb.CreateNoteRequest(parent=name, note=pb.Note(text="x"))),
        (other.notes.UpdateRecordingTags, pb.UpdateRecordingTagsRequest(name=name, add=["x"])),
        (other.notes.GetNote, pb.GetNoteRequest(name=made.name)),
        (other.notes.DeleteNote, pb.DeleteNoteRequest(name=made.name, allow_missing=True)),
        (other.notes.UpdateNote, pb.UpdateNoteRequest(note=pb.Note(name=made.name, text="x"))),
    ):
        assert reason(call, request) == "RECORDING_NOT_FOUND"
    assert found(other, "notes:private") == []
    count = recordings_pb2.CountRecordingsRequest(
        parent="tenants/-", filter="notes:private", count_by=recordings_pb2.COUNT_BY_DAY
    )
    assert other.recordings.CountRecordings(count).count == 0
    assert box.client().recordings.CountRecordings(count).count == 1


def test_recordings_are_counted(box, sealing):
    tenant, line = box.default_line()
    day = recordings_pb2.COUNT_BY_DAY
    for seconds, start in ((2, START), (3, START + 7 * 3600 * SECOND), (1, START + 9 * 3600 * SECOND)):
        box.filed(
            box.vault.file(sealing(tenant, line, seconds=seconds, start_ns=start, flags=(f"f{seconds}",)))
        )

    def count(by, text="", zone=""):
        request = recordings_pb2.CountRecordingsRequest(
            parent="tenants/-", count_by=by, filter=text, time_zone=zone
        )
        answer = box.client().recordings.CountRecordings(request)
        return [(one.key, one.count, one.duration.seconds) for one in answer.groups], answer.count

    assert count(day) == ([("2025-11-24", 2, 5), ("2025-11-25", 1, 1)], 3)
    assert count(day, zone="Asia/Kolkata") == ([("2025-11-24", 1, 2), ("2025-11-25", 2, 4)], 3)
    assert count(day, "duration>2s") == ([("2025-11-24", 1, 3)], 1)
    assert count(recordings_pb2.COUNT_BY_LINE) == ([(f"tenants/{tenant}/lines/{line}", 3, 6)], 3)
    assert count(recordings_pb2.COUNT_BY_DIRECTION) == ([("INBOUND", 3, 6)], 3)
    assert {("f1", 1, 1), ("f2", 1, 2), ("f3", 1, 3)} <= set(count(recordings_pb2.COUNT_BY_FLAG)[0])
    assert count(recordings_pb2.COUNT_BY_TAG) == ([], 3)
    for wrong, why in (
        ({"count_by": 0}, "FIELD_INVALID"),
        ({"time_zone": "Mars/Base"}, "TIME_ZONE_UNKNOWN"),
        ({"time_zone": "../../etc/passwd"}, "TIME_ZONE_UNKNOWN"),
        ({"filter": "x"}, "FILTER_INVALID"),
    ):
        request = recordings_pb2.CountRecordingsRequest(**{"parent": "tenants/-", "count_by": day, **wrong})
        assert reason(box.client().recordings.CountRecordings, request) == why


def test_a_rebuild_keeps_notes_and_tags(box, name):
    client = box.client()
    made = create(client, name, "kept over a rebuild")
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["kept"]))
    from earwitness.v1 import box_pb2

    assert list(client.box.RebuildCatalogue(box_pb2.RebuildCatalogueRequest()))[-1].done
    assert client.notes.GetNote(pb.GetNoteRequest(name=made.name)).note == made
    assert found(client, "notes:rebuild tags:kept") == [name]


def test_what_is_erased_is_in_no_file(box, sealing, catalogue_files):
    """Names, numbers, words of notes, tags and events: UTF-8 and UTF-16, tables, logs, free pages."""
    tenant, line = box.default_line()
    client = box.client()
    mark = Mark(kind=MarkKind.HELD, at_ns=START + SECOND, actor="Wilhelmina", reason="Quetzalcoatl", data={})
    recording_id = box.vault.file(
        sealing(
            tenant,
            line,
            names=("Ignatius Featherstonehaugh", "Dr. Wilhelmina"),
            numbers=("+441632987654", "7431"),
            marks=(mark,),
            sip_call_id="featherstonehaugh@sbc",
            session_ids=("ucid-zanzibar",),
        )
    )
    box.filed(recording_id)
    box.filed(box.vault.file(sealing(tenant, line)))
    name = f"tenants/{tenant}/recordings/{recording_id}"
    noted = create(client, name, "Hippogriff and basilisk")
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=noted.name, text="Manticore")))
    removed = create(client, name, "Cockatrice")
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=removed.name))
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["Jabberwock"]))
    needles = ["Featherstonehaugh", "featherstonehaugh", "441632987654", "1632987654", "Wilhelmina", "wilhelmina",
               "Quetzalcoatl", "zanzibar", "Manticore", "manticore", "Jabberwock", "jabberwock"]  # fmt: skip
    gone = ["Hippogriff", "hippogriff", "basilisk", "Cockatrice", "cockatrice"]
    box.run(box.control.parts.store.analyze())
    there = b"\0".join(data for _, data in catalogue_files(box))
    assert not [one for one in needles if one.encode() not in there], "it was looked where they are"
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=name, reason="asked", force=True)
    )

    def scrubbed() -> bool:
        box.run(box.control.parts.follower.scrub())
        return not box.control.parts.follower._taker.scrub_wanted

    box.wait(scrubbed)
    left = [
        (str(path), needle)
        for path, data in catalogue_files(box)
        for needle in needles + gone
        for coding in ("utf-8", "utf-16-le", "utf-16-be")
        if needle.encode(coding) in data
    ]
    assert left == []
    assert reason(client.notes.ListNotes, pb.ListNotesRequest(parent=name)) == "ERASED"
    assert found(client, "notes:manticore OR party.number:987654 OR agent:wil", show_deleted=True) == []
    assert json.dumps(recording_id).strip('"').encode() in b"".join(d for _, d in catalogue_files(box))
