"""Exit packs: what is in them, that they go on where they broke off, and what keeps them waiting."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import grpc
import jsonschema
import pytest

import earwitness
from appliance.api import closingwork, exitpack, worker
from appliance.config.exits import ExitFolder, ExitSettings
from appliance.model import Mark, MarkKind
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import operations_pb2, recordings_pb2, tenants_pb2

START = 1_764_000_000_000_000_000
EVERY_SCRIPT = "=Ward Ж λ 心 한 ع א ไ ᚠ 𝔘 \N{PILE OF POO} é e\u0301"


def refused(call) -> earwitness.Details:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return earwitness.details(caught.value)


@pytest.fixture
def disk(tmp_path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(worker, "BACKOFF_S", 0.2)
    monkeypatch.setattr(closingwork, "LOOK_S", 0.2)
    monkeypatch.setattr(exitpack, "KEEP_EVERY_S", 0.0)


@pytest.fixture
def site(make_box, disk, quick):
    """A box that may write exit packs to the disk."""
    box = make_box()
    box.default_line()
    box.stop()
    allow = ExitSettings(folders=(ExitFolder(path=disk),))
    box.settings = box.settings.model_copy(update={"exit": allow})
    box.start()
    return box


def fill(box, sealing, count: int, **more) -> list[str]:
    tenant_id, line_id = box.default_line()
    ids = [
        box.vault.file(sealing(tenant_id, line_id, start_ns=START + n * 10**9, **more)) for n in range(count)
    ]
    for one in ids:
        box.filed(one)
    return sorted(ids)


def begin(box, client, disk: Path, **more) -> pb.CreateExitPackResponse:
    asked = {"folder": pb.ExitPackFolder(path=str(disk)), **more.pop("pack", {})}
    return client.closing.CreateExitPack(
        pb.CreateExitPackRequest(
            parent=f"tenants/{box.default_line()[0]}", exit_pack=pb.ExitPack(**asked), **more
        )
    )


def ended(client, made) -> operations_pb2.Operation:
    request = operations_pb2.WatchOperationRequest(name=made.operation.name)
    return [one.operation for one in client.operations.WatchOperation(request, timeout=60)][-1]


def verify(folder: Path, *arguments: str) -> dict:
    """The pack's own verifier, by a Python that has nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(folder / "verify.py"), "--json", *arguments],
        capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return {**json.loads(done.stdout), "code": done.returncode}


def only(disk: Path) -> Path:
    (found,) = disk.iterdir()
    return found


