"""What restrictions leave the box to do (legal holds, erasures), and the copy of them beside the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from appliance.catalog import state, tables
from appliance.catalog.among import among
from appliance.catalog.database import erasing
from appliance.catalog.restrictions import IN_FORCE, SERIAL, Restriction, changed, restriction_of
from appliance.catalog.subjecttables import restricted
from appliance.catalog.subjecttables import restrictions as table

_c = table.c
_FORCE = sorted(one.value for one in IN_FORCE)


def holds_due(connection: sa.Connection, limit: int) -> list[tuple[Restriction, list[str]]]:
    """Restrictions that want a legal hold which does not have all of their recordings yet, with the next of those."""
    r = restricted.c
    unheld = sa.select(r.restriction_id).where(r.held.is_(False), _known())
    query = sa.select(table).where(
        _c.case_id != "",
        _c.state.in_(_FORCE),
        sa.or_(_c.hold == "due", _c.id.in_(unheld)),
    )
    found = []
    for row in connection.execute(query.order_by(_c.create_ns).limit(100)).all():
        ids = sa.select(r.recording_id).where(r.restriction_id == row.id, r.held.is_(False), _known())
        found.append((restriction_of(row), list(connection.execute(ids.limit(limit)).scalars())))
    return found


def held(connection: sa.Connection, restriction_id: str, recording_ids: Collection[str]) -> None:
    """The legal hold has these."""
    connection.execute(sa.update(table).where(_c.id == restriction_id, _c.hold == "due").values(hold="held"))
    r = restricted.c
    where = (r.restriction_id == restriction_id, among(connection, r.recording_id, sorted(recording_ids)))
    connection.execute(sa.update(restricted).where(*where).values(held=True))
    changed(connection)


def releases_due(connection: sa.Connection) -> list[Restriction]:
    """Restrictions that ended, whose legal hold is to be released."""
    query = sa.select(table).where(_c.hold == "release").order_by(_c.create_ns).limit(100)
    return [restriction_of(row) for row in connection.execute(query)]


def released(connection: sa.Connection, restriction_id: str) -> None:
    connection.execute(sa.update(table).where(_c.id == restriction_id).values(hold="released"))
    changed(connection)


def erase_all(connection: sa.Connection, restriction_id: str) -> None:
    """All that it covers now is to be erased."""
    connection.execute(
        sa.update(restricted).where(restricted.c.restriction_id == restriction_id).values(erase="due")
    )
    changed(connection)


def erase_none(connection: sa.Connection, restriction_id: str) -> None:
    """What was to be erased, and is there yet, stays."""
    where = (restricted.c.restriction_id == restriction_id, restricted.c.erase == "due")
    if connection.execute(sa.update(restricted).where(*where).values(erase="")).rowcount:
        changed(connection)


def erase_is_due(connection: sa.Connection, recording_id: str, restriction_id: str) -> bool:
    """Whether it is still to be erased: it may have been decided otherwise."""
    r = restricted.c
    where = (r.recording_id == recording_id, r.restriction_id == restriction_id, r.erase == "due")
    return connection.execute(sa.select(sa.literal(1)).where(*where)).first() is not None


def erasures_due(connection: sa.Connection, limit: int) -> list[tuple[str, Restriction]]:
    """Recordings that are to be erased, with why."""
    query = (
        sa.select(restricted.c.recording_id, table)
        .join(table, _c.id == restricted.c.restriction_id)
        .where(restricted.c.erase == "due", _known())
        .order_by(restricted.c.recording_id)
        .limit(limit)
    )
    return [(row.recording_id, restriction_of(row)) for row in connection.execute(query)]


def erase_refused(connection: sa.Connection, recording_id: str) -> None:
    """It cannot be erased, as a legal hold keeps it: it stays restricted."""
    where = (restricted.c.recording_id == recording_id, restricted.c.erase == "due")
    connection.execute(sa.update(restricted).where(*where).values(erase="kept"))
    changed(connection)


def _known() -> sa.ColumnElement[bool]:
    """What the vault does not hold, or is not taken up yet, stays restricted, and nothing can be done with it."""
    return sa.exists().where(tables.recordings.c.id == restricted.c.recording_id)


def dump(connection: sa.Connection) -> dict[str, Any]:
    """All of it, as plain values."""
    return {
        "serial": state.get_int(connection, SERIAL),
        "restrictions": [dict(row._mapping) for row in connection.execute(sa.select(table).order_by(_c.id))],
        "restricted": [
            list(row)
            for row in connection.execute(
                sa.select(restricted).order_by(restricted.c.recording_id, restricted.c.restriction_id)
            )
        ],
    }


def load(connection: sa.Connection, kept: Mapping[str, Any]) -> None:
    """As a copy says, in place of what the catalogue says."""
    connection.execute(sa.delete(restricted))
    connection.execute(sa.delete(table))
    if kept["restrictions"]:
        connection.execute(sa.insert(table), list(kept["restrictions"]))
    names = [column.name for column in restricted.columns]
    rows = [dict(zip(names, row, strict=True)) for row in kept["restricted"]]
    for begin in range(0, len(rows), 500):
        connection.execute(sa.insert(restricted), rows[begin : begin + 500])
    state.put_int(connection, SERIAL, int(kept["serial"]))
    erasing(connection)  # of words that the copy does not have any more
