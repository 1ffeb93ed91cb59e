"""Logs: one JSON object a line on standard error. Events are fixed words, values are opaque ids and counts."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

import structlog
from structlog.typing import EventDict


class LineLogger:
    """Writes lines to a descriptor. One that cannot be written (a full disk) is lost and counted: what only wanted to
    tell of a fault must not add one. `said` makes the line that tells how many were lost, before the next that is
    written."""

    def __init__(self, fd: int, said: Callable[[int], str]) -> None:
        self._fd = fd
        self._said = said
        self._lock = threading.Lock()
        self.lost = 0
        """Lines that were not written, and of which no line tells yet."""

    def msg(self, message: str) -> None:
        """Writes a line."""
        with self._lock:
            try:
                if self.lost:
                    # On a line of its own, also where the first of the lost ones is there in part.
                    self._write("\n" + self._said(self.lost) + "\n")
                    self.lost = 0
                self._write(message + "\n")
            except OSError:
                self.lost += 1

    debug = info = warning = error = critical = msg

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]


def configure(process: str, level: str) -> None:
    """Sets structlog up for this process."""
    number = logging.getLevelNamesMapping()[level.upper()]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    render = structlog.processors.JSONRenderer()

    def named(logger: object, method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    def said(lost: int) -> str:
        event: EventDict = {
            "count": lost,
            "event": "lines of this log lost",
            "process": process,
            "level": "warning",
        }
        return str(render(None, "warning", stamp(None, "warning", event)))

    lines = LineLogger(sys.stderr.fileno(), said)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            named,
            structlog.processors.add_log_level,
            stamp,
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *arguments: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
