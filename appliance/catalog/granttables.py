"""Tables of support grants. They hold opaque ids, stable words and names of identities; a filter only until the request is
answered, and of fields that say nothing of people."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Who, metadata

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # as it is latched: see grants.Latched
    sa.Column("identities", sa.JSON, nullable=False),  # who may read
    sa.Column("requester", Who, nullable=False),
    sa.Column("request_ns", sa.BigInteger, nullable=False),
    sa.Column("purpose", sa.String(200), nullable=False),
    sa.Column("necessity", sa.String(1000), nullable=False),
    sa.Column("scope", sa.JSON, nullable=False),
    sa.Column("begin_ns", sa.BigInteger),  # NULL: when it is approved
    sa.Column("end_ns", sa.BigInteger, nullable=False),
    sa.Column("max_reads", sa.Integer, nullable=False),
    sa.Column("include_parties", sa.Boolean, nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),  # empty: none
    sa.Column("approver", Who, nullable=False),
    sa.Column("approve_ns", sa.BigInteger),
    sa.Column("ender", Who, nullable=False),
    sa.Column("end_reason", sa.String(200), nullable=False),
    sa.Column("ended_ns", sa.BigInteger),
    sa.Column("reads", sa.Integer, nullable=False),
    sa.Column("last_use_ns", sa.BigInteger),
    sa.Column(
        "seen_ns", sa.BigInteger, nullable=False
    ),  # the latest time that it was seen at: it never goes back
    sa.Column("keys_sealed", sa.Boolean, nullable=False),  # the vault may hold data keys sealed for it
    sa.Index("ix_grants_tenant_id_request_ns", "tenant_id", "request_ns", "id"),
    sa.Index("ix_grants_request_ns", "request_ns", "id"),
    sa.Index("ix_grants_state", "state"),
)

grant_recordings = sa.Table(
    "grant_recordings",
    metadata,
    sa.Column("grant_id", Id, sa.ForeignKey("grants.id"), primary_key=True),
    sa.Column("recording_id", Id, primary_key=True),
    sa.Index("ix_grant_recordings_recording_id", "recording_id"),
)

grant_uses = sa.Table(
    "grant_uses",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("grant_id", Id, sa.ForeignKey("grants.id"), nullable=False),
    sa.Column("identity", Who, nullable=False),
    sa.Column("recording_id", Id, nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),  # download, verify, waveform
    sa.Column("format", sa.String(10), nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.String(100), nullable=False),  # of what was given out; empty: nothing yet
    sa.Index("ix_grant_uses_grant_id_at_ns", "grant_id", "at_ns", "id"),
)
