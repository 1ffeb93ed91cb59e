"""Tables of alarms, of the channels they go out by, and of what is still to be sent.

Alarms hold opaque ids, stable words and numbers; notes of acknowledgements are taken for no more than what they say about
the box. Addresses of channels are of whoever wants alarms; secrets lie sealed under control/identities.key.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, metadata

alarms = sa.Table(
    "alarms",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("severity", sa.String(8), nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    sa.Column("tenant_id", sa.String(26), nullable=False),  # empty: of the box
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("raise_ns", sa.BigInteger, nullable=False),
    sa.Column("seen_ns", sa.BigInteger, nullable=False),  # when it was last raised
    sa.Column("count", sa.BigInteger, nullable=False),  # how often it was raised
    sa.Column("ack_ns", sa.BigInteger),
    sa.Column("ack_by", sa.String(100), nullable=False),
    sa.Column("ack_note", sa.String(500), nullable=False),
    sa.Column("clear_ns", sa.BigInteger),
    sa.Column("clear_by", sa.String(100), nullable=False),  # empty: its cause is gone
    sa.Column(
        "stands", sa.Boolean, nullable=False
    ),  # the cause, as far as is known, whoever cleared the alarm
    sa.Index("ix_alarms_kind_subject", "kind", "subject"),
    sa.Index("ix_alarms_raise_ns", "raise_ns", "id"),
    sa.Index("ix_alarms_tenant_id_raise_ns", "tenant_id", "raise_ns", "id"),
    sa.Index("ix_alarms_clear_ns", "clear_ns"),
    sa.Index("ix_alarms_stands", "stands"),
)

alarm_channels = sa.Table(
    "alarm_channels",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.String(26), nullable=False, index=True),  # empty: of the box
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),  # smtp, webhook, syslog
    sa.Column("severity", sa.String(8), nullable=False),  # the least that goes out
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("digest_hour", sa.Integer),  # of the day, in UTC; NULL: notices go out one by one
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("secret", sa.LargeBinary),  # sealed
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("change_ns", sa.BigInteger, nullable=False),
    # How it fares.
    sa.Column("failures", sa.Integer, nullable=False),  # since it last delivered something
    sa.Column("failure_ns", sa.BigInteger),
    sa.Column("failure", sa.String(64), nullable=False),  # reason
    sa.Column("deliver_ns", sa.BigInteger),
    sa.Column("delivered", sa.BigInteger, nullable=False),
    sa.Column("dropped", sa.BigInteger, nullable=False),  # as too many waited
    sa.Column("given_up", sa.BigInteger, nullable=False),  # as a day was over
)

alarm_messages = sa.Table(
    "alarm_messages",
    metadata,
    sa.Column("id", Id, primary_key=True),  # who gets it twice knows it by this
    sa.Column("channel_id", Id, sa.ForeignKey("alarm_channels.id"), nullable=False),
    sa.Column("alarm_id", Id, sa.ForeignKey("alarms.id"), nullable=False, index=True),
    sa.Column("what", sa.String(12), nullable=False),  # raised, escalated, cleared
    sa.Column("severity", sa.String(8), nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("due_ns", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("digest", sa.Boolean, nullable=False),
    sa.Column("recipients", sa.JSON, nullable=False),  # who is still to get it; empty: all
    sa.Index("ix_alarm_messages_channel_id_due_ns", "channel_id", "due_ns"),
)
