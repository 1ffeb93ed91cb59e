"""Policies are the vault's; certificates name their entry in the deletion log

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "line_policies",
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("grain", sa.String(length=8), nullable=False),
        sa.Column("grace_days", sa.Integer(), nullable=True),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("line_id", name=op.f("pk_line_policies")),
    )
    # What was said of a line, and was not what each line began with.
    op.execute(
        "INSERT INTO line_policies (line_id, tenant_id, grain, grace_days, who) "
        "SELECT id, tenant_id, CASE WHEN grain = 'day' THEN '' ELSE grain END, "
        "CASE WHEN grace_days = 30 THEN NULL ELSE grace_days END, 'update' "
        "FROM lines WHERE grain <> 'day' OR grace_days <> 30"
    )
    op.drop_column("lines", "grain")
    op.drop_column("lines", "grace_days")
    op.add_column("tombstones", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("tombstones", sa.Column("log_number", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("tombstones", sa.Column("replicas", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    for column in ("replicas", "log_number", "version"):
        op.drop_column("tombstones", column)
    op.add_column("lines", sa.Column("grain", sa.String(length=8), nullable=False, server_default="day"))
    op.add_column("lines", sa.Column("grace_days", sa.Integer(), nullable=False, server_default="30"))
    op.drop_table("line_policies")
