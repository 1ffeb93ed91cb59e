"""Long work: operations that go on after a restart

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("cursor", sa.String(length=64), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("creator", sa.String(length=64), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("update_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.create_index("ix_operations_create_ns", ["create_ns", "id"], unique=False)
        batch_op.create_index("ix_operations_state", ["state", "create_ns"], unique=False)


def downgrade() -> None:
    op.drop_table("operations")
