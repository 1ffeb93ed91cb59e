"""Scorecards of tenants, in versions; and how a tenant has calls reviewed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.records import etag_of
from appliance.catalog.reviewerrors import ScorecardArchivedError, ScorecardLimitError, ScorecardNotFoundError
from appliance.catalog.reviewtables import review_settings, scorecard_versions
from appliance.catalog.reviewtables import scorecards as table
from appliance.review.scorecard import Content

MAX_OF_TENANT: Final = 200
MAX_VERSIONS: Final = 1000
PURPOSE: Final = "quality"


@dataclass(frozen=True)
class Scorecard:
    """One version of a scorecard; `newest`: which version is the newest. Times are nanoseconds since the Unix epoch."""

    scorecard_id: str
    tenant_id: str
    version: int
    newest: int
    content: Content
    create_ns: int
    archive_ns: int | None
    who: str
    at_ns: int

    @property
    def etag(self) -> str:
        return etag_of(self.scorecard_id, self.newest, self.archive_ns)


@dataclass(frozen=True)
class Settings:
    """`purpose`: what calls are read for to review them. `keep_scores`: of erased recordings, without what was said."""

    purpose: str = PURPOSE
    keep_scores: bool = True

    @property
    def etag(self) -> str:
        return etag_of(self.purpose, self.keep_scores)


def check_new(connection: sa.Connection, tenant_id: str) -> None:
    """ScorecardLimitError."""
    query = sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
    if int(connection.execute(query).scalar_one()) >= MAX_OF_TENANT:
        raise ScorecardLimitError("the tenant has as many scorecards as it may have", limit=MAX_OF_TENANT)


def add(connection: sa.Connection, one: Scorecard) -> None:
    """The first version. ScorecardLimitError."""
    check_new(connection, one.tenant_id)
    connection.execute(
        sa.insert(table).values(
            id=one.scorecard_id,
            tenant_id=one.tenant_id,
            version=one.version,
            create_ns=one.create_ns,
            archive_ns=one.archive_ns,
        )
    )
    _add_version(connection, one)


def changed(
    connection: sa.Connection, before: Scorecard, content: Content, who: str, at_ns: int
) -> Scorecard:
    """The next version, where it says something else; written down. ScorecardArchivedError, ScorecardLimitError."""
    after = next_version(before, content, who, at_ns)
    if after != before:
        connection.execute(
            sa.update(table).where(table.c.id == after.scorecard_id).values(version=after.version)
        )
        _add_version(connection, after)
    return after


def next_version(before: Scorecard, content: Content, who: str, at_ns: int) -> Scorecard:
    """What `changed` makes of it."""
    if before.archive_ns is not None:
        raise ScorecardArchivedError("the scorecard is archived", scorecard=before.scorecard_id)
    if content == before.content:
        return before
    if before.newest >= MAX_VERSIONS:
        raise ScorecardLimitError("the scorecard has as many versions as it may have", limit=MAX_VERSIONS)
    version = before.newest + 1
    return replace(before, version=version, newest=version, content=content, who=who, at_ns=at_ns)


def archive(connection: sa.Connection, scorecard_id: str, at_ns: int) -> None:
    """Take it out of use; what was begun with it is finished."""
    connection.execute(
        sa.update(table)
        .where(table.c.id == scorecard_id, table.c.archive_ns.is_(None))
        .values(archive_ns=at_ns)
    )


def get(
    connection: sa.Connection,
    scorecard_id: str,
    tenant_id: str | None = None,
    version: int = 0,
    etag: str = "",
) -> Scorecard:
    """One version; 0: the newest. ScorecardNotFoundError, EtagMismatchError."""
    query = _joined().where(table.c.id == scorecard_id)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = query.where(scorecard_versions.c.version == (version or table.c.version))
    row = connection.execute(query).first()
    if row is None:
        raise ScorecardNotFoundError("no such scorecard", scorecard=scorecard_id)
    found = _of(row)
    if etag not in ("", found.etag):
        raise EtagMismatchError("the scorecard changed since", field="etag")
    return found


def usable(connection: sa.Connection, scorecard_id: str, tenant_id: str) -> Scorecard:
    """The newest version of one that is in use. ScorecardNotFoundError, ScorecardArchivedError."""
    found = get(connection, scorecard_id, tenant_id)
    if found.archive_ns is not None:
        raise ScorecardArchivedError("the scorecard is archived", scorecard=scorecard_id)
    return found


def listed(
    connection: sa.Connection, tenant_id: str, limit: int, after: tuple[int, str] | None, *, archived: bool
) -> list[Scorecard]:
    """Newest versions, oldest scorecard first, after that one."""
    query = _joined().where(table.c.tenant_id == tenant_id, scorecard_versions.c.version == table.c.version)
    if not archived:
        query = query.where(table.c.archive_ns.is_(None))
    query = paging.beyond(query, table.c.create_ns, table.c.id, after)
    found = connection.execute(query.order_by(table.c.create_ns, table.c.id).limit(limit))
    return [_of(row) for row in found]


def versions(connection: sa.Connection, scorecard_id: str, limit: int, before: int | None) -> list[Scorecard]:
    """Newest first, those before that version."""
    query = _joined().where(table.c.id == scorecard_id)
    if before is not None:
        query = query.where(scorecard_versions.c.version < before)
    found = connection.execute(query.order_by(scorecard_versions.c.version.desc()).limit(limit))
    return [_of(row) for row in found]


def settings(connection: sa.Connection, tenant_id: str) -> Settings:
    row = connection.execute(
        sa.select(review_settings).where(review_settings.c.tenant_id == tenant_id)
    ).first()
    return Settings() if row is None else Settings(row.purpose, row.keep_scores)


def put_settings(connection: sa.Connection, tenant_id: str, one: Settings) -> None:
    mine = review_settings.c.tenant_id == tenant_id
    connection.execute(sa.delete(review_settings).where(mine))
    connection.execute(
        sa.insert(review_settings).values(
            tenant_id=tenant_id, purpose=one.purpose, keep_scores=one.keep_scores
        )
    )


def _add_version(connection: sa.Connection, one: Scorecard) -> None:
    connection.execute(
        sa.insert(scorecard_versions).values(
            scorecard_id=one.scorecard_id,
            version=one.version,
            content=one.content.model_dump(mode="json"),
            who=one.who,
            at_ns=one.at_ns,
        )
    )


def _joined() -> sa.Select[tuple[object, ...]]:
    v = scorecard_versions.c
    columns = (table.c.id, table.c.tenant_id, table.c.version.label("newest"), table.c.create_ns)
    return sa.select(*columns, table.c.archive_ns, v.version, v.content, v.who, v.at_ns).join(
        scorecard_versions, v.scorecard_id == table.c.id
    )


def _of(row: sa.Row[tuple[object, ...]]) -> Scorecard:
    said = row._mapping
    return Scorecard(
        scorecard_id=said["id"],
        tenant_id=said["tenant_id"],
        version=said["version"],
        newest=said["newest"],
        content=Content.model_validate(said["content"]),
        create_ns=said["create_ns"],
        archive_ns=said["archive_ns"],
        who=said["who"],
        at_ns=said["at_ns"],
    )
