"""Sealed sidecars of recordings: how far each was taken up; versions of notes

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_ID = sa.String(length=26)


def upgrade() -> None:
    op.add_column("notes", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.create_table(
        "sidecars",
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("last_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_sidecars")),
    )


def downgrade() -> None:
    op.drop_table("sidecars")
    with op.batch_alter_table("notes") as table:
        table.drop_column("version")
