"""What older releases wrote, `control/audit.jsonl`: its whole lines become the first entries, and the log says so."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from appliance.audit import entry, files, segments

BEFORE: Final = "audit.jsonl"
_HELD: Final = "before.jsonl"


def settle(control: Path, folder: Path, clock_ns: Callable[[], int]) -> list[dict[str, object]]:
    """Take over what is there; gives what the log is to say of it. After a crash in its midst it does the same again."""
    old, held = control / BEFORE, folder / _HELD
    if old.exists() and not held.exists() and not segments.serials(folder):
        old.rename(held)
        files.sync_directory(control)
    if held.exists() and not segments.serials(folder):
        _first_segment(folder, held, clock_ns)
    if not old.exists():
        return []
    # An older release wrote it after this log had begun: its digest becomes an entry.
    aside = folder / f"before-{clock_ns()}.jsonl"
    old.rename(aside)
    files.sync_directory(control)
    return [{"time_ns": clock_ns(), "what": "put-aside", "file": aside.name, "sha256": _digest(aside)}]


def _first_segment(folder: Path, held: Path, clock_ns: Callable[[], int]) -> None:
    """Whole or not at all: written beside its place, and renamed."""
    aside = folder / ".entries.new"
    whole = torn = 0
    with aside.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        for _, line in segments.lines(held):
            if entry.parse(line) is None:
                torn += 1
                continue
            whole += 1
            file.write(line + b"\n")
        said = {
            "time_ns": clock_ns(), "what": "taken-over", "entries": whole, "torn": torn, "sha256": _digest(held),
        }  # fmt: skip
        file.write(entry.pack(said) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(segments.path_of(folder, 1))
    files.sync_directory(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
