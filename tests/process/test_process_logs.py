"""Logs and the end of a process where nothing can be written."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURED = """
import resource, sys
import structlog
from appliance.process import logs

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

logs.configure("capture-0", "info")
log = structlog.get_logger()
log.info("first")
allow(int(sys.argv[1]))
log.error("lost")
log.error("lost too")
allow(resource.RLIM_INFINITY)
log.info("last")
"""
FAULT = """
import threading
from concurrent.futures import ThreadPoolExecutor
from appliance.process import child

def main():
    # As gRPC's threads, which wait for the loop that is gone.
    ThreadPoolExecutor(1).submit(threading.Event().wait)
    raise RuntimeError("fault")

child.run(main)
"""
DISK = """
import sys, threading
from pathlib import Path
from appliance.media.capture.disk import Cycle, Disk

def done(cycle):
    raise RuntimeError("fault")

class Deposits:
    def deposit(self, tickets): pass
    def renew(self): pass

disk = Disk(Path(sys.argv[1]), Deposits(), done)
disk.start()
disk.submit(Cycle([], [], 0))
threading.Event().wait()
"""


@pytest.mark.parametrize("room", [0, 20])
def test_lines_that_a_full_disk_does_not_take_are_counted_and_told_of(tmp_path: Path, room: int) -> None:
    path = tmp_path / "log"
    first = len(_run(CONFIGURED, str(resource.RLIM_INFINITY), log=path).splitlines()[0]) + 1
    lines = _run(CONFIGURED, str(first + room), log=path).splitlines()
    torn = lines[1:-2]
    told, last = json.loads(lines[-2]), json.loads(lines[-1])
    assert json.loads(lines[0])["event"] == "first"
    assert [len(line) for line in torn] == [room]
    assert (told["event"], told["count"], told["process"]) == ("lines of this log lost", 2, "capture-0")
    assert told["timestamp"] and last["event"] == "last"


def _run(script: str, *arguments: str, log: Path) -> str:
    log.unlink(missing_ok=True)
    with log.open("ab") as file:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], stdout=file, stderr=file, timeout=60, check=False
        )
    assert done.returncode == 0, log.read_text("utf-8")
    return log.read_text("utf-8")


@pytest.mark.parametrize("script", [FAULT, DISK], ids=["process", "disk"])
def test_a_fault_ends_the_process_also_where_it_cannot_be_logged(tmp_path: Path, script: str) -> None:
    with open(os.open("/dev/full", os.O_WRONLY), "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], stdout=full, stderr=full, timeout=60, check=False
        )
    assert done.returncode == 70
