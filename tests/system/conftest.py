"""A served box and sipp as the recording client."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import command_kit
import pytest
from embedded_kit import started

from appliance.cli.demonstration.embedded import EmbeddedBox

SCENARIOS = Path(__file__).with_name("scenarios")
PCAPS = Path("/usr/share/sip-tester")
MEDIA_PORT = 40200  # sipp sends its RTP from here; outside the box's range


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBox]:
    with started(tmp_path_factory.mktemp("box") / "data") as running:
        yield running


@pytest.fixture
def earwitness(box: EmbeddedBox) -> Callable[..., Any]:
    """Runs the command line against the box; gives its JSON."""

    def run(*words: str) -> Any:
        done = command_kit.run("--data", str(box.data), *words, "--json", timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def sipp(box: EmbeddedBox, tmp_path: Path) -> Callable[..., str]:
    """Runs a scenario to its end; gives the Call-ID. Fails with what sipp complained of."""

    def run(scenario: str, transport: str) -> str:
        text = (SCENARIOS / f"{scenario}.xml").read_text()
        text = text.replace("@AUDIO@", str(PCAPS / "g711a.pcap")).replace(
            "@DTMF@", str(PCAPS / "dtmf_2833_5.pcap")
        )
        file = tmp_path / f"{scenario}-{transport}.xml"
        file.write_text(text)
        host, port = box.sip(transport)
        call_id = f"{scenario}-{transport}-{time.time_ns()}@sipp"
        command = [
            "sipp", f"{host}:{port}", "-sf", str(file), "-i", "127.0.0.1", "-mi", "127.0.0.1", "-mp", str(MEDIA_PORT),
            "-m", "1", "-t", {"udp": "u1", "tcp": "t1"}[transport], "-cid_str", call_id, "-nostdin",
            "-trace_err", "-error_file", str(tmp_path / "errors.log"), "-timeout", "60s", "-timeout_error",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path)
        errors = (tmp_path / "errors.log").read_text() if (tmp_path / "errors.log").exists() else ""
        assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr}\n{errors}"
        return call_id

    return run


@pytest.fixture
def recording_of(earwitness: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """The one recording of a SIP call, once it is filed."""

    def find(call_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = [
                recording
                for recording in earwitness("recordings", "list", "--limit", "100")["recordings"]
                if earwitness("recordings", "show", recording["name"])["sipCallId"] == call_id
            ]
            if found:
                assert len(found) == 1, "one call, one recording"
                return dict(earwitness("recordings", "show", found[0]["name"]))
            time.sleep(0.3)
        raise AssertionError("the call's recording was not filed in time")

    return find
