"""A list of recordings against the log."""

from __future__ import annotations

import json

import pytest

from appliance.model import new_id
from earwitness.verify.__main__ import main

A, B, C = (new_id() for _ in range(3))


def entry(recording: str, what: str, position: int) -> str:
    return json.dumps({"what": what, "recording": recording, "position": position})


def listed(**states: str) -> list[dict[str, str]]:
    return [
        {"name": f"tenants/{A}/recordings/{one}", "state": f"RECORDING_STATE_{state}"}
        for one, state in states.items()
    ]


@pytest.fixture
def paths(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    entries = [
        entry(A, "filed", 1),
        json.dumps({"what": "asked", "recording": "x"}),
        entry(B, "filed", 2),
        "",
        entry(B, "erased", 3),
        entry(C, "filed", 4),
        "torn {",
        entry(C, "deleted", 5),
        entry(C, "filed", 6),
    ]
    (log / "entries-000001.jsonl").write_text("\n".join(entries[:4]) + "\n")
    (log / "entries-000002.jsonl").write_text("\n".join(entries[4:]) + "\n")
    (log / "other.txt").write_text("")
    return tmp_path / "recordings.json", log


def codes(paths, index: object, capsys) -> list[str]:
    paths[0].write_text(index if isinstance(index, str) else json.dumps(index))
    code = main(["--index", str(paths[0]), "--log", str(paths[1]), "--json"])
    found = [one["code"] for one in json.loads(capsys.readouterr().out)]
    assert code == (1 if found else 0)
    return found


def test_what_agrees(paths, capsys):
    now = listed(**{A: "FILED", B: "ERASED", C: "FILED"})
    assert codes(paths, now, capsys) == []
    assert codes(paths, {"recordings": now}, capsys) == []
    assert codes(paths, "\n".join(map(json.dumps, now)), capsys) == []
    assert main(["--index", str(paths[0]), "--log", str(paths[1])]) == 0
    assert "they agree" in capsys.readouterr().out


def test_an_older_catalogue(paths, capsys):
    # As it was before B was erased and C was filed.
    assert codes(paths, listed(**{A: "FILED", B: "FILED"}), capsys) == [
        "RECORDING_RESURRECTED",
        "RECORDING_MISSING",
    ]
    assert codes(paths, listed(**{A: "FILED", B: "ERASED", C: "DELETED"}), capsys) == ["RECORDING_STALE"]
    assert codes(paths, listed(**{A: "FILED", B: "ERASED", C: "FILED", new_id(): "FILED"}), capsys) == [
        "RECORDING_UNLOGGED"
    ]


@pytest.mark.parametrize("text", ["", "nothing", "3", "[3]", '[{"name": "x"}]', "{]"])
def test_what_is_no_list(paths, text, capsys):
    paths[0].write_text(text)
    code = main(["--index", str(paths[0]), "--log", str(paths[1])])
    # Nothing at all is a list of nothing: all is missing from it.
    assert code == (1 if not text else 2)


def test_what_is_no_log(paths, capsys, tmp_path):
    paths[0].write_text("[]")
    (tmp_path / "empty").mkdir()
    for log in (tmp_path / "empty", tmp_path / "none"):
        assert main(["--index", str(paths[0]), "--log", str(log)]) == 2


def test_what_goes_together(paths):
    for arguments in (
        [],
        ["--index", "x"],
        ["--audit", "x"],
        ["x", "--index", "x", "--log", "y", "--keys", "z"],
    ):
        with pytest.raises(SystemExit):
            main(arguments)
