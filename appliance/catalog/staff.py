"""Staff of tenants in the catalogue: entered, changed, left, and forgotten in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import noticemails, paging, tables
from appliance.catalog.database import erasing
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.noticeerrors import (
    StaffLeftError,
    StaffLimitError,
    StaffNotFoundError,
    StaffTakenError,
)
from appliance.catalog.noticetables import acknowledgements, notice_links
from appliance.catalog.noticetables import staff as table
from appliance.catalog.records import etag_of
from appliance.model.staff import YEAR_NS, StaffKind, StaffMember

MAX_OF_TENANT: Final = 10_000  # who work here: what may be barred is as many, in the routing table
MAX_EVER: Final = 100_000  # with those who left


def add(connection: sa.Connection, member: StaffMember) -> None:
    """StaffLimitError, StaffTakenError."""
    check(connection, member)
    check_room(connection, member.tenant_id, 1)
    connection.execute(sa.insert(table).values(id=member.staff_id, **_columns(member)))


def update(connection: sa.Connection, member: StaffMember) -> None:
    """All of it; StaffTakenError. No mail goes to who left."""
    check(connection, member)
    connection.execute(sa.update(table).where(table.c.id == member.staff_id).values(**_columns(member)))
    if not member.works_here:
        noticemails.remove(connection, [member.staff_id])


def put_all(
    connection: sa.Connection, created: Iterable[StaffMember], updated: Iterable[StaffMember]
) -> None:
    """Many, who were checked against each other and against all who are there."""
    fresh = [{"id": one.staff_id, **_columns(one)} for one in created]
    if fresh:
        connection.execute(sa.insert(table), fresh)
    for one in updated:
        connection.execute(sa.update(table).where(table.c.id == one.staff_id).values(**_columns(one)))


def check_room(connection: sa.Connection, tenant_id: str, more: int) -> None:
    """StaffLimitError where so many more would be too many."""
    here = sa.func.count().filter(table.c.leave_ns.is_(None))
    ever, working = connection.execute(
        sa.select(sa.func.count(), here).where(table.c.tenant_id == tenant_id)
    ).one()
    if working + more > MAX_OF_TENANT:
        raise StaffLimitError("the list of staff is full", limit=MAX_OF_TENANT)
    if ever + more > MAX_EVER:
        raise StaffLimitError("the list of staff, with those who left, is full", limit=MAX_EVER)


def check(connection: sa.Connection, member: StaffMember) -> None:
    """That nobody else who works here has the identity or a number; StaffTakenError, StaffLeftError."""
    if member.forgotten:
        raise StaffLeftError("the person left, and was forgotten")
    if not member.works_here or not (member.identity or member.numbers):
        return
    others = sa.select(table.c.id, table.c.identity, table.c.numbers).where(
        table.c.tenant_id == member.tenant_id, table.c.leave_ns.is_(None), table.c.id != member.staff_id
    )
    for other in connection.execute(others.order_by(table.c.create_ns, table.c.id)).all():
        if member.identity and other.identity == member.identity:
            raise _taken("identity", member.tenant_id, other.id)
        for position, number in enumerate(member.numbers):
            if number in other.numbers:
                raise _taken(f"numbers[{position}]", member.tenant_id, other.id)


def _taken(field: str, tenant_id: str, staff_id: str) -> StaffTakenError:
    return StaffTakenError(
        "somebody else who works here has it",
        field=f"staff_member.{field}",
        staff_member=f"tenants/{tenant_id}/staffMembers/{staff_id}",
    )


def get(connection: sa.Connection, tenant_id: str, staff_id: str, etag: str = "") -> StaffMember:
    """StaffNotFoundError, EtagMismatchError."""
    row = connection.execute(
        sa.select(table).where(table.c.tenant_id == tenant_id, table.c.id == staff_id)
    ).first()
    if row is None:
        raise StaffNotFoundError("there is nobody of that name")
    found = member_of(row)
    if etag not in ("", etag_of_member(found)):
        raise EtagMismatchError("the record changed since", field="etag")
    return found


def named(connection: sa.Connection, staff_ids: Iterable[str]) -> dict[str, str]:
    """Names to show, by id."""
    wanted = list(set(staff_ids))
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        query = sa.select(table.c.id, table.c.display_name).where(table.c.id.in_(some))
        found.update((row.id, row.display_name) for row in connection.execute(query))
    return found


def listed(
    connection: sa.Connection,
    tenant_id: str,
    limit: int | None = None,
    after: tuple[int, str] | None = None,
    *,
    left: bool = False,
) -> list[StaffMember]:
    """In the order they were entered, after that one."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id)
    if not left:
        query = query.where(table.c.leave_ns.is_(None))
    query = paging.beyond(query, table.c.create_ns, table.c.id, after)
    query = query.order_by(table.c.create_ns, table.c.id).limit(limit)
    return [member_of(row) for row in connection.execute(query)]


