"""`earwitness scorecards` and `earwitness reviews` against a real control over TLS."""

from __future__ import annotations

import csv
import io
import json

import pytest
from test_api_review import START

from appliance.cli import output
from appliance.cli.main import run


@pytest.fixture
def cli(box, sealing, capsys, monkeypatch):
    tenant_id, line_id = box.default_line()
    box.layout.run.mkdir(parents=True, exist_ok=True)
    (box.layout.run / "addresses.json").write_text(json.dumps({"api": f"127.0.0.1:{box.port}"}))
    monkeypatch.setenv("EARWITNESS_DATA", str(box.layout.root))
    monkeypatch.setattr(output.console, "_width", 200, raising=False)

    def command(*words: str, expect: int = 0):
        capsys.readouterr()
        code = run(list(words))
        out, err = capsys.readouterr()
        assert code == expect, (code, out, err)
        return json.loads(out) if "--json" in words and not expect else out + err

    def call(number: int) -> str:
        recording_id = box.vault.file(sealing(tenant_id, line_id, start_ns=START + number * 10**9))
        box.filed(recording_id)
        return recording_id

    command.call = call
    return command


def test_a_scorecard_a_rule_a_review_and_figures(cli, tmp_path):
    file = tmp_path / "card.json"
    file.write_text('{"display_name": "Desk", "unknown": 1}')
    assert "FILE_INVALID" in cli("scorecards", "create", str(file), expect=2)
    questions = [
        {"question": "greeted", "text": "Greeted?", "kind": "QUESTION_KIND_YES_NO", "weight": 1},
        {"question": "calm", "text": "Calm?", "kind": "QUESTION_KIND_SCALE", "weight": 1, "steps": 5},
        {"question": "words", "text": "What else?", "kind": "QUESTION_KIND_TEXT"},
    ]
    file.write_text(json.dumps({"display_name": "Desk", "questions": questions}))
    card = cli("scorecards", "create", str(file)).strip()
    assert "scale 1-5" in cli("scorecards", "show", card)
    # What `show --json` writes is what `update` reads.
    shown = cli("scorecards", "show", card, "--json")
    shown["displayName"] = "=Front desk"
    file.write_text(json.dumps(shown))
    assert "version 2" in cli("scorecards", "update", card, str(file))
    assert [one["version"] for one in cli("scorecards", "history", card, "--json")["scorecards"]] == [2, 1]

    rule = cli("reviews", "rules", "create", "Half", "--scorecard", card, "--percent", "50").strip()
    assert "50 %" in cli("reviews", "rules", "list")
    assert "paused" in cli("reviews", "rules", "pause", rule)
    assert "1 recording" in (cli.call(1) and cli("reviews", "rules", "apply", rule, "--validate-only"))

    recording = cli.call(2)
    review = cli("reviews", "create", recording, "--scorecard", card).strip()
    taken = cli("reviews", "next")
    assert "--purpose quality" in taken and recording in taken
    assert "REVIEW_NOT_FOUND" in cli("reviews", "next", expect=3)
    cli("reviews", "answer", review, "greeted=yes", "calm=2", "--at", "calm=0:01", "--text", "calm=Hurried")
    assert "USAGE" in cli("reviews", "answer", review, "greeted=maybe", expect=2)
    shown = cli("reviews", "answer", review, "calm=3", "words=Fine")
    assert "Hurried" in shown, "the words stay with the new answer"
    assert "75.0 %" in cli("reviews", "submit", review, "--validate-only")
    assert "submitted" in cli("reviews", "submit", review)
    assert review in cli("reviews", "list", "--state", "submitted", "--mine")

    drawn = cli("reviews", "figures", "--scorecard", card, "--period", "week")
    assert "1 (few)" in drawn and "75.0 %" in drawn and "█" in drawn
    (row,) = csv.DictReader(io.StringIO(cli("reviews", "figures", "--scorecard", card, "--csv")))
    assert (row["key"], row["count"], row["mean_percent"], row["small"]) == ("200", "1", "75.0", "true")
    by = cli("reviews", "figures", "--scorecard", card, "--by", "question", "--json")["figures"]
    assert {one["key"]: one["meanBasisPoints"] for one in by} == {"greeted": 10000, "calm": 5000}
