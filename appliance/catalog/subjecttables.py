"""Tables of the rights of people who were recorded: restrictions and objections, requests for access, packs.

Personal data is in `restrictions` (`number`, `reason`, `history`), `subject_requests` and `subject_choices`. Requests go
three years after they were closed, restrictions three years after they ended; the words of one in force that names
recordings go with the last of these.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, metadata

restrictions = sa.Table(
    "restrictions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("ground", sa.String(16), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("number", sa.String(33), nullable=False),  # in its normal form; empty: named recordings alone
    sa.Column("from_ns", sa.BigInteger),
    sa.Column("to_ns", sa.BigInteger),
    sa.Column("reason", sa.String(300), nullable=False),
    sa.Column("case_id", sa.String(26), nullable=False),  # the legal hold's; empty: none is wanted
    sa.Column("hold", sa.String(8), nullable=False),  # empty, due, held, release, released
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger),
    sa.Column("history", sa.JSON, nullable=False),  # [[at_ns, who, act, reason], …]
    sa.Index("ix_restrictions_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_restrictions_number", "number", "tenant_id"),
)

# No foreign key to recordings: a restriction outlives a lost catalogue, and is there before its recordings are.
restricted = sa.Table(
    "restricted",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
    sa.Column("restriction_id", Id, sa.ForeignKey("restrictions.id"), primary_key=True, index=True),
    sa.Column("held", sa.Boolean, nullable=False),  # in the legal hold, where one is wanted
    sa.Column("erase", sa.String(8), nullable=False),  # empty, due, kept
)

subject_requests = sa.Table(
    "subject_requests",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("reference", sa.String(100), nullable=False),
    sa.Column("receive_date", sa.String(10), nullable=False),
    sa.Column("identification", sa.String(1000), nullable=False),
    sa.Column("numbers", sa.JSON, nullable=False),  # [[normal form, own, verification], …]
    sa.Column("from_ns", sa.BigInteger),
    sa.Column("to_ns", sa.BigInteger),
    sa.Column("handler", sa.String(100), nullable=False),
    sa.Column("nation", sa.String(3), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("before", sa.String(12), nullable=False),  # the state that reopening goes back to
    sa.Column("stops", sa.JSON, nullable=False),  # [[pause, from, to or empty], …]
    sa.Column("extension_reason", sa.String(300), nullable=False),
    sa.Column("close_reason", sa.String(300), nullable=False),
    sa.Column("reminded", sa.String(16), nullable=False),  # the last reminder: due date and stage
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("close_ns", sa.BigInteger),
    sa.Column("history", sa.JSON, nullable=False),
    sa.Index("ix_subject_requests_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_subject_requests_close_ns", "close_ns"),
)

subject_choices = sa.Table(
    "subject_choices",
    metadata,
    sa.Column("request_id", Id, sa.ForeignKey("subject_requests.id"), primary_key=True),
    sa.Column("recording_id", Id, primary_key=True, index=True),
    sa.Column("give", sa.Boolean, nullable=False),
    sa.Column("mutes", sa.JSON, nullable=False),  # [[party or -1, from ns, to ns or -1], …]
    sa.Column("ground", sa.String(24), nullable=False),
    sa.Column("text", sa.String(300), nullable=False),
    sa.Column("untold", sa.Boolean, nullable=False),
    sa.Column("exception", sa.String(24), nullable=False),
    sa.Column("actor", sa.String(100), nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
)

subject_packs = sa.Table(
    "subject_packs",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "request_id", Id, nullable=False
    ),  # no foreign key: a pack's end is told after its request is forgotten
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("operation_id", Id, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # making, ready, failed, destroying, destroyed
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("secret", sa.LargeBinary),  # the passphrase, sealed, while the pack is made
    sa.Column("keep_days", sa.Integer, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("expire_ns", sa.BigInteger),
    sa.Column("end_reason", sa.String(64), nullable=False),
    sa.Column("creator", sa.String(100), nullable=False),
    sa.Column("downloads", sa.Integer, nullable=False),
    sa.Index("ix_subject_packs_request_id", "request_id", "create_ns", "id"),
    sa.Index("ix_subject_packs_state", "state", "expire_ns"),
)

subject_pack_recordings = sa.Table(
    "subject_pack_recordings",
    metadata,
    sa.Column("pack_id", Id, sa.ForeignKey("subject_packs.id"), primary_key=True),
    sa.Column("recording_id", Id, primary_key=True, index=True),
    sa.Column("exception", sa.String(24), nullable=False),
)