def working(connection: sa.Connection, tenant_id: str) -> list[StaffMember]:
    """All who work for a tenant."""
    return listed(connection, tenant_id)


def of_identity(connection: sa.Connection, tenant_id: str, identity: str, number: str) -> StaffMember | None:
    """Who somebody that is signed in is: by the identity, else, where the record names none, by an agent's own number."""
    mine = sa.select(table).where(table.c.tenant_id == tenant_id, table.c.leave_ns.is_(None))
    row = connection.execute(mine.where(table.c.identity == identity)).first()
    if row is not None:
        return member_of(row)
    if not number:
        return None
    unnamed = mine.where(table.c.identity == "", table.c.kind == StaffKind.AGENT.value)
    rows = connection.execute(unnamed).all()
    return next((member_of(row) for row in rows if number in row.numbers), None)


def to_forget(connection: sa.Connection, now_ns: int) -> dict[str, list[str]]:
    """Who left longer ago than the tenant wants to know: ids, by tenant."""
    people = tables.tenants
    rows = connection.execute(
        sa.select(table.c.id, table.c.tenant_id, table.c.leave_ns, people.c.acknowledgement_years)
        .join(people, people.c.id == table.c.tenant_id)
        .where(table.c.leave_ns.is_not(None), table.c.forgotten.is_(False))
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.leave_ns + row.acknowledgement_years * YEAR_NS <= now_ns:
            found.setdefault(row.tenant_id, []).append(row.id)
    return found


def forget(connection: sa.Connection, staff_ids: Iterable[str]) -> None:
    """Forget them. Opaque ids stay, and what was acknowledged when."""
    for staff_id in staff_ids:
        connection.execute(
            sa.update(table)
            .where(table.c.id == staff_id)
            .values(display_name="", email="", identity="", numbers=[], lines=[], forgotten=True)
        )
        theirs = acknowledgements.c.staff_id == staff_id
        connection.execute(sa.update(acknowledgements).where(theirs).values(evidence="", withdraw_reason=""))
        connection.execute(sa.delete(notice_links).where(notice_links.c.staff_id == staff_id))
        noticemails.remove(connection, [staff_id])
    erasing(connection)


def etag_of_member(member: StaffMember) -> str:
    return etag_of(member.model_dump_json())


def _columns(member: StaffMember) -> dict[str, Any]:
    return {
        "tenant_id": member.tenant_id,
        "display_name": member.display_name,
        "email": member.email,
        "identity": member.identity,
        "numbers": list(member.numbers),
        "lines": list(member.lines),
        "kind": member.kind.value,
        "create_ns": member.create_ns,
        "leave_ns": member.leave_ns,
        "forgotten": member.forgotten,
    }


def member_of(row: sa.Row[Any]) -> StaffMember:
    """A row of the table of staff."""
    return StaffMember(
        staff_id=row.id,
        tenant_id=row.tenant_id,
        display_name=row.display_name,
        email=row.email,
        identity=row.identity,
        numbers=tuple(row.numbers),
        lines=tuple(row.lines),
        kind=StaffKind(row.kind),
        create_ns=row.create_ns,
        leave_ns=row.leave_ns,
        forgotten=row.forgotten,
    )
