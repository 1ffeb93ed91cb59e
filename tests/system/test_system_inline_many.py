"""Many inline calls at once, by sipp on both sides: none fails, each is recorded."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import inline_kit
import pytest
from inline_kit import Office
from peers import free_port, media_options, write_scenario

from appliance.cli.demonstration.embedded import EmbeddedBox
from earwitness.v1 import recordings_pb2

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
CALLS, RATE, TALK_S = 200, 5, 8


@pytest.fixture
def office(box: EmbeddedBox, tmp_path: Path) -> Iterator[Office]:
    yield from inline_kit.offices(box, tmp_path)


def sipp(folder: Path, scenario: str, port: int, *options: str) -> subprocess.Popen[bytes]:
    """sipp with a scenario of ours; nothing is spoken."""
    folder.mkdir()
    write_scenario(folder, scenario)
    command = ["sipp", *options, "-sf", str(folder / "scenario.xml"), "-i", "127.0.0.1", "-p", str(port)]
    command += [
        "-mi",
        "127.0.0.1",
        *media_options(free_port()),
        "-d",
        str(TALK_S * 1000),
        "-t",
        "u1",
        "-nostdin",
    ]
    command += ["-m", str(CALLS), "-trace_err", "-error_file", str(folder / "errors.log"), "-timeout", "200s"]
    with (folder / "output.log").open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)


def said(folder: Path) -> str:
    errors = folder / "errors.log"
    return errors.read_text("utf-8", "replace")[-3000:] if errors.exists() else ""


def test_two_hundred_calls_at_five_a_second(office: Office, tmp_path: Path) -> None:
    desk, outside = free_port(), free_port()
    number = office.line(inbound=[f"sip:127.0.0.1:{desk}"])
    host, port = office.box.sip("udp")
    switchboard = sipp(tmp_path / "switchboard", "switchboard", desk)
    time.sleep(1.0)
    trunk = sipp(
        tmp_path / "trunk", "trunk", outside, f"{host}:{port}", "-s", number, "-r", str(RATE), "-l", "200"
    )
    try:
        assert trunk.wait(200) == 0, said(tmp_path / "trunk")
        assert switchboard.wait(60) == 0, said(tmp_path / "switchboard")
    finally:
        for process in (trunk, switchboard):
            if process.poll() is None:
                process.kill()
                process.wait(10)
    office.wait_over()
    deadline = time.monotonic() + 60
    while (found := count(office)) < CALLS:
        assert time.monotonic() < deadline, f"{found} of {CALLS} recordings were filed"
        time.sleep(0.5)
    assert found == CALLS


def count(office: Office) -> int:
    """The tenant's recordings."""
    request = recordings_pb2.ListRecordingsRequest(parent=office.tenant, page_size=500)
    answer = office.client.recordings.ListRecordings(request, timeout=20)
    assert not answer.next_page_token
    return len(answer.recordings)
