"""Sessions of who signed in by passphrase: an opaque token, of which only a hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from appliance.access.refusals import SessionNotFoundError, TokenExpiredError, TokenInvalidError
from appliance.catalog.tables import sessions
from appliance.model import new_id

PREFIX: Final = "ews_"  # tells our tokens from a provider's, and to scanners of leaked secrets what it is
LIFETIME_NS: Final = 12 * 3600 * 10**9
IDLE_NS: Final = 30 * 60 * 10**9
NOTE_NS: Final = 60 * 10**9  # how exactly it is known when a session was last used
MOST: Final = 20  # of one identity; the oldest makes room
_BYTES: Final = 32


@dataclass(frozen=True)
class Session:
    """A session that stands."""

    id: str
    name: str  # the key of whose it is (`naming`)
    create_ns: int
    seen_ns: int
    expire_ns: int


def begin(connection: sa.Connection, name: str, now_ns: int) -> tuple[str, Session]:
    """The token, which is shown once, and the session."""
    token = PREFIX + secrets.token_urlsafe(_BYTES)
    session = Session(new_id(), name, now_ns, now_ns, now_ns + LIFETIME_NS)
    connection.execute(
        sa.insert(sessions).values(
            id=session.id,
            hash=_hash(token),
            name=name,
            create_ns=now_ns,
            seen_ns=now_ns,
            expire_ns=session.expire_ns,
        )
    )
    newest = (
        sa.select(sessions.c.id)
        .where(sessions.c.name == name)
        .order_by(sessions.c.create_ns.desc(), sessions.c.id.desc())
        .limit(MOST)
    )
    connection.execute(sa.delete(sessions).where(sessions.c.name == name, sessions.c.id.not_in(newest)))
    return token, session


def find(connection: sa.Connection, token: str, now_ns: int) -> Session:
    """The session of a token; TokenInvalidError, TokenExpiredError."""
    row = connection.execute(sa.select(sessions).where(sessions.c.hash == _hash(token))).first()
    if row is None:
        raise TokenInvalidError("the token is not accepted")
    if now_ns >= row.expire_ns or now_ns >= row.seen_ns + IDLE_NS:
        raise TokenExpiredError("the session is over: sign in again")
    return _session(row)


def note(connection: sa.Connection, session_id: str, now_ns: int) -> None:
    """It was used."""
    connection.execute(sa.update(sessions).where(sessions.c.id == session_id).values(seen_ns=now_ns))


def of(connection: sa.Connection, name: str, now_ns: int) -> list[Session]:
    """Those of one identity that stand, oldest first. There are at most MOST."""
    query = (
        sa.select(sessions)
        .where(
            sessions.c.name == name,
            sessions.c.expire_ns > now_ns,
            sessions.c.seen_ns > now_ns - IDLE_NS,
        )
        .order_by(sessions.c.create_ns, sessions.c.id)
    )
    return [_session(row) for row in connection.execute(query)]


def end(connection: sa.Connection, name: str, session_id: str) -> None:
    """SessionNotFoundError."""
    if not connection.execute(
        sa.delete(sessions).where(sessions.c.name == name, sessions.c.id == session_id)
    ).rowcount:
        raise SessionNotFoundError("no such session")


def end_all(connection: sa.Connection, name: str) -> None:
    """Every session of an identity is over."""
    connection.execute(sa.delete(sessions).where(sessions.c.name == name))


def prune(connection: sa.Connection, now_ns: int) -> None:
    """Forget what is over."""
    connection.execute(
        sa.delete(sessions).where((sessions.c.expire_ns <= now_ns) | (sessions.c.seen_ns <= now_ns - IDLE_NS))
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _session(row: sa.Row[Any]) -> Session:
    return Session(row.id, row.name, row.create_ns, row.seen_ns, row.expire_ns)
