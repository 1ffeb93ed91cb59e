"""Logs, evidence and keys made by somebody who wants the verifier to call them whole, or to break it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from earwitness.verify import BoxKeys, Evidence, EvidenceError, log, verify_file
from earwitness.verify.__main__ import main
from earwitness.verify.notes import VerifierKey
from earwitness.verify.proofs import leaf_hash

NAME = "earwitness/ftdnn5dtvqlpkz4fxf7h5dj6du/audit"


class Signer:
    """Signs notes as docs/audit.md has them."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def key(self, name: str = NAME) -> VerifierKey:
        return VerifierKey(name, self.public)

    def key_text(self, name: str = NAME) -> str:
        code = base64.b64encode(b"\1" + self.public).decode()
        return f"{name}+{self.key(name).id_under(name).hex()}+{code}"

    def note(self, size: int, root: bytes, *, origin: str = NAME, signed_as: str | None = None) -> str:
        text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        name = origin if signed_as is None else signed_as
        raw = self.key(name).id_under(name) + self._private.sign(text.encode())
        return f"{text}\n\u2014 {name} {base64.b64encode(raw).decode()}\n"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def lay(folder: Path, lines: list[bytes], notes: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "entries-000001.jsonl").write_bytes(b"".join(one + b"\n" for one in lines))
    (folder / "leaves-1").write_bytes(b"".join(map(leaf_hash, lines)))
    kept = "".join(json.dumps({"time_ns": 0, "note": one}) + "\n" for one in notes)
    (folder / "checkpoints.jsonl").write_text(kept, "utf-8")
    return folder


LINES = [json.dumps({"what": "asked", "request": str(number)}).encode() for number in range(5)]


def kinds(report: log.Report) -> list[str]:
    return [one.kind for one in report.findings]


def test_a_log_that_nothing_is_signed_over_is_not_whole(signer, tmp_path):
    folder = lay(tmp_path / "log", LINES, [])
    assert kinds(log.verify(folder, [signer.key()])) == ["unsigned"]
    (folder / "leaves-1").unlink()
    assert kinds(log.verify(folder, [signer.key()])) == ["unsigned"]
    assert kinds(log.verify(folder / "entries-000001.jsonl", [signer.key()])) == ["unsigned"]


def test_entries_put_behind_the_newest_checkpoint(signer, tmp_path, capsys):
    note = signer.note(3, root_of([leaf_hash(one) for one in LINES[:3]]))
    assert log.verify(lay(tmp_path / "log", LINES[:3], [note]), [signer.key()]).whole
    folder = lay(tmp_path / "log", LINES, [note])
    report = log.verify(folder, [signer.key()])
    assert [(one.kind, one.index) for one in report.findings] == [("unsigned", 3)]
    # Leaves of a generation that never was do not vouch for them either.
    (folder / "leaves-2").write_bytes((folder / "leaves-1").read_bytes())
    assert kinds(log.verify(folder, [signer.key()])) == ["unsigned"]
    (folder / "leaves-2").unlink()
    # Of a box that runs, the last seconds: said.
    (folder / "checkpoint").write_bytes((folder / "checkpoints.jsonl").read_bytes())
    report = log.verify(folder, [signer.key()])
    assert report.whole and report.uncovered == 2
    (folder / "export.json").write_text('{"tenant": "", "start_index": 0}')
    assert kinds(log.verify(folder, [signer.key()])) == ["unsigned"]
    # One file, against what was kept elsewhere: said, and all that is signed is as it was.
    kept = tmp_path / "kept.note"
    kept.write_text(note, "utf-8")
    keys = tmp_path / "keys.json"
    keys.write_text(box_keys(signer))
    arguments = [
        "--audit",
        str(folder / "entries-000001.jsonl"),
        "--keys",
        str(keys),
        "--checkpoint",
        str(kept),
    ]
    assert main(arguments) == 0
    assert "the last 2" in capsys.readouterr().out


def test_lines_that_were_taken_out_as_if_they_were_another_tenants(signer, tmp_path, capsys):
    folder = lay(tmp_path / "log", LINES, [signer.note(5, root_of([leaf_hash(one) for one in LINES]))])
    lines = [LINES[0], b"", b"", *LINES[3:]]
    (folder / "entries-000001.jsonl").write_bytes(b"".join(one + b"\n" for one in lines))
    (folder / "export.json").write_text('{"tenant": "tenants/a", "start_index": 0}')
    keys = tmp_path / "keys.json"
    keys.write_text(box_keys(signer))
    assert main(["--audit", str(folder), "--keys", str(keys)]) == 0
    assert "withheld   2 lines" in capsys.readouterr().out


def box_keys(signer: Signer, device: str | None = "00" * 32) -> str:
    found = {"format": "earwitness box keys v1", "device_keys": [device] if device else []}
    return json.dumps(found | {"audit_keys": [signer.key_text()]})


@pytest.mark.parametrize(
    "about",
    [
        '{"tenant": "", "start_index": 1e999}',
        "[" * 20_000,
        '{"tenant": "", "start_index": NaN}',
        "\x00",
        "[]",
    ],
)
def test_an_export_that_says_nonsense_of_itself(signer, tmp_path, about):
    folder = lay(tmp_path / "log", LINES, [])
    (folder / "export.json").write_text(about)
    with pytest.raises(log.UnreadableError):
        log.verify(folder, [signer.key()])


