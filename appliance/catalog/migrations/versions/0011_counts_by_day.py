"""An index that has all that counts by day need

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_recordings_count", "recordings", ["tenant_id", "start_ns", "state", "duration_ns"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_recordings_count", table_name="recordings")
