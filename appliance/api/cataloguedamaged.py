"""Damaged catalogues that were put aside: `control/catalogue.damaged-*.db`, plain SQLite full of personal data.

No erasure reaches into them. One of which not everything was saved is kept for somebody to look at, with a condition, and
goes with the next erasure, or after thirty days, whichever comes first.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from appliance.process.status import WARNING, Status
from appliance.process.wholefile import sync_directory

log = structlog.get_logger()

KEPT: Final = "DamagedCatalogueKept"
KEEP_NS: Final = 30 * 86400 * 10**9
BEHIND_NS: Final = 86400 * 10**9
"""So long before it was written last a catalogue may not have taken up an erasure yet."""
_NAME: Final = re.compile(r"catalogue\.damaged-([0-9]{1,19})\.db(-wal|-shm|-journal)?")


class Damaged:
    """See the module. Safe to use from any thread."""

    def __init__(self, control: Path, status: Status, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._control = control
        self._status = status
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._written_ns = 0  # when what was put aside by this process was written last; 0: not known
        self._due: dict[str, str] = {}  # that could not be removed yet, and why they are to go
        self.there = False
        """Whether any is there, as of the last look."""

    def aside(self, path: Path, written_ns: int) -> Path:
        """Put a catalogue with its log aside; gives its new path. OSError."""
        made = path.with_name(f"catalogue.damaged-{self._clock_ns()}.db")
        with self._lock:
            for suffix in (
                "",
                "-wal",
                "-shm",
            ):  # a log without a catalogue is dropped, and none is taken without its log
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").rename(f"{made}{suffix}")
            sync_directory(self._control)
            self._written_ns, self.there = written_ns, True
        return made

    def knew(self, erased_ns: int) -> bool:
        """Whether what was erased then was gone from them already when they were put aside."""
        return erased_ns < self._written_ns - BEHIND_NS

    def remove(self, why: str, only: Path | None = None) -> None:
        """All of them, or one, durably; what cannot be removed is tried again with each look."""
        with self._lock:
            found = [name for name, _ in self._files()]
            self._remove([name for name in found if only is None or name.startswith(only.name)], why)
            self._tell()

    def look(self) -> None:
        """Let go what is old, and say what is there: at the start and now and then."""
        with self._lock:
            now_ns = self._clock_ns()
            for name, since_ns in self._files():
                if why := "age" if now_ns - since_ns > KEEP_NS else self._due.get(name):
                    self._remove([name], why)
            self._tell()

    def _files(self) -> list[tuple[str, int]]:
        """Names, and since when each is aside."""
        try:
            found = [(name, _NAME.fullmatch(name)) for name in os.listdir(self._control)]
        except OSError as error:
            log.error("damaged catalogues not looked for", errno=error.errno or 0)
            return []
        return sorted((name, int(match[1])) for name, match in found if match is not None)

    def _remove(self, files: list[str], why: str) -> None:
        if not files:
            return
        try:
            for name in files:
                (self._control / name).unlink(missing_ok=True)
            sync_directory(self._control)
        except OSError as error:
            self._due.update(dict.fromkeys(files, why))
            log.error("damaged catalogue not removed", why=why, errno=error.errno or 0)
            return
        for name in files:
            self._due.pop(name, None)
        log.warning("damaged catalogue removed", files=files, why=why)

    def _tell(self) -> None:
        names = [name for name, _ in self._files()]
        self.there = bool(names)
        if not names:
            self._status.clear_condition(KEPT)
            return
        self._status.raise_condition(
            KEPT,
            WARNING,
            f"A damaged catalogue lies in the control directory, in plain text: {', '.join(names)}. Whoever wants more out"
            " of it copies it elsewhere now; then remove it. It goes by itself with the next erasure, or after 30 days.",
        )
