"""How channels fare with what goes out by them; one that fails again and again is an alarm itself."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.alarms import schedule
from appliance.alarms.channel import Channel
from appliance.catalog import alarmchannels, alarms
from appliance.catalog.alarmoutbox import CHANNEL_FAILING


def delivered(connection: sa.Connection, channel: Channel, number: int, now_ns: int) -> None:
    """So many messages went out."""
    alarmchannels.delivered(connection, channel.id, number, now_ns)
    alarms.clear_alarm(connection, CHANNEL_FAILING, channel.id, now_ns)


def failed(connection: sa.Connection, channel: Channel, failure: str, given_up: int, now_ns: int) -> None:
    """It failed, for this reason, and so many messages are given up."""
    if alarmchannels.failed(connection, channel.id, failure, given_up, now_ns) == schedule.TELL_AFTER:
        alarms.raise_alarm(
            connection, CHANNEL_FAILING, channel.id, channel.tenant_id, now_ns, {"failure": failure}
        )
