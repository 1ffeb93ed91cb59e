"""The numeric addresses of targets that are named: a call is of the switchboard where it comes from its address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

import structlog

from appliance.media.inline.plan import direction_of, hosts
from appliance.media.signaling.routing import Decision, matches
from appliance.media.sip.uri import is_numeric
from appliance.model import Direction
from appliance.model.routing import Line, RoutingTable, Target, Tenant

REFRESH_S = 60.0
RESOLVE_S = 5.0
MAX_NAMES = 1000
MAX_ADDRESSES = 64  # of one name
NOBODY = Tenant(tenant_id="", display_name="", public_key=b"")

log = structlog.get_logger()


class Neighbours:
    """Names are looked up beside calls, never during one; what was known of a name stays while it cannot be resolved."""

    def __init__(self) -> None:
        self._addresses: dict[str, frozenset[str]] = {}
        self._wanted: set[str] = set()
        self._wake = asyncio.Event()

    def follow_table(self, table: RoutingTable) -> None:
        """Takes up the targets of a new table."""
        found: set[str] = set()
        for line in table.lines:
            if line.inline is not None:
                targets = [*line.inline.inbound, *line.inline.outbound]
                found |= {host for host in hosts(targets) if not is_numeric(host)}
        self._wanted = set(sorted(found)[:MAX_NAMES])
        self._wake.set()

    def among(self, source: str, targets: Iterable[Target]) -> bool:
        """Whether a numeric address is that of one of the targets."""
        named = hosts(targets)
        return source in named or any(source in self._addresses.get(host, ()) for host in named)

    def behind(self, table: RoutingTable, source: str, owner: Tenant | None = None) -> Decision | None:
        """Whose call it is that comes from a switchboard, with no number of an inline line: an emergency call among them.

        `owner` is whose number it has. Where that, or the switchboard, is of several tenants, the call is carried, and
        neither recorded nor shown to any of them.
        """
        lines = [
            line
            for line in table.lines
            if line.inline is not None and self.among(source, line.inline.inbound)
        ]
        if not lines:
            return None
        owners = {line.tenant_id for line in lines} | ({owner.tenant_id} if owner is not None else set())
        tenant = next((one for one in table.tenants if owners == {one.tenant_id}), None)
        if tenant is None:
            nobodys = {"tenant_id": "", "directions": (), "do_not_record": ()}
            return Decision(lines[0].model_copy(update=nobodys), NOBODY)
        return Decision(lines[0], tenant)

    def direction(self, line: Line, calling: str, called: str, source: str) -> Direction:
        """See `direction_of`; targets that are named count too."""
        found = direction_of(line, calling, called, source)
        if found is not Direction.INBOUND or matches(line.numbers, called) or line.inline is None:
            return found
        from_board = self.among(source, line.inline.inbound) and not self.among(source, line.inline.outbound)
        return Direction.OUTBOUND if from_board else found

    def nearest(self, found: Iterable[str]) -> str:
        """A numeric address of the first of these hosts that is known; "" where none is."""
        for host in found:
            if is_numeric(host):
                return host
            if addresses := self._addresses.get(host):
                return min(addresses)
        return ""

    async def run(self) -> None:
        """Looks names up again and again, until cancelled."""
        while True:
            self._wake.clear()
            for host in sorted(self._wanted):
                await self._look_up(host)
            self._addresses = {host: them for host, them in self._addresses.items() if host in self._wanted}
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _look_up(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError, TimeoutError):  # UnicodeError for labels that are none
            if host not in self._addresses:
                log.warning("a target's name cannot be resolved", target=host)
            return
        self._addresses[host] = frozenset(str(address[0]) for *_, address in found[:MAX_ADDRESSES])
