"""Identities of a tenant are found by an index; who imported call records stands there by key

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_identities_tenant_id_name", "identities", ["tenant_id", "name"], unique=False)
    _lengthen(64, 100)


def downgrade() -> None:
    _lengthen(100, 64)
    op.drop_index("ix_identities_tenant_id_name", table_name="identities")


def _lengthen(before: int, after: int) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # holds to no length
    op.alter_column(
        "record_imports",
        "creator",
        existing_type=sa.String(length=before),
        type_=sa.String(length=after),
        existing_nullable=False,
    )
