"""Tables of staff, notices and acknowledgements.

Personal data is in `staff` (name, email, identity, numbers) and `acknowledgements` (evidence, why one was withdrawn): that
is what goes when somebody is forgotten. All else are opaque ids, names of identities and texts that are for everybody.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Who, metadata

staff = sa.Table(
    "staff",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("identity", Who, nullable=False),
    sa.Column("numbers", sa.JSON, nullable=False),
    sa.Column("lines", sa.JSON, nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("leave_ns", sa.BigInteger),
    sa.Column("forgotten", sa.Boolean, nullable=False),
    sa.Index("ix_staff_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_staff_identity", "identity"),
    sa.Index("ix_staff_leave_ns", "leave_ns"),
)

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, sa.ForeignKey("tenants.id"), nullable=False),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("audience", sa.String(12), nullable=False),
    sa.Column("lines", sa.JSON, nullable=False),
    sa.Column("required", sa.Boolean, nullable=False),
    sa.Column("default_id", sa.String(40), nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("archive_ns", sa.BigInteger),
    sa.Index("ix_notices_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
)

notice_versions = sa.Table(
    "notice_versions",
    metadata,
    sa.Column("notice_id", Id, sa.ForeignKey("notices.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("language", sa.String(35), nullable=False),
    sa.Column("anew", sa.Boolean, nullable=False),
    sa.Column("publish_ns", sa.BigInteger, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("author", Who, nullable=False),
    sa.Column("cancel_ns", sa.BigInteger),
    sa.Column(
        "reminded_days", sa.Integer, nullable=False
    ),  # the last reminder was so many days after; 0: none yet
)

acknowledgements = sa.Table(
    "acknowledgements",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("notice_id", Id, sa.ForeignKey("notices.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text_sha256", sa.String(64), nullable=False),
    sa.Column("staff_id", Id, sa.ForeignKey("staff.id"), nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("way", sa.String(8), nullable=False),
    sa.Column("evidence", sa.String(200), nullable=False),
    sa.Column("actor", Who, nullable=False),  # empty: by a link
    sa.Column("withdraw_ns", sa.BigInteger),
    sa.Column("withdraw_actor", Who, nullable=False),
    sa.Column("withdraw_reason", sa.String(200), nullable=False),
    sa.Index("ix_acknowledgements_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_acknowledgements_staff_id", "staff_id", "notice_id", "version"),
    sa.Index("ix_acknowledgements_notice_id", "notice_id", "version"),
)

notice_links = sa.Table(
    "notice_links",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("notice_id", Id, sa.ForeignKey("notices.id"), nullable=False),
    sa.Column("staff_id", Id, sa.ForeignKey("staff.id"), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("expire_ns", sa.BigInteger, nullable=False),
    sa.Column("use_ns", sa.BigInteger),
    sa.Index("ix_notice_links_staff_id", "staff_id"),
    sa.Index("ix_notice_links_expire_ns", "expire_ns"),
)

notice_mails = sa.Table(  # who is to be reminded by mail; the address stands in `staff` alone
    "notice_mails",
    metadata,
    sa.Column("staff_id", Id, sa.ForeignKey("staff.id"), primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("due_ns", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Index("ix_notice_mails_tenant_id_due_ns", "tenant_id", "due_ns"),
)
