"""Names of identities are unique in their tenant

Revision ID: 0012
Revises: 0011

An identity of a tenant is kept by its key, {tenant}/{name}, wherever its name stood. Second factors are sealed for it at
the next start, as the key for that is not in the catalogue.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_OWN = [
    (name, "name")
    for name in ("certificates", "subjects", "passphrases", "recovery_codes", "sources", "sessions")
]
_WRITTEN = [
    ("identities", "creator"),
    ("line_policies", "who"),
    ("requests", "identity"),
    ("versions", "who"),
    ("reads", "identity"),
    ("notes", "author"),
    ("notes", "editor"),
    ("recording_tags", "author"),
    ("grants", "requester"),
    ("grants", "approver"),
    ("grants", "ender"),
    ("grant_uses", "identity"),
    ("operations", "creator"),
]
_FIELDS = "roles, tenant_id, agent, create_ns, creator, disable_ns"


def upgrade() -> None:
    _lengthen(64, 100)
    _rename("identities.tenant_id || '/' || identities.name", "tenant_id <> '' AND name NOT LIKE '%/%'")
    op.execute(
        sa.text(
            "UPDATE events SET subject = tenant_id || '/' || subject"
            " WHERE type = 'certificate-expiring' AND tenant_id <> '' AND subject NOT LIKE '%/%'"
        )
    )


def downgrade() -> None:
    """Names are one space again: what is there twice gets a part of its tenant's id."""
    op.execute(
        sa.text(
            "UPDATE events SET subject = substr(subject, 28)"
            " WHERE type = 'certificate-expiring' AND subject LIKE '%/%'"
        )
    )
    alone = (
        "(SELECT count(*) FROM identities AS others WHERE others.name = substr(identities.name, 28)"
        " OR others.name LIKE '%/' || substr(identities.name, 28)) = 1"
    )
    bare = "substr(identities.name, 28)"
    other = "substr(identities.name, 28, 50) || '-' || substr(identities.name, 1, 13)"
    _rename(f"CASE WHEN {alone} THEN {bare} ELSE {other} END", "name LIKE '%/%'")
    op.execute(sa.text("DELETE FROM requests WHERE length(subject) > 64"))
    _lengthen(100, 64)


def _rename(name: str, which: str) -> None:
    """Nothing of an identity may point at a name that is not there: made anew, pointed at, and the old one dropped."""
    op.execute(
        sa.text(
            "CREATE TEMPORARY TABLE renamed AS"
            f" SELECT name AS old_name, {name} AS new_name FROM identities WHERE {which}"
        )
    )
    op.execute(sa.text("CREATE INDEX renamed_old_name ON renamed (old_name)"))
    op.execute(
        sa.text(
            f"INSERT INTO identities (name, {_FIELDS})"
            f" SELECT new_name, {_FIELDS} FROM identities JOIN renamed ON old_name = name"
        )
    )
    for table, column in (*_OWN, *_WRITTEN):
        op.execute(
            sa.text(
                f"UPDATE {table} SET {column} = (SELECT new_name FROM renamed WHERE old_name = {column})"
                f" WHERE {column} IN (SELECT old_name FROM renamed)"
            )
        )
    op.execute(sa.text("DELETE FROM identities WHERE name IN (SELECT old_name FROM renamed)"))
    op.execute(sa.text("DROP TABLE renamed"))


def _lengthen(before: int, after: int) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return  # holds to no length
    for table, column in (("identities", "name"), ("requests", "subject"), *_OWN, *_WRITTEN):
        op.alter_column(
            table,
            column,
            existing_type=sa.String(length=before),
            type_=sa.String(length=after),
            existing_nullable=False,
        )
