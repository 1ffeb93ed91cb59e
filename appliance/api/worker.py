"""Does long work, one operation and one step at a time, so that it is never in anybody's way; goes on after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
import structlog

from appliance.api.store import Signal, Store
from appliance.api.vault import VaultReader
from appliance.audit.errors import AuditUnavailableError
from appliance.audit.trail import Trail
from appliance.catalog import filters, operations, recordings
from appliance.catalog.errors import CatalogueUnavailableError
from appliance.catalog.operations import Operation, State
from appliance.catalog.recording_filter import FIELDS
from appliance.model import EarwitnessError, Kind
from appliance.storage.sealed import verify

log = structlog.get_logger()

VERIFY: Final = "verify-recordings"
PAGE: Final = 200
MOST_PROBLEMS: Final = 100
KEEP_EVERY_S: Final = 1.0  # how much work a stop may lose
LOOK_EVERY_S: Final = 30.0
BACKOFF_S: Final = 5.0


class Worker:
    """See the module. `changed` tells who watches."""

    def __init__(
        self, store: Store, reader: VaultReader, trail: Trail, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store = store
        self._reader = reader
        self._trail = trail
        self._clock_ns = clock_ns
        self._wanted = asyncio.Event()
        self.changed = Signal()

    def wake(self) -> None:
        """There may be something to do."""
        self._wanted.set()
        self.changed.notify()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wanted.clear()
            try:
                while (operation := await self._store.read(operations.next_running)) is not None:
                    await self._do(operation)
            except (CatalogueUnavailableError, AuditUnavailableError) as error:
                log.info("long work waits", reason=error.reason)  # its condition is raised
                await asyncio.sleep(BACKOFF_S)
                continue
            try:
                await asyncio.wait_for(self._wanted.wait(), LOOK_EVERY_S)
            except TimeoutError:
                pass  # whatever was begun without a word is found by looking

    async def _do(self, operation: Operation) -> None:
        """Until it has ended, or something is away: what is kept of it by then is gone on with."""
        log.info("long work", operation=operation.id, kind=operation.kind, done=operation.done)
        state, failure = State.SUCCEEDED, ""
        try:
            if operation.cancelling or not await self._verify(operation):
                state = State.CANCELLED
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                log.info("long work waits", operation=operation.id, reason=error.reason)
                await asyncio.sleep(BACKOFF_S)
                return
            state, failure = State.FAILED, error.reason
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

    async def _verify(self, operation: Operation) -> bool:
        """Whether it came to its end; False where it was asked to end before."""
        where = filters.parse(str(operation.request.get("filter", "")), FIELDS)
        bound = operation.request.get("bound")
        cursor, done = operation.cursor, operation.done
        result: dict[str, Any] = {"problems": [], **operation.result}
        kept_s = time.monotonic()

        async def keep() -> bool:
            now_ns = self._clock_ns()

            def work(connection: sa.Connection) -> bool:
                return operations.came_on(connection, operation.id, cursor, done, result, now_ns)

            cancelled = await self._store.write(work)
            self.changed.notify()
            return cancelled

        while True:

            def page(connection: sa.Connection, after: str = cursor) -> list[str]:
                return recordings.matching(
                    connection,
                    tenant_id=operation.tenant_id,
                    where=where,
                    limit=PAGE,
                    after=after,
                    bound=bound,
                )

            found = await self._store.read(page)
            if not found:
                return not await keep()
            for recording_id in found:
                word, problem = await asyncio.to_thread(self._look, recording_id)
                result[word] = result.get(word, 0) + 1
                if problem and len(result["problems"]) < MOST_PROBLEMS:
                    result["problems"].append([recording_id, problem])
                cursor, done = recording_id, done + 1
                if time.monotonic() - kept_s >= KEEP_EVERY_S:
                    kept_s = time.monotonic()
                    if await keep():
                        return False

    def _look(self, recording_id: str) -> tuple[str, str]:
        """The verdict on one recording, and what is wrong with it. In a thread. What is UNAVAILABLE is raised."""
        try:
            data_key = self._reader.lease(recording_id, "control", "verification")
            with self._reader.open(recording_id) as stream:
                report = verify(stream, self._reader.device_key(), data_key)
        except EarwitnessError as error:
            if error.kind is Kind.UNAVAILABLE:
                raise
            return ("damaged" if error.kind is Kind.CORRUPT else "unchecked"), error.reason
        if not (report.intact and report.trusted and report.recording_id == recording_id):
            first = next(
                (str(one.problem).upper().replace("-", "_") for one in report.findings), "OTHER_RECORDING"
            )
            return "damaged", first
        return ("intact" if report.whole else "recovered"), ""
