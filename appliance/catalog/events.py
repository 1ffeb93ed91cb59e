"""The events feed: appended in the transaction of what happened, read by number."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.catalog import state
from appliance.catalog.errors import ResumeTokenExpiredError
from appliance.catalog.tables import events as table

KEEP_NS: Final = 7 * 86400 * 10**9
_PRUNED = "events-pruned"  # the greatest number that is no longer kept


class EventType(enum.StrEnum):
    """What happened."""

    CALL_STARTED = "call-started"
    CALL_CHANGED = "call-changed"
    CALL_ENDED = "call-ended"
    RECORDING_FILED = "recording-filed"
    RECORDING_DELETED = "recording-deleted"
    RECORDING_UNDELETED = "recording-undeleted"
    RECORDING_ERASED = "recording-erased"
    RECORDING_QUARANTINED = "recording-quarantined"
    CONDITION_RAISED = "condition-raised"
    CONDITION_CLEARED = "condition-cleared"
    CALL_ACTION = "call-action"
    GRANT_REQUESTED = "grant-requested"
    GRANT_APPROVED = "grant-approved"
    GRANT_DENIED = "grant-denied"
    GRANT_USED = "grant-used"
    GRANT_USED_UP = "grant-used-up"
    GRANT_REVOKED = "grant-revoked"
    GRANT_EXPIRED = "grant-expired"
    CERTIFICATE_EXPIRING = "certificate-expiring"
    ALARM_RAISED = "alarm-raised"
    ALARM_ACKNOWLEDGED = "alarm-acknowledged"
    ALARM_CLEARED = "alarm-cleared"
    CLOSING_BEGUN = "closing-begun"
    CLOSING_CANCELLED = "closing-cancelled"
    SERVICE_CLOSED = "service-closed"
    SERVICE_EMPTY = "service-empty"
    SERVICE_REOPENED = "service-reopened"
    EXIT_PACK_MADE = "exit-pack-made"


@dataclass(frozen=True)
class Event:
    """One event. No personal data: `subject` is an opaque id, or a process's name for conditions."""

    type: EventType
    at_ns: int
    subject: str
    tenant_id: str = ""
    line_id: str = ""
    state: str = ""
    message: str = ""
    seq: int = 0


def append(connection: sa.Connection, event: Event) -> int:
    """Add an event to the feed; gives its number."""
    result = connection.execute(
        sa.insert(table).values(
            at_ns=event.at_ns,
            type=event.type.value,
            subject=event.subject[:100],
            tenant_id=event.tenant_id,
            line_id=event.line_id,
            state=event.state[:64],
            message=event.message[:500],
        )
    )
    key = result.inserted_primary_key
    if key is None:
        raise AssertionError("the database did not say which number it gave")
    return int(key[0])


def head(connection: sa.Connection) -> int:
    """Number of the newest event, kept or not."""
    newest = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar()
    return state.get_int(connection, _PRUNED) if newest is None else int(newest)


def oldest(connection: sa.Connection) -> int:
    """The number after which everything is kept."""
    return state.get_int(connection, _PRUNED)


def after(
    connection: sa.Connection,
    seq: int,
    *,
    tenant_id: str | None = None,
    types: Collection[EventType] = (),
    limit: int = 500,
) -> tuple[list[Event], int]:
    """Events after a number, oldest first, and the number up to which all were looked at.

    ResumeTokenExpiredError where events after `seq` are no longer kept.
    """
    if seq < oldest(connection):
        raise ResumeTokenExpiredError("events after this token are no longer kept")
    query = sa.select(table).where(table.c.seq > seq).order_by(table.c.seq).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    if types:
        query = query.where(table.c.type.in_([kind.value for kind in types]))
    top = head(connection)
    found = [
        Event(
            EventType(row.type),
            row.at_ns,
            row.subject,
            row.tenant_id,
            row.line_id,
            row.state,
            row.message,
            row.seq,
        )
        for row in connection.execute(query)
    ]
    return found, found[-1].seq if len(found) == limit else max(top, seq)


def prune(connection: sa.Connection, before_ns: int) -> int:
    """Forget events older than that; gives how many. Only a run from the oldest on goes, so that no gap arises."""
    keep_from = connection.execute(
        sa.select(sa.func.min(table.c.seq)).where(table.c.at_ns >= before_ns)
    ).scalar()
    last = head(connection) if keep_from is None else int(keep_from) - 1
    gone = connection.execute(sa.delete(table).where(table.c.seq <= last)).rowcount
    if gone:
        state.put_int(connection, _PRUNED, last)
    return gone
