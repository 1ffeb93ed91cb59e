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

_NAME = "ix_recordings_tenant_id_start_ns"


def upgrade() -> None:
    op.drop_index(_NAME, table_name="recordings")
    op.create_index(
        _NAME, "recordings", ["tenant_id", "start_ns", "id", "state", "duration_ns"], unique=False
    )


def downgrade() -> None:
    op.drop_index(_NAME, table_name="recordings")
    op.create_index(_NAME, "recordings", ["tenant_id", "start_ns", "id"], unique=False)
