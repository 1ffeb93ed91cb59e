"""Reviews in the catalogue: from the queue to their end. Each change is one transaction, and holds only in the right state.

Calls that are deleted, erased or restricted are in no queue: it is asked for each time, so that what is undeleted or
whose restriction is lifted is there again.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging, scorecards, tables
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.records import State as Filing
from appliance.catalog.records import etag_of
from appliance.catalog.restrictions import restricted_clause
from appliance.catalog.reviewerrors import ReviewDoubleError, ReviewNotFoundError, ReviewTakenError
from appliance.catalog.reviewtables import review_considered, review_pending
from appliance.catalog.reviewtables import reviews as table
from appliance.review.figures import Reviewed
from appliance.review.scoring import Answer, Score

DAY_NS: Final = 86400 * 10**9
_c = table.c
_r = tables.recordings


class State(enum.StrEnum):
    """Where a review is."""

    WAITING = "waiting"  # in the queue
    DRAFT = "draft"  # somebody holds it
    SKIPPED = "skipped"
    SUBMITTED = "submitted"
    ACKNOWLEDGED = "acknowledged"  # by the agent
    DISPUTED = "disputed"
    RESOLVED = "resolved"


class Outcome(enum.StrEnum):
    """What came of a dispute."""

    NONE = ""
    UPHELD = "upheld"
    REOPENED = "reopened"
    VOID = "void"


ENDED: Final = frozenset({State.SUBMITTED, State.ACKNOWLEDGED, State.DISPUTED, State.RESOLVED})
"""What has a score."""


@dataclass(frozen=True)
class Review:
    """A review. Times are nanoseconds since the Unix epoch; `readable`: its recording is filed and not restricted."""

    review_id: str
    tenant_id: str
    recording_id: str
    line_id: str
    agent: str
    call_ns: int
    week: str
    scorecard_id: str
    create_ns: int
    version: int = 0
    rule_id: str = ""
    state: State = State.WAITING
    assignee: str = ""
    reviewer: str = ""
    answers: tuple[Answer, ...] = ()
    score: Score | None = None
    comment: str = ""
    resolution: str = ""
    outcome: Outcome = Outcome.NONE
    serial: int = 0
    due_ns: int | None = None
    claim_ns: int | None = None
    submit_ns: int | None = None
    answer_ns: int | None = None
    resolve_ns: int | None = None
    readable: bool = field(default=True, compare=False)

    @property
    def etag(self) -> str:
        return etag_of(self.review_id, self.serial)


@dataclass(frozen=True)
class Asked:
    """Which reviews a list has. `agent`: of this one alone; `who`: assigned to or held by.

    `own_agent`: for who is that agent and nothing more: only of that one, and only what has a score. `numbers`: the own
    ones of who sees all: of these, too, only what has a score.
    """

    tenant_id: str | None
    states: tuple[State, ...] = ()
    agent: str | None = None
    own_agent: str | None = None
    numbers: frozenset[str] = frozenset()
    who: str = ""
    scorecard_id: str = ""


def add(connection: sa.Connection, one: Review) -> None:
    """ReviewDoubleError where there is one of this call and agent with this scorecard."""
    known = double(connection, one)
    if known:
        raise ReviewDoubleError("there is such a review", review=known)
    connection.execute(sa.insert(table).values(id=one.review_id, **_columns(one)))


def double(connection: sa.Connection, one: Review) -> str:
    """The id of one of the same call and agent with the same scorecard; empty: there is none."""
    mine = (_c.recording_id == one.recording_id, _c.agent == one.agent, _c.scorecard_id == one.scorecard_id)
    return str(connection.execute(sa.select(_c.id).where(*mine).limit(1)).scalar() or "")


def in_week(connection: sa.Connection, rule_id: str, agent: str, week: str) -> int:
    """How many a rule drew of an agent's calls of a week."""
    mine = (_c.rule_id == rule_id, _c.agent == agent, _c.week == week)
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*mine)).scalar_one())


def get(
    connection: sa.Connection,
    review_id: str,
    tenant_id: str | None = None,
    etag: str = "",
    own_agent: str | None = None,
    numbers: frozenset[str] = frozenset(),
) -> Review:
    """One, as far as `Asked` lets it be seen. ReviewNotFoundError, EtagMismatchError."""
    query = _select().where(_c.id == review_id, *_seen(tenant_id, own_agent, numbers))
    row = connection.execute(query).first()
    if row is None:
        raise ReviewNotFoundError("no such review", review=review_id)
    found = _of(row)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the review changed since", field="etag")
    return found


def put(connection: sa.Connection, before: Review, after: Review) -> Review:
    """The change of a review that is still as it was. ReviewTakenError where somebody was first."""
    after = replace(after, serial=before.serial + 1)
    done = connection.execute(
        sa.update(table)
        .where(_c.id == before.review_id, _c.serial == before.serial)
        .values(**_columns(after))
    )
    if done.rowcount != 1:
        raise ReviewTakenError("somebody else changed the review meanwhile", review=before.review_id)
    return after


