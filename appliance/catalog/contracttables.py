"""Tables of what a contract says beside tenants and lines: purposes, versions of all of it, and reads.

Versions of lines hold numbers of do-not-record lists, until they are taken out on demand; `reads.override_reason` is
taken out when the recording is erased. All else are names of identities, opaque ids and stable words.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Serial, Who, metadata

purposes = sa.Table(
    "purposes",
    metadata,
    sa.Column("tenant_id", Id, sa.ForeignKey("tenants.id"), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),  # of the tenant's, in the order they were made
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("legal_basis", sa.String(300), nullable=False),
    sa.Column("seeded", sa.Boolean, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("archive_ns", sa.BigInteger),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("tenant_id", Id, primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),  # tenant, line, purpose
    sa.Column("subject", sa.String(40), primary_key=True),  # id of it
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("who", Who, nullable=False),  # empty: the box
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("restored", sa.BigInteger, nullable=False),  # whose content it took; 0: none's
    sa.Column("redacted", sa.Boolean, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),  # the model as JSON
)

reads = sa.Table(
    "reads",
    metadata,
    sa.Column("no", Serial, primary_key=True, autoincrement=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("recording_id", Id, nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),  # empty: none of the tenant's
    sa.Column("source", sa.String(16), nullable=False),  # announced, line, not_announced
    sa.Column("kind", sa.String(16), nullable=False),  # download, picture, ...
    sa.Column("identity", Who, nullable=False),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("resumed", sa.Boolean, nullable=False),
    sa.Column("refused", sa.String(40), nullable=False),  # reason; empty: admitted
    sa.Column("overridden", sa.Boolean, nullable=False),
    sa.Column("override_reason", sa.String(200), nullable=False),
    sa.Column("grant_id", sa.String(26), nullable=False),
    sa.Index("ix_reads_tenant_id_at_ns", "tenant_id", "at_ns"),
    sa.Index("ix_reads_recording_id", "recording_id", "at_ns"),
)
