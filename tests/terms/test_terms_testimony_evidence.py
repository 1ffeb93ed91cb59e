"""Testimony: "helps to verify what a patient has actually said".

The promise: one step says whether a recording is whole, untouched, by this box, with these gaps; offline too, without the
box and without a secret. What was added to it later (notes, tags) is part of that evidence: sealed, signed, and verified
with it.
"""

from __future__ import annotations

import json

import grpc
import pytest

import earwitness
from appliance.model import Mark, MarkKind
from earwitness.v1 import evidence_pb2, notes_pb2, recordings_pb2
from earwitness.verify.__main__ import main

START = 1_764_000_000_000_000_000
SECOND = 10**9
NOTE = "The patient said that the dose was changed on Tuesday"


class Outside:
    """What an outsider holds: files, and the box's public keys."""

    def __init__(self, box, client, folder) -> None:
        self._box, self._client, self._folder = box, client, folder
        self.keys = folder / "box-keys.json"
        self.keys.write_text(client.evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest()).keys)

    def take(self, name: str):
        """A recording with its evidence, laid side by side; the path of the recording."""
        recording = name.rpartition("/")[2]
        path = self._folder / f"{recording}.sealed"
        request = recordings_pb2.DownloadRecordingRequest(
            name=name, format=recordings_pb2.DOWNLOAD_FORMAT_SEALED, purpose="quality"
        )
        path.write_bytes(
            b"".join(one.chunk.data for one in self._client.recordings.DownloadRecording(request))
        )
        self.refresh(name)
        return path

    def refresh(self, name: str) -> None:
        def asked():
            try:
                return self._client.evidence.GetEvidence(evidence_pb2.GetEvidenceRequest(name=name))
            except grpc.RpcError as error:
                assert earwitness.details(error).reason == "EVIDENCE_NOT_YET"
                return None

        answer = self._box.wait(asked)
        (self._folder / answer.file_name).write_text(answer.evidence)
        if answer.sidecar:
            (self._folder / answer.sidecar_file_name).write_bytes(answer.sidecar)

    def verdict(self, path, capsys) -> dict:
        """Of `python -m earwitness.verify`, which knows nothing of the box."""
        code = main([str(path), "--keys", str(self.keys), "--json"])
        found = json.loads(capsys.readouterr().out)
        assert code == (0 if found["verdict"] != "DAMAGED" else 1)
        return found


@pytest.fixture
def outside(box, sealing, tmp_path):
    """Two recordings outside the box: one with a pause, a note and a tag, and one with a note."""
    tenant, line = box.default_line()
    marks = (
        Mark(kind=MarkKind.PAUSED, at_ns=START + SECOND // 2, actor="agent", reason="card"),
        Mark(kind=MarkKind.RESUMED, at_ns=START + SECOND, actor="agent"),
    )
    client, names = box.client(), []
    for some in (marks, ()):
        made = sealing(tenant, line, marks=some)
        box.filed(box.vault.file(made))
        names.append(f"tenants/{tenant}/recordings/{made.info.recording_id}")
        note = notes_pb2.Note(text=NOTE)
        client.notes.CreateNote(notes_pb2.CreateNoteRequest(parent=names[-1], note=note))
    client.notes.UpdateRecordingTags(notes_pb2.UpdateRecordingTagsRequest(name=names[0], add=["complaint"]))
    made = Outside(box, client, tmp_path)
    return client, made, names, [made.take(name) for name in names]


def codes(found) -> set[str]:
    return {one["code"] for one in found["findings"]}


def test_a_recording_with_what_was_added_to_it_verifies_offline(outside, capsys):
    client, made, names, (first, second) = outside
    found = made.verdict(first, capsys)
    assert (found["verdict"], found["sidecar_entries"], found["sidecar_logged"]) == ("INTACT", 2, 2)
    assert [(one["kind"], one["from_ms"], one["until_ms"]) for one in found["gaps"]] == [
        ("paused", 500, 1000)
    ]
    assert made.verdict(second, capsys)["sidecar_entries"] == 1
    for path in (first, second):
        everything = b"".join(one.read_bytes() for one in path.parent.glob(f"{path.stem}*"))
        assert NOTE.encode() not in everything, "what was said of a patient goes out sealed"
    # And in one step at the box, with the key.
    *_, last = client.recordings.VerifyRecording(recordings_pb2.VerifyRecordingRequest(name=names[0]))
    assert last.report.verdict == recordings_pb2.VERDICT_INTACT and last.report.sidecar_entries == 2


def test_a_sidecar_that_was_begun_anew_is_told_as_what_it_is(outside, box, capsys):
    client, made, names, (first, _) = outside
    recording = names[0].rpartition("/")[2]
    assert made.verdict(first, capsys)["sidecar_begun"] == 0
    older = first.with_name(f"{first.name}.sidecar").read_bytes()
    box.vault.sidecars.files[recording] = older[:-1]
    reason = "Its disk was damaged, and so was the copy"
    client.notes.BeginSidecarAnew(notes_pb2.BeginSidecarAnewRequest(name=names[0], reason=reason))
    made.refresh(names[0])
    found = made.verdict(first, capsys)
    assert (found["verdict"], found["sidecar_begun"], found["sidecar_entries"]) == ("INTACT", 1, 4)
    assert main([str(first), "--keys", str(made.keys)]) == 0
    assert "begun anew once, says the log: the one before was damaged" in capsys.readouterr().out
    everything = b"".join(one.read_bytes() for one in first.parent.glob(f"{first.stem}*"))
    assert reason.encode() not in everything
    first.with_name(f"{first.name}.sidecar").write_bytes(older)
    assert codes(made.verdict(first, capsys)) == {"SIDECAR_CUT"}, "nobody passes the old one off as it"


def test_whatever_is_done_to_the_notes_on_the_way_is_found(outside, capsys):
    client, made, names, (first, second) = outside
    beside = first.with_name(f"{first.name}.sidecar")
    whole = beside.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    foreign = second.with_name(f"{second.name}.sidecar").read_bytes()
    for raw, code in (
        (bytes(flipped), "SIDECAR_"),
        (whole[:-1], "SIDECAR_CORRUPT"),
        (foreign, "SIDECAR_OTHER_RECORDING"),
    ):
        beside.write_bytes(raw)
        found = made.verdict(first, capsys)
        assert found["verdict"] == "DAMAGED" and any(one.startswith(code) for one in codes(found))
    beside.unlink()
    assert codes(made.verdict(first, capsys)) == {"SIDECAR_MISSING"}
    # An older state, which the box itself had signed: the log speaks of an entry more.
    beside.write_bytes(whole)
    client.notes.CreateNote(notes_pb2.CreateNoteRequest(parent=names[0], note=notes_pb2.Note(text="later")))
    made.refresh(names[0])
    assert made.verdict(first, capsys)["verdict"] == "INTACT"
    beside.write_bytes(whole)
    assert codes(made.verdict(first, capsys)) == {"SIDECAR_CUT"}


def test_a_note_that_is_taken_back_stays_in_evidence_until_the_recording_is_erased(outside, capsys):
    client, made, names, (first, _) = outside
    note = client.notes.ListNotes(notes_pb2.ListNotesRequest(parent=names[0])).notes[0]
    client.notes.DeleteNote(notes_pb2.DeleteNoteRequest(name=note.name))
    made.refresh(names[0])
    assert made.verdict(first, capsys)["sidecar_entries"] == 3, "the taking back is an entry, too"
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=names[0], reason="asked", force=True)
    )
    answer = client.evidence.GetEvidence(evidence_pb2.GetEvidenceRequest(name=names[0]))
    assert not answer.sidecar
