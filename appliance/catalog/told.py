"""What was last told of live calls and conditions: changes become events, once, also across a restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.catalog import events, tables
from appliance.catalog.events import Event, EventType

_live = tables.live_calls
_conditions = tables.conditions
ENDED = "ENDED"


@dataclass(frozen=True)
class Told:
    """A live call as an event tells it."""

    call_id: str
    tenant_id: str
    line_id: str
    state: str


def call(connection: sa.Connection, now: Told, changed: bool, at_ns: int) -> bool:
    """Tell of a call as it is now; `changed`: also where its state is as before. Gives whether there was an event."""
    row = connection.execute(sa.select(_live.c.state).where(_live.c.id == now.call_id)).first()
    if now.state == ENDED:
        if row is None:
            return False
        connection.execute(sa.delete(_live).where(_live.c.id == now.call_id))
        kind = EventType.CALL_ENDED
    elif row is None:
        connection.execute(
            sa.insert(_live).values(
                id=now.call_id, tenant_id=now.tenant_id, line_id=now.line_id, state=now.state
            )
        )
        kind = EventType.CALL_STARTED
    elif row.state != now.state or changed:
        connection.execute(
            sa.update(_live).where(_live.c.id == now.call_id).values(line_id=now.line_id, state=now.state)
        )
        kind = EventType.CALL_CHANGED
    else:
        return False
    events.append(
        connection,
        Event(kind, at_ns, now.call_id, tenant_id=now.tenant_id, line_id=now.line_id, state=now.state),
    )
    return True


def calls_gone(connection: sa.Connection, alive: Iterable[str], at_ns: int) -> int:
    """Tell the end of every call that was told of and is not alive any more; gives how many."""
    living = set(alive)
    gone = [row for row in connection.execute(sa.select(_live)) if row.id not in living]
    for row in gone:
        call(connection, Told(row.id, row.tenant_id, row.line_id, ENDED), True, at_ns)
    return len(gone)


def differ(connection: sa.Connection, present: dict[tuple[str, str], str], processes: Iterable[str]) -> bool:
    """Whether `conditions` would have anything to tell."""
    return _told_of(connection, processes) != set(present)


def conditions(
    connection: sa.Connection, present: dict[tuple[str, str], str], processes: Iterable[str], at_ns: int
) -> int:
    """Tell what was raised and what is over, of these processes; gives how many events there were.

    `present`: message by process and type.
    """
    before = _told_of(connection, processes)
    raised = [key for key in present if key not in before]
    cleared = [key for key in before if key not in present]
    for process, kind in raised:
        connection.execute(sa.insert(_conditions).values(process=process, type=kind))
        message = present[process, kind]
        events.append(
            connection, Event(EventType.CONDITION_RAISED, at_ns, process, state=kind, message=message)
        )
    for process, kind in cleared:
        connection.execute(
            sa.delete(_conditions).where(_conditions.c.process == process, _conditions.c.type == kind)
        )
        events.append(connection, Event(EventType.CONDITION_CLEARED, at_ns, process, state=kind))
    return len(raised) + len(cleared)


def _told_of(connection: sa.Connection, processes: Iterable[str]) -> set[tuple[str, str]]:
    asked = set(processes)
    return {
        (row.process, row.type) for row in connection.execute(sa.select(_conditions)) if row.process in asked
    }
