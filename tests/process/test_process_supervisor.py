"""The supervisor with real child processes: start, restart with kept sockets, crash loops, the lifeline, the lock."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from appliance.config.layout import Layout
from appliance.config.settings import Settings
from appliance.process import datadir, incidents, rpc
from appliance.process.supervisor import LOG_BYTES
from earwitness.internal.v1 import process_pb2, process_pb2_grpc

KIT = Path(__file__).with_name("kit_child.py")
RUNNER = """
import sys
from pathlib import Path
from appliance.cli.exits import from_error
from appliance.config.settings import Settings
from appliance.model import EarwitnessError
from appliance.process.program import Program
from appliance.process.supervisor import Supervisor
data, kit, *modes = sys.argv[1:]
children = [
    Program(mode, (kit, mode), stop_stage=0, keeps_sockets=mode == "socket", needed=mode != "late-spared")
    for mode in modes
]
settings = Settings(data=Path(data), start_timeout_s=2 if any("late" in mode for mode in modes) else 60)
try:
    sys.exit(Supervisor(settings, lambda line: print(line, flush=True), children).run())
except EarwitnessError as error:
    print(f"{error.reason}: {error.message}", flush=True)
    sys.exit(9)
"""


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.02)


@contextlib.contextmanager
def supervised(data: Path, *modes: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(data), str(KIT), *modes], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def pid_of(data: Path, name: str) -> int:
    state = json.loads((Layout(data).run / "supervisor.json").read_text())
    return next(int(one["pid"]) for one in state["processes"] if one["name"] == name)


def counters(data: Path, name: str) -> dict[str, int]:
    with rpc.channel(Layout(data), name) as channel:
        stub = process_pb2_grpc.ProcessServiceStub(channel)
        return dict(stub.GetProcessStatus(process_pb2.GetProcessStatusRequest(), timeout=5).counters)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_killed_process_comes_back_with_its_sockets_and_what_waits_in_them(tmp_path: Path) -> None:
    with supervised(tmp_path, "socket") as process:
        assert ready(process).startswith("earwitness is ready")
        before = pid_of(tmp_path, "socket")
        host, port = json.loads((Layout(tmp_path).run / "addresses.json").read_text())["udp"].split(":")
        os.kill(before, signal.SIGKILL)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"4711", (host, int(port)))  # to a port that no process reads now
        until(lambda: pid_of(tmp_path, "socket") not in (0, before))

        def received() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return counters(tmp_path, "socket").get("received") == 4711
            return False

        until(received)
        (incident,) = incidents.read(Layout(tmp_path).incidents)
        assert (incident.process, incident.kind, incident.pid) == ("socket", "killed", before)
        assert "SIGKILL" in incident.message


def test_no_process_of_the_box_leaves_its_memory_in_a_dump(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as process:
        ready(process)
        limits = Path(f"/proc/{pid_of(tmp_path, 'plain')}/limits").read_text("ascii").splitlines()
        (line,) = [line for line in limits if line.startswith("Max core file size")]
        assert line.split()[4:6] == ["0", "0"]


def test_stops_cleanly_and_says_so_to_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        with supervised(tmp_path, "plain") as process:
            ready(process)
            child = pid_of(tmp_path, "plain")
            process.terminate()
            assert process.wait(20) == 0
            assert gone(child)
    assert incidents.read(Layout(tmp_path).incidents) == []


def test_when_the_supervisor_is_killed_its_processes_stop_and_the_next_start_tells(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as process:
        ready(process)
        child = pid_of(tmp_path, "plain")
        process.kill()
        until(lambda: gone(child))
    with supervised(tmp_path, "plain") as process:
        ready(process)
        (incident,) = incidents.read(Layout(tmp_path).incidents)
        assert incident.kind == "unclean-stop"


def test_a_second_server_on_the_same_data_is_refused_by_name(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as first:
        ready(first)
        with supervised(tmp_path, "plain") as second:
            line = ready(second)
            assert second.wait(20) == 9
        assert line.startswith("DATA_DIRECTORY_IN_USE") and str(first.pid) in line
        assert first.poll() is None


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "refuses") as process:
        assert "port 5060 is taken (sip.udp_port)" in ready(process)
        assert process.wait(20) == 9


def test_a_process_that_crashes_while_starting_is_named(tmp_path: Path) -> None:
    with supervised(tmp_path, "crashes") as process:
        assert "START_FAILED: crashes ended while starting" in ready(process)


def test_a_process_that_is_late_ends_the_start_where_nothing_is_recorded_without_it(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "late-needed") as process:
        assert "START_FAILED: late-needed is not ready after 2 s" in ready(process)
        assert process.wait(20) == 9


def test_else_the_box_comes_up_without_it_says_so_and_takes_it_in_later(tmp_path: Path) -> None:
    def state() -> str:
        found = json.loads((Layout(tmp_path).run / "supervisor.json").read_text())
        return next(str(one["state"]) for one in found["processes"] if one["name"] == "late-spared")

    with supervised(tmp_path, "plain", "late-spared") as process:
        assert ready(process).startswith("earwitness is ready")
        (incident,) = incidents.read(Layout(tmp_path).incidents)
        assert (incident.process, incident.kind) == ("late-spared", "late")
        assert state() == "starting"
        (tmp_path / "go").touch()
        until(lambda: state() == "ready")
        assert len(incidents.read(Layout(tmp_path).incidents)) == 1


def test_a_crash_loop_is_restarted_and_recorded(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "loops") as process:
        assert ready(process).startswith("earwitness is ready")
        until(lambda: len(incidents.read(Layout(tmp_path).incidents)) >= 3)
        found = incidents.read(Layout(tmp_path).incidents)
        assert [one.restarts for one in found] == list(range(1, len(found) + 1))
        assert all(one.kind == "exited" and "exit code 4" in one.message for one in found)


def _fill(process: subprocess.Popen[str], room: int) -> None:
    """What the supervisor writes to files from now on, and those it starts, the kernel refuses beyond `room` bytes."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def test_a_full_disk_ends_nothing_and_what_happened_is_told_when_there_is_room(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as process:
        ready(process)
        before = pid_of(tmp_path, "plain")
        _fill(process, 10)  # so that a line of an incident would be torn
        os.kill(before, signal.SIGKILL)

        def answers() -> bool:
            with contextlib.suppress(grpc.RpcError):
                return counters(tmp_path, "plain") == {}
            return False

        until(lambda: gone(before) and answers())
        assert process.poll() is None
        assert incidents.read(Layout(tmp_path).incidents) == []
        _fill(process, resource.RLIM_INFINITY)
        until(lambda: pid_of(tmp_path, "plain") not in (0, before))
        (incident,) = incidents.read(Layout(tmp_path).incidents)
        assert (incident.kind, incident.pid) == ("killed", before)
        process.terminate()
        assert process.wait(20) == 0


