"""`earwitness audit` against a served box, and offline against what it exported."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from embedded_kit import started

from appliance.audit.note import Verifier, open_note
from appliance.cli import auditexport, main
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit, Failure
from earwitness.v1 import audit_pb2 as pb

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-audit")]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == Exit.OK, self.err
        return json.loads(self.out)


class Earwitness:
    """The command line, run as the entry point does, in this process."""

    def __init__(self, box: EmbeddedBox) -> None:
        self.box = box

    def __call__(self, *words: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run(["--data", str(self.box.data), *words])
        return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def earwitness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Earwitness]:
    with started(tmp_path_factory.mktemp("cli") / "data") as running:
        yield Earwitness(running)


def test_list_watch_and_status(earwitness):
    assert earwitness("tenants", "list").code == Exit.OK
    found = earwitness("audit", "list", "--filter", "method:ListTenants what=done", "--json").json
    assert {one["outcome"] for one in found["auditEntries"]} == {"OK"} and not found["more"]
    assert {one["who"] for one in found["auditEntries"]} == {"admin"}
    shown = earwitness("audit", "list", "--limit", "1")
    assert "ListAuditEntries" in shown.out and "There are more" in shown.err
    wrong = earwitness("audit", "list", "--filter", "number=5")
    assert wrong.code == Exit.USAGE and "[FILTER_INVALID]" in wrong.err
    status = earwitness("audit", "status", "--json").json
    assert int(status["size"]) > 0 and status["generation"] == 1 and not status["forwarding"]["configured"]
    assert "no collector is set" in earwitness("audit", "status").out


def test_a_checkpoint_is_printed_as_it_is(earwitness):
    key = earwitness("audit", "checkpoint", "--key").out.strip()
    note = earwitness("audit", "checkpoint").out
    text, _ = open_note(note, [Verifier.parse(key)])
    assert text.startswith("earwitness/")
    assert earwitness("audit", "checkpoint", "--json").json["verifierKey"] == key


def test_export_and_verify(earwitness, tmp_path):
    kept = tmp_path / "kept.note"
    kept.write_text(earwitness("audit", "checkpoint").out)
    key = tmp_path / "box.vkey"
    key.write_text(earwitness("audit", "checkpoint", "--key").out)
    folder = tmp_path / "export"
    said = earwitness("audit", "export", str(folder), "--json").json
    assert {one.name for one in folder.iterdir()} == {
        "entries-000001.jsonl", "leaves-1", "checkpoints.jsonl", "verifier.key", "export.json",
    }  # fmt: skip
    assert (folder / "entries-000001.jsonl").stat().st_mode & 0o777 == 0o600
    again = earwitness("audit", "export", str(folder))
    assert again.code == Exit.USAGE and "[FILE_EXISTS]" in again.err
    words = ("audit", "verify", str(folder), "--key", str(key), "--checkpoint", str(kept))
    done = earwitness(*words)
    assert done.code == Exit.OK and done.out.startswith(f"Intact: {int(said['size']):,} entries")
    assert earwitness(*words, "--json").json["whole"] is True
    path = folder / "entries-000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"who":"admin"', b'"who":"nobod"', 1))
    done = earwitness(*words)
    assert done.code == Exit.NOT_INTACT
    assert "changed: entry " in done.out and "NOT INTACT" in done.out
    done = earwitness(*words, "--json")
    assert done.code == Exit.NOT_INTACT and json.loads(done.out)["findings"][0]["kind"] == "changed"
    # The box's own directory has the same form.
    done = earwitness(
        "audit", "verify", str(earwitness.box.data / "control" / "audit"), "--key", key.read_text()
    )
    assert done.code == Exit.OK, done.out


@pytest.mark.parametrize("words", [("--key", "nonsense"), ("--key", "a+b+c", "--checkpoint", "nothing")])
def test_what_cannot_be_verified_is_said(earwitness, tmp_path, words):
    done = earwitness("audit", "verify", str(tmp_path), *words)
    assert done.code == Exit.USAGE and "[AUDIT_UNREADABLE]" in done.err


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [pb.ExportAuditResponse(header=pb.AuditExportHeader(origin="a", size=5))],
        [
            pb.ExportAuditResponse(header=pb.AuditExportHeader(origin="a", size=1)),
            pb.ExportAuditResponse(
                batch=pb.AuditExportBatch(first_index=3, leaf_hashes=bytes(32), lines=[b""])
            ),
        ],
        [
            pb.ExportAuditResponse(header=pb.AuditExportHeader(origin="a", size=1)),
            pb.ExportAuditResponse(batch=pb.AuditExportBatch(leaf_hashes=bytes(31), lines=[b""])),
        ],
    ],
)
def test_an_export_that_is_not_whole_is_no_export(tmp_path, parts):
    with pytest.raises(Failure) as caught:
        auditexport.write(iter(parts), tmp_path / "x")
    assert caught.value.reason == "EXPORT_BROKEN"
    assert isinstance(tmp_path, Path)
