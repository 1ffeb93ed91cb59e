"""Who is calling, within a handler, and what of the box that caller sees.

An identity of a tenant sees that tenant alone. "-" is its own tenant then, and another tenant's id is exchanged for one
that no tenant can have: so a stranger's name is answered by the same code, with the same words, as a name of nothing.
"""

from __future__ import annotations

import contextvars
from typing import Final

from appliance.access.errors import RoleNeededError
from appliance.access.identities import Identity, Role

NOBODY: Final = "a" * 26  # ids are random: this one is never made

_current: contextvars.ContextVar[Identity] = contextvars.ContextVar("identity")


def enter(identity: Identity) -> None:
    """From here on, in this task, this identity is calling."""
    _current.set(identity)


def caller() -> Identity:
    """Who is calling, within a handler."""
    return _current.get()


def confine(tenant_id: str | None) -> str | None:
    """A tenant's id as the caller may mean it; None, all tenants, only for identities of the box."""
    own = caller().tenant_id
    if not own or tenant_id == own:
        return tenant_id
    return own if tenant_id is None else NOBODY


def require(*roles: Role) -> None:
    """RoleNeededError where the caller has none of these roles: for what a row of the table cannot tell apart."""
    if not caller().roles & set(roles):
        raise RoleNeededError(
            "this needs another role", roles=", ".join(sorted(role.value for role in roles))
        )
