"""Rules that draw calls for review, and the drawing: each recording is considered once by each rule, in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import filters, reviews, scorecards, tables, tenants
from appliance.catalog.building import build
from appliance.catalog.errors import EtagMismatchError, FilterError
from appliance.catalog.filters import Field
from appliance.catalog.recording_filter import FIELDS, conditions
from appliance.catalog.records import Recording, State, etag_of
from appliance.catalog.restrictions import restricted_clause
from appliance.catalog.reviewerrors import ReviewDoubleError, ReviewRuleLimitError, ReviewRuleNotFoundError
from appliance.catalog.reviews import Review
from appliance.catalog.reviewtables import review_considered, review_counts, review_pending
from appliance.catalog.reviewtables import review_rules as table
from appliance.model import Role, new_id
from appliance.review import sampling
from appliance.review.sampling import Draw, Drawing

APPLY: Final = "apply-review-rule"
"""The kind of operation that holds a rule against what is there."""
MAX_OF_TENANT: Final = 50
DAY_NS: Final = 86400 * 10**9
# What says nothing of callers: a rule is kept, and no erasure looks into it.
_ALLOWED: Final = (
    "start_time",
    "duration",
    "direction",
    "whole",
    "line",
    "source",
    "flags",
    "marks",
    "tags",
    "agent",
)
RULE_FIELDS: Final[dict[str, Field]] = {name: FIELDS[name] for name in _ALLOWED}
_r = tables.recordings
Reads = Callable[[sa.Connection, Recording, str], bool]
"""Whether a recording may be read for a purpose."""


@dataclass(frozen=True)
class Rule:
    """A rule of sampling; `key` never leaves the box."""

    rule_id: str
    tenant_id: str
    display_name: str
    scorecard_id: str
    drawing: Drawing
    create_ns: int
    filter: str = ""
    assignee: str = ""
    paused: bool = False
    key: bytes = field(default=b"", repr=False)

    @property
    def etag(self) -> str:
        return etag_of(*(value for name, value in _columns(self).items() if name != "key"))


def parse(text: str) -> filters.Node | None:
    """A rule's filter: a recording filter without what says something of callers. FilterError."""
    return filters.parse(text, RULE_FIELDS)


def check_new(connection: sa.Connection, one: Rule) -> None:
    """ReviewRuleLimitError, ScorecardNotFoundError, ScorecardArchivedError."""
    scorecards.usable(connection, one.scorecard_id, one.tenant_id)
    query = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == one.tenant_id)
    if int(connection.execute(query).scalar_one()) >= MAX_OF_TENANT:
        raise ReviewRuleLimitError("the tenant has as many rules as it may have", limit=MAX_OF_TENANT)


def add(connection: sa.Connection, one: Rule) -> None:
    """As `check_new` refuses."""
    check_new(connection, one)
    connection.execute(sa.insert(table).values(id=one.rule_id, **_columns(one)))


def update(connection: sa.Connection, one: Rule) -> None:
    connection.execute(sa.update(table).where(table.c.id == one.rule_id).values(**_columns(one)))


def delete(connection: sa.Connection, rule_id: str) -> None:
    """What it drew stays."""
    for each in (review_counts, review_considered):
        connection.execute(sa.delete(each).where(each.c.rule_id == rule_id))
    connection.execute(sa.delete(table).where(table.c.id == rule_id))


