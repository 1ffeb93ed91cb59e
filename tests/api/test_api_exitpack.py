"""Exit packs: what is in them, that they go on where they broke off, and what keeps them waiting."""

from __future__ import annotations

import base64
import csv
import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import boto3
import grpc
import jsonschema
import pytest
from test_api_review import GOOD
from test_api_review import Desk as Reviewing

import earwitness
from appliance.access.identities import Role
from appliance.api import closingwork, exitpack, worker
from appliance.api.errors import ExitPackWaitsError
from appliance.api.exitpackclear import check_alone
from appliance.catalog import recordings
from appliance.catalog.records import State
from appliance.config.exits import ExitBucket, ExitFolder, ExitSettings
from appliance.model import Mark, MarkKind
from earwitness.v1 import closing_pb2 as pb
from earwitness.v1 import notes_pb2, operations_pb2, recordings_pb2, review_pb2, subjects_pb2, tenants_pb2

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
    client, parent = box.client_once(), f"tenants/{tenant_id}"
    request = recordings_pb2.ListRecordingsRequest(parent=parent, page_size=1000, show_deleted=True)
    box.wait(
        lambda: {one.name[-26:] for one in client.recordings.ListRecordings(request).recordings} >= set(ids)
    )
    return sorted(ids)


def begin(box, client, disk: Path, **more) -> pb.CreateExitPackResponse:
    asked = {"folder": pb.ExitPackFolder(path=str(disk)), **more.pop("pack", {})}
    return client.closing.CreateExitPack(
        pb.CreateExitPackRequest(
            parent=f"tenants/{box.default_line()[0]}", exit_pack=pb.ExitPack(**asked), **more
        )
    )


