"""Completeness on the command line, against a served box."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from embedded_kit import started

from appliance.cli import completenessview, main, output
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit
from earwitness.v1 import completeness_pb2 as pb

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-completeness")]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("completeness") / "data") as running:
        yield running


@pytest.fixture
def run(box: EmbeddedBox, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that must end with `code`; gives what it said."""

    def command(*words: str, code: Exit = Exit.OK) -> str:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(output.console, "width", 200)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = main.run(["--data", str(box.data), "completeness", *words])
        assert found == code, err.getvalue()
        return out.getvalue() if code is Exit.OK else err.getvalue()

    return command


def of(run: Run, *words: str) -> Any:
    return json.loads(run(*words, "--json"))


def test_from_a_source_to_a_verified_report(run: Run, box: EmbeddedBox, tmp_path: Path) -> None:
    assert "cisco-cucm" in run("sources", "presets")
    assert "which source?" in run("import", "x.csv", code=Exit.USAGE)
    assert "no such preset" in run("sources", "create", "x", "--preset", "none", code=Exit.USAGE)
    run("sources", "create", "Main", "--preset", "freeswitch-cdr-csv", "--time-zone", "UTC")
    (source,) = of(run, "sources", "list")["sources"]
    source_id = source["name"].rsplit("/", 1)[1]
    assert source["map"]["timeZone"] == "UTC"

    # The default line takes everything since it was made, a moment ago: a call of this minute was contracted.
    now = int(time.time()) + 1

    def row(number: str) -> str:
        begin, end = (datetime.fromtimestamp(now + at, UTC).strftime("%Y-%m-%d %H:%M:%S") for at in (0, 60))
        cells = (
            "Ada",
            number,
            "200",
            "public",
            begin,
            begin,
            end,
            "60",
            "60",
            "NORMAL",
            f"u-{number}",
            "",
            "",
        )
        return ",".join(f'"{cell}"' for cell in cells) + "\n"

    file = tmp_path / "calls.csv"
    file.write_text(row("07700900123") + "broken\n" + "".join(row(f"0770090020{at}") for at in range(6)))
    told = run("sources", "try", str(file), "--preset", "freeswitch-cdr-csv")
    assert "07700900123" in told and "8 rows, 1 broken" in told and "row 2, column 5: COLUMN_MISSING" in told
    assert "7 would be new" in run("import", str(file), "--dry-run")
    told = run("import", str(file))
    assert "7 new, 0 came before, 1 broken" in told and "row 2, column 5" in told
    assert "the same file was taken before" in run("import", str(file))
    assert len(of(run, "imports")["imports"]) == 2

    (day,) = of(run, "days")["days"]
    today = day["name"].rsplit("/", 1)[1]
    assert day["state"] == "COMPLETENESS_STATE_PRELIMINARY"
    assert today in run("days") and "7 waiting" in run("report", today)
    found = of(run, "records", today, "--outcome", "waiting")["records"]
    assert "07700900123" in {one["fromNumber"] for one in found}
    assert "No such call record" in run("records", today, "--outcome", "missing")
    assert "no such outcome" in run("records", today, "--outcome", "gone", code=Exit.USAGE)
    assert today in run("watch", "--count", "1")

    path, note = run("report", today, "--to", str(tmp_path)).split()
    assert note == f"{path}.note"
    keys = tmp_path / "box-keys.json"
    assert main.run(["--data", str(box.data), "evidence", "keys", "--to", str(keys)]) == Exit.OK
    assert main.run(["verify", path, "--keys", str(keys)]) == Exit.OK
    written = Path(path)
    written.write_text(written.read_text("utf-8").replace('"missing_calls": 0', '"missing_calls": 1', 1))
    assert main.run(["verify", path, "--keys", str(keys)]) == Exit.NOT_INTACT

    assert run("sources", "update", source_id, "--time-zone", "Europe/London").strip() == "changed"
    assert json.loads(run("sources", "show", source_id))["map"]["timeZone"] == "Europe/London"
    assert "nothing to change" in run("sources", "update", source_id, code=Exit.USAGE)
    assert run("sources", "delete", source_id).strip() == "removed"


def test_what_is_missing_is_seen_however_little_it_is() -> None:
    day = pb.CompletenessDay(
        name="tenants/x/completenessDays/2026-11-29",
        state=pb.COMPLETENESS_STATE_FINAL,
        contracted_count=100_000,
        missing_count=1,
        completeness=0.99999,
    )
    assert completenessview.percent(day) == "99.99 %"
    hour = {"start": "2026-11-29T10:00:00+00:00", "contracted_calls": 5000, "missing_calls": 1, "faults": 1}
    quiet = {"start": "2026-11-29T11:00:00+00:00", "contracted_calls": 0, "missing_calls": 0, "faults": 0}
    table = completenessview.hours([hour, quiet])
    (bar,) = table.columns[4].cells
    assert str(bar).count("░") == 1 and len(str(bar)) == completenessview.BAR
    ahead = pb.ClockShift(time_zone=True)
    ahead.added.FromSeconds(-3600)
    assert completenessview.shift(ahead) == "1:00:00 ahead: time zone"
