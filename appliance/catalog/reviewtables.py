"""Tables of reviews: scorecards in versions, rules that draw calls, and reviews from the queue to their end.

What is said of a call is in `answers` (words, places), `comment` and `resolution` of a review: an erasure of its recording
takes these away, and the recording's id (`reviews.forget`). `agent` is a number of the tenant's own staff.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog.tables import Id, Who, metadata

scorecards = sa.Table(
    "scorecards",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),  # the newest
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("archive_ns", sa.BigInteger),
    sa.Index("ix_scorecards_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
)

scorecard_versions = sa.Table(
    "scorecard_versions",
    metadata,
    sa.Column("scorecard_id", Id, sa.ForeignKey("scorecards.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("content", sa.JSON, nullable=False),  # appliance.review.scorecard.Content
    sa.Column("who", Who, nullable=False),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
)

review_rules = sa.Table(
    "review_rules",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("scorecard_id", Id, sa.ForeignKey("scorecards.id"), nullable=False),
    sa.Column("filter", sa.String(2000), nullable=False),
    sa.Column("draw", sa.String(8), nullable=False),
    sa.Column("every", sa.Integer, nullable=False),
    sa.Column("share", sa.Integer, nullable=False),  # hundredths of a percent
    sa.Column("weekly_limit", sa.Integer, nullable=False),
    sa.Column("due_days", sa.Integer, nullable=False),
    sa.Column("assignee", Who, nullable=False),  # empty: whoever comes first
    sa.Column("key", sa.LargeBinary, nullable=False),  # of the hash that a percentage is drawn by
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Index("ix_review_rules_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
)

review_counts = sa.Table(  # calls of an agent that a rule counted
    "review_counts",
    metadata,
    sa.Column("rule_id", Id, primary_key=True),
    sa.Column("agent", sa.String(33), primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

review_considered = sa.Table(  # so that a rule counts a recording once, whatever is begun again
    "review_considered",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
    sa.Column("rule_id", Id, primary_key=True),
    sa.Index("ix_review_considered_rule_id", "rule_id"),
)

review_pending = sa.Table(  # recordings that are new or were tagged, and that no rule has looked at since
    "review_pending",
    metadata,
    sa.Column("recording_id", Id, primary_key=True),
)

reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", Id, nullable=False),
    sa.Column("recording_id", sa.String(26), nullable=False),  # empty: it is erased
    sa.Column("line_id", sa.String(26), nullable=False),
    sa.Column("agent", sa.String(33), nullable=False),
    sa.Column("call_ns", sa.BigInteger, nullable=False),  # of an erased recording: the day
    sa.Column("week", sa.String(8), nullable=False),
    sa.Column("scorecard_id", Id, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),  # 0: nobody began it yet
    sa.Column("rule_id", sa.String(26), nullable=False),  # empty: somebody asked for it
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("assignee", Who, nullable=False),
    sa.Column("reviewer", Who, nullable=False),
    sa.Column("answers", sa.JSON, nullable=False),
    sa.Column("score", sa.JSON, nullable=False),  # appliance.review.scoring.Score; empty: none yet
    sa.Column("comment", sa.String(2000), nullable=False),  # the agent's, or why it was skipped
    sa.Column("resolution", sa.String(2000), nullable=False),
    sa.Column("outcome", sa.String(12), nullable=False),
    sa.Column("serial", sa.Integer, nullable=False),
    sa.Column("create_ns", sa.BigInteger, nullable=False),
    sa.Column("due_ns", sa.BigInteger),
    sa.Column("claim_ns", sa.BigInteger),
    sa.Column("submit_ns", sa.BigInteger),
    sa.Column("answer_ns", sa.BigInteger),
    sa.Column("resolve_ns", sa.BigInteger),
    sa.Index("ix_reviews_tenant_id_create_ns", "tenant_id", "create_ns", "id"),
    sa.Index("ix_reviews_tenant_id_state", "tenant_id", "state", "due_ns"),
    sa.Index("ix_reviews_scorecard_id_call_ns", "scorecard_id", "call_ns"),
    sa.Index("ix_reviews_recording_id", "recording_id"),
    sa.Index("ix_reviews_rule_id_agent", "rule_id", "agent", "week"),
)

review_settings = sa.Table(
    "review_settings",
    metadata,
    sa.Column("tenant_id", Id, primary_key=True),
    sa.Column("purpose", sa.String(40), nullable=False),
    sa.Column("keep_scores", sa.Boolean, nullable=False),
)
