"""Who may see and manage which identities. Pure.

A tenant's administrator manages the identities of that tenant, with roles of tenants. An operator manages those of the box,
and makes the first administrator of a tenant that has none: once that one has a credential, the operator sees it no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.access.errors import IdentityError
from appliance.access.identities import BOX_ROLES, TENANT_ROLES, Identity, Role
from appliance.access.refusals import ManageDeniedError

ADMIN: Final = "admin"  # the box's own; what it may do stands in the site file
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_AGENT = re.compile(r"\+?[0-9*#]{1,32}")


@dataclass(frozen=True)
class Target:
    """An identity that somebody wants to see or manage. `fresh`: an operator made it, and it has no credential yet."""

    name: str  # its key (`naming`)
    tenant_id: str
    roles: frozenset[Role]
    fresh: bool = False


def is_name(text: str) -> bool:
    """1 to 64 of a-z, 0-9, dot, dash, underscore; a letter or digit at either end."""
    return _NAME.fullmatch(text) is not None


def check_form(name: str, tenant_id: str, roles: Iterable[Role], agent: str) -> None:
    """IdentityError where no identity may be like this."""
    wanted = frozenset(roles)
    if not is_name(name):
        raise IdentityError(
            "should have 1 to 64 of a-z, 0-9, dot, dash, underscore, a letter or digit at either end",
            field="identity.name",
        )
    fitting = TENANT_ROLES if tenant_id else BOX_ROLES
    if not wanted or not wanted <= fitting:
        whose = "a tenant" if tenant_id else "the box"
        known = ", ".join(sorted(role.value for role in fitting))
        raise IdentityError(f"should be one or more roles of {whose}: {known}", field="identity.roles")
    if bool(agent) != (Role.AGENT in wanted) or (agent and not _AGENT.fullmatch(agent)):
        raise IdentityError(
            "should be the agent's own number (digits, * and #, a leading +) with the role agent, and only then",
            field="identity.agent_number",
        )


def sees(caller: Identity, target: Target) -> bool:
    """Whether the caller may know of the target at all."""
    if caller.name == target.name:
        return True
    if target.tenant_id:
        knows = caller.roles & {Role.TENANT_ADMINISTRATOR, Role.AUDITOR}
        own = caller.tenant_id in ("", target.tenant_id)
        return bool(knows and own) or (target.fresh and _operates(caller))
    return _operates(caller)


def manages(caller: Identity, target: Target) -> bool:
    """Whether the caller may change the target, disable it, or give it credentials."""
    if target.tenant_id:
        administers = Role.TENANT_ADMINISTRATOR in caller.roles and caller.tenant_id in ("", target.tenant_id)
        return administers or (target.fresh and _operates(caller))
    # What reaches beyond the box's roles, as the site's own admin does, is managed by its like alone.
    return _operates(caller) and target.roles - BOX_ROLES <= caller.roles


def check_manages(caller: Identity, target: Target) -> None:
    """ManageDeniedError where the caller sees the target, but may not manage it."""
    if not manages(caller, target):
        raise ManageDeniedError("an identity with these roles is not yours to manage")


def check_makes(caller: Identity, target: Target, administrators: int) -> None:
    """ManageDeniedError where the caller may not make the target; `administrators`: how many its tenant has.

    `fresh` of the target counts for nothing here.
    """
    bare = Target(target.name, target.tenant_id, target.roles)
    first = target.tenant_id and target.roles == {Role.TENANT_ADMINISTRATOR} and administrators == 0
    if manages(caller, bare) or (first and _operates(caller)):
        return
    raise ManageDeniedError(
        "an operator makes identities of the box, and the first administrator of a tenant that has none;"
        " a tenant's administrator makes those of the tenant"
    )


def _operates(caller: Identity) -> bool:
    return Role.OPERATOR in caller.roles and not caller.tenant_id
