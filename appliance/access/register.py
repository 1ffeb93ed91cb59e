"""The identities in the catalogue: made, found, changed, disabled. Who may do so is said elsewhere (`rights`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.identities import Identity, Role
from appliance.access.refusals import (
    IdentityLimitError,
    IdentityNotFoundError,
    IdentityTakenError,
    LastAdministratorError,
    LastOperatorError,
)
from appliance.access.rights import Target
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.tables import certificates, identities, passphrases, subjects

MOST: Final = 50_000  # identities on one box


@dataclass(frozen=True)
class Entry:
    """An identity as the register has it."""

    name: str  # its key (`naming`)
    roles: frozenset[Role]
    tenant_id: str
    agent: str
    create_ns: int
    creator: str = ""
    disable_ns: int | None = None

    @property
    def etag(self) -> str:
        """Changes with everything that can be changed."""
        said = [self.name, sorted(self.roles), self.agent, self.create_ns, self.disable_ns]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    @property
    def identity(self) -> Identity:
        return Identity(self.name, self.roles, self.tenant_id, agent=self.agent)

    @property
    def target(self) -> Target:
        return Target(self.name, self.tenant_id, self.roles)


def find(connection: sa.Connection, name: str) -> Entry | None:
    row = connection.execute(sa.select(identities).where(identities.c.name == name)).first()
    return None if row is None else _entry(row)


def get(connection: sa.Connection, name: str) -> Entry:
    """IdentityNotFoundError."""
    entry = find(connection, name)
    if entry is None:
        raise no_such_identity()
    return entry


def no_such_identity() -> IdentityNotFoundError:
    """One answer for what is not there and for what the caller does not see."""
    return IdentityNotFoundError("no such identity")


def target(connection: sa.Connection, entry: Entry) -> Target:
    """What rights are asked about: with whether an operator made it and it has no credential yet."""
    return replace(
        entry.target,
        fresh=bool(entry.tenant_id)
        and entry.roles == {Role.TENANT_ADMINISTRATOR}
        and _made_by_operator(connection, entry)
        and not has_credential(connection, entry.name),
    )


def list_entries(
    connection: sa.Connection, limit: int, after: str, tenants: Collection[str] | None
) -> list[Entry]:
    """In the order of their keys; `tenants`: ids, empty for the box; None: all."""
    query = sa.select(identities).where(identities.c.name > after).order_by(identities.c.name).limit(limit)
    if tenants is not None:
        query = query.where(identities.c.tenant_id.in_(tenants))
    if tenants is not None and len(tenants) == 1 and (tenant_id := next(iter(tenants))):
        # Keys of a tenant's lie together: a range of them, whatever the database knows of how many there are.
        query = query.where(identities.c.name.between(f"{tenant_id}/", f"{tenant_id}0"))
    return [_entry(row) for row in connection.execute(query)]


def administrators(connection: sa.Connection, tenant_id: str) -> int:
    """How many of a tenant's own administrators are not disabled."""
    return len(
        [entry for entry in _enabled(connection, [tenant_id]) if Role.TENANT_ADMINISTRATOR in entry.roles]
    )


def add(connection: sa.Connection, entry: Entry) -> None:
    """IdentityTakenError, IdentityLimitError."""
    if find(connection, entry.name) is not None:
        raise IdentityTakenError("this name cannot be had: choose another", field="identity.name")
    if connection.execute(sa.select(sa.func.count()).select_from(identities)).scalar_one() >= MOST:
        raise IdentityLimitError("the box has as many identities as it may have", limit=MOST)
    connection.execute(sa.insert(identities).values(**_values(entry)))


def change(connection: sa.Connection, before: Entry, after: Entry, etag: str, now_ns: int) -> None:
    """Put `after` in the place of `before`; EtagMismatchError, LastOperatorError, LastAdministratorError."""
    if etag not in ("", before.etag):
        raise EtagMismatchError("the identity changed since", field="etag")
    _guard_last(connection, before, after, now_ns)
    connection.execute(sa.update(identities).where(identities.c.name == before.name).values(**_values(after)))


def has_credential(connection: sa.Connection, name: str) -> bool:
    """Whether the identity ever had something to come in with."""
    asked: list[sa.Select[Any]] = [
        sa.select(certificates.c.name).where(certificates.c.name == name),
        sa.select(subjects.c.name).where(subjects.c.name == name),
        sa.select(passphrases.c.name).where(passphrases.c.name == name, passphrases.c.hash.is_not(None)),
    ]
    return any(connection.execute(query.limit(1)).first() is not None for query in asked)


def comes_in(connection: sa.Connection, name: str, now_ns: int) -> bool:
    """Whether the identity has something to come in with now."""
    asked: list[sa.Select[Any]] = [
        sa.select(certificates.c.name).where(
            certificates.c.name == name,
            certificates.c.revoke_ns.is_(None),
            certificates.c.expire_ns > now_ns,
        ),
        sa.select(subjects.c.name).where(subjects.c.name == name),
        sa.select(passphrases.c.name).where(passphrases.c.name == name, passphrases.c.hash.is_not(None)),
    ]
    return any(connection.execute(query.limit(1)).first() is not None for query in asked)


def _guard_last(connection: sa.Connection, before: Entry, after: Entry, now_ns: int) -> None:
    """Whoever is the last of a kind that can come in stays so."""
    had = frozenset() if before.disable_ns is not None else before.roles
    has = frozenset() if after.disable_ns is not None else after.roles
    lost = had - has
    tenant_id = before.tenant_id
    # Administrators of the whole box, as the site's own admin, can always make another of a tenant.
    guarded = {
        Role.OPERATOR: (LastOperatorError, [""], "operator of the box"),
        Role.TENANT_ADMINISTRATOR: (LastAdministratorError, ["", tenant_id], "administrator of the tenant"),
    }
    if not tenant_id:
        del guarded[Role.TENANT_ADMINISTRATOR]  # of every tenant: an operator can make each its own
    for role, (error, tenants, what) in guarded.items():
        if role in lost and not any(
            role in entry.roles and entry.name != before.name and comes_in(connection, entry.name, now_ns)
            for entry in _enabled(connection, tenants)
        ):
            raise error(f"this is the last {what} that can come in: make another one first")


def _enabled(connection: sa.Connection, tenants: Collection[str]) -> list[Entry]:
    query = sa.select(identities).where(
        identities.c.tenant_id.in_(tenants), identities.c.disable_ns.is_(None)
    )
    return [_entry(row) for row in connection.execute(query)]


def _made_by_operator(connection: sa.Connection, entry: Entry) -> bool:
    maker = find(connection, entry.creator)
    return maker is not None and not maker.tenant_id


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "roles": sorted(role.value for role in entry.roles),
        "tenant_id": entry.tenant_id,
        "agent": entry.agent,
        "create_ns": entry.create_ns,
        "creator": entry.creator,
        "disable_ns": entry.disable_ns,
    }


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(
        row.name,
        frozenset(map(Role, row.roles)),
        row.tenant_id,
        row.agent,
        row.create_ns,
        row.creator,
        row.disable_ns,
    )
