"""Testimony: "a call recording and retrieval system".

The promise: search by time, number, agent, line, direction, length, mark, note, tag, call id; what a caller really said can
be found again, by those who may.
"""

from __future__ import annotations

import time

import pytest

from appliance.model import Mark, MarkKind
from earwitness.v1 import notes_pb2, recordings_pb2

SECOND = 10**9


@pytest.fixture
def ground(box, sealing):
    """Three calls of one line, and the names of their recordings."""
    tenant_id, line_id = box.default_line()
    now = (time.time_ns() // SECOND - 3600) * SECOND
    plans = (
        (("Ada Lovelace", "Dr. Grace Hopper"), ("+447700900123", "200"), 3, "ucid-1"),
        (("Mary Seacole", "Nurse Cavell"), ("+441632960001", "201"), 8, "ucid-2"),
        (("Élodie Brûlé", "Dr. Grace Hopper"), ("+447700900124", "200"), 5, "ucid-3"),
    )
    names = []
    for number, (people, numbers, seconds, session) in enumerate(plans):
        start = now + number * 60 * SECOND
        marks = (Mark(kind=MarkKind.PAUSED, at_ns=start + SECOND, actor="agent"),) if number == 1 else ()
        made = sealing(
            tenant_id,
            line_id,
            names=people,
            numbers=numbers,
            seconds=seconds,
            start_ns=start,
            session_ids=(session,),
            marks=marks,
        )
        box.filed(box.vault.file(made))
        names.append(f"tenants/{tenant_id}/recordings/{made.info.recording_id}")
    client = box.client()
    client.notes.CreateNote(
        notes_pb2.CreateNoteRequest(parent=names[2], note=notes_pb2.Note(text="Chest pain since Tuesday"))
    )
    client.notes.UpdateRecordingTags(notes_pb2.UpdateRecordingTagsRequest(name=names[0], add=["complaint"]))
    return box, client, names, f"tenants/{tenant_id}/lines/{line_id}", now


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("party.number = 07700900123", {0}),
        ("party.number : 900123", {0}),
        ("party.number : 0900", {0, 2}),
        ('party.name : "grace"', {0, 2}),
        ('party.name : "elodie brule"', {2}),
        ('agent : "hopper"', {0, 2}),
        ("agent = 201", {1}),
        ("duration > 6s", {1}),
        ("duration <= 5s", {0, 2}),
        ("marks : PAUSED", {1}),
        ("notes : chest", {2}),
        ('notes : "pain tues*"', {2}),
        ("tags : complaint", {0}),
        ("session_ids : ucid-3", {2}),
        ("direction = INBOUND NOT tags : complaint", {1, 2}),
        ("party.number : 900 (notes : chest OR tags : complaint)", {0, 2}),
    ],
)
def test_a_call_is_found_by_what_is_known_of_it(ground, text, expected):
    _, client, names, _, _ = ground
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter=text)
    found = client.recordings.ListRecordings(request).recordings
    assert {names.index(one.name) for one in found} == expected


def test_by_line_and_time(ground):
    _, client, names, line, now = ground
    begin = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now // SECOND + 30))
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now // SECOND + 90))
    text = f"line = {line} start_time >= {begin} start_time < {end}"
    request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter=text)
    assert [one.name for one in client.recordings.ListRecordings(request).recordings] == [names[1]]


def test_what_is_erased_is_found_by_nothing(ground):
    _, client, names, _, _ = ground
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=names[2], reason="asked by the patient", force=True)
    )
    for text in ("party.number : 900124", 'party.name : "elodie"', "notes : chest", "session_ids : ucid-3"):
        request = recordings_pb2.ListRecordingsRequest(parent="tenants/-", filter=text, show_deleted=True)
        assert not client.recordings.ListRecordings(request).recordings, text
