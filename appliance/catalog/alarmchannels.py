"""Channels of alarms in the catalogue, and how they fare."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from appliance.alarms.channel import Channel, Fares, as_json, from_json
from appliance.alarms.severity import Severity
from appliance.catalog import alarmoutbox, alarms, paging
from appliance.catalog.alarmtables import alarm_channels as table
from appliance.catalog.errors import AlarmChannelLimitError, AlarmChannelNotFoundError, EtagMismatchError
from appliance.catalog.records import etag_of

MAX_CHANNELS: Final = 20  # of the box, and of each tenant


def check_new(connection: sa.Connection, tenant_id: str) -> None:
    """AlarmChannelLimitError."""
    mine = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
    if connection.execute(mine).scalar_one() >= MAX_CHANNELS:
        raise AlarmChannelLimitError("there are as many channels as may be", limit=MAX_CHANNELS)


def add(connection: sa.Connection, channel: Channel) -> None:
    """AlarmChannelLimitError."""
    check_new(connection, channel.tenant_id)
    connection.execute(sa.insert(table).values(**_changing(channel), id=channel.id, **channel.fares.__dict__))


def update(connection: sa.Connection, channel: Channel, now_ns: int) -> None:
    """As it is now; what waits goes out by it at once, or not at all where it is disabled."""
    connection.execute(sa.update(table).where(table.c.id == channel.id).values(**_changing(channel)))
    if channel.enabled:
        alarmoutbox.release(connection, channel.id, now_ns)
    else:
        alarmoutbox.forget(connection, channel.id)
        alarms.clear_alarm(connection, alarmoutbox.CHANNEL_FAILING, channel.id, now_ns)


def delete(connection: sa.Connection, channel_id: str, now_ns: int) -> None:
    """With what waits for it, and with the alarm that it fails."""
    alarms.clear_alarm(connection, alarmoutbox.CHANNEL_FAILING, channel_id, now_ns)
    alarmoutbox.forget(connection, channel_id)
    connection.execute(sa.delete(table).where(table.c.id == channel_id))


def find(connection: sa.Connection, channel_id: str) -> Channel | None:
    row = connection.execute(sa.select(table).where(table.c.id == channel_id)).first()
    return None if row is None else channel_of(row)


def get(connection: sa.Connection, tenant_id: str | None, channel_id: str, etag: str = "") -> Channel:
    """One of a tenant (empty: of the box; None: of anybody); AlarmChannelNotFoundError, EtagMismatchError."""
    found = find(connection, channel_id)
    if found is None or tenant_id not in (None, found.tenant_id):
        raise AlarmChannelNotFoundError("no such channel", channel=channel_id)
    if etag not in ("", etag_of_channel(found)):
        raise EtagMismatchError("the channel changed since", field="etag")
    return found


def listed(
    connection: sa.Connection, tenant_id: str | None, limit: int, after: tuple[int, str] | None = None
) -> list[Channel]:
    """Of a tenant (None: of everybody), in the order they were made, after that one."""
    query = sa.select(table).order_by(table.c.create_ns, table.c.id).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = paging.beyond(query, table.c.create_ns, table.c.id, after)
    return [channel_of(row) for row in connection.execute(query)]


def mail_of(connection: sa.Connection, tenant_id: str) -> Channel | None:
    """By which mail to a tenant's people goes: the tenant's own, else the box's; of several the one made first."""
    query = sa.select(table).where(
        table.c.tenant_id.in_({"", tenant_id}), table.c.enabled, table.c.kind == "smtp"
    )
    row = connection.execute(query.order_by(table.c.tenant_id.desc(), table.c.create_ns, table.c.id)).first()
    return None if row is None else channel_of(row)


def delivered(connection: sa.Connection, channel_id: str, number: int, now_ns: int) -> None:
    """So many messages went out."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == channel_id)
        .values(
            failures=0,
            failure="",
            failure_ns=None,
            deliver_ns=now_ns,
            delivered=table.c.delivered + number,
        )
    )


def failed(connection: sa.Connection, channel_id: str, failure: str, given_up: int, now_ns: int) -> int:
    """It failed, and so many messages are given up; gives how often in a row."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == channel_id)
        .values(
            failures=table.c.failures + 1,
            failure=failure[:64],
            failure_ns=now_ns,
            given_up=table.c.given_up + given_up,
        )
    )
    return int(
        connection.execute(sa.select(table.c.failures).where(table.c.id == channel_id)).scalar_one_or_none()
        or 0
    )


def etag_of_channel(channel: Channel) -> str:
    """Changes with all that people change."""
    return etag_of(repr((channel.id, channel.change_ns)))


def _changing(channel: Channel) -> dict[str, Any]:
    return {
        "tenant_id": channel.tenant_id,
        "display_name": channel.display_name,
        "kind": channel.kind,
        "severity": channel.severity.value,
        "enabled": channel.enabled,
        "digest_hour": channel.digest_hour,
        "settings": as_json(channel.settings),
        "secret": channel.sealed,
        "create_ns": channel.create_ns,
        "change_ns": channel.change_ns,
    }


def channel_of(row: sa.Row[Any]) -> Channel:
    """A row of the table of channels."""
    return Channel(
        id=row.id,
        tenant_id=row.tenant_id,
        display_name=row.display_name,
        severity=Severity(row.severity),
        settings=from_json(row.kind, row.settings),
        create_ns=row.create_ns,
        change_ns=row.change_ns,
        enabled=row.enabled,
        digest_hour=row.digest_hour,
        sealed=row.secret,
        fares=Fares(
            row.failures,
            row.failure_ns,
            row.failure,
            row.deliver_ns,
            row.delivered,
            row.dropped,
            row.given_up,
        ),
    )
