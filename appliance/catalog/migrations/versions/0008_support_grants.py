"""Support grants: what they cover, and each use

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("identities", sa.JSON(), nullable=False),
        sa.Column("requester", sa.String(length=64), nullable=False),
        sa.Column("request_ns", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(length=200), nullable=False),
        sa.Column("necessity", sa.String(length=1000), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("begin_ns", sa.BigInteger(), nullable=True),
        sa.Column("end_ns", sa.BigInteger(), nullable=False),
        sa.Column("max_reads", sa.Integer(), nullable=False),
        sa.Column("include_parties", sa.Boolean(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("approver", sa.String(length=64), nullable=False),
        sa.Column("approve_ns", sa.BigInteger(), nullable=True),
        sa.Column("ender", sa.String(length=64), nullable=False),
        sa.Column("end_reason", sa.String(length=200), nullable=False),
        sa.Column("ended_ns", sa.BigInteger(), nullable=True),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.Column("last_use_ns", sa.BigInteger(), nullable=True),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("keys_sealed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grants")),
    )
    op.create_index("ix_grants_tenant_id_request_ns", "grants", ["tenant_id", "request_ns", "id"])
    op.create_index("ix_grants_request_ns", "grants", ["request_ns", "id"])
    op.create_index("ix_grants_state", "grants", ["state"])
    op.create_table(
        "grant_recordings",
        sa.Column("grant_id", sa.String(length=26), nullable=False),
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["grants.id"], name=op.f("fk_grant_recordings_grant_id_grants")
        ),
        sa.PrimaryKeyConstraint("grant_id", "recording_id", name=op.f("pk_grant_recordings")),
    )
    op.create_index("ix_grant_recordings_recording_id", "grant_recordings", ["recording_id"])
    op.create_table(
        "grant_uses",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("grant_id", sa.String(length=26), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("format", sa.String(length=10), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(["grant_id"], ["grants.id"], name=op.f("fk_grant_uses_grant_id_grants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant_uses")),
    )
    op.create_index("ix_grant_uses_grant_id_at_ns", "grant_uses", ["grant_id", "at_ns", "id"])


def downgrade() -> None:
    for table in ("grant_uses", "grant_recordings", "grants"):
        op.drop_table(table)
