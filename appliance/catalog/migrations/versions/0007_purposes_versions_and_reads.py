"""Purposes, versions of tenants and lines, and reads

Revision ID: 0007
Revises: 0006

Tenants that are there get the purposes that new ones begin with, and those that their prompts state; what tenants and
lines say becomes their first version.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SI = "SI 2018/356 reg. 3(2)"
_SEEDS = [
    ("evidence", "Establishing what was said", f"{_SI}(a): to establish the existence of facts"),
    (
        "compliance",
        "Compliance with rules and procedures",
        f"{_SI}(b): to ascertain compliance with regulatory or self-regulatory practices or procedures",
    ),
    (
        "quality",
        "Standards of service",
        f"{_SI}(c): to ascertain or demonstrate the standards which are achieved",
    ),
    ("training", "Training of staff", f"{_SI}(c): the standards which ought to be achieved"),
    ("crime-prevention", "Preventing or detecting crime", f"{_SI}: to prevent or detect crime"),
    (
        "system-misuse",
        "Unauthorised use of the telephone system",
        f"{_SI}: to investigate or detect unauthorised use of a telecommunication system",
    ),
    (
        "system-operation",
        "Keeping the telephone system working",
        f"{_SI}: the effective operation of the system",
    ),
    ("direct-care", "Care of the patient", "UK GDPR Art. 6(1)(e) and 9(2)(h)"),
    (
        "patient-safety",
        "Investigating patient safety incidents",
        "UK GDPR Art. 9(2)(h); SI 2014/2936 reg. 20",
    ),
    ("complaints", "Answering complaints", "SI 2009/309; UK GDPR Art. 6(1)(c)"),
    ("safeguarding", "Protecting children and adults at risk", "Data Protection Act 2018 Sch. 1 para. 18"),
    ("legal-claims", "Legal claims", "UK GDPR Art. 9(2)(f)"),
    ("subject-access", "Answering those who were recorded", "UK GDPR Art. 15"),
]


def upgrade() -> None:
    for column, length in (("contact", 200), ("language", 35), ("time_zone", 64)):
        op.add_column(
            "tenants", sa.Column(column, sa.String(length=length), nullable=False, server_default="")
        )
    op.create_table(
        "purposes",
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("legal_basis", sa.String(length=300), nullable=False),
        sa.Column("seeded", sa.Boolean(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("archive_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_purposes_tenant_id_tenants")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_purposes")),
    )
    op.create_table(
        "versions",
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("restored", sa.BigInteger(), nullable=False),
        sa.Column("redacted", sa.Boolean(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "subject", "version", name=op.f("pk_versions")),
    )
    op.create_table(
        "reads",
        sa.Column(
            "no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(length=26), nullable=False),
        sa.Column("recording_id", sa.String(length=26), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("resumed", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.String(length=40), nullable=False),
        sa.Column("overridden", sa.Boolean(), nullable=False),
        sa.Column("override_reason", sa.String(length=200), nullable=False),
        sa.Column("grant_id", sa.String(length=26), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_reads")),
    )
    op.create_index("ix_reads_tenant_id_at_ns", "reads", ["tenant_id", "at_ns"], unique=False)
    op.create_index("ix_reads_recording_id", "reads", ["recording_id", "at_ns"], unique=False)
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    tenants = sa.table(
        "tenants",
        *map(sa.column, ("id", "display_name", "create_ns")),
        sa.column("public_key", sa.LargeBinary),
    )
    json_columns = ("numbers", "trunks", "directions", "do_not_record", "rules")
    lines = sa.table(
        "lines",
        *map(sa.column, ("id", "tenant_id", "display_name", "create_ns")),
        sa.column("catch_all", sa.Boolean),
        *(sa.column(name, sa.JSON) for name in json_columns),
    )
    prompts = sa.table("prompts", sa.column("tenant_id"), sa.column("purposes", sa.JSON))
    stated: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(prompts)):
        stated.setdefault(row.tenant_id, []).extend(row.purposes)
    for row in connection.execute(sa.select(tenants)).all():
        known = [name for name, _, _ in _SEEDS]
        more = dict.fromkeys(one for one in stated.get(row.id, []) if one not in known)
        some = [*((*one, True) for one in _SEEDS), *((name, name, "", False) for name in more)]
        for ordinal, (purpose_id, display_name, legal_basis, seeded) in enumerate(some, 1):
            _purpose(connection, row, ordinal, purpose_id, display_name, legal_basis, seeded)
        content = {
            "tenant_id": row.id,
            "display_name": row.display_name,
            "public_key": base64.urlsafe_b64encode(row.public_key).decode(),
            "create_ns": row.create_ns,
            "contact": "",
            "language": "",
            "time_zone": "",
        }
        _version(connection, "tenant", row.id, row.id, row.create_ns, content)
    for row in connection.execute(sa.select(lines)).all():
        content = {
            "line_id": row.id,
            **{
                name: getattr(row, name)
                for name in ("tenant_id", "display_name", "catch_all", "create_ns", *json_columns[:-1])
            },
            "inline": None,
            "keys": {"pause": "*2", "resume": "*3", "end": "*4"},
            "rights": "none",
            "agents": [],
            "auto_resume_s": 0,
            "reminder_s": 30,
            "purposes": [],
            **row.rules,
        }
        _version(connection, "line", row.tenant_id, row.id, row.create_ns, content)


def _purpose(
    connection: sa.Connection,
    tenant: Any,
    ordinal: int,
    purpose_id: str,
    display_name: str,
    legal_basis: str,
    seeded: bool,
) -> None:
    content = {
        "tenant_id": tenant.id,
        "display_name": display_name,
        "legal_basis": legal_basis,
        "seeded": seeded,
        "create_ns": tenant.create_ns,
        "archive_ns": None,
    }
    names = ("id", "ordinal", *content)
    table = sa.table("purposes", *map(sa.column, names))
    connection.execute(sa.insert(table).values(id=purpose_id, ordinal=ordinal, **content))
    _version(
        connection, "purpose", tenant.id, purpose_id, tenant.create_ns, {"purpose_id": purpose_id, **content}
    )


def _version(
    connection: sa.Connection, kind: str, tenant_id: str, subject: str, at_ns: int, content: dict[str, Any]
) -> None:
    names = ("tenant_id", "kind", "subject", "version", "at_ns", "who", "request", "restored")
    table = sa.table(
        "versions",
        *map(sa.column, names),
        sa.column("redacted", sa.Boolean),
        sa.column("content", sa.JSON),
    )
    connection.execute(
        sa.insert(table).values(
            tenant_id=tenant_id,
            kind=kind,
            subject=subject,
            version=1,
            at_ns=at_ns,
            who="",
            request="",
            restored=0,
            redacted=False,
            content=json.loads(json.dumps(content)),
        )
    )


def downgrade() -> None:
    op.drop_table("reads")
    op.drop_table("versions")
    op.drop_table("purposes")
    for column in ("contact", "language", "time_zone"):
        op.drop_column("tenants", column)
