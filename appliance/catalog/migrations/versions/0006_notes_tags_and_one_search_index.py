"""Notes and tags, and one search index in place of several

Revision ID: 0006
Revises: 0005

The index is filled by `reindex`, which goes on wherever it was broken off.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# PostgreSQL keeps samples of columns to plan by, and an erasure would not reach them.
_NO_SAMPLES = {
    "parties": ("aor", "number", "name"),
    "identifiers": ("value",),
    "marks": ("actor", "reason", "data"),
    "recordings": ("sip_call_id",),
    "terms": ("term",),
    "number_parts": ("part", "number"),
    "notes": ("text",),
    "recording_tags": ("folded", "tag"),
}


def upgrade() -> None:
    op.create_table(
        "search_tenants",
        sa.Column("no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_search_tenants")),
        sa.UniqueConstraint("tenant_id", name=op.f("uq_search_tenants_tenant_id")),
    )
    op.create_table(
        "terms",
        sa.Column("tenant_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.String(length=310), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant_no", "term", "seq", name=op.f("pk_terms")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_terms_seq", "terms", ["seq", "term"], unique=False)
    op.create_table(
        "number_parts",
        sa.Column("tenant_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part", sa.String(length=32), nullable=False),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("tenant_no", "part", "number", name=op.f("pk_number_parts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notes",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("text", sa.String(length=4000), nullable=False),
        sa.Column("offset_ns", sa.BigInteger(), nullable=True),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("editor", sa.String(length=64), nullable=False),
        sa.Column("update_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notes")),
    )
    op.create_index("ix_notes_recording_id", "notes", ["recording_id", "create_ns", "id"], unique=False)
    op.create_table(
        "recording_tags",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("folded", sa.String(length=120), nullable=False),
        sa.Column("tag", sa.String(length=40), nullable=False),
        sa.Column("author", sa.String(length=64), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("recording_id", "folded", name=op.f("pk_recording_tags")),
    )
    op.drop_table("party_words")
    op.drop_index("ix_parties_number", table_name="parties")
    op.drop_index("ix_parties_number_tail", table_name="parties")
    op.drop_column("parties", "number_tail")
    op.drop_index("ix_identifiers_value", table_name="identifiers")
    op.drop_index("ix_flags_flag", table_name="flags")
    op.drop_index("ix_marks_kind", table_name="marks")
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in _NO_SAMPLES.items():
            for column in columns:
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def downgrade() -> None:
    op.create_index("ix_marks_kind", "marks", ["kind", "recording_id"], unique=False)
    op.create_index("ix_flags_flag", "flags", ["flag"], unique=False)
    op.create_index("ix_identifiers_value", "identifiers", ["value"], unique=False)
    op.add_column(
        "parties", sa.Column("number_tail", sa.String(length=32), nullable=False, server_default="")
    )
    op.create_index("ix_parties_number_tail", "parties", ["number_tail"], unique=False)
    op.create_index("ix_parties_number", "parties", ["number"], unique=False)
    op.create_table(
        "party_words",
        sa.Column("word", sa.String(length=40), nullable=False),
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_party_words_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("word", "recording_id", "ordinal", name=op.f("pk_party_words")),
    )
    op.create_index("ix_party_words_recording_id", "party_words", ["recording_id"], unique=False)
    for table in ("recording_tags", "notes", "number_parts", "terms", "search_tenants"):
        op.drop_table(table)
