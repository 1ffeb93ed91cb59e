"""Roles of tenants and of the box: an identity has several, and several certificates

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What the roles of older releases may do is what these may do together.
_ROLES = {
    "administrator": ["operator", "records-officer", "tenant-administrator"],
    "operator": ["operator", "records-officer", "supervisor"],
    "integration": ["integration"],
}


def upgrade() -> None:
    connection = op.get_bind()
    old = sa.table(
        "identities",
        *map(sa.column, ("fingerprint", "name", "role", "create_ns", "expire_ns", "revoke_ns")),
    )
    rows = connection.execute(sa.select(old).order_by(old.c.create_ns)).all()
    op.drop_index(op.f("ix_identities_name"), table_name="identities")
    op.drop_table("identities")
    identities = op.create_table(
        "identities",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("agent", sa.String(length=33), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_identities")),
    )
    certificates = op.create_table(
        "certificates",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("expire_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoke_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["name"], ["identities.name"], name=op.f("fk_certificates_name_identities")),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_certificates")),
    )
    op.create_index(op.f("ix_certificates_name"), "certificates", ["name"], unique=False)
    for row in {row.name: row for row in reversed(rows)}.values():
        connection.execute(
            sa.insert(identities).values(
                name=row.name, roles=_ROLES[row.role], tenant_id="", agent="", create_ns=row.create_ns
            )
        )
    for row in rows:
        connection.execute(
            sa.insert(certificates).values(
                fingerprint=row.fingerprint,
                name=row.name,
                create_ns=row.create_ns,
                expire_ns=row.expire_ns,
                revoke_ns=row.revoke_ns,
            )
        )


def downgrade() -> None:
    # Identities of tenants have no place in an older catalogue: they are left out, and nobody gets more than before.
    connection = op.get_bind()
    names = sa.table("identities", *map(sa.column, ("name", "roles", "tenant_id")))
    parts = sa.table(
        "certificates", *map(sa.column, ("fingerprint", "name", "create_ns", "expire_ns", "revoke_ns"))
    )
    known = {
        row.name: json.loads(row.roles) if isinstance(row.roles, str) else row.roles
        for row in connection.execute(sa.select(names).where(names.c.tenant_id == ""))
    }
    rows = connection.execute(sa.select(parts)).all()
    op.drop_table("certificates")
    op.drop_table("identities")
    identities = op.create_table(
        "identities",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("expire_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoke_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_identities")),
    )
    op.create_index(op.f("ix_identities_name"), "identities", ["name"], unique=False)
    for row in rows:
        role = next((old for old, new in _ROLES.items() if set(new) <= set(known.get(row.name, ()))), None)
        if role is not None:
            connection.execute(
                sa.insert(identities).values(
                    fingerprint=row.fingerprint,
                    name=row.name,
                    role=role,
                    create_ns=row.create_ns,
                    expire_ns=row.expire_ns,
                    revoke_ns=row.revoke_ns,
                )
            )
