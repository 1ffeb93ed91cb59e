"""Alarms, the channels they go out by, and what waits to be sent

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("raise_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("ack_ns", sa.BigInteger(), nullable=True),
        sa.Column("ack_by", sa.String(length=100), nullable=False),
        sa.Column("ack_note", sa.String(length=500), nullable=False),
        sa.Column("clear_ns", sa.BigInteger(), nullable=True),
        sa.Column("clear_by", sa.String(length=100), nullable=False),
        sa.Column("stands", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    with op.batch_alter_table("alarms", schema=None) as batch_op:
        batch_op.create_index("ix_alarms_kind_subject", ["kind", "subject"], unique=False)
        batch_op.create_index("ix_alarms_raise_ns", ["raise_ns", "id"], unique=False)
        batch_op.create_index("ix_alarms_tenant_id_raise_ns", ["tenant_id", "raise_ns", "id"], unique=False)
        batch_op.create_index("ix_alarms_clear_ns", ["clear_ns"], unique=False)
        batch_op.create_index("ix_alarms_stands", ["stands"], unique=False)
    op.create_table(
        "alarm_channels",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("digest_hour", sa.Integer(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("change_ns", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failure_ns", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.String(length=64), nullable=False),
        sa.Column("deliver_ns", sa.BigInteger(), nullable=True),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("given_up", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_channels")),
    )
    with op.batch_alter_table("alarm_channels", schema=None) as batch_op:
        batch_op.create_index(op.f("ix_alarm_channels_tenant_id"), ["tenant_id"], unique=False)
    op.create_table(
        "alarm_messages",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("channel_id", sa.String(length=26), nullable=False),
        sa.Column("alarm_id", sa.String(length=26), nullable=False),
        sa.Column("what", sa.String(length=12), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_ns", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Boolean(), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarms.id"], name=op.f("fk_alarm_messages_alarm_id_alarms")),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["alarm_channels.id"], name=op.f("fk_alarm_messages_channel_id_alarm_channels")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_messages")),
    )
    with op.batch_alter_table("alarm_messages", schema=None) as batch_op:
        batch_op.create_index(op.f("ix_alarm_messages_alarm_id"), ["alarm_id"], unique=False)
        batch_op.create_index("ix_alarm_messages_channel_id_due_ns", ["channel_id", "due_ns"], unique=False)


def downgrade() -> None:
    op.drop_table("alarm_messages")
    op.drop_table("alarm_channels")
    op.drop_table("alarms")
