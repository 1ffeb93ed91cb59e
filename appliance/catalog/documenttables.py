"""Tables of documents that were made, of how the box served, and of planned work.

Documents may hold names of identities and a tenant's contact, as their kind needs; nothing of who was recorded. They go
after `documents.KEEP_NS`. All else are stable words, times and what an operator wrote of planned work.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Serial, Who, metadata

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.String(26), nullable=False),  # empty: of the box
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("format", sa.String(8), nullable=False),
    sa.Column("make_ns", sa.BigInteger, nullable=False),
    sa.Column("who", Who, nullable=False),
    sa.Column("from_ns", sa.BigInteger),  # absent: it tells of the time at which it was made
    sa.Column("until_ns", sa.BigInteger),
    sa.Column("time_zone", sa.String(64), nullable=False),
    sa.Column("people", sa.Boolean, nullable=False),  # whether it names some
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("signature", sa.String(2000), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Index("ix_documents_make_ns", "make_ns", "id"),
    sa.Index("ix_documents_tenant_id_make_ns", "tenant_id", "make_ns", "id"),
)

served = sa.Table(  # a row a stretch: from a start, or a change, to what was noted last
    "served",
    metadata,
    sa.Column("no", Serial, primary_key=True, autoincrement=True),
    sa.Column("begin_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("cause", sa.String(12), nullable=False),  # what it was without; empty: nothing
    sa.Column("follows", sa.String(8), nullable=False),
)

planned_work = sa.Table(
    "planned_work",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("begin_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("description", sa.String(200), nullable=False),
    sa.Column("who", Who, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Index("ix_planned_work_begin_ns", "begin_ns", "id"),
)
