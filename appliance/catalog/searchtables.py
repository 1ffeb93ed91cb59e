"""Tables of the search index, and of what people add to recordings: notes and tags.

The index is one B-tree of terms on every database: what a recording is found by, one row a term, behind a letter for
its kind. Full-text engines of their own keep deleted words in their segments (FTS5 before SQLite 3.42) or differ in
what they take for a word; here both databases find the same, and what is deleted is gone as any row is.

Terms name recordings by `recordings.seq` and tenants by a small number: a recording has about fifteen.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Who, metadata

search_tenants = sa.Table(
    "search_tenants",
    metadata,
    sa.Column("no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column(
        "tenant_id", sa.String(26), nullable=False, unique=True
    ),  # empty: in quarantine, of nobody known
)

terms = sa.Table(
    "terms",
    metadata,
    sa.Column("tenant_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("term", sa.String(310), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Index("ix_terms_seq", "seq", "term"),
    sqlite_with_rowid=False,
)

# Every end of every number that a tenant's terms have: what a number is found by in its middle.
number_parts = sa.Table(
    "number_parts",
    metadata,
    sa.Column("tenant_no", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("part", sa.String(32), primary_key=True),
    sa.Column("number", sa.String(32), primary_key=True),
    sqlite_with_rowid=False,
)

# Neither is a foreign key: what was saved from a damaged catalogue waits here for its recording to be read anew.
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("recording_id", Id, nullable=False),
    sa.Column("text", sa.String(4000), nullable=False),
    sa.Column("offset_ns", sa.BigInteger),  # on the timeline; NULL: of the whole
    sa.Column("author", Who, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("editor", Who, nullable=False),  # who changed it last
    sa.Column("update_ns", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Index("ix_notes_recording_id", "recording_id", "create_ns", "id"),
)

recording_tags = sa.Table(
    "recording_tags",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
    sa.Column("folded", sa.String(120), primary_key=True),  # case and accents do not matter
    sa.Column("tag", sa.String(40), nullable=False),  # as it was written first
    sa.Column("author", Who, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
)

# How far the sealed sidecar of a recording goes, as the vault said last, and how far notes and tags here were made from it.
sidecars = sa.Table(
    "sidecars",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
    sa.Column("entries", sa.Integer, nullable=False),
    sa.Column("taken", sa.Integer, nullable=False),
    sa.Column("last_id", sa.String(26), nullable=False),  # of the entry that was taken up last
    sa.Column("begun", sa.Integer, nullable=False, server_default="0"),  # how often it was begun anew
)
