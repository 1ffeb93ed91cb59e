"""Follows the vault's journal, and rebuilds the catalogue from what the vault holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from appliance.api import convert
from appliance.api.errors import RebuildRunningError
from appliance.api.store import Store
from appliance.api.taking import CURSOR, Taker
from appliance.api.vault import Vault
from appliance.audit.errors import AuditUnavailableError
from appliance.catalog import recordings, state
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.records import UNREADABLE, Held, State
from appliance.model import EarwitnessError
from appliance.process.status import WARNING, Status
from earwitness.internal.v1 import vault_pb2

log = structlog.get_logger()

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MOST_S: Final = 5.0
DOWN: Final = "VaultUnreachable"


@dataclass(frozen=True)
class Progress:
    """How far a rebuild is."""

    recordings: int
    unreadable: int
    done: bool = False


class Follower:
    """Keeps the catalogue up with the vault. Everything here can be broken off anywhere and done again."""

    def __init__(
        self, store: Store, vault: Vault, taker: Taker, status: Status, gone: Callable[[str], None]
    ) -> None:
        self._store = store
        self._vault = vault
        self._taker = taker
        self._status = status
        self._gone = gone  # told of recordings that can no longer be read
        self._rebuilding = asyncio.Lock()
        self.connected = False
        self.cursor = 0

    async def run(self) -> None:
        """Until cancelled. While the vault is away: tries again, ever more slowly."""
        delay = BACKOFF_FIRST_S
        while True:
            try:
                async for _ in self._once():
                    delay = BACKOFF_FIRST_S
                    self.connected = True
                    self._status.clear_condition(DOWN)
            except EarwitnessError as error:
                log.info("vault not followed", reason=error.reason, again_in_s=delay)
                self.connected = False
                if not isinstance(error, CatalogueUnavailableError | AuditUnavailableError):
                    self._status.raise_condition(
                        DOWN,
                        WARNING,
                        "The vault does not answer: recordings are kept in the spool and appear later.",
                    )
            else:  # the journal ended as it should: the vault is about to stop
                self.connected = False
            await asyncio.sleep(delay)
            delay = min(2 * delay, BACKOFF_MOST_S)

    async def _once(self) -> AsyncIterator[None]:
        await self._vault.status()  # says at once whether it is there; the journal may be silent for hours
        yield
        cursor = await self._store.read(lambda connection: state.get(connection, CURSOR))
        if cursor is None:
            # A new catalogue: what the vault holds is a shorter way than all that ever happened.
            async for _ in self.rebuild(tells=False):
                yield
            cursor = await self._store.read(lambda connection: state.get(connection, CURSOR))
        self.cursor = int(cursor or 0)
        async for entry in self._vault.journal(self.cursor):
            held = self._held(entry.holding)
            await self._taker.take(held, entry.position, moves_cursor=True, witnesses=True)
            self.cursor = entry.position
            self._status.count("journal_entries_taken")
            yield

    async def rebuild(self, *, tells: bool = True) -> AsyncGenerator[Progress, None]:
        """Read everything the vault holds anew; what it does not hold goes. RebuildRunningError.

        Row by row, so that the catalogue answers all the time and nothing waits; rows that are newer than the vault's
        list stay as they are. Safe to break off: what is done is right, and doing it again does the rest.
        """
        if self._rebuilding.locked():
            raise RebuildRunningError("the catalogue is being rebuilt already")
        async with self._rebuilding:
            seen: set[str] = set()
            unreadable = 0
            first = await self._store.read(lambda connection: state.get(connection, CURSOR)) is None
            position = (await self._vault.status()).position  # the list is asked for later, so is not older
            async for item in self._vault.holdings():
                held = self._held(item.holding)
                position = item.position
                description = await self._taker.take(held, position, tells=tells, anew=True, witnesses=first)
                seen.add(held.recording_id)
                unreadable += description is not None and UNREADABLE in description.flags
                yield Progress(len(seen), unreadable)
            dropped = await self._store.write(
                lambda connection: recordings.drop_unheld(connection, seen, position)
            )
            for recording_id in dropped:
                self._gone(recording_id)
            if dropped:
                await self._store.let_go()
            self._taker.scrub_wanted |= bool(dropped)
            if first:
                await self._store.write(lambda connection: state.put_int(connection, CURSOR, position))
            log.info("catalogue rebuilt", recordings=len(seen), unreadable=unreadable, dropped=len(dropped))
            yield Progress(len(seen), unreadable, done=True)

    @property
    def put_off(self) -> set[str]:
        """Tenants of recordings that were not read because their keys were locked; who reads them takes them out."""
        return self._taker.put_off

    async def scrub(self) -> None:
        """Do what could not be done at once: a reader was in the way."""
        if self._taker.scrub_wanted or self._store.scrub_wanted:
            self._taker.scrub_wanted = not await self._store.scrub()

    async def scrub_soon(self) -> None:
        """Personal data was deleted: see that it leaves the files, now or with what keeps house."""
        self._taker.scrub_wanted = not await self._store.scrub_soon()

    async def refresh(self, recording_id: str) -> None:
        """Take up at once how one recording stands in the vault, without waiting for the journal."""
        position = (await self._vault.status()).position
        holding = await self._vault.holding(recording_id)  # asked after the position, so not older than it
        await self._taker.take(self._held(holding), position)

    def _held(self, holding: vault_pb2.Holding) -> Held:
        held = convert.held(holding)
        if held.state is not State.FILED:
            self._gone(held.recording_id)
        return held
