"""Whether recordings could be had, noted as it happens: a row a stretch, lengthened once a minute, ended at each change.

What could not be written while the catalogue was away is written when it is back. What nobody wrote is time in which
nothing ran: that is known after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa

from appliance.api.follow import Follower
from appliance.api.store import Store
from appliance.catalog import availability, documents
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model.served import Cause, Follows, Served

LOOK_S: Final = 5.0
NOTE_S: Final = 60.0
START_S: Final = 20.0  # until the vault is met after a start; nothing is noted before
JUMP_NS: Final = 5 * 10**9  # more than that between two clocks: one of them was set
PRUNE_S: Final = 3600.0
MAX_UNWRITTEN: Final = 1000  # stretches; what is more is one


@dataclass
class _Row:
    """A stretch, and the number of its row; None: not written yet."""

    stretch: Served
    number: int | None = None


class Serving:
    """See the module. Everything happens on the event loop."""

    def __init__(
        self,
        store: Store,
        follower: Follower,
        clock_ns: Callable[[], int],
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._follower = follower
        self._clock_ns = clock_ns
        self._steady_s = steady_s
        self._started_s = steady_s()
        self._seen = (0, 0.0)  # by the clock, and by the one that is never set
        self._written_s = float("-inf")
        self._noted_ns = 0
        self._pruned_s = float("-inf")
        self._rows: list[_Row] = []
        self._unwritable = False
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled; its last act is to note until when it went."""
        try:
            while True:
                await self.look()
                await self._prune()
                await asyncio.sleep(LOOK_S)
        except asyncio.CancelledError:
            await self.look(write=True)
            raise

    async def look(self, *, write: bool = False) -> None:
        """See how it is now; with `write` it is noted at once, where the catalogue is there."""
        async with self._lock:
            cause = await self._cause()
            steady_s = self._steady_s()
            if not self._rows and cause is Cause.VAULT and steady_s - self._started_s < START_S:
                return
            changed = self._take(cause, self._clock_ns(), steady_s)
            if write or changed or self._unwritable or steady_s - self._written_s >= NOTE_S:
                await self._write(steady_s)

    async def stretches(self, from_ns: int, until_ns: int) -> tuple[list[Served], int]:
        """Those that touch a span, the last before it and the first after; and until when is noted what there is.

        CatalogueUnavailableError.
        """
        await self.look(write=True)
        # Before it is read: what is seen meanwhile is not written yet, and would look as if nothing ran.
        noted_ns = self._noted_ns or self._clock_ns()
        found = await self._store.read(
            lambda connection: availability.stretches(connection, from_ns, until_ns)
        )
        return found, noted_ns

    async def _cause(self) -> Cause | None:
        try:
            await self._store.read(lambda connection: connection.execute(sa.select(1)).scalar())
        except CatalogueUnavailableError:
            return Cause.CATALOGUE
        if self._unwritable:
            return Cause.CATALOGUE
        return None if self._follower.connected else Cause.VAULT

    def _take(self, cause: Cause | None, now_ns: int, steady_s: float) -> bool:
        """Gives whether something is other than before."""
        seen_ns, seen_s = self._seen
        self._seen = (now_ns, steady_s)
        if not self._rows:
            self._rows.append(_Row(Served(now_ns, now_ns, cause)))
            return True
        last = self._rows[-1]
        if abs((now_ns - seen_ns) - (steady_s - seen_s) * 1e9) > JUMP_NS:
            self._rows.append(_Row(Served(now_ns, now_ns, cause, Follows.CLOCK)))
            return True
        last.stretch = replace(last.stretch, end_ns=max(now_ns, last.stretch.begin_ns))
        if last.stretch.cause is cause:
            return False
        if len(self._rows) >= MAX_UNWRITTEN:
            return True  # as long as nothing can be written, the catalogue is the cause in any case
        self._rows.append(_Row(Served(now_ns, now_ns, cause, Follows.CHANGE)))
        return True

    async def _write(self, steady_s: float) -> None:
        rows, until_ns = list(self._rows), self._seen[0]

        def work(connection: sa.Connection) -> list[int]:
            numbers = []
            for row in rows:
                if row.number is None:
                    numbers.append(availability.begin(connection, row.stretch))
                else:
                    availability.go_on(connection, row.number, row.stretch.end_ns)
                    numbers.append(row.number)
            return numbers

        try:
            numbers = await self._store.write(work)
        except CatalogueUnavailableError:
            self._unwritable = True  # its condition is raised by the store; the next look tries again
            return
        for row, number in zip(rows, numbers, strict=True):
            row.number = number
        del self._rows[: len(rows) - 1]
        self._unwritable = False
        self._written_s, self._noted_ns = steady_s, until_ns

    async def _prune(self) -> None:
        steady_s = self._steady_s()
        if steady_s - self._pruned_s < PRUNE_S:
            return
        now_ns = self._clock_ns()

        def work(connection: sa.Connection) -> None:
            availability.prune(connection, now_ns)
            documents.prune(connection, now_ns)

        try:
            await self._store.write(work)
        except CatalogueUnavailableError:
            return  # as above
        self._pruned_s = steady_s