def listed(
    connection: sa.Connection, asked: Asked, limit: int, after: tuple[int, str] | None
) -> list[Review]:
    """Newest first, after that one. What waits or is held of calls that cannot be read is not there."""
    query = _select().where(*_seen(asked.tenant_id, asked.own_agent, asked.numbers))
    query = query.where(sa.or_(_c.state.not_in((State.WAITING.value, State.DRAFT.value)), _readable()))
    if asked.states:
        query = query.where(_c.state.in_([one.value for one in asked.states]))
    if asked.agent is not None:
        query = query.where(_c.agent == asked.agent)
    if asked.scorecard_id:
        query = query.where(_c.scorecard_id == asked.scorecard_id)
    if asked.who:
        query = query.where(sa.or_(_c.assignee == asked.who, _c.reviewer == asked.who))
    query = paging.beyond(query, _c.create_ns, _c.id, after, newest_first=True)
    found = connection.execute(query.order_by(_c.create_ns.desc(), _c.id.desc()).limit(limit))
    return [_of(row) for row in found]


def waiting(connection: sa.Connection, tenant_id: str, who: str, numbers: frozenset[str]) -> Iterator[Review]:
    """What somebody with these numbers of the own may begin: first what is due first."""
    query = (
        _select()
        .where(
            _c.tenant_id == tenant_id,
            _c.state == State.WAITING.value,
            _c.assignee.in_(("", who)),
            _c.agent.not_in(sorted(numbers)),
            _readable(),
        )
        .order_by(_c.due_ns.is_(None), _c.due_ns, _c.create_ns, _c.id)
    )
    for row in connection.execute(query.limit(200)):
        yield _of(row)


def counted(
    connection: sa.Connection, tenant_id: str, scorecard_id: str, from_ns: int, to_ns: int
) -> Iterator[Reviewed]:
    """What figures count of a scorecard: what has a score that was not taken back, by the beginning of the call."""
    query = sa.select(_c.call_ns, _c.agent, _c.line_id, _c.reviewer, _c.version, _c.score).where(
        _c.tenant_id == tenant_id,
        _c.scorecard_id == scorecard_id,
        _c.call_ns >= from_ns,
        _c.call_ns < to_ns,
        _c.state.in_(sorted(one.value for one in ENDED)),
        _c.outcome != Outcome.VOID.value,
    )
    for row in connection.execute(query).yield_per(1000):
        score = Score.model_validate(row.score)
        lines = tuple((one.question_id, one.share, one.failed) for one in score.lines)
        yield Reviewed(
            row.call_ns, row.agent, row.line_id, row.reviewer, row.version, score.value, score.failed, lines
        )


def submitted(connection: sa.Connection, recording_ids: Sequence[str]) -> dict[str, list[Review]]:
    """What has a score, of some recordings, oldest first."""
    query = _select().where(
        _c.recording_id.in_(recording_ids), _c.state.in_(sorted(one.value for one in ENDED))
    )
    found: dict[str, list[Review]] = {}
    for row in connection.execute(query.order_by(_c.create_ns, _c.id)):
        found.setdefault(row.recording_id, []).append(_of(row))
    return found


def forget(connection: sa.Connection, recording_id: str) -> None:
    """Its recording is erased: what was said goes. Scores stay, of no recording, where the tenant wants them counted."""
    for pending in (review_pending, review_considered):
        connection.execute(sa.delete(pending).where(pending.c.recording_id == recording_id))
    for row in connection.execute(_select().where(_c.recording_id == recording_id)).all():
        one = _of(row)
        if one.state not in ENDED or not scorecards.settings(connection, one.tenant_id).keep_scores:
            connection.execute(sa.delete(table).where(_c.id == one.review_id))
            continue
        bare = replace(
            one,
            recording_id="",
            call_ns=one.call_ns - one.call_ns % DAY_NS,
            answers=tuple(answer.bare() for answer in one.answers),
            comment="",
            resolution="",
            serial=one.serial + 1,
        )
        connection.execute(sa.update(table).where(_c.id == one.review_id).values(**_columns(bare)))


def _seen(
    tenant_id: str | None, own_agent: str | None, numbers: frozenset[str]
) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [] if tenant_id is None else [_c.tenant_id == tenant_id]
    ended = _c.state.in_(sorted(one.value for one in ENDED))
    if own_agent is not None:
        found += [_c.agent == own_agent, _c.agent != "", ended]
    elif numbers:
        found.append(sa.or_(_c.agent.not_in(sorted(numbers)), ended))
    return found


def drafts(connection: sa.Connection, scorecard_id: str, before_version: int) -> int:
    """How many were begun with an older version of a scorecard and are not ended."""
    mine = (_c.scorecard_id == scorecard_id, _c.version < before_version, _c.state == State.DRAFT.value)
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(*mine)).scalar_one())


def _readable() -> sa.ColumnElement[bool]:
    return sa.and_(_r.c.state.is_not(None), _r.c.state == Filing.FILED.value, sa.not_(restricted_clause()))


def _select() -> sa.Select[Any]:
    joined = sa.select(table, sa.case((_readable(), True), else_=False).label("readable"))
    return joined.select_from(table.outerjoin(_r, _r.c.id == _c.recording_id))


def _columns(one: Review) -> dict[str, Any]:
    said = {**one.__dict__}
    for name in ("review_id", "readable"):
        del said[name]
    return {
        **said,
        "state": one.state.value,
        "outcome": one.outcome.value,
        "answers": [answer.model_dump(mode="json") for answer in one.answers],
        "score": {} if one.score is None else one.score.model_dump(mode="json"),
    }


def _of(row: sa.Row[Any]) -> Review:
    said = dict(row._mapping)
    review_id = said.pop("id")
    return Review(
        **{
            **said,
            "review_id": review_id,
            "state": State(said["state"]),
            "outcome": Outcome(said["outcome"]),
            "answers": tuple(Answer.model_validate(one) for one in said["answers"]),
            "score": Score.model_validate(said["score"]) if said["score"] else None,
        }
    )
