"""A damaged sidecar is set aside by a records officer: notes go on, and everybody is told."""

from __future__ import annotations

import io
import json

import pytest
from test_api_sidecars import Broken, create, entries, evidence, ground, listed, reason, rebuild, verified  # noqa: F401

from appliance.cli.main import run
from earwitness.v1 import audit_pb2, recordings_pb2
from earwitness.v1 import notes_pb2 as pb

WHY = "No copy has it"


def begin(client, name, **more):
    return client.notes.BeginSidecarAnew(pb.BeginSidecarAnewRequest(name=name, reason=WHY, **more))


def notes(client, name):
    return client.notes.ListNotes(pb.ListNotesRequest(parent=name)).notes


@pytest.fixture
def damaged(ground):  # noqa: F811 (a fixture)
    """Notes, one changed, one deleted, and tags; the sidecar put back to an older state."""
    box, client, name, recording_id = ground
    made = [create(client, name, text) for text in ("one", "two", "three")]
    older = box.vault.sidecars.files[recording_id]
    client.notes.DeleteNote(pb.DeleteNoteRequest(name=made[1].name))
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=made[2].name, text="third")))
    client.notes.UpdateNote(pb.UpdateNoteRequest(note=pb.Note(name=made[2].name, text="3rd")))
    client.notes.UpdateRecordingTags(pb.UpdateRecordingTagsRequest(name=name, add=["kept"]))
    box.vault.sidecars.files[recording_id] = older[:-1]
    return box, client, name, recording_id


def test_notes_go_on_and_the_new_one_says_what_it_is(damaged, tmp_path):
    box, client, name, recording_id = damaged
    before = notes(client, name)
    assert reason(client.notes.CreateNote, pb.CreateNoteRequest(parent=name, note=pb.Note(text="x"))) == (
        "SIDECAR_CORRUPT"
    )
    dry = begin(client, name, validate_only=True)
    assert (dry.code, dry.former_entries, dry.entries) == ("SIDECAR_CORRUPT", 7, 0)
    assert verified(client, name).verdict == recordings_pb2.VERDICT_DAMAGED
    done = begin(client, name, request_id="once")
    assert (done.code, done.former_entries, done.kept) == ("SIDECAR_CORRUPT", 7, True)
    assert begin(client, name, request_id="once") == done
    assert notes(client, name) == before, "as they were, to the etag"
    create(client, name, "goes on")
    assert begin(client, name, request_id="once") == pb.BeginSidecarAnewResponse(
        code=done.code, former_entries=7, kept=True, entries=done.entries + 1
    )
    found = entries(box, recording_id)
    assert [one["what"] for one in found] == [
        "sidecar-begun-anew",
        "note-created",
        "note-created",
        "note-changed",
        "tags-changed",
        "sidecar-set-aside",
        "note-created",
    ]
    assert (found[0]["by"], found[0]["reason"]) == ("admin", WHY)
    assert all(one["taken_over"] for one in found[1:5])
    report = verified(client, name)
    assert (report.verdict, report.sidecar_entries) == (recordings_pb2.VERDICT_INTACT, 7)
    after = notes(client, name)
    rebuild(client)
    assert notes(client, name) == after and [one.text for one in after] == ["one", "3rd", "goes on"]
    # In the log: what was asked for, by whom; and with the recording how often.
    answer = evidence(box, client, name)
    said = json.loads(json.loads(answer.evidence)["entry"])
    assert (said["sidecar_entries"], said["sidecar_begun"]) == (7, 1)
    assert WHY not in answer.evidence and answer.sidecar == box.vault.sidecars.files[recording_id]
    asked = client.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(parent="tenants/-", filter="method:BeginSidecarAnew", page_size=50)
    ).audit_entries
    assert len(asked) >= 3


def test_at_the_terminal_it_is_shown_first_and_asked_for(damaged, capsys, monkeypatch):
    box, _, _, recording_id = damaged
    box.layout.run.mkdir(parents=True, exist_ok=True)
    (box.layout.run / "addresses.json").write_text(json.dumps({"api": f"127.0.0.1:{box.port}"}))
    monkeypatch.setenv("EARWITNESS_DATA", str(box.layout.root))
    raw = box.vault.sidecars.files[recording_id]
    words = ["notes", "begin-anew", recording_id, "--reason", WHY]
    assert run([*words, "--validate-only"]) == 0
    assert "SIDECAR_CORRUPT" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert run(words) == 1
    assert "nothing was set aside" in capsys.readouterr().err
    assert box.vault.sidecars.files[recording_id] == raw
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{recording_id}\n"))
    assert run([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["code"], done["formerEntries"], done["kept"]) == ("SIDECAR_CORRUPT", "7", True)
    assert run([*words, "--yes"]) != 0
    assert "SIDECAR_WHOLE" in capsys.readouterr().err


def test_only_a_damaged_one_is_set_aside_and_only_with_a_reason(ground):  # noqa: F811 (a fixture)
    box, client, name, recording_id = ground
    wanted = pb.BeginSidecarAnewRequest(name=name, reason=WHY)
    for dry in (True, False):
        wanted.validate_only = dry
        assert reason(client.notes.BeginSidecarAnew, wanted) == "SIDECAR_WHOLE"
    create(client, name)
    raw = box.vault.sidecars.files[recording_id]
    assert reason(client.notes.BeginSidecarAnew, wanted) == "SIDECAR_WHOLE"
    box.vault.sidecars.files[recording_id] = raw[:-1]
    for bad in ("", "a\nb", "x" * 1001):
        wanted.reason = bad
        assert reason(client.notes.BeginSidecarAnew, wanted) == "FIELD_INVALID"
    wanted.reason = WHY
    tenant = name.split("/")[1]
    box.vault.keys.passphrases[tenant] = "words"
    assert reason(client.notes.BeginSidecarAnew, wanted) == "TENANT_LOCKED"
    del box.vault.keys.passphrases[tenant]
    client.recordings.DeleteRecording(recordings_pb2.DeleteRecordingRequest(name=name, reason="asked"))
    assert reason(client.notes.BeginSidecarAnew, wanted) == "RECORDING_NOT_READABLE"
    assert box.vault.sidecars.files[recording_id] == raw[:-1]


@pytest.mark.parametrize("silent", [False, True], ids=["told", "not told"])
def test_a_break_after_it_was_begun_doubles_nothing(damaged, silent):
    """The vault answers no more after it is durable: with the journal's word, and before it came."""
    box, client, name, recording_id = damaged
    before = notes(client, name)
    box.vault.sidecars.silent, box.vault.sidecars.fail = silent, Broken("gone")
    wanted = pb.BeginSidecarAnewRequest(name=name, reason=WHY, request_id="r")
    assert reason(client.notes.BeginSidecarAnew, wanted) == "BROKEN_HERE"
    raw = box.vault.sidecars.files[recording_id]
    if not silent:
        create(client, name, "meanwhile")
        assert [one.text for one in notes(client, name)] == ["one", "3rd", "meanwhile"]
    done = client.notes.BeginSidecarAnew(wanted)
    assert done.kept and box.vault.sidecars.files[recording_id][: len(raw)] == raw
    assert list(notes(client, name))[:2] == list(before)
    box.vault.sidecars.silent = False
    create(client, name, "goes on")
    assert listed(client, name)[-1] == "goes on"
