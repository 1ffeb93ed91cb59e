"""Durable appends to the audit log, alone and by many at once, over bare write and fdatasync of the same bytes.

Also what a proof and a page of a list take at a million entries.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appliance.audit import entry, segments, tree
from appliance.audit.hashes import Hashes
from appliance.audit.index import entries as rows
from appliance.audit.key import obtain
from appliance.audit.trail import Trail
from appliance.model import new_id
from appliance.process.status import Status

WRITERS = (1, 10, 100)
TENANTS = 100


def record(number: int, tenant: str) -> dict[str, object]:
    """An entry as a download makes one."""
    return {
        "time_ns": 1_764_000_000_000_000_000 + number * 1_000_000,
        "what": ("asked", "done")[number % 2],
        "request": f"request-{number:012}-abcdefghij",
        "who": f"person-{number % 50}",
        "roles": ["records-officer"],
        "tenant": tenant,
        "certificate": "ab" * 32,
        "method": "/earwitness.v1.RecordingsService/"
        + ("GetRecording", "DownloadRecording")[number % 7 == 0],
        "subject": f"tenants/{tenant}/recordings/{'abcdefghijklmnopqrstuvwxyz'[::-1]}",
        "purpose": "complaint",
        "outcome": "OK" if number % 2 else "",
    }


def bare(folder: Path, line: bytes, seconds: float) -> float:
    """Appends a second with nothing but write and fdatasync."""
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count = 0
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        os.write(fd, line)
        os.fdatasync(fd)
        count += 1
    os.close(fd)
    return count / took


async def _append(trail: Trail, writers: int, seconds: float) -> float:
    """As the API does it: tasks of one loop, each waiting for its entry to be durable."""
    end = time.perf_counter() + seconds
    tenant = new_id()

    async def write(start: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await trail.append(record(start + count, tenant), durable=True)
            count += 1
        return count

    began = time.perf_counter()
    total = sum(await asyncio.gather(*(write(10**6 * one) for one in range(writers))))
    return total / (time.perf_counter() - began)


def appends(seconds: float = 3.0) -> dict[str, float]:
    """Appends a second, and each over the bare ones around it."""
    found: dict[str, float] = {}
    line = entry.pack(record(1, new_id())) + b"\n"
    found["entry_bytes"] = len(line)
    with tempfile.TemporaryDirectory() as folder:
        trail = Trail(Path(folder, "control"), Status())
        for writers in WRITERS:
            before = bare(Path(folder), line, seconds / 2)
            rate = asyncio.run(_append(trail, writers, seconds))
            after = bare(Path(folder), line, seconds / 2)
            found[f"bare_per_second_{writers}"] = (before + after) / 2
            found[f"appends_per_second_{writers}"] = rate
            found[f"ratio_{writers}"] = rate / ((before + after) / 2)
        trail.close()
    return found


def _filled(control: Path, count: int, tenants: list[str]) -> None:
    """A log of so many entries, written as fast as it goes: what is asked of it is how it reads."""
    folder = control / "audit"
    folder.mkdir(parents=True)
    growing, kept = tree.CompactRange(), Hashes(folder, "1")
    serial = 1
    file = segments.path_of(folder, serial).open("wb")
    for number in range(count):
        line = entry.pack(record(number, tenants[number % len(tenants)]))
        file.write(line + b"\n")
        kept.append(growing.append(tree.leaf_hash(line)))
        if file.tell() >= segments.SEGMENT:
            file.close()
            serial += 1
            file = segments.path_of(folder, serial).open("wb")
    file.close()
    kept.sync()
    kept.close()
    obtain(control)


def _percentiles(act: Callable[[], object], count: int = 60) -> tuple[float, float]:
    """p50 and p95 in milliseconds."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    return statistics.median(took), took[int(0.95 * len(took))]


def reading(count: int = 1_000_000) -> dict[str, float]:
    """Lists and proofs of a large log."""
    found: dict[str, float] = {"entries": count}
    tenants = [new_id() for _ in range(TENANTS)]
    with tempfile.TemporaryDirectory() as place:
        control = Path(place)
        _filled(control, count, tenants)
        began = time.perf_counter()
        trail = Trail(control, Status(), sign_s=3600.0)
        found["first_start_s"] = time.perf_counter() - began  # no hashes that could be trusted: all is read
        began = time.perf_counter()
        trail.index.caught_up(trail.log.size, 600.0)
        found["index_s"] = time.perf_counter() - began
        index, log = trail.index, trail.log
        end = log.size
        pick = random.Random(1)
        some = {
            "list_newest": lambda: index.newest(None, end, 50),
            "list_deep": lambda: index.newest(None, pick.randrange(end), 50),
            "list_tenant": lambda: index.newest(None, end, 50, pick.choice(tenants)),
            "list_who": lambda: index.newest(rows.c.who == f"person-{pick.randrange(50)}", end, 50),
            "list_method_tenant": lambda: index.newest(
                rows.c.name == "DownloadRecording", end, 50, pick.choice(tenants)
            ),
            "list_nobody": lambda: index.newest(rows.c.who == "nobody", end, 50),
            "inclusion": lambda: tree.inclusion_proof(pick.randrange(end), end, log.hashes.get),
            "consistency": lambda: tree.consistency_proof(pick.randrange(1, end), end, log.hashes.get),
        }
        for name, act in some.items():
            found[f"{name}_p50_ms"], found[f"{name}_p95_ms"] = _percentiles(act)
        trail.close()
        began = time.perf_counter()
        trail = Trail(control, Status())
        found["next_start_s"] = time.perf_counter() - began
        trail.close()
        found["index_bytes_per_entry"] = (control / "audit" / "index.db").stat().st_size / count
    return found


def run(seconds: float = 3.0, count: int = 1_000_000) -> dict[str, float]:
    """All of it."""
    return {**appends(seconds), **reading(count)}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
