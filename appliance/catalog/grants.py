"""Support grants in the catalogue: rows and queries. What may be is said by `access.grants`."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.catalog import paging
from appliance.catalog.database import erasing
from appliance.catalog.errors import GrantNotFoundError
from appliance.catalog.granttables import grant_recordings, grant_uses
from appliance.catalog.granttables import grants as table
from appliance.catalog.records import etag_of


class Latched(enum.StrEnum):
    """What is written down of where a grant is in its life. Whatever has ended never begins again."""

    REQUESTED = "requested"
    APPROVED = "approved"
    DENIED = "denied"
    USED_UP = "used-up"
    EXPIRED = "expired"
    REVOKED = "revoked"


OPEN: Final = (Latched.REQUESTED, Latched.APPROVED, Latched.USED_UP)
"""What time still ends: a download that is used up may go on until then."""


@dataclass(frozen=True)
class Scope:
    """Which recordings: by id, or those that match all that is said. Times are of their beginning."""

    recordings: tuple[str, ...] = ()
    line_id: str = ""
    from_ns: int | None = None
    to_ns: int | None = None
    filter: str = ""

    def __bool__(self) -> bool:
        return self != Scope()


@dataclass(frozen=True)
class Grant:
    """One grant, or a request for one."""

    grant_id: str
    tenant_id: str
    state: Latched
    identities: tuple[str, ...]
    requester: str
    request_ns: int
    purpose: str
    necessity: str
    scope: Scope
    begin_ns: int | None
    end_ns: int
    max_reads: int
    include_parties: bool
    public_key: bytes = b""
    approver: str = ""
    approve_ns: int | None = None
    ender: str = ""
    end_reason: str = ""
    ended_ns: int | None = None
    reads: int = 0
    last_use_ns: int | None = None
    seen_ns: int = 0
    keys_sealed: bool = False

    @property
    def etag(self) -> str:
        """Changes with everything but uses."""
        return etag_of(
            *(self.grant_id, self.state, self.begin_ns, self.end_ns, self.max_reads, self.include_parties),
            *(self.approve_ns, self.ended_ns, self.identities, self.purpose, self.scope),
        )


@dataclass(frozen=True)
class Use:
    """One read. `etag`: of what was given out; empty: nothing yet."""

    use_id: str
    grant_id: str
    identity: str
    recording_id: str
    kind: str
    format: str
    at_ns: int
    etag: str = ""


def insert(connection: sa.Connection, grant: Grant) -> None:
    """Write a new one down."""
    connection.execute(sa.insert(table).values(id=grant.grant_id, **_columns(grant)))


def update(connection: sa.Connection, grant: Grant) -> None:
    """Write down how it is now."""
    before = connection.execute(sa.select(table.c.scope).where(table.c.id == grant.grant_id)).scalar()
    if before and before.get("filter") and not grant.scope.filter:
        erasing(connection)
    connection.execute(sa.update(table).where(table.c.id == grant.grant_id).values(**_columns(grant)))


def forget(connection: sa.Connection, grant_id: str) -> None:
    """Remove a request that nobody answered: nothing refers to it."""
    connection.execute(sa.delete(table).where(table.c.id == grant_id))
    erasing(connection)  # of its filter


def get(connection: sa.Connection, grant_id: str, tenant_id: str | None = None) -> Grant:
    """One grant, of this tenant where one is given; GrantNotFoundError."""
    grant = find(connection, grant_id)
    if grant is None or tenant_id not in (None, grant.tenant_id):
        raise GrantNotFoundError("there is no such grant", grant=grant_id)
    return grant


def find(connection: sa.Connection, grant_id: str) -> Grant | None:
    """One grant; None where there is none."""
    row = connection.execute(sa.select(table).where(table.c.id == grant_id)).first()
    return None if row is None else _grant(row)


def page(
    connection: sa.Connection, *, tenant_id: str | None, after: tuple[int, str] | None, limit: int
) -> list[Grant]:
    """Newest first, after the (request_ns, id) of the last one of the page before."""
    query = sa.select(table).order_by(table.c.request_ns.desc(), table.c.id.desc()).limit(limit)
    if tenant_id is not None:
        query = query.where(table.c.tenant_id == tenant_id)
    query = paging.beyond(query, table.c.request_ns, table.c.id, after, newest_first=True)
    return [_grant(row) for row in connection.execute(query)]


def open_ones(connection: sa.Connection) -> list[Grant]:
    """Those that time still ends."""
    query = sa.select(table).where(
        table.c.state.in_([one.value for one in OPEN]),
        sa.or_(table.c.state != Latched.USED_UP.value, table.c.seen_ns < table.c.end_ns),
    )
    return [_grant(row) for row in connection.execute(query)]


def keyed(connection: sa.Connection) -> list[Grant]:
    """Ended ones whose sealed data keys the vault may still hold."""
    over = [one.value for one in Latched if one not in OPEN]
    query = sa.select(table).where(
        table.c.keys_sealed.is_(True),
        sa.or_(
            table.c.state.in_(over),
            sa.and_(table.c.state == Latched.USED_UP.value, table.c.seen_ns >= table.c.end_ns),
        ),
    )
    return [_grant(row) for row in connection.execute(query)]


def mark_sealed(connection: sa.Connection, grant_id: str, sealed: bool) -> None:
    """Say whether the vault may hold data keys sealed for a grant."""
    connection.execute(sa.update(table).where(table.c.id == grant_id).values(keys_sealed=sealed))


def requests_of(connection: sa.Connection, tenant_id: str) -> int:
    """How many requests of a tenant wait for an answer."""
    query = sa.select(sa.func.count()).where(
        table.c.tenant_id == tenant_id, table.c.state == Latched.REQUESTED.value
    )
    return int(connection.execute(query).scalar() or 0)


def covering(connection: sa.Connection, recording_id: str) -> list[Grant]:
    """Open grants that cover a recording, the soonest end first."""
    query = (
        sa.select(table)
        .join(grant_recordings, grant_recordings.c.grant_id == table.c.id)
        .where(grant_recordings.c.recording_id == recording_id)
        .where(table.c.state.in_([Latched.APPROVED.value, Latched.USED_UP.value]))
        .order_by(table.c.end_ns, table.c.id)
    )
    return [_grant(row) for row in connection.execute(query)]


def covers(connection: sa.Connection, grant_ids: Collection[str]) -> dict[str, set[str]]:
    """Which recordings grants cover: ids of those grants by the recording's."""
    found: dict[str, set[str]] = {}
    if grant_ids:
        query = sa.select(grant_recordings).where(grant_recordings.c.grant_id.in_(list(grant_ids)))
        for row in connection.execute(query):
            found.setdefault(row.recording_id, set()).add(row.grant_id)
    return found