def get(connection: sa.Connection, rule_id: str, tenant_id: str | None = None, etag: str = "") -> Rule:
    """ReviewRuleNotFoundError, EtagMismatchError."""
    query = sa.select(table).where(table.c.id == rule_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise ReviewRuleNotFoundError("no such rule", rule=rule_id)
    found = _of(row)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the rule changed since", field="etag")
    return found


def of_tenant(connection: sa.Connection, tenant_id: str) -> list[Rule]:
    """All, oldest first: there are few."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id).order_by(table.c.create_ns, table.c.id)
    return [_of(row) for row in connection.execute(query)]


def touched(connection: sa.Connection, recording_id: str, tenant_id: str) -> None:
    """A recording is new, known now, or has other tags: the rules of its tenant are to look at it."""
    mine = sa.select(sa.literal(1)).where(table.c.tenant_id == tenant_id, table.c.paused.is_(False))
    there = sa.select(sa.literal(1)).where(review_pending.c.recording_id == recording_id)
    if connection.execute(mine.limit(1)).first() and not connection.execute(there).first():
        connection.execute(sa.insert(review_pending).values(recording_id=recording_id))


def pending(connection: sa.Connection, limit: int) -> list[str]:
    """What the rules have not looked at, in the order of arrival."""
    query = (
        sa.select(review_pending.c.recording_id)
        .outerjoin(_r, _r.c.id == review_pending.c.recording_id)
        .order_by(_r.c.seq, review_pending.c.recording_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def look(connection: sa.Connection, recording_id: str, now_ns: int, reads: Reads) -> list[str]:
    """Have all rules look at one that is pending; gives the ids of the reviews made."""
    connection.execute(sa.delete(review_pending).where(review_pending.c.recording_id == recording_id))
    tenant_id = connection.execute(sa.select(_r.c.tenant_id).where(_r.c.id == recording_id)).scalar()
    made: list[str] = []
    for rule in of_tenant(connection, tenant_id) if tenant_id else ():
        if not rule.paused:
            made += consider(connection, rule, recording_id, now_ns, reads)
    return made


def consider(
    connection: sa.Connection, rule: Rule, recording_id: str, now_ns: int, reads: Reads
) -> list[str]:
    """Have a rule look at a recording, unless it was counted before; gives the ids of the reviews made.

    What does not match, or cannot be read for review, is not counted: it may match later, when it has other tags.
    """
    mine = (review_considered.c.recording_id == recording_id, review_considered.c.rule_id == rule.rule_id)
    if connection.execute(sa.select(sa.literal(1)).where(*mine)).first():
        return []
    try:
        where = parse(rule.filter)
    except FilterError:
        raise AssertionError("a rule's filter was read when it was made") from None
    query = sa.select(_r).where(
        _r.c.id == recording_id,
        _r.c.described.is_(True),
        _r.c.state == State.FILED.value,
        sa.not_(restricted_clause()),
        *conditions(connection, rule.tenant_id, where),
    )
    row = connection.execute(query).first()
    if row is None:
        return []
    card = scorecards.get(connection, rule.scorecard_id, rule.tenant_id)
    if card.archive_ns is not None:
        return []
    recording = build(connection, [row], full=True)[0]
    if not reads(connection, recording, scorecards.settings(connection, rule.tenant_id).purpose):
        return []
    connection.execute(sa.insert(review_considered).values(recording_id=recording_id, rule_id=rule.rule_id))
    zone = tenants.get_tenant(connection, rule.tenant_id).time_zone
    week = sampling.week(recording.start_ns, zone)
    made = []
    for agent in agents_of(recording) or [""]:
        count = _count(connection, rule.rule_id, agent)
        drawn = reviews.in_week(connection, rule.rule_id, agent, week)
        if not sampling.chosen(rule.drawing, rule.key, recording_id, count, drawn):
            continue
        one = Review(
            review_id=new_id(),
            tenant_id=rule.tenant_id,
            recording_id=recording_id,
            line_id=recording.line_id,
            agent=agent,
            call_ns=recording.start_ns,
            week=week,
            scorecard_id=rule.scorecard_id,
            create_ns=now_ns,
            rule_id=rule.rule_id,
            assignee=rule.assignee,
            due_ns=now_ns + rule.drawing.due_days * DAY_NS if rule.drawing.due_days else None,
        )
        with contextlib.suppress(ReviewDoubleError):
            reviews.add(connection, one)
            made.append(one.review_id)
    return made


def agents_of(recording: Recording) -> list[str]:
    """The numbers of the agents of a call, in the order of its parties."""
    return list(
        dict.fromkeys(one.number for one in recording.parties if one.role is Role.AGENT and one.number)
    )


def _count(connection: sa.Connection, rule_id: str, agent: str) -> int:
    """Which call of the agent this is for the rule, from 1; kept."""
    mine = (review_counts.c.rule_id == rule_id, review_counts.c.agent == agent)
    known = connection.execute(sa.select(review_counts.c.count).where(*mine)).scalar()
    if known is None:
        connection.execute(sa.insert(review_counts).values(rule_id=rule_id, agent=agent, count=1))
        return 1
    connection.execute(sa.update(review_counts).where(*mine).values(count=known + 1))
    return int(known) + 1


def _columns(one: Rule) -> dict[str, Any]:
    return {
        "tenant_id": one.tenant_id,
        "display_name": one.display_name,
        "scorecard_id": one.scorecard_id,
        "filter": one.filter,
        "draw": one.drawing.draw.value,
        "every": one.drawing.every,
        "share": one.drawing.share,
        "weekly_limit": one.drawing.weekly_limit,
        "due_days": one.drawing.due_days,
        "assignee": one.assignee,
        "key": one.key,
        "paused": one.paused,
        "create_ns": one.create_ns,
    }


def _of(row: sa.Row[Any]) -> Rule:
    drawing = Drawing(Draw(row.draw), row.every, row.share, row.weekly_limit, row.due_days)
    return Rule(
        rule_id=row.id,
        tenant_id=row.tenant_id,
        display_name=row.display_name,
        scorecard_id=row.scorecard_id,
        drawing=drawing,
        create_ns=row.create_ns,
        filter=row.filter,
        assignee=row.assignee,
        paused=row.paused,
        key=bytes(row.key),
    )
