"""Requests for access and restrictions on the command line, against a box of tests/api."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import pyzipper
from box_fixtures import box, make_box, sample_prompts, sealing
from test_api_subjects import Desk, samples

from appliance.cli import main, output
from appliance.cli.connection import resource
from appliance.cli.exits import Exit, Failure
from appliance.cli.subjectview import offset
from earwitness.v1 import evidence_pb2

__all__ = ["box", "make_box", "sample_prompts", "sealing"]


@pytest.fixture
def desk(box, sealing):
    return Desk(box, sealing)


@pytest.fixture
def run(desk, monkeypatch):
    """Runs a command that must end with `code`; gives what it said."""
    pki = desk.box.layout.pki
    options = ["--server", f"127.0.0.1:{desk.box.port}", "--ca", str(pki / "ca.crt")]
    options += [
        f"--{one}={pki / 'clients' / f'officer.{kind}'}" for one, kind in (("cert", "crt"), ("key", "key"))
    ]

    def command(*words: str, code: Exit = Exit.OK) -> str:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(output.console, "width", 200)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main.run([*options, *words])
        assert found == code, err.getvalue()
        return out.getvalue() if code is Exit.OK else err.getvalue()

    return command


def of(run, *words: str) -> Any:
    """What it said as JSON; the box of this process may log beside it."""
    lines = run(*words, "--json").splitlines()
    begun = next(
        place for place, line in enumerate(lines) if line.startswith(("{", "[")) and "[info" not in line
    )
    return json.loads("\n".join(line for line in lines[begun:] if " [info " not in line[:60]))


def test_from_the_request_to_the_pack(desk, run, tmp_path):
    first, second, third = (desk.call() for _ in range(3))
    created = of(run, "subjects", "create", "SAR-7", "--number", "01632960001", "--identified", "called back")
    request = created["name"].rpartition("/")[2]
    assert created["dueDate"] and "SAR-7" in run("subjects", "list")
    other = ("subjects", "create", "SAR-8", "--other-number", "07700900123")
    assert "SUBJECT_NUMBER_UNVERIFIED" in run(*other, code=Exit.USAGE)
    assert "NUMBER_PARTIAL" in run("subjects", "create", "SAR-9", "--number", "0163*", code=Exit.USAGE)
    assert len(of(run, "subjects", "find", request)) == 3
    assert "given" in run("subjects", "choose", request, first, second)
    assert "1 stretch silent" in run("subjects", "mute", request, second, "--party", "1")
    assert "withheld" in run("subjects", "withhold", request, third, "--ground", "crime")
    assert "none of" in run("subjects", "withhold", request, third, "--ground", "whim", code=Exit.USAGE)
    assert "--party or --span" in run("subjects", "mute", request, first, code=Exit.USAGE)
    found = run("subjects", "find", request)
    assert "muted" in found and "withheld" in found
    made = of(run, "subjects", "pack", request, "--generate", "--wait")
    pack, file = made["name"].rpartition("/")[2], tmp_path / "pack.zip"
    assert "checksum right" in run("subjects", "download", pack, "-o", str(file))
    assert "FILE_EXISTS" in run("subjects", "download", pack, "-o", str(file), code=Exit.CONFLICT)
    with pyzipper.AESZipFile(file) as opened:
        sound = [
            samples(opened.read(f"audio/000{number}.wav", pwd=made["passphrase"].encode()))
            for number in (1, 2)
        ]
    assert [bool(one[:, 1].any()) for one in sound].count(False) == 1
    checked_by_its_passphrase(desk, file, made["passphrase"])
    part, content = tmp_path / f".{pack}.zip.part", file.read_bytes()
    note = part.with_name(f"{part.name}.json")
    again = ("subjects", "download", pack, "-o", str(file), "--force")
    sha256 = hashlib.sha256(content).hexdigest()

    def broken_off(etag: str) -> None:
        part.write_bytes(content[:1000])
        note.write_text(json.dumps({"name": resource("subjectPacks", pack), "etag": etag}))

    for etag, begun in ((f"zip-{sha256[:32]}", 1000), ("zip-of-other-bytes", 0)):
        broken_off(etag)
        assert of(run, *again) == {
            "path": str(file),
            "sizeBytes": len(content),
            "sha256": sha256,
            "resumedAt": begun,
        }
        assert file.read_bytes() == content
        assert sorted(one.name for one in tmp_path.iterdir()) == ["box0", "pack.zip"]
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "DOWNLOAD_RUNNING" in run(*again, code=Exit.CONFLICT)
    broken_off(f"zip-{sha256[:32]}")
    assert "destroyed" in run("subjects", "destroy", pack)
    assert "SUBJECT_PACK_STATE" in run(*again, code=Exit.CONFLICT)
    assert not part.exists() and not note.exists(), "what is destroyed does not stay here in part"
    assert "clarification" in run("subjects", "pause", request, "clarification")
    assert "Due" in run("subjects", "resume", request)
    run("subjects", "extend", request, "Hundreds of calls over ten years")
    assert "answered" in run("subjects", "close", request)
    assert "No request" in run("subjects", "list") and "SAR-7" in run("subjects", "list", "--all")
    assert "ready" in run("subjects", "reopen", request)


def checked_by_its_passphrase(desk: Desk, file: Path, passphrase: str) -> None:
    keys = file.with_name("box-keys.json")
    answer = desk.client.evidence.GetBoxKeys(evidence_pb2.GetBoxKeysRequest())
    keys.write_text(answer.keys)
    assert "UNOPENED" in of_verify(file, keys, Exit.USAGE)
    for words, code in ((passphrase, Exit.OK), ("other" + passphrase, Exit.USAGE)):
        reading, writing = os.pipe()
        os.write(writing, words.encode())
        os.close(writing)
        said = of_verify(file, keys, code, "--passphrase-fd", str(reading))
        os.close(reading)
        assert ("INTACT" in said and "signed by" in said) or code is Exit.USAGE
    keys.unlink()


def of_verify(file: Path, keys: Path, code: Exit, *words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        found = main.run(["verify", str(file), "--keys", str(keys), *words])
    assert found == code, out.getvalue()
    return out.getvalue()


def test_recordings_are_restricted_lifted_and_objected_to(desk, run):
    name = desk.call()
    assert "--reason" in run("recordings", "restrict", name, code=Exit.USAGE)
    made = of(run, "recordings", "restrict", "--number", "01632960001", "--reason", "disputed")
    assert made["recordingCount"] == "1"
    assert "restricted" in run("recordings", "list", "--filter", "restricted:true", "--json")
    assert "RECORDING_RESTRICTED" in run(
        "recordings", "download", name, "--purpose", "complaints", code=Exit.CONFLICT
    )
    assert "accuracy" in run("recordings", "restrictions")
    assert "lifted" in run("recordings", "lift", made["name"], "--reason", "settled")
    objected = of(run, "recordings", "object", name, "--reason", "no more")
    assert objected["state"] == "RESTRICTION_STATE_PENDING"
    assert "overridden" in run("recordings", "decide", objected["name"], "override", "--reason", "a claim")
    assert "No restriction" in run("recordings", "restrictions")


def test_places_in_a_recording():
    assert [offset(one, "x").ToMilliseconds() for one in ("0:00", "1:05", "61:00", "1:02:03.5")] == [
        0, 65_000, 3_660_000, 3_723_500,
    ]  # fmt: skip
    for wrong in ("", "65", "1:60", "-1:00", "1:5", "a:bc"):
        with pytest.raises(Failure):
            offset(wrong, "x")
