"""What happened to the box's processes: one JSON object a line, on disk before anything else is done about it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

KEEP = 2000  # lines; older ones go when the file has twice as many


@dataclass(frozen=True)
class Incident:
    """Something that happened to a process."""

    time_ns: int
    process: str
    kind: str  # killed, exited, hung, unclean-stop
    message: str
    pid: int = 0
    restarts: int = 0


class Incidents:
    """The file of incidents."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, process: str, kind: str, message: str, *, pid: int = 0, restarts: int = 0) -> Incident:
        """Appends one; durable when this returns."""
        incident = Incident(time.time_ns(), process, kind, message, pid, restarts)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(asdict(incident)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return incident

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
