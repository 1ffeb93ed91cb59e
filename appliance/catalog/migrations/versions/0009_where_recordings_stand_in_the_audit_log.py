"""Where recordings stand in the audit log

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "witnessed",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.String(length=4096), nullable=False),
        sa.Column("gaps", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_witnessed")),
    )


def downgrade() -> None:
    op.drop_table("witnessed")
