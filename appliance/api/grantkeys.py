"""Data keys under support grants: sealed to who reads where a tenant's keys are attended, and dropped at the end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
import structlog

from appliance.api.store import Store
from appliance.api.vaultkeys import VaultKeys
from appliance.catalog import grants as rows
from appliance.catalog.grants import Grant
from appliance.model import EarwitnessError
from earwitness.internal.v1 import tenantkeys_pb2 as vault

log = structlog.get_logger()

# Nobody is waiting for it: the next round tries again, and the vault gives out nothing that has expired.
_LATER: Final = "sealed keys of a grant not dropped yet"


class GrantKeys:
    """What the vault seals and drops. The catalogue says first that it may hold some, and last that it holds none."""

    def __init__(self, store: Store, keys: VaultKeys) -> None:
        self._store = store
        self._keys = keys

    async def seal(self, grant: Grant, recording_ids: Collection[str]) -> bool:
        """Seal the data keys of what a grant is about to cover; whether there are any. TENANT_LOCKED, VAULT_UNAVAILABLE."""
        if not grant.public_key:
            return False
        if (await self._keys.of(grant.tenant_id)).mode != vault.KEY_MODE_ATTENDED:
            return False
        await self._store.write(lambda connection: rows.mark_sealed(connection, grant.grant_id, True))
        answer = await self._keys.seal_for_grant(
            grant.grant_id, grant.tenant_id, sorted(recording_ids), grant.public_key, grant.end_ns
        )
        return answer.mode == vault.KEY_MODE_ATTENDED

    async def of(self, grant: Grant) -> list[vault.GrantKey]:
        """Sealed keys that may be given out now, by recording."""
        if not grant.keys_sealed:
            return []
        return sorted(await self._keys.grant_keys(grant.grant_id), key=lambda one: one.recording_id)

    async def drop(self, grant: Grant) -> None:
        """Have a grant's sealed keys destroyed, where there may be some. What cannot be now is later (`sweep`)."""
        if not grant.keys_sealed:
            return
        try:
            await self._keys.drop_grant(grant.grant_id)
        except EarwitnessError as error:
            log.warning(_LATER, grant=grant.grant_id, reason=error.reason)
            return
        await self._store.write(lambda connection: rows.mark_sealed(connection, grant.grant_id, False))

    async def sweep(self) -> None:
        """Drop what is left of grants that have ended."""

        def work(connection: sa.Connection) -> list[Grant]:
            return rows.keyed(connection)

        for grant in await self._store.read(work):
            await self.drop(replace(grant, keys_sealed=True))
