"""Credentials of identities: subjects of an identity provider, passphrases with a second factor, sessions

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _name(table: str, *, primary_key: bool) -> list[sa.schema.SchemaItem]:
    column = sa.Column("name", sa.String(length=64), nullable=False)
    foreign = sa.ForeignKeyConstraint(["name"], ["identities.name"], name=op.f(f"fk_{table}_name_identities"))
    keys = [sa.PrimaryKeyConstraint("name", name=op.f(f"pk_{table}"))] if primary_key else []
    return [column, foreign, *keys]


def upgrade() -> None:
    op.add_column("identities", sa.Column("creator", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("identities", sa.Column("disable_ns", sa.BigInteger(), nullable=True))
    op.add_column("certificates", sa.Column("der", sa.LargeBinary(), nullable=True))
    op.add_column("certificates", sa.Column("warned_days", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "certificates", sa.Column("renewed_from", sa.String(length=64), nullable=False, server_default="")
    )
    op.create_index(op.f("ix_certificates_renewed_from"), "certificates", ["renewed_from"], unique=False)
    op.create_table(
        "subjects",
        sa.Column("issuer", sa.String(length=500), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        *_name("subjects", primary_key=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_subjects")),
    )
    op.create_index(op.f("ix_subjects_name"), "subjects", ["name"], unique=False)
    op.create_table(
        "passphrases",
        *_name("passphrases", primary_key=True),
        sa.Column("hash", sa.String(length=300), nullable=True),
        sa.Column("factor", sa.LargeBinary(), nullable=True),
        sa.Column("used_step", sa.BigInteger(), nullable=False),
        sa.Column("enrol_hash", sa.String(length=64), nullable=True),
        sa.Column("enrol_until_ns", sa.BigInteger(), nullable=False),
        sa.Column("change_ns", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "recovery_codes",
        *_name("recovery_codes", primary_key=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("use_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", "hash", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "sources",
        *_name("sources", primary_key=False),
        sa.Column("network", sa.String(length=32), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "network", name=op.f("pk_sources")),
    )
    op.create_index(op.f("ix_sources_seen_ns"), "sources", ["seen_ns"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("expire_ns", sa.BigInteger(), nullable=False),
        *_name("sessions", primary_key=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("hash", name=op.f("uq_sessions_hash")),
    )
    op.create_index(op.f("ix_sessions_name"), "sessions", ["name"], unique=False)
    op.create_index(op.f("ix_sessions_expire_ns"), "sessions", ["expire_ns"], unique=False)
    with op.batch_alter_table("requests") as batch_op:
        batch_op.alter_column("subject", existing_type=sa.String(length=26), type_=sa.String(length=64))


def downgrade() -> None:
    op.execute(sa.text("DELETE FROM requests WHERE length(subject) > 26"))
    with op.batch_alter_table("requests") as batch_op:
        batch_op.alter_column("subject", existing_type=sa.String(length=64), type_=sa.String(length=26))
    for table in ("sessions", "sources", "recovery_codes", "passphrases", "subjects"):
        op.drop_table(table)
    op.drop_index(op.f("ix_certificates_renewed_from"), table_name="certificates")
    op.drop_column("certificates", "renewed_from")
    op.drop_column("certificates", "warned_days")
    op.drop_column("certificates", "der")
    # An older release knows no disabled identities: their certificates are revoked, so that nobody gets in again.
    op.execute(
        sa.text(
            "UPDATE certificates SET revoke_ns = (SELECT disable_ns FROM identities WHERE identities.name ="
            " certificates.name) WHERE revoke_ns IS NULL AND name IN (SELECT name FROM identities WHERE"
            " disable_ns IS NOT NULL)"
        )
    )
    op.drop_column("identities", "disable_ns")
    op.drop_column("identities", "creator")
