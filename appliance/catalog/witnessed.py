"""Where recordings stand in the audit log, and which gaps they have: opaque ids and times, no personal data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from appliance.catalog.tables import Id, metadata

table = sa.Table(
    "witnessed",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),  # of the entry in the log
    sa.Column("line", sa.String(4096), nullable=False),  # the entry
    sa.Column("gaps", sa.JSON, nullable=True),  # as the evidence has them; NULL: not known when it was filed
)


@dataclass(frozen=True)
class Witnessed:
    """One recording's entry."""

    recording_id: str
    number: int
    line: str
    gaps: list[Any] | None


def put(connection: sa.Connection, witnessed: Witnessed) -> None:
    """The newest entry counts."""
    connection.execute(sa.delete(table).where(table.c.recording_id == witnessed.recording_id))
    connection.execute(
        sa.insert(table).values(
            recording_id=witnessed.recording_id,
            number=witnessed.number,
            line=witnessed.line,
            gaps=sa.null() if witnessed.gaps is None else witnessed.gaps,
        )
    )


def find(connection: sa.Connection, recording_id: str) -> Witnessed | None:
    """The entry of a recording; None where none was written yet."""
    row = connection.execute(sa.select(table).where(table.c.recording_id == recording_id)).first()
    return None if row is None else Witnessed(row.recording_id, row.number, row.line, row.gaps)
