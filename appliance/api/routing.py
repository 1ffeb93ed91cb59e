"""The routing table: what signaling decides by, written whole and atomically."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
import structlog

from appliance.api.errors import RoutingUnwrittenError
from appliance.api.store import Store
from appliance.api.vault import Vault
from appliance.catalog import tenants
from appliance.catalog.routingtext import RoutingText
from appliance.model import CorruptError, new_id
from appliance.model.routing import Line, RoutingTable, Tenant
from appliance.process.wholefile import write_whole

log = structlog.get_logger()


class RoutingCorruptError(CorruptError):
    """state/routing.json cannot be read, and the catalogue has no tenants: somebody must say which is right."""

    reason = "ROUTING_CORRUPT"


class Routing:
    """Tenants and lines on their way from the catalogue to signaling."""

    def __init__(self, path: Path, store: Store, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._store = store
        self._lock = asyncio.Lock()
        self._text = RoutingText(clock_ns)
        self._written = ""

    async def publish(self) -> None:
        """Write the table where it is not written yet; RoutingUnwrittenError. On disk when this returns."""
        async with self._lock:
            version, text = await self._store.read(self._text.of)
            if text == self._written:
                return
            try:
                await asyncio.to_thread(_write, self._path, text)
            except OSError as error:
                raise RoutingUnwrittenError("the routing table cannot be written") from error
            self._written = text
            log.info("routing written", version=version, size=len(text))

    async def restore(self) -> bool:
        """Give a catalogue without tenants those of the written table; False where there is none either."""
        if (await self._store.read(tenants.routing)).tenants:
            return True
        table = await asyncio.to_thread(_read, self._path)
        if table is None or not table.tenants:
            return False
        await self._store.write(lambda connection: tenants.restore(connection, table))
        log.warning("tenants restored from the routing table", tenants=len(table.tenants))
        return True

    async def provision(self, vault: Vault, now_ns: int) -> None:
        """The first start: a tenant and a line that takes every call, so that any client can be pointed at the box."""
        tenant_id = new_id()
        public_key = await vault.create_tenant_key(tenant_id)
        tenant = Tenant(
            tenant_id=tenant_id, display_name="Default tenant", public_key=public_key, create_ns=now_ns
        )
        line = Line(
            line_id=new_id(), tenant_id=tenant_id, display_name="All calls", catch_all=True, create_ns=now_ns
        )

        def work(connection: sa.Connection) -> None:
            tenants.add_tenant(connection, tenant)
            tenants.add_line(connection, line)

        await self._store.write(work)
        await self.publish()


def _read(path: Path) -> RoutingTable | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return RoutingTable.model_validate_json(text)
    except ValueError:
        # Not chained: the text holds numbers of people.
        raise RoutingCorruptError("the routing table cannot be read", file=path.name) from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, text.encode(), 0o640)
