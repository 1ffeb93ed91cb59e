"""Notices to staff and their versions in the catalogue. A version never changes; what was in force stays readable."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.errors import EtagMismatchError, VersionNotFoundError
from appliance.catalog.noticeerrors import (
    NoticeArchivedError,
    NoticeLimitError,
    NoticeNotFoundError,
    NoticeVersionPublishedError,
)
from appliance.catalog.noticetables import notice_versions as versions_table
from appliance.catalog.noticetables import notices as table
from appliance.catalog.records import etag_of
from appliance.model import staff as rules
from appliance.model.staff import Audience, InForce, Notice, NoticeVersion

MAX_OF_TENANT: Final = 50
MAX_VERSIONS: Final = 500


def check_new(connection: sa.Connection, tenant_id: str) -> None:
    """NoticeLimitError."""
    count = connection.execute(
        sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
    ).scalar_one()
    if count >= MAX_OF_TENANT:
        raise NoticeLimitError("the tenant has as many notices as it may have", limit=MAX_OF_TENANT)


def add(connection: sa.Connection, notice: Notice, first: NoticeVersion) -> None:
    """With its first version; NoticeLimitError."""
    check_new(connection, notice.tenant_id)
    connection.execute(sa.insert(table).values(id=notice.notice_id, **_columns(notice)))
    _insert(connection, notice.notice_id, first)


def update(connection: sa.Connection, notice: Notice) -> None:
    connection.execute(sa.update(table).where(table.c.id == notice.notice_id).values(**_columns(notice)))


def check_version(versions: list[NoticeVersion], notice: Notice) -> int:
    """The number of the next version; NoticeArchivedError, NoticeLimitError."""
    if notice.archive_ns is not None:
        raise NoticeArchivedError("the notice was taken out of use")
    if len(versions) >= MAX_VERSIONS:
        raise NoticeLimitError("the notice has as many versions as it may have", limit=MAX_VERSIONS)
    return max((one.version for one in versions), default=0) + 1


def add_version(connection: sa.Connection, notice_id: str, version: NoticeVersion) -> None:
    _insert(connection, notice_id, version)


def cancelled(versions: list[NoticeVersion], version: int, now_ns: int) -> NoticeVersion:
    """A version as it is once it is taken back; VersionNotFoundError, NoticeVersionPublishedError."""
    found = next((one for one in versions if one.version == version), None)
    if found is None:
        raise VersionNotFoundError("there is no such version", field="version")
    if found.cancel_ns is not None:
        return found
    if found.publish_ns <= now_ns:
        raise NoticeVersionPublishedError("the version's time has come: make a new one")
    return found.model_copy(update={"cancel_ns": now_ns})


def cancel(connection: sa.Connection, notice_id: str, version: NoticeVersion) -> None:
    """Take a version back."""
    connection.execute(
        sa.update(versions_table)
        .where(versions_table.c.notice_id == notice_id, versions_table.c.version == version.version)
        .values(cancel_ns=version.cancel_ns)
    )


def get(
    connection: sa.Connection, tenant_id: str, notice_id: str, etag: str = ""
) -> tuple[Notice, list[NoticeVersion]]:
    """With its versions, oldest first; NoticeNotFoundError, EtagMismatchError."""
    row = connection.execute(
        sa.select(table).where(table.c.tenant_id == tenant_id, table.c.id == notice_id)
    ).first()
    if row is None:
        raise NoticeNotFoundError("no such notice")
    found, versions = notice_of(row), versions_of(connection, notice_id)
    if etag not in ("", etag_of_notice(found, versions)):
        raise EtagMismatchError("the notice changed since", field="etag")
    return found, versions


def versions_of(connection: sa.Connection, notice_id: str) -> list[NoticeVersion]:
    """Oldest first."""
    query = sa.select(versions_table).where(versions_table.c.notice_id == notice_id)
    return [version_of(row) for row in connection.execute(query.order_by(versions_table.c.version))]


def listed(
    connection: sa.Connection,
    tenant_id: str,
    limit: int | None = None,
    after: tuple[int, str] | None = None,
    *,
    archived: bool = False,
) -> list[tuple[Notice, list[NoticeVersion]]]:
    """In the order they were made, after that one; each with its versions, oldest first."""
    query = sa.select(table).where(table.c.tenant_id == tenant_id)
    if not archived:
        query = query.where(table.c.archive_ns.is_(None))
    query = paging.beyond(query, table.c.create_ns, table.c.id, after)
    found = [
        notice_of(row)
        for row in connection.execute(query.order_by(table.c.create_ns, table.c.id).limit(limit))
    ]
    return [(one, versions_of(connection, one.notice_id)) for one in found]


def tenants_with(connection: sa.Connection) -> list[str]:
    """Ids of the tenants that have notices in use."""
    query = sa.select(table.c.tenant_id).where(table.c.archive_ns.is_(None)).distinct()
    return list(connection.execute(query.order_by(table.c.tenant_id)).scalars())


def in_force(connection: sa.Connection, tenant_id: str, now_ns: int) -> list[InForce]:
    """What is to be acknowledged now, in the order the notices were made. No texts are read."""
    rows = connection.execute(
        sa.select(
            table,
            *(versions_table.c[name] for name in ("version", "language", "anew", "publish_ns", "cancel_ns")),
        )
        .join(versions_table, versions_table.c.notice_id == table.c.id)
        .where(table.c.tenant_id == tenant_id, table.c.archive_ns.is_(None))
        .order_by(table.c.create_ns, table.c.id, versions_table.c.version)
    ).all()
    versions: dict[str, list[NoticeVersion]] = defaultdict(list)
    some: dict[str, Notice] = {}
    for row in rows:
        some.setdefault(row.id, notice_of(row))
        versions[row.id].append(
            NoticeVersion(
                version=row.version,
                text="",
                language=row.language,
                anew=row.anew,
                publish_ns=row.publish_ns,
                cancel_ns=row.cancel_ns,
            )
        )
    found = []
    for notice_id, notice in some.items():
        now, needed = rules.in_force(versions[notice_id], now_ns), rules.needed(versions[notice_id], now_ns)
        if now is not None and needed is not None:
            found.append(
                InForce(notice=notice, version=now.version, needed=needed.version, since_ns=needed.publish_ns)
            )
    return found


def next_change(connection: sa.Connection, now_ns: int) -> int | None:
    """When the next version of any notice comes into force."""
    query = sa.select(sa.func.min(versions_table.c.publish_ns)).where(
        versions_table.c.publish_ns > now_ns, versions_table.c.cancel_ns.is_(None)
    )
    found: int | None = connection.execute(query).scalar()
    return found


def reminded(connection: sa.Connection, notice_id: str, version: int) -> int:
    """After how many days the last reminder of a version was; 0: none yet."""
    return int(
        connection.execute(
            sa.select(versions_table.c.reminded_days).where(
                versions_table.c.notice_id == notice_id, versions_table.c.version == version
            )
        ).scalar_one()
    )


def remind(connection: sa.Connection, notice_id: str, version: int, days: int) -> None:
    """The reminder of so many days after is sent."""
    connection.execute(
        sa.update(versions_table)
        .where(versions_table.c.notice_id == notice_id, versions_table.c.version == version)
        .values(reminded_days=days)
    )


def etag_of_notice(notice: Notice, versions: list[NoticeVersion]) -> str:
    return etag_of(notice.model_dump_json(), *((one.version, one.cancel_ns) for one in versions))


def _insert(connection: sa.Connection, notice_id: str, version: NoticeVersion) -> None:
    connection.execute(
        sa.insert(versions_table).values(
            notice_id=notice_id,
            version=version.version,
            text=version.text,
            language=version.language,
            anew=version.anew,
            publish_ns=version.publish_ns,
            create_ns=version.create_ns,
            author=version.author,
            cancel_ns=version.cancel_ns,
            reminded_days=0,
        )
    )


def _columns(notice: Notice) -> dict[str, Any]:
    return {
        "tenant_id": notice.tenant_id,
        "display_name": notice.display_name,
        "audience": notice.audience.value,
        "lines": list(notice.lines),
        "required": notice.required,
        "default_id": notice.default_id,
        "create_ns": notice.create_ns,
        "archive_ns": notice.archive_ns,
    }


def notice_of(row: sa.Row[Any]) -> Notice:
    """A row of the table of notices."""
    return Notice(
        notice_id=row.id,
        tenant_id=row.tenant_id,
        display_name=row.display_name,
        audience=Audience(row.audience),
        lines=tuple(row.lines),
        required=row.required,
        default_id=row.default_id,
        create_ns=row.create_ns,
        archive_ns=row.archive_ns,
    )


def version_of(row: sa.Row[Any]) -> NoticeVersion:
    """A row of the table of versions."""
    return NoticeVersion(
        version=row.version,
        text=row.text,
        language=row.language,
        anew=row.anew,
        publish_ns=row.publish_ns,
        create_ns=row.create_ns,
        author=row.author,
        cancel_ns=row.cancel_ns,
    )
