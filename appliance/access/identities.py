"""Who is known: the fingerprint of a client certificate stands for a name and a role. Revocation holds at once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.access.errors import IdentityError, RevokedCertificateError, UnknownCertificateError
from appliance.access.pki import Issued
from appliance.catalog.tables import identities as table


class Role(enum.StrEnum):
    """What an identity may do; `policy` says which methods each role may call."""

    ADMINISTRATOR = "administrator"  # everything
    OPERATOR = "operator"  # sees and handles calls and recordings, deletes; does not erase or configure
    INTEGRATION = "integration"  # a system that follows events and fetches recordings; changes nothing


@dataclass(frozen=True)
class Identity:
    """Who is calling."""

    name: str
    role: Role
    fingerprint: str


def enroll(connection: sa.Connection, issued: Issued, role: Role, now_ns: int) -> bool:
    """Let a certificate stand for its name with this role; False where the certificate is known already.

    A name has one role, however many certificates; IdentityError where it is known with another.
    """
    if _row(connection, issued.fingerprint) is not None:
        return False
    roles = set(
        connection.execute(
            sa.select(table.c.role).where(table.c.name == issued.name, table.c.revoke_ns.is_(None))
        ).scalars()
    )
    if roles - {role.value}:
        raise IdentityError("this name is known with another role", field="role")
    connection.execute(
        sa.insert(table).values(
            fingerprint=issued.fingerprint,
            name=issued.name,
            role=role.value,
            create_ns=now_ns,
            expire_ns=issued.expire_ns,
        )
    )
    return True


def revoke(connection: sa.Connection, name: str, now_ns: int) -> int:
    """Take every certificate of a name out of use; gives how many were in use."""
    return connection.execute(
        sa.update(table).where(table.c.name == name, table.c.revoke_ns.is_(None)).values(revoke_ns=now_ns)
    ).rowcount


def find(connection: sa.Connection, fingerprint: str) -> Identity:
    """Who a certificate stands for; UnknownCertificateError, RevokedCertificateError."""
    row = _row(connection, fingerprint)
    if row is None:
        raise UnknownCertificateError("this certificate stands for nobody here", fingerprint=fingerprint)
    if row.revoke_ns is not None:
        raise RevokedCertificateError("this certificate was revoked", fingerprint=fingerprint)
    return Identity(row.name, Role(row.role), fingerprint)


def _row(connection: sa.Connection, fingerprint: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(sa.select(table).where(table.c.fingerprint == fingerprint)).first()
