"""The first tables

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conditions",
        sa.Column("process", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("process", "type", name=op.f("pk_conditions")),
    )
    op.create_table(
        "events",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("subject", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("message", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_at_ns"), ["at_ns"], unique=False)

    op.create_table(
        "identities",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("expire_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoke_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_identities")),
    )
    with op.batch_alter_table("identities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identities_name"), ["name"], unique=False)

    op.create_table(
        "live_calls",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live_calls")),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("line_id", sa.String(length=26), nullable=False),
        sa.Column("slice", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("state_ns", sa.BigInteger(), nullable=False),
        sa.Column("state_reason", sa.String(length=300), nullable=False),
        sa.Column("etag", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("described", sa.Boolean(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("direction", sa.String(length=10), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("sip_call_id", sa.String(length=300), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
        sa.UniqueConstraint("seq", name=op.f("uq_recordings_seq")),
    )
    with op.batch_alter_table("recordings", schema=None) as batch_op:
        batch_op.create_index("ix_recordings_call_id", ["call_id"], unique=False)
        batch_op.create_index("ix_recordings_duration_ns", ["duration_ns", "id"], unique=False)
        batch_op.create_index("ix_recordings_line_id_start_ns", ["line_id", "start_ns", "id"], unique=False)
        batch_op.create_index("ix_recordings_sip_call_id", ["sip_call_id"], unique=False)
        batch_op.create_index("ix_recordings_size", ["size", "id"], unique=False)
        batch_op.create_index("ix_recordings_start_ns", ["start_ns", "id"], unique=False)
        batch_op.create_index("ix_recordings_state", ["state", "start_ns"], unique=False)
        batch_op.create_index(
            "ix_recordings_tenant_id_start_ns", ["tenant_id", "start_ns", "id"], unique=False
        )

    op.create_table(
        "requests",
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=26), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("identity", "request_id", name=op.f("pk_requests")),
    )
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_requests_at_ns"), ["at_ns"], unique=False)

    op.create_table(
        "tenants",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
    )
    op.create_table(
        "values",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_values")),
    )
    op.create_table(
        "flags",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("flag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_flags_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", "flag", name=op.f("pk_flags")),
    )
    with op.batch_alter_table("flags", schema=None) as batch_op:
        batch_op.create_index("ix_flags_flag", ["flag"], unique=False)

    op.create_table(
        "identifiers",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("value", sa.String(length=300), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_identifiers_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", "value", name=op.f("pk_identifiers")),
    )
    with op.batch_alter_table("identifiers", schema=None) as batch_op:
        batch_op.create_index("ix_identifiers_value", ["value"], unique=False)

    op.create_table(
        "lines",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.Column("trunks", sa.JSON(), nullable=False),
        sa.Column("catch_all", sa.Boolean(), nullable=False),
        sa.Column("directions", sa.JSON(), nullable=False),
        sa.Column("do_not_record", sa.JSON(), nullable=False),
        sa.Column("grain", sa.String(length=8), nullable=False),
        sa.Column("grace_days", sa.Integer(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_lines_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lines")),
    )
    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lines_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "marks",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.String(length=300), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("track", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_marks_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", "ordinal", name=op.f("pk_marks")),
    )
    with op.batch_alter_table("marks", schema=None) as batch_op:
        batch_op.create_index("ix_marks_kind", ["kind", "recording_id"], unique=False)

    op.create_table(
        "parties",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("aor", sa.String(length=300), nullable=False),
        sa.Column("number", sa.String(length=33), nullable=False),
        sa.Column("number_tail", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_parties_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", "ordinal", name=op.f("pk_parties")),
    )
    with op.batch_alter_table("parties", schema=None) as batch_op:
        batch_op.create_index("ix_parties_aor", ["aor"], unique=False)
        batch_op.create_index("ix_parties_number", ["number"], unique=False)
        batch_op.create_index("ix_parties_number_tail", ["number_tail"], unique=False)

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
    with op.batch_alter_table("party_words", schema=None) as batch_op:
        batch_op.create_index("ix_party_words_recording_id", ["recording_id"], unique=False)

    op.create_table(
        "tombstones",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("erased_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("device_public_key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_tombstones_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_tombstones")),
    )
    op.create_table(
        "tracks",
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("track", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("party", sa.Integer(), nullable=False),
        sa.Column("encodings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name=op.f("fk_tracks_recording_id_recordings")
        ),
        sa.PrimaryKeyConstraint("recording_id", "track", name=op.f("pk_tracks")),
    )


def downgrade() -> None:
    op.drop_table("tracks")
    op.drop_table("tombstones")
    with op.batch_alter_table("party_words", schema=None) as batch_op:
        batch_op.drop_index("ix_party_words_recording_id")

    op.drop_table("party_words")
    with op.batch_alter_table("parties", schema=None) as batch_op:
        batch_op.drop_index("ix_parties_number_tail")
        batch_op.drop_index("ix_parties_number")
        batch_op.drop_index("ix_parties_aor")

    op.drop_table("parties")
    with op.batch_alter_table("marks", schema=None) as batch_op:
        batch_op.drop_index("ix_marks_kind")

    op.drop_table("marks")
    with op.batch_alter_table("lines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lines_tenant_id"))

    op.drop_table("lines")
    with op.batch_alter_table("identifiers", schema=None) as batch_op:
        batch_op.drop_index("ix_identifiers_value")

    op.drop_table("identifiers")
    with op.batch_alter_table("flags", schema=None) as batch_op:
        batch_op.drop_index("ix_flags_flag")

    op.drop_table("flags")
    op.drop_table("values")
    op.drop_table("tenants")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_requests_at_ns"))

    op.drop_table("requests")
    with op.batch_alter_table("recordings", schema=None) as batch_op:
        batch_op.drop_index("ix_recordings_tenant_id_start_ns")
        batch_op.drop_index("ix_recordings_state")
        batch_op.drop_index("ix_recordings_start_ns")
        batch_op.drop_index("ix_recordings_size")
        batch_op.drop_index("ix_recordings_sip_call_id")
        batch_op.drop_index("ix_recordings_line_id_start_ns")
        batch_op.drop_index("ix_recordings_duration_ns")
        batch_op.drop_index("ix_recordings_call_id")

    op.drop_table("recordings")
    op.drop_table("live_calls")
    with op.batch_alter_table("identities", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_identities_name"))

    op.drop_table("identities")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_at_ns"))

    op.drop_table("events")
    op.drop_table("conditions")
