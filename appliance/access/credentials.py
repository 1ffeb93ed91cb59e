"""Passphrases with their second factor, and subjects of an identity provider, in the catalogue.

A `name` is an identity's key (`naming`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import secondfactor
from appliance.access.refusals import IdentityLimitError, SubjectNotFoundError, SubjectTakenError
from appliance.catalog.tables import identities, passphrases, recovery_codes, sources, subjects

ENROL_NS: Final = 3 * 86400 * 10**9  # how long a code to enrol with is good
KNOWN_NS: Final = 90 * 86400 * 10**9  # how long a network that somebody signed in from is known
MOST_SUBJECTS: Final = 10
MOST_SOURCES: Final = 50


@dataclass(frozen=True, repr=False)
class Secrets:
    """What is kept of one identity's passphrase and second factor."""

    name: str
    enabled: bool
    hash: str | None = None
    factor: bytes | None = None  # sealed
    used_step: int = 0
    enrol_hash: str | None = None
    enrol_until_ns: int = 0


def secrets_of(connection: sa.Connection, name: str) -> Secrets:
    """Also of a name that nobody has: then there is nothing in it. The same query either way."""
    row = connection.execute(
        sa.select(identities.c.disable_ns, identities.c.name.label("known"), passphrases)
        .select_from(identities.outerjoin(passphrases, passphrases.c.name == identities.c.name))
        .where(identities.c.name == name)
    ).first()
    if row is None:
        return Secrets(name, False)
    if row.used_step is None:
        return Secrets(name, row.disable_ns is None)
    return Secrets(
        name,
        row.disable_ns is None,
        row.hash,
        row.factor,
        row.used_step,
        row.enrol_hash,
        row.enrol_until_ns,
    )


def reset(connection: sa.Connection, name: str, enrol_hash: str, now_ns: int) -> None:
    """No passphrase and no second factor any more; whoever has the code may enrol new ones."""
    _clear(connection, name)
    connection.execute(
        sa.insert(passphrases).values(
            name=name,
            used_step=0,
            enrol_hash=enrol_hash,
            enrol_until_ns=now_ns + ENROL_NS,
            change_ns=now_ns,
        )
    )


def enrol(
    connection: sa.Connection, name: str, hash_: str, factor: bytes, codes: list[str], now_ns: int
) -> None:
    """This passphrase (hash) and second factor (sealed), with these recovery codes, and none from before."""
    _clear(connection, name)
    connection.execute(
        sa.insert(passphrases).values(
            name=name,
            hash=hash_,
            factor=factor,
            used_step=0,
            enrol_until_ns=0,
            change_ns=now_ns,
        )
    )
    connection.execute(
        sa.insert(recovery_codes),
        [{"name": name, "hash": secondfactor.recovery_hash(code)} for code in codes],
    )


def set_hash(connection: sa.Connection, name: str, hash_: str, now_ns: int) -> None:
    """Another passphrase; the second factor stays."""
    connection.execute(
        sa.update(passphrases).where(passphrases.c.name == name).values(hash=hash_, change_ns=now_ns)
    )


def use_step(connection: sa.Connection, name: str, hash_: str, step: int) -> bool:
    """A code of this step was used; False where it was already, or the passphrase is another one meanwhile."""
    return bool(
        connection.execute(
            sa.update(passphrases)
            .where(passphrases.c.name == name, passphrases.c.hash == hash_, passphrases.c.used_step < step)
            .values(used_step=step)
        ).rowcount
    )


def use_recovery(connection: sa.Connection, name: str, hash_: str, now_ns: int) -> bool:
    """A recovery code was used; False where there is none like it, or it was already."""
    return bool(
        connection.execute(
            sa.update(recovery_codes)
            .where(
                recovery_codes.c.name == name,
                recovery_codes.c.hash == hash_,
                recovery_codes.c.use_ns.is_(None),
            )
            .values(use_ns=now_ns)
        ).rowcount
    )


def recovery_left(connection: sa.Connection, name: str) -> int:
    """How many recovery codes are left."""
    query = sa.select(sa.func.count()).where(recovery_codes.c.name == name, recovery_codes.c.use_ns.is_(None))
    return int(connection.execute(query).scalar_one())


def is_known(connection: sa.Connection, name: str, network: str, now_ns: int) -> bool:
    """Whether somebody signed in to this name from this network (its hash) lately."""
    query = sa.select(sources.c.seen_ns).where(
        sources.c.name == name, sources.c.network == network, sources.c.seen_ns > now_ns - KNOWN_NS
    )
    return connection.execute(query).first() is not None


def note_source(connection: sa.Connection, name: str, network: str, now_ns: int) -> None:
    """Somebody signed in from there. The oldest of many are forgotten."""
    mine = (sources.c.name == name, sources.c.network == network)
    if not connection.execute(sa.update(sources).where(*mine).values(seen_ns=now_ns)).rowcount:
        connection.execute(sa.insert(sources).values(name=name, network=network, seen_ns=now_ns))
    connection.execute(
        sa.delete(sources).where(
            sources.c.name == name,
            sources.c.network.not_in(
                sa.select(sources.c.network)
                .where(sources.c.name == name)
                .order_by(sources.c.seen_ns.desc())
                .limit(MOST_SOURCES)
            ),
        )
    )


def prune(connection: sa.Connection, now_ns: int) -> None:
    """Forget networks that are not known any more."""
    connection.execute(sa.delete(sources).where(sources.c.seen_ns <= now_ns - KNOWN_NS))


def add_subject(connection: sa.Connection, name: str, issuer: str, subject: str, now_ns: int) -> None:
    """Let a provider's subject stand for a name; SubjectTakenError, IdentityLimitError."""
    if name_of_subject(connection, issuer, subject) is not None:
        raise SubjectTakenError("this subject stands for an identity already", field="subject.subject")
    if len(subjects_of(connection, name)) >= MOST_SUBJECTS:
        raise IdentityLimitError("the identity has as many subjects as it may have", limit=MOST_SUBJECTS)
    connection.execute(
        sa.insert(subjects).values(issuer=issuer, subject=subject, name=name, create_ns=now_ns)
    )


def remove_subject(connection: sa.Connection, name: str, issuer: str, subject: str) -> None:
    """SubjectNotFoundError."""
    gone = connection.execute(
        sa.delete(subjects).where(
            subjects.c.name == name, subjects.c.issuer == issuer, subjects.c.subject == subject
        )
    ).rowcount
    if not gone:
        raise SubjectNotFoundError("the identity has no such subject", field="subject.subject")


def subjects_of(connection: sa.Connection, name: str) -> list[tuple[str, str]]:
    """Issuer and subject, in their order."""
    query = (
        sa.select(subjects.c.issuer, subjects.c.subject)
        .where(subjects.c.name == name)
        .order_by(subjects.c.issuer, subjects.c.subject)
    )
    return [(row.issuer, row.subject) for row in connection.execute(query)]


def name_of_subject(connection: sa.Connection, issuer: str, subject: str) -> str | None:
    """Whom a subject stands for."""
    query = sa.select(subjects.c.name).where(subjects.c.issuer == issuer, subjects.c.subject == subject)
    found: Any = connection.execute(query).scalar()
    return found


def _clear(connection: sa.Connection, name: str) -> None:
    for table in (passphrases, recovery_codes):
        connection.execute(sa.delete(table).where(table.c.name == name))
