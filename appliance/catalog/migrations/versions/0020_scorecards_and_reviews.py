"""Scorecards in versions, rules that draw calls for review, reviews

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_ID: Any = sa.String(length=26)
_WHO: Any = sa.String(length=64).with_variant(sa.String(length=100), "postgresql")  # as in `tables`


def upgrade() -> None:
    op.create_table(
        "review_considered",
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("rule_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("recording_id", "rule_id", name=op.f("pk_review_considered")),
    )
    op.create_index("ix_review_considered_rule_id", "review_considered", ["rule_id"], unique=False)
    op.create_table(
        "review_counts",
        sa.Column("rule_id", _ID, nullable=False),
        sa.Column("agent", sa.String(length=33), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rule_id", "agent", name=op.f("pk_review_counts")),
    )
    op.create_table(
        "review_pending",
        sa.Column("recording_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("recording_id", name=op.f("pk_review_pending")),
    )
    op.create_table(
        "review_settings",
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("keep_scores", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_review_settings")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("line_id", _ID, nullable=False),
        sa.Column("agent", sa.String(length=33), nullable=False),
        sa.Column("call_ns", sa.BigInteger(), nullable=False),
        sa.Column("week", sa.String(length=8), nullable=False),
        sa.Column("scorecard_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rule_id", _ID, nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("assignee", _WHO, nullable=False),
        sa.Column("reviewer", _WHO, nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("score", sa.JSON(), nullable=False),
        sa.Column("comment", sa.String(length=2000), nullable=False),
        sa.Column("resolution", sa.String(length=2000), nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("due_ns", sa.BigInteger(), nullable=True),
        sa.Column("claim_ns", sa.BigInteger(), nullable=True),
        sa.Column("submit_ns", sa.BigInteger(), nullable=True),
        sa.Column("answer_ns", sa.BigInteger(), nullable=True),
        sa.Column("resolve_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index("ix_reviews_recording_id", "reviews", ["recording_id"], unique=False)
    op.create_index("ix_reviews_rule_id_agent", "reviews", ["rule_id", "agent", "week"], unique=False)
    op.create_index("ix_reviews_scorecard_id_call_ns", "reviews", ["scorecard_id", "call_ns"], unique=False)
    op.create_index(
        "ix_reviews_tenant_id_create_ns", "reviews", ["tenant_id", "create_ns", "id"], unique=False
    )
    op.create_index("ix_reviews_tenant_id_state", "reviews", ["tenant_id", "state", "due_ns"], unique=False)
    op.create_table(
        "scorecards",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.Column("archive_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scorecards")),
    )
    op.create_index(
        "ix_scorecards_tenant_id_create_ns", "scorecards", ["tenant_id", "create_ns", "id"], unique=False
    )
    op.create_table(
        "review_rules",
        sa.Column("id", _ID, nullable=False),
        sa.Column("tenant_id", _ID, nullable=False),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("scorecard_id", _ID, nullable=False),
        sa.Column("filter", sa.String(length=2000), nullable=False),
        sa.Column("draw", sa.String(length=8), nullable=False),
        sa.Column("every", sa.Integer(), nullable=False),
        sa.Column("share", sa.Integer(), nullable=False),
        sa.Column("weekly_limit", sa.Integer(), nullable=False),
        sa.Column("due_days", sa.Integer(), nullable=False),
        sa.Column("assignee", _WHO, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("create_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scorecard_id"], ["scorecards.id"], name=op.f("fk_review_rules_scorecard_id_scorecards")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_rules")),
    )
    op.create_index(
        "ix_review_rules_tenant_id_create_ns", "review_rules", ["tenant_id", "create_ns", "id"], unique=False
    )
    op.create_table(
        "scorecard_versions",
        sa.Column("scorecard_id", _ID, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("who", _WHO, nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["scorecard_id"], ["scorecards.id"], name=op.f("fk_scorecard_versions_scorecard_id_scorecards")
        ),
        sa.PrimaryKeyConstraint("scorecard_id", "version", name=op.f("pk_scorecard_versions")),
    )


def downgrade() -> None:
    op.drop_table("scorecard_versions")
    op.drop_index("ix_review_rules_tenant_id_create_ns", table_name="review_rules")
    op.drop_table("review_rules")
    op.drop_index("ix_scorecards_tenant_id_create_ns", table_name="scorecards")
    op.drop_table("scorecards")
    op.drop_index("ix_reviews_tenant_id_state", table_name="reviews")
    op.drop_index("ix_reviews_tenant_id_create_ns", table_name="reviews")
    op.drop_index("ix_reviews_scorecard_id_call_ns", table_name="reviews")
    op.drop_index("ix_reviews_rule_id_agent", table_name="reviews")
    op.drop_index("ix_reviews_recording_id", table_name="reviews")
    op.drop_table("reviews")
    op.drop_table("review_settings")
    op.drop_table("review_pending")
    op.drop_table("review_counts")
    op.drop_index("ix_review_considered_rule_id", table_name="review_considered")
    op.drop_table("review_considered")
