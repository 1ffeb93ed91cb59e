"""Who is known: the fingerprint of a client certificate stands for an identity. Revocation holds at once."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.access import naming
from appliance.access.errors import IdentityError, RevokedCertificateError, UnknownCertificateError
from appliance.access.pki import Issued
from appliance.access.refusals import ExpiredCertificateError, IdentityDisabledError
from appliance.catalog.tables import certificates, identities


class Role(enum.StrEnum):
    """What an identity may do; `policy` says which methods each role may call."""

    # Of one tenant, whose data these are.
    TENANT_ADMINISTRATOR = "tenant-administrator"  # lines, purposes, policies, identities of the tenant
    RECORDS_OFFICER = "records-officer"  # recordings: reads, deletes, erases, holds, grants support
    SUPERVISOR = "supervisor"  # listens, reads, notes; pauses and ends live calls
    AGENT = "agent"  # the own live calls, as far as the line's rights go
    AUDITOR = "auditor"  # the audit, and what is there; hears nothing, changes nothing
    # Of the box, and integration of a tenant as well.
    OPERATOR = "operator"  # runs the box: tenants, lines, storage, retention runs; reads no recording
    SUPPORT = "support"  # the provider's staff: health and counts; recordings only under a tenant's grant
    INTEGRATION = "integration"  # a system that follows events and fetches recordings; changes nothing


TENANT_ROLES: Final = frozenset(
    {
        Role.TENANT_ADMINISTRATOR,
        Role.RECORDS_OFFICER,
        Role.SUPERVISOR,
        Role.AGENT,
        Role.AUDITOR,
        Role.INTEGRATION,
    }
)
BOX_ROLES: Final = frozenset({Role.OPERATOR, Role.SUPPORT, Role.INTEGRATION})
SITE_ROLES: Final = frozenset({Role.OPERATOR, Role.TENANT_ADMINISTRATOR, Role.RECORDS_OFFICER})
"""Of the administrator of a box that its site runs itself."""


@dataclass(frozen=True)
class Identity:
    """Who is calling."""

    name: str  # its key (`naming`)
    roles: frozenset[Role]
    tenant_id: str = ""  # whom it sees; empty: of the box
    fingerprint: str = ""  # of the certificate; empty: another credential
    agent: str = ""  # an agent's own number
    blind: bool = False  # of a box that a provider runs: sees nothing of what was said, and between whom


def enroll(
    connection: sa.Connection,
    issued: Issued,
    roles: Iterable[Role],
    now_ns: int,
    *,
    tenant_id: str = "",
    agent: str = "",
) -> bool:
    """Let a certificate stand for its name in a tenant, or of the box; False where the certificate is known already.

    A name is one identity, however many certificates; IdentityError where it is known with other roles.
    """
    key = naming.key(tenant_id, issued.name)
    if _certificate(connection, issued.fingerprint) is not None:
        return False
    wanted = sorted(role.value for role in roles)
    known = connection.execute(sa.select(identities).where(identities.c.name == key)).first()
    if known is None:
        connection.execute(
            sa.insert(identities).values(
                name=key, roles=wanted, tenant_id=tenant_id, agent=agent, create_ns=now_ns
            )
        )
    elif (sorted(known.roles), known.tenant_id, known.agent) != (wanted, tenant_id, agent):
        raise IdentityError("this name is known with other roles", field="roles")
    connection.execute(
        sa.insert(certificates).values(
            fingerprint=issued.fingerprint, name=key, create_ns=now_ns, expire_ns=issued.expire_ns
        )
    )
    return True


def settle(connection: sa.Connection, name: str, roles: Iterable[Role]) -> None:
    """Give an identity of the box these roles from now on, whatever it had."""
    connection.execute(
        sa.update(identities)
        .where(identities.c.name == name, identities.c.tenant_id == "")
        .values(roles=sorted(role.value for role in roles))
    )


def revoke(connection: sa.Connection, name: str, now_ns: int) -> int:
    """Take every certificate of an identity (its key) out of use; gives how many were in use."""
    return connection.execute(
        sa.update(certificates)
        .where(certificates.c.name == name, certificates.c.revoke_ns.is_(None))
        .values(revoke_ns=now_ns)
    ).rowcount


def find(connection: sa.Connection, fingerprint: str, now_ns: int = 0) -> Identity:
    """Who a certificate stands for; UnknownCertificateError, RevokedCertificateError, IdentityDisabledError.

    ExpiredCertificateError: TLS looks when a connection begins, and connections outlive certificates.
    """
    row = _certificate(connection, fingerprint)
    if row is None:
        raise UnknownCertificateError("this certificate stands for nobody here", fingerprint=fingerprint)
    if row["revoke_ns"] is not None:
        raise RevokedCertificateError("this certificate was revoked", fingerprint=fingerprint)
    if now_ns >= row["expire_ns"]:
        raise ExpiredCertificateError("this certificate is over", fingerprint=fingerprint)
    if row["disable_ns"] is not None:
        raise IdentityDisabledError("this identity is disabled")
    return Identity(
        row["name"], frozenset(map(Role, row["roles"])), row["tenant_id"], fingerprint, row["agent"]
    )


def _certificate(connection: sa.Connection, fingerprint: str) -> sa.RowMapping | None:
    return (
        connection.execute(
            sa.select(
                certificates.c.revoke_ns,
                certificates.c.expire_ns,
                identities.c.name,
                identities.c.roles,
                identities.c.tenant_id,
                identities.c.agent,
                identities.c.disable_ns,
            )
            .join(identities, identities.c.name == certificates.c.name)
            .where(certificates.c.fingerprint == fingerprint)
        )
        .mappings()
        .first()
    )
