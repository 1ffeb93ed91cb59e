"""Alarms on the command line, against a served box: listed with how long they stand, looked after, told by channels."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alarms_kit import Hooks, authority
from embedded_kit import started

from appliance.cli import main, output
from appliance.cli.demonstration.embedded import EmbeddedBox
from appliance.cli.exits import Exit

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("cli-alarms")]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("alarms") / "data") as running:
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
        return out.getvalue() + err.getvalue()

    return command


def of(run: Run, *words: str, **how: Any) -> Any:
    return json.loads(run(*words, "--json", **how))


def secret(text: str) -> str:
    """A file descriptor that holds a secret."""
    inside, outside = os.pipe()
    os.write(outside, text.encode() + b"\n")
    os.close(outside)
    return str(inside)


def test_a_channel_is_added_tested_changed_and_deleted(run: Run, tmp_path: Path) -> None:
    tls = authority(tmp_path)
    ca = tmp_path / "ca.pem"
    ca.write_text(tls.pem)
    assert "No channels" in run("alarms", "channels", "list")
    with Hooks(tls.server) as hooks:
        words = ("alarms", "channels", "add-webhook", "Tickets", "--url", hooks.url, "--ca", str(ca))
        key = "a secret of twenty-four and more"
        assert "Tickets" in run(*words, "--secret-fd", secret(key), "--validate-only")
        made = of(run, *words, "--secret-fd", secret(key))
        assert made["webhook"]["secretSet"] and not made["webhook"]["secret"]
        channel = made["name"].rsplit("/", 1)[1]
        hooks.answer, hooks.status = b"thank you", 200
        said = run("alarms", "test", channel)
        assert said.startswith("delivered") and "thank you" in said
        hooks.status = 500
        assert "status-500" in run("alarms", "test", channel, code=Exit.FAILED)
    assert "refused" in run("alarms", "test", channel, code=Exit.FAILED)
    assert "nothing to change" in run("alarms", "channels", "update", channel, code=Exit.USAGE)
    changed = run(
        "alarms", "channels", "update", channel, "--name", "Desk", "--disable", "--from-severity", "critical"
    )
    assert "Desk" in changed and "disabled" in changed and "critical" in changed
    run("alarms", "channels", "update", channel, "--enable", "--new-secret", "--secret-fd", secret(key[::-1]))
    assert "Desk" in run("alarms", "channels", "list") and "well" in run(
        "alarms", "channels", "show", channel
    )
    mail = (
        "alarms",
        "channels",
        "add-mail",
        "IT",
        "--host",
        "h",
        "--from",
        "a@b.example",
        "--to",
        "c@d.example",
    )
    assert "once a day at 06:00 UTC" in run(*mail, "--digest", "6")
    assert "c@d.example over h" in run(*mail, "--username", "u", "--secret-fd", secret("p"))
    run("alarms", "channels", "add-syslog", "SIEM", "--host", "log.example", "--ca", str(ca))
    assert len(of(run, "alarms", "channels", "list")["alarmChannels"]) == 4
    assert "SECRET_MISSING" in run(*mail, "--username", "u", code=Exit.USAGE)
    assert "cannot read" in run(*mail, "--ca", str(tmp_path / "none"), code=Exit.USAGE)
    for one in of(run, "alarms", "channels", "list")["alarmChannels"]:
        run("alarms", "channels", "delete", one["name"], "--yes")
    assert "ALARM_CHANNEL_NOT_FOUND" in run("alarms", "channels", "show", channel, code=Exit.NOT_FOUND)


def test_alarms_are_shown_looked_after_and_counted(run: Run, box: EmbeddedBox) -> None:
    assert "CallsWithoutMedia" in run("alarms", "kinds")
    assert len(of(run, "alarms", "kinds")["alarmKinds"]) > 70
    # A file that is no recording: quarantined, which is a condition of the vault and so an alarm.
    (box.data / "vault" / "quarantine").mkdir(parents=True, exist_ok=True)
    (box.data / "vault" / "quarantine" / "x.sealed").write_bytes(b"nonsense")
    found: list[dict[str, Any]] = []
    until = time.monotonic() + 90
    while not found and time.monotonic() < until:  # the vault looks from time to time
        found = of(run, "alarms", "list", "--filter", "kind = Quarantine")["alarms"]
        time.sleep(0.2)
    (one,) = found
    alarm = one["name"].rsplit("/", 1)[1]
    shown = run("alarms", "show", alarm)
    assert "WARNING" in shown and "quarantine" in shown and "Stands" in shown
    assert "acknowledged" in run("alarms", "ack", alarm, "--note", "Looking at the disk")
    assert "Looking at the disk" in run("alarms", "show", one["name"])
    table = run("alarms", "list", "--filter", "kind = Quarantine")
    assert alarm in table and "acknowledged" in table
    assert "Alarms that stand: " in run("box", "status")
    assert "open" in run("alarms", "ack", alarm, "--undo")
    assert "ALARM_CLEARS_ITSELF" in run("alarms", "clear", alarm, code=Exit.CONFLICT)
    assert "FILTER_INVALID" in run("alarms", "list", "--filter", "x = 1", code=Exit.USAGE)
    assert "ALARM_NOT_FOUND" in run("alarms", "show", "a" * 26, code=Exit.NOT_FOUND)
