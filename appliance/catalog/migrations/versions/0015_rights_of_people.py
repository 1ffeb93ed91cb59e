"""Restrictions and objections, requests for access, packs

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ID = sa.String(length=26)
_TABLES = (
    "subject_pack_recordings",
    "subject_packs",
    "subject_choices",
    "subject_requests",
    "restricted",
    "restrictions",
)


def _column(name: str, kind: Any, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def upgrade() -> None:
    op.create_table(
        "restrictions",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("ground", sa.String(length=16)),
        _column("state", sa.String(length=12)),
        _column("number", sa.String(length=33)),
        _column("from_ns", sa.BigInteger(), null=True),
        _column("to_ns", sa.BigInteger(), null=True),
        _column("reason", sa.String(length=300)),
        _column("case_id", sa.String(length=26)),
        _column("hold", sa.String(length=8)),
        _column("create_ns", sa.BigInteger()),
        _column("end_ns", sa.BigInteger(), null=True),
        _column("history", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restrictions")),
    )
    op.create_index("ix_restrictions_tenant_id_create_ns", "restrictions", ["tenant_id", "create_ns", "id"])
    op.create_index("ix_restrictions_number", "restrictions", ["number", "tenant_id"])
    op.create_table(
        "restricted",
        _column("recording_id", _ID),
        _column("restriction_id", _ID),
        _column("held", sa.Boolean()),
        _column("erase", sa.String(length=8)),
        sa.ForeignKeyConstraint(
            ["restriction_id"], ["restrictions.id"], name=op.f("fk_restricted_restriction_id_restrictions")
        ),
        sa.PrimaryKeyConstraint("recording_id", "restriction_id", name=op.f("pk_restricted")),
    )
    op.create_index(op.f("ix_restricted_restriction_id"), "restricted", ["restriction_id"])
    op.create_table(
        "subject_requests",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("reference", sa.String(length=100)),
        _column("receive_date", sa.String(length=10)),
        _column("identification", sa.String(length=1000)),
        _column("numbers", sa.JSON()),
        _column("from_ns", sa.BigInteger(), null=True),
        _column("to_ns", sa.BigInteger(), null=True),
        _column("handler", sa.String(length=100)),
        _column("nation", sa.String(length=3)),
        _column("state", sa.String(length=12)),
        _column("before", sa.String(length=12)),
        _column("stops", sa.JSON()),
        _column("extension_reason", sa.String(length=300)),
        _column("close_reason", sa.String(length=300)),
        _column("reminded", sa.String(length=16)),
        _column("create_ns", sa.BigInteger()),
        _column("close_ns", sa.BigInteger(), null=True),
        _column("history", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_requests")),
    )
    op.create_index(
        "ix_subject_requests_tenant_id_create_ns", "subject_requests", ["tenant_id", "create_ns", "id"]
    )
    op.create_index("ix_subject_requests_close_ns", "subject_requests", ["close_ns"])
    op.create_table(
        "subject_choices",
        _column("request_id", _ID),
        _column("recording_id", _ID),
        _column("give", sa.Boolean()),
        _column("mutes", sa.JSON()),
        _column("ground", sa.String(length=24)),
        _column("text", sa.String(length=300)),
        _column("untold", sa.Boolean()),
        _column("exception", sa.String(length=24)),
        _column("actor", sa.String(length=100)),
        _column("at_ns", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["subject_requests.id"],
            name=op.f("fk_subject_choices_request_id_subject_requests"),
        ),
        sa.PrimaryKeyConstraint("request_id", "recording_id", name=op.f("pk_subject_choices")),
    )
    op.create_index(op.f("ix_subject_choices_recording_id"), "subject_choices", ["recording_id"])
    op.create_table(
        "subject_packs",
        _column("id", _ID),
        _column("request_id", _ID),
        _column("tenant_id", _ID),
        _column("operation_id", _ID),
        _column("state", sa.String(length=12)),
        _column("size", sa.BigInteger()),
        _column("sha256", sa.String(length=64)),
        _column("secret", sa.LargeBinary(), null=True),
        _column("keep_days", sa.Integer()),
        _column("create_ns", sa.BigInteger()),
        _column("expire_ns", sa.BigInteger(), null=True),
        _column("end_reason", sa.String(length=64)),
        _column("creator", sa.String(length=100)),
        _column("downloads", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subject_packs")),
    )
    op.create_index("ix_subject_packs_request_id", "subject_packs", ["request_id", "create_ns", "id"])
    op.create_index("ix_subject_packs_state", "subject_packs", ["state", "expire_ns"])
    op.create_table(
        "subject_pack_recordings",
        _column("pack_id", _ID),
        _column("recording_id", _ID),
        _column("exception", sa.String(length=24)),
        sa.ForeignKeyConstraint(
            ["pack_id"], ["subject_packs.id"], name=op.f("fk_subject_pack_recordings_pack_id_subject_packs")
        ),
        sa.PrimaryKeyConstraint("pack_id", "recording_id", name=op.f("pk_subject_pack_recordings")),
    )
    op.create_index(
        op.f("ix_subject_pack_recordings_recording_id"), "subject_pack_recordings", ["recording_id"]
    )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
