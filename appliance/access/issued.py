"""Client certificates in the catalogue: which stand for whom, until when, and which were renewed from which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from appliance.access.certificates import expire_ns, fingerprint
from appliance.access.refusals import CertificateNotFoundError, IdentityLimitError
from appliance.catalog.tables import certificates, identities

MOST: Final = 20  # of one identity that are neither revoked nor over
WARN_DAYS: Final = (30, 14, 3)
DAY_NS: Final = 86400 * 10**9


@dataclass(frozen=True)
class Certificate:
    """A certificate of an identity. `der` is empty where only its fingerprint is known."""

    fingerprint: str
    name: str  # the key of whose it is (`naming`)
    create_ns: int
    expire_ns: int
    revoke_ns: int | None
    der: bytes = b""
    renewed_from: str = ""


@dataclass(frozen=True)
class Ending:
    """A certificate that ends within `days`, which is one of WARN_DAYS and news."""

    certificate: Certificate
    tenant_id: str
    days: int


def add(
    connection: sa.Connection,
    name: str,
    certificate: x509.Certificate,
    now_ns: int,
    renewed_from: str = "",
) -> Certificate:
    """Let a new certificate stand for a name; IdentityLimitError."""
    alive = sa.select(sa.func.count()).where(
        certificates.c.name == name, certificates.c.revoke_ns.is_(None), certificates.c.expire_ns > now_ns
    )
    if connection.execute(alive).scalar_one() >= MOST:
        raise IdentityLimitError(
            "the identity has as many certificates as it may have: revoke some", limit=MOST
        )
    made = Certificate(
        fingerprint(certificate),
        name,
        now_ns,
        expire_ns(certificate),
        None,
        certificate.public_bytes(serialization.Encoding.DER),
        renewed_from,
    )
    connection.execute(
        sa.insert(certificates).values(
            fingerprint=made.fingerprint,
            name=name,
            create_ns=now_ns,
            expire_ns=made.expire_ns,
            der=made.der,
            renewed_from=renewed_from,
        )
    )
    return made


def get(connection: sa.Connection, name: str, print_: str) -> Certificate:
    """CertificateNotFoundError where the identity has none with this fingerprint."""
    row = connection.execute(
        sa.select(certificates).where(certificates.c.name == name, certificates.c.fingerprint == print_)
    ).first()
    if row is None:
        raise CertificateNotFoundError("the identity has no such certificate")
    return _certificate(row)


def of(connection: sa.Connection, name: str, limit: int, after: tuple[int, str] | None) -> list[Certificate]:
    """Those of one identity, oldest first."""
    order = (certificates.c.create_ns, certificates.c.fingerprint)
    query = sa.select(certificates).where(certificates.c.name == name).order_by(*order).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(*order) > sa.tuple_(*map(sa.literal, after)))
    return [_certificate(row) for row in connection.execute(query)]


def revoke(connection: sa.Connection, name: str, print_: str, now_ns: int) -> Certificate:
    """Out of use at once, with all that were renewed from it: who stole a key may have renewed it, too."""
    get(connection, name, print_)
    wave = [print_]
    while wave:
        connection.execute(
            sa.update(certificates)
            .where(certificates.c.fingerprint.in_(wave), certificates.c.revoke_ns.is_(None))
            .values(revoke_ns=now_ns)
        )
        wave = list(
            connection.execute(
                sa.select(certificates.c.fingerprint).where(
                    certificates.c.renewed_from.in_(wave), certificates.c.name == name
                )
            ).scalars()
        )
    return get(connection, name, print_)


def endings(connection: sa.Connection, now_ns: int) -> list[Ending]:
    """Certificates in use that end within the days of a warning that was not given yet; it counts as given now."""
    query = (
        sa.select(certificates, identities.c.tenant_id)
        .join(identities, identities.c.name == certificates.c.name)
        .where(
            certificates.c.revoke_ns.is_(None),
            identities.c.disable_ns.is_(None),
            certificates.c.expire_ns > now_ns,
            certificates.c.expire_ns <= now_ns + WARN_DAYS[0] * DAY_NS,
        )
    )
    found = []
    for row in connection.execute(query).all():
        days = min(days for days in WARN_DAYS if row.expire_ns <= now_ns + days * DAY_NS)
        if row.warned_days and row.warned_days <= days:
            continue
        connection.execute(
            sa.update(certificates)
            .where(certificates.c.fingerprint == row.fingerprint)
            .values(warned_days=days)
        )
        found.append(Ending(_certificate(row), row.tenant_id, days))
    return found


def count_ending(connection: sa.Connection, now_ns: int, days: int) -> int:
    """How many certificates in use end within so many days and have no younger one of their identity beside them."""
    younger = certificates.alias()
    query = (
        sa.select(sa.func.count())
        .select_from(certificates.join(identities, identities.c.name == certificates.c.name))
        .where(
            certificates.c.revoke_ns.is_(None),
            identities.c.disable_ns.is_(None),
            certificates.c.expire_ns > now_ns,
            certificates.c.expire_ns <= now_ns + days * DAY_NS,
            ~sa.exists().where(
                younger.c.name == certificates.c.name,
                younger.c.revoke_ns.is_(None),
                younger.c.expire_ns > certificates.c.expire_ns,
            ),
        )
    )
    return int(connection.execute(query).scalar_one())


def _certificate(row: sa.Row[Any]) -> Certificate:
    return Certificate(
        row.fingerprint,
        row.name,
        row.create_ns,
        row.expire_ns,
        row.revoke_ns,
        row.der or b"",
        row.renewed_from,
    )
