"""The catalogue for asyncio: work is done in threads, and who waits for events is woken."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa

from appliance.api.cataloguedamaged import Damaged
from appliance.catalog.database import Database
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.model import UnavailableError
from appliance.process.status import ALARM, Status

Result = TypeVar("Result")
_THREADS: Final = 4
UNWRITABLE: Final = "CatalogueUnwritable"


class ShuttingDownError(UnavailableError):
    """This process is about to stop; come again in a moment."""

    reason = "SHUTTING_DOWN"


class Signal:
    """Wakes everybody who waits. Who was not waiting sees it by the number."""

    def __init__(self) -> None:
        self.number = 0
        self._closed = False
        self._next: asyncio.Future[None] | None = None

    def notify(self) -> None:
        self.number += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    def close(self) -> None:
        """Who waits, now or later, gets ShuttingDownError."""
        self._closed = True
        self.notify()

    def check(self) -> None:
        """ShuttingDownError where it is closed."""
        if self._closed:
            raise ShuttingDownError("the box's API is about to stop")

    async def wait(self, seen: int, timeout_s: float) -> bool:
        """Wait until the number is other than `seen`; False where that took too long. ShuttingDownError."""
        woken = await self._wait(seen, timeout_s)
        self.check()
        return woken

    async def _wait(self, seen: int, timeout_s: float) -> bool:
        if self.number != seen:
            return True
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        try:
            # Shielded, as others wait for the same future.
            await asyncio.wait_for(asyncio.shield(self._next), timeout_s)
        except TimeoutError:
            return False
        return True


class Copy(Protocol):
    """What is kept beside the catalogue: nothing that was erased here may stay there."""

    @property
    def urgent(self) -> bool:
        """Whether it may hold what was erased."""
        ...

    async def keep(self) -> bool:
        """Write it anew where it is behind; False where that cannot be done now."""
        ...


class Store:
    """Reads and writes of the catalogue, off the event loop."""

    def __init__(self, database: Database, status: Status) -> None:
        self.database = database
        self._status = status
        self.events = Signal()  # something was written that may have added events
        self.copy: Copy | None = None
        self.damaged: Damaged | None = None  # what was put aside, and no erasure reaches
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalogue")

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        def run() -> Result:
            with self.database.read() as connection:
                return work(connection)

        return await self._in_thread(run)

    def _in_thread(self, run: Callable[[], Result]) -> asyncio.Future[Result]:
        context = contextvars.copy_context()  # who is calling goes with the work
        return asyncio.get_running_loop().run_in_executor(self._threads, context.run, run)

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """All of it or nothing. Once begun it is finished, even where who asked goes away."""

        def run() -> Result:
            with self.database.write() as connection:
                return work(connection)

        try:
            result = await asyncio.shield(self._in_thread(run))
        except CatalogueUnavailableError:
            self._status.raise_condition(
                UNWRITABLE,
                ALARM,
                "The catalogue cannot be written; recording goes on. Make space, look at the disk.",
            )
            raise
        self._status.clear_condition(UNWRITABLE)
        self.events.notify()
        return result

    async def let_go(self) -> None:
        """Something is erased: damaged catalogues that were put aside may hold it still."""
        if self.damaged is not None and self.damaged.there:
            await asyncio.to_thread(self.damaged.remove, "erasure")

    async def look(self) -> None:
        """Now and then: see `Damaged.look`."""
        if self.damaged is not None:
            await asyncio.to_thread(self.damaged.look)

    @property
    def scrub_wanted(self) -> bool:
        """Whether what was erased may still be in a file, of the database or of the copy beside it."""
        return self.database.scrub_wanted or (self.copy is not None and self.copy.urgent)

    async def scrub(self) -> bool:
        """Let nothing that was erased stay in a file; False where it cannot be done now (try again later)."""
        copied = self.copy is None or not self.copy.urgent or await self.copy.keep()
        return await self._scrub() and copied

    async def scrub_soon(self) -> bool:
        """`scrub` where it takes no time; False where it is left to who keeps house, and to who keeps the copy."""
        if not self.database.sqlite:
            return False
        done = await self._scrub()
        return done and not self.scrub_wanted

    async def _scrub(self) -> bool:
        """See Database.scrub."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.database.scrub)

    async def analyze(self) -> None:
        """See Database.analyze."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self.database.analyze)

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self.database.close()
