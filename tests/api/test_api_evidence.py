"""Evidence of recordings, from the box to an outsider who has public keys alone, and what is done to it on the way."""

from __future__ import annotations

import json

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import earwitness
from appliance.audit.note import Checkpoint, Signer
from appliance.model import Mark, MarkKind, new_id
from earwitness.v1 import evidence_pb2 as pb
from earwitness.v1 import recordings_pb2
from earwitness.verify import BoxKeys, Evidence, verify_file
from earwitness.verify.__main__ import main
from earwitness.verify.notes import VerifierKey, open_checkpoint

START = 1_764_000_000_000_000_000
SECOND = 10**9


def evidence_of(box, client, recording_id: str) -> str:
    """Once it is there."""

    def asked() -> str:
        try:
            return client.evidence.GetEvidence(
                pb.GetEvidenceRequest(name=f"tenants/-/recordings/{recording_id}")
            ).evidence
        except grpc.RpcError as error:
            assert earwitness.details(error).reason in ("EVIDENCE_NOT_YET", "RECORDING_NOT_FOUND")
            return ""

    return box.wait(asked)


@pytest.fixture
def ground(box, sealing, tmp_path):
    """Two recordings with their evidence, as an outsider has them, and the box's keys."""
    tenant_id, line_id = box.default_line()
    client = box.client()
    marks = (
        Mark(kind=MarkKind.PAUSED, at_ns=START + SECOND // 2, actor="agent", reason="card"),
        Mark(kind=MarkKind.RESUMED, at_ns=START + SECOND, actor="agent"),
        Mark(kind=MarkKind.PAUSED, at_ns=START + 2 * SECOND, actor="agent"),
    )
    files = []
    for some in (marks, ()):
        made = sealing(tenant_id, line_id, marks=some, seconds=3)
        recording_id = box.vault.file(made)
        box.filed(recording_id)
        path = tmp_path / f"{recording_id}.sealed"
        path.write_bytes(made.data)
        evidence_path = tmp_path / f"{path.name}.evidence.json"
        evidence_path.write_text(evidence_of(box, client, recording_id), "utf-8")
        files.append(path)
    keys = tmp_path / "box-keys.json"
    keys.write_text(client.evidence.GetBoxKeys(pb.GetBoxKeysRequest()).keys, "utf-8")
    return box, client, files, keys


def evidence(path) -> Evidence:
    return Evidence.parse(path.with_name(f"{path.name}.evidence.json").read_text("utf-8"))


def verified(path, keys, of=None):
    return verify_file(path, BoxKeys.parse(keys.read_text("utf-8")), evidence(of or path))


def codes(path, keys, of=None) -> list[str]:
    return [one.code for one in verified(path, keys, of).findings]


def altered(path, **fields) -> None:
    """Change fields of the evidence of a file."""
    there = path.with_name(f"{path.name}.evidence.json")
    there.write_text(json.dumps({**json.loads(there.read_text("utf-8")), **fields}), "utf-8")


def test_whole_untouched_by_this_box_in_this_order_with_these_gaps(ground, capsys):
    _, _, (first, second), keys = ground
    one, two = verified(first, keys), verified(second, keys)
    assert one.word == two.word == "INTACT"
    assert one.order < two.order
    assert [(gap.kind, gap.from_ms, gap.until_ms) for gap in one.gaps] == [
        ("paused", 500, 1000),
        ("paused", 2000, None),
    ]
    assert two.gaps == ()
    assert main([str(first), str(second), "--keys", str(keys)]) == 0
    told = capsys.readouterr().out
    assert "paused 0.5 s to 1.0 s" in told and f"order: {first.name} " in told
    assert main([str(first), "--keys", str(keys), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "INTACT"


def test_evidence_holds_no_personal_data(ground):
    _, _, (first, _), _ = ground
    text = first.with_name(f"{first.name}.evidence.json").read_text("utf-8")
    assert not any(word in text for word in ("Ada", "Grace", "1632", "sbc.example", "card"))


def test_a_flipped_bit_and_a_cut(ground, capsys):
    _, _, (first, _), keys = ground
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 4
    first.write_bytes(data)
    assert codes(first, keys)[0] in ("FRAME_CORRUPT", "FRAME_MISPLACED")
    assert main([str(first), "--keys", str(keys)]) == 1
    assert "WRONG" in capsys.readouterr().out
    first.write_bytes(data[: len(data) // 2])
    assert codes(first, keys)


def test_two_recordings_exchanged(ground):
    _, _, (first, second), keys = ground
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert codes(first, keys) == codes(second, keys) == ["OTHER_RECORDING"]


def test_another_content_that_the_same_device_signed(ground, sealing):
    """Somebody with the device's key makes the recording anew: the log has the hash of the one that was filed."""
    box, _, (first, _), keys = ground
    known = next(one.info for one in box.vault.files.values() if one.info.recording_id == first.name[:26])
    forged = sealing(known.tenant_id, known.line_id, recording_id=known.recording_id, seconds=1)
    # `seal` chooses an id of its own unless told, so that the header and the content agree.
    assert forged.info.recording_id == known.recording_id
    first.write_bytes(forged.data)
    found = codes(first, keys)
    assert found in (["OTHER_CONTENT"], ["OTHER_RECORDING"])


def test_signed_anew_by_another_box(ground):
    from appliance.storage import sealed

    box, _, (first, _), keys = ground
    known = box.vault.files[first.name[:26]]
    import io

    stranger = Ed25519PrivateKey.generate()
    first.write_bytes(
        known.unsigned + sealed.seal_footer(sealed.inspect(io.BytesIO(known.unsigned)), stranger, START)
    )
    assert codes(first, keys) == ["SIGNER_UNKNOWN", "OTHER_CONTENT"]


def test_a_forged_checkpoint(ground):
    _, _, (first, _), keys = ground
    real = evidence(first)
    key = VerifierKey.parse(json.loads(keys.read_text())["audit_keys"][0])
    there = open_checkpoint(real.checkpoint, key)
    stranger = Signer.generate(key.name)
    altered(first, checkpoint=stranger.sign(Checkpoint(there.origin, there.size, b"r" * 32).text()))
    assert codes(first, keys) == ["CHECKPOINT_FORGED"]
    altered(first, checkpoint=real.checkpoint.replace(f"\n{there.size}\n", f"\n{there.size + 1}\n", 1))
    assert codes(first, keys) == ["CHECKPOINT_FORGED"]


def test_an_entry_that_is_not_in_the_log_or_elsewhere_in_it(ground):
    _, _, (first, second), keys = ground
    altered(first, entry=evidence(first).entry.decode().replace('"filed"', '"filed "'))
    assert codes(first, keys) == ["NOT_IN_LOG"]
    altered(second, index=evidence(second).index - 1)
    assert codes(second, keys) == ["NOT_IN_LOG"]


@pytest.mark.parametrize("gaps", [[], None, [["paused", 500, 900, -1], ["paused", 2000, None, -1]]])
def test_gaps_taken_out_or_changed(ground, gaps):
    _, _, (first, _), keys = ground
    altered(first, gaps=gaps)
    assert codes(first, keys) == ["GAPS_ALTERED"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format":"earwitness evidence v1"}', "[" * 5000])
def test_what_is_no_evidence_or_no_keys(ground, text, capsys):
    _, _, (first, _), keys = ground
    first.with_name(f"{first.name}.evidence.json").write_text(text, "utf-8")
    assert main([str(first), "--keys", str(keys)]) == 2
    keys.write_text(text, "utf-8")
    assert main([str(first), "--keys", str(keys)]) == 2
    assert "evidence" in capsys.readouterr().err


def test_an_erasure_stands_in_the_log_after_the_filing(ground):
    box, client, (first, _), _ = ground
    recording_id = first.name[:26]
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(
            name=f"tenants/-/recordings/{recording_id}", reason="asked", force=True
        )
    )

    def lines() -> list[dict]:
        trail = box.control.trail
        return [one for one in trail.tail(1 << 20) if one.get("recording") == recording_id]

    box.wait(lambda: [one["what"] for one in lines()] == ["filed", "erased"])
    assert lines()[1]["epoch"] == 1 and lines()[0]["position"] < lines()[1]["position"]
    # What was filed can still be proved; that it is erased, too.
    assert evidence_of(box, client, recording_id)


def test_nobody_elses_and_nothing(ground):
    _, client, (first, _), _ = ground
    for name in (f"tenants/-/recordings/{new_id()}", f"tenants/{new_id()}/recordings/{first.name[:26]}"):
        with pytest.raises(grpc.RpcError) as caught:
            client.evidence.GetEvidence(pb.GetEvidenceRequest(name=name))
        assert earwitness.details(caught.value).reason == "RECORDING_NOT_FOUND"


def test_entries_come_again_with_a_catalogue_that_was_lost(ground, sealing):
    """A catalogue put aside or put back: what the vault holds is written down again, and can be proved."""
    box, _, (first, _), keys = ground
    box.stop()
    for path in box.layout.control.glob("catalogue.db*"):
        path.unlink()
    box.start()
    client = box.client()
    text = evidence_of(box, client, first.name[:26])
    first.with_name(f"{first.name}.evidence.json").write_text(text, "utf-8")
    assert codes(first, keys) == []


def test_the_log_itself_offline_with_the_same_keys(ground, tmp_path, capsys):
    box, _, _, keys = ground
    folder = tmp_path / "log"
    folder.mkdir()
    box.control.trail.log.sign()
    for path in (box.layout.control / "audit").glob("*"):
        if path.name.startswith(("entries-", "leaves-", "checkpoint")):
            (folder / path.name).write_bytes(path.read_bytes())
    assert main(["--audit", str(folder), "--keys", str(keys)]) == 0
    assert "they agree" in capsys.readouterr().out
    entries = folder / "entries-000001.jsonl"
    entries = entries if entries.exists() else next(folder.glob("entries-*"))
    entries.write_bytes(entries.read_bytes().replace(b'"admin"', b'"nimda"', 1))
    assert main(["--audit", str(folder), "--keys", str(keys)]) == 1
    assert "WRONG" in capsys.readouterr().out
    assert main(["--audit", str(tmp_path / "none"), "--keys", str(keys)]) == 2
