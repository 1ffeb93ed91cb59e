"""What happened to the box's processes: one JSON object a line, on disk before anything else is done about it.

Where the disk takes nothing, what happened waits in memory: the processes are kept up all the same.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

KEEP = 2000  # lines; older ones go when the file has twice as many


@dataclass(frozen=True)
class Incident:
    """Something that happened to a process."""

    time_ns: int
    process: str
    kind: str  # killed, exited, hung, late, not-started, log-cut, unclean-stop
    message: str
    pid: int = 0
    restarts: int = 0


class Incidents:
    """The file of incidents."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[Incident] = deque(maxlen=KEEP)

    def add(self, process: str, kind: str, message: str, *, pid: int = 0, restarts: int = 0) -> Incident:
        """Appends one; durable when this returns, unless the disk takes nothing: then it waits for `catch_up`."""
        incident = Incident(time.time_ns(), process, kind, message, pid, restarts)
        self._waiting.append(incident)
        self.catch_up()
        return incident

    def catch_up(self) -> bool:
        """Writes what waits, if anything; whether nothing waits any more."""
        if not self._waiting:
            return True
        try:
            self._append(b"".join(json.dumps(asdict(one)).encode() + b"\n" for one in self._waiting))
        except OSError:
            return False
        self._waiting.clear()
        return True

    def _append(self, lines: bytes) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)  # no torn line, to which the next one would be glued
                raise

    def trim(self) -> None:
        """Forgets the oldest where there are far too many."""
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if len(lines) > 2 * KEEP:
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(b"".join(lines[-KEEP:]))
            fresh.replace(self._path)


def read(path: Path, limit: int = KEEP) -> list[Incident]:
    """The last incidents, oldest first. A torn last line (power cut) is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines()[-limit:] if limit else []:
        try:
            found.append(Incident(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found
