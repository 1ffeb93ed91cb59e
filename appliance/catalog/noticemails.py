"""Who of the staff is to be reminded of notices by mail: put here with the reminder, taken out when the mail is sent.

At most one mail waits for a person. Nothing personal is here: the address is looked up when the mail goes out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.catalog.noticetables import notice_mails as table
from appliance.model.staff import StaffMember


@dataclass(frozen=True)
class WaitingMail:
    """Somebody who is to be reminded. Times are nanoseconds since the Unix epoch."""

    staff_id: str
    tenant_id: str
    create_ns: int
    due_ns: int
    tries: int


def put(connection: sa.Connection, people: Iterable[StaffMember], now_ns: int) -> None:
    """Whoever of them has an address; for whom a mail waits already, no second one does."""
    wanted = {one.staff_id: one for one in people if one.email}
    waiting = set(connection.execute(sa.select(table.c.staff_id)).scalars())
    fresh = [
        {
            "staff_id": one.staff_id,
            "tenant_id": one.tenant_id,
            "create_ns": now_ns,
            "due_ns": now_ns,
            "tries": 0,
        }
        for one in wanted.values()
        if one.staff_id not in waiting
    ]
    if fresh:
        connection.execute(sa.insert(table), fresh)


def tenants_due(connection: sa.Connection, now_ns: int) -> list[str]:
    """Tenants with a mail that is due."""
    query = sa.select(table.c.tenant_id).where(table.c.due_ns <= now_ns).distinct()
    return list(connection.execute(query.order_by(table.c.tenant_id)).scalars())


def due(connection: sa.Connection, tenant_id: str, now_ns: int, limit: int) -> list[WaitingMail]:
    """What is to go out now of a tenant, oldest first."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id, table.c.due_ns <= now_ns)
    rows = connection.execute(
        query.order_by(table.c.due_ns, table.c.create_ns, table.c.staff_id).limit(limit)
    )
    return [WaitingMail(**row._mapping) for row in rows]


def remove(connection: sa.Connection, staff_ids: Collection[str]) -> None:
    """It was sent, is given up, or nobody wants it any more."""
    connection.execute(sa.delete(table).where(table.c.staff_id.in_(staff_ids)))


def postpone(connection: sa.Connection, one: WaitingMail, due_ns: int) -> None:
    """It is tried again then."""
    connection.execute(
        sa.update(table).where(table.c.staff_id == one.staff_id).values(due_ns=due_ns, tries=one.tries + 1)
    )


def hold_back(connection: sa.Connection, tenant_id: str, until_ns: int) -> None:
    """No mail of the tenant goes out before then: the server is down."""
    connection.execute(
        sa.update(table)
        .where(table.c.tenant_id == tenant_id, table.c.due_ns < until_ns)
        .values(due_ns=until_ns)
    )
