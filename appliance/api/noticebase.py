"""What the parts of NoticesService share: names, pages, changes that are checked first and done once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from appliance.access import naming
from appliance.api import names
from appliance.api.errors import FieldInvalidError, NameInvalidError
from appliance.api.parts import Note, Parts
from appliance.catalog import tenants

T = TypeVar("T")


@dataclass(frozen=True)
class Changed(Generic[T]):
    """What came of a request: what was planned (None: it was done before), and the id of what it is about."""

    made: T | None
    subject: str


class NoticeBase:
    """See the module."""

    def __init__(self, parts: Parts, base_url: Callable[[], str]) -> None:
        """`base_url`: what links to the page begin with; empty: no page is served."""
        self._parts = parts
        self._base_url = base_url

    async def change(
        self,
        method: str,
        request: Any,
        plan: Callable[[sa.Connection], T],
        apply: Callable[[sa.Connection, T], str],
    ) -> Changed[T]:
        """Does what a request asks for, once.

        `plan` checks everything and says what would be; with validate_only that is all. `apply` does it and gives the id
        of what it is about. Who is barred from pausing is told to signaling.
        """
        if request.validate_only:
            return Changed(await self._parts.store.read(plan), "")
        made: list[T] = []

        async def act(note: Note) -> str:
            def work(connection: sa.Connection) -> tuple[T, str]:
                planned = plan(connection)
                subject = apply(connection, planned)
                note(connection, subject)
                return planned, subject

            planned, subject = await self._parts.store.write(work)
            made.append(planned)
            return subject

        subject = await self._parts.once(method, request, act)
        await self._parts.routing.publish()
        return Changed(made[0] if made else None, subject)


def of_tenant(text: str, collection: str, field: str = "name") -> tuple[str, str]:
    """The ids of one tenant and of what is named below it; NameInvalidError."""
    tenant_id, found = names.child(text, collection, field)
    if tenant_id is None or text.startswith(f"tenants/{names.ANY}/"):
        raise NameInvalidError(f"should be tenants/{{tenant}}/{collection}/{{id}}", field=field)
    return tenant_id, found


def below(tenant_id: str, text: str, collection: str, field: str) -> str:
    """The id of something of this tenant; FieldInvalidError where it is another's."""
    owner, found = of_tenant(text, collection, field)
    if owner != tenant_id:
        raise FieldInvalidError("should be of the same tenant", field=field)
    return found


def own_identity(key: str, tenant_id: str) -> bool:
    """Whether an identity (its key) may be of a tenant's staff: the tenant's own, the box's, or an identity provider's."""
    return naming.parts(key)[0] in ("", tenant_id)


def line_ids(connection: sa.Connection, tenant_id: str) -> set[str]:
    """Of the lines of a tenant; TenantNotFoundError."""
    tenants.get_tenant(connection, tenant_id)
    return {one.line_id for one in tenants.list_lines(connection, tenant_id=tenant_id)}