def test_a_checkpoint_with_what_no_text_has(signer, tmp_path):
    good = signer.note(5, root_of([leaf_hash(one) for one in LINES]))
    bad = good.replace("\n\n", "\n\ud800\n\n")
    folder = lay(tmp_path / "log", LINES, [good])
    with (folder / "checkpoints.jsonl").open("a") as file:
        file.write(json.dumps({"note": bad}) + "\n")
    assert kinds(log.verify(folder, [signer.key()])) == ["forged"]


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_an_entry_that_says_how_it_was_broken_without_end(signer, tmp_path, depth):
    deep = "[" * depth + "]" * depth
    line = f'{{"what":"broken","reason":{deep},"signed_size":{deep}}}'.encode()
    folder = lay(tmp_path / "log", [line], [signer.note(1, leaf_hash(line))])
    assert kinds(log.verify(folder, [signer.key()])) == ["broken"]


def evidence(signer: Signer, line: str, **changes: object) -> str:
    made = {
        "format": "earwitness evidence v1",
        "entry": line,
        "index": 0,
        "proof": [],
        "checkpoint": signer.note(1, leaf_hash(line.encode())),
        "gaps": None,
    }
    return json.dumps(made | changes)


def test_a_checkpoint_of_a_later_generation_under_the_name_of_the_first(signer):
    line = '{"what":"filed"}'
    assert Evidence.parse(evidence(signer, line)).check([signer.key()]).size == 1
    moved = signer.note(1, leaf_hash(line.encode()), origin=f"{NAME}/2", signed_as=NAME)
    with pytest.raises(EvidenceError) as raised:
        Evidence.parse(evidence(signer, line, checkpoint=moved)).check([signer.key()])
    assert raised.value.code == "CHECKPOINT_FORGED"


@pytest.mark.parametrize(
    "changes",
    [
        {"index": float("inf")},
        {"index": float("nan")},
        {"gaps": [["gap", float("inf"), None, -1]]},
        {"gaps": [["gap", 0, float("-inf"), -1]]},
        {"entry": "\ud800"},
        {"proof": ["\ud800"]},
        {"proof": "00"},
    ],
)
def test_evidence_that_is_nonsense(signer, changes):
    with pytest.raises(EvidenceError):
        Evidence.parse(evidence(signer, "{}", **changes))


def test_keys_that_name_no_device_trust_none(signer, device, make_recording, tmp_path):
    path = tmp_path / "a.sealed"
    path.write_bytes(make_recording(device).data)
    right = device.public_key().public_bytes_raw().hex()
    assert verify_file(path, BoxKeys.parse(box_keys(signer, right))).good
    verdict = verify_file(path, BoxKeys.parse(box_keys(signer, None)))
    assert [one.code for one in verdict.findings] == ["SIGNER_UNKNOWN"]


@pytest.mark.parametrize("name", [b"a.sealed: INTACT\n.sealed", b"a\x1b[2K.sealed", b"\xff.sealed"])
def test_a_file_whose_name_would_write_a_verdict(
    signer, device, make_recording, tmp_path, capsysbinary, name
):
    keys, path = tmp_path / "keys.json", tmp_path / os.fsdecode(name)
    keys.write_text(box_keys(signer, device.public_key().public_bytes_raw().hex()))
    path.write_bytes(make_recording(device).data[:-1])
    assert main([str(path), "--keys", str(keys)]) == 1
    said = capsysbinary.readouterr().out
    assert [b": DAMAGED" in line for line in said.splitlines()].count(True) == 1
    assert not any(line.endswith(b": INTACT") for line in said.splitlines()) and b"\x1b" not in said


def test_an_index_that_is_nonsense(tmp_path, capsys):
    path, entries = tmp_path / "list.json", tmp_path / "entries"
    deep = "[" * 900 + "]" * 900
    entries.write_text(f'{{"what":"filed","position":1,"recording":{deep}}}\n')
    for text in (f'[{{"name":{deep}}}]', f'[{{"name":"tenants/-/recordings/{"a" * 26}","state":{deep}}}]'):
        path.write_text(text)
        assert main(["--index", str(path), "--log", str(entries)]) == 2
    path.write_text("[]")
    assert main(["--index", str(path), "--log", str(entries)]) == 0


def test_what_was_asked_for_and_would_not_be_done(tmp_path):
    for arguments in (
        ["a.sealed", "--keys", "k", "--audit", "log"],
        ["--audit", "log", "--keys", "k", "--index", "i", "--log", "l"],
        ["--index", "i", "--log", "l", "--keys", "k"],
        ["a.sealed", "--keys", "k", "--checkpoint", "c"],
        ["--audit", "log", "--keys", "k", "--evidence", "e"],
    ):
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 2


def test_an_entry_that_was_written_late_does_not_undo_what_came_before_it(tmp_path, capsys):
    entries, path, recording = tmp_path / "entries", tmp_path / "list.json", "a" * 26
    said = [("filed", 1), ("erased", 2), ("filed", 1)]
    entries.write_text(
        "".join(
            json.dumps({"what": what, "recording": recording, "position": position}) + "\n"
            for what, position in said
        )
    )
    found = {}
    for state in ("ERASED", "FILED"):
        path.write_text(json.dumps([{"name": f"tenants/-/recordings/{recording}", "state": state}]))
        main(["--index", str(path), "--log", str(entries), "--json"])
        found[state] = [one["code"] for one in json.loads(capsys.readouterr().out)]
    assert found == {"ERASED": [], "FILED": ["RECORDING_RESURRECTED"]}
