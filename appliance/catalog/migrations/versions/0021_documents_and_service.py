"""Documents that were made, how the box served, planned work

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_ID = sa.String(length=26)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WHO = sa.String(length=64).with_variant(sa.String(length=100), "postgresql")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("make_ns", sa.BigInteger(), nullable=False),
        sa.Column("who", _WHO, nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=True),
        sa.Column("until_ns", sa.BigInteger(), nullable=True),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("people", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("signature", sa.String(length=2000), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
    )
    op.create_index("ix_documents_make_ns", "documents", ["make_ns", "id"], unique=False)
    op.create_index(
        "ix_documents_tenant_id_make_ns", "documents", ["tenant_id", "make_ns", "id"], unique=False
    )
    op.create_table(
        "served",
        sa.Column("no", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("begin_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(length=12), nullable=False),
        sa.Column("follows", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_served")),
    )
    op.create_index(op.f("ix_served_end_ns"), "served", ["end_ns"], unique=False)
    op.create_table(
        "planned_work",
        sa.Column("id", _ID, nullable=False),
        sa.Column("begin_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        sa.Column("who", _WHO, nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planned_work")),
    )
    op.create_index("ix_planned_work_begin_ns", "planned_work", ["begin_ns", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("planned_work")
    op.drop_table("served")
    op.drop_table("documents")