def ended(client, made, timeout: float = 60) -> operations_pb2.Operation:
    request = operations_pb2.WatchOperationRequest(name=made.operation.name)
    return [one.operation for one in client.operations.WatchOperation(request, timeout=timeout)][-1]


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
    client.notes.CreateNote(
        notes_pb2.CreateNoteRequest(parent=f"{tenant}/recordings/{ids[0]}", note=notes_pb2.Note(text="upset"))
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
    packed = shutil.make_archive(str(disk.parent / "sent"), "zip", disk)  # as somebody sends it on
    by_zip = subprocess.run(
        [sys.executable, "-I", "-S", str(folder / "verify.py"), "--json", packed],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(by_zip.stdout) == {one: value for one, value in found.items() if one != "code"}

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
    assert record["notes"][0]["text"] == "upset" and record["parties"][0]["name"] == EVERY_SCRIPT
    assert record["reads"][-1]["kind"] == "exit-pack" and record["marks"][0]["kind"] == "paused"
    with wave.open(str(own / f"{ids[0]}.wav")) as sound:
        assert (sound.getnchannels(), sound.getnframes() / sound.getframerate()) == (2, 2.0)
    assert (own / f"{ids[0]}.sealed").read_bytes() == box.vault.files[ids[0]].data
    later = (own / f"{ids[0]}.sealed.sidecar").read_bytes()
    assert later and later == box.vault.sidecars.files[ids[0]], "what was added later goes with it, sealed"
    assert not list(folder.rglob(f"{ids[3]}.sealed.sidecar"))
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


def waiting(client, made) -> operations_pb2.ExitPackResult:
    request = operations_pb2.GetOperationRequest(name=made.operation.name)
    return client.operations.GetOperation(request).operation.exit_pack


def at_least(box, client, made, count: int) -> None:
    """Until so many recordings are in it."""
    box.wait(lambda: waiting(client, made).recording_count >= count, 3600)


def writer_pid(box) -> int:
    return box.wait(lambda: (at := box.control._exit_packs.writer) and at._process and at.pid)


def many(box, sealing, count: int) -> None:
    tenant_id, line_id = box.default_line()
    for n in range(count):
        box.vault.file(sealing(tenant_id, line_id, start_ns=START + n * 10**9, seconds=1 + n % 3))
    client, parent = box.client(), f"tenants/{tenant_id}"
    request = recordings_pb2.CountRecordingsRequest(parent=parent, count_by=recordings_pb2.COUNT_BY_DAY)
    box.wait(lambda: client.recordings.CountRecordings(request).count == count, 3600)


def independent(folder: Path) -> tuple[int, int]:
    """A second check that shares nothing with the pack's: how many sound files, and their milliseconds."""
    count = length_ms = 0
    for line in (folder / "manifest.jsonl").read_bytes().splitlines():
        said = json.loads(line)
        raw = (folder / said["path"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == said["sha256"]
        if said["kind"] == "sound":
            with wave.open(str(folder / said["path"])) as sound:
                length_ms += sound.getnframes() * 1000 // sound.getframerate()
            count += 1
    return count, length_ms


@pytest.mark.timeout(7200)
def test_interrupted_three_times_it_goes_on_and_rewrites_nothing(site, sealing, disk):
    """With EARWITNESS_EXIT_RECORDINGS=10000 the figure that is promised."""
    box, count = site, int(os.environ.get("EARWITNESS_EXIT_RECORDINGS", "120"))
    many(box, sealing, count)
    client = box.client()
    made = begin(box, client, disk)
    for turn in (1, 2):
        at_least(box, client, made, turn * count // 4)
        os.kill(writer_pid(box), signal.SIGKILL)
    at_least(box, client, made, 3 * count // 4)
    box.stop()
    partial = only(disk)
    journal = next((box.layout.control / "exit").glob("*.journal")).read_bytes()
    whole = [one["path"] for line in journal.splitlines() for one in json.loads(line)["entries"]]
    before = {path: (partial / path).stat().st_mtime_ns for path in whole}
    assert partial.name.endswith(".partial") and len(before) >= 2 * 3 * count // 4
    box.start()
    client = box.client()
    last = ended(client, made, 3600)
    assert last.state == operations_pb2.OPERATION_STATE_SUCCEEDED and last.exit_pack.recording_count == count
    folder = only(disk)
    assert {path: (folder / path).stat().st_mtime_ns for path in whole} == before
    found = verify(folder)
    assert (found["code"], found["recordings"], found["wrong"]) == (0, count, [])
    parent = f"tenants/{box.default_line()[0]}"
    told = client.recordings.CountRecordings(
        recordings_pb2.CountRecordingsRequest(parent=parent, count_by=recordings_pb2.COUNT_BY_DAY)
    )
    length_ms = told.duration.seconds * 1000 + told.duration.nanos // 10**6
    assert (told.count, length_ms) == independent(folder) == (count, found["sound_ms"])


def test_a_full_disk_is_told_and_waited_for(site, sealing, disk, monkeypatch):
    box = site
    fill(box, sealing, 12, seconds=4)
    client = box.client()
    monkeypatch.setattr(worker, "BACKOFF_S", 2.0)
    begun = exitpack.Writer.__aenter__
    tried: list[int] = []

    async def limited(self):
        found = await begun(self)
        if not tried:  # no file of the first process becomes larger than that
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
        tried.append(self.pid)
        return found

    monkeypatch.setattr(exitpack.Writer, "__aenter__", limited)
    made = begin(box, client, disk)
    told = box.wait(lambda: (one := waiting(client, made)).waiting and one)
    assert told.waiting == "EXIT_SPACE" and told.needed_bytes > 0
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert verify(only(disk))["code"] == 0 and len(tried) == 2


def test_a_journal_that_cannot_be_written_is_waited_for(site, sealing, disk):
    box = site
    fill(box, sealing, 2)
    client, journals = box.client(), box.layout.control / "exit"
    journals.write_text("in the way")
    made = begin(box, client, disk)
    box.wait(lambda: waiting(client, made).waiting == exitpack.UNWRITABLE)
    journals.unlink()
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    assert verify(only(disk))["code"] == 0 and not waiting(client, made).waiting


def test_a_pulled_disk_is_waited_for_and_nothing_is_begun_on_another(site, sealing, disk, tmp_path):
    box = site
    many(box, sealing, 60)
    client = box.client()
    made = begin(box, client, disk)
    at_least(box, client, made, 10)
    disk.rename(tmp_path / "pulled")
    disk.mkdir()  # where it was mounted
    os.kill(writer_pid(box), signal.SIGKILL)
    box.wait(lambda: waiting(client, made).waiting == "EXIT_TARGET_AWAY")
    assert not list(disk.iterdir())
    disk.rmdir()
    (tmp_path / "pulled").rename(disk)
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    found = verify(only(disk))
    assert (found["code"], found["recordings"]) == (0, 60)


@pytest.mark.parametrize("remove", [False, True])
def test_what_is_cancelled_is_a_part_that_says_so_or_is_gone(site, sealing, disk, remove):
    box = site
    many(box, sealing, 60)
    client = box.client()
    remainder = pb.EXIT_PACK_REMAINDER_REMOVE if remove else pb.EXIT_PACK_REMAINDER_KEEP
    made = begin(box, client, disk, pack={"remainder": remainder})
    at_least(box, client, made, 5)
    client.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=made.operation.name))
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_CANCELLED
    request = pb.GetExitPackRequest(name=made.exit_pack.name)
    box.wait(lambda: client.closing.GetExitPack(request).exit_pack.HasField("end_time"))
    if remove:
        assert not list(disk.iterdir())
        return
    folder = only(disk)
    found = verify(folder)
    assert folder.name.endswith("-part") and (found["code"], found["complete"]) == (0, False)
    assert 5 <= found["recordings"] < 60


def test_it_goes_nowhere_but_where_the_site_allows(site, disk, tmp_path):
    box, client = site, site.client()
    (tmp_path / "elsewhere").mkdir()
    (disk / "link").symlink_to(tmp_path / "elsewhere")
    for path in ("/etc", str(tmp_path), f"{disk}/../elsewhere", "disk", f"{disk}/link", f"{disk}x"):
        wrong = refused(lambda path=path: begin(box, client, Path(path)))
        assert wrong.reason == "EXIT_TARGET_INVALID", path
    away = refused(lambda: begin(box, client, disk / "nothing"))
    assert (away.reason, away.data["code"]) == ("EXIT_TARGET_AWAY", "ENOENT")
    officer = box.enroll("officer", Role.RECORDS_OFFICER, tenant_id=box.default_line()[0])
    operator = box.enroll("operator", Role.OPERATOR)
    assert begin(box, officer, disk, validate_only=True).free_bytes
    assert refused(lambda: begin(box, operator, disk)).reason == "METHOD_DENIED"


def test_a_purpose_that_was_not_stated_leaves_a_recording_out(site, sealing, disk):
    box = site
    heard = Mark(kind=MarkKind.ANNOUNCED, at_ns=START, data={"heard": "whole", "purposes": "training"})
    told = fill(box, sealing, 1, marks=(heard,))[0]
    other = Mark(kind=MarkKind.ANNOUNCED, at_ns=START, data={"heard": "whole", "purposes": "complaints"})
    left = fill(box, sealing, 1, marks=(other,))[0]
    client = box.client()
    assert refused(lambda: begin(box, client, disk, pack={"purpose": "fun"})).reason == "PURPOSE_UNKNOWN"
    last = ended(client, begin(box, client, disk, pack={"purpose": "training"}))
    assert [(one.recording[-26:], one.code) for one in last.exit_pack.problems] == [
        (left, "PURPOSE_NOT_STATED")
    ]
    folder = only(disk)
    assert list(folder.glob(f"recordings/*/{told}/*.wav")) and not list(
        folder.glob(f"recordings/*/{left}/*.wav")
    )
    assert verify(folder)["code"] == 0
    why = "The coroner asks for it by Friday"
    assert not ended(
        client, begin(box, client, disk, pack={"purpose": "training"}, override_reason=why)
    ).exit_pack.problems
    read = [one for one in box.audited() if one["what"] == "read"]
    assert [one.get("override", False) for one in read] == [False, True]
    assert why not in str(box.audited()), "the log is kept for good, and a reason may tell of people"


def test_a_bucket_gets_the_same_checked_part_by_part(make_box, sealing, tmp_path, quick):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = tmp_path / "keys"
        keys.write_text("someone\nsecret\n")
        bucket = ExitBucket(
            name="cloud", endpoint=f"http://{host}:{port}", bucket="exit-packs", credentials_file=keys
        )
        box = make_box()
        box.default_line()
        box.stop()
        box.settings = box.settings.model_copy(update={"exit": ExitSettings(buckets=(bucket,))})
        box.start()
        fill(box, sealing, 2)
        fill(box, sealing, 1, seconds=280)  # more than one part
        client, parent = box.client(), f"tenants/{box.default_line()[0]}"
        request = pb.CreateExitPackRequest(
            parent=parent,
            exit_pack=pb.ExitPack(bucket=pb.ExitPackBucket(bucket="cloud", prefix="trust/2026")),
        )
        away = refused(lambda: client.closing.CreateExitPack(request))
        assert away.reason == "EXIT_TARGET_AWAY"  # there is no such bucket yet
        s3 = boto3.client(
            "s3", endpoint_url=bucket.endpoint, region_name="us-east-1",
            aws_access_key_id="someone", aws_secret_access_key="secret",
        )  # fmt: skip
        s3.create_bucket(Bucket="exit-packs")
        made = client.closing.CreateExitPack(request)
        assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        root = f"trust/2026/earwitness-exit-{made.exit_pack.name[-26:]}/"
        for one in s3.list_objects_v2(Bucket="exit-packs")["Contents"]:
            assert one["Key"].startswith(root)
            path = tmp_path / "got" / one["Key"].removeprefix(root)
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("exit-packs", one["Key"], str(path))
        found = verify(tmp_path / "got")
        assert (found["code"], found["recordings"], found["wrong"]) == (0, 3, [])
    finally:
        server.stop()


def test_while_the_keys_are_locked_sealed_files_go_and_sound_waits(site, sealing, disk):
    box = site
    ids = fill(box, sealing, 3)
    tenant_id, _ = box.default_line()
    box.vault.keys.passphrases[tenant_id] = "the words of the practice"
    client = box.client()
    only_sealed = ended(client, begin(box, client, disk, pack={"sound": pb.EXIT_PACK_SOUND_NONE}))
    assert only_sealed.state == operations_pb2.OPERATION_STATE_SUCCEEDED
    folder = only(disk)
    assert len(list(folder.glob("recordings/*/*/*.sealed"))) == 3 and verify(folder)["code"] == 0
    folder.rename(disk.parent / "sealed")
    made = begin(box, client, disk, pack={"sealed": True})
    told = box.wait(lambda: (one := waiting(client, made)).waiting and one)
    assert (told.waiting, told.waiting_sound_count, told.recording_count) == ("TENANT_LOCKED", 3, 3)
    box.vault.keys.until[tenant_id] = 2**62  # its records officer unlocks them
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    found = verify(only(disk))
    assert (found["code"], found["recordings"], found["sound_ms"]) == (0, 3, 6000)
    index = json.loads((only(disk) / "index.json").read_text("utf-8"))
    assert [one["recording"] for one in index["recordings"]] == ids
    assert all(len(one["files"]) == 3 for one in index["recordings"])


def locked_with_a_torn_sound(box, sealing, disk, count: int) -> tuple[list[str], object, Path]:
    """A pack whose sound waits, killed while the first recording's was put there; the box is stopped."""
    ids = fill(box, sealing, count)
    box.fix_port()
    tenant_id, _ = box.default_line()
    box.vault.keys.passphrases[tenant_id] = "the words of the practice"
    client = box.client()
    made = begin(box, client, disk, pack={"sealed": True, "vcon": True})
    box.wait(lambda: waiting(client, made).waiting == "TENANT_LOCKED")
    box.stop()
    folder = only(disk)
    for ending in ("wav", "vcon.json"):
        (folder / "recordings" / ids[0][:2] / ids[0] / f"{ids[0]}.{ending}").write_bytes(b"RIFF, torn")
    return ids, made, folder


def until_erased(box, *ids: str) -> None:
    """Until the catalogue knows."""

    def known(connection) -> bool:
        return all(recordings.state_of(connection, one) is State.ERASED for one in ids)

    box.wait(lambda: box.run(box.control.parts.store.read(known)))


def test_what_is_erased_while_the_pack_waits_leaves_it(site, sealing, disk):
    box = site
    ids, made, folder = locked_with_a_torn_sound(box, sealing, disk, 5)
    journal = next((box.layout.control / "exit").glob("*.journal"))
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    journal.write_bytes(b"".join(lines[:4]))  # a power cut took the last line, and what was under way
    next((box.layout.control / "exit").glob("*.at")).unlink()
    gone = [ids[0], ids[2], ids[4]]  # torn, whole and in the journal, in no line of it
    for one in gone:
        box.vault._erase(one, "expired")
    box.start()
    until_erased(box, *gone)
    box.vault.keys.until[box.default_line()[0]] = 2**62
    client = box.client()
    assert ended(client, made).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    folder = only(disk)
    assert not [path for one in gone for path in folder.rglob(f"*{one}*")]
    found = verify(folder)
    assert (found["code"], found["recordings"], found["wrong"]) == (0, 2, [])
    index = json.loads((folder / "index.json").read_text("utf-8"))
    assert [one["recording"] for one in index["recordings"]] == [ids[1], ids[3]]
    assert [one["recording"] for one in index["tombstones"]] == gone
    shown = client.closing.GetExitPack(pb.GetExitPackRequest(name=made.exit_pack.name)).exit_pack
    assert (shown.recording_count, shown.tombstone_count) == (2, 3)


@pytest.mark.parametrize("erased", [False, True])
def test_a_torn_sound_is_in_no_part_that_is_kept(site, sealing, disk, erased):
    box = site
    ids, made, folder = locked_with_a_torn_sound(box, sealing, disk, 2)
    if erased:
        box.vault._erase(ids[0], "expired")
    box.start()
    if erased:
        until_erased(box, ids[0])
    client = box.client()
    client.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=made.operation.name))
    request = pb.GetExitPackRequest(name=made.exit_pack.name)
    box.wait(lambda: client.closing.GetExitPack(request).exit_pack.HasField("end_time"))
    folder = only(disk)
    assert folder.name.endswith("-part") and not [*folder.rglob("*.wav"), *folder.rglob("*.vcon.json")]
    found = verify(folder)
    assert (found["code"], found["recordings"], found["wrong"]) == (0, 2 - erased, [])


def test_a_process_that_is_at_work_still_is_waited_for(tmp_path):
    lock = tmp_path / "lock"
    check_alone(lock)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ExitPackWaitsError):
            check_alone(lock)
    check_alone(lock)


def test_what_is_restricted_is_kept_as_it_is_and_marked(site, sealing, disk):
    box = site
    ids = fill(box, sealing, 2)
    client, tenant = box.client(), f"tenants/{box.default_line()[0]}"
    asked = subjects_pb2.Restriction(
        ground=subjects_pb2.RESTRICTION_GROUND_ACCURACY,
        reason="The person contests what was said",
        recordings=[f"{tenant}/recordings/{ids[0]}"],
    )
    client.subjects.CreateRestriction(subjects_pb2.CreateRestrictionRequest(parent=tenant, restriction=asked))
    last = ended(client, begin(box, client, disk))
    assert [(one.recording[-26:], one.code) for one in last.exit_pack.problems] == [
        (ids[0], "RECORDING_RESTRICTED")
    ]
    folder = only(disk)
    endings = {
        one: {path.suffix for path in (folder / "recordings" / one[:2] / one).iterdir()} for one in ids
    }
    assert endings == {ids[0]: {".json", ".sealed"}, ids[1]: {".json", ".wav"}}
    index = json.loads((folder / "index.json").read_text("utf-8"))
    assert [one["restricted"] for one in index["recordings"]] == [True, False]
    assert verify(folder)["code"] == 0


def test_reviews_that_were_submitted_go_with_their_recordings(site, sealing, disk):
    desk = Reviewing(site, sealing)
    first, names = desk.card(), [desk.call() for _ in range(3)]
    done = desk.submitted(desk.ann, desk.ask(names[0], first.name).name)
    desk.agent.DisputeReview(review_pb2.DisputeReviewRequest(name=done.name, comment=EVERY_SCRIPT))
    begun = desk.ask(names[1], first.name)
    desk.ann.ClaimReview(review_pb2.ClaimReviewRequest(name=begun.name))
    desk.ann.AnswerReview(review_pb2.AnswerReviewRequest(name=begun.name, answers=GOOD[:1]))
    first.questions[0].text = "Greeted, and by name?"
    desk.ann.UpdateScorecard(review_pb2.UpdateScorecardRequest(scorecard=first))
    client = site.client()
    assert ended(client, begin(site, client, disk)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
    folder = only(disk)
    assert verify(folder)["code"] == 0
    (file,) = folder.rglob("*.reviews.json")  # of a draft nothing goes: its agent is not to read it
    said = json.loads(file.read_text("utf-8"))
    held("reviews", said)
    assert said["recording"] == names[0][-26:] == file.parent.name
    (review,) = said["reviews"]
    assert (review["state"], review["agent"], review["version"]) == ("disputed", "200", 1)
    assert review["score"]["basis_points"] == 8750 and review["comment"] == EVERY_SCRIPT
    assert review["answers"][0]["text"] == "She was thanked warmly"
    assert review["answers"][0]["offsets_ns"] == [10**9]
    cards = json.loads((folder / "scorecards.json").read_text("utf-8"))
    held("scorecards", cards)
    assert [(one["scorecard"], one["version"]) for one in cards["scorecards"]] == [
        (first.name[-26:], 2), (first.name[-26:], 1),
    ]  # fmt: skip
    assert cards["scorecards"][0]["questions"][0]["text"] == "Greeted, and by name?"
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        held("manifest", json.loads(line))
