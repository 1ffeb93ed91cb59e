"""How tenants' keys stand, as control follows it: what was locked is forgotten here, what was unlocked is described."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from appliance.api.follow import Follower
from appliance.api.renders import Renders
from appliance.api.routing import Routing
from appliance.api.store import Store
from appliance.api.vaultkeys import VaultKeys
from appliance.catalog import attended
from appliance.model import EarwitnessError, Kind
from appliance.storage.keystore.errors import TenantLockedError
from earwitness.internal.v1 import tenantkeys_pb2 as pb

log = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
_PAGE: Final = 200


class KeyStates:
    """See the module. Everything happens on the event loop."""

    def __init__(
        self,
        store: Store,
        vault: VaultKeys,
        follower: Follower,
        renders: Renders,
        routing: Routing,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._vault = vault
        self._follower = follower
        self._renders = renders
        self._routing = routing
        self._clock_ns = clock_ns
        self._known: dict[str, pb.TenantKeys] = {}
        self._to_describe: set[str] = set()
        self._wanted = asyncio.Event()

    def refuse_locked(self, tenant_id: str) -> None:
        """TenantLockedError where the vault would give no key now: for what is held here of a reading before.

        Of a tenant that is not known yet the vault says it, when it is asked for a key.
        """
        keys = self._known.get(tenant_id)
        over = keys is not None and 0 < keys.unlocked_until_ns <= self._clock_ns()
        if keys is not None and (keys.locked or over):
            raise TenantLockedError(
                "the tenant's keys are locked: its records officer unlocks them", tenant_id=tenant_id
            )

    async def take(self, keys: pb.TenantKeys) -> None:
        """How a tenant's keys stand from now on. A key that is new is in the routing table when this returns."""
        before = self._known.get(keys.tenant_id)
        self._known[keys.tenant_id] = keys
        if keys.locked:
            if before is None or not before.locked:
                await self._forget(keys.tenant_id)
        elif before is None or before.locked:
            self._to_describe.add(keys.tenant_id)
            self._wanted.set()
        if before is None or before.public_key_id != keys.public_key_id:
            await self._adopt(keys)

    async def _forget(self, tenant_id: str) -> None:
        held = self._renders.recordings()
        if held:
            for recording_id in await self._store.read(
                lambda connection: attended.of_tenant(connection, held, tenant_id)
            ):
                self._renders.forget(recording_id)

    async def _adopt(self, keys: pb.TenantKeys) -> None:
        tenant_id, public_key = keys.tenant_id, keys.public_key
        if await self._store.write(
            lambda connection: attended.adopt_public_key(connection, tenant_id, public_key)
        ):
            await self._routing.publish()
            log.info("tenant's public key taken up", tenant=tenant_id)

    async def run(self) -> None:
        """Until cancelled: looks how they stand, and describes what waits."""
        while True:
            try:
                for keys in await self._vault.all():
                    known = self._known.get(keys.tenant_id)
                    if known is None or known.public_key_id != keys.public_key_id:
                        keys = await self._vault.of(keys.tenant_id)  # with the key itself
                    await self.take(keys)
                # One that was being taken up when the keys were unlocked may have missed that.
                self._to_describe |= {one for one in self._follower.put_off if self._is_open(one)}
                await self._describe()
            except EarwitnessError as error:
                # The follower tells of a vault that is away, the store of a catalogue that is; there is a next round.
                log.debug("tenants' keys not followed", reason=error.reason)
            self._wanted.clear()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _describe(self) -> None:
        """Recordings of tenants that are unlocked and whose content was not read. Broken off, it begins again."""
        for tenant_id in sorted(self._to_describe):
            self._follower.put_off.discard(tenant_id)
            count, after = 0, ""
            while page := await self._waiting(tenant_id, after):
                if (await self._vault.of(tenant_id)).locked:
                    break  # the next unlocking says so, and it begins again
                for recording_id in page:
                    count += await self._refresh(recording_id)
                after = page[-1]
            self._to_describe.discard(tenant_id)
            if count:
                log.info("recordings read after an unlocking", tenant=tenant_id, recordings=count)

    async def _refresh(self, recording_id: str) -> bool:
        try:
            await self._follower.refresh(recording_id)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            # It went on in its life, and the journal says how.
            log.info("not read after an unlocking", recording=recording_id, reason=error.reason)
            return False
        return True

    def _is_open(self, tenant_id: str) -> bool:
        keys = self._known.get(tenant_id)
        return keys is not None and not keys.locked

    async def _waiting(self, tenant_id: str, after: str) -> list[str]:
        return await self._store.read(
            lambda connection: attended.waiting(connection, tenant_id, _PAGE, after)
        )
