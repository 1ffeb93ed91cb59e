"""The audit log forwarded to rsyslog over TLS: as it parses it, whole and in order, also over a restart of it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "audit"))
import audit_kit as kit
import collector as peers

from appliance.audit.checkpoints import parse
from appliance.audit.forward import Forwarder
from appliance.audit.note import open_note
from appliance.audit.tree import leaf_hash
from appliance.config.settings import SyslogSettings
from appliance.process.status import Status

pytestmark = pytest.mark.system

CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="16k"
       defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{certificate}"
       defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="seen" type="list") {{
  constant(value="{{") property(name="msgid" outname="msgid" format="jsonf")
  constant(value=",") property(name="structured-data" outname="data" format="jsonf")
  constant(value=",") property(name="syslogfacility" outname="facility" format="jsonf")
  constant(value=",") property(name="app-name" outname="app" format="jsonf")
  constant(value=",") property(name="msg" outname="msg" format="jsonf") constant(value="}}\\n")
}}
action(type="omfile" file="{folder}/seen.jsonl" template="seen")
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def rsyslog(folder: Path, port: int) -> Iterator[None]:
    """rsyslogd in the foreground, until it listens."""
    configuration = folder / "rsyslog.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            port=port,
            ca=folder / "ca.crt",
            certificate=folder / "server.crt",
            key=folder / "server.key",
        )
    )
    with (folder / "rsyslog.log").open("ab") as said:
        running = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(configuration), "-i", str(folder / "rsyslog.pid")],
            stdout=said,
            stderr=said,
        )
    try:
        until(lambda: listens(port), lambda: (folder / "rsyslog.log").read_text())
        yield
    finally:
        running.terminate()
        running.wait(20)


def listens(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(int(one.split()[1].rpartition(":")[2], 16) == port and one.split()[3] == "0A" for one in lines)


def until(
    condition: Callable[[], bool], why: Callable[[], object] = lambda: "", seconds: float = 30.0
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def seen(folder: Path) -> list[dict[str, str]]:
    path = folder / "seen.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(one) for one in text.splitlines(keepends=True) if one.endswith("\n")]


def test_rsyslog_takes_every_entry_and_reads_it_as_it_is_meant(tmp_path: Path, port: int) -> None:
    assert shutil.which("rsyslogd"), "make test-system installs it"
    issuer = peers.authority(tmp_path)
    peers.issue(tmp_path, "server", issuer)
    certificate, key = peers.issue(tmp_path, "client", issuer)
    settings = SyslogSettings(
        host="127.0.0.1", port=port, ca=tmp_path / "ca.crt", certificate=certificate, key=key
    )
    with kit.running(tmp_path / "control") as log:
        forwarder = Forwarder(log, settings, Status(), settle_s=0.2, retry_s=0.1)
        try:
            with rsyslog(tmp_path, port):
                kit.write(log, 100, method="/earwitness.v1.CallsService/ListCalls", subject='a"b]c\\d')
                log.sign()
                until(lambda: forwarder.progress.cursor == 100, lambda: forwarder.progress)
            kit.write(log, 50, start=100)
            until(lambda: not forwarder.progress.connected)
            with rsyslog(tmp_path, port):
                until(lambda: forwarder.progress.cursor == 150, lambda: forwarder.progress)
                until(lambda: len({one["msg"] for one in seen(tmp_path) if one["msgid"] == "asked"}) == 150)
        finally:
            forwarder.close()
        found = seen(tmp_path)
        entries = [one for one in found if one["msgid"] == "asked"]
        assert {(one["facility"], one["app"]) for one in found} == {("13", "earwitness")}
        lines = list(dict.fromkeys(one["msg"] for one in entries))
        assert lines == [one.decode() for one in kit.lines(tmp_path / "control")], "each, in order, as it is"
        first = entries[0]["data"]
        assert f'leaf="{leaf_hash(lines[0].encode()).hex()}"' in first and 'subject="a\\"b\\]c\\\\d"' in first
        notes = [parse(one["msg"].encode()).note for one in found if one["msgid"] == "checkpoint"]
        assert notes
        for note in notes:
            open_note(note, [log.verifier])
