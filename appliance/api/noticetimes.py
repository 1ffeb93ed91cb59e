"""Times as other systems write them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from typing import Final

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NOON: Final = time(12)
_FIRST: Final = date(1970, 1, 2)  # whatever the zone
_LAST: Final = date(2199, 12, 30)


def when(text: str, zone: tzinfo) -> int | None:
    """Nanoseconds since the Unix epoch of an RFC 3339 time, or of the noon of a day in a zone; None: it is neither."""
    try:
        if _DAY.fullmatch(text):
            at = datetime.combine(date.fromisoformat(text), _NOON, zone)
        elif _TIME.fullmatch(text):
            at = datetime.fromisoformat(text.upper())
        else:
            return None
        if not _FIRST <= at.date() <= _LAST:
            return None
    except ValueError:
        return None
    return round(at.astimezone(UTC).timestamp()) * 10**9
