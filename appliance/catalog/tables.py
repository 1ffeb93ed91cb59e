"""The tables of the catalogue. Times are nanoseconds since the Unix epoch. No type here is SQLite's alone.

Personal data is in `parties`, `identifiers`, `marks` and `recordings.sip_call_id`, in the index and additions of
`searchtables`, and nowhere else: that is what an erasure takes away. Every change of a table here wants a migration.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = sa.String(26)
# Key of an identity: {tenant}/{name}. SQLite holds to no length, and its tables are not made anew for one.
Who = sa.String(64).with_variant(sa.String(100), "postgresql")
# SQLite numbers rows by itself in INTEGER columns only.
Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("contact", sa.String(200), nullable=False),  # of its records officer
    sa.Column("language", sa.String(35), nullable=False),
    sa.Column("time_zone", sa.String(64), nullable=False),
    sa.Column("unacknowledged_may_pause", sa.Boolean, nullable=False),
    sa.Column("unacknowledged_may_read", sa.Boolean, nullable=False),
    sa.Column("acknowledgement_years", sa.Integer, nullable=False),
)

lines = sa.Table(
    "lines",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, sa.ForeignKey("tenants.id"), nullable=False, index=True),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("numbers", sa.JSON, nullable=False),
    sa.Column("trunks", sa.JSON, nullable=False),
    sa.Column("catch_all", sa.Boolean, nullable=False),
    sa.Column("directions", sa.JSON, nullable=False),
    sa.Column("do_not_record", sa.JSON, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("rules", sa.JSON, nullable=False),  # inline, keys, rights and the rest of model.routing.Line
)

prompts = sa.Table(
    "prompts",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.String(26), nullable=False, index=True),  # empty: a sample of the box
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("language", sa.String(35), nullable=False),
    sa.Column("text", sa.String(2000), nullable=False),
    sa.Column("text_sha256", sa.String(64), nullable=False),
    sa.Column("audio_sha256", sa.String(64), nullable=False),
    sa.Column("purposes", sa.JSON, nullable=False),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
)

# What lines were made with and the vault, whose the policies are, has not taken yet.
line_policies = sa.Table(
    "line_policies",
    metadata,
    sa.Column("line_id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("grain", sa.String(8), nullable=False),  # empty: not said
    sa.Column("grace_days", sa.Integer),
    sa.Column("who", Who, nullable=False),
)

# Tenant and line of a recording are no foreign keys: the sealed file is the truth, and may name what a lost
# configuration no longer does.
recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False, unique=True),  # order of arrival in this catalogue
    sa.Column("position", sa.BigInteger, nullable=False),  # of the vault's journal, that this row stands for
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("line_id", Id, nullable=False),
    sa.Column("slice", sa.String(16), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # filed, deleted, erased, quarantined
    sa.Column("state_ns", sa.BigInteger, nullable=False),
    sa.Column("state_reason", sa.String(300), nullable=False),
    sa.Column("etag", sa.String(32), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("whole", sa.Boolean, nullable=False),
    sa.Column("created_ns", sa.BigInteger, nullable=False),  # as the vault says
    sa.Column("start_ns", sa.BigInteger, nullable=False),  # created_ns where the content says nothing
    # From the content; empty until it was read.
    sa.Column("described", sa.Boolean, nullable=False),
    sa.Column("end_ns", sa.BigInteger),
    sa.Column("duration_ns", sa.BigInteger, nullable=False),
    sa.Column("call_id", sa.String(64), nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("direction", sa.String(10), nullable=False),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("sip_call_id", sa.String(300), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),  # of the sealed file, lower-case hexadecimal
    sa.Index("ix_recordings_start_ns", "start_ns", "id"),
    # The last two are what counts by day need, which read nothing else.
    sa.Index("ix_recordings_tenant_id_start_ns", "tenant_id", "start_ns", "id", "state", "duration_ns"),
    sa.Index("ix_recordings_line_id_start_ns", "line_id", "start_ns", "id"),
    sa.Index("ix_recordings_duration_ns", "duration_ns", "id"),
    sa.Index("ix_recordings_size", "size", "id"),
    sa.Index("ix_recordings_call_id", "call_id"),
    sa.Index("ix_recordings_sip_call_id", "sip_call_id"),
    sa.Index("ix_recordings_state", "state", "start_ns"),
)


def _of_recording() -> sa.Column[str]:
    return sa.Column("recording_id", Id, sa.ForeignKey("recordings.id"), primary_key=True)


parties = sa.Table(
    "parties",
    metadata,
    _of_recording(),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("aor", sa.String(300), nullable=False),
    sa.Column("number", sa.String(33), nullable=False),  # digits, leading plus kept
    sa.Column("name", sa.String(300), nullable=False),
    sa.Column("role", sa.String(8), nullable=False),
    sa.Index("ix_parties_aor", "aor"),
)

tracks = sa.Table(
    "tracks",
    metadata,
    _of_recording(),
    sa.Column("track", sa.Integer, primary_key=True),
    sa.Column("label", sa.String(100), nullable=False),
    sa.Column("party", sa.Integer, nullable=False),  # ordinal of the party; -1: not known
    sa.Column("encodings", sa.JSON, nullable=False),
)

identifiers = sa.Table(  # how other systems name the call
    "identifiers",
    metadata,
    _of_recording(),
    sa.Column("value", sa.String(300), primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
)

flags = sa.Table(
    "flags",
    metadata,
    _of_recording(),
    sa.Column("flag", sa.String(64), primary_key=True),
)

marks = sa.Table(
    "marks",
    metadata,
    _of_recording(),
    sa.Column("ordinal", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("until_ns", sa.BigInteger),
    sa.Column("actor", sa.String(300), nullable=False),
    sa.Column("reason", sa.String(300), nullable=False),
    sa.Column("track", sa.Integer, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
)

tombstones = sa.Table(
    "tombstones",
    metadata,
    _of_recording(),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("erased_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(300), nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
    sa.Column("device_public_key", sa.LargeBinary, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("log_number", sa.BigInteger, nullable=False),
    sa.Column("replicas", sa.JSON, nullable=False),
)

# Opaque ids only: an event never has to be found again when a recording is erased.
events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", Serial, primary_key=True, autoincrement=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False, index=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("tenant_id", sa.String(26), nullable=False),  # empty: of the box
    sa.Column("line_id", sa.String(26), nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    sa.Column("state", sa.String(64), nullable=False),
    sa.Column("message", sa.String(500), nullable=False),
    sqlite_autoincrement=True,  # a number is never used again, even when the newest event is pruned
)

identities = sa.Table(
    "identities",
    metadata,
    sa.Column("name", Who, primary_key=True),
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("tenant_id", sa.String(26), nullable=False),  # empty: of the box
    sa.Column("agent", sa.String(33), nullable=False),  # an agent's own number
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    # Defaults, as the box itself enrolls its admin and says none of it.
    sa.Column("creator", Who, nullable=False, server_default=""),
    sa.Column("disable_ns", sa.BigInteger),
    sa.Index("ix_identities_tenant_id_name", "tenant_id", "name"),
)

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column(
        "fingerprint", sa.String(64), primary_key=True
    ),  # SHA-256 of the certificate, lower-case hexadecimal
    sa.Column("name", Who, sa.ForeignKey("identities.name"), nullable=False, index=True),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("expire_ns", sa.BigInteger, nullable=False),
    sa.Column("revoke_ns", sa.BigInteger),
    sa.Column("der", sa.LargeBinary),  # absent: of an older release, or from the copy
    sa.Column("warned_days", sa.Integer, nullable=False, server_default="0"),  # before its end; 0: not yet
    sa.Column("renewed_from", sa.String(64), nullable=False, server_default="", index=True),  # fingerprint
)


def _of_identity() -> sa.Column[str]:
    return sa.Column("name", Who, sa.ForeignKey("identities.name"), primary_key=True)


subjects = sa.Table(  # of the hospital's identity provider
    "subjects",
    metadata,
    sa.Column("issuer", sa.String(500), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("name", Who, sa.ForeignKey("identities.name"), nullable=False, index=True),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
)

passphrases = sa.Table(
    "passphrases",
    metadata,
    _of_identity(),
    sa.Column("hash", sa.String(300)),  # Argon2id; absent: not enrolled yet
    sa.Column("factor", sa.LargeBinary),  # the second factor's secret, sealed under control/identities.key
    sa.Column("used_step", sa.BigInteger, nullable=False),  # of the newest code that was used
    sa.Column("enrol_hash", sa.String(64)),  # SHA-256 of the code to enrol with
    sa.Column("enrol_until_ns", sa.BigInteger, nullable=False),
    sa.Column("change_ns", sa.BigInteger, nullable=False),
)

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    _of_identity(),
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("use_ns", sa.BigInteger),
)

sources = sa.Table(  # whence somebody signed in; networks as a keyed hash
    "sources",
    metadata,
    _of_identity(),
    sa.Column("network", sa.String(32), primary_key=True),
    sa.Column("seen_ns", sa.BigInteger, nullable=False, index=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),  # SHA-256 of the token
    sa.Column("name", Who, sa.ForeignKey("identities.name"), nullable=False, index=True),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("seen_ns", sa.BigInteger, nullable=False),
    sa.Column("expire_ns", sa.BigInteger, nullable=False, index=True),
)

# What was last told of live calls and of conditions, so that a restart neither repeats nor loses an event.
live_calls = sa.Table(
    "live_calls",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.String(26), nullable=False),
    sa.Column("line_id", sa.String(26), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
)

conditions = sa.Table(
    "conditions",
    metadata,
    sa.Column("process", sa.String(32), primary_key=True),
    sa.Column("type", sa.String(64), primary_key=True),
)

# Which requests were done. The answer is not kept, as it may hold personal data: only what it was about.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("identity", Who, primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of method and request
    sa.Column("subject", Who, nullable=False),  # id of what it was about
    sa.Column("at_ns", sa.BigInteger, nullable=False, index=True),
)

values = sa.Table(  # cursors, keys of tokens, versions
    "values",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.String(300), nullable=False),
)
