"""Acknowledgements of notices in the catalogue: who said to have read what, who has not, and who is barred for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from appliance.catalog import notices, paging, staff, tables
from appliance.catalog.noticeerrors import AcknowledgementNotFoundError, NoticeNotAcknowledgedError
from appliance.catalog.noticetables import acknowledgements as table
from appliance.model.routing import Barred
from appliance.model.staff import InForce, StaffMember, Way, outstanding


@dataclass(frozen=True)
class Acknowledgement:
    """Times are nanoseconds since the Unix epoch. `evidence`, `withdraw_reason`: personal data."""

    id: str
    tenant_id: str
    notice_id: str
    version: int
    text_sha256: str
    staff_id: str
    at_ns: int
    create_ns: int
    way: Way
    evidence: str = ""
    actor: str = ""
    withdraw_ns: int | None = None
    withdraw_actor: str = ""
    withdraw_reason: str = ""


def add_all(connection: sa.Connection, notice_id: str, some: Sequence[Acknowledgement]) -> int:
    """Those of one notice that there are not yet; gives how many. Of one person and version the first stays."""
    standing = sa.select(table.c.staff_id, table.c.version).where(
        table.c.notice_id == notice_id, table.c.withdraw_ns.is_(None)
    )
    there = {(row.staff_id, row.version) for row in connection.execute(standing)}
    fresh: dict[tuple[str, int], Acknowledgement] = {}
    for one in some:
        if (one.staff_id, one.version) not in there:
            fresh.setdefault((one.staff_id, one.version), one)
    if fresh:
        rows = [{**one.__dict__, "way": one.way.value} for one in fresh.values()]
        connection.execute(sa.insert(table), rows)
    return len(fresh)


def add(connection: sa.Connection, made: Acknowledgement) -> Acknowledgement:
    """Gives what there is: of one person and version one counts, and the first stays."""
    row = connection.execute(
        sa.select(table).where(
            table.c.staff_id == made.staff_id,
            table.c.notice_id == made.notice_id,
            table.c.version == made.version,
            table.c.withdraw_ns.is_(None),
        )
    ).first()
    if row is not None:
        return acknowledgement_of(row)
    connection.execute(sa.insert(table).values(**{**made.__dict__, "way": made.way.value}))
    return made


def get(connection: sa.Connection, tenant_id: str, acknowledgement_id: str) -> Acknowledgement:
    """AcknowledgementNotFoundError."""
    row = connection.execute(
        sa.select(table).where(table.c.tenant_id == tenant_id, table.c.id == acknowledgement_id)
    ).first()
    if row is None:
        raise AcknowledgementNotFoundError("no such acknowledgement")
    return acknowledgement_of(row)


def withdraw(connection: sa.Connection, made: Acknowledgement) -> None:
    """It does not count any more, and stays."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == made.id)
        .values(
            withdraw_ns=made.withdraw_ns,
            withdraw_actor=made.withdraw_actor,
            withdraw_reason=made.withdraw_reason,
        )
    )


