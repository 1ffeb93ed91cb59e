"""Files that a box signed as they are: what holds, what does not, and what is no signature of a file."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit.note import Signer
from appliance.audit.trail import Trail
from appliance.process.status import Status
from earwitness.verify.__main__ import main
from earwitness.verify.keys import FORMAT


@pytest.fixture
def trail(tmp_path):
    made = Trail(tmp_path / "control", Status())
    yield made
    made.close()


def keys_file(tmp_path, *signers: Signer):
    path = tmp_path / "box-keys.json"
    device = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    path.write_text(
        json.dumps(
            {
                "format": FORMAT,
                "device_keys": [device],
                "audit_keys": [str(signer.verifier) for signer in signers],
            }
        )
    )
    return str(path)


def run(capsys, *words: str) -> tuple[int, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out + err


def test_a_signed_file_is_held_against_its_note(tmp_path, trail, capsys):
    report = tmp_path / "report.json"
    report.write_bytes(b'{"missing": 0}\n')
    note = tmp_path / "report.json.note"
    note.write_text(trail.sign("completeness-report", report.read_bytes()), "utf-8")
    assert note.read_text("utf-8").startswith("earwitness.example/completeness-report/v1\n")
    keys = keys_file(tmp_path, trail.log.signer)
    code, said = run(capsys, str(report), "--keys", keys)
    assert code == 0 and "as it was signed" in said and "completeness-report" in said
    # The log goes on as another generation after a break, and its key under another name: what was signed still holds.
    later = keys_file(tmp_path, trail.log.signer.named(f"{trail.log.signer.name}/2"))
    assert run(capsys, str(report), "--keys", later)[0] == 0
    code, said = run(capsys, str(report), "--keys", keys, "--json")
    assert json.loads(said)["good"] and json.loads(said)["kind"] == "completeness-report"

    report.write_bytes(b'{"missing": 1}\n')
    code, said = run(capsys, str(report), "--keys", keys)
    assert code == 1 and "not what was signed" in said
    report.write_bytes(b'{"missing": 0}\n')
    stranger = keys_file(tmp_path, Signer.generate(trail.log.signer.name))
    code, said = run(capsys, str(report), "--keys", stranger)
    assert code == 1 and "no key among those given" in said


def test_no_other_note_is_a_signature_of_a_file(tmp_path, trail, capsys):
    report = tmp_path / "report.json"
    report.write_bytes(b"x")
    keys = keys_file(tmp_path, trail.log.signer)
    note = tmp_path / "report.json.note"
    note.write_text(trail.log.signer.sign("earwitness/x/audit\n5\nabc\n"), "utf-8")
    assert run(capsys, str(report), "--keys", keys)[0] == 1
    note.write_bytes(b"\xff\xfe no note")
    assert run(capsys, str(report), "--keys", keys)[0] == 2
    for kind in ("", "Upper", "a/b", "a\nb"):
        with pytest.raises(ValueError):
            trail.sign(kind, b"x")
