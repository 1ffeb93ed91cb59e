"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def describe() -> dict[str, str | int]:
    """CPU, cores, kernel, Python; no host name."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def cpu_ns(pid: int) -> int:
    """CPU time of a whole process so far, user and system, in nanoseconds (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns((~pid << 3) | 2)
