"""Purposes of tenants in the catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import versions
from appliance.catalog.contracttables import purposes as table
from appliance.catalog.errors import (
    EtagMismatchError,
    PurposeArchivedError,
    PurposeExistsError,
    PurposeLimitError,
    PurposeNotFoundError,
    PurposeUnknownError,
)
from appliance.catalog.records import etag_of
from appliance.catalog.versions import Author, Subject
from appliance.model.purpose import Purpose, seeded

MAX_OF_TENANT: Final = 200


def seed(connection: sa.Connection, tenant_id: str, create_ns: int) -> None:
    """Gives a new tenant the purposes that every tenant begins with."""
    for purpose in seeded(tenant_id, create_ns):
        put(connection, purpose, Author(create_ns))


def put(connection: sa.Connection, purpose: Purpose, author: Author) -> None:
    """As it is, where it is not there yet."""
    if find(connection, purpose.tenant_id, purpose.purpose_id) is not None:
        return
    newest = connection.execute(
        sa.select(sa.func.max(table.c.ordinal)).where(table.c.tenant_id == purpose.tenant_id)
    ).scalar()
    connection.execute(
        sa.insert(table).values(
            tenant_id=purpose.tenant_id,
            id=purpose.purpose_id,
            ordinal=(newest or 0) + 1,
            display_name=purpose.display_name,
            legal_basis=purpose.legal_basis,
            seeded=purpose.seeded,
            create_ns=purpose.create_ns,
            archive_ns=purpose.archive_ns,
        )
    )
    _note(connection, purpose, author)


def check_new(connection: sa.Connection, purpose: Purpose) -> None:
    """What `add` would refuse: PurposeExistsError, PurposeLimitError."""
    if find(connection, purpose.tenant_id, purpose.purpose_id) is not None:
        raise PurposeExistsError("the tenant has or had a purpose of this id", field="purpose_id")
    count = connection.execute(
        sa.select(sa.func.count()).select_from(table).where(table.c.tenant_id == purpose.tenant_id)
    ).scalar_one()
    if count >= MAX_OF_TENANT:
        raise PurposeLimitError("the tenant has as many purposes as it may have", limit=MAX_OF_TENANT)


def add(connection: sa.Connection, purpose: Purpose, author: Author) -> None:
    """PurposeExistsError, PurposeLimitError."""
    check_new(connection, purpose)
    put(connection, purpose, author)


def update(connection: sa.Connection, purpose: Purpose, author: Author) -> None:
    """Its words, or that it is archived."""
    connection.execute(
        sa.update(table)
        .where(table.c.tenant_id == purpose.tenant_id, table.c.id == purpose.purpose_id)
        .values(
            display_name=purpose.display_name,
            legal_basis=purpose.legal_basis,
            archive_ns=purpose.archive_ns,
        )
    )
    _note(connection, purpose, author)


def find(connection: sa.Connection, tenant_id: str, purpose_id: str) -> Purpose | None:
    row = connection.execute(
        sa.select(table).where(table.c.tenant_id == tenant_id, table.c.id == purpose_id)
    ).first()
    return purpose_of(row) if row is not None else None


def get(connection: sa.Connection, tenant_id: str, purpose_id: str, etag: str = "") -> Purpose:
    """PurposeNotFoundError, EtagMismatchError."""
    found = find(connection, tenant_id, purpose_id)
    if found is None:
        raise PurposeNotFoundError("no such purpose", purpose=purpose_id)
    if etag not in ("", etag_of_purpose(found)):
        raise EtagMismatchError("the purpose changed since", field="etag")
    return found


def listed(
    connection: sa.Connection,
    tenant_id: str | None,
    limit: int | None = None,
    after: int = 0,
    *,
    archived: bool = True,
) -> list[tuple[int, Purpose]]:
    """With their ordinals, in the order they were made, after that ordinal. None: of all tenants."""
    query = sa.select(table).where(table.c.ordinal > after).order_by(table.c.tenant_id, table.c.ordinal)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    if not archived:
        query = query.where(table.c.archive_ns.is_(None))
    return [(row.ordinal, purpose_of(row)) for row in connection.execute(query.limit(limit))]


def check_stated(
    connection: sa.Connection, tenant_id: str, some: Iterable[str], field: str, before: Iterable[str] = ()
) -> None:
    """That a prompt or a line may state these; what it stated before it may go on to state.

    PurposeUnknownError, PurposeArchivedError; both name the field and its place.
    """
    known = {one.purpose_id: one for _, one in listed(connection, tenant_id)}
    went_before = set(before)
    for position, purpose_id in enumerate(some):
        if purpose_id in went_before:
            continue
        if purpose_id not in known:
            raise PurposeUnknownError(
                "is no purpose of this tenant: see ListPurposes", field=f"{field}[{position}]"
            )
        if known[purpose_id].archive_ns is not None:
            raise PurposeArchivedError(
                "is archived, and not for what is new", field=f"{field}[{position}]", purpose=purpose_id
            )


def etag_of_purpose(purpose: Purpose) -> str:
    return etag_of(purpose.model_dump_json())


def _note(connection: sa.Connection, purpose: Purpose, author: Author) -> None:
    versions.add(connection, Subject.PURPOSE, purpose.tenant_id, purpose.purpose_id, purpose, author)


def purpose_of(row: sa.Row[Any]) -> Purpose:
    """A row of the table of purposes."""
    return Purpose(
        tenant_id=row.tenant_id,
        purpose_id=row.id,
        display_name=row.display_name,
        legal_basis=row.legal_basis,
        seeded=row.seeded,
        create_ns=row.create_ns,
        archive_ns=row.archive_ns,
    )
