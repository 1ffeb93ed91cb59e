"""What lines were made with, until the vault has taken it: the vault is whose the policies are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa

from appliance.catalog.tables import line_policies as table


@dataclass(frozen=True)
class LinePolicy:
    """`grain`: day, week, month, or empty where it is not said; `grace_days` None: not said. `who` made the line."""

    line_id: str
    tenant_id: str
    grain: str
    grace_days: int | None
    who: str


def add(connection: sa.Connection, policy: LinePolicy) -> None:
    """In the transaction in which the line is made."""
    connection.execute(sa.insert(table).values(**asdict(policy)))


def waiting(connection: sa.Connection) -> list[LinePolicy]:
    """What the vault has not taken yet."""
    return [
        LinePolicy(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.line_id))
    ]


def done(connection: sa.Connection, line_id: str) -> None:
    """The vault has taken it."""
    connection.execute(sa.delete(table).where(table.c.line_id == line_id))
