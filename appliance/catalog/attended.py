"""What the catalogue does for tenants that lock their keys: which recordings wait to be described, and the present key."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.catalog import tables, tenants
from appliance.catalog.records import State
from appliance.catalog.searchtables import sidecars

_r = tables.recordings
_t = tables.tenants


def waiting(connection: sa.Connection, tenant_id: str, limit: int, after: str = "") -> list[str]:
    """Ids of a tenant's filed recordings whose content, or what was added to it, was not read yet, in their order."""
    behind = sa.exists().where(sidecars.c.recording_id == _r.c.id, sidecars.c.taken < sidecars.c.entries)
    query = (
        sa.select(_r.c.id)
        .where(_r.c.tenant_id == tenant_id, _r.c.described.is_(False) | behind, _r.c.id > after)
        .where(_r.c.state == State.FILED.value)
        .order_by(_r.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def of_tenant(connection: sa.Connection, recording_ids: list[str], tenant_id: str) -> list[str]:
    """Those of these that are the tenant's."""
    query = sa.select(_r.c.id).where(_r.c.tenant_id == tenant_id, _r.c.id.in_(recording_ids))
    return list(connection.execute(query).scalars())


def adopt_public_key(connection: sa.Connection, tenant_id: str, public_key: bytes) -> bool:
    """What the tenant's recordings are sealed to from now on; False where it is known, or the tenant is not."""
    changed = connection.execute(
        sa.update(_t).where(_t.c.id == tenant_id, _t.c.public_key != public_key).values(public_key=public_key)
    ).rowcount
    if changed:
        tenants.changed(connection)
    return bool(changed)
