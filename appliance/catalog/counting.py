"""Recordings counted: how many there are, and how long together, by day, line, direction, flag or tag."""

from __future__ import annotations

import enum
import zoneinfo
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.catalog.errors import TimeZoneError
from appliance.catalog.filters import Node
from appliance.catalog.lookup import Lookup
from appliance.catalog.recording_filter import clause
from appliance.catalog.records import State
from appliance.catalog.searchtables import recording_tags

MAX_GROUPS: Final = 4000  # eleven years of days
_r = tables.recordings
# Days of every zone begin at a quarter of an hour of UTC (the last that did not was Liberia's, until 1972).
_QUARTER_NS: Final = 900 * 10**9


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
    tests: list[sa.ColumnElement[bool]] = []
    if tenant_id is not None:
        tests.append(_r.c.tenant_id == tenant_id)
    if not show_deleted:
        tests.append(_r.c.state.in_([State.FILED.value, State.QUARANTINED.value]))
    if where is not None:
        tests.append(clause(where, Lookup(connection, tenant_id)))
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
    quarter = (_r.c.start_ns - _r.c.start_ns % _QUARTER_NS).label("quarter")
    query = (
        sa.select(quarter, sa.func.count().label("n"), sa.func.sum(_r.c.duration_ns).label("ns"))
        .where(*tests)
        .group_by(quarter)
    )
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in connection.execute(query):
        day = found[
            datetime.fromtimestamp(row.quarter // 10**9, UTC).astimezone(time_zone).date().isoformat()
        ]
        day[0] += row.n
        day[1] += int(row.ns)
    return [Group(day, *sums) for day, sums in sorted(found.items())]


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
