"""Staff and notices on the command line, against a served box."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from embedded_kit import started

from appliance.cli import main, output
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-notices")]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("notices") / "data") as running:
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


def test_an_administrators_way_through_it(run: Run, tmp_path: Path) -> None:
    def of(*words: str) -> Any:
        return json.loads(run(*words, "--json"))

    table = tmp_path / "staff.csv"
    table.write_text("name,number\nAda [b]Lovelace,201\n,202\n", "utf-8")
    told = run("staff", "import", str(table), code=Exit.FAILED)
    assert "missing" in told and "TABLE_INVALID" in told
    table.write_text("name,number\nAda [b]Lovelace,201\n山田 太郎,202\n", "utf-8")
    assert "2 entered" in run("staff", "import", str(table))
    ada, yamada = of("staff", "list")["staffMembers"]
    assert "Ada [b]Lovelace" in run("staff", "list") and yamada["displayName"] == "山田 太郎"

    assert "3 new or changed" in run("notices", "adopt")
    assert "0 would be new or changed" in run("notices", "adopt", "--validate-only")
    notice = of("notices", "list")["notices"][1]
    short = notice["name"].rsplit("/", 1)[1]
    assert "When to pause" in run("notices", "show", short) and "When to pause" in run(
        "notices", "show", short, "--version", "1"
    )
    seen = run("notices", "outstanding")
    assert "0 of 2" in seen and "山田 太郎" in seen
    signed = notice["current"]["publishTime"]
    words = ("notices", "paper", short, ada["name"].rsplit("/", 1)[1], "--version", "1", "--kept", "HR")
    run(*words, "--signed", "soon", code=Exit.USAGE)
    made = of(*words, "--signed", signed)
    assert made["way"] == "ACKNOWLEDGEMENT_WAY_PAPER"
    assert "1 of 2" in run("notices", "outstanding", "--notice", short)
    run("notices", "withdraw", made["name"].rsplit("/", 1)[1], "--reason", "By mistake")
    assert "withdrawn: By mistake" in run("notices", "acknowledgements")
    assert "NOTICE_PAGE_OFF" in run("notices", "link", short, ada["name"], code=Exit.CONFLICT)
    assert "STAFF_RECORD_MISSING" in run("notices", "own", code=Exit.CONFLICT)
    run("staff", "update", yamada["name"], "--identity", "admin")
    assert "to be acknowledged" in run("notices", "own")
    assert of("notices", "acknowledge", short, "--yes")["way"] == "ACKNOWLEDGEMENT_WAY_PERSON"
    text = tmp_path / "text.txt"
    text.write_text("Other words.", "utf-8")
    run("notices", "publish", short, "--text", str(text), "--from", "2099-01-01", code=Exit.USAGE)
    planned = of("notices", "publish", short, "--text", str(text), "--as-before")["notices"][0]
    assert (planned["current"]["version"], planned["neededVersion"]) == (2, 1)
    assert "left" in run("staff", "left", yamada["name"]) and "左" not in run("staff", "back", yamada["name"])
