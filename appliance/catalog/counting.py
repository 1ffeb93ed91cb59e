"""Recordings counted: how many there are, and how long together, by day, line, direction, flag or tag."""

from __future__ import annotations

import enum
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.catalog.errors import TimeZoneError
from appliance.catalog.filters import Node
from appliance.catalog.recording_filter import conditions
from appliance.catalog.records import State
from appliance.catalog.searchtables import recording_tags

MAX_GROUPS: Final = 4000  # eleven years of days
_r = tables.recordings
_S: Final = 10**9
_DAY_S: Final = 86400
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH: Final = date(1970, 1, 1)
_AGES: Final = 200_000  # days
_STRIDE_S: Final = 7 * _DAY_S  # no zone changes its offset and back within a week


class By(enum.StrEnum):
    """What recordings are counted by."""

    DAY = "day"
    LINE = "line"
    DIRECTION = "direction"
    FLAG = "flag"
    TAG = "tag"


@dataclass(frozen=True)
class Group:
    """`key`: a day (2026-11-25), a line's "tenant id/line id", a direction, a flag or a tag."""

    key: str
    count: int
    duration_ns: int


@dataclass(frozen=True)
class Counted:
    """Groups, and all together: by flag or tag one recording may be in several groups, or in none."""

    groups: list[Group]
    count: int
    duration_ns: int
    more: bool  # groups were left out: the oldest days, or the smallest others


def zone(name: str, field: str = "time_zone") -> zoneinfo.ZoneInfo:
    """A zone of the IANA database; empty: UTC. TimeZoneError."""
    try:
        return zoneinfo.ZoneInfo(name or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise TimeZoneError("should be a time zone such as Europe/London", field=field) from None


def count(
    connection: sa.Connection,
    *,
    tenant_id: str | None,
    where: Node | None,
    by: By,
    time_zone: zoneinfo.ZoneInfo,
    show_deleted: bool = False,
) -> Counted:
    """Count what `recordings.search` would find. Days are in order, all else by how many, most first."""
    tests = conditions(connection, tenant_id, where)
    if not show_deleted:
        tests.append(_r.c.state.in_([State.FILED.value, State.QUARANTINED.value]))
    if by is By.DAY:
        groups = _days(connection, tests, time_zone)
    else:
        groups = _groups(connection, tests, by)
    if by in (By.FLAG, By.TAG):
        query = sa.select(sa.func.count(), sa.func.sum(_r.c.duration_ns)).where(*tests)
        row = connection.execute(query).one()
        total, duration_ns = int(row[0]), int(row[1] or 0)
    else:
        total, duration_ns = sum(one.count for one in groups), sum(one.duration_ns for one in groups)
    more = len(groups) > MAX_GROUPS
    kept = groups[-MAX_GROUPS:] if by is By.DAY else groups[:MAX_GROUPS]
    return Counted(kept, total, duration_ns, more)


def _days(
    connection: sa.Connection, tests: list[sa.ColumnElement[bool]], time_zone: zoneinfo.ZoneInfo
) -> list[Group]:
    bounds = sa.select(sa.func.min(_r.c.start_ns), sa.func.max(_r.c.start_ns)).where(*tests)
    first, last = connection.execute(bounds).one()
    if first is None:
        return []
    # A day of the zone is a day of UTC moved by an offset, which is the same for months: the database can say which.
    steps = _offsets(time_zone, first // _S, last // _S)
    second = _r.c.start_ns // _S
    local = (
        sa.case(
            *((second < until_s, second + offset_s) for until_s, offset_s in steps[:-1]),
            else_=second + steps[-1][1],
        )
        if len(steps) > 1
        else second + steps[0][1]
    )
    # Division cuts towards zero in both databases, so it is kept above it: times of the catalogue begin in 1677.
    day = ((local + _AGES * _DAY_S) // _DAY_S).label("day")
    query = (
        sa.select(day, sa.func.count().label("n"), sa.func.sum(_r.c.duration_ns).label("ns"))
        .where(*tests)
        .group_by(sa.literal_column("1"))
        .order_by(sa.literal_column("1"))
    )
    return [
        Group((_EPOCH + timedelta(days=int(row.day) - _AGES)).isoformat(), row.n, int(row.ns))
        for row in connection.execute(query)
    ]


def _offsets(time_zone: zoneinfo.ZoneInfo, first_s: int, last_s: int) -> list[tuple[int, int]]:
    """Until when (exclusive; seconds since the Unix epoch) which offset from UTC holds, from the first time to the last."""

    def offset(at_s: int) -> int:
        there = (_START + timedelta(seconds=at_s)).astimezone(time_zone).utcoffset()
        return 0 if there is None else round(there.total_seconds())

    found: list[tuple[int, int]] = []
    at_s, now = first_s, offset(first_s)
    while at_s < last_s:
        next_s = min(at_s + _STRIDE_S, last_s)
        if offset(next_s) == now:
            at_s = next_s
            continue
        low, high = at_s, next_s  # it changes after one, and not after the other
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == now else (low, middle)
        found.append((high, now))
        at_s, now = high, offset(high)
    return [*found, (last_s + 1, now)]


def _groups(connection: sa.Connection, tests: list[sa.ColumnElement[bool]], by: By) -> list[Group]:
    n, ns = sa.func.count().label("n"), sa.func.sum(_r.c.duration_ns).label("ns")
    query: Any
    match by:
        case By.LINE:
            query = sa.select(_r.c.tenant_id, _r.c.line_id, n, ns).group_by(_r.c.tenant_id, _r.c.line_id)
        case By.DIRECTION:
            query = sa.select(_r.c.direction, n, ns).group_by(_r.c.direction)
        case By.FLAG:
            flag = tables.flags.c
            joined = sa.join(_r, tables.flags, flag.recording_id == _r.c.id)
            query = sa.select(flag.flag, n, ns).select_from(joined).group_by(flag.flag)
        case By.TAG:
            tag = recording_tags.c
            joined = sa.join(_r, recording_tags, tag.recording_id == _r.c.id)
            query = sa.select(sa.func.min(tag.tag), n, ns).select_from(joined).group_by(tag.folded)
        case other:
            raise AssertionError(f"no such grouping: {other}")
    found = [
        Group("/".join(map(str, row[:-2])), row.n, int(row.ns))
        for row in connection.execute(query.where(*tests))
    ]
    return sorted(found, key=lambda group: (-group.count, group.key))
