"""Tables of what is being closed, and of exit packs. Opaque ids, names of identities, and what an officer said of it."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, metadata

Name = sa.String(128)  # of an identity

closings = sa.Table(
    "closings",
    metadata,
    sa.Column("tenant_id", Id, primary_key=True),
    sa.Column("line_id", sa.String(26), primary_key=True),  # empty: the tenant
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("reason", sa.String(200), nullable=False),
    sa.Column("who", Name, nullable=False),
    sa.Column("begin_ns", sa.BigInteger, nullable=False),
    sa.Column("notice_ns", sa.BigInteger, nullable=False),
    sa.Column("close_ns", sa.BigInteger),
    sa.Column("empty_ns", sa.BigInteger),
    sa.Column("reminded_days", sa.Integer, nullable=False),
)

exit_packs = sa.Table(
    "exit_packs",
    metadata,
    sa.Column("id", Id, primary_key=True),  # of the operation that makes it, too
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("line_id", sa.String(26), nullable=False),  # empty: of the tenant
    sa.Column("state", sa.String(12), nullable=False),  # as of an operation, once all is tidied up
    sa.Column("everything", sa.Boolean, nullable=False),  # no filter narrows it
    sa.Column(
        "spec", sa.JSON, nullable=False
    ),  # where it goes and in which forms; no filter, as that may be of people
    sa.Column("who", Name, nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),  # empty: the exit itself
    sa.Column("recordings", sa.BigInteger, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("problems", sa.BigInteger, nullable=False),
    sa.Column("tombstones", sa.BigInteger, nullable=False),
    sa.Column("manifest_sha256", sa.String(64), nullable=False),  # empty: there is none yet
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger),
    sa.Index("ix_exit_packs_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_exit_packs_state", "state"),
)
