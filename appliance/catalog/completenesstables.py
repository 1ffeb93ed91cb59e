"""Tables of call records: whence they come, what was imported, what they say, what became of them by day.

Personal data is in the numbers and the call's id of `call_records`: taken out as soon as a call is matched with its
recording or needs none, with the erasure of a recording that has the same numbers, and at the latest after
`completeness.KEEP_NUMBERS_NS`.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Who, metadata

record_sources = sa.Table(
    "record_sources",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("map", sa.JSON, nullable=False),
    sa.Column("line_id", sa.String(26), nullable=False),  # empty: numbers alone tell
    sa.Column("least_talk_ns", sa.BigInteger, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
)

record_imports = sa.Table(
    "record_imports",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("source_id", Id, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("creator", Who, nullable=False),  # empty: from the folder
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("fresh", sa.Integer, nullable=False),
    sa.Column("repeated", sa.Integer, nullable=False),
    sa.Column("old", sa.Integer, nullable=False),
    sa.Column("broken", sa.Integer, nullable=False),
    sa.Column("problems", sa.JSON, nullable=False),  # [row, column of the map, stable word]
    sa.Column("repeats", sa.String(26), nullable=False),  # import of the same file; empty: none
    sa.Column("shift", sa.JSON, nullable=False),  # ns, zone, explains, before; empty: none
    sa.Index("ix_record_imports_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
)

call_records = sa.Table(
    "call_records",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("source_id", Id, nullable=False),
    sa.Column("import_id", Id, nullable=False),
    sa.Column("digest", sa.String(32), nullable=False),  # keyed: what the row said, so that it is taken once
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("answer_ns", sa.BigInteger),
    sa.Column("talk_ns", sa.BigInteger, nullable=False),
    sa.Column("direction", sa.String(10), nullable=False),
    sa.Column("line_id", sa.String(26), nullable=False),
    sa.Column("why", sa.String(26), nullable=False),  # contracted, or why not
    sa.Column("from_number", sa.String(64), nullable=False),
    sa.Column("to_number", sa.String(64), nullable=False),
    sa.Column("extension", sa.String(64), nullable=False),
    sa.Column("own", sa.Integer, nullable=False),  # bits: which of the three a line has
    sa.Column("call_id", sa.String(200), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),  # empty: not compared yet
    sa.Column("recording_id", sa.String(26), nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),  # to that recording, whatever else is known later
    sa.Column("off_ns", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.String(40), nullable=False),
    sa.UniqueConstraint("tenant_id", "digest"),
    sa.Index("ix_call_records_tenant_id_start_ns", "tenant_id", "start_ns", "id"),
    sa.Index("ix_call_records_start_ns", "start_ns"),
    sa.Index("ix_call_records_recording_id", "recording_id"),
)

completeness_days = sa.Table(
    "completeness_days",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("day", sa.String(10), nullable=False),  # 2026-11-29
    sa.Column("state", sa.String(12), nullable=False),  # preliminary, final, no-records
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("make_ns", sa.BigInteger, nullable=False),
    sa.Column("expected", sa.Integer, nullable=False),
    sa.Column("missing", sa.Integer, nullable=False),
    sa.Column("faults", sa.Integer, nullable=False),
    sa.Column("outcomes", sa.JSON, nullable=False),
    sa.Column("uncovered", sa.Integer, nullable=False),
    sa.Column("shift", sa.JSON, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column(
        "seen", sa.String(100), nullable=False
    ),  # what the tenant's recordings of the day were when it was made
    sa.Column("due_ns", sa.BigInteger),  # when it is to be made anew; absent: when something changes
    sa.UniqueConstraint("tenant_id", "day"),
    sa.Index("ix_completeness_days_due_ns", "due_ns"),
)
