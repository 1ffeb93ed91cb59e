"""Figures of a span for reports: calls recorded, what was lost, delays; what is held; grants used, refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from appliance.catalog import tables
from appliance.catalog.among import among
from appliance.catalog.contracttables import reads
from appliance.catalog.granttables import grant_uses, grants
from appliance.catalog.records import State
from appliance.model import MarkKind

_r = tables.recordings


@dataclass(frozen=True)
class CallFigures:
    """Calls recorded in a span. Delays: from the end of a call until it was filed; None where none is there."""

    recordings: int
    duration_ns: int
    gap_recordings: int
    gaps: int
    lost_ns: int
    recovered: int
    median_delay_ns: int | None
    high_delay_ns: int | None
    longest_delay_ns: int | None


@dataclass(frozen=True)
class HeldFigures:
    """What is held, by state, bytes and times."""

    by_state: dict[str, int]
    bytes: int
    oldest_ns: int | None
    newest_ns: int | None


def calls(connection: sa.Connection, tenant_id: str | None, from_ns: int, until_ns: int) -> CallFigures:
    """Of recordings that began in a span, of a tenant or of all; those deleted and erased since count, too."""
    where = [_r.c.start_ns >= from_ns, _r.c.start_ns < until_ns]
    if tenant_id is not None:
        where.append(_r.c.tenant_id == tenant_id)
    count, total = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_r.c.duration_ns), 0)).where(*where)
    ).one()
    m = tables.marks.c
    lost = sa.case((m.until_ns > m.at_ns, m.until_ns - m.at_ns), else_=0)
    with_gaps, gaps, lost_ns = connection.execute(
        sa.select(
            sa.func.count(sa.distinct(m.recording_id)),
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(lost), 0),
        )
        .join(_r, _r.c.id == m.recording_id)
        .where(*where, m.kind == MarkKind.GAP.value)
    ).one()
    recovered = connection.execute(
        sa.select(sa.func.count()).where(*where, _r.c.whole.is_(False), _r.c.described)
    ).scalar_one()
    delays = _delays(connection, where)
    return CallFigures(count, int(total), with_gaps, gaps, int(lost_ns), recovered, *delays)


def _delays(
    connection: sa.Connection, where: list[sa.ColumnElement[bool]]
) -> tuple[int | None, int | None, int | None]:
    # What was deleted since says when that was, and not any more when it was filed.
    there = [*where, _r.c.state == State.FILED.value, _r.c.end_ns.is_not(None), _r.c.state_ns >= _r.c.end_ns]
    count = connection.execute(sa.select(sa.func.count()).where(*there)).scalar_one()
    if not count:
        return None, None, None
    delay = (_r.c.state_ns - _r.c.end_ns).label("delay")

    def at(place: int) -> int:
        query = sa.select(delay).where(*there).order_by(delay).offset(place).limit(1)
        return int(connection.execute(query).scalar_one())

    return at((count - 1) // 2), at(min(count - 1, (count * 95) // 100)), at(count - 1)


def held(connection: sa.Connection, tenant_id: str) -> HeldFigures:
    """What is held of a tenant now."""
    rows = connection.execute(
        sa.select(
            _r.c.state,
            sa.func.count(),
            sa.func.sum(_r.c.size),
            sa.func.min(_r.c.start_ns),
            sa.func.max(_r.c.start_ns),
        )
        .where(_r.c.tenant_id == tenant_id)
        .group_by(_r.c.state)
    ).all()
    kept = [row for row in rows if row[0] != State.ERASED.value]
    return HeldFigures(
        {row[0]: int(row[1]) for row in rows},
        sum(int(row[2] or 0) for row in kept),
        min((int(row[3]) for row in kept), default=None),
        max((int(row[4]) for row in kept), default=None),
    )


def refusals(connection: sa.Connection, tenant_id: str, from_ns: int, until_ns: int) -> list[tuple[str, int]]:
    """Reads that were refused in a span, by reason, the most frequent first."""
    count = sa.func.count().label("n")
    query = (
        sa.select(reads.c.refused, count)
        .where(
            reads.c.tenant_id == tenant_id,
            reads.c.at_ns >= from_ns,
            reads.c.at_ns < until_ns,
            reads.c.refused != "",
        )
        .group_by(reads.c.refused)
        .order_by(count.desc(), reads.c.refused)
    )
    return [(row[0], int(row[1])) for row in connection.execute(query)]


def grants_used(
    connection: sa.Connection, tenant_id: str, from_ns: int, until_ns: int
) -> list[tuple[str, str, list[str], int]]:
    """Grants of a tenant that were used in a span: id, purpose, who may, uses; in order of their ids."""
    count = sa.func.count().label("n")
    used = (
        sa.select(grant_uses.c.grant_id, count)
        .join(grants, grants.c.id == grant_uses.c.grant_id)
        .where(
            grants.c.tenant_id == tenant_id,
            grant_uses.c.at_ns >= from_ns,
            grant_uses.c.at_ns < until_ns,
        )
        .group_by(grant_uses.c.grant_id)
    )
    uses = {row[0]: int(row[1]) for row in connection.execute(used)}
    query = sa.select(grants).where(among(connection, grants.c.id, list(uses))).order_by(grants.c.id)
    return [_use(row, uses[row.id]) for row in connection.execute(query)]


def _use(row: sa.Row[Any], count: int) -> tuple[str, str, list[str], int]:
    return row.id, row.purpose, list(row.identities), count
