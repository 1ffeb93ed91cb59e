"""One identity with its credentials as one plain record, as the copy beside the catalogue keeps it; and back again.

No secret is in it but hashes, and second factors sealed under a key that is not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import naming
from appliance.access.sealing import Sealing
from appliance.catalog import state
from appliance.catalog.tables import (
    certificates,
    identities,
    passphrases,
    recovery_codes,
    sessions,
    subjects,
)

SERIAL: Final = "access-serial"  # of the newest change, in the catalogue
RESEALED: Final = "access-resealed"  # second factors are sealed for keys, not for bare names
_CERTIFICATE: Final = ("fingerprint", "create_ns", "expire_ns", "revoke_ns", "renewed_from")
_IDENTITY: Final = ("roles", "tenant_id", "agent", "create_ns", "creator", "disable_ns")

Record = dict[str, Any]


def serial(connection: sa.Connection) -> int:
    """Number of the newest change of identities that the catalogue has."""
    return state.get_int(connection, SERIAL)


def next_serial(connection: sa.Connection) -> int:
    """The number of a change that is being made."""
    number = serial(connection) + 1
    state.put_int(connection, SERIAL, number)
    return number


def read(connection: sa.Connection, name: str) -> Record:
    """The record of an identity that is there."""
    row = connection.execute(sa.select(identities).where(identities.c.name == name)).one()
    secret = connection.execute(sa.select(passphrases).where(passphrases.c.name == name)).first()
    return {
        **{field: getattr(row, field) for field in _IDENTITY},
        "certificates": [
            [getattr(one, field) for field in _CERTIFICATE]
            for one in connection.execute(
                sa.select(certificates)
                .where(certificates.c.name == name)
                .order_by(certificates.c.create_ns, certificates.c.fingerprint)
            )
        ],
        "subjects": [
            [one.issuer, one.subject, one.create_ns]
            for one in connection.execute(sa.select(subjects).where(subjects.c.name == name))
        ],
        "passphrase": None
        if secret is None
        else {
            "hash": secret.hash,
            "factor": None if secret.factor is None else base64.b64encode(secret.factor).decode(),
            "enrol_hash": secret.enrol_hash,
            "enrol_until_ns": secret.enrol_until_ns,
            "change_ns": secret.change_ns,
        },
        "recovery": [
            [one.hash, one.use_ns]
            for one in connection.execute(sa.select(recovery_codes).where(recovery_codes.c.name == name))
        ],
    }


def names(connection: sa.Connection) -> list[str]:
    """The keys of everybody."""
    return list(connection.execute(sa.select(identities.c.name).order_by(identities.c.name)).scalars())


def restore(connection: sa.Connection, name: str, record: Record) -> None:
    """Put an identity into the catalogue as the record says, whatever was known of it. Its sessions are over."""
    fields = {field: record[field] for field in _IDENTITY}
    if not connection.execute(
        sa.update(identities).where(identities.c.name == name).values(**fields)
    ).rowcount:
        connection.execute(sa.insert(identities).values(name=name, **fields))
    connection.execute(sa.delete(sessions).where(sessions.c.name == name))
    for table in (subjects, passphrases, recovery_codes):
        connection.execute(sa.delete(table).where(table.c.name == name))
    for values in record["certificates"]:
        _restore_certificate(connection, name, dict(zip(_CERTIFICATE, values, strict=True)))
    for issuer, subject, create_ns in record["subjects"]:
        connection.execute(
            sa.delete(subjects).where(subjects.c.issuer == issuer, subjects.c.subject == subject)
        )
        connection.execute(
            sa.insert(subjects).values(issuer=issuer, subject=subject, name=name, create_ns=create_ns)
        )
    if (secret := record["passphrase"]) is not None:
        factor = secret["factor"]
        values = {**secret, "factor": None if factor is None else base64.b64decode(factor)}
        connection.execute(sa.insert(passphrases).values(name=name, used_step=0, **values))
    for hash_, use_ns in record["recovery"]:
        connection.execute(sa.insert(recovery_codes).values(name=name, hash=hash_, use_ns=use_ns))


def reseal(connection: sa.Connection, sealing: Sealing, *, again: bool) -> None:
    """Seal second factors that an older release sealed for a bare name for the identity's key. Once, or `again`."""
    if state.get_int(connection, RESEALED) and not again:
        return
    query = sa.select(passphrases.c.name, passphrases.c.factor).where(
        passphrases.c.name.contains(naming.BETWEEN), passphrases.c.factor.is_not(None)
    )
    for name, factor in connection.execute(query).all():
        if (anew := sealing.resealed(factor, name, naming.parts(name)[1])) is not None:
            connection.execute(sa.update(passphrases).where(passphrases.c.name == name).values(factor=anew))
    state.put_int(connection, RESEALED, 1)


def revoked(records: Iterable[Record]) -> set[str]:
    """Fingerprints of every certificate that any of these records says is revoked."""
    return {one[0] for record in records for one in record["certificates"] if one[3] is not None}


def revoke(connection: sa.Connection, fingerprints: Iterable[str], now_ns: int) -> int:
    """Revoke those that are not; gives how many were in use."""
    return sum(
        connection.execute(
            sa.update(certificates)
            .where(certificates.c.fingerprint == one, certificates.c.revoke_ns.is_(None))
            .values(revoke_ns=now_ns)
        ).rowcount
        for one in sorted(fingerprints)
    )


def _restore_certificate(connection: sa.Connection, name: str, values: dict[str, Any]) -> None:
    """A revocation is never taken back, whichever of the two knows of it."""
    mine = certificates.c.fingerprint == values["fingerprint"]
    before = connection.execute(sa.select(certificates.c.revoke_ns).where(mine)).first()
    if before is None:
        connection.execute(sa.insert(certificates).values(name=name, **values))
    elif before.revoke_ns is None:
        connection.execute(sa.update(certificates).where(mine).values(name=name, **values))
