"""Call records of switchboards, and completeness by day

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ID = sa.String(length=26)


def _column(name: str, kind: Any, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def upgrade() -> None:
    op.create_table(
        "record_sources",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("display_name", sa.String(length=100)),
        _column("map", sa.JSON()),
        _column("line_id", _ID),
        _column("least_talk_ns", sa.BigInteger()),
        _column("create_ns", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("fk_record_sources_tenant_id_tenants")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record_sources")),
    )
    op.create_index(op.f("ix_record_sources_tenant_id"), "record_sources", ["tenant_id"])
    op.create_table(
        "record_imports",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("source_id", _ID),
        _column("create_ns", sa.BigInteger()),
        _column("creator", sa.String(length=64)),
        _column("sha256", sa.String(length=64)),
        *(_column(name, sa.Integer()) for name in ("rows", "fresh", "repeated", "old", "broken")),
        _column("problems", sa.JSON()),
        _column("repeats", _ID),
        _column("shift", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record_imports")),
    )
    op.create_index(
        "ix_record_imports_tenant_id_create_ns", "record_imports", ["tenant_id", "create_ns", "id"]
    )
    op.create_table(
        "call_records",
        *(_column(name, _ID) for name in ("id", "tenant_id", "source_id", "import_id")),
        _column("digest", sa.String(length=32)),
        _column("start_ns", sa.BigInteger()),
        _column("answer_ns", sa.BigInteger(), null=True),
        _column("talk_ns", sa.BigInteger()),
        _column("direction", sa.String(length=10)),
        _column("line_id", _ID),
        _column("why", _ID),
        *(_column(name, sa.String(length=64)) for name in ("from_number", "to_number", "extension")),
        _column("own", sa.Integer()),
        _column("call_id", sa.String(length=200)),
        _column("outcome", sa.String(length=16)),
        _column("recording_id", _ID),
        _column("pinned", sa.Boolean()),
        _column("off_ns", sa.BigInteger()),
        _column("detail", sa.String(length=40)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_call_records")),
        sa.UniqueConstraint("tenant_id", "digest", name=op.f("uq_call_records_tenant_id_digest")),
    )
    op.create_index("ix_call_records_tenant_id_start_ns", "call_records", ["tenant_id", "start_ns", "id"])
    op.create_index("ix_call_records_start_ns", "call_records", ["start_ns"])
    op.create_index("ix_call_records_recording_id", "call_records", ["recording_id"])
    op.create_table(
        "completeness_days",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("day", sa.String(length=10)),
        _column("state", sa.String(length=12)),
        _column("revision", sa.Integer()),
        _column("make_ns", sa.BigInteger()),
        *(_column(name, sa.Integer()) for name in ("expected", "missing", "faults")),
        _column("outcomes", sa.JSON()),
        _column("uncovered", sa.Integer()),
        _column("shift", sa.JSON()),
        _column("report", sa.Text()),
        _column("signature", sa.Text()),
        _column("seen", sa.String(length=100)),
        _column("due_ns", sa.BigInteger(), null=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completeness_days")),
        sa.UniqueConstraint("tenant_id", "day", name=op.f("uq_completeness_days_tenant_id_day")),
    )
    op.create_index("ix_completeness_days_due_ns", "completeness_days", ["due_ns"])


def downgrade() -> None:
    for table in ("completeness_days", "call_records", "record_imports", "record_sources"):
        op.drop_table(table)
