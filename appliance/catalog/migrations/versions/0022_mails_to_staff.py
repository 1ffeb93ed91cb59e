"""Who of the staff is to be reminded of notices by mail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_ID = sa.String(length=26)


def upgrade() -> None:
    op.create_table(
        "notice_mails",
        sa.Column("staff_id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_ns", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"], name=op.f("fk_notice_mails_staff_id_staff")),
        sa.PrimaryKeyConstraint("staff_id", name=op.f("pk_notice_mails")),
    )
    op.create_index("ix_notice_mails_tenant_id_due_ns", "notice_mails", ["tenant_id", "due_ns"], unique=False)


def downgrade() -> None:
    op.drop_table("notice_mails")
