"""Who did what to which opaque id: one JSON line before a call is done, one after it. Append-only."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path

from appliance.api.errors import AuditUnavailableError
from appliance.process.status import ALARM, Status

UNWRITABLE = "AuditUnwritable"


class Trail:
    """The audit file. Lines hold names, ids and stable words, never what a call answered."""

    def __init__(self, path: Path, status: Status) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._status = status
        self._lock = threading.Lock()

    def write(self, record: dict[str, object], *, durable: bool) -> None:
        """Append one line; AuditUnavailableError where it cannot be written. `durable`: on disk before this returns."""
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:
                written = os.write(self._file, line)
                if written != len(line):
                    # No space for the rest: the torn line is ended, so that the next one stands alone.
                    os.write(self._file, b"\n")
                    raise OSError("short write")
            if durable:
                os.fdatasync(self._file)
        except OSError as error:
            self._status.raise_condition(
                UNWRITABLE,
                ALARM,
                "The audit log cannot be written, so calls of the API are refused: make space.",
            )
            raise AuditUnavailableError("the audit log cannot be written") from error
        self._status.clear_condition(UNWRITABLE)

    def tail(self, size: int) -> list[dict[str, object]]:
        """The lines that stand whole in the last `size` bytes, oldest first; one that a full disk tore is left out."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - size))
                lines = file.read(size).split(b"\n")
        except OSError as error:
            raise AuditUnavailableError("the audit log cannot be read") from error
        found = []
        for line in lines[1:] if end > size else lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append(record)
        return found

    def close(self) -> None:
        os.close(self._file)
