"""What the parts of ReviewService share: pages, who is asking, and a change that happens once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from appliance.access import naming
from appliance.access.identities import Role
from appliance.api import identitynames
from appliance.api.errors import FieldInvalidError
from appliance.api.pages import Page
from appliance.api.parts import Note, Parts
from appliance.api.scope import caller
from appliance.catalog import staff, tables

REVIEWERS: Final = frozenset({Role.RECORDS_OFFICER, Role.SUPERVISOR})


class Base:
    """The parts of a box."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def _once(
        self, method: str, request: Any, work: Callable[[sa.Connection], str], *, forgets: bool = False
    ) -> str:
        """Do it in one transaction, unless it was done; gives the id of what it is about."""

        async def act(note: Note) -> str:
            def both(connection: sa.Connection) -> str:
                subject = work(connection)
                note(connection, subject)
                return subject

            return await self._parts.store.write(both)

        subject = await self._parts.once(method, request, act)
        if forgets:
            await self._parts.follower.scrub_soon()  # what was said before is in no file any more
        return subject

    def _page(self, method: str, request: Any) -> Page:
        return Page(self._parts, method, request)


def own_agent() -> str | None:
    """The number of who is an agent and no reviewer: they see the own ones alone; None: the caller reviews."""
    return None if caller().roles & REVIEWERS else caller().agent


def own_numbers(connection: sa.Connection, tenant_id: str | None) -> frozenset[str]:
    """The caller's own numbers: as an agent, and as the tenant's staff has them."""
    who = caller()
    found = {who.agent} if who.agent else set()
    tenant_id = tenant_id or who.tenant_id
    member = staff.of_identity(connection, tenant_id, who.name, who.agent) if tenant_id else None
    return frozenset(found | set(member.numbers if member is not None else ()))


def reviewer(connection: sa.Connection, text: str, tenant_id: str, field: str) -> str:
    """The key of an identity that may review calls of a tenant, or nothing. NameInvalidError, FieldInvalidError."""
    if not text:
        return ""
    key = identitynames.read(text, field)
    known = tables.identities.c
    row = connection.execute(
        sa.select(known.roles).where(known.name == key, known.disable_ns.is_(None))
    ).first()
    own = naming.parts(key)[0] == tenant_id or key == caller().name
    if not own or row is None or not REVIEWERS & {Role(one) for one in row.roles}:
        raise FieldInvalidError("should be an identity of the tenant that may review", field=field)
    return key
