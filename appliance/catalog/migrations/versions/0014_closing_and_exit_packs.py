"""Closing tenants and lines, and their exit packs

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "closings",
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("begin_ns", sa.BigInteger(), nullable=False),
        sa.Column("notice_ns", sa.BigInteger(), nullable=False),
        sa.Column("close_ns", sa.BigInteger(), nullable=True),
        sa.Column("empty_ns", sa.BigInteger(), nullable=True),
        sa.Column("reminded_days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "line_id", name=op.f("pk_closings")),
    )
    op.create_table(
        "exit_packs",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("everything", sa.Boolean(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("recordings", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("problems", sa.BigInteger(), nullable=False),
        sa.Column("tombstones", sa.BigInteger(), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exit_packs")),
    )
    with op.batch_alter_table("exit_packs", schema=None) as batch_op:
        batch_op.create_index("ix_exit_packs_state", ["state"], unique=False)
        batch_op.create_index(
            "ix_exit_packs_tenant_id_create_ns", ["tenant_id", "create_ns", "id"], unique=False
        )


def downgrade() -> None:
    op.drop_table("exit_packs")
    op.drop_table("closings")