def test_a_long_log_is_cut_also_where_the_disk_is_full(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as process:
        ready(process)
        log = datadir.log_directory(Layout(tmp_path)) / "plain.log"
        os.truncate(log, LOG_BYTES + 1)
        until(lambda: log.stat().st_size < LOG_BYTES and log.with_suffix(".log.1").exists())
        _fill(process, 10)
        os.truncate(log, LOG_BYTES + 1)
        until(lambda: log.stat().st_size < LOG_BYTES)
        assert not log.with_suffix(".log.1").exists()
        assert counters(tmp_path, "plain") == {}
        _fill(process, resource.RLIM_INFINITY)
        until(lambda: incidents.read(Layout(tmp_path).incidents) != [])
        (incident,) = incidents.read(Layout(tmp_path).incidents)
        assert (incident.process, incident.kind) == ("plain", "log-cut")


def test_a_process_that_the_system_cannot_start_is_started_when_it_can(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as process:
        ready(process)
        log = datadir.log_directory(Layout(tmp_path)) / "plain.log"
        log.unlink()
        log.mkdir()  # nothing can be opened to write to
        before = pid_of(tmp_path, "plain")
        os.kill(before, signal.SIGKILL)
        until(lambda: len(incidents.read(Layout(tmp_path).incidents)) >= 3)
        assert pid_of(tmp_path, "plain") == 0
        log.rmdir()
        until(lambda: pid_of(tmp_path, "plain") not in (0, before))
        found = incidents.read(Layout(tmp_path).incidents)
        assert [one.kind for one in found] == ["killed"] + ["not-started"] * (len(found) - 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o500)
    with supervised(data, "plain") as process:
        assert ready(process).startswith("DATA_DIRECTORY_UNUSABLE")


def test_a_file_in_place_of_the_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("x")
    with supervised(data, "plain") as process:
        assert ready(process).startswith("DATA_DIRECTORY_UNUSABLE")


def test_long_data_paths_still_have_sockets(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 90)
    assert len(os.fsencode(Layout(data).socket("capture-99"))) < 108
    with supervised(data, "plain") as process:
        ready(process)
        assert counters(data, "plain") == {}


def test_settings_survive_the_way_to_a_child(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
