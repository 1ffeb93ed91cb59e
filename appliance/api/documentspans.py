"""Of which span a document tells: a month, or from one time to another."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from appliance.api.errors import FieldInvalidError
from appliance.api.parts import moment
from appliance.api.purposes import month_ns
from appliance.documents import words
from appliance.documents.facts import Span

MAX_NS: Final = 400 * 86400 * 10**9
_MONTH: Final = re.compile(r"(2[01][0-9]{2})-(0[1-9]|1[0-2])")


def span_of(request: Any, zone: ZoneInfo, now_ns: int, *, last: bool) -> Span:
    """As a request says it. Where it says nothing, the last whole month (`last`), or this one. FieldInvalidError."""
    times = request.HasField("start_time"), request.HasField("end_time")
    if any(times):
        if request.month:
            raise FieldInvalidError("should be empty where times are said", field="month")
        if not all(times):
            field = "end_time" if times[0] else "start_time"
            raise FieldInvalidError("is needed with the other one", field=field)
        from_ns, until_ns = moment(request.start_time, "start_time"), moment(request.end_time, "end_time")
        if not 0 < until_ns - from_ns <= MAX_NS:
            raise FieldInvalidError("should be after start_time, at most 400 days", field="end_time")
        if from_ns >= now_ns:
            raise FieldInvalidError("should be in the past", field="start_time")
        days = dict.fromkeys((words.day(from_ns, zone), words.day(until_ns - 1, zone)))
        return Span(from_ns, until_ns, " to ".join(days))
    month = request.month or _month(now_ns, zone, last=last)
    found = _MONTH.fullmatch(month)
    if found is None:
        raise FieldInvalidError("should be a month such as 2026-11", field="month")
    from_ns, until_ns = month_ns(int(found[1]), int(found[2]), zone.key)
    if from_ns >= now_ns:
        raise FieldInvalidError("should have begun", field="month")
    return Span(from_ns, until_ns, month)


def _month(now_ns: int, zone: ZoneInfo, *, last: bool) -> str:
    today: date = datetime.fromtimestamp(now_ns // 10**9, UTC).astimezone(zone).date()
    first = today.replace(day=1)
    return f"{(first - timedelta(days=1)) if last else first:%Y-%m}"
