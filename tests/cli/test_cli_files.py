"""Files that commands write: who may read them, what is left of a command that fails, and where they go."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from appliance.cli import files, main
from appliance.cli.connection import Connection
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import completeness_pb2, documents_pb2, evidence_pb2, evidence_pb2_grpc
from earwitness.v1 import completeness_pb2_grpc as completeness
from earwitness.v1 import documents_pb2_grpc as documents

HOSTILE = ("../out", "/tmp/out", "", ".", "..", ".bashrc", "a/b", "a\\b", "a\x1b[2J", "a\nb")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_its_owners_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"before")
    path.chmod(0o644)
    with pytest.raises(RuntimeError), files.written(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["x.wav"]
    with files.written(path) as file:
        file.write(b"after")
        (aside,) = set(tmp_path.iterdir()) - {path}
        assert mode(aside) == 0o600 and path.read_bytes() == b"before"
    assert (path.read_bytes(), mode(path), os.listdir(tmp_path)) == (b"after", 0o600, ["x.wav"])
    with pytest.raises(RuntimeError), files.written(path, in_part=True) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"half" and os.listdir(tmp_path) == ["x.wav"], "however it ends"
        raise RuntimeError
    assert path.read_bytes() == b"half" and os.listdir(tmp_path) == ["x.wav"]
    for gone in (tmp_path / "none" / "x", tmp_path):
        with pytest.raises(Failure) as caught:
            files.write(gone, b"")
        assert caught.value.reason == "FILE_UNWRITABLE"
    assert os.listdir(tmp_path) == ["x.wav"]


def test_what_was_not_there_is_whole_or_still_not_there(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.key"

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Failure) as caught:
            files.write_new(path, b"key")
    assert caught.value.reason == "FILE_UNWRITABLE" and os.listdir(tmp_path) == []
    files.write_new(path, b"key", 0o644)
    assert (path.read_bytes(), mode(path), os.listdir(tmp_path)) == (b"key", 0o644, ["x.key"])
    with pytest.raises(Failure) as caught:
        files.write_new(path, b"other")
    assert caught.value.reason == "FILE_EXISTS" and path.read_bytes() == b"key"


class Answers(
    evidence_pb2_grpc.EvidenceServiceServicer,
    documents.DocumentsServiceServicer,
    completeness.CompletenessServiceServicer,
):
    """A box that names files as it likes."""

    name = ""

    def GetEvidence(self, request, context):
        return evidence_pb2.GetEvidenceResponse(file_name=self.name, evidence="{}")

    def DownloadDocument(self, request, context):
        yield documents_pb2.DownloadDocumentResponse(document=documents_pb2.Document(file_name=self.name))
        yield documents_pb2.DownloadDocumentResponse(data=b"x")

    def GetCompletenessReport(self, request, context):
        return completeness_pb2.GetCompletenessReportResponse(file_name=self.name, report=b"{}")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    made, server = Answers(), grpc.server(ThreadPoolExecutor(2))
    evidence_pb2_grpc.add_EvidenceServiceServicer_to_server(made, server)
    documents.add_DocumentsServiceServicer_to_server(made, server)
    completeness.add_CompletenessServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setattr(Connection, "channel", lambda self: grpc.insecure_channel(f"127.0.0.1:{port}"))
    yield made
    server.stop(0).wait()


@pytest.mark.parametrize(
    "command",
    [
        ("evidence", "save", "tenants/t/recordings/" + "a" * 26),
        ("documents", "get", "tenants/t/documents/" + "a" * 26),
        ("completeness", "report", "2026-11-28", "--tenant", "tenants/t"),
    ],
)
def test_no_file_goes_where_the_box_says(
    answers: Answers, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    folder = tmp_path / "in" / "to"
    folder.mkdir(parents=True)
    for answers.name in HOSTILE:
        assert main.run([*command, "--to", str(folder)]) == Exit.FAILED, answers.name
        assert "[FILE_NAME_REFUSED]" in capsys.readouterr().err
        assert [one for one in tmp_path.rglob("*") if one.is_file()] == []
    answers.name = "x.json"
    assert main.run([*command, "--to", str(folder)]) == Exit.OK, capsys.readouterr().err
    assert mode(folder / "x.json") == 0o600
