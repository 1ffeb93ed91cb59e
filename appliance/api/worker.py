"""Does long work: one operation of a kind at a time, kinds beside each other; goes on after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import sqlalchemy as sa
import structlog

from appliance.api.store import Signal, Store
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog import operations
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.operations import Operation, State
from appliance.model import EarwitnessError, Kind

log = structlog.get_logger()

LOOK_EVERY_S: Final = 30.0
BACKOFF_S: Final = 5.0
FAULT: Final = "INTERNAL"


class Keep(Protocol):
    """Writes down how far an operation is: what goes on after a restart, and what is shown."""

    async def __call__(self, cursor: str, done: int, result: dict[str, Any]) -> bool:
        """Whether it was asked to end. CatalogueUnavailableError."""


class Job(Protocol):
    """How operations of one kind are done."""

    @property
    def kind(self) -> str: ...

    async def run(self, operation: Operation, keep: Keep) -> bool:
        """Do it from `operation.cursor` on; False where `keep` said to end before.

        What is UNAVAILABLE is raised and tried again, from what was kept; any other error ends the operation.
        """


class Worker:
    """See the module. `changed` tells who watches."""

    def __init__(
        self,
        store: Store,
        trail: Trail,
        jobs: Iterable[Job],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._trail = trail
        self._jobs = {job.kind: job for job in jobs}
        self._clock_ns = clock_ns
        self._wanted = {kind: asyncio.Event() for kind in self._jobs}
        self._waits: dict[str, float] = {}  # operation: when it is tried again, monotonic
        self.changed = Signal()

    def wake(self) -> None:
        """There may be something to do."""
        for wanted in self._wanted.values():
            wanted.set()
        self.changed.notify()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            for job in self._jobs.values():
                lanes.create_task(self._lane(job), name=f"operations {job.kind}")

    async def _lane(self, job: Job) -> None:
        wanted = self._wanted[job.kind]
        while True:
            wanted.clear()
            try:
                while (operation := await self._next(job.kind)) is not None:
                    await self._do(job, operation)
            except (CatalogueUnavailableError, AuditUnavailableError) as error:
                log.info("long work waits", reason=error.reason)  # its condition is raised
                await asyncio.sleep(BACKOFF_S)
                continue
            try:
                await asyncio.wait_for(wanted.wait(), BACKOFF_S if self._waits else LOOK_EVERY_S)
            except TimeoutError:
                pass  # whatever was begun without a word is found by looking

    async def _next(self, kind: str) -> Operation | None:
        now_s = time.monotonic()
        self._waits = {one: until_s for one, until_s in self._waits.items() if until_s > now_s}
        waiting = tuple(self._waits)
        return await self._store.read(lambda connection: operations.next_running(connection, kind, waiting))

    async def _do(self, job: Job, operation: Operation) -> None:
        """Until it has ended, or something is away: others have their turn, and it goes on from what is kept."""
        log.info("long work", operation=operation.id, kind=operation.kind, done=operation.done)

        async def keep(cursor: str, done: int, result: dict[str, Any]) -> bool:
            now_ns = self._clock_ns()

            def work(connection: sa.Connection) -> bool:
                return operations.came_on(connection, operation.id, cursor, done, result, now_ns)

            cancelled = await self._store.write(work)
            self.changed.notify()
            return cancelled

        state, failure = State.SUCCEEDED, ""
        try:
            if operation.cancelling or not await job.run(operation, keep):
                state = State.CANCELLED
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                log.info("long work waits", operation=operation.id, reason=error.reason)
                self._waits[operation.id] = time.monotonic() + BACKOFF_S
                return
            state, failure = State.FAILED, error.reason
        except Exception:  # begun anew it would fail again, and all that waits behind it with it
            log.exception("long work failed", operation=operation.id, kind=operation.kind)
            state, failure = State.FAILED, FAULT
        await self._trail.append(
            {
                "time_ns": time.time_ns(),
                "what": "operation",
                "tenant": operation.tenant_id,
                "subject": f"tenants/{operation.tenant_id}/operations/{operation.id}",
                "who": operation.creator,
                "outcome": failure or state.value,
            },
            durable=True,
        )
        now_ns = self._clock_ns()
        await self._store.write(
            lambda connection: operations.end(connection, operation.id, state, now_ns, failure)
        )
        self.changed.notify()
