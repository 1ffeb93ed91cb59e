"""Staff, notices, their versions, acknowledgements and links

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_ID: Any = sa.String(length=26)
_WHO: Any = sa.String(length=64).with_variant(sa.String(length=100), "postgresql")  # as in `tables`


def _column(name: str, kind: Any, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _of(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def upgrade() -> None:
    for name in ("unacknowledged_may_pause", "unacknowledged_may_read"):
        op.add_column("tenants", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column(
        "tenants", sa.Column("acknowledgement_years", sa.Integer(), nullable=False, server_default="6")
    )
    op.create_table(
        "staff",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("display_name", sa.String(length=100)),
        _column("email", sa.String(length=254)),
        _column("identity", _WHO),
        _column("numbers", sa.JSON()),
        _column("lines", sa.JSON()),
        _column("kind", sa.String(length=8)),
        _column("create_ns", sa.BigInteger()),
        _column("leave_ns", sa.BigInteger(), null=True),
        _column("forgotten", sa.Boolean()),
        _of("staff", "tenant_id", "tenants"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff")),
    )
    op.create_index("ix_staff_tenant_id_create_ns", "staff", ["tenant_id", "create_ns", "id"])
    op.create_index("ix_staff_identity", "staff", ["identity"])
    op.create_index("ix_staff_leave_ns", "staff", ["leave_ns"])
    op.create_table(
        "notices",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("display_name", sa.String(length=100)),
        _column("audience", sa.String(length=12)),
        _column("lines", sa.JSON()),
        _column("required", sa.Boolean()),
        _column("default_id", sa.String(length=40)),
        _column("create_ns", sa.BigInteger()),
        _column("archive_ns", sa.BigInteger(), null=True),
        _of("notices", "tenant_id", "tenants"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index("ix_notices_tenant_id_create_ns", "notices", ["tenant_id", "create_ns", "id"])
    op.create_table(
        "notice_versions",
        _column("notice_id", _ID),
        _column("version", sa.Integer()),
        _column("text", sa.Text()),
        _column("language", sa.String(length=35)),
        _column("anew", sa.Boolean()),
        _column("publish_ns", sa.BigInteger()),
        _column("create_ns", sa.BigInteger()),
        _column("author", _WHO),
        _column("cancel_ns", sa.BigInteger(), null=True),
        _column("reminded_days", sa.Integer()),
        _of("notice_versions", "notice_id", "notices"),
        sa.PrimaryKeyConstraint("notice_id", "version", name=op.f("pk_notice_versions")),
    )
    op.create_table(
        "acknowledgements",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("notice_id", _ID),
        _column("version", sa.Integer()),
        _column("text_sha256", sa.String(length=64)),
        _column("staff_id", _ID),
        _column("at_ns", sa.BigInteger()),
        _column("create_ns", sa.BigInteger()),
        _column("way", sa.String(length=8)),
        _column("evidence", sa.String(length=200)),
        _column("actor", _WHO),
        _column("withdraw_ns", sa.BigInteger(), null=True),
        _column("withdraw_actor", _WHO),
        _column("withdraw_reason", sa.String(length=200)),
        _of("acknowledgements", "notice_id", "notices"),
        _of("acknowledgements", "staff_id", "staff"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acknowledgements")),
    )
    for name, columns in (
        ("ix_acknowledgements_tenant_id_create_ns", ["tenant_id", "create_ns", "id"]),
        ("ix_acknowledgements_staff_id", ["staff_id", "notice_id", "version"]),
        ("ix_acknowledgements_notice_id", ["notice_id", "version"]),
    ):
        op.create_index(name, "acknowledgements", columns)
    op.create_table(
        "notice_links",
        _column("id", _ID),
        _column("tenant_id", _ID),
        _column("notice_id", _ID),
        _column("staff_id", _ID),
        _column("secret_sha256", sa.String(length=64)),
        _column("create_ns", sa.BigInteger()),
        _column("expire_ns", sa.BigInteger()),
        _column("use_ns", sa.BigInteger(), null=True),
        _of("notice_links", "notice_id", "notices"),
        _of("notice_links", "staff_id", "staff"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice_links")),
    )
    op.create_index("ix_notice_links_staff_id", "notice_links", ["staff_id"])
    op.create_index("ix_notice_links_expire_ns", "notice_links", ["expire_ns"])


def downgrade() -> None:
    for table in ("notice_links", "acknowledgements", "notice_versions", "notices", "staff"):
        op.drop_table(table)
    for column in ("acknowledgement_years", "unacknowledged_may_read", "unacknowledged_may_pause"):
        op.drop_column("tenants", column)