def listed(
    connection: sa.Connection,
    tenant_id: str,
    limit: int,
    before: tuple[int, str] | None = None,
    *,
    notice_id: str = "",
    staff_id: str = "",
) -> list[Acknowledgement]:
    """Newest first, older than that one; those that were withdrawn, too."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id)
    if notice_id:
        query = query.where(table.c.notice_id == notice_id)
    if staff_id:
        query = query.where(table.c.staff_id == staff_id)
    query = paging.beyond(query, table.c.create_ns, table.c.id, before, newest_first=True)
    rows = connection.execute(query.order_by(table.c.create_ns.desc(), table.c.id.desc()).limit(limit))
    return [acknowledgement_of(row) for row in rows]


def of_member(connection: sa.Connection, staff_id: str) -> dict[str, int]:
    """The newest version of each notice (id) that somebody has acknowledged."""
    return _newest(connection, table.c.staff_id == staff_id).get(staff_id, {})


def of_tenant(connection: sa.Connection, tenant_id: str) -> dict[str, dict[str, int]]:
    """The same of everybody of a tenant, by id."""
    return _newest(connection, table.c.tenant_id == tenant_id)


def _newest(connection: sa.Connection, whose: sa.ColumnElement[bool]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    rows = connection.execute(
        sa.select(table.c.staff_id, table.c.notice_id, sa.func.max(table.c.version))
        .where(whose, table.c.withdraw_ns.is_(None))
        .group_by(table.c.staff_id, table.c.notice_id)
    )
    for staff_id, notice_id, version in rows:
        found[staff_id][notice_id] = version
    return found


def missing(
    connection: sa.Connection, tenant_id: str, now_ns: int
) -> list[tuple[StaffMember, list[InForce]]]:
    """Who has something outstanding, in the order they were entered, and what."""
    some = notices.in_force(connection, tenant_id, now_ns)
    if not some:
        return []
    done = of_tenant(connection, tenant_id)
    found = (
        (member, outstanding(member, some, done.get(member.staff_id, {})))
        for member in staff.working(connection, tenant_id)
    )
    return [(member, wanted) for member, wanted in found if wanted]


def required_of(
    connection: sa.Connection, tenant_id: str, identity: str, number: str, now_ns: int
) -> list[InForce]:
    """Notices that are required, and that somebody who is signed in has not acknowledged; of nobody on the list: none."""
    some = [one for one in notices.in_force(connection, tenant_id, now_ns) if one.notice.required]
    member = staff.of_identity(connection, tenant_id, identity, number) if some else None
    if member is None:
        return []
    return outstanding(member, some, of_member(connection, member.staff_id))


def refuse_pausing(
    connection: sa.Connection, tenant_id: str, identity: str, number: str, now_ns: int
) -> None:
    """NoticeNotAcknowledgedError where the tenant keeps who has not acknowledged from pausing, and this one has not."""
    may = tables.tenants.c.unacknowledged_may_pause
    error = _refusal(connection, may, tenant_id, identity, number, now_ns)
    if error is not None:
        raise error


def not_reading(
    connection: sa.Connection, tenant_id: str, identity: str, number: str, now_ns: int
) -> NoticeNotAcknowledgedError | None:
    """Why somebody may not read for the same reason; None: there is no such reason."""
    may = tables.tenants.c.unacknowledged_may_read
    return _refusal(connection, may, tenant_id, identity, number, now_ns)


def _refusal(
    connection: sa.Connection, may: sa.Column[bool], tenant_id: str, identity: str, number: str, now_ns: int
) -> NoticeNotAcknowledgedError | None:
    allowed = connection.execute(sa.select(may).where(tables.tenants.c.id == tenant_id)).scalar()
    if allowed is not False:
        return None
    wanted = required_of(connection, tenant_id, identity, number, now_ns)
    if not wanted:
        return None
    return NoticeNotAcknowledgedError(
        "read and acknowledge what your organisation tells its staff first: earwitness notices own",
        notices=[f"tenants/{tenant_id}/notices/{one.notice.notice_id}" for one in wanted],
    )


def barred(connection: sa.Connection, now_ns: int) -> list[Barred]:
    """Numbers of agents who may not pause or end, of tenants who want it so; bounded by the list of staff."""
    wanting = sa.select(tables.tenants.c.id).where(tables.tenants.c.unacknowledged_may_pause.is_(False))
    found = []
    for (tenant_id,) in connection.execute(wanting.order_by(tables.tenants.c.id)).all():
        numbers = [
            number
            for member, wanted in missing(connection, tenant_id, now_ns)
            if any(one.notice.required for one in wanted)
            for number in member.numbers
        ]
        if numbers:
            found.append(Barred(tenant_id=tenant_id, numbers=tuple(sorted(set(numbers)))))
    return found


def acknowledgement_of(row: sa.Row[Any]) -> Acknowledgement:
    """A row of the table of acknowledgements."""
    return Acknowledgement(**{**row._mapping, "way": Way(row.way)})
