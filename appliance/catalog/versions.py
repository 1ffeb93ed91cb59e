"""What tenants, lines and purposes said, version by version: who changed them, when, and what they said then."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from appliance.catalog.contracttables import versions as table
from appliance.catalog.database import erasing
from appliance.catalog.errors import VersionNotFoundError


class Subject(enum.StrEnum):
    """What there are versions of."""

    TENANT = "tenant"
    LINE = "line"
    PURPOSE = "purpose"


@dataclass(frozen=True)
class Author:
    """Who makes a version, in which call, when. `restored`: the version whose content it takes."""

    at_ns: int
    who: str = ""
    request: str = ""
    restored: int = 0


@dataclass(frozen=True)
class Version:
    """One version; `content` is the model as JSON, `before` that of the version before (None: it is the first)."""

    version: int
    at_ns: int
    who: str
    request: str
    restored: int
    redacted: bool
    content: dict[str, Any]
    before: dict[str, Any] | None


def add(
    connection: sa.Connection, kind: Subject, tenant_id: str, subject: str, model: BaseModel, author: Author
) -> None:
    """The next version, in the transaction of the change. One that says what the newest says is none."""
    content = model.model_dump(mode="json")
    newest = connection.execute(
        sa.select(table.c.version, table.c.content)
        .where(*_of(kind, tenant_id, subject))
        .order_by(table.c.version.desc())
        .limit(1)
    ).first()
    if newest is not None and newest.content == content:
        return
    connection.execute(
        sa.insert(table).values(
            tenant_id=tenant_id,
            kind=kind.value,
            subject=subject,
            version=newest.version + 1 if newest is not None else 1,
            at_ns=author.at_ns,
            who=author.who,
            request=author.request,
            restored=author.restored,
            redacted=False,
            content=content,
        )
    )


def get(
    connection: sa.Connection, kind: Subject, tenant_id: str, subject: str, version: int
) -> dict[str, Any]:
    """The content of a version; VersionNotFoundError."""
    found = None
    if 0 < version < 2**63:
        found = connection.execute(
            sa.select(table.c.content).where(*_of(kind, tenant_id, subject), table.c.version == version)
        ).first()
    if found is None:
        raise VersionNotFoundError("there is no such version", field="version")
    return dict(found.content)


def listed(
    connection: sa.Connection,
    kind: Subject,
    tenant_id: str,
    subject: str,
    limit: int,
    below: int | None = None,
) -> list[Version]:
    """Newest first, at most `limit`, older than the version `below`."""
    query = sa.select(table).where(*_of(kind, tenant_id, subject))
    if below is not None:
        query = query.where(table.c.version < below)
    rows = connection.execute(query.order_by(table.c.version.desc()).limit(limit + 1)).all()
    return [
        Version(
            version=row.version,
            at_ns=row.at_ns,
            who=row.who,
            request=row.request,
            restored=row.restored,
            redacted=row.redacted,
            content=row.content,
            before=older.content if older is not None else None,
        )
        for row, older in zip(rows[:limit], [*rows[1 : limit + 1], None], strict=False)
    ]


def over_time(
    connection: sa.Connection, kind: Subject, tenant_id: str, subject: str, field: str
) -> list[tuple[int, Any]]:
    """What one field said, from when on (nanoseconds since the Unix epoch); oldest first."""
    query = sa.select(table.c.at_ns, table.c.content[field]).where(*_of(kind, tenant_id, subject))
    return [(at_ns, value) for at_ns, value in connection.execute(query.order_by(table.c.version))]


def redact(connection: sa.Connection, tenant_id: str, line_id: str, keep: Collection[str]) -> int:
    """Take every do-not-record number that is not among these out of a line's versions; gives how many versions had one."""
    changed = 0
    rows = connection.execute(
        sa.select(table.c.version, table.c.content).where(*_of(Subject.LINE, tenant_id, line_id))
    ).all()
    for row in rows:
        numbers = row.content.get("do_not_record", [])
        kept = [one for one in numbers if one in keep]
        if kept == numbers:
            continue
        connection.execute(
            sa.update(table)
            .where(*_of(Subject.LINE, tenant_id, line_id), table.c.version == row.version)
            .values(content={**row.content, "do_not_record": kept}, redacted=True)
        )
        changed += 1
    if changed:
        erasing(connection)
    return changed


def _of(kind: Subject, tenant_id: str, subject: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.tenant_id == tenant_id, table.c.kind == kind.value, table.c.subject == subject