def test_a_pack_holds_everything_in_open_forms(site, sealing, disk):
    box = site
    heard = Mark(kind=MarkKind.PAUSED, at_ns=START, actor="200", reason="card")
    ids = fill(box, sealing, 5, names=(EVERY_SCRIPT, "+cmd|' /C calc'!A0"), marks=(heard,))
    client = box.client()
    tenant, line = (f"tenants/{box.default_line()[0]}", box.default_line()[1])
    client.tenants.UpdateLine(
        tenants_pb2.UpdateLineRequest(
            line=tenants_pb2.Line(name=f"{tenant}/lines/{line}", display_name=EVERY_SCRIPT)
        )
    )
    client.recordings.DeleteRecording(
        recordings_pb2.DeleteRecordingRequest(name=f"{tenant}/recordings/{ids[1]}", reason="asked for")
    )
    client.recordings.EraseRecording(
        recordings_pb2.EraseRecordingRequest(name=f"{tenant}/recordings/{ids[2]}", reason="law", force=True)
    )
    shown = begin(box, client, disk, validate_only=True)
    assert shown.exit_pack.recording_count == 4 and not shown.exit_pack.name and shown.free_bytes > 0
    made = begin(box, client, disk, pack={"sealed": True, "vcon": True})
    last = ended(client, made)
    assert last.state == operations_pb2.OPERATION_STATE_SUCCEEDED, last
    assert last.exit_pack.recording_count == 4 and not last.exit_pack.problem_count

    folder = only(disk)
    assert folder.name == f"earwitness-exit-{made.exit_pack.name[-26:]}"
    key = json.loads((folder / "pack.json").read_text())["key"]
    found = verify(folder)
    assert (found["code"], found["recordings"], found["complete"]) == (0, 4, True) and "--key" in found[
        "signature"
    ]
    signed = subprocess.run(
        [sys.executable, str(folder / "verify.py"), "--key", key], capture_output=True, text=True, check=True
    )
    assert "signed by" in signed.stdout
    assert found["sound_ms"] == 4 * 2000

    index = json.loads((folder / "index.json").read_text("utf-8"))
    by_id = {one["recording"]: one for one in index["recordings"]}
    assert sorted(by_id) == [ids[0], ids[1], ids[3], ids[4]]
    assert by_id[ids[1]]["state"] == "deleted" and by_id[ids[0]]["line_name"] == EVERY_SCRIPT
    assert [one["recording"] for one in index["tombstones"]] == [ids[2]] and index["tombstones"][0][
        "certificate"
    ]
    for name, file in (("index", "index.json"), ("pack", "pack.json")):
        held(name, json.loads((folder / file).read_text("utf-8")))
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        held("manifest", json.loads(line))
    own = folder / "recordings" / ids[0][:2] / ids[0]
    record = json.loads((own / f"{ids[0]}.json").read_text("utf-8"))
    held("recording", record)
    assert record["parties"][0]["name"] == EVERY_SCRIPT
    assert record["reads"][-1]["kind"] == "exit-pack" and record["marks"][0]["kind"] == "paused"
    with wave.open(str(own / f"{ids[0]}.wav")) as sound:
        assert (sound.getnchannels(), sound.getnframes() / sound.getframerate()) == (2, 2.0)
    assert (own / f"{ids[0]}.sealed").read_bytes() == box.vault.files[ids[0]].data
    vcon_is_good((own / f"{ids[0]}.vcon.json").read_bytes(), (own / f"{ids[0]}.wav").read_bytes())

    rows = list(csv.DictReader((folder / "index.csv").read_text("utf-8-sig").splitlines()))
    assert len(rows) == 4 and rows[0]["caller_name"] == f"'{EVERY_SCRIPT}"  # no formula
    assert rows[0]["agent_name"].startswith("'+") and rows[0]["caller_number"] == "+441632960001"

    reads = [one for one in box.audited() if one["what"] == "read"]
    assert {one for entry in reads for one in entry["recordings"]} == set(by_id)
    assert all(one["kind"] == "exit-pack" and one["purpose"] == "exit" for one in reads)
    shown = client.closing.GetExitPack(pb.GetExitPackRequest(name=made.exit_pack.name)).exit_pack
    assert shown.state == operations_pb2.OPERATION_STATE_SUCCEEDED and shown.everything
    assert shown.tombstone_count == 1
    assert shown.manifest_sha256 == hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest()
    assert not list((box.layout.control / "exit").iterdir())

    wrong = own / f"{ids[0]}.wav"
    wrong.write_bytes(wrong.read_bytes()[:-2])
    (folder / "extra").write_text("x")
    (folder / "recordings" / ids[3][:2] / ids[3] / f"{ids[3]}.wav").unlink()
    found = verify(folder)
    assert {one["code"] for one in found["wrong"]} >= {"CHANGED", "MISSING", "NOT_IN_MANIFEST"}


def held(name: str, value: object) -> None:
    schema = Path(__file__).parents[2] / "docs" / "schemas" / f"exit-pack-{name}.schema.json"
    jsonschema.validate(value, json.loads(schema.read_text()))


def vcon_is_good(raw: bytes, wav: bytes) -> None:
    from vcon import Vcon

    assert Vcon.validate_json(raw.decode()) == (True, [])
    dialog = json.loads(raw)["dialog"][0]
    body = base64.urlsafe_b64decode(dialog["body"] + "===")
    assert body == wav
    digest = base64.urlsafe_b64encode(hashlib.sha512(wav).digest()).rstrip(b"=").decode()
    assert dialog["content_hash"] == f"sha512-{digest}"
