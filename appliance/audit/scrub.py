"""Reads the whole log in the background, at the start and once a day, and holds each line against its leaf.

The opening of a log reads its last segment; what somebody changes in older ones, or while the box runs, is seen here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from appliance.audit.errors import EntryDamagedError, TreeSizeError
from appliance.audit.log import Log
from appliance.audit.reader import Reader
from appliance.audit.tree import HASH, leaf_hash

log = structlog.get_logger()

EVERY_S: Final = 86_400.0
_BATCH: Final = 1000
_REST_S: Final = 0.02  # after each batch: nobody waits for this


def first_damaged(log_: Log, stop: Callable[[float], bool] = lambda rest_s: False) -> int | None:
    """Number of the first entry that is not what its leaf says; None: all are. Ends early where `stop` says so."""
    end = log_.size
    reader = Reader(log_, 0)
    while reader.index < end and not stop(_REST_S):
        first = reader.index
        try:
            found = reader.take(most=min(_BATCH, end - first))
            leaves = log_.hashes.span(0, first, len(found))
        except (EntryDamagedError, TreeSizeError):
            return first
        for place, one in enumerate(found):
            if leaves[HASH * place : HASH * (place + 1)] != leaf_hash(one.line):
                return one.index
    return None


class Scrub:
    """The thread that does it. `told` hears of the first damaged entry."""

    def __init__(self, log_: Log, told: Callable[[int], None], every_s: float = EVERY_S) -> None:
        self._log = log_
        self._told = told
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-scrub", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                found = first_damaged(self._log, self._stop.wait)
            except OSError as error:
                log.warning("audit log not read through", errno=error.errno)
                found = None
            if found is not None:
                self._told(found)
            self._stop.wait(self._every_s)
