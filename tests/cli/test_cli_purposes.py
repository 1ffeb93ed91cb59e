"""Purposes, histories and differences on the command line, against a served box."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from embedded_kit import started

from appliance.cli import main, output
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from appliance.cli.readingoptions import known

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-purposes")]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("purposes") / "data") as running:
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
        return out.getvalue() if code is Exit.OK else err.getvalue()

    return command


def of(run: Run, *words: str) -> Any:
    return json.loads(run(*words, "--json"))


def test_purposes_are_listed_made_changed_and_archived(run: Run) -> None:
    assert "SI 2018/356 reg. 3(2)(a)" in run("purposes", "list")
    assert "valid" in run("purposes", "create", "research", "Research", "--validate-only")
    assert run("purposes", "create", "research", "Research").strip() == "research"
    assert "PURPOSE_EXISTS" in run("purposes", "create", "research", "Again", code=Exit.CONFLICT)
    dry = run("purposes", "update", "research", "--name", "Approved research", "--dry-run")
    assert dry.strip() == "display_name: - Research  + Approved research"
    assert of(run, "purposes", "history", "research")["versions"][0]["version"] == "1"
    assert run("purposes", "update", "research", "--name", "Approved research") == dry
    assert "nothing to change" in run("purposes", "update", "research", code=Exit.USAGE)
    assert "archived" in run("purposes", "archive", "research")
    listed = [one["name"].rsplit("/", 1)[1] for one in of(run, "purposes", "list")["purposes"]]
    assert "research" not in listed and "evidence" in listed
    assert "archived" in run("purposes", "list", "--archived")


def test_a_report_of_a_month_without_reads(run: Run) -> None:
    found = of(run, "purposes", "report")
    assert found["month"] == datetime.now().strftime("%Y-%m") and found["total"]["reads"] == "0"
    assert "2026-11 (Europe/London): 0 reads of 0 recordings" in run(
        "purposes", "report", "--month", "2026-11", "--time-zone", "Europe/London"
    )
    assert "month" in run("purposes", "report", "--month", "november", code=Exit.USAGE)


def test_lines_show_the_difference_keep_a_history_and_go_back(run: Run) -> None:
    tenant = of(run, "tenants", "list")["tenants"][0]["name"]
    line = of(run, "lines", "create", tenant, "Desk", "--number", "0199", "--purpose", "complaints")["name"]
    assert "complaints" in run("lines", "show", line)
    assert "NO_OLDER_VERSION" in run("lines", "undo", line, code=Exit.CONFLICT)
    dry = run("lines", "update", line, "--name", "Front desk", "--do-not-record", "0123", "--dry-run")
    assert dry.splitlines() == ["display_name: - Desk  + Front desk", "do_not_record: + 0123"]
    run("lines", "update", line, "--name", "Front desk", "--do-not-record", "0123")
    history = run("lines", "history", line)
    assert "version 2" in history and "by admin" in history and "+ Front desk" in history
    assert "- Front desk  + Desk" in run("lines", "undo", line, "--dry-run")
    undone = of(run, "lines", "undo", line)
    assert undone["displayName"] == "Desk" and undone["doNotRecord"] == []
    assert "0123" in run("lines", "history", line)
    run("lines", "update", line, "--forget")
    assert "0123" not in run("lines", "history", line) and "taken out since" in run("lines", "history", line)


def test_tenants_are_changed_and_go_back(run: Run) -> None:
    tenant = of(run, "tenants", "list")["tenants"][0]["name"]
    words = (
        "tenants",
        "update",
        tenant,
        "--time-zone",
        "Europe/London",
        "--officer",
        "records@surgery.example",
    )
    assert "+ Europe/London" in run(*words, "--dry-run")
    assert of(run, *words)["timeZone"] == "Europe/London"
    assert "+ records@surgery.example" in run("tenants", "history", tenant)
    assert of(run, "tenants", "undo", tenant)["timeZone"] == ""
    assert "TIME_ZONE_UNKNOWN" in run("tenants", "update", tenant, "--time-zone", "Mars", code=Exit.USAGE)


def test_a_shell_completes_purposes() -> None:
    assert [name for name, _ in known("c")] == ["compliance", "crime-prevention", "complaints"]
