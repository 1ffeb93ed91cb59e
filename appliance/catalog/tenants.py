"""Tenants and lines: kept here, and given to signaling as a routing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import claims, closing, linerows, paging, purposes, state, tables, versions
from appliance.catalog.errors import (
    CatchAllTakenError,
    EtagMismatchError,
    LineNotFoundError,
    NumberTakenError,
    TenantNotFoundError,
)
from appliance.catalog.records import etag_of
from appliance.catalog.versions import Author, Subject
from appliance.model.purpose import Purpose
from appliance.model.routing import Line, RoutingTable, Tenant

_t = tables.tenants
_l = tables.lines
VERSION: Final = "routing-version"


def add_tenant(connection: sa.Connection, tenant: Tenant, author: Author | None = None) -> None:
    """With the purposes that every tenant begins with. Without an author the box makes it."""
    _insert_tenant(connection, tenant, author)
    purposes.seed(connection, tenant.tenant_id, tenant.create_ns)


def _insert_tenant(connection: sa.Connection, tenant: Tenant, author: Author | None) -> None:
    connection.execute(
        sa.insert(_t).values(
            id=tenant.tenant_id,
            public_key=tenant.public_key,
            create_ns=tenant.create_ns,
            **_tenant_columns(tenant),
        )
    )
    _tenant_changed(connection, tenant, author or Author(tenant.create_ns))


def update_tenant(connection: sa.Connection, tenant: Tenant, author: Author, etag: str = "") -> None:
    """What can change of it. TenantNotFoundError, EtagMismatchError."""
    check_tenant(connection, tenant.tenant_id, etag)
    connection.execute(sa.update(_t).where(_t.c.id == tenant.tenant_id).values(**_tenant_columns(tenant)))
    _tenant_changed(connection, tenant, author)


def check_tenant(connection: sa.Connection, tenant_id: str, etag: str = "") -> Tenant:
    """The tenant as it is; TenantNotFoundError, EtagMismatchError."""
    before = get_tenant(connection, tenant_id)
    if etag not in ("", tenant_etag(before)):
        raise EtagMismatchError("the tenant changed since", field="etag")
    return before


def add_line(connection: sa.Connection, line: Line, author: Author | None = None) -> None:
    """TenantNotFoundError, CatchAllTakenError, NumberTakenError, PurposeUnknownError, PurposeArchivedError."""
    check_line(connection, line)
    _insert(connection, line, author)


def _insert(connection: sa.Connection, line: Line, author: Author | None = None) -> None:
    connection.execute(sa.insert(_l).values(id=line.line_id, **linerows.columns_of(line)))
    _line_changed(connection, line, author or Author(line.create_ns))


def update_line(
    connection: sa.Connection,
    line: Line,
    etag: str = "",
    author: Author | None = None,
    *,
    forget: bool = False,
) -> None:
    """What `check_update` refuses, and LineNotFoundError.

    `forget`: do-not-record numbers that the line does not have any more are taken out of its older versions.
    """
    check_update(connection, line, etag)
    connection.execute(sa.update(_l).where(_l.c.id == line.line_id).values(**linerows.columns_of(line)))
    _line_changed(connection, line, author or Author(line.create_ns))
    if forget:
        versions.redact(connection, line.tenant_id, line.line_id, line.do_not_record)


def check_update(connection: sa.Connection, line: Line, etag: str = "") -> None:
    """What `update_line` would refuse, without changing anything.

    EtagMismatchError, CatchAllTakenError, NumberTakenError, PurposeUnknownError, PurposeArchivedError.
    """
    before = get_line(connection, line.line_id, line.tenant_id)
    if etag and etag != line_etag(before):
        raise EtagMismatchError("the line changed since", field="line.etag")
    if line.catch_all and not before.catch_all:
        _check_catch_all(connection, line.tenant_id)
    purposes.check_stated(connection, line.tenant_id, line.purposes, "line.purposes", before.purposes)
    # Lines of before numbers were one line's alone can be changed in all else.
    if (line.numbers, line.trunks) != (before.numbers, before.trunks):
        _check_numbers(connection, line)


def check_line(connection: sa.Connection, line: Line) -> None:
    """What `add_line` would refuse, without adding."""
    get_tenant(connection, line.tenant_id)
    closing.refuse_closed(connection, line.tenant_id)
    if line.catch_all:
        _check_catch_all(connection, line.tenant_id)
    purposes.check_stated(connection, line.tenant_id, line.purposes, "line.purposes")
    _check_numbers(connection, line)


def _check_catch_all(connection: sa.Connection, tenant_id: str) -> None:
    other = connection.execute(sa.select(_l.c.id, _l.c.tenant_id).where(_l.c.catch_all.is_(True))).first()
    if other is None:
        return
    told = {"line": f"tenants/{other.tenant_id}/lines/{other.id}"} if other.tenant_id == tenant_id else {}
    raise CatchAllTakenError("another line takes what no other line takes", field="line.catch_all", **told)


def _check_numbers(connection: sa.Connection, line: Line) -> None:
    if not line.numbers:
        return
    # Read without making lines of them, and as texts: there may be thousands, of which nearly none is looked at.
    texts = (sa.cast(column, sa.Text) for column in (_l.c.numbers, _l.c.trunks))
    query = sa.select(_l.c.id, _l.c.tenant_id, *texts)
    # Closed where the first conflict ends it early: a cursor that is left open keeps SQLite's connection at the state
    # that it read, also once it is back in the pool, and the next change on it fails.
    with connection.execute(query.order_by(_l.c.create_ns, _l.c.id)) as others:
        claim = claims.conflict(line, claims.claimants(line, others))
    if claim is None:
        return
    field = f"line.numbers[{claim.position}]"
    if claim.other.tenant_id != line.tenant_id:
        raise NumberTakenError("a line of another tenant has this number", field=field)
    raise NumberTakenError(
        "another line has this number",
        field=field,
        line=f"tenants/{claim.other.tenant_id}/lines/{claim.other.line_id}",
    )


def get_tenant(connection: sa.Connection, tenant_id: str) -> Tenant:
    """TenantNotFoundError."""
    row = connection.execute(sa.select(_t).where(_t.c.id == tenant_id)).first()
    if row is None:
        raise TenantNotFoundError("no such tenant", tenant=tenant_id)
    return tenant_of(row)


def get_line(connection: sa.Connection, line_id: str, tenant_id: str | None = None) -> Line:
    """LineNotFoundError."""
    query = sa.select(*linerows.COLUMNS).where(_l.c.id == line_id)
    if tenant_id is not None:
        query = query.where(_l.c.tenant_id == tenant_id)
    row = connection.execute(query).first()
    if row is None:
        raise LineNotFoundError("no such line", line=line_id)
    return linerows.line_of(row)


def list_tenants(
    connection: sa.Connection, limit: int | None = None, after: tuple[int, str] | None = None
) -> list[Tenant]:
    """Oldest first, after the (create_ns, id) of the last one of the page before."""
    return [tenant_of(row) for row in connection.execute(_page(_t, _t.c, limit, after))]


def list_lines(
    connection: sa.Connection,
    limit: int | None = None,
    after: tuple[int, str] | None = None,
    tenant_id: str | None = None,
) -> list[Line]:
    """Oldest first, after the (create_ns, id) of the last one of the page before."""
    query = _page(_l, linerows.COLUMNS, limit, after)
    if tenant_id is not None:
        query = query.where(_l.c.tenant_id == tenant_id)
    return [linerows.line_of(row) for row in connection.execute(query)]


def routing(connection: sa.Connection) -> RoutingTable:
    """Everything signaling needs."""
    return RoutingTable(
        version=state.get_int(connection, VERSION),
        tenants=tuple(list_tenants(connection)),
        lines=tuple(list_lines(connection)),
        purposes=tuple(one for _, one in purposes.listed(connection, None)),
    )


def restore(connection: sa.Connection, table: RoutingTable) -> None:
    """Take up a routing table into a catalogue that has none: what was lost with the database comes back."""
    known = {tenant.tenant_id for tenant in table.tenants}
    for tenant in table.tenants:
        _insert_tenant(connection, tenant, None)
    for purpose in table.purposes:
        if purpose.tenant_id in known:
            purposes.put(connection, purpose, Author(purpose.create_ns))
    for tenant in table.tenants:
        purposes.seed(connection, tenant.tenant_id, tenant.create_ns)  # of a table that has none
    for line in table.lines:
        _insert(connection, line)  # as they were: what would be refused today was in force
        for purpose_id in stated_by(line):
            _put_stated(connection, line, purpose_id)
    closing.put(connection, (one for one in table.closings if one.tenant_id in known))
    state.put_int(connection, VERSION, max(table.version, state.get_int(connection, VERSION)))


def _put_stated(connection: sa.Connection, line: Line, purpose_id: str) -> None:
    """What a line states its tenant has: the table of an older release lists none."""
    made = Purpose(
        tenant_id=line.tenant_id, purpose_id=purpose_id, display_name=purpose_id, create_ns=line.create_ns
    )
    purposes.put(connection, made, Author(line.create_ns))


def stated_by(line: Line) -> list[str]:
    """Ids of the purposes that a line or its prompts state."""
    rules = line.inline
    refs = rules.announcement.prompts if rules is not None and rules.announcement is not None else ()
    return list(dict.fromkeys([*line.purposes, *(one for ref in refs for one in ref.purposes)]))


def tenant_etag(tenant: Tenant) -> str:
    return etag_of(tenant.tenant_id, *_tenant_columns(tenant).values())


def line_etag(line: Line) -> str:
    return etag_of(line.model_dump_json())


def _tenant_changed(connection: sa.Connection, tenant: Tenant, author: Author) -> None:
    versions.add(connection, Subject.TENANT, tenant.tenant_id, tenant.tenant_id, tenant, author)
    changed(connection)


def _line_changed(connection: sa.Connection, line: Line, author: Author) -> None:
    versions.add(connection, Subject.LINE, line.tenant_id, line.line_id, line, author)
    changed(connection)


def changed(connection: sa.Connection) -> None:
    """The routing table is another one from here on."""
    state.put_int(connection, VERSION, state.get_int(connection, VERSION) + 1)


def _page(
    table: sa.Table, columns: Iterable[Any], limit: int | None, after: tuple[int, str] | None
) -> sa.Select[Any]:
    query = sa.select(*columns).order_by(table.c.create_ns, table.c.id).limit(limit)
    return paging.beyond(query, table.c.create_ns, table.c.id, after)


def tenant_of(row: sa.Row[Any]) -> Tenant:
    """A row of the table of tenants."""
    return Tenant(
        tenant_id=row.id,
        display_name=row.display_name,
        public_key=row.public_key,
        create_ns=row.create_ns,
        contact=row.contact,
        language=row.language,
        time_zone=row.time_zone,
        unacknowledged_may_pause=row.unacknowledged_may_pause,
        unacknowledged_may_read=row.unacknowledged_may_read,
        acknowledgement_years=row.acknowledgement_years,
    )


def _tenant_columns(tenant: Tenant) -> dict[str, Any]:
    """What can change of it."""
    return {
        "display_name": tenant.display_name,
        "contact": tenant.contact,
        "language": tenant.language,
        "time_zone": tenant.time_zone,
        "unacknowledged_may_pause": tenant.unacknowledged_may_pause,
        "unacknowledged_may_read": tenant.unacknowledged_may_read,
        "acknowledgement_years": tenant.acknowledgement_years,
    }
