"""Names of identities. A name is unique in its tenant, and among the box's own; the *key* is unique on the box.

The key stands wherever an identity is kept or written down (tables, the copy, the audit, authors, reads, requests): `ris`
for one of the box, `{tenant id}/reception` for one of a tenant, so that two of one name are never taken for each other. Who
comes by an identity provider's groups alone is `{provider}:{name}`, which the provider keeps unique. Pure.
"""

from __future__ import annotations

from typing import Final

BETWEEN: Final = "/"  # no name and no tenant's id has it


def key(tenant_id: str, name: str) -> str:
    """`tenant_id` is empty for the box."""
    return f"{tenant_id}{BETWEEN}{name}" if tenant_id else name


def parts(of: str) -> tuple[str, str]:
    """The tenant's id, empty for the box, and the name within it."""
    tenant_id, _, name = of.rpartition(BETWEEN)
    return tenant_id, name


def carried(name: str, tenant_id: str) -> str:
    """The key of what an older release wrote down, to which names were unique on the whole box."""
    return name if BETWEEN in name else key(tenant_id, name)
