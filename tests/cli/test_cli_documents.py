"""Documents on the command line, against a served box: from making one to its verification offline."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from embedded_kit import started
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from appliance.cli import documentsview, main, output
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from earwitness.v1 import documents_pb2 as pb

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-documents")]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("documents") / "data") as running:
        yield running


@pytest.fixture
def run(box: EmbeddedBox, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that must end with `code`; gives what it said."""

    def command(*words: str, code: Exit = Exit.OK) -> str:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(output.console, "width", 200)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main.run(["--data", str(box.data), *words])
        assert found == code, err.getvalue()
        return out.getvalue() if code is Exit.OK else out.getvalue() + err.getvalue()

    return command


def of(run: Run, *words: str) -> Any:
    return json.loads(run(*words, "--json"))


def test_from_making_a_document_to_its_verification_offline(run: Run, tmp_path: Path) -> None:
    assert "no such kind" in run("documents", "make", "poem", code=Exit.USAGE)
    assert "no such format" in run("documents", "make", "service-level", "--format", "doc", code=Exit.USAGE)
    assert "--from" in run("documents", "make", "service-level", "--until", "2026-01-01", code=Exit.USAGE)
    made = of(run, "documents", "make", "protection-annex", "--to", str(tmp_path))
    path = tmp_path / made["fileName"]
    assert len(pypdf.PdfReader(path).pages) > 1
    keys = str(tmp_path / "box-keys.json")
    run("evidence", "keys", "--to", keys)
    for command in (("documents", "verify"), ("verify",)):
        said = run(*command, str(path), "--keys", keys)
        assert "as it was signed" in said and "protection-annex" in said
    again = tmp_path / "again"
    run("documents", "get", made["name"], "--to", str(again))
    assert (again / path.name).read_bytes() == path.read_bytes()
    path.write_bytes(path.read_bytes() + b" ")
    assert "NOT as it was signed" in run(
        "documents", "verify", str(path), "--keys", keys, code=Exit.NOT_INTACT
    )
    (tmp_path / f"{path.name}.note").unlink()
    assert "is not there" in run("documents", "verify", str(path), "--keys", keys, code=Exit.USAGE)

    run("documents", "make", "processing-record", "--box", "--format", "md", "--to", str(tmp_path))
    assert (
        next(tmp_path.glob("processing-record-*.md")).read_text("utf-8").startswith("# Record of processing")
    )
    assert [one["name"] for one in of(run, "documents", "list")["documents"]] == [made["name"]]
    assert "processing-record" in run("documents", "list", "--box")


def test_the_service_level_and_planned_work(run: Run) -> None:
    assert "--until or --minutes" in run("documents", "planned-work", "note", "x", code=Exit.USAGE)
    run("documents", "planned-work", "note", "new disk", "--minutes", "10")
    (work,) = of(run, "documents", "planned-work", "list")["plannedWork"]
    assert work["description"] == "new disk"
    run("documents", "planned-work", "cancel", work["name"])
    said = run("documents", "service-level")
    assert "Availability" in said and "No outage." in said and "no call records" in said
    level = of(run, "documents", "service-level", "--box", "--from", "2026-01-01")
    assert level["availability"]["unmeasured"] and level["days"]


def test_the_picture_tells_days_apart_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    day = 86400
    level = pb.ServiceLevel(
        start_time=Timestamp(seconds=1_764_000_000),
        end_time=Timestamp(seconds=1_764_000_000 + 4 * day),
        measure_time=Timestamp(seconds=1_764_000_000 + 4 * day),
        days=[
            pb.ServiceDay(day="2025-11-24", availability=1.0, completeness=1.0),
            pb.ServiceDay(day="2025-11-25", availability=0.995),
            pb.ServiceDay(day="2025-11-26", availability=0.2),
            pb.ServiceDay(day="2025-11-27"),
        ],
        availability=pb.Availability(
            ratio=0.73,
            agreed_ratio=0.9,
            down=Duration(seconds=3 * 3600),
            planned=Duration(seconds=3600),
            outages=[
                pb.Outage(start_time=Timestamp(seconds=1_764_000_000 + place), cause=pb.OUTAGE_CAUSE_VAULT)
                for place in range(14)
            ],
        ),
        completeness=pb.RecordingCompleteness(contracted_count=10, missing_count=1, ratio=0.9),
    )
    documentsview.service_level(level)
    said = capsys.readouterr().out
    assert "█▓░·" in said and "█···" in said, "one strip of availability, one of completeness"
    assert "73.000 %: 3 h down" in said and "1 of 10 contracted calls are missing" in said
    assert "and 2 before" in said and "goes on" in said
