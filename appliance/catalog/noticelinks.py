"""Links by which a notice is acknowledged without signing in, in the catalogue: each is used once."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from appliance.catalog import notices, paging, staff, state
from appliance.catalog.noticeerrors import NoticeLinkInvalidError
from appliance.catalog.noticetables import notice_links as table
from appliance.model import EarwitnessError
from appliance.model.staff import Notice, NoticeVersion, StaffMember, goes_to, in_force

KEEP_NS = 30 * 86400 * 10**9  # after a link is over
MAX_OF_MEMBER = 20  # links of one person that can be used
_KEY: Final = "notice-link-key"


@dataclass(frozen=True)
class Opened:
    """What a link leads to now."""

    link_id: str
    tenant_id: str
    member: StaffMember
    notice: Notice
    version: NoticeVersion


def key(connection: sa.Connection) -> bytes:
    """That links are signed under, made at the first call (needs a writing connection then).

    Not the key of page and resume tokens: those must not outlive the catalogue, as its events begin anew.
    """
    # An older release signed under that one: links that it mailed go on.
    return state.key(connection, _KEY, older=paging.KEY)


def add(
    connection: sa.Connection,
    link_id: str,
    member: StaffMember,
    notice_id: str,
    secret_sha256: str,
    now_ns: int,
    expire_ns: int,
) -> None:
    """A fresh link; of one person's that can be used the oldest goes where there are many."""
    connection.execute(
        sa.insert(table).values(
            id=link_id,
            tenant_id=member.tenant_id,
            notice_id=notice_id,
            staff_id=member.staff_id,
            secret_sha256=secret_sha256,
            create_ns=now_ns,
            expire_ns=expire_ns,
        )
    )
    theirs = sa.select(table.c.id).where(table.c.staff_id == member.staff_id)
    old = theirs.order_by(table.c.create_ns.desc(), table.c.id.desc()).offset(MAX_OF_MEMBER)
    gone = [row.id for row in connection.execute(old.limit(100))]
    connection.execute(sa.delete(table).where(table.c.id.in_(gone)))


def open_link(connection: sa.Connection, link_id: str, secret_sha256: str, now_ns: int) -> Opened:
    """What it leads to; NoticeLinkInvalidError, one for whatever is the matter."""
    row = connection.execute(sa.select(table).where(table.c.id == link_id)).first()
    wrong = NoticeLinkInvalidError("no link that can be used")
    if row is None or not hmac.compare_digest(row.secret_sha256, secret_sha256):
        raise wrong
    if row.use_ns is not None or row.expire_ns <= now_ns:
        raise wrong
    try:
        member = staff.get(connection, row.tenant_id, row.staff_id)
        notice, versions = notices.get(connection, row.tenant_id, row.notice_id)
    except EarwitnessError:
        raise wrong from None
    version = in_force(versions, now_ns)
    if version is None or not goes_to(notice, member):
        raise wrong
    return Opened(link_id, row.tenant_id, member, notice, version)


def use(connection: sa.Connection, link_id: str, now_ns: int) -> None:
    """It is used; NoticeLinkInvalidError where it was meanwhile."""
    done = connection.execute(
        sa.update(table).where(table.c.id == link_id, table.c.use_ns.is_(None)).values(use_ns=now_ns)
    ).rowcount
    if not done:
        raise NoticeLinkInvalidError("no link that can be used")


def remove(connection: sa.Connection, link_ids: Iterable[str]) -> None:
    """They reached nobody."""
    connection.execute(sa.delete(table).where(table.c.id.in_(list(link_ids))))


def prune(connection: sa.Connection, now_ns: int) -> int:
    """Forget those that are long over; gives how many."""
    return connection.execute(sa.delete(table).where(table.c.expire_ns < now_ns - KEEP_NS)).rowcount