def recordings_of(connection: sa.Connection, grant_id: str) -> list[str]:
    """Ids of the recordings that a grant covers."""
    query = (
        sa.select(grant_recordings.c.recording_id)
        .where(grant_recordings.c.grant_id == grant_id)
        .order_by(grant_recordings.c.recording_id)
    )
    return list(connection.execute(query).scalars())


def counts(connection: sa.Connection, grant_ids: Collection[str]) -> dict[str, int]:
    """How many recordings grants cover."""
    found: dict[str, int] = {}
    if grant_ids:
        query = (
            sa.select(grant_recordings.c.grant_id, sa.func.count())
            .where(grant_recordings.c.grant_id.in_(list(grant_ids)))
            .group_by(grant_recordings.c.grant_id)
        )
        found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return found


def cover(connection: sa.Connection, grant_id: str, recordings: Iterable[str]) -> None:
    """Write down which recordings a grant covers."""
    rows = [{"grant_id": grant_id, "recording_id": one} for one in recordings]
    if rows:
        connection.execute(sa.insert(grant_recordings), rows)


def among(grant_ids: Collection[str]) -> sa.Select[tuple[str]]:
    """Ids of the recordings that some grants cover."""
    return sa.select(grant_recordings.c.recording_id).where(grant_recordings.c.grant_id.in_(list(grant_ids)))


def note_use(connection: sa.Connection, use: Use) -> None:
    """Write a use down."""
    fields = dataclasses.asdict(use)
    connection.execute(sa.insert(grant_uses).values(id=fields.pop("use_id"), **fields))


def serve(connection: sa.Connection, use_id: str, etag: str) -> None:
    """Something is given out."""
    connection.execute(sa.update(grant_uses).where(grant_uses.c.id == use_id).values(etag=etag))


def uses_since(connection: sa.Connection, grant_id: str, identity: str, since_ns: int) -> list[Use]:
    """Uses of one identity since then, newest first."""
    query = (
        sa.select(grant_uses)
        .where(
            grant_uses.c.grant_id == grant_id,
            grant_uses.c.identity == identity,
            grant_uses.c.at_ns >= since_ns,
        )
        .order_by(grant_uses.c.at_ns.desc(), grant_uses.c.id.desc())
    )
    return [_use(row) for row in connection.execute(query)]


def use_page(
    connection: sa.Connection, grant_id: str, *, after: tuple[int, str] | None, limit: int
) -> list[Use]:
    """Newest first, after the (at_ns, id) of the last one of the page before."""
    query = (
        sa.select(grant_uses)
        .where(grant_uses.c.grant_id == grant_id)
        .order_by(grant_uses.c.at_ns.desc(), grant_uses.c.id.desc())
        .limit(limit)
    )
    query = paging.beyond(query, grant_uses.c.at_ns, grant_uses.c.id, after, newest_first=True)
    return [_use(row) for row in connection.execute(query)]


def _columns(grant: Grant) -> dict[str, Any]:
    fields = dataclasses.asdict(grant)
    del fields["grant_id"]
    scope = {name: value for name, value in fields["scope"].items() if value not in ((), "", None)}
    return {
        **fields,
        "state": grant.state.value,
        "identities": list(grant.identities),
        "scope": {name: list(value) if name == "recordings" else value for name, value in scope.items()},
    }


def _grant(row: sa.Row[Any]) -> Grant:
    fields = dict(row._mapping)
    scope = dict(row.scope)
    if "recordings" in scope:
        scope["recordings"] = tuple(scope["recordings"])
    fields |= {
        "state": Latched(row.state),
        "identities": tuple(row.identities),
        "scope": Scope(**scope),
        "public_key": bytes(row.public_key),
    }
    return Grant(fields.pop("id"), **fields)


def _use(row: sa.Row[Any]) -> Use:
    fields = dict(row._mapping)
    return Use(fields.pop("id"), **fields)
