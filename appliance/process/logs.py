"""Logs: one JSON object a line on standard error. Events are fixed words, values are opaque ids and counts."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict


def configure(process: str, level: str) -> None:
    """Sets structlog up for this process."""
    number = logging.getLevelNamesMapping()[level.upper()]

    def named(logger: object, method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            named,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )
