"""How the box served, from minute to minute, and work that was planned."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.documenttables import planned_work, served
from appliance.catalog.errors import EtagMismatchError, PlannedWorkLimitError, PlannedWorkNotFoundError
from appliance.catalog.records import etag_of
from appliance.model.served import Cause, Follows, Served, Work

KEEP_NS: Final = 800 * 86400 * 10**9
"""Two spans of a report, and a little."""
MAX_PLANNED: Final = 200
"""Works that are not over."""


def begin(connection: sa.Connection, stretch: Served) -> int:
    """A stretch is new; gives its number."""
    made = connection.execute(
        sa.insert(served).values(
            begin_ns=stretch.begin_ns,
            end_ns=stretch.end_ns,
            cause=stretch.cause.value if stretch.cause else "",
            follows=stretch.follows.value,
        )
    ).inserted_primary_key
    assert made is not None
    return int(made[0])


def go_on(connection: sa.Connection, number: int, end_ns: int) -> None:
    """It lasts until then."""
    connection.execute(sa.update(served).where(served.c.no == number).values(end_ns=end_ns))


def stretches(connection: sa.Connection, from_ns: int, until_ns: int) -> list[Served]:
    """Those that touch a span, the last before it and the first after, in the order they were noted."""
    first = connection.execute(sa.select(sa.func.max(served.c.no)).where(served.c.end_ns <= from_ns)).scalar()
    last = connection.execute(
        sa.select(sa.func.min(served.c.no)).where(served.c.begin_ns >= until_ns)
    ).scalar()
    query = sa.select(served).order_by(served.c.no)
    if first is not None:
        query = query.where(served.c.no >= first)
    if last is not None:
        query = query.where(served.c.no <= last)
    return [_served(row) for row in connection.execute(query)]


def prune(connection: sa.Connection, now_ns: int) -> None:
    """Forget what is older than any report asks for; the last stretch stays."""
    last = sa.select(sa.func.max(served.c.no)).scalar_subquery()
    connection.execute(sa.delete(served).where(served.c.end_ns < now_ns - KEEP_NS, served.c.no < last))
    connection.execute(sa.delete(planned_work).where(planned_work.c.end_ns < now_ns - KEEP_NS))


def check_room(connection: sa.Connection, now_ns: int) -> None:
    """PlannedWorkLimitError."""
    query = sa.select(sa.func.count()).select_from(planned_work).where(planned_work.c.end_ns > now_ns)
    if connection.execute(query).scalar_one() >= MAX_PLANNED:
        raise PlannedWorkLimitError("as much work is planned as may be at once", limit=MAX_PLANNED)


def plan(connection: sa.Connection, work: Work) -> None:
    """Write it down; PlannedWorkLimitError."""
    check_room(connection, work.create_ns)
    connection.execute(
        sa.insert(planned_work).values(**{name: getattr(work, name) for name in Work.__slots__})
    )


def find_work(connection: sa.Connection, work_id: str) -> Work | None:
    """None where there is none."""
    row = connection.execute(sa.select(planned_work).where(planned_work.c.id == work_id)).first()
    return None if row is None else _work(row)


def get_work(connection: sa.Connection, work_id: str, etag: str = "") -> Work:
    """PlannedWorkNotFoundError, EtagMismatchError."""
    found = find_work(connection, work_id)
    if found is None:
        raise PlannedWorkNotFoundError("no such planned work", planned_work=work_id)
    if etag not in ("", etag_of_work(found)):
        raise EtagMismatchError("the planned work changed since", field="etag")
    return found


def cancel(connection: sa.Connection, work: Work, now_ns: int) -> Work | None:
    """Take it back where it did not begin (gives None), end it where it is under way; what is over stays."""
    if work.begin_ns > now_ns:
        connection.execute(sa.delete(planned_work).where(planned_work.c.id == work.id))
        return None
    end_ns = min(work.end_ns, now_ns)
    connection.execute(sa.update(planned_work).where(planned_work.c.id == work.id).values(end_ns=end_ns))
    return Work(work.id, work.begin_ns, end_ns, work.description, work.who, work.create_ns)


def works(connection: sa.Connection, limit: int, after: tuple[int, str] | None = None) -> list[Work]:
    """The latest first, after the (begin_ns, id) of the last one of the page before."""
    c = planned_work.c
    query = sa.select(planned_work).order_by(c.begin_ns.desc(), c.id.desc()).limit(limit)
    query = paging.beyond(query, c.begin_ns, c.id, after, newest_first=True)
    return [_work(row) for row in connection.execute(query)]


def works_in(connection: sa.Connection, from_ns: int, until_ns: int) -> list[Work]:
    """Those that touch a span, in order."""
    c = planned_work.c
    query = sa.select(planned_work).where(c.begin_ns < until_ns, c.end_ns > from_ns)
    return [_work(row) for row in connection.execute(query.order_by(c.begin_ns, c.id))]


def etag_of_work(work: Work) -> str:
    return etag_of(work.id, work.begin_ns, work.end_ns, work.description)


def _work(row: sa.Row[Any]) -> Work:
    return Work(**row._mapping)


def _served(row: sa.Row[Any]) -> Served:
    return Served(row.begin_ns, row.end_ns, Cause(row.cause) if row.cause else None, Follows(row.follows))
